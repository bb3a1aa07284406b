"""Rounds in a row: which round comes next, when the run pauses, when it ends."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from consilium.core import round as machine
from consilium.core.changed import changed
from consilium.core.errors import Conflict, Invalid, OutOfPhase
from consilium.core.ids import Digest, SiteId
from consilium.core.round import Kind, Roster, Round
from consilium.core.threshold import threshold


class Status(StrEnum):
    """Where a run stands. `paused` goes on by itself once enough sites are back."""

    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


_DID = dict.fromkeys(machine.Phase, "have answered") | {
    machine.Phase.PROVE: "have compared the words of the roster",
    machine.Phase.CONFIRM: "have confirmed whose vectors they saw",
    machine.Phase.UNMASK: "have sent what opens the sum",
}
"""What a run waits for, phase by phase."""
OVER = frozenset({Status.FINISHED, Status.STOPPED, Status.FAILED})


@dataclass(frozen=True)
class Opened:
    """A round begins with this roster; `attempt` counts openings of the same number.

    Args:    quorum: how many must take part; 0: the plan's number.   least: how many open a sum.
             whole: there was a sum over these sites at the round's model, and there is none over others.
             direct: see `round.Round`. It was never so in protocol 1.
    """

    number: int
    kind: Kind
    roster: tuple[SiteId, ...]
    attempt: int
    quorum: int = 0
    least: int = 1
    whole: bool = False
    direct: bool = False


@dataclass(frozen=True)
class Lacking:
    """Too few sites approve the plan to open the next round.

    Args:    awaits: without these it is not opened, however many approve: see `Opened.whole`.
             apart: those who would take part refuse a sum over one another.
    """

    present: int
    awaits: tuple[SiteId, ...] = ()
    apart: bool = False


@dataclass(frozen=True)
class Parted:
    """Too few of those that hold keys go on: keys are agreed anew, among those that do."""

    reason: str


@dataclass(frozen=True)
class Stopped:
    """A person ended the run, or it cannot go on (`failed`)."""

    reason: str
    failed: bool = False


RunEvent = Opened | Lacking | Parted | Stopped | machine.Event


@dataclass(frozen=True)
class Run:
    """A fold of its events. `state` names the newest state of the chain; `took_part` who made which round.

    `cohort` holds keys with one another; it is empty where the recipe needs none, and until they do. `pairings` counts
    how often keys were agreed: rounds of kind PAIR are all number 0, and leave `number` and `attempt` as they are.
    `awaits`: who must take part in the next round and cannot be asked.
    `compared`: with whom the people of each site have compared words, as its answers to PROVE say.
    `lost`: who was asked for keys and holds none: at which of the `pairings`, and which phase it has not answered.
    `prepares` says how many rounds of kind PREPARE come before the `rounds` of training, of which each closes with
    `enough` answers; 0: with those of all.
    """

    rounds: int
    quorum: int
    secure: bool = False
    status: Status = Status.PAUSED
    reason: str = "not begun"
    number: int = 0
    attempt: int = 0
    round: Round | None = None
    state: Digest | None = None
    took_part: Mapping[int, tuple[SiteId, ...]] = field(default_factory=lambda: MappingProxyType({}))
    cohort: tuple[SiteId, ...] = ()
    pairings: int = 0
    prepares: int = 0
    enough: int = 0
    awaits: tuple[SiteId, ...] = ()
    lost: Mapping[SiteId, tuple[int, machine.Phase]] = field(default_factory=lambda: MappingProxyType({}))
    compared: Mapping[SiteId, frozenset[SiteId]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def current(self) -> tuple[int, int]:
        """(number, attempt) of the newest round."""
        if self.round is not None and self.round.kind is Kind.PAIR:
            return 0, self.pairings
        return self.number, self.attempt

    @property
    def next_number(self) -> int:
        """Number of the newest round that is not done, or that comes."""
        return self.number + 1 if self.number in self.took_part or self.number == 0 else self.number

    @property
    def following(self) -> tuple[int, Kind] | None:
        """The round to open now; None while one is open or when the run is over."""
        if self.status in OVER or (self.round is not None and not self.round.closed):
            return None
        if self.secure and not self.cohort:
            return 0, Kind.PAIR
        number = self.next_number
        if number <= self.prepares:
            return number, Kind.PREPARE
        return number, Kind.TRAIN if number <= self.prepares + self.rounds else Kind.EVALUATE


def step(before: Run, event: RunEvent) -> tuple[Run, list[machine.Effect]]:
    """The run after `event`, and the effects of its round. A refused event raises and changes nothing.

    Raises: Conflict and its kinds: the event does not fit.   Invalid: a roster below quorum, or one without keys.
    """
    if before.status in OVER:
        return _after_the_end(before, event)
    match event:
        case Opened():
            return _opened(before, event)
        case Lacking():
            awaits = event.awaits if before.following is not None else ()
            return changed(before, status=Status.PAUSED, reason=_lacks(before, event), awaits=awaits), []
        case Parted():
            if before.round is not None and not before.round.closed:
                raise Conflict("a round is open", "close it first")
            return changed(before, cohort=(), status=Status.PAUSED, reason=event.reason, awaits=()), []
        case Stopped():
            status = Status.FAILED if event.failed else Status.STOPPED
            return changed(before, status=status, reason=event.reason, awaits=()), []
        case _:
            if before.round is None:
                raise OutOfPhase("no round is open", "wait for a task")
            inner, effects = machine.step(before.round, event)
            return _settled(changed(before, round=inner), effects), effects


def together(before: Run, phase: machine.Phase, answers: Mapping[SiteId, Digest]) -> tuple[Run, list[machine.Effect]]:
    """The run after all of these sites answered the open phase: see `round.together`. Raises: as that; OutOfPhase."""
    if before.round is None or before.status in OVER:
        raise OutOfPhase("no round is open", "wait for a task")
    inner, effects = machine.together(before.round, phase, answers)
    return _settled(changed(before, round=inner), effects), effects


def _after_the_end(before: Run, event: RunEvent) -> tuple[Run, list[machine.Effect]]:
    if isinstance(event, machine.Answered) and before.round is not None:
        if before.round.answered(event.phase).get(event.site) == event.digest:
            return before, []
        raise OutOfPhase(f"the run is {before.status}", "nothing is left to do")
    if isinstance(event, Opened):
        raise Conflict(f"the run is {before.status}", "start a new run")
    return before, []


def _opened(before: Run, event: Opened) -> tuple[Run, list[machine.Effect]]:
    if before.following != (event.number, event.kind):
        raise Conflict(f"round {event.number} is not the next one", "open the round that `following` names")
    roster: Roster = frozenset(event.roster)
    phases = _phases(before.secure, event.kind)
    quorum = event.quorum or before.quorum
    if before.secure and event.kind is not Kind.PAIR:
        _sound(before, roster, event.least)
    enough = before.enough if event.kind is Kind.TRAIN else 0
    fresh, effects = machine.begin(
        event.number, event.kind, phases, roster, quorum, event.least, enough, event.whole, event.direct
    )
    opened = changed(before, round=fresh, status=Status.RUNNING, reason="", awaits=())
    if event.kind is Kind.PAIR:
        return changed(opened, pairings=event.attempt), effects
    return changed(opened, number=event.number, attempt=event.attempt), effects


def _sound(run: Run, roster: Roster, least: int) -> None:
    """Refuse a secure sum over a site without keys, or that fewer than its threshold could open."""
    if not roster <= frozenset(run.cohort):
        raise Invalid("a site of the roster holds no keys with the others", "it takes part from the next run on")
    if least < threshold(len(roster)):
        raise Invalid(f"{least} sites must not open a sum over {len(roster)}", "open the round with its threshold")


def _phases(secure: bool, kind: Kind) -> tuple[machine.Phase, ...]:
    if kind is Kind.PAIR:
        return machine.PAIRING
    return machine.SECURE_SUM if secure else machine.PLAIN


def _lacks(run: Run, event: Lacking) -> str:
    if event.awaits and run.following is not None:
        keyless = sorted(set(event.awaits) - set(run.cohort))
        again = f"; {', '.join(keyless)} is asked for keys once its people approve the plan again" if keyless else ""
        return _waits(*run.following, event.awaits) + again
    if event.apart:
        kind = Kind.TRAIN if run.following is None else run.following[1]
        return (
            f"round {run.next_number} waits for others: those who would take part refuse a sum over one another, after "
            f"what was told before at its model; if nobody comes, stop the run, and {elsewhere(kind)}"
        )
    return f"{event.present} sites approve this plan and are admitted; {run.quorum} are needed"


def _waits(number: int, kind: Kind, sites: Collection[SiteId]) -> str:
    """That a round waits for these sites, why, and what a person does who knows that one of them stays away."""
    whom = ", ".join(sorted(sites))
    if kind is Kind.PREPARE:
        why = f"hospitals were in sums with {whom} that prepare inputs, and are in none over others"
    else:
        why = f"at its model hospitals were in a sum with {whom}, and are in none over others"
    return f"round {number} waits for {whom}: {why}; if one stays away, stop the run, and {elsewhere(kind)}"


def elsewhere(kind: Kind) -> str:
    """What else other hospitals can be asked, where some were in sums over others at what a round is about."""
    if kind is Kind.PREPARE:
        return "submit a study without `prepare`, or of other patients"
    return (
        "submit a study that begins at another model: another `training.seed` gives one, and for regressions, which "
        "begin at zero, `start: drawn` if they are trained by steps, else `start: given`; where sums are the same at "
        "every model (`newton` with least squares, `webdisco`), or none is trained, submit one of other patients"
    )


def _settled(run: Run, effects: list[machine.Effect]) -> Run:
    for effect in effects:
        match effect:
            case machine.Wait() if run.round is not None and run.round.whole and effect.phase in machine.TAKING_PART:
                reason = _waits(run.current[0], run.round.kind, run.round.lacks)
                return changed(run, status=Status.PAUSED, reason=reason)
            case machine.Wait():
                what = f"round {run.current[0]}" if run.current[0] else "agreeing on keys"
                reason = f"{what}: {effect.answered} of the {effect.quorum} needed sites {_DID[effect.phase]}"
                return changed(run, status=Status.PAUSED, reason=reason)
            case machine.Ask():
                return changed(run, status=Status.RUNNING, reason="")
            case machine.Close(outcome=None):
                return changed(
                    run, status=Status.PAUSED, reason=effect.reason, lost=_lost(run), compared=_compared(run)
                )
            case machine.Close():
                return _completed(run, effect)
    return run


def _lost(run: Run, holding: Collection[SiteId] = ()) -> Mapping[SiteId, tuple[int, machine.Phase]]:
    """Who was asked for keys and holds none, once a round in which they are agreed has closed."""
    assert run.round is not None
    if run.round.kind is not Kind.PAIR:
        return run.lost
    silent = {
        site: (run.pairings, phase)
        for site in run.round.began
        for phase in reversed(run.round.phases)
        if site not in run.round.answered(phase)
    }
    asked = {**run.lost, **silent}
    return MappingProxyType({site: asked[site] for site in sorted(asked) if site not in holding})


def _compared(run: Run) -> Mapping[SiteId, frozenset[SiteId]]:
    """With whom each has compared words, once a round in which keys are agreed has closed, or was given up."""
    assert run.round is not None
    if run.round.kind is not Kind.PAIR:
        return run.compared
    roster = frozenset(run.round.answered(machine.Phase.PAIR))
    proved = run.round.answered(machine.Phase.PROVE)
    return MappingProxyType(
        {**run.compared, **{site: run.compared.get(site, frozenset()) | roster for site in sorted(proved)}}
    )


def _completed(run: Run, effect: machine.Close) -> Run:
    assert run.round is not None
    took_part = tuple(sorted(run.round.counted))
    if run.round.kind is Kind.PAIR:
        agreed = changed(run, cohort=took_part, status=Status.RUNNING, reason="")
        return changed(agreed, lost=_lost(run, took_part), compared=_compared(run))
    done = changed(run, took_part=MappingProxyType({**run.took_part, run.number: took_part}))
    if run.round.kind is Kind.EVALUATE:
        # where nothing was trained, this round's state is the first: the model that was given
        return changed(done, status=Status.FINISHED, reason="", state=done.state or effect.outcome)
    return changed(done, state=effect.outcome)
