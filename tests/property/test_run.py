"""The laws of a run: rounds follow one another, nothing is counted twice, and a replay gives the same run."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import ConsiliumError
from consilium.core.ids import COORDINATOR, SiteId, digest
from consilium.core.round import Kind, Phase

SITES = tuple(SiteId(name) for name in "abcd")
BYTES = [digest(b"x"), digest(b"y")]

ROSTERS = (SITES, SITES[:2], SITES[1:], SITES[:1])
OPENED: list[runs.RunEvent] = [
    runs.Opened(number, kind, roster, 1) for number in (1, 2, 3, 4) for kind in Kind for roster in ROSTERS
]
ANSWERS: list[runs.RunEvent] = [
    machine.Answered(site, phase, digest_) for site in (*SITES, COORDINATOR) for phase in Phase for digest_ in BYTES
]
OTHERS: list[runs.RunEvent] = [
    *(machine.DeadlinePassed(phase) for phase in Phase),
    *(machine.Withdrew(site, "revoked") for site in SITES),
    machine.Cancelled("lost its quorum"),
    runs.Lacking(1),
    runs.Stopped("enough"),
    runs.Stopped("it broke", failed=True),
]
EVENTS = OPENED + ANSWERS * 3 + OTHERS
sequences = st.binary(max_size=40).map(lambda drawn: [EVENTS[byte % len(EVENTS)] for byte in drawn])


@settings(max_examples=3000, deadline=None)
@given(sequences)
def test_laws_of_the_run(sequence: list[runs.RunEvent]) -> None:
    run, accepted = runs.Run(rounds=2, quorum=2), []
    for event in sequence:
        try:
            after, effects = runs.step(run, event)
        except ConsiliumError:
            continue
        accepted.append(event)
        assert after.number in (run.number, run.number + 1), "no round is skipped"
        assert run.took_part.items() <= after.took_part.items(), "what was done stays done"
        for number in after.took_part.keys() - run.took_part.keys():
            assert len(after.took_part[number]) >= run.quorum, "a round that counts had its quorum"
        if run.status in runs.OVER:
            assert after == run and effects == [], "a run that is over stays as it is"
        if after.status is runs.Status.PAUSED:
            assert after.reason, "a paused run says why"
        assert isinstance(event, machine.Answered) or after.state == run.state, "only an answer moves the state"
        run = after
    replayed = runs.Run(rounds=2, quorum=2)
    for event in accepted:
        replayed, _ = runs.step(replayed, event)
    assert replayed == run, "state is a fold of the events"


def test_runs_that_go_on_end_and_count_every_round() -> None:
    """Random bytes rarely finish a run; here each event is drawn from those that move it."""
    ends: Counter[runs.Status] = Counter()
    for seed in range(400):
        chance = random.Random(seed)
        run = runs.Run(rounds=3, quorum=2)
        for _ in range(25):
            run, _ = runs.step(run, moving(run, chance))
            if run.status in runs.OVER:
                break
        ends[run.status] += 1
        assert sorted(run.took_part) == list(range(1, len(run.took_part) + 1)), "rounds follow one another"
    assert ends[runs.Status.FINISHED] > 50 and ends[runs.Status.STOPPED] > 10, ends


def moving(run: runs.Run, chance: random.Random) -> runs.RunEvent:
    if chance.random() < 0.01:
        return runs.Stopped("enough")
    following = run.following
    if following is not None:
        return runs.Opened(*following, tuple(chance.sample(SITES, 2)), run.attempt + 1)
    assert run.round is not None and run.round.phase is not None
    phase = run.round.phase
    waited = sorted(run.round.asked(phase) - run.round.answered(phase).keys())
    return machine.Answered(chance.choice(waited), phase, chance.choice(BYTES))


def test_a_whole_run() -> None:
    run = runs.Run(rounds=2, quorum=2)
    for number, kind in ((1, Kind.TRAIN), (2, Kind.TRAIN), (3, Kind.EVALUATE)):
        assert run.following == (number, kind)
        run, _ = runs.step(run, runs.Opened(number, kind, SITES, 1))
        for site in SITES:
            run, _ = runs.step(run, machine.Answered(site, Phase.SUBMIT, BYTES[0]))
        run, effects = runs.step(run, machine.Answered(COORDINATOR, Phase.APPLY, BYTES[number % 2]))
        assert effects == [machine.Close(BYTES[number % 2])]
    assert run.status is runs.Status.FINISHED and run.following is None
    assert run.state == BYTES[0], "the evaluation does not move the state"
