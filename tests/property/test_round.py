"""The laws of the round, of each recipe, over 10,000 event sequences."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core import round as machine
from consilium.core.errors import ConsiliumError, Equivocation, Invalid, OutOfPhase, UnknownSite
from consilium.core.ids import COORDINATOR, SiteId, digest
from consilium.core.round import (
    PAIRING,
    PLAIN,
    SECURE_SUM,
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
    Wait,
    Withdrew,
)
from consilium.core.threshold import threshold

SITES = [SiteId(name) for name in ("a", "b", "c", "d", "e")]
BYTES = [digest(b"x"), digest(b"y")]
RECIPES = {PLAIN: Kind.TRAIN, SECURE_SUM: Kind.TRAIN, PAIRING: Kind.PAIR}
ALL = {Phase.PAIR, Phase.PROVE}  # without one of those who sent their keys, the others' keys are worth nothing
OPENS = {Phase.CONFIRM, Phase.UNMASK}  # what opens a sum, and adds nothing to it
names = {"argvalues": list(RECIPES), "ids": ["plain", "secure_sum", "pairing"]}

Draws = list[int]
# Two bytes are one event: a sequence is one draw, which is quick, and shrinks well.
draws = st.binary(max_size=80).map(lambda drawn: [int.from_bytes(drawn[at : at + 2]) for at in range(0, len(drawn), 2)])


def drawn(state: Round, number: int) -> Event:
    """Mostly an answer that moves the round, as few would be by chance; else anything that may ever arrive."""
    fits, number = divmod(number, 8)
    phase, bytes_ = state.phase, BYTES[0]
    if number < 5 and phase is not None:
        asked = sorted(state.asked(phase))
        if asked:
            return Answered(asked[fits % len(asked)], phase, bytes_)
    events = everything(state.phases)
    return events[fits % len(events)]


def everything(phases: tuple[Phase, ...]) -> list[Event]:
    """Every event of these phases, and answers of a phase that another recipe has."""
    foreign = next(phase for phase in Phase if phase not in phases)
    answers: list[Event] = [
        Answered(site, phase, bytes_)
        for phase in (*phases, foreign)
        for site in (*SITES, COORDINATOR, SiteId("stranger"))
        for bytes_ in BYTES
    ]
    passed: list[Event] = [DeadlinePassed(phase) for phase in (*phases, foreign)]
    return [*answers, *passed * 3, *(Withdrew(site, "revoked") for site in SITES), Cancelled("stopped")]


def seen(state: Round) -> tuple[object, ...]:
    """All that a round holds, copied."""
    answers = {phase: dict(given) for phase, given in state.answers.items()}
    return state.at, set(state.roster), answers, state.overdue, state.closed


@pytest.mark.parametrize("phases", **names)
@settings(max_examples=400, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 5), draws, st.booleans())
def test_laws_of_the_round(
    phases: tuple[Phase, ...], members: int, quorum: int, least: int, first: int, sequence: Draws, direct: bool
) -> None:
    """What breaks a law is shrunk to the shortest sequence that does."""
    laws_hold(phases, members, quorum, least, sequence, first, direct)


@pytest.mark.parametrize("phases", **names)
def test_laws_of_the_round_over_10_000_sequences(phases: tuple[Phase, ...]) -> None:
    """Drawn from a seed, each one longer; so many by hypothesis would take a minute where two cores are shared."""
    chance, ends = random.Random(20), Counter[str]()
    for _ in range({PLAIN: 3_000, SECURE_SUM: 4_000, PAIRING: 3_000}[phases]):
        sequence = [chance.getrandbits(16) for _ in range(chance.randint(0, 60))]
        first = chance.choice([0, 0, 0, 2, 4])
        sites, quorum, least = (chance.randint(1, 5) for _ in range(3))
        ends[laws_hold(phases, sites, quorum, least, sequence, first, chance.random() < 0.5)] += 1
    wanted = {*phases, "done", "cancelled"}
    assert ends.keys() == wanted and min(ends.values()) > 50, f"the sequences do not reach every phase: {ends}"


def laws_hold(
    phases: tuple[Phase, ...], members: int, quorum: int, least: int, sequence: Draws, enough: int, direct: bool
) -> str:
    """Check every law along a sequence; the phase in which it ends, or how it closed."""
    quorum = min(quorum, members)
    least, enough = min(least, quorum), max(enough, quorum) if enough else 0
    roster = frozenset(SITES[:members])
    first, effects = machine.begin(1, RECIPES[phases], phases, roster, quorum, least, enough, direct=direct)
    assert effects == [Ask(phases[0], first.roster)]
    state, accepted, end = first, [], ""
    for number in sequence:
        event, before = drawn(state, number), seen(state)
        try:
            after, effects = machine.step(state, event)
        except (OutOfPhase, UnknownSite, Equivocation):
            assert seen(state) == before, "a refusal changes nothing"
            continue
        assert seen(state) == before, "a round is replaced, never changed"
        accepted.append(event)
        follows(state, event, after, effects)
        for effect in effects:
            if isinstance(effect, Close):
                end = "done" if effect.outcome is not None else "cancelled"
        state = after
    again = first
    for event in accepted:
        again, _ = machine.step(again, event)
    assert again == state, "state is a fold of the events"
    reaches_its_end(state)
    return end or str(state.phase)


def enough(state: Round, phase: Phase) -> int:
    """How many must have answered before the next phase: said here once more, from the protocol."""
    if phase is Phase.APPLY:
        return 1
    return state.least if phase in OPENS else state.quorum


def follows(state: Round, event: Event, after: Round, effects: list[Effect]) -> None:
    assert after.roster <= state.roster, "rosters only shrink"
    for phase, given_answers in state.answers.items():
        assert given_answers.items() <= after.answered(phase).items(), "answers are append-only"
    assert machine.step(after, event) == (after, []), "a retry is a no-op, and what has passed passes once"
    if state.closed:
        assert after == state and effects == [], "a closed round stays as it is"
        return
    for phase in after.phases[state.at : after.at]:
        passed(after, phase)
    if after.at > state.at:
        on_time = not state.overdue and not isinstance(event, DeadlinePassed)
        everybody = after.asked(state.phases[state.at]) <= after.answered(state.phases[state.at]).keys()
        assert everybody or not on_time or are_enough(after, state.phases[state.at]), (
            "before its deadline a phase waits for everybody, or for as many as are enough"
        )
        assert not after.overdue, "and the next has a deadline of its own"
        whole = state.direct and after.answered(Phase.MASK).keys() == after.answered(Phase.READY).keys()
        left = (Phase.CONFIRM,) if whole and state.phase is Phase.MASK else ()
        assert after.phases == tuple(one for one in state.phases if one not in left), (
            "nobody confirms survivors where nobody was lost, and else they do"
        )
    else:
        assert after.phases == state.phases
    assert not are_enough(after, after.phase), "and for nobody else"
    for one, next_ in zip(after.phases, after.phases[1:], strict=False):
        if next_ is not Phase.APPLY:
            assert after.answered(next_).keys() <= after.answered(one).keys(), "whoever is lost stays lost"
    arrived(state, event, after, effects)
    closed(state, after, effects)
    asking = [effect.phase for effect in effects if isinstance(effect, Ask)]
    assert asking == ([after.phase] if after.at > state.at else []), "a phase is asked once, when it opens"


def are_enough(state: Round, phase: Phase | None) -> bool:
    return phase is Phase.SUBMIT and 0 < state.enough <= len(state.answered(phase))


def passed(after: Round, phase: Phase) -> None:
    assert len(after.answered(phase)) >= enough(after, phase), "every passed phase had quorum"
    if phase in ALL:
        assert after.answered(phase).keys() == after.answered(Phase.KEYS).keys(), "and these had everybody"


def arrived(state: Round, event: Event, after: Round, effects: list[Effect]) -> None:
    """What each kind of event may do."""
    opening = state.phases[state.at] in (Phase.UNMASK, Phase.APPLY) and Phase.UNMASK in state.phases
    match event:
        case Answered():
            again = state.answered(event.phase).get(event.site) == event.digest
            assert again or event.site in state.asked(event.phase), "a stranger is not heard"
            assert not again or after == state
        case Cancelled() if opening:
            assert after == state and effects == [], "nothing cancels once a sum may be open"
        case Cancelled():
            assert after.closed and effects == [Close(None, event.reason)]
        case DeadlinePassed() if event.phase == state.phase and not state.overdue and after.at == state.at:
            short = len(after.answered(event.phase)) < enough(after, event.phase)
            assert short == (
                effects[:1] == [Wait(event.phase, len(after.answered(event.phase)), enough(after, event.phase))]
            )
            assert short or after.closed, "with a quorum it goes on, or ends"
        case Withdrew() if event.site in state.answered(Phase.KEYS):
            assert after.closed and isinstance(effects[0], Close), "keys bound to a roster with it in are of no use"
        case Withdrew() if event.site not in state.answered(Phase.SUBMIT):
            assert event.site not in after.roster, "who withdrew is not waited for"
            assert after.counted.items() >= state.counted.items(), "what it has sent stays in the sum"


def closed(state: Round, after: Round, effects: list[Effect]) -> None:
    """A round closes once, says so, and says the truth."""
    closing = [effect for effect in effects if isinstance(effect, Close)]
    assert bool(closing) == (after.closed and not state.closed)
    if not closing:
        return
    if closing[0].outcome is None:
        assert closing[0].reason, "why"
        return
    for phase in after.phases:
        passed(after, phase)
    assert closing[0].outcome in after.answered(after.phases[-1]).values()
    assert len(after.counted) >= after.quorum, "whose values count are a quorum"
    where = {Phase.SUBMIT: Phase.SUBMIT, Phase.READY: Phase.MASK, Phase.KEYS: Phase.PROVE}[after.phases[0]]
    assert after.counted == after.answered(where)


def reaches_its_end(state: Round) -> None:
    """Nobody is locked out: if all who are asked answer, a round ends, or waits for more than are left, and says so."""
    for _ in range(30):
        phase = state.phase
        if phase is None:
            return
        waited = sorted(state.asked(phase) - state.answered(phase).keys())
        if not waited:
            assert len(state.answered(phase)) < enough(state, phase), f"{phase} has all, and does not close"
            assert machine.step(state, Withdrew(SiteId("nobody"), "")) == (state, [])
            return
        state, _ = machine.step(state, Answered(waited[0], phase, BYTES[1]))
    assert state.closed


@pytest.mark.parametrize("phases", **names)
@settings(max_examples=100, deadline=None)
@given(st.permutations(SITES))
def test_the_order_of_answers_does_not_matter(phases: tuple[Phase, ...], order: list[SiteId]) -> None:
    state, _ = machine.begin(1, RECIPES[phases], phases, frozenset(SITES), 3)
    for site in order:
        state, effects = machine.step(state, Answered(site, phases[0], BYTES[0]))
    following = frozenset({COORDINATOR}) if phases is PLAIN else frozenset(SITES)
    assert effects == [Ask(phases[1], following)]
    assert set(state.answered(phases[0])) == set(SITES)


@pytest.mark.parametrize("phases", **names)
def test_below_quorum_the_round_waits_and_goes_on_when_the_site_returns(phases: tuple[Phase, ...]) -> None:
    state, _ = machine.begin(1, RECIPES[phases], phases, frozenset(SITES), 2)
    state, _ = machine.step(state, Answered(SITES[0], phases[0], BYTES[0]))
    state, effects = machine.step(state, DeadlinePassed(phases[0]))
    assert effects == [Wait(phases[0], 1, 2)]
    state, effects = machine.step(state, Answered(SITES[4], phases[0], BYTES[0]))
    following = frozenset({COORDINATOR}) if phases is PLAIN else frozenset({SITES[0], SITES[4]})
    assert effects == [Ask(phases[1], following)]


def test_a_slow_site_is_not_dropped_before_the_deadline() -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 2)
    for site in SITES[:4]:
        state, effects = machine.step(state, Answered(site, Phase.SUBMIT, BYTES[0]))
        assert effects == []
    assert state.phase is Phase.SUBMIT


def test_with_as_many_answers_as_are_enough_a_round_closes_and_whoever_comes_later_is_told() -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 2, enough=3)
    state, effects = machine.together(state, Phase.SUBMIT, dict.fromkeys(SITES[:2], BYTES[0]))
    assert effects == []
    with pytest.raises(OutOfPhase):
        machine.together(state, Phase.SUBMIT, dict.fromkeys(SITES[2:4], BYTES[0]))
    state, effects = machine.step(state, Answered(SITES[4], Phase.SUBMIT, BYTES[0]))
    assert effects == [Ask(Phase.APPLY, frozenset({COORDINATOR}))]
    with pytest.raises(OutOfPhase, match="past SUBMIT"):
        machine.step(state, Answered(SITES[2], Phase.SUBMIT, BYTES[0]))
    assert state.counted.keys() == {SITES[0], SITES[1], SITES[4]}
    with pytest.raises(Invalid, match="no quorum"):
        machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 3, enough=2)


def test_other_bytes_than_before_are_equivocation() -> None:
    state, _ = machine.begin(1, Kind.TRAIN, PLAIN, frozenset(SITES), 2)
    state, _ = machine.step(state, Answered(SITES[0], Phase.SUBMIT, BYTES[0]))
    try:
        machine.step(state, Answered(SITES[0], Phase.SUBMIT, BYTES[1]))
    except ConsiliumError as error:
        assert isinstance(error, Equivocation)
    else:
        raise AssertionError("accepted")


def at(phase: Phase, phases: tuple[Phase, ...] = SECURE_SUM, quorum: int = 3, least: int = 3) -> Round:
    """A round of five sites in which all have answered until `phase` opened."""
    state, _ = machine.begin(1, RECIPES[phases], phases, frozenset(SITES), quorum, least)
    while state.phase is not phase:
        assert state.phase is not None
        waited = sorted(state.asked(state.phase) - state.answered(state.phase).keys())
        state, _ = machine.step(state, Answered(waited[0], state.phase, BYTES[0]))
    return state


def answered(state: Round, phase: Phase, sites: list[SiteId]) -> Round:
    for site in sites:
        state, _ = machine.step(state, Answered(site, phase, BYTES[0]))
    return state


def test_of_the_survivors_as_many_as_open_the_sum_are_enough() -> None:
    state = answered(at(Phase.CONFIRM, quorum=4, least=3), Phase.CONFIRM, SITES[:3])
    state, effects = machine.step(state, DeadlinePassed(Phase.CONFIRM))
    assert effects == [Ask(Phase.UNMASK, frozenset(SITES[:3]))] and len(state.counted) == 5


def test_a_round_that_is_being_opened_waits_below_its_threshold_and_goes_on_when_the_site_is_back() -> None:
    state = answered(at(Phase.UNMASK), Phase.UNMASK, SITES[:2])
    state, effects = machine.step(state, DeadlinePassed(Phase.UNMASK))
    assert effects == [Wait(Phase.UNMASK, 2, 3)]
    for event in (Cancelled("stop"), DeadlinePassed(Phase.UNMASK)):
        assert machine.step(state, event) == (state, [])
    state, effects = machine.step(state, Answered(SITES[4], Phase.UNMASK, BYTES[0]))
    assert effects == [Ask(Phase.APPLY, frozenset({COORDINATOR}))]


@pytest.mark.parametrize("phase", [Phase.PAIR, Phase.PROVE])
def test_without_one_of_those_who_sent_keys_pairing_is_opened_again(phase: Phase) -> None:
    state = answered(at(phase, PAIRING), phase, SITES[:4])
    state, effects = machine.step(state, DeadlinePassed(phase))
    assert state.closed and isinstance(effects[0], Close) and effects[0].outcome is None and effects[0].reason


def test_a_threshold_leaves_no_room_for_two_sums() -> None:
    for count in range(3, 300):
        t = threshold(count)
        assert t <= count and t - (count - t) > 0 and 3 * t > 2 * count, "two sets of t share more than a third"
    assert [threshold(n) for n in (3, 4, 5, 7, 10, 20, 50, 100, 200)] == [3, 3, 4, 5, 7, 14, 34, 67, 134]


@pytest.mark.parametrize("phases", **names)
def test_the_diagram_has_every_phase_and_where_it_can_be_cancelled(phases: tuple[Phase, ...]) -> None:
    drawing = machine.diagram(phases)
    for phase in phases:
        cancelled = f"    {phase} --> [*]: cancelled"
        state = at(phase, phases)
        assert (cancelled in drawing.splitlines()) == machine.step(state, Cancelled("stop"))[0].closed


@pytest.mark.parametrize("phases", **names)
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), draws, st.sets(st.sampled_from(SITES)))
def test_answers_together_are_answers_one_by_one(
    phases: tuple[Phase, ...], members: int, quorum: int, sequence: Draws, who: set[SiteId]
) -> None:
    state, _ = machine.begin(1, RECIPES[phases], phases, frozenset(SITES[:members]), min(quorum, members), 1)
    for number in sequence:
        try:
            state, _ = machine.step(state, drawn(state, number))
        except ConsiliumError:
            continue
    phase = state.phase or phases[0]
    answers = dict.fromkeys(sorted(who), BYTES[0])
    fits = state.phase is not None and not state.overdue and who <= state.asked(phase) - state.answered(phase).keys()
    if not fits or not who:
        if who or not fits:
            with pytest.raises((OutOfPhase, UnknownSite)):
                machine.together(state, phase, answers)
        return
    single, effects = state, list[Effect]()
    for site, bytes_ in answers.items():
        single, effects = machine.step(single, Answered(site, phase, bytes_))
    assert machine.together(state, phase, answers) == (single, effects)
