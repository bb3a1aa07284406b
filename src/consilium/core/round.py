"""THE state machine of a round. Every transition of a round lives in this file.

A round is a tuple of phases that the privacy recipe chooses. Every phase is the same small thing: ask, gather answers,
close when all have answered or, after its deadline, when a quorum has. Below quorum it waits: nothing is thrown away.
The diagram in the docs is drawn from `PHASES` and `diagram()`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from consilium.core.changed import changed
from consilium.core.errors import Equivocation, Invalid, OutOfPhase, UnknownSite
from consilium.core.ids import COORDINATOR, Digest, SiteId

Roster = frozenset[SiteId]
"""Sites asked in one round; a cohort is always patients."""


class Kind(StrEnum):
    """What a round is for. In PAIR, round 0 of a run, sites agree on keys; in PREPARE, before any training, they sum
    what inputs are scaled and filled in by.
    """

    PAIR = "PAIR"
    PREPARE = "PREPARE"
    TRAIN = "TRAIN"
    EVALUATE = "EVALUATE"


class Phase(StrEnum):
    """What is asked.

    SUBMIT: each site sends its contribution. APPLY: the coordinator computes the next state. KEYS, PAIR, PROVE: public
    keys; what was encapsulated to each other; proof of the same keys, once people have compared the roster's words.
    READY: the site has trained. MASK: its masked vector. CONFIRM: whose vectors it saw; left out where nobody was lost
    (`Round.direct`). UNMASK: what opens their sum.
    """

    SUBMIT = "SUBMIT"
    APPLY = "APPLY"
    KEYS = "KEYS"
    PAIR = "PAIR"
    PROVE = "PROVE"
    READY = "READY"
    MASK = "MASK"
    CONFIRM = "CONFIRM"
    UNMASK = "UNMASK"


PLAIN: tuple[Phase, ...] = (Phase.SUBMIT, Phase.APPLY)
"""The phases of the recipe `plain`."""
PAIRING: tuple[Phase, ...] = (Phase.KEYS, Phase.PAIR, Phase.PROVE)
"""The phases of a round of kind PAIR."""
SECURE_SUM: tuple[Phase, ...] = (Phase.READY, Phase.MASK, Phase.CONFIRM, Phase.UNMASK, Phase.APPLY)
"""The phases of the recipe `secure_sum`."""
ASKED_OF_COORDINATOR = frozenset({Phase.APPLY})
COUNTED = frozenset({Phase.SUBMIT, Phase.MASK})
"""Phases in which a site's values come: who answered one took part in the round."""
_BY_ALL = frozenset({Phase.PAIR, Phase.PROVE})
"""Phases that everybody asked must answer; without some of them, the round is opened again."""
TAKING_PART = frozenset({Phase.SUBMIT, Phase.READY, Phase.MASK})
"""Phases up to that in which a site's values come."""
_WITH_LEAST = frozenset({Phase.CONFIRM, Phase.UNMASK})
"""Phases in which nothing is added to the sum: as many as open it are enough."""


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
    """One round. `answers[phase][site]` only grows; `roster` only shrinks; `at` is the index of the open phase.

    `quorum` sites take part at least; `least` of them open a sum. With `enough` answers SUBMIT closes before its
    deadline, whoever else is asked; 0: it waits for all. `began` is the roster as it was opened; `whole`: its sum is of
    all of these, or there is none. `direct`: where all who called READY have masked, nobody confirms who did.
    """

    number: int
    kind: Kind
    phases: tuple[Phase, ...]
    roster: Roster
    quorum: int
    least: int = 1
    at: int = 0
    answers: Mapping[Phase, Mapping[SiteId, Digest]] = field(default_factory=lambda: MappingProxyType({}))
    overdue: bool = False
    closed: bool = False
    enough: int = 0
    began: Roster = frozenset()
    whole: bool = False
    direct: bool = False

    @property
    def phase(self) -> Phase | None:
        """The open phase; None when the round is closed."""
        return None if self.closed else self.phases[self.at]

    def asked(self, phase: Phase) -> Roster:
        """Who is asked in `phase`: the roster; after the first phase, those of it who answered the one before."""
        if phase in ASKED_OF_COORDINATOR:
            return frozenset({COORDINATOR})
        at = self.phases.index(phase)
        return self.roster & self.answered(self.phases[at - 1]).keys() if at else self.roster

    @property
    def among(self) -> Roster:
        """Of which sites the open phase is, whoever left since."""
        return frozenset(self.answered(self.phases[self.at - 1])) if self.at else self.began

    def answered(self, phase: Phase) -> Mapping[SiteId, Digest]:
        """The answers of `phase` so far."""
        return self.answers.get(phase, MappingProxyType({}))

    @property
    def counted(self) -> Mapping[SiteId, Digest]:
        """Whose values are in the sum; in PAIR, who holds the keys."""
        phase = next((phase for phase in self.phases if phase in COUNTED), self.phases[-1])
        return self.answered(phase)

    @property
    def lacks(self) -> Roster:
        """Who has not answered the open phase, of those who were asked at first."""
        return self.began - self.answered(self.phases[self.at]).keys()

    @property
    def short(self) -> bool:
        """Whether fewer are left than let the open phase close, whoever of them answers."""
        phase = self.phases[self.at]
        return len(self.asked(phase) | self.answered(phase).keys()) < self.needed(phase)

    @property
    def opening(self) -> bool:
        """Whether its sum may be open already: from UNMASK on, no second attempt of this round is possible."""
        return Phase.UNMASK in self.phases[: self.at + 1]

    def needed(self, phase: Phase) -> int:
        """How many answers let `phase` close at its deadline."""
        if phase in ASKED_OF_COORDINATOR:
            return 1
        return self.least if phase in _WITH_LEAST else self.quorum


