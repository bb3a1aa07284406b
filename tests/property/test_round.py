"""The laws of the round, over 10,000 event sequences."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core import round as machine
from consilium.core.errors import ConsiliumError, Equivocation, OutOfPhase, UnknownSite
from consilium.core.ids import COORDINATOR, SiteId, digest
from consilium.core.round import (
    PLAIN,
    Answered,
    Ask,
    Cancelled,
    Close,
    DeadlinePassed,
    Effect,
    Event,
    Kind,
    Phase,
    Round,
    Withdrew,
)

SITES = [SiteId(name) for name in ("a", "b", "c", "d", "e")]
BYTES = [digest(b"x"), digest(b"y")]

ANSWERS: list[Event] = [
    Answered(site, phase, bytes_)
    for site in (*SITES, COORDINATOR, SiteId("stranger"))
    for phase in Phase
    for bytes_ in BYTES
]
OTHERS: list[Event] = [
    *(Withdrew(site, "revoked") for site in SITES),
    *(DeadlinePassed(phase) for phase in Phase),
    Cancelled("stopped"),
]
EVENTS = ANSWERS * 3 + OTHERS * 2
assert len(EVENTS) <= 256
# One byte is one event: a sequence is one draw, which is quick, and shrinks well.
sequences = st.binary(max_size=25).map(lambda drawn: [EVENTS[byte % len(EVENTS)] for byte in drawn])


def seen(state: Round) -> tuple[object, ...]:
    """All that a round holds, copied."""
    answers = {phase: dict(given) for phase, given in state.answers.items()}
    return state.at, set(state.roster), answers, state.overdue, state.closed


@settings(max_examples=1_000, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), sequences)
def test_laws_of_the_round(members: int, quorum: int, sequence: list[Event]) -> None:
    """What breaks a law is shrunk to the shortest sequence that does."""
    laws_hold(members, quorum, sequence)


def test_laws_of_the_round_over_10_000_sequences() -> None:
    """Drawn from a seed, each one longer; so many by hypothesis would take a minute where two cores are shared."""
    chance, ends = random.Random(20), Counter[str]()
    for _ in range(10_000):
        sequence = chance.choices(EVENTS, k=chance.randint(0, 60))
        ends[laws_hold(chance.randint(1, 5), chance.randint(1, 5), sequence)] += 1
    assert min(ends["SUBMIT"], ends["APPLY"], ends["closed"]) > 500, f"the sequences do not reach every phase: {ends}"


def laws_hold(members: int, quorum: int, sequence: list[Event]) -> str:
    """Check every law along a sequence; the phase in which it ends."""
    quorum = min(quorum, members)
    first, effects = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES[:members]), quorum)
    assert effects == [Ask(Phase.SUBMIT, first.roster)]
    state, accepted = first, []
    for event in sequence:
        before = seen(state)
        try:
            after, effects = machine.step(state, event)
        except (OutOfPhase, UnknownSite, Equivocation):
            assert seen(state) == before, "a refusal changes nothing"
            continue
        assert seen(state) == before, "a round is replaced, never changed"
        accepted.append(event)
        follows(state, event, after, effects, quorum)
        state = after
    again = first
    for event in accepted:
        again, _ = machine.step(again, event)
    assert again == state, "state is a fold of the events"
    return state.phase or "closed"


def follows(state: Round, event: Event, after: Round, effects: list[Effect], quorum: int) -> None:
    assert after.roster <= state.roster, "rosters only shrink"
    for phase, given_answers in state.answers.items():
        assert given_answers.items() <= after.answered(phase).items(), "answers are append-only"
    for index in range(state.at, after.at):
        passed = after.phases[index]
        assert len(after.answered(passed)) >= after.needed(passed), "every passed phase had quorum"
    if isinstance(event, Answered):
        assert machine.step(after, event) == (after, []), "a retry is a no-op"
        assert event.site in after.asked(event.phase) | state.asked(event.phase), "a stranger is not heard"
    if isinstance(event, DeadlinePassed | Cancelled):
        assert machine.step(after, event) == (after, []), "what has passed passes once"
    if isinstance(event, Withdrew) and not state.closed and event.site not in state.answered(Phase.SUBMIT):
        assert event.site not in after.roster, "who withdrew before answering is not waited for"
    if state.closed:
        assert after == state and effects == [], "a closed round stays as it is"
    closing = [effect for effect in effects if isinstance(effect, Close)]
    assert bool(closing) == (after.closed and not state.closed), "a round closes once, and says so"
    if closing and closing[0].outcome is not None:
        assert len(after.answered(Phase.SUBMIT)) >= quorum and after.answered(Phase.APPLY)
    asking = [effect.phase for effect in effects if isinstance(effect, Ask)]
    assert asking == ([after.phase] if after.at > state.at else []), "a phase is asked once, when it opens"


@settings(max_examples=300, deadline=None)
@given(st.permutations(SITES))
def test_the_order_of_answers_does_not_matter(order: list[SiteId]) -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 3)
    for site in order:
        state, effects = machine.step(state, Answered(site, Phase.SUBMIT, BYTES[0]))
    assert effects == [Ask(Phase.APPLY, frozenset({COORDINATOR}))]
    assert set(state.answered(Phase.SUBMIT)) == set(SITES)


def test_below_quorum_the_round_waits_and_goes_on_when_the_site_returns() -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 2)
    state, _ = machine.step(state, Answered(SITES[0], Phase.SUBMIT, BYTES[0]))
    state, effects = machine.step(state, DeadlinePassed(Phase.SUBMIT))
    assert effects == [machine.Wait(Phase.SUBMIT, 1, 2)]
    state, effects = machine.step(state, Answered(SITES[4], Phase.SUBMIT, BYTES[0]))
    assert effects == [Ask(Phase.APPLY, frozenset({COORDINATOR}))]


def test_a_slow_site_is_not_dropped_before_the_deadline() -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 2)
    for site in SITES[:4]:
        state, effects = machine.step(state, Answered(site, Phase.SUBMIT, BYTES[0]))
        assert effects == []
    assert state.phase is Phase.SUBMIT


def test_other_bytes_than_before_are_equivocation() -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 2)
    state, _ = machine.step(state, Answered(SITES[0], Phase.SUBMIT, BYTES[0]))
    try:
        machine.step(state, Answered(SITES[0], Phase.SUBMIT, BYTES[1]))
    except ConsiliumError as error:
        assert isinstance(error, Equivocation)
    else:
        raise AssertionError("accepted")
