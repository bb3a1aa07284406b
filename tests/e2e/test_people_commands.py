"""What people type at the coordinator: who asks twice is told that nothing was done; who is put out stays out."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import studyfile
from consilium.algorithms import metrics
from consilium.console.cli import app
from consilium.core.errors import Refused, Unauthenticated
from consilium.core.study import Plan
from consilium.wire.identity import Identity
from consilium.wire.messages import PROTOCOL, Offer
from e2e import studies
from e2e.coordinator import PASSWORD, Coordinator, Party, Site, refusal
from e2e.processes import until

Json = dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """An administrator who types commands."""

    coordinator: Coordinator
    capsys: pytest.CaptureFixture[str]

    def says(self, *words: str | Path) -> tuple[int, str]:
        """One command to its end: exit code, and all that it said."""
        code = app.run([str(word) for word in words])
        told = self.capsys.readouterr()
        return code, told.out + told.err

    def told(self, *words: str | Path) -> Any:
        """The same, with --json; it must succeed."""
        code, said = self.says(*words, "--json")
        assert code == 0, said
        return json.loads(said)

    def audit(self, *kinds: str) -> list[Json]:
        """Entries of these kinds in the coordinator's log."""
        entries = self.coordinator.admin.connection.get("/v1/audit", {"after": 0})["entries"]
        found = [json.loads(entry) for entry in entries]
        return [{"kind": one["kind"], **one["body"]} for one in found if one["kind"] in kinds]


