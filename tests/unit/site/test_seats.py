"""READY to UNMASK at hospitals with a coordinator that lies between them: each lie is refused by its reason."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.errors import NotFound, Refused
from consilium.core.ids import Digest, digest
from consilium.core.study import Plan
from consilium.core.tensors import from_safetensors, to_safetensors, unflatten
from consilium.privacy.secagg import Ready
from consilium.site import showing
from consilium.site.checking import Checking
from consilium.site.outbox import Outbox, Outgoing
from consilium.site.steps import parsed
from consilium.wire.envelope import seal
from consilium.wire.messages import Ended, Reopened, Step, Task
from unit.site.circle import POLICY, SEALED, Envelopes, Hospital, Relay, circle, secure, step_of

FOUR = ("east", "north", "south", "west")
PATH: dict[str, Any] = {
    "strategy": {"name": "newton-path", "options": {"penalties": [{"l1": 0.3}, {"l2": 0.1}]}},
    "evaluation": {"test_fraction": 0.05},
}
"""A study that sums at several models at once."""


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *FOUR) as found:
        yield found


def begun(relay: Relay, name: str = "sums", **changes: Any) -> Plan:
    """A plan that all approve, and its round 0."""
    plan = relay.approved(secure(name, **changes))
    relay.paired(plan)
    return plan


def until(relay: Relay, plan: Plan, phase: str, number: int = 1, **changes: Any) -> None:
    """An honest round, up to and with this phase."""
    for one in SEALED[: SEALED.index(phase) + 1]:
        assert set(relay.ask(plan, number, one, **changes).values()) == {"done"}, one


def everybody(word: str) -> dict[str, str]:
    return dict.fromkeys(FOUR, word)


def test_a_run_is_the_sum_over_hospitals_and_leaves_nothing_readable_behind(relay: Relay) -> None:
    """The state of each round is that of a plain sum to the encoding's step; updates end with their round."""
    plan = begun(relay)
    for number in (1, 2, 3):
        for phase in ("READY", "MASK"):
            relay.ask(plan, number, phase)
        single = [
            chain.read(h.folder.run("sums-1") / f"update-{number}.safetensors").arrays for h in relay.hospitals.values()
        ]
        wanted = {name: sum(np.array(one[name]) for one in single) for name in single[0]}
        for phase in ("CONFIRM", "UNMASK"):
            assert relay.ask(plan, number, phase) == everybody("done")
        relay.opened(plan, number)
        found = chain.read(relay.file(relay.sums["sums-1", number])).arrays
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
        relay.closed(plan, number, FOUR)
        for hospital in relay.hospitals.values():
            left = [path.name for path in hospital.folder.run("sums-1").iterdir()]
            assert not [name for name in left if name.startswith(("update", "masked"))], left
            assert hospital.count("small WHERE path LIKE '%update%' OR path LIKE '%masked%'") == 0
            assert hospital.count("(SELECT DISTINCT run, round FROM openings)") == number
            assert hospital.count("chains WHERE opening = ?", number - 1) == 3
    with pytest.raises(Refused, match="it is past"):
        relay["east"].pairing.keys("sums-1", 1)


def test_what_leaves_is_listed_and_the_update_is_not_among_it(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "UNMASK")
    hospital = relay["north"]
    row = hospital.journal.row("SELECT digest FROM answers")
    told = {one["digest"] for one in showing.sent(hospital.journal)}
    masked = step_of(hospital.sent("MASK")[0]).vector
    assert row is not None and masked is not None
    assert masked.digest in told and row["digest"] not in told
    phases = [one["phase"] for one in showing.sent(hospital.journal) if one["what"] == "step"]
    assert phases == ["KEYS", "PAIR", "PROVE", *SEALED]


