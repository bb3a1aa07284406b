"""`consilium site doctor`: a healthy site has no problem; each planted fault is found, named, and told how to mend."""

import contextlib
import json
import os
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from consilium.site import doctor
from consilium.training import sandbox
from consilium.wire.identity import Identity
from consilium.wire.messages import HEADER, PROTOCOL
from consilium.wire.tls import make_authority
from e2e.federation import POLICY, Federation, Hospital, federation, study, table
from e2e.processes import Process, free_port

Json = dict[str, Any]
Found = dict[tuple[str, str], Json]
BASE = {("agent", "warning")} | ({("versions", "warning")} if os.geteuid() == 0 else set())
"""What is found in every folder here: no agent runs in it, and the tests may run as root."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One hospital that approved a study, and whose agent runs."""
    with federation(tmp_path_factory.mktemp("doctor"), hospitals=("north",)) as made:
        made.approved(study("sums"))
        yield made


@pytest.fixture(scope="module")
def sound(made: Federation) -> Hospital:
    """The same once its agent has ended: to be copied."""
    north = made.hospitals["north"]
    told = {(one["check"], one["level"]): one for one in north.told("doctor")}
    assert set(told) - {(name, "ok") for name in CHECKS} == BASE - {("agent", "warning")}, "a healthy site"
    assert {name for name, _ in told} == set(CHECKS)
    assert north.process.stop() == 0
    return north


@pytest.fixture(scope="module")
def confines(sound: Hospital) -> str | None:
    """What the probe of the sandbox says here: it is asked once, and not by each of the tests below."""
    return sandbox.available()


