"""Behind a real intercepting proxy: everything works, and what it alters is found out and trained nowhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import interceptor
from e2e.coordinator import PASSWORD
from e2e.federation import Federation, Hospital, federation, study
from e2e.interceptor import Interceptor
from e2e.processes import Process, consilium, until

AUTH = "nurse:a-secret"


class Clinic:
    """A federation whose one hospital lies behind an interceptor."""

    def __init__(self, made: Federation, proxy: Interceptor) -> None:
        self.made, self.proxy, self.runs = made, proxy, 0
        self.north: Hospital = made.add("north", **proxy.variables())

    def begun(self, how: str = "") -> str:
        """Begin a run of a fresh, approved study while the proxy alters things in this way."""
        self.runs += 1
        training = {"epochs": 1, "learning_rate": 0.1 * self.runs, "seed": 1}  # other bytes than ever before
        plan = self.made.approved(study(f"study-{self.runs}", rounds=1, quorum=1, training=training))
        self.proxy.become(how)
        return self.made.start(plan)

    def altered(self, how: str, times: int = 1) -> None:
        """Wait until the proxy has altered something so many times since its mode was set."""
        self.north.process.until(lambda: self.proxy.noted("altered").count(how) >= times, f"{how} was altered")

    def recorded(self) -> list[dict[str, Any]]:
        """Bodies of what the hospital's audit log holds about altered messages."""
        entries = [json.loads(bytes(row[0])) for row in self.north.journal("SELECT entry FROM audit ORDER BY seq")]
        return [entry["body"] for entry in entries if entry["kind"] == "altered"]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    why = interceptor.missing()
    if why is not None:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("proxy")
    with federation(folder / "federation") as made:
        proxy = Interceptor(folder / "proxy", made.coordinator)
        try:
            found = Clinic(made, proxy)
            yield found
            assert found.north.process.stop() == 0, found.north.process.said[-3000:]
            assert "Traceback" not in found.north.process.said
        finally:
            proxy.process.kill()


@pytest.fixture(autouse=True)
def honest(request: pytest.FixtureRequest) -> Iterator[None]:
    """However a test ends, the proxy is honest in the next one."""
    yield
    if "clinic" in request.fixturenames:
        request.getfixturevalue("clinic").proxy.become("")


def test_joining_approving_and_a_whole_run_go_through_the_proxy(clinic: Clinic) -> None:
    clinic.made.until(clinic.begun(), "finished")
    seen = {line.split("?")[0] for line in clinic.proxy.noted("seen")}
    wanted = {"GET /v1/ca", "POST /v1/join", "POST /v1/token", "GET /v1/inbox", "POST /v1/envelopes"}
    assert wanted | {"POST /v1/answers"} <= seen, "the contribution went through it, too"


def test_people_go_through_the_proxy_unless_no_proxy_says_otherwise(clinic: Clinic, tmp_path: Path) -> None:
    words = ("login", clinic.made.coordinator.url, "--name", "admin", "--ca", clinic.made.coordinator.ca)
    person = {"CONSILIUM_HOME": str(tmp_path), "CONSILIUM_PASSWORD": PASSWORD}
    consilium(*words, **person, **clinic.proxy.variables())
    assert clinic.proxy.noted("seen").count("POST /v1/login") == 1
    direct = {"HTTPS_PROXY": clinic.proxy.variables()["HTTPS_PROXY"], "NO_PROXY": "localhost,127.0.0.1"}
    consilium(*words, **person, **direct)
    assert clinic.proxy.noted("seen").count("POST /v1/login") == 1


def new_site(clinic: Clinic, folder: Path, name: str, **variables: str) -> tuple[Hospital, str]:
    """A site's folder that has not joined, and a join token for it."""
    site = Hospital(name, folder / name, folder / "none", Process(["true"], folder / "log"), variables)
    site.command("init")
    token = clinic.made.coordinator.admin.connection.post("/v1/tokens", {"site": name})["token"]
    return site, token


def test_without_the_proxys_ca_nothing_is_trusted_and_the_remedy_is_named(clinic: Clinic, tmp_path: Path) -> None:
    proxy = {"HTTPS_PROXY": clinic.proxy.variables()["HTTPS_PROXY"]}
    site, token = new_site(clinic, tmp_path, "no-ca", **proxy)
    code, said = site.says("join", token)
    assert code != 0
    assert "certificate" in said.lower() and "SSL_CERT_FILE" in said
    assert not (site.home / "site.json").exists()