def test_a_step_that_another_key_signed_is_refused(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    relay.lie = lambda to, phase, said: {**said, "south": relay.forged(said["south"], nonce="00" * 32)}
    assert relay.ask(plan, 1, "MASK") == everybody("forged")


def test_what_was_said_in_another_attempt_or_by_another_hospital_is_refused(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    earlier = dict(relay.said["sums-1", 1, 1, "READY"])
    until(relay, plan, "READY", attempt=2)
    relay.lie = lambda to, phase, said: {**said, "south": earlier["south"]}
    assert relay.ask(plan, 1, "MASK", ("east", "north"), attempt=2) == {"east": "forged", "north": "forged"}
    relay.lie = lambda to, phase, said: {**said, "south": said["west"]}
    assert relay.ask(plan, 1, "MASK", ("south",), attempt=2) == {"south": "forged"}
    relay.lie = lambda to, phase, said: {**said, "sybil": said["south"]}
    assert relay.ask(plan, 1, "MASK", ("west",), attempt=2) == {"west": "roster"}


def test_no_hospital_speaks_in_the_name_of_another(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    step = step_of(relay["south"].sent("READY")[0])
    in_its_name: dict[str, Any] = {"body": {**step.body, "site": "west"}}
    for changes in (in_its_name, {"plan": plan.study.model.initial}, {"study": "another"}, {"kind": "EVALUATE"}):
        other = step.model_copy(update=changes)
        signed = json.loads(seal(Step.TYPE, other.encode(), relay["south"].identity))
        shown = {**{n: one for n, one in relay.said["sums-1", 1, 1, "READY"].items() if n != "west"}, "south": signed}
        relay.lie = lambda to, phase, said, shown=shown: shown  # type: ignore[misc]
        assert relay.ask(plan, 1, "MASK", ("east",)) == {"east": "forged"}, changes


def test_a_roll_call_without_enough_or_without_us_is_refused(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    relay.lie = lambda to, phase, said: {name: said[name] for name in ("east", "north")}
    assert relay.ask(plan, 1, "MASK", ("east",)) == {"east": "roll-call"}
    relay.lie = lambda to, phase, said: {name: one for name, one in said.items() if name != to}
    assert relay.ask(plan, 1, "MASK", ("north",)) == {"north": "roll-call"}


def test_two_sets_of_survivors_open_nothing(relay: Relay) -> None:
    """The coordinator calls south lost to one half and west lost to the other: both halves confirm, nobody opens."""
    plan = begun(relay)
    until(relay, plan, "MASK")
    lost = {"east": "south", "north": "south", "south": "west", "west": "south"}

    def lie(to: str, phase: str, said: Envelopes) -> Envelopes:
        return {name: one for name, one in said.items() if phase != "MASK" or name != lost[to]}

    relay.lie = lie
    assert relay.ask(plan, 1, "CONFIRM", ("east", "north", "south")) == dict.fromkeys(
        ("east", "north", "south"), "done"
    )
    became = relay.ask(plan, 1, "UNMASK", ("east", "north", "south"))
    assert became == dict.fromkeys(("east", "north", "south"), "proofs")
    assert all(hospital.count("openings") == 0 for hospital in relay.hospitals.values())


def test_other_survivors_than_were_confirmed_are_not_opened_after_a_restart(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "CONFIRM")
    relay["east"].again()
    relay.lie = lambda to, phase, said: {n: one for n, one in said.items() if phase != "MASK" or n != "west"}
    assert relay.ask(plan, 1, "UNMASK", ("east",)) == {"east": "proofs"}


def test_survivors_need_our_own_vector(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "MASK")
    relay.lie = lambda to, phase, said: {name: one for name, one in said.items() if name != to}
    assert relay.ask(plan, 1, "CONFIRM") == everybody("survivors")


def test_a_round_is_opened_once(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "UNMASK")
    assert relay.ask(plan, 1, "READY", attempt=2) == everybody("replayed")


def test_an_older_attempt_is_void_once_a_newer_was_answered(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    until(relay, plan, "READY", attempt=2)
    assert relay.ask(plan, 1, "MASK", attempt=1) == everybody("replayed")
    assert relay.ask(plan, 1, "MASK", attempt=2) == everybody("done")


def test_the_same_task_gets_the_same_bytes_and_another_attempt_other_masks(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "UNMASK")
    for phase in SEALED:
        relay.ask(plan, 1, phase)
        first, second = relay["east"].sent(phase)
        assert first == second


def test_masks_of_two_attempts_differ(relay: Relay) -> None:
    plan = begun(relay)
    vectors = []
    for attempt in (1, 2):
        until(relay, plan, "MASK", attempt=attempt)
        vectors.append(step_of(relay["east"].sent("MASK", attempt)[0]).vector)
    assert vectors[0] != vectors[1]


@pytest.mark.parametrize("cohort", [("east", "north"), ("east", "north", "south"), (*FOUR, "sybil")])
def test_another_cohort_is_refused(relay: Relay, cohort: tuple[str, ...]) -> None:
    plan = begun(relay)
    assert relay.ask(plan, 1, "READY", cohort=cohort) == everybody("roster")


def test_another_state_is_refused_before_anything_is_trained(relay: Relay) -> None:
    plan = begun(relay)
    other = relay.blob(b"another state")
    assert relay.ask(plan, 1, "READY", state=other) == everybody("state-mismatch")
    assert not list(relay["east"].folder.run("sums-1").glob("update*"))
    until(relay, plan, "MASK")
    assert relay.ask(plan, 1, "CONFIRM", state=other) == everybody("state-mismatch")


def test_a_hospital_that_asks_for_more_hospitals_since_takes_no_part(relay: Relay) -> None:
    plan = begun(relay)
    relay["east"].folder.policy_file.write_text("policy: 1\nmin_patients: 10\nmin_sites: 5\n")
    assert relay.ask(plan, 1, "READY", ("east", "north")) == {"east": "roster", "north": "done"}


def test_more_patients_than_the_sum_has_room_for_are_refused(relay: Relay) -> None:
    plan = begun(relay, privacy={"recipe": "secure_sum", "most_patients": 79})
    assert relay.ask(plan, 1, "READY") == everybody("too-many-patients")


def test_without_keys_no_round_begins_and_after_the_end_none_does(relay: Relay) -> None:
    plan, plain = relay.approved(secure("sums")), relay.approved(secure("open", privacy={"recipe": "plain"}))
    assert relay.ask(plan, 1, "READY") == everybody("pairing")
    relay.paired(plan)
    for hospital in relay.hospitals.values():
        for name in ("sums", "open"):
            hospital.told(Ended(study=name, run=f"{name}-1", status="stopped", reason="", state=None))
        hospital.worker._clean()
    for phase, number in (("READY", 1), ("KEYS", 0)):
        assert relay.ask(plan, number, phase) == everybody("replayed")
    assert relay.ask(plain, 1, "SUBMIT") == everybody("replayed"), "nor is anything trained that nobody would clear"
    assert not any((hospital.folder.work / "open-1").exists() for hospital in relay.hospitals.values())
    restored = Reopened(
        by="root", at=datetime.now(UTC), seq=1, head=digest(b"a head"), kept=0, runs=("open-1", "sums-1")
    )
    for hospital in relay.hospitals.values():
        hospital.told(restored)  # from before they ended
    assert relay.ask(plain, 1, "SUBMIT") == everybody("done"), "what was sent is made again, and is the same"
    assert relay.ask(plan, 1, "READY") == everybody("replayed"), "of secure sums nothing is there any more"


def again(relay: Relay, name: str, **changes: Any) -> Plan:
    """Another study with the same patients, at the same model."""
    return begun(relay, name, **changes)


def test_a_sum_over_almost_the_same_hospitals_at_one_model_is_not_opened(relay: Relay) -> None:
    """Across studies, whatever the learning rate: their difference would show the hospital that is missing."""
    relay.played(begun(relay), 1)
    plan = again(relay, "second", training={"epochs": 2, "learning_rate": 0.25, "seed": 1})
    three = ("east", "north", "south")
    assert relay.ask(plan, 1, "READY", three) == dict.fromkeys(three, "done")
    assert relay.ask(plan, 1, "MASK", three) == dict.fromkeys(three, "difference")
    relay.played(again(relay, "third"), 1)


def test_nor_is_a_sum_that_prepares_inputs_whatever_the_model_is(relay: Relay) -> None:
    """It is of no model and of no label: another study's first model and steps do not make it another sum."""
    relay.played(begun(relay, prepare={"numbers": "standardise"}), 1)
    three, other = ("east", "north", "south"), {"kind": "torch", "architecture": "mlp"}
    plan = again(relay, "second", prepare={"numbers": "standardise", "bins": {"x": 4}}, model=other)
    assert relay.ask(plan, 1, "READY", three) == dict.fromkeys(three, "done")
    assert relay.ask(plan, 1, "MASK", three) == dict.fromkeys(three, "difference")
    relay.played(again(relay, "third", prepare={"numbers": "standardise"}), 1)


def test_nor_is_one_at_any_of_the_models_of_a_path(relay: Relay, tmp_path: Path) -> None:
    """A study sums at many models at once; another one cannot begin at one of them with almost the same hospitals."""
    path = begun(relay, **PATH)
    relay.played(path, 1)
    state = chain.read(relay.file(relay.states["sums-1", 1])).arrays
    models = state["models"].reshape(-1, state["model"].size)
    relay.played(path, 2)
    other = next(model for model in models if not np.array_equal(model, state["model"]))
    given = tmp_path / "given.safetensors"
    given.write_bytes(to_safetensors(unflatten(np.array(other), from_safetensors(relay.blobs[relay.initial.digest]))))
    begins = {"kind": "logistic", "start": "given", "untied": True}
    plan = relay.approved(secure("second", model=begins, strategy={"name": "newton"}), given)
    relay.paired(plan)
    three = ("east", "north", "south")
    assert relay.ask(plan, 1, "READY", three) == dict.fromkeys(three, "done")
    assert relay.ask(plan, 1, "MASK", three) == dict.fromkeys(three, "difference")


def test_nor_when_one_is_lost_after_it_has_masked(relay: Relay) -> None:
    relay.played(begun(relay), 1)
    plan, three = again(relay, "second"), ("east", "north", "south")
    until(relay, plan, "MASK")
    relay.lie = lambda to, phase, said: {name: one for name, one in said.items() if name != "west" or phase != "MASK"}
    assert relay.ask(plan, 1, "CONFIRM", three) == dict.fromkeys(three, "done")
    assert relay.ask(plan, 1, "UNMASK", three) == dict.fromkeys(three, "difference")


def opened_to_all(relay: Relay, who: tuple[str, ...]) -> Plan:
    """A study under `plain`, at the first model of the others, of which these have answered the first round."""
    plan = relay.approved(secure("open", privacy={"recipe": "plain"}))
    relay.submitted(plan, 1, who)
    return plan


def test_what_some_showed_alone_is_not_taken_off_a_sum_with_others_who_did_not(relay: Relay) -> None:
    """Nobody here has done wrong: three take part in a pilot under `plain`, and west wants its update hidden."""
    plan, three = begun(relay), FOUR[:3]
    until(relay, plan, "READY")
    open_ = opened_to_all(relay, three)
    assert relay.ask(plan, 1, "MASK", three) == dict.fromkeys(three, "difference"), "they had said that they had not"
    until(relay, plan, "READY", attempt=2)
    assert relay.ask(plan, 1, "MASK", attempt=2) == everybody("difference")
    assert relay.ask(open_, 1, "SUBMIT", ("west",), cohort=()) == {"west": "done"}
    relay.closed(open_, 1, FOUR, to=("west",))
    until(relay, plan, "UNMASK", attempt=3)  # where all have shown theirs, it hides nothing


def test_what_was_made_too_late_and_never_left_was_not_shown(relay: Relay) -> None:
    """West is slow: the others' pilot closes while it trains. The sum over all, less these three, would be its own."""
    plan = begun(relay)
    open_, west = opened_to_all(relay, FOUR[:3]), relay["west"]
    made = west.worker.updates.of

    def slowly(*given: Any) -> Any:
        relay.closed(open_, 1, FOUR[:3], to=("west",))
        return made(*given)

    with mock.patch.object(west.worker.updates, "of", slowly):
        assert relay.ask(open_, 1, "SUBMIT", ("west",), cohort=()) == {"west": "over"}
    until(relay, plan, "READY")
    assert [parsed(step_of(relay[name].sent("READY")[0]), Ready).shown for name in FOUR] == [True, True, True, False]
    assert relay.ask(plan, 1, "MASK") == everybody("difference")


def test_an_update_that_is_the_answer_to_a_later_round_is_of_the_model_before(relay: Relay) -> None:
    """Under `fedbuff` what comes too late is sent in the next round: west's part at that model stays unseen."""
    plan = begun(relay)
    strategy = {"name": "fedbuff", "options": {"enough": 3}}
    open_ = relay.approved(secure("open", rounds=3, privacy={"recipe": "plain"}, strategy=strategy))
    relay.submitted(open_, 1, FOUR[:3])
    west = relay["west"]
    made = west.worker.updates.of

    def slowly(*given: Any) -> Any:
        relay.closed(open_, 1, FOUR[:3], to=("west",))
        return made(*given)

    with mock.patch.object(west.worker.updates, "of", slowly):
        assert relay.ask(open_, 1, "SUBMIT", ("west",), cohort=()) == {"west": "over"}
    rounds = "(SELECT DISTINCT round FROM openings)"
    assert (west.count(rounds), west.count("shown")) == (1, 0), "it will leave"
    assert relay["north"].count("shown") and west.count("shown") == 0
    assert relay.ask(plan, 1, "READY", ("west",)) == {"west": "difference"}
    assert relay.ask(open_, 2, "SUBMIT", ("west",), cohort=()) == {"west": "done"}
    assert (west.count(rounds), west.count("shown")) == (2, 0)


@pytest.mark.parametrize(
    "became",
    ["late", pytest.param("withdrawn", marks=pytest.mark.long), pytest.param("refused", marks=pytest.mark.long)],
)
def test_what_may_have_left_is_neither_shown_nor_hidden(relay: Relay, became: str) -> None:
    """Some of it may have: west says neither, and takes part in no sum at this model, with whomever."""
    plan = begun(relay)
    open_, west = opened_to_all(relay, FOUR[:3]), relay["west"]
    assert relay.ask(open_, 1, "SUBMIT", ("west",), cohort=()) == {"west": "done"}
    with west.journal.write() as tx:
        assert tx.do("UPDATE outbox SET status = ? WHERE type = 'answer' AND status = 'waiting'", became) == 1
    assert relay.ask(plan, 1, "READY", ("north", "west")) == {"north": "done", "west": "difference"}


@pytest.mark.long
def test_of_several_models_all_were_shown_alone_or_none(relay: Relay, tmp_path: Path) -> None:
    """One word of READY stands for all models of a round: at the others, nothing of these hospitals is known."""
    path = begun(relay, **PATH)
    relay.played(path, 1)
    arrays = chain.read(relay.file(relay.states["sums-1", 1])).arrays
    one = next(one for one in arrays["models"].reshape(-1, arrays["model"].size) if np.count_nonzero(one) > 1)
    given = tmp_path / "given.safetensors"
    given.write_bytes(to_safetensors(unflatten(np.array(one), from_safetensors(relay.blobs[relay.initial.digest]))))
    alone = secure(
        "open",
        model={"kind": "logistic", "start": "given", "untied": True},
        strategy={"name": "newton"},
        privacy={"recipe": "plain"},
    )
    relay.submitted(relay.approved(alone, given), 1)
    relay.initial = relay.blob(relay.blobs[path.study.model.initial or ""])
    assert relay.ask(path, 2, "READY") == everybody("difference")


@pytest.mark.long
def test_what_was_hidden_in_a_sum_is_not_shown_alone_afterwards(relay: Relay) -> None:
    relay.played(begun(relay), 1)
    open_ = relay.approved(secure("open", privacy={"recipe": "plain"}))
    assert relay.ask(open_, 1, "SUBMIT", cohort=()) == everybody("difference")
    assert not relay["east"].journal.rows("SELECT id FROM outbox WHERE type = 'answer'")


@pytest.mark.long
def test_nor_is_a_sum_opened_after_what_was_shown_since_it_was_masked(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "CONFIRM")
    opened_to_all(relay, FOUR)
    assert relay.ask(plan, 1, "UNMASK") == everybody("difference")
    assert relay["east"].count("openings WHERE run = 'sums-1'") == 0


def test_a_sum_that_another_run_has_made_solvable_since_is_neither_confirmed_nor_opened(relay: Relay) -> None:
    """West is called lost. While this run waits, another run of the study opens a sum over all four."""

    def opened_elsewhere(hospital: Hospital) -> None:
        row = hospital.journal.row("SELECT about FROM seats LIMIT 1")
        about = json.loads(row["about"]) if row else {}
        with hospital.journal.write() as tx:
            tx.do(
                "INSERT INTO openings (run, round, model, source, objective, sites, study)"
                " VALUES ('sums-2', 1, 'another', ?, ?, ?, 'sums')",
                about["source"], about["objective"], json.dumps(FOUR),
            )  # fmt: skip

    for hospital in relay.hospitals.values():
        hospital.folder.policy_file.write_text(POLICY + "changing_rosters: refuse\n")
    plan, three = begun(relay), FOUR[:3]
    lost = lambda to, phase, said: {n: one for n, one in said.items() if phase != "MASK" or n != "west"}  # noqa: E731
    until(relay, plan, "MASK")
    relay.lie = lost
    assert relay.ask(plan, 1, "CONFIRM", three) == dict.fromkeys(three, "done")
    for name in three:
        opened_elsewhere(relay[name])
    assert relay.ask(plan, 1, "UNMASK", three) == dict.fromkeys(three, "rosters")
    relay.lie = lambda to, phase, said: said
    until(relay, plan, "MASK", attempt=2)
    relay.lie = lost
    assert relay.ask(plan, 1, "CONFIRM", three, attempt=2) == dict.fromkeys(three, "rosters")


def test_no_round_goes_on_over_fewer_than_the_approved_plans_quorum(relay: Relay) -> None:
    """Three of four would open the sum, and the plan that everybody approved says four."""
    plan, three = begun(relay, quorum=4), FOUR[:3]
    until(relay, plan, "READY")
    fewer = lambda to, phase, said: {name: one for name, one in said.items() if name != "west"}  # noqa: E731
    relay.lie = fewer
    assert relay.ask(plan, 1, "MASK", three) == dict.fromkeys(three, "quorum")
    relay.lie = lambda to, phase, said: said
    until(relay, plan, "MASK", attempt=2)
    relay.lie = fewer
    assert relay.ask(plan, 1, "CONFIRM", three, attempt=2) == dict.fromkeys(three, "quorum")
    relay["west"].seats.updates = cast(Any, None)
    five = Plan.of(plan.study.model_copy(update={"quorum": 5}))
    with pytest.raises(Refused, match="a quorum of 5"):  # keys that were agreed before anybody asked for a quorum
        relay["west"].seats.step(
            relay.task(plan, 1, "READY", FOUR, attempt=3), cast(Any, None), five, datetime.now(UTC)
        )


def test_one_that_missed_rounds_computes_them_from_the_sums_that_their_closings_name(relay: Relay) -> None:
    plan, three = begun(relay, rounds=3), ("east", "north", "south")
    relay.played(plan, 1, three)
    relay.played(plan, 2, three)
    relay.played(plan, 3)
    kinds = [json.loads(entry) for entry in relay["west"].journal.entries()]
    assert [one["body"]["how"] for one in kinds if one["kind"] == "state"] == ["computed"]
    assert len(list(relay["west"].folder.run("sums-1").glob("state-*"))) == 1


def test_vectors_of_rounds_that_it_missed_may_be_gone_those_of_the_newest_may_not(relay: Relay) -> None:
    plan, three = begun(relay, rounds=3), ("east", "north", "south")
    relay.played(plan, 1, three)
    relay.played(plan, 2, three)
    asked: list[int] = []

    def gone(task: Task, plan: Plan, number: int, before: Path, named: Digest, into: Path) -> bytes | None:
        asked.append(number)
        if number in missing:
            raise NotFound("its vectors are dropped")
        return None

    relay["west"].states.check = gone
    missing = {2}
    assert relay.ask(plan, 3, "READY", ("west",)) == {"west": "not-found"}
    missing = {1}
    assert relay.ask(plan, 3, "READY", ("west",)) == {"west": "done"}
    assert asked == [1, 2, 1, 2]
    entries = [json.loads(entry) for entry in relay["west"].journal.entries()]
    assert 1 in {one["body"]["round"] for one in entries if one["kind"] == "sum-not-checked"}


def test_one_that_cannot_compute_the_state_says_so_and_adopts_none(relay: Relay) -> None:
    plan, three = begun(relay, rounds=3), ("east", "north", "south")
    relay.played(plan, 1, three)
    relay.played(plan, 2, three)
    with relay["west"].journal.write() as tx:
        tx.do("DELETE FROM closings WHERE round = 1")
    assert relay.ask(plan, 3, "READY", ("west",)) == {"west": "missed-rounds"}, "nobody altered a message"


def test_another_sum_than_the_coordinator_told_the_others_is_found(relay: Relay) -> None:
    plan = begun(relay)
    relay.played(plan, 1)
    data = bytearray(relay.blobs[relay.sums["sums-1", 1].digest])
    data[-1] ^= 1
    other = relay.blob(bytes(data))
    assert relay.ask(plan, 2, "READY", ("east",), aggregate=other) == {"east": "state-mismatch"}
    assert relay["east"].count("chains WHERE opening = 0") == 3, "keys are erased after the state was computed alone"


def test_after_a_crash_and_with_its_files_lost_a_hospital_says_the_same(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    hospital = relay["east"]
    (hospital.folder.run("sums-1") / "update-1.safetensors").unlink()
    hospital.again()
    assert relay.ask(plan, 1, "MASK") == everybody("done")
    covered = hospital.folder.run("sums-1") / "masked-1-1.safetensors"
    bytes_, digest = covered.read_bytes(), step_of(hospital.sent("MASK")[0]).vector
    covered.unlink()
    with hospital.journal.write() as tx:
        tx.do("DELETE FROM small WHERE path = ?", str(covered))
    hospital.again()
    assert relay.ask(plan, 1, "MASK", ("east",)) == {"east": "done"}
    first, second = hospital.sent("MASK")
    assert first == second and covered.read_bytes() == bytes_ and digest is not None
    for phase in ("CONFIRM", "UNMASK"):
        for one in relay.hospitals.values():
            one.again()
        assert relay.ask(plan, 1, phase) == everybody("done")
    relay.opened(plan, 1)
    (hospital.folder.run("sums-1") / "masked-1-1.safetensors").unlink()
    with hospital.journal.write() as tx:
        tx.do("DELETE FROM small WHERE path = ?", str(covered))
    hospital.again()
    other = relay["west"].seats.updates._known(relay.task(plan, 1, "MASK", FOUR))
    with mock.patch.object(hospital.seats.updates, "same", lambda *given: other):
        assert relay.ask(plan, 1, "MASK", ("east",)) == {"east": "replayed"}, "no other values are masked"
    assert not list(covered.parent.glob("masked*")), "what has the masks of what left is in no file, not for a moment"
    hospital.again()
    relay.lie = lambda to, phase, said: {name: one for name, one in said.items() if name != "west"}
    assert relay.ask(plan, 1, "MASK", ("east",)) == {"east": "replayed"}, "no other roll-call is masked for"


def test_a_revocation_stops_steps_that_wait(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "MASK")
    hospital = relay["east"]
    assert hospital.sent("MASK")
    hospital.desk.revoke("sums", "Vera", "", datetime.now(UTC))
    assert not hospital.sent("MASK")
    assert relay.ask(plan, 1, "CONFIRM", ("east",)) == {"east": "revoked"}


def outbox(hospital: Hospital) -> Outbox:
    return Outbox(hospital.journal, cast(Any, None), hospital.worker.veto, Event(), Outgoing())


def test_a_policy_that_changed_stops_a_step_before_its_first_byte(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "READY")
    hospital = relay["east"]
    row = hospital.journal.row("SELECT * FROM outbox WHERE type = 'step' AND run = 'sums-1' AND round = 1")
    assert row is not None and outbox(hospital)._may_leave(row)
    hospital.folder.policy_file.write_text("policy: 1\npurposes: [quality]\n")
    assert not outbox(hospital)._may_leave(row) and not hospital.sent("READY")
    refused = hospital.journal.row("SELECT note FROM tasks ORDER BY seq DESC LIMIT 1")
    assert refused is not None and refused["note"] == "purpose"


def test_steps_of_a_round_that_is_over_are_not_sent_any_more(relay: Relay) -> None:
    plan = begun(relay)
    until(relay, plan, "MASK")
    hospital = relay["east"]
    outbox(hospital).late("sums-1", 0)
    assert hospital.sent("MASK") and not hospital.sent("PROVE")
    outbox(hospital).late("sums-1", 1)
    assert not hospital.sent("MASK")


def test_a_run_is_of_one_plan_and_other_runs_bring_no_new_rounds(relay: Relay) -> None:
    """The coordinator names runs. What was never asked for here does not leave either."""
    plan, second, north = begun(relay), relay.approved(secure("second")), relay["north"]
    assert relay.ask(second, 1, "READY", ("north",), run="sums-1") == {"north": "plan-changed"}
    assert not north.worker.veto.stands("sums-9", 1, datetime.now(UTC))
    north.folder.policy_file.write_text(POLICY + f"max_rounds: {plan.study.rounds}\n")
    with north.journal.write() as tx:
        tx.do("INSERT INTO tasks VALUES (-1, ?, 'sums-0', 1, 'TRAIN', x'', 'over', '')", plan.digest)
        for number in range(plan.study.rounds):
            tx.do("INSERT INTO answers VALUES ('sums-0', ?, 'TRAIN', '', '', 1, '', 'secure_sum')", number + 1)
    assert relay.ask(plan, 1, "READY", ("north",)) == {"north": "rounds"}
    with north.journal.write() as tx:
        tx.do("DELETE FROM answers WHERE run = 'sums-0' AND round = 1")
    assert relay.ask(plan, 1, "READY", ("north",)) == {"north": "done"}


def test_what_is_made_when_a_round_is_over_is_not_kept_as_said(relay: Relay) -> None:
    """North is slow, and others opened the sum: its shares are not there for whoever would open another one by them."""
    plan, north = begun(relay), relay["north"]
    until(relay, plan, "CONFIRM")
    step = north.seats.step

    def slowly(*given: Any) -> Any:
        made = step(*given)
        relay.closed(plan, 1, ("east", "south", "west"), to=("north",))
        return made

    with mock.patch.object(north.seats, "step", slowly):
        assert relay.ask(plan, 1, "UNMASK", ("north",)) == {"north": "over"}
    assert not north.sent("UNMASK") and north.count("steps WHERE phase = 'UNMASK'") == north.count("openings") == 0


def test_a_step_that_names_another_vector_than_its_message_is_refused(relay: Relay) -> None:
    """One hospital's own signature does not make it good: the others refuse it."""
    plan = begun(relay)
    until(relay, plan, "MASK")
    step = step_of(relay["south"].sent("MASK")[0])
    other = step.model_copy(update={"vector": relay.blob(b"another vector")})
    signed = json.loads(seal(Step.TYPE, other.encode(), relay["south"].identity))
    relay.lie = lambda to, phase, said: {**said, "south": signed}
    assert relay.ask(plan, 1, "CONFIRM", ("east", "north")) == {"east": "forged", "north": "forged"}
    assert relay.ask(plan, 1, "UNMASK", ("west",)) == {"west": "forged"}
    other = step.model_copy(update={"vector": relay.blob(b"a"), "body": {**step.body, "vector": digest(b"a")}})
    own = json.loads(seal(Step.TYPE, other.encode(), relay["south"].identity))
    relay.lie = lambda to, phase, said: {**said, "south": own}
    assert relay.ask(plan, 1, "UNMASK", ("south",)) == {"south": "survivors"}, "it knows what it has masked"


def test_coins_are_fresh_for_every_attempt_and_durable_with_it(relay: Relay) -> None:
    plan = begun(relay)
    for attempt in (1, 2):
        until(relay, plan, "READY", attempt=attempt)
    rows = [row for one in relay.hospitals.values() for row in one.journal.rows("SELECT coins FROM seats")]
    assert len({bytes(row["coins"]) for row in rows}) == len(rows) == 8
    relay["east"].again()
    assert relay.ask(plan, 1, "READY", ("east",), attempt=2) == {"east": "done"}
    first, second = relay["east"].sent("READY", 2)
    assert first == second


def test_nothing_opens_over_fewer_than_were_called_before_it_was_confirmed(relay: Relay) -> None:
    plan, three = begun(relay), FOUR[:3]
    until(relay, plan, "MASK")
    relay.lie = lambda to, phase, said: {n: one for n, one in said.items() if phase != "MASK" or n != "west"}
    assert relay.ask(plan, 1, "UNMASK", three) == dict.fromkeys(three, "out-of-phase")


def test_where_all_who_were_called_have_masked_it_opens_without_confirm(relay: Relay) -> None:
    """Each sees the same sum as with it; and what opens another one leaves nobody any more."""
    plan = begun(relay)
    until(relay, plan, "MASK")
    assert relay.ask(plan, 1, "UNMASK") == everybody("done")
    for hospital in relay.hospitals.values():
        told = step_of(hospital.sent("UNMASK")[0]).body
        assert set(told["own"]) == set(FOUR) and not any(told["pairs"].values()), "of no mask with another hospital"
        assert hospital.count("openings WHERE run = 'sums-1' AND round = 1")
    assert relay.ask(plan, 1, "CONFIRM") == everybody("survivors")


def test_who_opens_without_confirm_is_bound_to_the_vectors_that_it_saw(relay: Relay) -> None:
    """South signs a second vector, which north alone is shown, and others once the sum is open: no two of the sums that
    are named then are believed by the same hospital, though an agent has begun anew.
    """
    plan, south, run = begun(relay), relay["south"], "sums-1"
    until(relay, plan, "MASK")
    step, file = step_of(south.sent("MASK")[0]), south.folder.run(run) / "masked-1-1.safetensors"
    data = file.read_bytes()
    other = relay.blob(data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])
    second = step.model_copy(update={"vector": other, "body": {**step.body, "vector": other.digest}})
    signed = json.loads(seal(Step.TYPE, second.encode(), south.identity))
    relay.lie = lambda to, phase, said: {**said, "south": signed} if (to, phase) == ("north", "MASK") else said
    assert relay.ask(plan, 1, "UNMASK") == everybody("done")

    def named(*who: str) -> dict[str, str]:
        """What comes of the next round, where the sum is named of what all masked, as the coordinator has it now."""
        told = relay.opened(plan, 1).model_dump_json().encode()
        for name in who:
            line, one = mock.Mock(read=lambda path, query: told), relay[name]
            one.states.check = Checking(one.folder, one.journal, line, one.steps, Event()).check
        return relay.ask(plan, 2, "READY", who)

    relay.lie = lambda to, phase, said: said
    relay["north"].again()
    assert named("north", "west") == {"north": "sum", "west": "done"}
    relay.said[run, 1, 1, "MASK"]["south"] = signed
    file.write_bytes(relay.blobs[other.digest])
    relay["east"].again()
    relay["north"].again()
    assert named("east", "north") == {"east": "sum", "north": "done"}