@pytest.fixture
def site(sound: Hospital, confines: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    """A site of this test's own, with its own table."""
    monkeypatch.setattr(sandbox, "available", lambda: confines)
    shutil.copytree(sound.home.parent, tmp_path / "north")
    site = Hospital("north", tmp_path / "north" / "site", tmp_path / "north" / "mapping.yaml", Process([], tmp_path))
    site.journal("UPDATE mappings SET path = ?", str(site.mapping))
    return site


CHECKS = (
    "versions", "permissions", "key", "disk", "policy", "confinement", "journal", "budget", "proxy", "certificate",
    "coordinator", "data", "refused", "agent",
)  # fmt: skip


def found(site: Hospital) -> Found:
    """What the doctor finds beyond the base; its exit code says whether there is a problem."""
    code, told = site.says("doctor", "--json")
    findings = json.loads(told)
    assert {one["check"] for one in findings} == set(CHECKS), "a fault stops no other check"
    assert code == int(any(one["level"] == "problem" for one in findings))
    bad = {(one["check"], one["level"]): one for one in findings if one["level"] != "ok"}
    assert all(one["words"] and one["remedy"] for one in bad.values()), bad
    return {name: one for name, one in bad.items() if name not in BASE}


def test_a_healthy_site_has_no_problem_and_says_that_no_agent_runs(site: Hospital) -> None:
    assert found(site) == {}
    said = site.command("doctor")
    assert "no agent runs in this folder" in said and "Next: start it with `consilium site run`" in said
    assert "the clocks differ by 0." in said and "sums: 80 rows read" in said


def test_words_and_json_say_the_same(site: Hospital) -> None:
    (site.home / "site.json").unlink()
    told = found(site)
    code, said = site.says("doctor")
    assert code == 1 and len(told) == 4
    for one in told.values():
        assert f"problem  {one['check']:<12} {one['words']}\n{'':<22}Next: {one['remedy']}\n" in said


Plant = Callable[[Hospital], object]


@dataclass(frozen=True)
class Fault:
    """What is planted; which checks must find it, the first of them by these words and with this remedy."""

    plant: Plant
    checks: tuple[str, ...]
    words: str
    remedy: str
    level: str = "problem"


def membership(**values: Any) -> Plant:
    def plant(site: Hospital) -> None:
        path = site.home / "site.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return plant


def flipped(name: str, size: int = 16384) -> Plant:
    """Overwrite the second page of a file."""

    def plant(site: Hospital) -> None:
        with (site.home / name).open("r+b") as file:
            file.seek(size)
            file.write(b"\xff" * size)

    return plant


def another_authority(site: Hospital) -> None:
    make_authority(site.home.parent / "tls", ["127.0.0.1"], datetime.now(UTC))
    shutil.copy(site.home.parent / "tls" / "ca.pem", site.home / "coordinator-ca.pem")


def unmapped(site: Hospital) -> None:
    rows = (site.mapping.parent / "table.csv").read_text().splitlines()
    changed = [rows[0], *(row[:-1] + "9" if number < 20 else row for number, row in enumerate(rows[1:]))]
    (site.mapping.parent / "table.csv").write_text("\n".join(changed) + "\n")


YEARS_AGO = (datetime.now(UTC) - timedelta(days=800)).timestamp()
FAULTS = {
    "key-readable": Fault(
        lambda site: (site.home / "identity.key").chmod(0o640),
        ("permissions", "key", "coordinator", "data"), "others may read the key", "chmod 600 ",
    ),
    "folder-readable": Fault(
        lambda site: site.home.chmod(0o755), ("permissions",), "others may read", "chmod 700 "
    ),
    "work-readable": Fault(
        lambda site: (site.home / "work").chmod(0o750), ("permissions",), "others may read", "chmod 700 "
    ),
    "key-old": Fault(
        lambda site: os.utime(site.home / "identity.key", (YEARS_AGO, YEARS_AGO)),
        ("key",), "older than two years", "under another name", "warning",
    ),
    "policy-expired": Fault(
        lambda site: site.policy(POLICY + "expires: 2020-01-01\n"), ("policy",), "ended on 2020-01-01", "renew it in"
    ),
    "policy-malformed": Fault(
        lambda site: site.policy("policy: 1\nnonsense: 1\n"), ("policy", "data"), "nonsense", "policy.yaml"
    ),
    "policy-gone": Fault(
        lambda site: (site.home / "policy.yaml").unlink(), ("policy", "data"), "policy.yaml", ""
    ),
    "journal-damaged": Fault(
        flipped("journal.sqlite"), ("journal", "budget", "data"), "damaged", "restore it from your backup"
    ),
    "journal-overwritten": Fault(
        lambda site: (site.home / "journal.sqlite").write_bytes(b"x" * 9000),
        ("journal", "budget", "data"), "damaged", "restore it from your backup",
    ),
    "log-cut": Fault(
        lambda site: site.journal("DELETE FROM audit WHERE seq = 3"),
        ("journal",), "entry 3 is missing", "consilium audit verify",
    ),
    "log-altered": Fault(
        lambda site: site.journal("UPDATE audit SET entry = CAST(replace(entry, 'Vera', 'Vero') AS BLOB)"),
        ("journal",), "was altered", "consilium audit verify",
    ),
    "unreachable": Fault(
        lambda site: membership(url=f"https://127.0.0.1:{free_port()}")(site),
        ("certificate", "coordinator"), "does not answer", "ask the coordinator's admin whether it runs",
    ),
    "another-key": Fault(
        lambda site: membership(coordinator_key=Identity.create(site.home.parent / "other.key").public)(site),
        ("coordinator",), "another key than when this site joined", "ask its admin",
    ),
    "another-authority": Fault(
        another_authority, ("certificate", "coordinator"), "TLS fails", "the CA and SSL_CERT_FILE"
    ),
    "proxy": Fault(
        lambda site: site.variables.update(HTTPS_PROXY=f"http://127.0.0.1:{free_port()}", NO_PROXY=""),
        ("proxy", "coordinator"), "does not answer", "correct HTTPS_PROXY or NO_PROXY",
    ),
    "not-joined": Fault(
        lambda site: (site.home / "site.json").unlink(),
        ("coordinator", "proxy", "certificate", "data"), "not joined", "consilium site join",
    ),
    "no-table": Fault(
        lambda site: (site.mapping.parent / "table.csv").unlink(), ("data",), "sums: ", ""
    ),
    "no-mapping": Fault(
        lambda site: site.mapping.unlink(), ("data",), "there is no mapping", "write one for the contract sums"
    ),
    "few-patients": Fault(
        lambda site: table(site.mapping.parent, seed=1, patients=9),
        ("data",), "sums: fewer than 10 training patients", "consilium site check sums",
    ),
    "few-for-the-policy": Fault(
        lambda site: site.policy("policy: 1\nmin_patients: 1000\n"),
        ("data",), "sums: fewer than 1000 training patients", "consilium site check sums",
    ),
    "codes-unmapped": Fault(unmapped, ("data",), "do not fit", "consilium site check sums", "warning"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_found_and_named_with_a_remedy(site: Hospital, name: str) -> None:
    fault = FAULTS[name]
    fault.plant(site)
    told = found(site)
    assert set(told) == {(check, fault.level) for check in fault.checks}
    first = told[fault.checks[0], fault.level]
    assert fault.words in first["words"] and fault.remedy in first["remedy"]


@pytest.mark.parametrize(("allows", "level"), [
    ("models: [logistic, onnx]", "warning"), ("code: {allowed: true}", "problem"), ("models: [logistic]", "ok"),
])  # fmt: skip
def test_what_the_policy_allows_and_this_host_cannot_confine_is_found(
    site: Hospital, monkeypatch: pytest.MonkeyPatch, allows: str, level: str
) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: "the kernel has no Landlock")
    site.policy(f"policy: 1\nmin_patients: 10\n{allows}\n")
    told = found(site)
    assert set(told) == ({("confinement", level)} if level != "ok" else set())
    if level == "warning":
        one = told["confinement", level]
        assert "onnx" in one["words"] and "no Landlock" in one["words"] and "out of `models`" in one["remedy"]


def test_of_what_left_no_part_is_told_as_the_whole(site: Hospital) -> None:
    flipped("journal.sqlite")(site)
    code, said = site.says("sent")
    assert code == 5 and "damaged" in said and "things" not in said


def test_a_full_disk_is_found(site: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISK_BYTES", 1 << 62)
    told = found(site)
    assert set(told) == {("disk", "problem")} and "make room" in told["disk", "problem"]["remedy"]


def test_approved_studies_that_need_more_disk_than_there_is_are_found(
    site: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are fetched: what the coordinator said of the model's size, against the policy and the disk."""
    site.journal("UPDATE studies SET model = ?", 3 << 30)
    with monkeypatch.context() as patch:
        patch.setattr(doctor.room, "free", lambda folder: 22 << 30)
        assert found(site) == {}
        patch.setattr(doctor.room, "free", lambda folder: (22 << 30) - 1)
        told = found(site)
        assert "need up to 21.0 GB" in told["disk", "problem"]["words"]
    site.policy("policy: 1\nmin_patients: 10\nlimits: {disk_gb: 20}\n")
    monkeypatch.setattr(doctor.room, "free", lambda folder: 99 << 30)
    told = found(site)
    assert set(told) == {("disk", "problem")} and "limits.disk_gb" in told["disk", "problem"]["remedy"]


@pytest.mark.parametrize("patients", [20, 24])
def test_patients_whose_number_is_hidden_are_counted_nonetheless(site: Hospital, patients: int) -> None:
    """Fewer than ten are held out, so that the number of the others is hidden, too; but they are enough."""
    table(site.mapping.parent, seed=1, patients=patients)
    assert site.told("check", "sums")["training"] == "hidden"
    assert found(site) == {}


# a coordinator that answers what it likes


@dataclass(frozen=True)
class Says:
    """What the coordinator answers; and how long ago its certificate of 825 days was made."""

    skew_s: float = 0.0
    protocols: tuple[int, ...] = (PROTOCOL,)
    state: str = "admitted"
    hello: Json | None = None
    marked: bool = True
    made_days_ago: int = 0


@contextlib.contextmanager
def answering(site: Hospital, says: Says) -> Iterator[None]:
    """A small TLS server that the site takes for its coordinator."""
    tls = site.home.parent / "tls"
    make_authority(tls, ["127.0.0.1"], datetime.now(UTC) - timedelta(days=says.made_days_ago))
    shutil.copy(tls / "ca.pem", site.home / "coordinator-ca.pem")
    identity = Identity.create(site.home.parent / "coordinator.key")

    def body(path: str) -> Json:
        now = datetime.now(UTC) + timedelta(seconds=says.skew_s)
        hello = {"name": "x", "version": "1", "protocols": says.protocols, "public_key": identity.public}
        return {
            "/v1/hello": {**hello, "now": now.isoformat()} if says.hello is None else says.hello,
            "/v1/token": {"access_token": "x", "expires_in": 60},
            "/v1/site": {"site": "north", "state": says.state, "coordinator_key": identity.public},
        }[path]

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = json.dumps(body(self.path)).encode()
            self.send_response(200)
            if says.marked:
                self.send_header(HEADER, str(PROTOCOL))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "server.pem", tls / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        membership(url=f"https://127.0.0.1:{server.server_port}", coordinator_key=identity.public)(site)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


HONEST = Says()
PROBLEM = ("coordinator", "problem")
SAYS: dict[str, tuple[Says, tuple[str, str] | None, str, str]] = {
    "honest": (HONEST, None, "", ""),
    "a-little-ahead": (replace(HONEST, skew_s=25), None, "", ""),
    "ahead": (
        replace(HONEST, skew_s=35),
        PROBLEM,
        "this clock is 35 s behind the coordinator's",
        "set the clock by NTP",
    ),
    "behind": (
        replace(HONEST, skew_s=-86400),
        PROBLEM,
        "this clock is 86400 s ahead of the coordinator's",
        "set the clock by NTP",
    ),
    "newer": (replace(HONEST, protocols=(98, 99)), PROBLEM, "99", ""),
    "pending": (replace(HONEST, state="pending"), ("coordinator", "warning"), "is pending", "read the fingerprint"),
    "not-one": (replace(HONEST, hello={"hello": "world"}), PROBLEM, "not a coordinator", "proxy"),
    "portal": (replace(HONEST, marked=False), PROBLEM, "answered for it", "check the proxy"),
    "ends-soon": (replace(HONEST, made_days_ago=805), ("certificate", "warning"), "ends on", "admin"),
    "ends-later": (replace(HONEST, made_days_ago=790), None, "", ""),
    "ended": (replace(HONEST, made_days_ago=830), PROBLEM, "expired", ""),
}


@pytest.mark.parametrize("name", SAYS)
def test_what_answers_is_looked_at(site: Hospital, name: str) -> None:
    says, expected, words, remedy = SAYS[name]
    with answering(site, says):
        told = found(site)
    also = {("certificate", "problem")} if name == "ended" else set()
    assert set(told) == ({expected} | also if expected else set())
    if expected:
        assert words in told[expected]["words"] and remedy in told[expected]["remedy"]