def test_a_ca_that_is_not_the_tokens_is_refused_and_ca_on_file_helps(clinic: Clinic, tmp_path: Path) -> None:
    site, token = new_site(clinic, tmp_path, "ca-swapped", **clinic.proxy.variables())
    clinic.proxy.become("authority")
    code, said = site.says("join", token)
    assert code != 0 and "--ca" in said and "SSL_CERT_FILE" in said
    assert not (site.home / "site.json").exists()
    assert site.told("join", token, "--ca", clinic.made.coordinator.ca)["state"] == "pending"


def test_a_proxy_that_wants_a_password_gets_it_or_is_named(clinic: Clinic, tmp_path: Path) -> None:
    proxy = Interceptor(tmp_path / "proxy", clinic.made.coordinator, AUTH)
    try:
        site, token = new_site(clinic, tmp_path, "with-password", **proxy.variables(AUTH))
        assert site.told("join", token)["state"] == "pending"
        for wrong in ("", "nurse:guessed"):
            other = Hospital("x", site.home, site.mapping, site.process, proxy.variables(wrong))
            code, said = other.says("join", token)
            assert code != 0 and "NAME:PASSWORD" in said, said
            code, said = other.says("doctor")
            assert code == 1 and "NAME:PASSWORD" in said, said
    finally:
        proxy.process.kill()


@pytest.mark.parametrize("how", ["envelope", "replay", "drop", "number"])
def test_an_inbox_that_was_altered_is_not_believed_and_nothing_is_lost(clinic: Clinic, how: str) -> None:
    trained = clinic.north.journal("SELECT count(*) FROM tasks")
    known = len(clinic.recorded())
    run = clinic.begun(how)
    clinic.altered(how, times=2)
    assert clinic.north.journal("SELECT count(*) FROM tasks") == trained, "no task was taken"
    if how in ("envelope", "replay"):
        why = {"envelope": "not-signed", "replay": "out-of-place"}[how]
        assert [body["why"] for body in clinic.recorded()[known:]] == [why], "it stands in the audit log, once"
    clinic.proxy.become("")
    clinic.made.until(run, "finished")


def test_a_download_that_is_altered_again_and_again_is_trained_nowhere(clinic: Clinic) -> None:
    run = clinic.begun("download")
    clinic.altered("download", times=3)
    until(lambda: bool(clinic.north.journal("SELECT 1 FROM tasks WHERE note = 'digest-mismatch'")), "it is refused")
    assert not [row for row in clinic.made.view(run)["participation"] if row["took_part"]]
    assert not clinic.north.journal("SELECT 1 FROM answers WHERE run = ?", run)


def test_an_upload_that_is_altered_is_refused_and_sent_again(clinic: Clinic) -> None:
    run = clinic.begun("upload")
    clinic.altered("upload")
    clinic.proxy.become("")
    clinic.made.until(run, "finished")


def test_a_portal_that_answers_for_the_coordinator_is_never_taken_for_it(clinic: Clinic) -> None:
    run = clinic.begun("portal")
    clinic.altered("portal", times=5)
    assert clinic.north.process.alive, clinic.north.process.said[-2000:]
    clinic.proxy.become("")
    clinic.made.until(run, "finished")


def test_the_doctor_says_what_is_right_and_what_is_wrong(clinic: Clinic) -> None:
    found = {one["check"]: one for one in clinic.north.told("doctor")}
    assert found["proxy"]["level"] == "ok" and str(clinic.proxy.port) in found["proxy"]["words"]
    assert found["certificate"]["level"] == "ok" and "proxy" in found["certificate"]["words"]
    assert found["coordinator"]["level"] == "ok"
    bare = Hospital("x", clinic.north.home, clinic.north.mapping, clinic.north.process)
    bare.variables["HTTPS_PROXY"] = clinic.proxy.variables()["HTTPS_PROXY"]
    code, said = bare.says("doctor")
    assert code == 1 and "SSL_CERT_FILE" in said
    bare.variables["HTTPS_PROXY"] = "http://127.0.0.1:9"
    code, said = bare.says("doctor")
    assert code == 1 and "127.0.0.1:9 does not answer" in said
