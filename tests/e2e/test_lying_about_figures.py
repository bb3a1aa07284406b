"""A coordinator that lies to hear what a model is worth at one hospital: over HTTPS, on the agents that are shipped.

East, north and south would tell figures of themselves, and west would not; then all would. What a hospital says of
itself alone is a message of its own (`Figures`): all that ever came of these is looked at.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Checkpoint, Ended, Figures
from e2e.federation import POLICY, study
from e2e.lying import HOSPITALS, SECURE, Liar, Play, forged, lying, message
from e2e.processes import until

pytestmark = pytest.mark.long
REST = HOSPITALS[:3]
HALF: dict[str, Any] = {"rounds": 1, "evaluation": {"test_fraction": 0.5}}


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    with lying(tmp_path_factory.mktemp("figures")) as made:
        yield made


def policies(liar: Liar, plans: int, west: int) -> None:
    for name, hospital in liar.hospitals.items():
        hospital.policy(POLICY + f"release_figures: {west if name == 'west' else plans}\n")


def judged(liar: Liar, name: str, number: int = 1) -> Play:
    """A run whose final model was judged by all, as an honest coordinator does it; its end is not told yet."""
    made = Play(liar, liar.approved(study(name, **SECURE, **HALF)), f"{name}-{number}", HOSPITALS)
    made.paired()
    for at in (1, 2):
        made.through("UNMASK", at, 1)
        sums = made.opened(at, 1)
        if at == 1:
            made.advanced(1, sums)
    return made


def ended(made: Play, state: Blob, status: Any = "finished") -> None:
    for site in made.sites:
        told = Ended(study=made.plan.study.name, run=made.run, status=status, reason="", state=state)
        made.liar.post(site, told)


def figures(liar: Liar) -> list[tuple[str, str, str]]:
    """(site, run, word) of all that came."""
    return [(site, one.run, one.word) for site, one, _ in liar.sent if isinstance(one, Figures)]


def removed(liar: Liar, run: str, sites: tuple[str, ...] = HOSPITALS) -> None:
    """Wait until hospitals have said what they say of a run, and removed its files."""
    done = "SELECT value FROM meta WHERE key = ?"
    for site in sites:
        hospital = liar.hospitals[site]
        until(lambda hospital=hospital: hospital.journal(done, f"run/{run}") == [("removed",)], f"{run} ends at {site}")  # type: ignore[misc]


def declare(made: Play, attempt: int = 1) -> dict[str, bool]:
    """Who says with keys that it will tell."""
    return {site: message(one).declares for site, one in made.heard[0, attempt, "KEYS"].items()}


def test_the_figures_of_a_silent_hospital_and_of_those_beside_it_are_told_by_nobody(liar: Liar) -> None:
    policies(liar, 2, 0)
    made = judged(liar, "beside")
    assert declare(made) == {**dict.fromkeys(REST, True), "west": False}

    # (1) a roster on which west says that it tells: nobody signed that
    thief = Identity.create(liar.folder / "thief.key")
    lie = Play(liar, made.plan, "beside-2", HOSPITALS)
    lie.ask("KEYS", 0, 1)
    found = lie.ask("PAIR", 0, 1, REST, lambda _, said: {**said, "west": forged(said["west"], thief, declares=True)})
    assert set(found.values()) == {"forged"}

    # (2) keys are agreed anew, without the silent one, when the sum over all four is open; and the end is told
    made.sites = made.cohort = REST
    made.paired(2)
    made.ask("READY", 2, 2)
    ended(made, made.states[1])
    removed(liar, made.run, REST)
    assert figures(liar) == [(site, made.run, "withheld") for site, _, _ in figures(liar)]
    assert {site for site, _, _ in figures(liar)} == set(REST)

    # (3) asked again, by the end and by the task of a run that is over
    ended(made, made.states[1])
    for site in REST:
        liar.post(site, made.task("READY", 2, 3))
    made.answers(0, "READY", 2, 3, REST)
    assert len(figures(liar)) == len(REST)


def test_where_all_tell_each_is_heard_once_and_of_the_judged_state_alone(liar: Liar) -> None:
    policies(liar, 3, 1)
    before = len(figures(liar))
    made = judged(liar, "all")
    assert set(declare(made).values()) == {True}
    ended(made, liar.keep(b"another state"))  # of a model of which no sum was opened nobody says anything
    removed(liar, made.run)
    assert figures(liar)[before:] == []

    made = Play(liar, liar.approved(study("told", **SECURE, **HALF)), "told-1", HOSPITALS)
    made.ask("KEYS", 0, 1)
    assert declare(made) == {**dict.fromkeys(REST, True), "west": False}, "west promised for a run that came to nothing"
    policies(liar, 4, 2)
    made = judged(liar, "true")
    ended(made, made.states[1])
    liar.until(lambda: len(figures(liar)) - before == len(HOSPITALS), "everybody tells")
    assert {(run, word) for _, run, word in figures(liar)[before:]} == {(made.run, "told")}
    ended(made, made.states[1])
    removed(liar, made.run)
    again = Play(liar, made.plan, "true-2", HOSPITALS)
    again.paired()
    assert set(declare(again).values()) == {False}, "of a plan once"
    assert len(figures(liar)) - before == len(HOSPITALS)


def test_a_journal_that_was_restored_promises_nothing_where_its_own_signature_is_shown(liar: Liar) -> None:
    """The backup is from before a promise. A coordinator that hides what it keeps is told once more: the control."""
    policies(liar, 5, 3)
    east = liar.hospitals["east"]
    plans = [liar.approved(study(name, **SECURE, **HALF)) for name in ("one", "two", "three")]
    assert east.process.stop() == 0
    backup = east.home.with_name("backup")
    shutil.copytree(east.home, backup, ignore=shutil.ignore_patterns("agent.bell"))
    east.process.start()
    mark = len(liar.inboxes["east"])
    one = Play(liar, plans[0], "one-1", HOSPITALS)
    one.ask("KEYS", 0, 1)
    assert declare(one)["east"]
    kept = [envelope for site, told, envelope in liar.sent if site == "east" and isinstance(told, Checkpoint)]
    for plan, shown, tells in ((plans[1], [], True), (plans[2], kept, False)):
        assert east.process.stop() == 0
        del liar.inboxes["east"][mark:]
        shutil.rmtree(east.home)
        shutil.copytree(backup, east.home)
        liar.record = shown
        east.process.start()
        two = Play(liar, plan, f"{plan.study.name}-1", HOSPITALS)
        two.ask("KEYS", 0, 1, ("east",))
        assert declare(two)["east"] is tells
    assert "recount" in east.command("status")
    assert "journal was restored from an older copy, and nobody said" in east.command("review", "three")
    assert "until you say with --figures" in east.command("recount", "--person", "Vera")
    assert "journal was restored from an older copy, and nobody said" in east.command("review", "three")
    assert "--figures" not in east.command("recount", "--person", "Vera", "--figures", "2")
    assert "it was said for 6 other plans before" in east.command("review", "three"), "four that it knows of, and two"
