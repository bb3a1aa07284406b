"""`consilium site` as people type it: what is done is done once, what is wrong is said cleanly and changes nothing."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from consilium.core.study import Plan
from consilium.wire.identity import Identity
from e2e.federation import POLICY, Federation, Hospital, federation, study, table
from e2e.processes import Process, free_port, until

PREFIX = "consilium-join:"
DECIDED = ("--person", "Vera")
Json = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """North's agent runs; idle's ran until it was offered the study `known`, which north approved and idle did not."""
    with federation(tmp_path_factory.mktemp("commands"), hospitals=("north", "idle")) as made:
        plan = made.submit(study("known"))
        made.hospitals["north"].approve(plan)
        idle = made.hospitals["idle"]
        until(lambda: idle.offered(plan), "idle is offered the study")
        assert idle.process.stop() == 0
        yield made
        north = made.hospitals["north"]
        assert north.process.alive and "Traceback" not in north.process.said, north.process.said[-2000:]


@pytest.fixture
def north(made: Federation) -> Hospital:
    return made.hospitals["north"]


@pytest.fixture
def idle(made: Federation) -> Hospital:
    return made.hospitals["idle"]


def refused(hospital: Hospital, *words: str | Path, code: int) -> Json:
    """The error with which a command ends: in words, and as JSON, with this exit code. It changes nothing."""
    before = contents(hospital.home)
    found, said = hospital.says(*words)
    assert found == code, said
    found, told = hospital.says(*words, "--json")
    error: Json = json.loads(told)["error"]
    assert found == code and error["message"]
    if error["code"] == "policy-invalid":  # a file may have several faults, each with its own remedy
        assert said == f"Error ({error['code']}): {error['message']}\n" and "; " in said
    else:
        assert said == f"Error ({error['code']}): {error['message']}\n  Next: {error['remedy']}\n" and error["remedy"]
    assert contents(hospital.home) == before
    return error


def contents(home: Path) -> Json:
    """What a site's folder holds, but for what its agent writes meanwhile."""
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and "journal" not in path.name}
    rows = ("decision", "approve", "decline", "revoke", "join", "init")
    made = Hospital("", home, home, Process([], home))
    entries = made.journal("SELECT entry FROM audit") if (home / "journal.sqlite").exists() else []
    return files | {"audit": [entry for (entry,) in entries if json.loads(entry)["kind"] in rows]}


def newcomer(made: Federation, name: str) -> tuple[Hospital, str]:
    """A hospital with a folder and a token, that has not joined."""
    hospital = Hospital(name, made.folder / name / "site", table(made.folder / name, seed=1), Process([], made.folder))
    hospital.command("init")
    return hospital, str(made.coordinator.admin.connection.post("/v1/tokens", {"site": name})["token"])


# joining


def test_joining_again_with_the_same_token_is_a_no_op(made: Federation) -> None:
    hospital, token = newcomer(made, "twice")
    first = hospital.told("join", token)
    assert (first["site"], first["url"], first["state"]) == ("twice", made.coordinator.url, "pending")
    before = contents(hospital.home)
    assert hospital.told("join", token) == first
    made.coordinator.admin.connection.post("/v1/sites/twice/admit", {"fingerprint": first["fingerprint"]})
    said = hospital.command("join", f"  {token}\n")
    assert "as twice (admitted)" in said and "fingerprint" not in said
    assert f"Next: `consilium site run --home {hospital.home}`" in said
    assert contents(hospital.home) == before


def test_a_token_that_was_cut_anywhere_is_told_apart_from_a_wrong_one(made: Federation) -> None:
    hospital, token = newcomer(made, "cut")
    for end in (*range(0, len(token), 23), *range(len(token) - 9, len(token))):
        code, said = hospital.says("join", token[:end])
        assert code == 5 and "not a join token" in said and PREFIX in said, end
    for start in (1, len(PREFIX), len(PREFIX) + 4):
        assert hospital.says("join", token[start:])[0] == 5
    for more in ("!", "=", "A", ".x", "\\"):
        assert hospital.says("join", token + more)[0] == 5, more
    assert refused(hospital, "join", "é" * 40, code=5)["code"] == "invalid"
    assert not (hospital.home / "site.json").exists()
    assert hospital.told("join", token)["state"] == "pending"


