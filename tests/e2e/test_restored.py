"""A coordinator restored from an older copy: its hospitals find out, tell people, and go on after a person's word."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.core.study import Plan
from consilium.governance import audit
from e2e import studies
from e2e.coordinator import refusal
from e2e.federation import Federation, federation, study
from e2e.processes import until

NAMES = ("north", "south")
ROUNDS = 12
Json = dict[str, Any]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path, hospitals=NAMES) as made:
        yield made


def halted(made: Federation) -> None:
    assert made.coordinator.stop() == 0


def back_up(made: Federation, copy: Path) -> None:
    halted(made)
    shutil.copytree(made.coordinator.home, copy)
    made.coordinator.start()


def restore(made: Federation, copy: Path) -> None:
    halted(made)
    shutil.rmtree(made.coordinator.home)
    shutil.copytree(copy, made.coordinator.home)


def alarms(made: Federation) -> dict[str, list[str]]:
    told = made.owner.connection.get("/v1/sites")
    return {one["site"]: [alarm["why"] for alarm in one["alarms"]] for one in told}


def kinds(entries: list[Any]) -> set[str]:
    return {json.loads(bytes(row[0]))["kind"] for row in entries}


def lose(made: Federation, copy: Path) -> tuple[Plan, str, bytes]:
    """A run that was copied in its middle and then finished, before the copy is put back; what it came to."""
    plan = made.approved(study("sums", rounds=ROUNDS, deadlines={"round_s": 3600}))
    run = made.start(plan)
    until(lambda: made.view(run)["round"] > 2, "some rounds are over")
    back_up(made, copy)
    made.until(run, "finished")
    model = made.model(run)
    ended = "SELECT count(*) FROM meta WHERE key LIKE 'run/%' AND value = 'removed'"
    for hospital in made.hospitals.values():
        until(lambda h=hospital: h.journal(ended) == [(1,)] and not h.told("status")["waiting"], "it knows of the end")
    restore(made, copy)
    return plan, run, model


@pytest.mark.long
@pytest.mark.parametrize("overtaken", [pytest.param(False, id="behind"), pytest.param(True, id="overtaken")])
def test_a_run_goes_on_after_a_restore_when_a_person_has_said_so(
    made: Federation, tmp_path: Path, overtaken: bool
) -> None:
    plan, run, model = lose(made, tmp_path / "copy")
    why = "inbox-rewritten" if overtaken else "inbox-went-back"
    if overtaken:  # others are written under the numbers that were lost, before a hospital asks again
        for hospital in made.hospitals.values():
            assert hospital.process.stop() == 0
        made.coordinator.start()
        newest = made.hospitals["north"].journal("SELECT value FROM meta WHERE key = 'inbox'")[0][0]
        count = 0
        while made.rows("SELECT min(m) FROM (SELECT max(seq) AS m FROM inbox GROUP BY site)")[0][0] <= int(newest):
            count += 1
            made.submit(study(f"other-{count}"))
        for hospital in made.hospitals.values():
            hospital.process.start()
    else:
        made.coordinator.start()

    until(lambda: alarms(made) == {name: [why] for name in NAMES}, "both report it")
    for hospital in made.hospitals.values():
        (alarm,) = hospital.told("status")["alarms"]
        assert alarm["why"] == why and "restored from an older copy" in alarm["text"]
        assert hospital.told("acknowledge", "--person", "Vera") == [], "it holds messages up: it stays"
        assert "alarm" in kinds(hospital.journal("SELECT entry FROM audit"))
    assert "alarm" in kinds(made.rows("SELECT entry FROM audit"))
    view = made.view(run)
    assert "`consilium sites reopen`" in view["reason"] and view["status"] != "finished"
    admin = made.coordinator.admin.connection
    assert refusal(lambda: admin.post("/v1/sites/north/acknowledge", {})).code == "conflict"
    assert refusal(lambda: made.owner.connection.post("/v1/sites/north/reopen", {})).code == "refused"

    for name in NAMES:
        loss = admin.post(f"/v1/sites/{name}/reopen", {})
        assert (loss["known"] > loss["taken"]) == overtaken
    made.until(run, "finished")
    assert made.model(run) == model, "the same hospitals at the same states: the same bytes"
    assert alarms(made) == {name: [] for name in NAMES}
    again = made.start(plan)
    made.until(again, "finished")
    for hospital in made.hospitals.values():
        (alarm,) = hospital.told("status")["alarms"]
        assert alarm["why"] == why and "admin said" in alarm["note"]
        assert len(hospital.told("acknowledge", "--person", "Vera")) == 1 and hospital.told("status")["alarms"] == []
        assert "reopened" in kinds(hospital.journal("SELECT entry FROM audit"))
        audit.verify([bytes(row[0]) for row in hospital.journal("SELECT entry FROM audit ORDER BY seq")])
    assert refusal(lambda: admin.post("/v1/sites/north/reopen", {})).code == "conflict"


def test_what_hospitals_decided_since_the_copy_is_known_again_and_runs_that_nobody_knows_are_removed(
    made: Federation, tmp_path: Path
) -> None:
    north = made.hospitals["north"]
    plan = made.approved(study("sums"))
    back_up(made, tmp_path / "copy")
    run = made.start(plan)
    made.until(run, "finished")
    assert made.hospitals["south"].process.stop() == 0
    lost = made.start(plan)
    until(lambda: (north.home / "work" / lost).exists(), "north works on a run that waits for south")
    north.command("revoke", "sums", "--person", "Vera")
    until(lambda: made.refusals(plan) == {("north", "revoked")} or decision(made) == "revoke", "it is heard of")
    until(lambda: not north.told("status")["waiting"], "all is sent")
    restore(made, tmp_path / "copy")
    made.coordinator.start()
    made.hospitals["south"].process.start()
    assert decision(made) == "approve", "the coordinator has forgotten the revocation"
    until(lambda: set(map(tuple, alarms(made).values())) == {("inbox-went-back",)}, "both report it")
    for name in NAMES:
        made.coordinator.admin.connection.post(f"/v1/sites/{name}/reopen", {})
    until(lambda: decision(made) == "revoke", "north has said it again")
    for hospital in made.hospitals.values():
        until(lambda h=hospital: not (h.home / "work" / lost).exists(), "nobody goes on with a run that was lost")
    until(lambda: set(map(tuple, alarms(made).values())) == {()}, "nothing is open")


def decision(made: Federation) -> str:
    return str(made.owner.connection.get("/v1/studies/sums")["sites"]["north"]["decision"])


def test_an_inbox_that_is_whole_is_not_opened_again(made: Federation) -> None:
    """Something in between may say that the coordinator knows less than it does."""
    plan = studies.submit(made.owner, study("sums"))
    north = made.hospitals["north"]
    until(lambda: north.offered(plan), "north is offered it")
    last = north.journal("SELECT value FROM meta WHERE key = 'inbox/last'")[0][0]
    assert len(made.rows(f"SELECT seq FROM inbox WHERE site = 'north' AND digest = '{last}'")) == 1
    assert refusal(lambda: made.coordinator.admin.connection.post("/v1/sites/north/reopen", {})).code == "conflict"
