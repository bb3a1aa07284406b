"""The budget between real processes: what exceeds it is refused; extracts inherit; a restored ledger is found out."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.core.study import Plan
from consilium.governance import audit
from e2e.federation import POLICY, Federation, Hospital, study
from e2e.processes import imported, until
from e2e.test_private import ASKED, PRIVACY

HOSPITALS = ("east", "north", "south", "west")
ROUNDS = 4
ONE_RUN = "privacy: {budget: {epsilon: 3.5, delta: 1.0e-4}}\n"
"""Room for one run of the studies here (2.7 by the count), and not for two (4.1)."""
MANY = "privacy: {budget: {epsilon: 90, delta: 1.0e-4}}\n"
Json = dict[str, Any]


@contextlib.contextmanager
def federation(folder: Path) -> Iterator[Federation]:
    imported("dp_accounting.pld")
    made = Federation(folder, held=True)
    try:
        for name in HOSPITALS:
            made.add(name)
            made.hospitals[name].policy(POLICY + MANY)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, Plan]]:
    """A federation whose first run has ended, though north was killed as it trained, and a study that waits."""
    with federation(tmp_path_factory.mktemp("killed")) as made:
        north = made.hospitals["north"]
        plan, waits = made.approved(asked("first")), made.approved(asked("second"))
        north.policy(POLICY + ONE_RUN)
        north.hold()
        run = made.start(plan)
        made.compared(run)
        north.halt()
        (before,) = everybody(north)["studies"]
        assert before["rounds"] == 1 and trained(north, run) == 0, "charged, and nothing is made yet"
        north.process.kill()
        north.process.start()
        made.until(run, "finished")
        until(lambda: everybody(north)["studies"][0]["state"] == "over", "north hears of the end")
        yield made, waits


def asked(name: str, **changes: Any) -> Any:
    return study(
        name,
        **{**ASKED, "rounds": ROUNDS, "privacy": {**PRIVACY, "sampling": 1.0, "noise_multiplier": 2.887}, **changes},
    )


def everybody(hospital: Hospital) -> Json:
    return dict(hospital.told("budget")["populations"][0])


def trained(hospital: Hospital, run: str) -> int:
    return int(hospital.journal("SELECT count(*) FROM answers WHERE run = ? AND kind = 'TRAIN'", run)[0][0])


def kinds(hospital: Hospital) -> set[str]:
    return {json.loads(row[0])["kind"] for row in hospital.journal("SELECT entry FROM audit")}


@pytest.mark.long
@pytest.mark.long
def test_an_agent_that_is_killed_as_it_trains_has_charged_before(killed: tuple[Federation, Plan]) -> None:
    north = killed[0].hospitals["north"]
    spent = everybody(north)
    assert spent["spent"] > spent["all_honest"] > 0 == spent["reserved"] and spent["studies"][0]["rounds"] == ROUNDS
    assert len([one for one in map(json.loads, charges(north)) if one["kind"] == "charge"]) == ROUNDS


def test_what_exceeds_a_budget_is_refused_before_any_training_and_an_extract_inherits(
    killed: tuple[Federation, Plan],
) -> None:
    made, second = killed
    north = made.hospitals["north"]
    spent = everybody(north)
    again = made.start(second)
    until(lambda: ("north", "budget") in made.refusals(second), "north refuses")
    told = [one["text"] for one in made.owner.connection.get("/v1/studies/second")["refusals"]]
    assert told and not any(letter.isdigit() for text in told for letter in text), "no figure leaves"
    assert trained(north, again) == 0 and everybody(north)["spent"] == spent["spent"]
    made.owner.connection.post(f"/v1/runs/{again}/stop", {"reason": "no budget"})

    extract = north.mapping.with_name("later.yaml")
    shutil.copy(north.mapping.with_name("table.csv"), north.mapping.with_name("later.csv"))
    extract.write_text(north.mapping.read_text().replace("table.csv", "later.csv"))
    third = made.submit(asked("third"))
    until(lambda: north.offered(third), "north is offered it")
    code, said = north.says("approve", "third", "--person", "Vera", "--mapping", extract)
    assert code == 3 and "of the budget of everybody" in said
    assert "a run takes the budget of everybody" in north.command("review", "third")
    assert {one["check"]: one["level"] for one in north.told("doctor")}["budget"] == "ok"


def charges(hospital: Hospital) -> list[bytes]:
    return [bytes(row[0]) for row in hospital.journal("SELECT entry FROM ledger ORDER BY seq")]


@pytest.mark.long
def test_a_restored_older_ledger_trains_nothing_until_a_person_says_what_was_spent(tmp_path: Path) -> None:
    with federation(tmp_path / "federation") as made:
        restored(made, tmp_path / "copy")


def restored(made: Federation, copy: Path) -> None:
    north = made.hospitals["north"]
    plan, other = made.approved(asked("first")), made.approved(asked("second"))
    assert north.process.stop() == 0
    shutil.copytree(north.home, copy)
    north.process.start()
    run = made.start(plan)
    made.compared(run)
    made.until(run, "finished")
    spent = everybody(north)["spent"]
    assert north.process.stop() == 0
    shutil.rmtree(north.home)
    shutil.copytree(copy, north.home)
    assert everybody(north)["spent"] == 0
    north.process.start()
    until(lambda: north.told("budget")["behind"] != "", "it finds out")
    assert f"{ROUNDS} rounds" in north.told("budget")["behind"] and "recount" in north.command("status")
    refused(made, north, other)

    until(lambda: north.journal("SELECT value FROM meta WHERE key = ?", f"run/{run}") != [], "the end has come again")
    found = north.told("recount", "--person", "Vera")
    assert len(found["rounds"]) == ROUNDS and everybody(north)["spent"] == spent
    assert {"ledger-behind", "recounted"} <= kinds(north) and north.told("budget")["behind"] == ""
    assert north.process.stop() == 0
    north.process.start()
    run = made.start(other)
    until(lambda: run in north.told("status")["compare"], "north has forgotten the others' keys, too")
    words = made.hospitals["east"].told("compare", run)["words"]
    north.command("compare", run, "--words", words, "--person", "Vera")
    made.until(run, "finished")
    assert everybody(north)["spent"] > spent
    assert north.process.stop() == 0
    north.process.start()
    made.until(made.start(other), "finished")
    assert north.told("budget")["behind"] == "", "what is all there is found whole"
    audit.verify([bytes(row[0]) for row in north.journal("SELECT entry FROM audit ORDER BY seq")])


def refused(made: Federation, north: Hospital, plan: Plan) -> None:
    run = made.start(plan)
    until(lambda: ("north", "ledger") in made.refusals(plan), "north refuses")
    assert trained(north, run) == 0
    made.owner.connection.post(f"/v1/runs/{run}/stop", {"reason": "not yet"})