def changed(token: str, **values: Any) -> str:
    told = json.loads(base64.urlsafe_b64decode(token.removeprefix(PREFIX))) | values
    return PREFIX + base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


@dataclass(frozen=True)
class Lie:
    """What is wrong with a token; the exit code; the error's code or, where it is refused, its reason."""

    values: Callable[[Federation], Json]
    code: int
    reason: str


LIES = {
    "secret": Lie(lambda made: {"secret": "x" * 43}, 3, "token"),
    "of-another-site": Lie(lambda made: {"site": "elsewhere"}, 3, "token"),
    "authority": Lie(lambda made: {"ca": hashlib.sha256(b"another").hexdigest()}, 3, "ca"),
    "coordinator": Lie(lambda made: {"key": Identity.create(made.folder / "liar.key").public}, 3, "coordinator-key"),
    "unreachable": Lie(lambda made: {"url": f"https://127.0.0.1:{free_port()}"}, 4, "unavailable"),
    "no-tls": Lie(lambda made: {"url": made.coordinator.url.replace("https", "http")}, 5, "invalid"),
    "no-address": Lie(lambda made: {"url": "https://[127.0.0.1"}, 5, "invalid"),
    "no-name": Lie(lambda made: {"site": "Nord Klinik"}, 5, "invalid"),
    "no-secret": Lie(lambda made: {"secret": ""}, 5, "invalid"),
    "more-than-it-holds": Lie(lambda made: {"more": "x"}, 5, "invalid"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_token_that_lies_is_refused_leaves_no_trace_and_does_not_spoil_the_true_one(
    made: Federation, name: str
) -> None:
    hospital, token = newcomer(made, f"lie-{name}")
    lie = LIES[name]
    error = refused(hospital, "join", changed(token, **lie.values(made)), code=lie.code)
    assert error.get("reason", error["code"]) == lie.reason
    left = [(one["what"], one["size"] > 100) for one in hospital.told("sent")]
    assert left == [("join", True)] * (2 if lie.reason == "token" else 0), "asked twice, of its coordinator alone"
    assert hospital.told("join", token)["state"] == "pending"


def test_a_token_serves_one_key_and_a_day(made: Federation) -> None:
    first, token = newcomer(made, "first")
    first.command("join", token)
    thief, _ = newcomer(made, "thief")
    assert refused(thief, "join", token, code=3)["reason"] == "token"
    late, token = newcomer(made, "late")
    made.coordinator.in_database("UPDATE join_tokens SET expires = 0 WHERE site = 'late'")
    assert refused(late, "join", token, code=3)["reason"] == "token"


def test_a_file_that_is_no_ca_is_refused_and_not_kept(made: Federation, tmp_path: Path) -> None:
    hospital, token = newcomer(made, "no-ca")
    (tmp_path / "ca.pem").write_text("not a certificate")
    assert refused(hospital, "join", token, "--ca", tmp_path / "ca.pem", code=3)["reason"] == "ca"
    assert hospital.told("join", token, "--ca", made.coordinator.ca)["state"] == "pending"


def test_what_is_said_about_an_institution_has_an_end(made: Federation) -> None:
    hospital, token = newcomer(made, "about")
    assert "about" in refused(hospital, "join", token, "--about", "x" * 4001, code=5)["message"]
    assert hospital.told("join", token, "--about", "x" * 4000)["state"] == "pending"


def test_a_folder_belongs_to_one_site_for_good(made: Federation, north: Hospital) -> None:
    _, token = newcomer(made, "second")
    assert "belongs to" in refused(north, "join", token, code=6)["message"]
    assert "holds a site already" in refused(north, "init", code=6)["message"]


# commands of a folder without a site, and of a site that has not joined

ALL: list[tuple[str, ...]] = [
    ("join", PREFIX), ("run",), ("check", "known"), ("review", "known"), ("approve", "known", *DECIDED),
    ("decline", "known", *DECIDED), ("revoke", "known", *DECIDED), ("revoke", "--all", *DECIDED), ("status",),
    ("sent",), ("doctor",),
]  # fmt: skip


def test_every_command_says_where_there_is_no_site(tmp_path: Path) -> None:
    nowhere = Hospital("nowhere", tmp_path / "none", tmp_path, Process([], tmp_path))
    for words in ALL:
        code, said = nowhere.says(*words)
        assert code == 5 and "holds no site" in said and "consilium site init" in said, words
    assert list(tmp_path.iterdir()) == []


def test_every_command_says_what_to_do_before_joining(tmp_path: Path) -> None:
    hospital = Hospital("alone", tmp_path / "site", table(tmp_path, seed=1), Process([], tmp_path))
    hospital.command("init")
    for words in ALL[1:8]:
        code, said = hospital.says(*words)
        assert (code, "Next: " in said) == ((0, False) if "--all" in words else (5, True)), (words, said)
    told = hospital.told("status")
    assert (told["site"], told["agent"], told["studies"]) == (None, "does not run", [])
    assert "not joined yet" in hospital.command("status") and hospital.told("sent") == []
    assert "consilium site join" in hospital.says("doctor")[1]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**study("draft").model_dump(mode="json"), "gate": "none"}))
    said = hospital.command("check", "--study-file", tmp_path / "study.yaml", "--mapping", hospital.mapping)
    assert "Ready for training" in said


