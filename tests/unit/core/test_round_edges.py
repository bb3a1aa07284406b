"""A round at its edges: exactly as many as are needed, all of those it is over, and who leaves when it has answered."""

import pytest

from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.ids import Digest, SiteId, digest
from consilium.core.round import PLAIN, SECURE_SUM, Answered, Kind, Phase, Round, Withdrew, begin, step

SITES = tuple(SiteId(name) for name in ("east", "north", "south", "west"))
BYTES = Digest(digest(b"bytes"))


def answered(before: Round, phase: Phase, *sites: SiteId) -> Round:
    for site in sites:
        before, _ = step(before, Answered(site, phase, BYTES))
    return before


def left(before: Round, *sites: SiteId) -> Round:
    for site in sites:
        before, _ = step(before, Withdrew(site, "revoked"))
    return before


def test_who_leaves_when_it_has_sent_its_update_stays_in_the_round() -> None:
    opened, _ = begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 3)
    sent = answered(opened, Phase.SUBMIT, SITES[0])
    assert step(sent, Withdrew(SITES[0], "revoked")) == (sent, []) and left(sent, SITES[1]).roster == {*SITES} - {
        SITES[1]
    }


@pytest.mark.parametrize("phases", [PLAIN, SECURE_SUM])
def test_a_round_is_short_once_fewer_than_its_quorum_are_left_and_not_before(phases: tuple[Phase, ...]) -> None:
    opened, _ = begin(1, Kind.TRAIN, phases, frozenset(SITES), 3, 2)
    as_many = left(answered(opened, phases[0], SITES[0]), SITES[1])
    assert not as_many.short, "the three that are left are enough"
    after, effects = step(as_many, Withdrew(SITES[2], "revoked"))
    assert after.short and effects == [machine.Wait(phases[0], 1, 3)], "it says so at once, before any deadline"


def test_a_sum_over_these_hospitals_and_no_others_waits_for_each_of_them() -> None:
    opened, _ = begin(1, Kind.TRAIN, SECURE_SUM, frozenset(SITES), 3, 2, whole=True)
    three = answered(opened, Phase.READY, *SITES[:3])
    late, effects = step(three, machine.DeadlinePassed(Phase.READY))
    assert late.phase is Phase.READY and effects == [machine.Wait(Phase.READY, 3, 4)]
    assert answered(late, Phase.READY, SITES[3]).phase is Phase.MASK


def test_as_many_as_are_enough_to_train_are_not_enough_to_judge() -> None:
    """The final model is judged by all, though updates that come late answer later rounds."""
    run = runs.Run(rounds=1, quorum=1, enough=2)
    for number, kind, enough in ((1, Kind.TRAIN, 2), (2, Kind.EVALUATE, 0)):
        run, _ = runs.step(run, runs.Opened(number, kind, SITES, 1))
        assert run.round is not None and run.round.enough == enough
        for site in SITES[: enough or 4]:
            assert run.round is not None and run.round.phase is Phase.SUBMIT
            run, _ = runs.step(run, Answered(site, Phase.SUBMIT, BYTES))
        run, _ = runs.step(run, Answered(machine.COORDINATOR, Phase.APPLY, BYTES))
    assert run.status is runs.Status.FINISHED and run.took_part == {1: SITES[:2], 2: SITES}


def test_where_nothing_is_trained_the_state_is_the_model_that_was_judged_and_else_the_last_that_was_trained() -> None:
    for rounds, states in ((0, ()), (1, (Digest(digest(b"trained")),))):
        run, judged = runs.Run(rounds=rounds, quorum=1), Digest(digest(b"judged"))
        for number, state in enumerate((*states, judged), 1):
            kind = Kind.TRAIN if number <= rounds else Kind.EVALUATE
            run, _ = runs.step(run, runs.Opened(number, kind, SITES[:1], 1))
            run, _ = runs.step(run, Answered(SITES[0], Phase.SUBMIT, BYTES))
            run, _ = runs.step(run, Answered(machine.COORDINATOR, Phase.APPLY, state))
        assert run.status is runs.Status.FINISHED and run.state == (states or (judged,))[0]
