"""From events to rows: apply one event to a run, and turn its effects into inbox messages and due work.

Everything here happens inside one transaction: the event, the state it leads to and what is to be done are committed
together or not at all. Work that touches files (`begin`, `apply`) becomes a row that the driver leases afterwards.
"""

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from consilium.coordinator import before, news, steps
from consilium.coordinator.compared import strangers
from consilium.coordinator.ledgers import checkpoint, post_all, record
from consilium.coordinator.whom import Whom
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import OutOfPhase
from consilium.core.ids import COORDINATOR, Digest, RunId, SiteId, canonical
from consilium.core.refusing import OF_SET
from consilium.core.study import Plan
from consilium.store import eventlog
from consilium.store.database import Transaction
from consilium.store.schema import effects, grants, results
from consilium.store.shelf import size_of
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Closed, Ended, Task

IDLE_S = 30.0
"""The driver looks for work this often, whether it is woken or not."""
CHECKPOINT_EVERY = 10
"""Rounds between two checkpoints of the audit log that sites keep; one more goes at the end of a run."""


@dataclass
class Conduct:
    """One run inside one transaction."""

    tx: Transaction
    identity: Identity
    run: RunId
    plan: Plan
    version: int
    fold: runs.Run
    now: datetime
    soon: frozenset[str] = frozenset()
    came: SiteId | None = None
    closing: Closed | None = None

    @classmethod
    def load(cls, tx: Transaction, identity: Identity, run: RunId, now: datetime) -> "Conduct":
        """Load a run by replay. Raises: NotFound."""
        plan, version, fold = eventlog.of_plan(tx, run)
        return cls(tx, identity, run, plan, version, fold, now)

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.plan.study.name

    @property
    def whom(self) -> Whom:
        """Its sites, as they stand now."""
        return Whom(self.tx, self.run, self.plan, self.fold, self.now, self.came)

    def take(self, event: runs.RunEvent) -> None:
        """Apply one event and record what follows from it.

        Raises: Conflict and its kinds: the event is refused; nothing was changed.
        """
        before = self.fold
        self.version, self.fold, following = eventlog.append(self.tx, self.run, self.version, before, event, self.now)
        if before.status is runs.Status.PAUSED and self.fold.status is runs.Status.RUNNING:
            number = self.fold.current[0]
            what = f"round {number}" if number else "hospitals agree on keys"
            news.tell(self.tx, "run-goes-on", {"run": self.run, "what": what})
        for effect in following:
            self._plan_effect(effect)
        if self.fold.status in runs.OVER and before.status not in runs.OVER:
            self._end()

    def _plan_effect(self, effect: machine.Effect) -> None:
        match effect:
            case machine.Ask(phase=machine.Phase.APPLY):
                self.due("apply", f"{self.fold.number}", self.now)
            case machine.Ask():
                self._ask(effect)
            case machine.Wait():
                record(self.tx, "run-waits", {"run": self.run, "reason": self.fold.reason}, self.now)
            case machine.Close(outcome=None):
                self.open_next()
            case machine.Close():
                self._closed()

    def due(self, kind: str, what: str, at: datetime, people: Iterable[SiteId] = ()) -> None:
        """Record work for the driver, once per key; and whose people it waits for."""
        key = f"{self.run}/{kind}/{what}"
        row = {"key": key, "run": self.run, "kind": kind, "due": at.timestamp()}
        row["body"] = json.dumps({"what": what, "people": list(people)})
        self.tx.put_once(effects, **row, leased_until=0.0, attempts=0)
        if at.timestamp() - self.now.timestamp() < IDLE_S:  # else the driver finds it when it looks next
            self.soon = self.soon | {key}
            self.tx.ring("effects")

    def open_next(self) -> None:
        """Open the next round if enough sites approve; else say why the run pauses."""
        following = self.fold.following
        if following is None:
            return
        if self.fold.cohort:
            self._open_among_cohort(*following)
            return
        roster = self.whom.present()
        if len(roster) < self.fold.quorum:
            self._lack(runs.Lacking(len(roster)))
            return
        self._open(*following, roster)

    def _open(
        self,
        number: int,
        kind: machine.Kind,
        roster: list[SiteId],
        quorum: int = 0,
        least: int = 1,
        whole: bool = False,
    ) -> None:
        attempt = self.fold.attempt + 1 if number == self.fold.number else 1
        if kind is machine.Kind.PAIR:
            attempt = self.fold.pairings + 1
        self.take(runs.Opened(number, kind, tuple(roster), attempt, quorum, least, whole, bool(self.fold.cohort)))

    def _open_among_cohort(self, number: int, kind: machine.Kind) -> None:
        """Open a secure sum among those that hold keys; if they are too few, those that go on agree on keys anew."""
        quorum, least = steps.needed(self.tx, self.run, self.plan, self.fold.cohort)
        if (whole := self.whom.whole(number, quorum)) is not None:
            self._open_over(number, kind, whole.sites, least)
            return
        roster = self.whom.chosen(number, quorum)
        if len(roster) >= quorum:
            self._open(number, kind, roster, quorum, least)
        elif self.whom.apart(number):
            self._part(number, quorum, len(roster))
        elif len(set(self.whom.approving()) - self.whom.refusing(number)) >= self.fold.quorum:
            self.take(runs.Parted(f"{len(roster)} of the {quorum} needed sites that hold keys go on"))
            self.open_next()
        else:
            self._lack(runs.Lacking(len(roster)))

    def _part(self, number: int, quorum: int, going: int) -> None:
        """Too few are left who do not refuse a sum over one another: go on with others, or say for whom it waits."""
        if joined := self.whom.joined(number):
            self.take(runs.Parted("those that hold keys refuse a sum over one another, and others do not"))
            self._open(0, machine.Kind.PAIR, joined)
            return
        fit = self.whom.fit(number, quorum)
        awaits = self.whom.lacking(number, fit[0].sites) if fit else frozenset()
        self._lack(runs.Lacking(going, tuple(sorted(awaits)), apart=True))

    def _open_over(self, number: int, kind: machine.Kind, sites: machine.Roster, least: int) -> None:
        """Open a secure sum over these sites and no others, or say for whom of them it waits."""
        if lacking := self.whom.lacking(number, sites):
            self._lack(runs.Lacking(len(sites - lacking), tuple(sorted(lacking))))
        elif keyless := sites - set(self.fold.cohort):
            self.take(runs.Parted(f"round {number} is over {', '.join(sorted(keyless))}, too, who hold no keys yet"))
            self._open(0, machine.Kind.PAIR, sorted(sites.union(self.whom.present())))
        else:
            self._open(number, kind, sorted(sites), len(sites), least, whole=True)

    def _lack(self, event: runs.Lacking) -> None:
        told = self.fold.reason
        self.take(event)
        if self.fold.reason != told:
            record(self.tx, "run-waits", {"run": self.run, "reason": self.fold.reason}, self.now)

    def _ask(self, effect: machine.Ask) -> None:
        (number, attempt), phase = self.fold.current, effect.phase.value
        if effect.phase is machine.Phase.UNMASK:
            assert self.fold.round is not None
            before.opening(self.tx, self.run, number, self.fold.round.counted)
        waits = self.plan.study.deadlines
        people = strangers(self.tx, self.run, self.fold) if effect.phase is machine.Phase.PROVE else []
        # these call each other: what waits for machines is no measure
        deadline = self.now + timedelta(seconds=waits.compare_s if people else waits.round_s)
        task = self._task(effect.phase, effect.roster, deadline)
        if self.closing is not None:  # before the task or with it: what a site has to do ends with a closing
            follows = number == self.closing.round + 1
            task = task.model_copy(update={"closing": self.closing.closing}) if follows else task
            self._tell_closed(effect.roster if follows else ())
        post_all(self.tx, self.identity, sorted(effect.roster), task)
        self.due("deadline", f"{number}/{attempt}/{phase}", deadline, people)
        assert self.fold.round is not None
        body = {"run": self.run, "round": number, "roster": sorted(effect.roster)}
        body |= {"phase": phase} if self.fold.round.at else {}
        record(self.tx, "phase-opened" if self.fold.round.at else "round-opened", body, self.now)

    def _task(self, phase: Any, roster: machine.Roster, deadline: datetime) -> Task:
        number, attempt = self.fold.current
        state, aggregate = self._state(max(number - 1, 0))
        return Task(
            study=self.study, run=self.run, plan=self.plan.digest, round=number, attempt=attempt, kind=self._kind(),
            phase=phase.value, roster=tuple(sorted(roster)), cohort=self.fold.cohort, state=state, aggregate=aggregate,
            initial=self._initial(), deadline=deadline,
        )  # fmt: skip

    def ask_again(self, site: SiteId) -> None:
        """Put the open phase's task into a site's inbox once more, if the round waits for its answer."""
        round_ = self.fold.round
        phase = None if round_ is None else round_.phase
        if round_ is None or phase is None or site not in round_.asked(phase) - round_.answered(phase).keys():
            return
        number, attempt = self.fold.current
        row = self.tx.find(effects, key=f"{self.run}/deadline/{number}/{attempt}/{phase.value}")
        deadline = datetime.fromtimestamp(row.due, UTC)
        post_all(self.tx, self.identity, [site], self._task(phase, round_.asked(phase), deadline))

    def _kind(self) -> Any:
        assert self.fold.round is not None
        return self.fold.round.kind.value

    def _initial(self) -> Blob:
        assert self.plan.study.model.initial is not None
        return self.blob(Digest(self.plan.study.model.initial))

    def blob(self, digest: Digest) -> Blob:
        """A stored blob's name and size."""
        return Blob(digest=digest, size=size_of(self.tx, digest))

    def _state(self, number: int) -> tuple[Blob, Blob | None]:
        """The state after TRAIN round `number`, and the sums that led to it."""
        row = self.tx.find(results, run=self.run, round=number)
        return self.blob(row.state), self.blob(row.aggregate) if row.aggregate else None

    def _closed(self) -> None:
        number, attempt = self.fold.current
        state, aggregate = self._state(number)
        assert self.fold.round is not None
        took_part = tuple(sorted(self.fold.round.counted))
        self.closing = Closed(
            study=self.study, run=self.run, round=number, attempt=attempt, kind=self._kind(),
            took_part=took_part, aggregate=aggregate, state=state,
        )  # fmt: skip
        body = {"run": self.run, "round": number, "took_part": list(took_part), "state": state.digest}
        record(self.tx, "round-closed", body, self.now)
        if number and number % CHECKPOINT_EVERY == 0:
            self._mark()
        self.open_next()
        self._tell_closed()

    def _tell_closed(self, but: Container[SiteId] = ()) -> None:
        """Tell that the round closed, but for those whom a task tells; once."""
        if self.closing is not None:
            post_all(self.tx, self.identity, [one for one in self.whom.everyone() if one not in but], self.closing)
        self.closing = None

    def _mark(self) -> None:
        """Let every site keep the head of our audit log, signed: what it holds so far cannot be written anew."""
        post_all(self.tx, self.identity, self.whom.everyone(), checkpoint(self.tx, self.now))

    def _end(self) -> None:
        state = None
        if self.fold.state is not None:
            state = self.blob(self.fold.state)
        ended = Ended(
            study=self.study, run=self.run, status=self.fold.status.value, reason=self.fold.reason, state=state,
        )  # fmt: skip
        post_all(self.tx, self.identity, self.whom.everyone(), ended)
        body = {"run": self.run, "status": self.fold.status.value, "reason": self.fold.reason}
        record(self.tx, "run-ended", body, self.now)
        self._mark()

    def withdraw(self, site: SiteId, reason: str) -> None:
        """A site will not answer in the open round, if any; others may have come after it was opened."""
        if self.fold.status in runs.OVER:
            return
        if self.fold.round is not None and not self.fold.round.closed:
            self.take(machine.Withdrew(site, reason))
        self.refresh()

    def refresh(self, came: SiteId | None = None) -> None:
        """A site came or left: open what could not be opened, or open again what is paused without those who would.

        Sites that have answered send the same bytes again when the round is opened again. When one left, those that
        refused this round, and decided nothing since, are not counted upon, so that it is not opened again without
        end; when one `came`, all are.
        """
        round_, self.came = self.fold.round, came
        if self.fold.status in runs.OVER or (self.fold.state is None and not self._begun()):
            return
        if round_ is not None and not round_.closed:
            may = round_.phase not in machine.ASKED_OF_COORDINATOR and not round_.opening
            if self.fold.status is runs.Status.PAUSED and may and self._reopens(round_, came):
                self.take(machine.Cancelled(f"round {round_.number} lost its quorum and is opened again"))
            return
        self.open_next()

    def _reopens(self, round_: machine.Round, came: SiteId | None) -> bool:
        """Whether a round that is paused can go on with others than it has."""
        refusing = set() if came else self.whom.refusing(round_.number)
        willing, all_ = set(self.whom.may()) - refusing, set(self.whom.approving()) - refusing
        if self.fold.cohort:
            quorum, _ = steps.needed(self.tx, self.run, self.plan, self.fold.cohort)
            whole = self.whom.whole(round_.number, quorum)
            if whole is not None and (whole.sites != round_.began or round_.whole):
                left = whole.sites != round_.began or round_.roster != round_.began
                return left and not self.whom.lacking(round_.number, whole.sites)
            short = round_.roster <= self.whom.refusing(round_.number) and self.whom.apart(round_.number)
            if whole is None and (round_.whole or (short and self.whom.fit(round_.number, quorum))):
                return True  # what is known says for whom it waits
            if whole is None and self.whom.apart(round_.number) and round_.short:
                return True  # who is left refuses a sum over one another, and may go on with who comes
        new = round_.quorum <= len(willing) and not round_.roster.issuperset(willing)
        if self.whom.apart(round_.number):
            new = self.whom.anew(round_, round_.roster if came else round_.began)
        parted = len(willing) < round_.quorum and bool(self.fold.cohort) and self.fold.quorum <= len(all_)
        return new or parted

    def returned(self, site: SiteId) -> None:
        """A site is heard of: if the run is paused without it, and it would take part, it is asked."""
        round_ = self.fold.round
        if self.fold.awaits:
            self.refresh()
        elif round_ is None or round_.closed:
            if round_ is not None and self.whom.apart(self.fold.next_number):
                self.refresh()
        elif round_.whole:
            self.refresh()
        elif site not in round_.roster:
            willing = set(self.whom.may()) - self.whom.refusing(round_.number)
            if site in willing:
                self.refresh(site)
        elif self.fold.status is runs.Status.PAUSED:
            may = round_.phase not in machine.ASKED_OF_COORDINATOR and not round_.opening
            missed = site not in round_.among and self.whom.apart(round_.number)
            if may and missed and self.whom.anew(round_, round_.among):
                self.take(machine.Cancelled(f"round {round_.number} is opened again, with {site}"))

    def among(self, site: SiteId, reason: str, number: int, attempt: int) -> str | None:
        """Over whom a sum was refused for a reason, as it is kept; None: the reason is not about that, or nobody knows.

        Of an attempt that is over, those who had said what the site was shown.
        """
        round_ = self.fold.round
        if reason not in OF_SET or round_ is None or not steps.secure(self.plan):
            return None
        if (number, attempt) == self.fold.current:
            return json.dumps(sorted(round_.among))
        for phase in (machine.Phase.MASK, machine.Phase.READY):
            said = steps.said(self.tx, self.run, number, attempt, phase)
            if site in said:
                return json.dumps(sorted(said))
        return None

    def _begun(self) -> bool:
        return self.tx.scalar(select(results.c.round).where(results.c.run == self.run)) is not None

    def applies(self, number: int) -> bool:
        """Whether round `number` is the open one, and waits for APPLY."""
        round_ = self.fold.round
        return round_ is not None and round_.number == number and round_.phase is machine.Phase.APPLY

    def performed(self, number: int, kind: str, state: Digest, aggregate: Digest | None, figures: Any, by: str) -> None:
        """Record what the driver computed: the state after round `number`. The first record stands.

        Raises: OutOfPhase: another process took over, and the run has moved on.
        """
        if number > 0 and not self.applies(number):
            raise OutOfPhase(f"round {number} does not wait for its sum any more", "another process was faster")
        row = {"run": self.run, "round": number, "kind": kind, "state": state, "aggregate": aggregate}
        self.tx.put_once(results, **row, figures=canonical(figures).decode(), performed_by=by)
        for digest in filter(None, (state, aggregate)):
            grant(self.tx, digest, [f"study:{self.study}"])
        if number == 0:
            self.open_next()
        else:
            self.take(machine.Answered(COORDINATOR, machine.Phase.APPLY, state))

    def remember(self) -> None:
        """Keep the fold for the next time; call it after the commit."""
        eventlog.remember(self.run, self.version, self.fold)


def grant(tx: Transaction, digest: str, subjects: Iterable[str]) -> None:
    """Let these subjects read a blob."""
    for subject in subjects:
        tx.put_once(grants, digest=digest, subject=subject)