# deciding


def test_a_decision_that_cannot_be_made_is_refused_and_says_why(idle: Hospital) -> None:
    approve = ("approve", "known", *DECIDED)
    plain, mapping = ("--accept", "plain"), ("--mapping", idle.mapping)
    far = f"{datetime.now(UTC) + timedelta(days=366):%Y-%m-%d}"
    for words, code, reason in (
        ((*approve, *mapping), 3, "recipe"),
        ((*approve, *mapping, "--accept", "secure"), 5, "invalid"),
        ((*approve, *plain), 5, "not-found"),
        ((*approve, *plain, *mapping, "--until", "2020-01-01"), 3, "approval-expired"),
        ((*approve, *plain, *mapping, "--until", far), 3, "approval-days"),
        (("approve", "unknown", *DECIDED), 5, "not-found"),
        (("approve", "known", "--person", "x" * 201, *plain, *mapping), 5, "invalid"),
        (("approve", "known", "--person", "", *plain, *mapping), 5, "invalid"),
        (("approve", "known", "--person", "Ve\nra", *plain, *mapping), 5, "invalid"),
        (("decline", "unknown", *DECIDED), 5, "not-found"),
        (("decline", "known", *DECIDED, "--reason", "x" * 4001), 5, "invalid"),
        (("revoke", "known", *DECIDED), 3, "not-approved"),
        (("revoke", "unknown", *DECIDED), 5, "not-found"),
        (("review", "unknown"), 5, "not-found"),
        (("review", "known", "--code", idle.home / "code"), 5, "not-found"),
        (("check", "unknown"), 5, "not-found"),
        (("check", "known"), 5, "not-found"),
    ):
        error = refused(idle, *words, code=code)
        assert error.get("reason", error["code"]) == reason, words
    assert idle.told("status")["studies"][0]["standing"] == "open"


def test_a_mapping_is_proposed_and_serves_once_a_person_has_confirmed_it(idle: Hospital) -> None:
    path, before = idle.mapping.parent / "proposed.yaml", idle.told("sent")
    told = idle.told("map", "known", "--source", idle.mapping.parent / "table.csv", "--output", path)
    proposed = yaml.safe_load(path.read_text())
    given = yaml.safe_load(idle.mapping.read_text())
    assert {key: proposed[key] for key in given} == given
    assert told["unconfirmed"] == ["patient", "features.x", "features.y", "label"]
    words = ("approve", "known", *DECIDED, "--accept", "plain", "--mapping", path)
    assert refused(idle, *words, code=5)["code"] == "mapping-invalid"
    path.write_text(yaml.safe_dump({**proposed, "unconfirmed": []}))
    assert "Ready for training." in idle.command("check", "known", "--mapping", path)
    assert idle.told("sent") == before


