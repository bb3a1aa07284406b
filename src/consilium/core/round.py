"""THE state machine of a round. Every transition of a round lives in this file.

A round is a tuple of phases that the privacy recipe chooses. Every phase is the same small thing: ask, gather answers,
close when all have answered or, after its deadline, when a quorum has. Below quorum it waits: nothing is thrown away.
The diagram in the docs is drawn from `PHASES` and `diagram()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from consilium.core.errors import Equivocation, Invalid, OutOfPhase, UnknownSite
from consilium.core.ids import COORDINATOR, Digest, SiteId

Roster = frozenset[SiteId]
"""Sites asked in one round; a cohort is always patients."""


class Kind(StrEnum):
    """What a round is for."""

    TRAIN = "TRAIN"
    EVALUATE = "EVALUATE"


class Phase(StrEnum):
    """What is asked. In SUBMIT each site sends its contribution; in APPLY the coordinator computes the next state."""

    SUBMIT = "SUBMIT"
    APPLY = "APPLY"


PLAIN: tuple[Phase, ...] = (Phase.SUBMIT, Phase.APPLY)
"""The phases of the recipe `plain`."""
ASKED_OF_COORDINATOR = frozenset({Phase.APPLY})


@dataclass(frozen=True)
class Answered:
    """A site answered a phase with bytes of this digest."""

    site: SiteId
    phase: Phase
    digest: Digest


@dataclass(frozen=True)
class Withdrew:
    """A site refuses, was revoked or left: it will not answer in this round."""

    site: SiteId
    reason: str


@dataclass(frozen=True)
class DeadlinePassed:
    """The deadline of a phase has passed."""

    phase: Phase


@dataclass(frozen=True)
class Cancelled:
    """A person stopped it."""

    reason: str


Event = Answered | Withdrew | DeadlinePassed | Cancelled


@dataclass(frozen=True)
class Ask:
    """Effect: ask these sites (or the coordinator itself) for this phase."""

    phase: Phase
    roster: Roster


@dataclass(frozen=True)
class Wait:
    """Effect: below quorum after the deadline; say so, the round goes on when enough have answered."""

    phase: Phase
    answered: int
    quorum: int


@dataclass(frozen=True)
class Close:
    """Effect: the round is over. `outcome` is the digest of the last phase, or None when cancelled."""

    outcome: Digest | None
    reason: str = ""


Effect = Ask | Wait | Close


@dataclass(frozen=True)
class Round:
    """One round. `answers[phase][site]` only grows; `roster` only shrinks; `at` is the index of the open phase."""

    number: int
    kind: Kind
    phases: tuple[Phase, ...]
    roster: Roster
    quorum: int
    at: int = 0
    answers: Mapping[Phase, Mapping[SiteId, Digest]] = field(default_factory=lambda: MappingProxyType({}))
    overdue: bool = False
    closed: bool = False

    @property
    def phase(self) -> Phase | None:
        """The open phase; None when the round is closed."""
        return None if self.closed else self.phases[self.at]

    def asked(self, phase: Phase) -> Roster:
        """Who is asked in `phase`."""
        return frozenset({COORDINATOR}) if phase in ASKED_OF_COORDINATOR else self.roster

    def answered(self, phase: Phase) -> Mapping[SiteId, Digest]:
        """The answers of `phase` so far."""
        return self.answers.get(phase, MappingProxyType({}))

    def needed(self, phase: Phase) -> int:
        """How many answers let `phase` close at its deadline."""
        return 1 if phase in ASKED_OF_COORDINATOR else self.quorum


def begin(
    number: int, kind: Kind, phases: tuple[Phase, ...], roster: Roster, quorum: int
) -> tuple[Round, list[Effect]]:
    """Open a round and ask its first phase.

    Raises: Invalid: the roster is smaller than the quorum, or the quorum is not positive.
    """
    if quorum < 1 or len(roster) < quorum:
        raise Invalid(f"{len(roster)} sites cannot meet a quorum of {quorum}", "wait for more sites to approve")
    fresh = Round(number, kind, phases, roster, quorum)
    return fresh, [Ask(phases[0], fresh.asked(phases[0]))]


def step(before: Round, event: Event) -> tuple[Round, list[Effect]]:
    """The round after `event`, and what is to be done. A refused event raises and changes nothing.

    Raises: OutOfPhase, UnknownSite, Equivocation.
    """
    match event:
        case Answered():
            return _answered(before, event)
        case Withdrew():
            return _withdrew(before, event)
        case DeadlinePassed():
            if event.phase != before.phase or before.overdue:
                return before, []
            return _settle(replace(before, overdue=True))
        case Cancelled():
            if before.closed:
                return before, []
            return replace(before, closed=True), [Close(None, event.reason)]


def _answered(before: Round, event: Answered) -> tuple[Round, list[Effect]]:
    # The order of these cases is the promise of architecture.md, "The round".
    known = before.answered(event.phase).get(event.site)
    if known == event.digest:
        return before, []
    if event.phase != before.phase:
        now = before.phase or "closed"
        raise OutOfPhase(f"round {before.number} is past {event.phase}: it is {now}", "take the next task")
    if event.site not in before.asked(event.phase):
        raise UnknownSite(f"{event.site} was not asked in round {before.number}", "wait for the next round")
    if known is not None:
        raise Equivocation(f"{event.site} already answered round {before.number} with other bytes")
    gathered = {**before.answered(event.phase), event.site: event.digest}
    answers = {**before.answers, event.phase: MappingProxyType(gathered)}
    return _settle(replace(before, answers=MappingProxyType(answers)))


def _withdrew(before: Round, event: Withdrew) -> tuple[Round, list[Effect]]:
    if before.closed or event.site not in before.roster or event.site in before.answered(Phase.SUBMIT):
        return before, []  # what it has sent stays in the sum; it is out from the next round on
    after = replace(before, roster=before.roster - {event.site})
    if before.phase in ASKED_OF_COORDINATOR:
        return after, []
    return _settle(after)


def _settle(round_: Round) -> tuple[Round, list[Effect]]:
    """Close the open phase if it can be closed."""
    phase = round_.phases[round_.at]
    gathered, needed = round_.answered(phase), round_.needed(phase)
    everyone = round_.asked(phase) <= gathered.keys()
    if len(gathered) < needed:
        waiting = round_.overdue or len(round_.asked(phase)) < needed
        return round_, [Wait(phase, len(gathered), needed)] if waiting else []
    if not everyone and not round_.overdue:
        return round_, []
    if round_.at + 1 == len(round_.phases):
        outcome = next(iter(gathered.values()))
        return replace(round_, closed=True), [Close(outcome)]
    opened = replace(round_, at=round_.at + 1, overdue=False)
    following = opened.phases[opened.at]
    return opened, [Ask(following, opened.asked(following))]


def diagram(phases: tuple[Phase, ...]) -> str:
    """The round as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {phases[0]}"]
    for phase, following in zip(phases, (*phases[1:], "[*]"), strict=True):
        who = "coordinator" if phase in ASKED_OF_COORDINATOR else "all, or quorum at the deadline"
        lines.append(f"    {phase} --> {following}: {who} answered")
        if phase not in ASKED_OF_COORDINATOR:
            lines.append(f"    {phase} --> {phase}: deadline below quorum (paused)")
        lines.append(f"    {phase} --> [*]: cancelled")
    return "\n".join(lines)
