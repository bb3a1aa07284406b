"""What a hospital tells of itself alone: once, rounded, and not where that would show another hospital."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest

from consilium.core.errors import Invalid, NotFound, Unavailable
from consilium.core.ids import Digest, SiteId
from consilium.core.study import Plan
from consilium.governance.declarable import declarable
from consilium.privacy.pairing import Keys, Roster
from consilium.site import declarations, recall, showing
from consilium.site.journal import BEHIND
from consilium.site.outbox import Outbox
from consilium.site.steps import parsed
from consilium.site.worker import TELL_S
from consilium.wire.envelope import payload_of
from consilium.wire.messages import Blob, Ended, Figures
from unit.site.circle import PAIRING, POLICY, Hospital, Relay, circle, secure, step_of
from unit.site.test_ledger import Keeps, copied, restored

FOUR = ("east", "north", "south", "west")
TELLS = POLICY + "release_figures: 1\n"
HALF = {"rounds": 1, "evaluation": {"test_fraction": 0.5}}
NOISED = {"recipe": "secure_sum", "epsilon": 4.0, "delta": 1e-4, "expected_patients": 50, "most_patients": 200}
NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *FOUR) as found:
        yield found


def policies(relay: Relay, telling: tuple[str, ...], more: str = "") -> None:
    for name, hospital in relay.hospitals.items():
        hospital.folder.policy_file.write_text((TELLS if name in telling else POLICY) + more)


def finished(relay: Relay, name: str = "sums", who: tuple[str, ...] = FOUR, late: str = "", **changes: Any) -> Plan:
    """A run of one round, and one that judges; its end was heard, and what follows from that was done.

    Args:    late: the policy of all from the last round on, if it is another then.
    """
    plan = relay.approved(secure(name, **{**HALF, **changes}))
    relay.paired(plan)
    for number in range(1, plan.study.prepares + plan.study.rounds + 1):
        relay.played(plan, number)
    relay.played(plan, plan.study.prepares + plan.study.rounds + 1, who)
    for hospital in relay.hospitals.values() if late else ():
        hospital.folder.policy_file.write_text(late)
    over(relay, plan)
    return plan


def over(relay: Relay, plan: Plan, status: Any = "finished", state: Blob | None = None) -> None:
    run = f"{plan.study.name}-1"
    state = state or relay.states[run, plan.study.prepares + plan.study.rounds]
    for hospital in relay.hospitals.values():
        hospital.told(Ended(study=plan.study.name, run=run, status=status, reason="", state=state))
        hospital.worker._clean()


def said(hospital: Hospital, run: str = "sums-1") -> list[Figures]:
    rows = hospital.journal.rows("SELECT envelope FROM outbox WHERE type = 'figures' AND run = ? ORDER BY id", run)
    return [Figures.decode(payload_of(bytes(row["envelope"]), Figures.TYPE)) for row in rows]


def words(relay: Relay, run: str = "sums-1") -> dict[str, list[str]]:
    return {name: [one.word for one in said(hospital, run)] for name, hospital in relay.hospitals.items()}


def swept(hospital: Hospital) -> None:
    """Begin a pipeline only when what the run's rounds have left was removed, as the agent's other threads do."""
    updates, begin = hospital.worker.updates, hospital.worker.updates._begun

    def late(*given: Any) -> Any:
        begun = begin(*given)
        hospital.states.forget("sums-1", 2)
        return begun

    cast(Any, updates)._begun = late


def every(word: str = "", who: tuple[str, ...] = FOUR) -> dict[str, list[str]]:
    return {name: [word] if word else [] for name in who}


def test_figures_leave_once_and_rounded_where_all_say_so_and_the_log_has_them_first(relay: Relay) -> None:
    policies(relay, FOUR, "own_model: true\n")
    plan = relay.approved(secure("sums", **HALF))
    relay.paired(plan)
    relay.played(plan, 1)
    relay.played(plan, 2)
    for hospital in relay.hospitals.values():
        swept(hospital)
    over(relay, plan)
    assert words(relay) == every("told")
    for name, hospital in relay.hospitals.items():
        (told,) = said(hospital)
        assert (told.site, told.plan, told.state) == (name, plan.digest, relay.states["sums-1", 1].digest)
        row = hospital.journal.row("SELECT figures FROM figures WHERE run = 'sums-1'")
        assert row is not None
        exact = json.loads(row["figures"])
        assert told.positives and told.negatives and told.common and told.own
        here = exact["prevalence"]["value"] * exact["auroc"]["n"]
        assert 0 <= round(here) - told.positives < 10 and 0 <= exact["auroc"]["n"] - round(here) - told.negatives < 10
        assert abs(told.common.auroc - 100 * exact["auroc"]["value"]) <= 0.5 + 1e-9
        assert abs(told.own.auroc - 100 * exact["own/auroc"]["value"]) <= 0.5 + 1e-9
        sent = [one for one in showing.sent(hospital.journal) if one["what"] == "figures"]
        assert [one["run"] for one in sent] == ["sums-1"]
    before = {name: showing.sent(hospital.journal) for name, hospital in relay.hospitals.items()}
    over(relay, plan)  # said again, and after a restart: nothing more is said
    east = relay["east"]
    east.again()
    over(relay, plan)
    assert {name: showing.sent(hospital.journal) for name, hospital in relay.hospitals.items()} == before
    _not_in_other_words(relay, plan)
    _not_of_another_run(east, plan)


@pytest.mark.long
def test_a_personal_model_is_not_told_as_the_common_one_but_beside_it_by_all(relay: Relay) -> None:
    """By all who tell: of it the sum over all is known, too, and one that left it out would show it."""
    policies(relay, FOUR)
    relay["east"].folder.policy_file.write_text(TELLS + "own_model: true\n")
    finished(relay, strategy={"name": "ditto", "options": {"penalty": 0.0}})
    for hospital in relay.hospitals.values():
        (told,) = said(hospital)
        row = hospital.journal.row("SELECT figures FROM figures WHERE run = 'sums-1'")
        assert row is not None and told.common is not None and told.personal is not None
        exact = {key: one["value"] for key, one in json.loads(row["figures"]).items()}
        assert exact["auroc"] != exact["common/auroc"], "both are judged here, whatever is told"
        assert abs(told.common.auroc - 100 * exact["common/auroc"]) <= 0.5 + 1e-9
        assert abs(told.personal.auroc - 100 * exact["auroc"]) <= 0.5 + 1e-9


def test_who_was_in_no_round_of_training_is_in_no_difference_of_two_models(relay: Relay) -> None:
    """A coordinator trains with some and judges with others: whoever has no model of its own adds the same to the sums
    of both, and in their difference are the others alone, fewer than a secure sum opens.
    """
    plan = relay.approved(secure("sums", **HALF, strategy={"name": "ditto", "options": {"penalty": 0.5}}))
    relay.paired(plan)
    relay.played(plan, 1, FOUR[:3])
    became = relay.ask(plan, 2, "READY", FOUR)
    assert became == {**dict.fromkeys(FOUR[:3], "done"), FOUR[3]: "untrained"}


def _not_in_other_words(relay: Relay, plan: Plan) -> None:
    """What was written stands: only for a coordinator that was restored it is sent again, in the same bytes."""
    east, (told,) = relay["east"], said(relay["east"])
    with east.journal.write() as tx:
        declarations.again(tx, NOW)  # it waits to be sent
        tx.do("UPDATE outbox SET status = 'sent' WHERE type = 'figures'")
        assert not declarations.tell(tx, told.model_copy(update={"positives": 990}), b"other", NOW)
        empty = {"positives": np.zeros(5), "negatives": np.zeros(5)}
        declarations.judged(tx, relay.task(plan, 2, "READY", FOUR), plan.study, empty)
        declarations.again(tx, NOW)
        declarations.again(tx, NOW)
    east.worker.declaring.of("sums-1", NOW)
    assert said(east) == [told, told]


def _not_of_another_run(hospital: Hospital, plan: Plan) -> None:
    """Of a plan figures are told once, whatever the policy says; and of as many plans as it says."""
    policy = hospital.folder.policy()
    other = Plan(plan.payload + b" ", Digest(plan.digest[:-1]), plan.study)
    third = Plan(plan.payload + b"  ", Digest(plan.digest[:-2]), plan.study)
    assert not declarations.willing(hospital.journal, policy, other)
    more = policy.model_copy(update={"release_figures": 2})
    assert declarations.willing(hospital.journal, more, other) and not declarations.willing(
        hospital.journal, more, plan
    )
    with hospital.journal.write() as tx:
        declarations.promise(tx, other, "sums-9", hospital.identity, "east", NOW)
    assert declarations.willing(hospital.journal, more, other), (
        "the run for which it was promised, or another of that plan"
    )
    assert not declarations.willing(hospital.journal, more, third), "what was promised counts, whatever came of it"


def test_where_one_is_silent_nobody_tells(relay: Relay) -> None:
    """The sum over all, less what three of four tell, is what the fourth is worth.

    Nor does one tell that changes its mind when the others have counted on it.
    """
    policies(relay, FOUR[:3])
    finished(relay, late=TELLS)
    assert words(relay) == every("withheld")
    assert all(one.common is None for name in FOUR for one in said(relay[name]))


def test_a_silent_one_that_is_missing_in_the_last_round_was_in_sums_at_nearly_that_model(relay: Relay) -> None:
    policies(relay, FOUR[:3])
    finished(relay, who=FOUR[:3], quorum=3)
    assert words(relay) == {**every("withheld", FOUR[:3]), "west": []}


def test_a_coordinator_that_takes_the_silent_one_off_the_roster_hears_nothing(relay: Relay) -> None:
    """The sum over four is opened; then keys are agreed anew among the three that tell."""
    policies(relay, FOUR[:3])
    plan = relay.approved(secure("sums", **HALF, quorum=3))
    relay.paired(plan)
    relay.played(plan, 1)
    relay.played(plan, 2)
    silent = relay.hospitals.pop("west")
    for phase in PAIRING:
        assert set(relay.ask(plan, 0, phase, attempt=2).values()) == {"done"}
    relay.ask(plan, 2, "READY", attempt=2)
    over(relay, plan)
    assert words(relay) == every("withheld", FOUR[:3]) and not said(silent)


def test_who_told_of_another_plan_and_has_used_it_up_is_silent(relay: Relay) -> None:
    """What three told of one plan, and a second over them and a silent one, would show that one by difference."""
    policies(relay, FOUR[:3])
    for name in FOUR[:2]:
        with relay[name].journal.write() as tx:
            tx.do("INSERT INTO promised VALUES ('sha256:before')")
    finished(relay)
    assert words(relay) == every("withheld")
    assert [hospital.count("promised") for hospital in relay.hospitals.values()] == [1, 1, 1, 0]


def test_too_few_is_said_by_those_alone_who_would_tell(relay: Relay) -> None:
    policies(relay, FOUR)
    finished(relay, evaluation={"test_fraction": 0.15})
    assert words(relay) == every("too few")
    assert {one.positives for hospital in relay.hospitals.values() for one in said(hospital)} == {None}


@pytest.mark.parametrize(
    "asked",
    [
        {"privacy": {"recipe": "plain"}},
        {"privacy": NOISED, "training": {"epochs": 1, "learning_rate": 0.5, "seed": 1}},
        {"evaluation": {"folds": 5}},
        {"strategy": {"name": "ifca", "options": {"clusters": 2}}},
    ],
    ids=["plain", "epsilon", "folds", "groups"],
)
def test_of_such_a_study_figures_of_one_hospital_are_never_told(asked: dict[str, Any]) -> None:
    assert declarable(secure("sums"))
    assert not declarable(secure("sums", **asked))


def test_of_a_run_that_is_not_finished_at_the_judged_state_nothing_is_said(relay: Relay) -> None:
    policies(relay, FOUR)
    plan = relay.approved(secure("sums", **HALF))
    relay.paired(plan)
    relay.played(plan, 1)
    relay.played(plan, 2)
    east, true, other = relay["east"], relay.states["sums-1", 1], relay.blob(b"another state")
    for run, status, state in (
        ("sums-1", "finished", other), ("sums-1", "stopped", true), ("sums-1", "failed", true),
        ("sums-2", "finished", true), ("sums-1", "finished", None),
    ):  # fmt: skip
        ended = Ended(study="sums", run=run, status=cast(Any, status), reason="", state=state)
        with east.journal.write() as tx:
            declarations.ended(tx, ended)
        east.worker.declaring.of("sums-1", NOW)
        assert not said(east), (run, status)
    relay["north"].folder.policy_file.write_text(POLICY)  # it was another when keys were agreed
    over(relay, plan)
    assert words(relay) == {**every("told"), "north": ["withheld"]}
    _withdrawn(relay)


def _withdrawn(relay: Relay) -> None:
    """What a policy or an approval that changed keeps back while it waits to be sent; words leave."""
    south, west = relay["south"], relay["west"]
    south.folder.policy_file.write_text(POLICY)
    west.desk.revoke("sums", "Vera", "", datetime.now(UTC))
    for name, may in (("south", False), ("west", False), ("east", True), ("north", True)):
        hospital = relay[name]
        assert may_leave(hospital) is may
        assert hospital.count("outbox WHERE type = 'figures' AND status = 'withdrawn'") == (not may)
    _not_after_it_was_withdrawn(south)
    _nothing_that_cannot_be_read(relay["east"])


def may_leave(hospital: Hospital) -> bool:
    outbox = Outbox(hospital.journal, cast(Any, None), hospital.worker.veto, cast(Any, Event()), cast(Any, Event()))
    row = hospital.journal.row("SELECT * FROM outbox WHERE type = 'figures' ORDER BY id DESC LIMIT 1")
    assert row is not None
    return outbox._may_leave(row)


def _not_after_it_was_withdrawn(hospital: Hospital) -> None:
    """Not for a coordinator that says it was restored, when the policy is what it was before."""
    hospital.folder.policy_file.write_text(TELLS)
    with hospital.journal.write() as tx:
        declarations.again(tx, NOW)
    assert not may_leave(hospital) and hospital.count("outbox WHERE type = 'figures'") == 1


UNREADABLE = {
    "nothing is known of the run": "DELETE FROM declarations",
    "another word is known": "UPDATE declarations SET word = 'withheld', envelope = x'7b7d'",
    "it was never told": "UPDATE declarations SET word = '', envelope = NULL",
    "the task is gone": "DELETE FROM tasks",
    "the task is damaged": "UPDATE tasks SET payload = x'7b7d'",
    "the plan is gone": "DELETE FROM studies",
    "what waits is no such message": "UPDATE outbox SET envelope = x'7b7d' WHERE type = 'figures'",
    "more was promised than may be": "INSERT INTO promised VALUES ('sha256:other')",
}


def _nothing_that_cannot_be_read(hospital: Hospital) -> None:
    """Whatever of the journal or the policy cannot be read lets no number leave, and a word only if it is one."""
    policy = hospital.folder.policy_file
    for name, damage in UNREADABLE.items():
        assert may_leave(hospital), name
        with copied_back(hospital):
            with hospital.journal.write() as tx:
                tx.do(damage)
            assert not may_leave(hospital), name
            assert hospital.count("outbox WHERE type = 'figures' AND status = 'withdrawn'") == 1, name
    with copied_back(hospital):
        policy.write_text("policy: [")
        assert not may_leave(hospital)
    policy.write_text(TELLS)
    assert may_leave(hospital)


@contextmanager
def copied_back(hospital: Hospital) -> Iterator[None]:
    """What happens to the journal meanwhile is undone afterwards."""
    copy = copied(hospital, hospital.folder.home / "before")
    yield
    restored(hospital, copy)


def watched(hospital: Hospital) -> Keeps:
    """From now on the hospital asks a coordinator whether its journal was restored, as the agent does."""
    keeps = Keeps(hospital)
    hospital.worker.veto.ledger.recall = keeps.recall().look
    return keeps


def declares(relay: Relay, name: str) -> tuple[Plan, bool]:
    """Whether east says with its keys that it will tell figures, in a run of a new study."""
    plan = relay.approved(secure(name, **HALF))
    assert relay.ask(plan, 0, "KEYS", ("east",)) == {"east": "done"}
    said = [step_of(data) for data in relay["east"].sent("KEYS")]
    (mine,) = (parsed(step, Keys) for step in said if step.run == f"{name}-1")
    return plan, mine.declares


def test_a_journal_that_was_restored_from_an_older_copy_tells_nothing_more(relay: Relay, tmp_path: Path) -> None:
    """It has forgotten what was promised and told: it would tell of one plan more, or of the same once more.

    First the attack, with a coordinator that hides what it keeps; then one that shows it.
    """
    policies(relay, FOUR)
    east = relay["east"]
    keeps, copy = watched(east), copied(east, tmp_path / "copy")
    plan, told = declares(relay, "sums")
    assert told and declares(relay, "second")[1] is False
    sent = east.journal.rows("SELECT envelope FROM outbox WHERE type = 'checkpoint' ORDER BY id")
    keeps.heads = [json.loads(bytes(row["envelope"])) for row in sent[:1]]  # that with which it was promised
    restored(east, copy)
    assert declares(relay, "hidden")[1], "the attack: the policy says of one plan, and these are two"
    restored(east, copy)
    watched(east).heads = keeps.heads
    assert not declares(relay, "shown")[1] and east.journal.meta(BEHIND)
    policy = east.folder.policy()
    assert not declarations.willing(east.journal, policy, plan) and declarations.others(east.journal, plan) is None

    recall.recount(east.journal, "Vera", NOW)
    assert not declarations.willing(east.journal, policy, plan), "what was spent was said; how often was told was not"
    declarations.counted(east.journal, 2, "Vera", NOW)
    more = policy.model_copy(update={"release_figures": 3})
    assert not declarations.willing(east.journal, policy.model_copy(update={"release_figures": 2}), plan)
    assert declarations.willing(east.journal, more, plan), "two of which it said so, and one more"
    declarations.forget(east.journal)
    assert not declarations.willing(east.journal, more, plan), "who restores a copy says so, whatever was noticed"
    for wrong in ((-1, "Vera"), (1, " "), (2000, "Vera")):
        with pytest.raises(Invalid):
            declarations.counted(east.journal, *wrong, NOW)


def test_who_cannot_ask_whether_it_was_restored_says_it_later_and_then_that_it_tells_nothing(relay: Relay) -> None:
    policies(relay, FOUR)
    plan = relay.approved(secure("sums", **HALF))
    relay.paired(plan)
    relay.played(plan, 1)
    relay.played(plan, 2)
    east = relay["east"]

    def away(now: datetime) -> None:
        raise Unavailable("the coordinator does not answer")

    east.worker.veto.ledger.recall = away
    declarations.forget(relay["north"].journal)  # it was found since keys were agreed
    late = {**every("told"), "north": ["withheld"]}
    with mock.patch.object(east.worker.stop, "wait"):
        over(relay, plan)
        assert words(relay) == {**late, "east": []} and east.count("epochs") == 1, "it waits"
        east.worker._waited = TELL_S
        east.worker._clean()
    assert words(relay) == {**late, "east": ["withheld"]} and east.count("epochs") == 0, "and not for ever"
    with pytest.raises(Unavailable):
        east.pairing._tells(east.folder.policy().model_copy(update={"release_figures": 9}), moved(plan))
    east.worker.veto.ledger.recall = older
    assert not east.pairing._tells(east.folder.policy().model_copy(update={"release_figures": 9}), moved(plan))


def older(now: datetime) -> None:
    """A coordinator of a release that keeps no record."""
    raise NotFound("there is no such page")


def moved(plan: Plan) -> Plan:
    return Plan(plan.payload + b" ", Digest(plan.digest[:-1]), plan.study)


def keys(name: str, declares: bool) -> Keys:
    return Keys(
        study="s-1", epoch=1, site=name, identity=name, x25519=bytes(32), mlkem768=bytes(1184), nonce_hash=bytes(32),
        declares=declares,
    )  # fmt: skip


@pytest.mark.parametrize("silent", range(8))
def test_nobody_in_the_sums_is_silent_or_off_the_roster(silent: int) -> None:
    roster = Roster(tuple(keys(f"site-{number}", number >= silent) for number in range(8)))
    assert roster.all_declare(roster.sites) is (silent == 0)
    assert roster.all_declare(roster.sites[silent:]) and not roster.all_declare([*roster.sites[silent:], SiteId("zoe")])
    assert ("declares" in keys("a", True).model_dump()) and "declares" not in keys("a", False).model_dump()