def test_what_the_policy_forbids_is_not_approved_here(idle: Hospital) -> None:
    words = ("approve", "known", *DECIDED, "--accept", "plain", "--mapping", idle.mapping)
    idle.told("check", "known", "--mapping", idle.mapping)  # of which the number of patients is known to the review
    for text, reason in (
        (POLICY + "purposes: [quality]\n", "purpose"),
        (POLICY + "expires: 2020-01-01\n", "policy-expired"),
        ("policy: 1\nmin_patients: 1000\n", "too-few-patients"),
    ):
        idle.policy(text)
        assert refused(idle, *words, code=3)["reason"] == reason
        assert "forbids this study" in idle.command("review", "known")
        assert idle.told("review", "known")["policy"] != "allowed"
    idle.policy("policy: 1\nnonsense: 2\n")
    assert refused(idle, *words, code=5)["code"] == "policy-invalid"
    idle.policy(POLICY)


@pytest.mark.parametrize(
    "words",
    [
        ("approve", "known"),
        ("approve", "known", *DECIDED, "--until", "soon"),
        ("approve", "known", *DECIDED, "--until", "2030-02-30"),
        ("approve", "known", *DECIDED, "--mapping", "nowhere.yaml"),
        ("decline", "known"),
        ("revoke", *DECIDED),
        ("revoke", "known", "--all", *DECIDED),
        ("check",),
        ("check", "known", "--study-file", __file__),
        ("join",),
        ("review", "known", "--nonsense"),
        ("nonsense",),
    ],
)
def test_what_is_not_typed_as_the_help_says_is_told_with_the_usage(north: Hospital, words: tuple[str, ...]) -> None:
    before = contents(north.home)
    code, said = north.says(*words)
    assert code == 2 and said.startswith("Usage: consilium site") and "Traceback" not in said
    assert contents(north.home) == before


@pytest.mark.parametrize("name", ["north", "idle"])
def test_decisions_are_made_with_and_without_an_agent_and_the_coordinator_hears_of_them(
    made: Federation, name: str
) -> None:
    """One life of a study at a hospital: declined, approved until a day, revoked; each signed, each heard of once."""
    hospital = made.hospitals[name]
    plan = made.submit(study(f"life-{name}"))
    if name == "idle":
        hospital.process.start()
        until(lambda: hospital.offered(plan), "it is offered")
        assert hospital.process.stop() == 0
    until(lambda: hospital.offered(plan), "it is offered")
    day = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    life = (
        ("decline", "declined", ("--reason", "not now")),
        ("approve", "approved", ("--accept", "plain", "--mapping", hospital.mapping, "--until", day)),
        ("revoke", "revoked", ("--reason", "a doubt")),
    )
    for number, (word, standing, more) in enumerate(life, start=1):
        told = hospital.told(word, plan.study.name, *DECIDED, *more) if number % 2 else None
        said = "" if told else hospital.command(word, plan.study.name, *DECIDED, *more)
        if told:
            assert (told["decision"], told["person"], told["plan"]) == (word, "Vera", plan.digest)
        else:
            assert f"is {standing} by Vera" in said and f"until {day}" in said
            assert ("when the agent runs" in said) == (name == "idle")
        assert {one["study"]: one["standing"] for one in hospital.told("status")["studies"]}[
            plan.study.name
        ] == standing
    if name == "idle":
        assert hospital.told("status")["waiting"] == 3
        hospital.process.start()
    until(lambda: heard(made, plan).get(name, {}).get("decision") == "revoke", "the coordinator hears of the last")
    assert heard(made, plan)[name]["reason"] == "a doubt"
    until(lambda: hospital.told("status")["waiting"] == 0, "it hears that all three were taken")
    assert [one["became"] for one in hospital.told("sent", "--study", plan.study.name)] == ["sent"] * 3
    if name == "idle":
        assert hospital.process.stop() == 0


def heard(made: Federation, plan: Plan) -> Json:
    return dict(made.owner.connection.get(f"/v1/studies/{plan.study.name}")["sites"])