def begin(
    number: int, kind: Kind, phases: tuple[Phase, ...], roster: Roster, quorum: int, least: int = 1, enough: int = 0,
    whole: bool = False, direct: bool = False,
) -> tuple[Round, list[Effect]]:  # fmt: skip
    """Open a round and ask its first phase. Where it is `whole`, its quorum is the roster.

    Raises: Invalid: the roster is smaller than the quorum, or the quorum is not positive or below what opens a sum;
            or `enough` is below the quorum.
    """
    if quorum < max(least, 1) or len(roster) < quorum:
        raise Invalid(f"{len(roster)} sites cannot meet a quorum of {quorum}", "wait for more sites to approve")
    if enough and enough < quorum:
        raise Invalid(f"{enough} answers are no quorum of {quorum}", "raise `enough`, or lower `quorum`")
    quorum = len(roster) if whole else quorum
    more = {"enough": enough, "began": roster, "whole": whole, "direct": direct}
    fresh = Round(number, kind, phases, roster, quorum, least, **more)  # type: ignore[arg-type]
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
            return _settle(changed(before, overdue=True))
        case Cancelled():
            if before.closed or before.opening:
                return before, []  # a sum that some sites have opened has no second attempt
            return changed(before, closed=True), [Close(None, event.reason)]


def together(before: Round, phase: Phase, answers: Mapping[SiteId, Digest]) -> tuple[Round, list[Effect]]:
    """The round after all of these sites answered its open phase, as if by `step` one after the other, in one pass.

    Raises: OutOfPhase: another phase is open, or its deadline has passed, after which each answer may be the one that
            closes it; or these are more than are enough.   UnknownSite: one was not asked, or has answered before.
    """
    more = before.enough and phase is Phase.SUBMIT and len(before.answered(phase)) + len(answers) > before.enough
    if phase != before.phase or before.overdue or more:
        raise OutOfPhase(f"round {before.number} does not wait for all of {phase}", "answer one by one")
    known = before.answered(phase)
    if not (answers.keys() <= before.asked(phase) and answers.keys().isdisjoint(known)):
        raise UnknownSite(f"not all of these were asked in round {before.number}, or some have answered before")
    gathered = {**before.answers, phase: MappingProxyType({**known, **answers})}
    return _settle(changed(before, answers=MappingProxyType(gathered)))


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
    return _settle(changed(before, answers=MappingProxyType(answers)))


def _withdrew(before: Round, event: Withdrew) -> tuple[Round, list[Effect]]:
    if before.closed or event.site not in before.roster or event.site in before.answered(Phase.SUBMIT):
        return before, []  # what it has sent stays in the sum; it is out from the next round on
    # What it has masked stays in the sum, too, but it is not waited for any more: others open it.
    after = changed(before, roster=before.roster - {event.site})
    if event.site in before.answered(Phase.KEYS):  # the others' keys are bound to a roster with it in
        return changed(after, closed=True), [Close(None, f"{event.site} left while keys were agreed")]
    if before.phase in ASKED_OF_COORDINATOR:
        return after, []
    return _settle(after)


def _settle(round_: Round) -> tuple[Round, list[Effect]]:
    """Close the open phase if it can be closed."""
    phase = round_.phases[round_.at]
    gathered, needed = round_.answered(phase), round_.needed(phase)
    everyone = round_.asked(phase) <= gathered.keys()
    everyone |= phase is Phase.SUBMIT and 0 < round_.enough <= len(gathered)
    if len(gathered) < needed:
        return round_, [Wait(phase, len(gathered), needed)] if round_.overdue or round_.short else []
    if not everyone and not round_.overdue:
        return round_, []
    if phase in _BY_ALL and not everyone:
        return changed(round_, closed=True), [Close(None, f"round {round_.number} is opened again, without the silent")]
    if round_.at + 1 == len(round_.phases):
        outcome = next(iter(gathered.values()))
        return changed(round_, closed=True), [Close(outcome)]
    opened = changed(round_, at=round_.at + 1, overdue=False, phases=_left(round_))
    following = opened.phases[opened.at]
    return opened, [Ask(following, opened.asked(following))]


def _left(round_: Round) -> tuple[Phase, ...]:
    """Its phases, without CONFIRM where the survivors are all who were called: then nobody is told of others."""
    masked = round_.phases[round_.at] is Phase.MASK and round_.answered(Phase.MASK).keys()
    if not (round_.direct and masked == round_.answered(Phase.READY).keys()):
        return round_.phases
    return tuple(phase for phase in round_.phases if phase is not Phase.CONFIRM)


def diagram(phases: tuple[Phase, ...]) -> str:
    """The round as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {phases[0]}"]
    for phase, following in zip(phases, (*phases[1:], "[*]"), strict=True):
        who = "coordinator" if phase in ASKED_OF_COORDINATOR else "all, or quorum at the deadline"
        who = "all" if phase in _BY_ALL else who
        who = "all, or as many as are enough, or quorum at the deadline" if phase is Phase.SUBMIT else who
        lines.append(f"    {phase} --> {following}: {who} answered")
        if phase not in ASKED_OF_COORDINATOR:
            lines.append(f"    {phase} --> {phase}: deadline below quorum (paused)")
        if Phase.UNMASK not in phases[: phases.index(phase) + 1]:
            lines.append(f"    {phase} --> [*]: cancelled")
    return "\n".join(lines)