@pytest.fixture
def desk(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    for name, value in (("URL", coordinator.url), ("TOKEN", coordinator.admin.token()), ("CA", str(coordinator.ca))):
        monkeypatch.setenv(f"CONSILIUM_{name}", value)
    yield Desk(coordinator, capsys)
    assert "Traceback" not in coordinator.process.said


def submitted(desk: Desk, name: str, **changes: Any) -> tuple[Plan, Site]:
    """A study, and the one site that it asks and that approves it."""
    site = desk.coordinator.join(f"of-{name}")
    plan = studies.submit(desk.coordinator.admin, studies.study(name, sites=[site.name], **changes))
    site.send(studies.decision(site, plan))
    return plan, site


# who is invited


def test_a_hospital_that_is_not_there_is_named_wherever_one_looks(desk: Desk, tmp_path: Path) -> None:
    """A study went to the end without it, and nobody was told that its name was wrong."""
    there = desk.coordinator.join("bologna")
    path = tmp_path / "study.yaml"
    text = studyfile.template("misspelt").replace("sites: []", "sites: [bolonga, bologna, milano]")
    path.write_text(text.replace("recipe: secure_sum", "recipe: plain").replace("quorum: 3", "quorum: 1"))
    code, said = desk.says("study", "submit", path)
    assert code == 0 and said.count("Warning: ") == 2
    assert "bolonga is invited and never joined: misspelt goes on without it" in said
    fact = desk.told("study", "submit", path)
    assert [one["site"] for one in fact["missing"]] == ["bolonga", "milano"]
    desk.told("study", "start", "misspelt")
    view = desk.told("study", "show", "misspelt")
    plainly = [{key: told for key, told in one.items() if key != "near"} for one in fact["missing"]]
    assert view["missing"] == plainly == desk.coordinator.admin.connection.get("/v1/runs/misspelt-1")["missing"]
    assert re.search(r"milano +never joined", desk.says("study", "show", "misspelt")[1])
    desk.coordinator.join("milano")
    assert [one["site"] for one in desk.told("study", "show", "misspelt")["missing"]] == ["bolonga"]
    assert [one.study for one in there.inbox() if isinstance(one, Offer)] == ["misspelt"]


# what the operator reads


def test_the_log_tells_who_came_what_runs_came_to_and_who_guesses(desk: Desk) -> None:
    process, secret = desk.coordinator.process, "typed-in-the-wrong-place"
    _, site = submitted(desk, "told")
    desk.told("study", "start", "told")
    desk.told("study", "stop", "told", "--reason", "enough\nof it")
    for name, password in ((secret, PASSWORD), *[("admin", secret)] * 2):
        body = {"name": name, "password": password}
        assert isinstance(
            refusal(lambda body=body: desk.coordinator.connection().post("/v1/login", body)), Unauthenticated
        )  # type: ignore[misc]
    desk.told("sites", "remove", site.name)
    lines = {line.split(" ", 2)[2] for line in process.said.splitlines() if "consilium.coordinator.news" in line}
    expected = [
        f"INFO consilium.coordinator.news {line}" for line in (
            f"{site.name} joined, and waits for admission", f"{site.name} is admitted by admin",
            "study told is submitted by admin", f"{site.name} says approve to study told",
            "run told-1 is started by admin",
            f"{site.name} is removed by admin", "run told-1 is stopped by admin",
        )
    ] + [
        f"WARNING consilium.coordinator.news {line}" for line in (
            "run told-1 stopped: enough of it", "wrong password for admin, from 127.0.0.1",
            "wrong password for an account that is not there or disabled, from 127.0.0.1",
        )
    ]  # fmt: skip
    assert set(expected) <= lines and not any("?" in line for line in lines)
    assert secret not in process.said and PASSWORD not in process.said


def test_a_hospital_of_which_two_agents_run_stands_in_the_list_until_a_person_has_looked(desk: Desk) -> None:
    site = desk.coordinator.join("copied")

    def beat(agent: int) -> Any:
        return site.connection.post("/v1/heartbeat", {"version": "1", "instance": f"{agent:016x}"})["twin"]

    assert [beat(agent) for agent in (1, 2, 1, 2, 1, 2)] == [False] * 4 + [True] * 2
    assert site.connection.post("/v1/heartbeat", {"version": "1"}) == {"twin": False}, (
        "an agent of before says no number"
    )
    code, said = desk.says("sites", "list")
    assert code == 0 and "two agents run under the key of copied" in said
    assert desk.told("sites", "acknowledge", "copied")["alarms"] == 1
    assert "two agents" not in desk.says("sites", "list")[1]


# asked twice


def test_a_second_start_says_which_run_is_on_and_starts_none(desk: Desk) -> None:
    submitted(desk, "twice")
    assert desk.told("study", "start", "twice") == {"study": "twice", "run": "twice-1", "started": True}
    code, said = desk.says("study", "start", "twice")
    assert (code, said.split(" Watch")[0]) == (0, "twice-1 is on already: nothing was started.")
    assert desk.told("study", "start", "twice") == {"study": "twice", "run": "twice-1", "started": False}
    assert [run["run"] for run in desk.told("study", "show", "twice")["runs"]] == ["twice-1"]
    assert [one for one in desk.audit("run") if one["run"].startswith("twice")] == [
        {"kind": "run", "run": "twice-1", "plan": desk.told("study", "show", "twice")["plan"], "by": "admin"}
    ]
    desk.told("study", "stop", "twice", "--reason", "enough")
    code, said = desk.says("study", "start", "twice")
    began = "Started twice-2, from the beginning; what earlier runs reached stays."
    assert (code, said.split(" Watch")[0]) == (0, began)


def test_a_run_that_is_over_is_not_stopped_again_and_keeps_its_reason(desk: Desk) -> None:
    submitted(desk, "over")
    desk.told("study", "start", "over")
    assert desk.told("study", "stop", "over", "--reason", "first") == {
        "run": "over-1", "status": "stopped", "stopped": True
    }  # fmt: skip
    code, said = desk.says("study", "stop", "over", "--reason", "second")
    assert (code, said) == (0, "over-1 is over already (stopped): nothing was done.\n")
    assert desk.told("study", "stop", "over-1", "--reason", "third")["stopped"] is False
    view = desk.coordinator.admin.connection.get("/v1/runs/over-1")
    assert (view["status"], view["reason"]) == ("stopped", "first")
    assert [one for one in desk.audit("stop") if one["run"] == "over-1"] == [
        {"kind": "stop", "run": "over-1", "by": "admin"}
    ]


# what a stopped run gave


def answered(site: Site, run: str, number: int, patients: int) -> None:
    """The site trains a round; so many held-out patients judge the model with which it begins."""
    task = studies.task(site, run, number)
    found = metrics.sums("binary", np.linspace(0.1, 0.9, patients), np.arange(patients) % 2.0)
    initial = site.connection.request("GET", f"/v1/blobs/{task.initial.digest}").data
    blob = studies.vectors({
        "update": np.full(studies.length(initial), 0.1), "weight": np.array([10.0]),
        **{f"metrics/{name}": array for name, array in found.items()},
    })  # fmt: skip
    site.send(studies.answer(task, site.send_blob(blob), len(blob)))


def test_a_stopped_run_shows_the_newest_figures_and_says_of_which_model_they_are(desk: Desk) -> None:
    _, site = submitted(desk, "early", rounds=5, strategy={"name": "ditto"})
    run = desk.told("study", "start", "early")["run"]
    code, said = desk.says("study", "result", run)
    assert code == 5 and "wait for its first round" in said
    answered(site, run, 1, patients=40)
    studies.task(site, run, 2)
    code, said = desk.says("study", "result", run)
    assert code == 0 and f"{run} is running, round 2 of 5" in said and "The figures are of the initial model." in said
    answered(site, run, 2, patients=60)
    studies.task(site, run, 3)
    desk.told("study", "stop", run, "--reason", "enough")
    result = desk.told("study", "result", run)
    assert result["judged"] == {"round": 2, "kind": "TRAIN", "model_after_round": 1} and result["rounds_done"] == 2
    assert result["figures"]["all"]["auroc"]["n"] == 60 == result["figures"]["sites"][site.name]["auroc"]["n"]
    code, said = desk.says("study", "result", run)
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert code == 0 and rows["all"][1:3] == ["60", "2"] and rows[site.name][1:3] == ["60", "2"]
    assert f"{run} is stopped, round 3 of 5: its newest model was not judged." in said
    assert "The figures are of the model after round 1." in said
    assert "The model of the run is the common one, which they do not judge" in said


def test_a_run_that_was_stopped_before_any_round_is_not_waited_for(desk: Desk) -> None:
    submitted(desk, "never")
    desk.told("study", "start", "never")
    desk.told("study", "stop", "never", "--reason", "a mistake")
    code, said = desk.says("study", "result", "never")
    assert code == 5 and "never-1 is stopped, and no round of it was done" in said and "wait" not in said


# accounts and tokens


def held(desk: Desk, party: Party) -> Any:
    """A connection with one token for good."""
    token = party.token()
    return desk.coordinator.connection(lambda: token)


def test_a_disabled_account_is_out_at_once_and_comes_back_with_a_new_password_only(desk: Desk) -> None:
    rita = desk.coordinator.person("rita", "researcher")
    line = held(desk, rita)
    assert line.get("/v1/studies") is not None
    assert desk.told("people", "disable", "rita") == {"name": "rita", "role": "disabled", "disabled": True}
    assert isinstance(refusal(lambda: line.get("/v1/studies")), Unauthenticated)
    assert isinstance(refusal(rita.token), Unauthenticated), "its password serves no more"
    assert {one["name"]: one["role"] for one in desk.told("people", "list")}["rita"] == "disabled"
    code, said = desk.says("people", "disable", "rita")
    assert (code, said) == (0, "rita was disabled before: nothing was done.\n")
    assert [one for one in desk.audit("person-disabled") if one["name"] == "rita"] == [
        {"kind": "person-disabled", "name": "rita", "by": "admin"}
    ]
    desk.coordinator.admin.connection.post("/v1/people", {"name": "rita", "role": "auditor", "password": PASSWORD})
    assert isinstance(refusal(lambda: line.get("/v1/studies")), Unauthenticated), "the token of before is gone"
    assert rita.connection.get("/v1/audit", {"after": 0})["entries"]


def test_the_last_administrator_stays_but_for_who_has_the_machine(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = desk.says("people", "disable", "admin")
    assert code == 6 and "admin is the only administrator" in said and "add another one first" in said
    assert desk.says("people", "disable", "nobody")[0] == 5
    line, home = held(desk, desk.coordinator.admin), ("--home", desk.coordinator.home)
    assert line.get("/v1/people")
    assert desk.told("coordinator", "disable", "admin", *home)["disabled"] is True
    until(lambda: isinstance(_error(line), Unauthenticated), "the token ends")
    assert "admin is disabled, since " in desk.says("coordinator", "people", *home)[1]
    code, said = desk.says("coordinator", "disable", "admin", *home)
    assert (code, said) == (0, "admin was disabled before: nothing was done\n")
    monkeypatch.setenv("CONSILIUM_PASSWORD", PASSWORD)
    assert desk.says("coordinator", "person", "admin", "--role", "admin", *home)[0] == 0
    assert desk.audit("person-disabled")[-1] == {
        "kind": "person-disabled", "name": "admin", "by": "the coordinator's machine"
    }  # fmt: skip


def _error(line: Any) -> Exception | None:
    try:
        line.get("/v1/people")
    except Unauthenticated as error:
        return error
    return None


def test_unused_tokens_are_listed_and_cancelled_and_serve_no_more(desk: Desk) -> None:
    first, second = desk.coordinator.ticket("gone"), desk.coordinator.ticket("gone")
    kept = desk.coordinator.ticket("kept")
    joined = desk.coordinator.join("joined", admit=False)
    listed = desk.told("sites", "tokens")
    assert sorted(one["site"] for one in listed) == ["gone", "gone", "kept"]
    assert all(set(one) == {"site", "expires"} for one in listed), "no secret is among them"
    assert "gone" in desk.says("sites", "tokens")[1]
    assert desk.told("sites", "cancel", "gone") == {"site": "gone", "cancelled": 2}
    for ticket in (first, second):
        error = refusal(lambda ticket=ticket: ask(desk, "gone", ticket))  # type: ignore[misc]
        assert isinstance(error, Refused) and error.reason == "token"
    for name in ("gone", joined.name, "nobody"):
        assert desk.says("sites", "cancel", name)[0] == 5, "there is no unused token for it"
    assert [one["site"] for one in desk.told("sites", "tokens")] == ["kept"]
    assert ask(desk, "kept", kept)["state"] == "pending"
    assert desk.audit("join-tokens-cancelled") == [
        {"kind": "join-tokens-cancelled", "site": "gone", "count": 2, "by": "admin"}
    ]


def ask(desk: Desk, site: str, ticket: dict[str, str]) -> Json:
    """Ask to join with a token."""
    key = Identity.create(desk.coordinator.folder / f"{site}-{ticket['secret'][:8]}.key").public
    body = {"protocol": PROTOCOL, "token": ticket["secret"], "site": site, "public_key": key}
    return dict(desk.coordinator.connection().post("/v1/join", body))