def test_all_approvals_are_revoked_at_once_however_many_there_are(made: Federation, north: Hospital) -> None:
    assert [one["study"] for one in json.loads(north.command("revoke", "--all", *DECIDED, "--json"))] == ["known"]
    assert json.loads(north.command("revoke", "--all", *DECIDED, "--json")) == []
    assert "nothing to revoke" in north.command("revoke", "--all", *DECIDED)
    plans = [made.submit(study(f"all-{number}")) for number in (1, 2)]
    for plan in plans:
        north.approve(plan)
    north.command("approve", "known", *DECIDED, "--accept", "plain", "--mapping", north.mapping)
    said = north.command("revoke", "--all", *DECIDED, "--reason", "a doubt")
    assert [line.split()[0] for line in said.splitlines()] == ["known", "all-1", "all-2"]
    for plan in plans:
        until(lambda plan=plan: heard(made, plan)["north"]["decision"] == "revoke", "the coordinator hears of it")


# looking


def test_review_shows_the_plan_in_words_and_whole(north: Hospital) -> None:
    told, said = north.told("review", "known"), north.command("review", "known")
    assert told["study"] == "known" and told["content"]["rounds"] == 2 and told["policy"] == "allowed"
    assert told["words"] in said and "The hospital's policy allows this study" in said
    assert f"Decided here so far: {told['standing']}" in said


def test_check_ends_with_1_where_something_stands_in_the_way_and_hides_small_counts(
    idle: Hospital, tmp_path: Path
) -> None:
    few = table(tmp_path / "few", seed=9, patients=7)
    words = ("check", "known", "--mapping")
    assert idle.told(*words, idle.mapping)["usable"] is True
    code, told = idle.says(*words, few, "--json")
    assert code == 1 and json.loads(told)["usable"] is False and json.loads(told)["read"] == "<10"
    code, said = idle.says(*words, few)
    assert code == 1 and "Not ready" in said and "the study wants at least 10" in said and " 7" not in said
    few.write_text(few.read_text().replace("column: y", "column: z"))
    error = refused(idle, *words, few, code=5)
    assert "z" in error["message"] + error["remedy"]
    (few.parent / "table.csv").unlink()
    assert refused(idle, *words, few, code=5)


def test_status_and_sent_say_what_runs_and_what_left(made: Federation, north: Hospital, idle: Hospital) -> None:
    for hospital, agent in ((north, "runs"), (idle, "does not run")):
        told, said = hospital.told("status"), hospital.command("status")
        assert (told["site"], told["agent"]) == (hospital.name, agent)
        assert f"{hospital.name} at {made.coordinator.url}; the agent {agent}" in said and "known" in said
        assert told["fingerprint"] == hospital.identity.fingerprint and told["fingerprint"] in said
        left = hospital.told("sent")
        assert left[0]["what"] == "join" and all(one["digest"] and one["size"] > 0 for one in left)
        assert f"{len(left)} things, {sum(one['size'] for one in left):,} bytes" in hospital.command("sent")
    assert {one["study"] for one in north.told("sent", "--study", "known")} == {"known"}
    assert north.told("sent", "--study", "unknown") == []


def test_a_second_agent_in_the_same_folder_is_refused(north: Hospital) -> None:
    code, said = north.says("run")
    assert code == 6 and "an agent already runs" in said and "Next: stop it first" in said


def test_a_damaged_folder_is_told_and_not_a_traceback(made: Federation) -> None:
    hospital, token = newcomer(made, "damaged")
    hospital.command("join", token)
    whole = {name: (hospital.home / name).read_bytes() for name in ("journal.sqlite", "site.json", "identity.key")}
    for name, data in whole.items():
        (hospital.home / f"{name}-wal").unlink(missing_ok=True)
        (hospital.home / name).write_bytes(b"x" * 5000)
        for words in ALL[1:-1]:
            code, said = hospital.says(*words)
            clean = "Error (" in said and "Next: " in said
            assert (clean and code == 5) or (name != "journal.sqlite" and code == 0), (name, words, said)
        code, said = hospital.says("doctor")
        assert code == 1 and "problem" in said, name
        (hospital.home / name).write_bytes(data)
    (hospital.home / "identity.key").chmod(0o640)
    assert refused(hospital, "status", code=3)["reason"] == "key-permissions"
