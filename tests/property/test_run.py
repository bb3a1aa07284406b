"""The laws of a run: rounds follow one another, nothing is counted twice, and a replay gives the same run."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import Conflict, ConsiliumError, Invalid
from consilium.core.ids import COORDINATOR, SiteId, digest
from consilium.core.round import Kind, Phase
from consilium.core.threshold import threshold

SITES = tuple(SiteId(name) for name in "abcd")
BYTES = [digest(b"x"), digest(b"y")]

ROSTERS = (SITES, SITES[:2], SITES[1:], SITES[:1])
OPENED: list[runs.RunEvent] = [
    runs.Opened(number, kind, roster, 1, least=least)
    for number, kind in (
        (0, Kind.PAIR),
        (1, Kind.PAIR),
        *((n, k) for n in (1, 2, 3, 4) for k in (Kind.TRAIN, Kind.EVALUATE)),
    )
    for roster in ROSTERS
    for least in (1, 3)
]
ANSWERS: list[runs.RunEvent] = [
    machine.Answered(site, phase, digest_) for site in (*SITES, COORDINATOR) for phase in Phase for digest_ in BYTES
]
OTHERS: list[runs.RunEvent] = [
    *(machine.DeadlinePassed(phase) for phase in Phase),
    *(machine.Withdrew(site, "revoked") for site in SITES),
    machine.Cancelled("lost its quorum"),
    runs.Lacking(1),
    runs.Lacking(3, awaits=SITES[:1], apart=True),
    runs.Parted("too few go on"),
    runs.Stopped("enough"),
    runs.Stopped("it broke", failed=True),
]
EVENTS = OPENED + ANSWERS * 2 + OTHERS
# Two bytes are one event: the last bits say whether it moves the run, as few would by chance.
draws = st.binary(max_size=120).map(
    lambda drawn: [int.from_bytes(drawn[at : at + 2]) for at in range(0, len(drawn), 2)]
)
secure = pytest.mark.parametrize("secure", [False, True], ids=["plain", "secure_sum"])


@secure
@settings(max_examples=350, deadline=None)
@given(draws)
def test_laws_of_the_run(secure: bool, sequence: list[int]) -> None:
    laws_hold(secure, sequence)


@secure
def test_laws_of_longer_runs(secure: bool) -> None:
    chance, ends = random.Random(7), Counter[str]()
    for _ in range(1500):
        run = laws_hold(secure, [chance.getrandbits(16) for _ in range(chance.randint(0, 150))])
        ends[f"{run.status} {max(run.took_part, default=0)}"] += 1
    assert ends["finished 3"] > 20 and ends["stopped 1"] > 5 and ends["running 1"] > 5 and ends["paused 0"] > 5, ends


def laws_hold(secure: bool, sequence: list[int]) -> runs.Run:
    first = run = runs.Run(rounds=2, quorum=2 if not secure else 3, secure=secure)
    accepted = []
    for number in sequence:
        event = moving(run, random.Random(number)) if number % 8 < 6 else EVENTS[number // 8 % len(EVENTS)]
        try:
            after, effects = runs.step(run, event)
        except ConsiliumError:
            continue
        accepted.append(event)
        follows(run, event, after, effects)
        run = after
    replayed = first
    for event in accepted:
        replayed, _ = runs.step(replayed, event)
    assert replayed == run, "state is a fold of the events"
    return run


def follows(run: runs.Run, event: runs.RunEvent, after: runs.Run, effects: list[machine.Effect]) -> None:
    assert after.number in (run.number, run.number + 1), "no round is skipped"
    assert run.took_part.items() <= after.took_part.items(), "what was done stays done"
    if run.cohort and after.cohort != run.cohort:
        assert isinstance(event, runs.Parted) and after.cohort == (), "keys are agreed anew only where people parted"
        assert run.round is None or run.round.closed, "and never within a round"
    if after.round != run.round and after.round is not None and after.round.kind is Kind.PAIR:
        assert (after.number, after.attempt) == (run.number, run.attempt), "agreeing on keys leaves the count as it is"
    assert all(others <= after.compared[site] for site, others in run.compared.items()), "what was compared stays so"
    assert all(set(after.cohort) <= after.compared[site] for site in after.cohort), "who holds keys has compared"
    assert not set(after.cohort) & after.lost.keys(), "who holds keys is not told as without"
    if after.round is not None and after.round.kind is Kind.PAIR and after.round.closed:
        silent = after.round.began - after.round.counted.keys()
        assert silent == after.round.began & after.lost.keys(), (
            "who was asked for keys holds some, or is told as without"
        )
        assert all(site not in after.round.answered(after.lost[site][1]) for site in silent), "with what is lacking"
    for number in after.took_part.keys() - run.took_part.keys():
        assert len(after.took_part[number]) >= run.quorum, "a round that counts had its quorum"
        assert not run.secure or set(after.took_part[number]) <= set(run.cohort), "of those who hold keys"
        assert run.round is not None
        assert not run.round.whole or set(after.took_part[number]) == run.round.began, "of all of a whole one"
    if run.status in runs.OVER:
        assert after == run and effects == [], "a run that is over stays as it is"
        return
    assert bool(after.reason) or after.status in (runs.Status.RUNNING, runs.Status.FINISHED), "it says why it waits"
    assert after.status is not runs.Status.RUNNING or not after.reason, "and not what it waited for before"
    assert isinstance(event, machine.Answered) or after.state == run.state, "only an answer moves the state"
    assert not after.awaits or after.status is runs.Status.PAUSED, "it waits for nobody while it goes on"
    assert all(site in after.reason for site in after.awaits), "it says for whom it waits"
    if run.round is not None and run.round.opening and not run.round.closed:
        again = after.round is not None and after.round.roster <= run.round.roster and after.attempt == run.attempt
        assert again, "a round whose sum may be open has no second attempt"
        if after.round is not None and after.round.closed:
            assert after.number in after.took_part, "it ends with its sum"
    if isinstance(event, runs.Opened) and after != run and run.secure:
        assert (event.kind is Kind.PAIR) == (not run.cohort) == (event.number == 0), "keys come first, as number 0"
        if event.kind is not Kind.PAIR:
            assert set(event.roster) <= set(run.cohort) and event.least >= threshold(len(event.roster))


@secure
def test_runs_that_go_on_end_and_count_every_round(secure: bool) -> None:
    """Each event is drawn from those that move the run."""
    ends: Counter[runs.Status] = Counter()
    for seed in range(200):
        chance = random.Random(seed)
        run = runs.Run(rounds=3, quorum=3 if secure else 2, secure=secure)
        for _ in range(110):
            run, _ = runs.step(run, moving(run, chance))
            if run.status in runs.OVER:
                break
        ends[run.status] += 1
        assert sorted(run.took_part) == list(range(1, len(run.took_part) + 1)), "rounds follow one another"
    assert ends[runs.Status.FINISHED] > 50 and ends[runs.Status.STOPPED] > 10, ends


def moving(run: runs.Run, chance: random.Random) -> runs.RunEvent:
    if chance.random() < 0.003 * (4 - run.secure * 2):
        return runs.Stopped("enough")
    following = run.following
    if following is not None:
        roster = chance.sample(run.cohort or SITES, min(len(run.cohort or SITES), 3 if run.secure else 2))
        whole, least = chance.random() < 0.3, threshold(len(roster)) if run.secure else 1
        direct = chance.random() < 0.5
        return runs.Opened(*following, tuple(roster), run.attempt + 1, least=least, whole=whole, direct=direct)
    if run.round is None or run.round.phase is None:
        return runs.Lacking(1)
    phase = run.round.phase
    waited = sorted(run.round.asked(phase) - run.round.answered(phase).keys())
    return (
        machine.Answered(chance.choice(waited), phase, chance.choice(BYTES))
        if waited
        else machine.DeadlinePassed(phase)
    )


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


def through(run: runs.Run, phases: tuple[Phase, ...], sites: tuple[SiteId, ...]) -> runs.Run:
    for phase in phases:
        for site in (COORDINATOR,) if phase is Phase.APPLY else sites:
            run, _ = runs.step(run, machine.Answered(site, phase, BYTES[0]))
    return run


def paired(sites: tuple[SiteId, ...] = SITES) -> runs.Run:
    run = runs.Run(rounds=2, quorum=3, secure=True)
    assert run.following == (0, Kind.PAIR)
    run, _ = runs.step(run, runs.Opened(0, Kind.PAIR, sites, 1))
    return through(run, machine.PAIRING, sites)


def test_a_whole_secure_run() -> None:
    run = paired()
    assert run.cohort == SITES and run.took_part == {} and run.state is None, "agreeing on keys trains nothing"
    for number, kind in ((1, Kind.TRAIN), (2, Kind.TRAIN), (3, Kind.EVALUATE)):
        assert run.following == (number, kind)
        run, _ = runs.step(run, runs.Opened(number, kind, SITES, 1, least=3))
        run = through(run, machine.SECURE_SUM, SITES)
        assert run.took_part[number] == SITES
    assert run.status is runs.Status.FINISHED


def test_inputs_are_prepared_before_any_training() -> None:
    run = runs.Run(rounds=1, quorum=2, prepares=1)
    for number, kind in ((1, Kind.PREPARE), (2, Kind.TRAIN), (3, Kind.EVALUATE)):
        assert run.following == (number, kind)
        run, _ = runs.step(run, runs.Opened(number, kind, SITES, 1))
        run = through(run, machine.PLAIN, SITES)
    assert run.status is runs.Status.FINISHED


def test_a_run_that_waited_for_people_says_so_until_the_last_has_compared() -> None:
    run, _ = runs.step(runs.Run(rounds=2, quorum=3, secure=True), runs.Opened(0, Kind.PAIR, SITES, 1))
    run = through(run, (Phase.KEYS, Phase.PAIR), SITES)
    run, _ = runs.step(run, machine.Answered(SITES[0], Phase.PROVE, BYTES[0]))
    run, _ = runs.step(run, machine.DeadlinePassed(Phase.PROVE))
    assert run.status is runs.Status.PAUSED and "1 of the 3" in run.reason and "compared the words" in run.reason
    run = through(run, (Phase.PROVE,), SITES[1:3])
    assert run.following == (0, Kind.PAIR), "late, one is silent: it is opened again without it"
    run, _ = runs.step(run, runs.Opened(0, Kind.PAIR, SITES[:3], 2))
    run = through(run, machine.PAIRING[:2], SITES[:3])
    run, _ = runs.step(run, machine.DeadlinePassed(Phase.PROVE))
    assert run.status is runs.Status.PAUSED
    run = through(run, (Phase.PROVE,), SITES[:3])
    assert (run.status, run.reason, run.cohort) == (runs.Status.RUNNING, "", SITES[:3])


def test_sites_that_part_between_two_rounds_agree_on_keys_anew_and_the_run_goes_on_where_it_was() -> None:
    run, _ = runs.step(paired(), runs.Opened(1, Kind.TRAIN, SITES, 1, least=3))
    run = through(run, machine.SECURE_SUM, SITES)
    run, _ = runs.step(run, runs.Opened(2, Kind.TRAIN, SITES, 1, least=3))
    with pytest.raises(Conflict):
        runs.step(run, runs.Parted("one left"))
    run, _ = runs.step(run, machine.Cancelled("one left"))
    run, _ = runs.step(run, runs.Parted("one left"))
    assert run.following == (0, Kind.PAIR) and run.status is runs.Status.PAUSED and run.reason == "one left"
    run, _ = runs.step(run, runs.Opened(0, Kind.PAIR, SITES[1:], 2))
    assert run.current == (0, 2)
    run = through(run, machine.PAIRING, SITES[1:])
    assert run.following == (2, Kind.TRAIN) and run.cohort == SITES[1:] and run.took_part == {1: SITES}
    run, _ = runs.step(run, runs.Opened(2, Kind.TRAIN, SITES[1:], 2, least=3))
    assert run.current == (2, 2)


@pytest.mark.parametrize(("roster", "least"), [(SITES, 2), ((*SITES[:3], SiteId("new")), 3), (SITES[:3], 2)])
def test_a_sum_without_keys_or_that_too_few_could_open_is_not_asked_for(roster: tuple[SiteId, ...], least: int) -> None:
    with pytest.raises(Invalid):
        runs.step(paired(), runs.Opened(1, Kind.TRAIN, roster, 1, least=least))
