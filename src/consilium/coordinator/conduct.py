"""From events to rows: apply one event to a run, and turn its effects into inbox messages and due work.

Everything here happens inside one transaction: the event, the state it leads to and what is to be done are committed
together or not at all. Work that touches files (`begin`, `apply`) becomes a row that the driver leases afterwards.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select

from consilium.coordinator import attesting, before, steps
from consilium.coordinator.ledgers import checkpoint, post_all, record
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import OutOfPhase
from consilium.core.ids import COORDINATOR, Digest, RunId, SiteId, canonical
from consilium.core.study import Plan
from consilium.store import eventlog
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import decisions, effects, events, grants, refusals, results, sites, studies
from consilium.store.schema import runs as run_table
from consilium.store.shelf import size_of
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Closed, Decision, Ended, Task

IDLE_S = 30.0
"""The driver looks for work this often, whether it is woken or not."""
AWAY_S = 60.0
"""Sites beat every ten seconds: one that missed a round and has been silent for this long before its end is away."""
CHECKPOINT_EVERY = 10
"""Rounds between two checkpoints of the audit log that sites keep; one more goes at the end of a run."""

_ADMITTED = select(sites.c.site).where(sites.c.state == "admitted")
_STUDY = decisions.c.study == bindparam("study")
_PLAN = Hot(select(studies.c.payload).join(run_table).where(run_table.c.run == bindparam("run")))
_DECISIONS = Hot(select(decisions).where(_STUDY, decisions.c.site.in_(_ADMITTED)).order_by(decisions.c.id))
_DECIDED = Hot(_ADMITTED.where(sites.c.site.in_(select(decisions.c.site).where(_STUDY))))
_LAST_AT = Hot(select(events.c.at).where(events.c.run == bindparam("run")).order_by(events.c.seq.desc()).limit(1))
_NEWEST = select(func.max(decisions.c.id)).where(decisions.c.site == refusals.c.site, _STUDY).scalar_subquery()
_REFUSING = Hot(
    select(refusals.c.site, refusals.c.among).where(
        refusals.c.run == bindparam("run"), refusals.c.round == bindparam("round"), refusals.c.decision == _NEWEST
    )
)
TRIES = 2
"""So often a site is asked for keys, for a round that is over it, too; then once more when its people decide."""
OF_SET = frozenset({"difference", "rosters", "quorum"})
"""Reasons that are about over whom a sum would be: with other sites, those who refused it may take part."""
_OPENINGS = Hot(select(events.c.body).where(events.c.run == bindparam("run"), events.c.kind == "Opened"))
_SEEN = Hot(select(sites.c.site, sites.c.last_seen))


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

    @classmethod
    def load(cls, tx: Transaction, identity: Identity, run: RunId, now: datetime) -> "Conduct":
        """Load a run by replay. Raises: NotFound."""
        version, fold = eventlog.load(tx, run)
        payload = tx.scalar(_PLAN, run=run)
        return cls(tx, identity, run, Plan.load(payload), version, fold, now)

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.plan.study.name

    def take(self, event: runs.RunEvent) -> None:
        """Apply one event and record what follows from it.

        Raises: Conflict and its kinds: the event is refused; nothing was changed.
        """
        before = self.fold
        self.version, self.fold, following = eventlog.append(self.tx, self.run, self.version, before, event, self.now)
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

    def due(self, kind: str, what: str, at: datetime) -> None:
        """Record work for the driver, once per key."""
        key = f"{self.run}/{kind}/{what}"
        if self.tx.find(effects, key=key) is None:
            row = {"key": key, "run": self.run, "kind": kind, "body": json.dumps({"what": what}), "due": at.timestamp()}
            self.tx.put(effects, **row, leased_until=0.0, attempts=0)
        if at.timestamp() - self.now.timestamp() < IDLE_S:  # else the driver finds it when it looks next
            self.soon = self.soon | {key}
            self.tx.ring("effects")

    def approving(self) -> list[SiteId]:
        """Admitted sites whose newest decision approves exactly this plan and has not expired, sorted.

        Where the study has a gate, those alone whose newest check passed.
        """
        invited, attested = set(self.plan.study.sites), attesting.lacking(self.tx, self.plan)
        newest: dict[str, Decision] = {}
        for row in self.tx.rows(_DECISIONS, study=self.study):
            newest[row.site] = Decision.decode(row.payload)
        good = [
            SiteId(site)
            for site, decision in newest.items()
            if decision.decision == "approve"
            and decision.plan == self.plan.digest
            and (decision.expires is None or decision.expires > self.now)
            and (not invited or site in invited)
            and not attesting.why(attested, site)
        ]
        return sorted(good)

    def _willing(self) -> list[SiteId]:
        """Approving sites that may take part: those that hold keys, once keys are agreed.

        Where keys are to be agreed again, those that were silent or refused are left out, or else the silent alone, if
        enough remain.
        """
        approving, last = self._may(), self.fold.round
        if last is None or last.kind is not machine.Kind.PAIR or self.fold.cohort:
            return approving
        silent = last.roster - last.answered(last.phases[last.at]).keys()
        refusing = self._refusing(0) | self._refusing(self.fold.next_number)
        for out in (silent | refusing, silent):
            rest = [site for site in approving if site not in out]
            if len(rest) >= self.fold.quorum:
                return rest
        return approving

    def _present(self) -> list[SiteId]:
        """Approving sites, less those that took no part in the last round and were not heard of at its end.

        A slow site that still speaks to the coordinator is asked again; so is everybody when a quorum needs it. One
        that is away costs the run a deadline or two, not one in every other round; it is asked again once it speaks.
        """
        approving = self._willing()
        present = self._here(approving)
        return present if len(present) >= self.fold.quorum else approving

    def _here(self, sites: list[SiteId]) -> list[SiteId]:
        """Those of the sites that took part in the last round or were heard of at its end."""
        last = self.fold.round
        if last is None:
            return sites
        took_part = last.counted
        closed_at = self.tx.scalar(_LAST_AT, run=self.run)
        seen = {row.site: row.last_seen for row in self.tx.rows(_SEEN)}
        since = _aware(closed_at).timestamp() - min(self.plan.study.deadlines.round_s, AWAY_S)
        return [site for site in sites if site in took_part or seen.get(site, 0.0) > since]

    def open_next(self) -> None:
        """Open the next round if enough sites approve; else say why the run pauses."""
        following = self.fold.following
        if following is None:
            return
        if self.fold.cohort:
            self._open_among_cohort(*following)
            return
        roster = self._present()
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
        self.take(runs.Opened(number, kind, tuple(roster), attempt, quorum, least, whole))

    def _open_among_cohort(self, number: int, kind: machine.Kind) -> None:
        """Open a secure sum among those that hold keys; if they are too few, those that go on agree on keys anew."""
        quorum, least = steps.needed(self.tx, self.run, self.plan, self.fold.cohort)
        if (whole := self._whole(number, quorum)) is not None:
            self._open_over(number, kind, whole.sites, least)
            return
        refusing, roster = self._refusing(number), self._chosen(number, quorum)
        if len(roster) >= quorum:
            self._open(number, kind, roster, quorum, least)
        elif len(set(self.approving()) - refusing) >= self.fold.quorum:
            self.take(runs.Parted(f"{len(roster)} of the {quorum} needed sites that hold keys go on"))
            self.open_next()
        else:
            apart = self._apart(number)
            fit = self._fit(number, quorum) if apart else []
            awaits = self._lacking(number, fit[0].sites) if fit else frozenset()
            self._lack(runs.Lacking(len(roster), tuple(sorted(awaits)), apart))

    def _fit(self, number: int, quorum: int) -> list[before.Known]:
        """Over whom round `number` can be, by sums at its model that are known here, the nearest first.

        Of other studies those alone whose hospitals know this one: its owner hears of no others.
        """
        known = before.over(self.tx, self.run, self.study, number)
        if not known:
            return []
        refused, ours = self._refused(number), set(self._everyone())
        fit = [one for one in known if len(one.sites) >= quorum and (one.same_study or one.sites <= ours)]
        return [one for one in fit if not any(one.sites in refused.get(site, ()) for site in one.sites)]

    def _whole(self, number: int, quorum: int) -> before.Known | None:
        """Over whom alone round `number` is, by sums at its model that are known here; None: over any.

        What was opened in this run binds it. Of other runs it is a guess, for hospitals may have other patients in it:
        it is taken where nobody is lacking, if all of these are here, or a sum over those who are here was refused.
        """
        fit = self._fit(number, quorum)
        here = set(self._present()) & set(self._may()) if fit else set()
        for one in fit:
            near = (one.same_study and one.sites <= here) or self._apart(number)
            if one.same_run or (near and not self._lacking(number, one.sites)):
                return one
        return None

    def _lacking(self, number: int, sites: machine.Roster) -> machine.Roster:
        """Who of these cannot be asked in round `number`: he does not approve, refused it, or gets no keys."""
        refused = self._refused(number)
        out = sites - set(self.approving()) | {site for site in sites if None in refused.get(site, ())}
        keyless = sites - set(self.fold.cohort)
        return out or (keyless if keyless and not self._may_pair(sites, keyless) else frozenset())

    def _open_over(self, number: int, kind: machine.Kind, sites: machine.Roster, least: int) -> None:
        """Open a secure sum over these sites and no others, or say for whom of them it waits."""
        if lacking := self._lacking(number, sites):
            self._lack(runs.Lacking(len(sites - lacking), tuple(sorted(lacking))))
        elif keyless := sites - set(self.fold.cohort):
            self.take(runs.Parted(f"round {number} is over {', '.join(sorted(keyless))}, too, who hold no keys yet"))
            self._open(0, machine.Kind.PAIR, sorted(sites.union(self._present())))
        else:
            self._open(number, kind, sorted(sites), len(sites), least, whole=True)

    def _may_pair(self, sites: machine.Roster, keyless: machine.Roster) -> bool:
        """Whether it is worth while to agree on keys anew: all are here, and who has none was not asked in vain."""
        asked = Counter[str]()
        for row in self.tx.rows(_OPENINGS, run=self.run):
            body = json.loads(row.body)
            asked.update(body["roster"] if body["kind"] == machine.Kind.PAIR else ())
        spare = {site for site in keyless if site == self.came or asked[site] < TRIES}
        return sites <= set(self._here(self.approving())) and keyless <= spare

    def _lack(self, event: runs.Lacking) -> None:
        told = self.fold.reason
        self.take(event)
        if self.fold.reason != told:
            record(self.tx, "run-waits", {"run": self.run, "reason": self.fold.reason}, self.now)

    def _chosen(self, number: int, quorum: int) -> list[SiteId]:
        """Whom to ask in a sum among those that hold keys: those present, or all if these are too few.

        Fewer than the quorum where those present refuse a sum over themselves: it waits for one more.
        """
        may = self._may()
        present = [site for site in self._present() if site in may]
        chosen, waits = self._going(number, present)
        if len(chosen) >= quorum or waits:
            return chosen
        return self._going(number, may)[0]

    def _going(self, number: int, sites: list[SiteId]) -> tuple[list[SiteId], bool]:
        """Those of the sites who have not refused round `number`, nor a sum over those; and whether some did that."""
        refused = self._refused(number)
        going = [site for site in sites if None not in refused.get(site, ())]
        whole = len(going)
        while against := {site for site in going if frozenset(going) in refused.get(site, ())}:
            going = [site for site in going if site not in against]
        return going, len(going) < whole

    def _ask(self, effect: machine.Ask) -> None:
        (number, attempt), phase = self.fold.current, effect.phase.value
        if effect.phase is machine.Phase.UNMASK:
            assert self.fold.round is not None
            before.opening(self.tx, self.run, number, self.fold.round.counted)
        deadline = self.now + timedelta(seconds=self.plan.study.deadlines.round_s)
        post_all(self.tx, self.identity, sorted(effect.roster), self._task(effect.phase, effect.roster, deadline))
        self.due("deadline", f"{number}/{attempt}/{phase}", deadline)
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
        closed = Closed(
            study=self.study, run=self.run, round=number, attempt=attempt, kind=self._kind(),
            took_part=took_part, aggregate=aggregate, state=state,
        )  # fmt: skip
        post_all(self.tx, self.identity, self._everyone(), closed)
        body = {"run": self.run, "round": number, "took_part": list(took_part), "state": state.digest}
        record(self.tx, "round-closed", body, self.now)
        if number and number % CHECKPOINT_EVERY == 0:
            self._mark()
        self.open_next()

    def _mark(self) -> None:
        """Let every site keep the head of our audit log, signed: what it holds so far cannot be written anew."""
        post_all(self.tx, self.identity, self._everyone(), checkpoint(self.tx, self.now))

    def _everyone(self) -> list[SiteId]:
        """Admitted sites that ever decided on this study, sorted."""
        return sorted(row.site for row in self.tx.rows(_DECIDED, study=self.study))

    def _end(self) -> None:
        state = None
        if self.fold.state is not None:
            state = self.blob(self.fold.state)
        ended = Ended(
            study=self.study, run=self.run, status=self.fold.status.value, reason=self.fold.reason, state=state,
        )  # fmt: skip
        post_all(self.tx, self.identity, self._everyone(), ended)
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
        refusing = set() if came else self._refusing(round_.number)
        willing, all_ = set(self._may()) - refusing, set(self.approving()) - refusing
        if self.fold.cohort:
            quorum, _ = steps.needed(self.tx, self.run, self.plan, self.fold.cohort)
            whole = self._whole(round_.number, quorum)
            if whole is not None and (whole.sites != round_.began or round_.whole):
                left = whole.sites != round_.began or round_.roster != round_.began
                return left and not self._lacking(round_.number, whole.sites)
            short = round_.roster <= self._refusing(round_.number) and self._apart(round_.number)
            if whole is None and (round_.whole or (short and self._fit(round_.number, quorum))):
                return True  # what is known says for whom it waits
        new = round_.quorum <= len(willing) and not round_.roster.issuperset(willing)
        if self._apart(round_.number):
            new = self._anew(round_, round_.roster if came else round_.began)
        parted = len(willing) < round_.quorum and bool(self.fold.cohort) and self.fold.quorum <= len(all_)
        return new or parted

    def returned(self, site: SiteId) -> None:
        """A site is heard of: if the run is paused without it, and it would take part, it is asked."""
        round_ = self.fold.round
        if self.fold.awaits:
            self.refresh()
        elif round_ is None or round_.closed:
            return
        elif round_.whole:
            self.refresh()
        elif site not in round_.roster:
            willing = set(self._may()) - self._refusing(round_.number)
            if site in willing:
                self.refresh(site)
        elif self.fold.status is runs.Status.PAUSED:
            may = round_.phase not in machine.ASKED_OF_COORDINATOR and not round_.opening
            missed = site not in round_.among and self._apart(round_.number)
            if may and missed and self._anew(round_, round_.among):
                self.take(machine.Cancelled(f"round {round_.number} is opened again, with {site}"))

    def _anew(self, round_: machine.Round, known: machine.Roster) -> bool:
        """Whether enough go on of whom not all are among the `known` ones."""
        chosen = self._chosen(round_.number, round_.quorum)
        return round_.quorum <= len(chosen) and not known.issuperset(chosen)

    def _may(self) -> list[SiteId]:
        """Approving sites that may be asked: once keys are agreed, those that hold them."""
        return [site for site in self.approving() if not self.fold.cohort or site in self.fold.cohort]

    def _refusing(self, number: int) -> set[SiteId]:
        """Sites that refused round `number` and have decided nothing since."""
        return set(self._refused(number))

    def _refused(self, number: int) -> dict[SiteId, set[machine.Roster | None]]:
        """What these refused: sums over these sites, or the round whoever is in it (None)."""
        found: dict[SiteId, set[machine.Roster | None]] = {}
        for row in self.tx.rows(_REFUSING, run=self.run, round=number, study=self.study):
            of = None if row.among is None else frozenset(map(SiteId, json.loads(row.among)))
            found.setdefault(SiteId(row.site), set()).add(of)
        return found

    def _apart(self, number: int) -> bool:
        """Whether sites refused round `number` for over whom its sum would be."""
        return any(of - {None} for of in self._refused(number).values())

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
        known = self.tx.find(results, run=self.run, round=number)
        if known is None:
            row = {"run": self.run, "round": number, "kind": kind, "state": state, "aggregate": aggregate}
            self.tx.put(results, **row, figures=canonical(figures).decode(), performed_by=by)
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
        row = {"digest": digest, "subject": subject}
        if tx.find(grants, **row) is None:
            tx.put(grants, **row)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
