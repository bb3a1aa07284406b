"""A site's seat in the rounds of a secure sum: READY, MASK, CONFIRM and UNMASK; see `privacy/secagg.py`.

What a round is about is computed here, from plan, journal and own state: no OPEN of the coordinator's is believed.
What must survive is durable before a step leaves: the coins of an attempt, which survivors were confirmed, that a sum
was opened, and over whom (`privacy/disclosure.py`), across runs and studies.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from sqlite3 import Row

from consilium import plugins
from consilium.algorithms import absence, evaluation
from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId
from consilium.core.study import Plan
from consilium.privacy import disclosure, recipe, secagg
from consilium.privacy.disclosure import Opening, Summed
from consilium.privacy.layout import Layout
from consilium.privacy.pairing import Roster
from consilium.privacy.secagg import Confirm, Expected, Masked, Open, Ready, Seat
from consilium.site import told
from consilium.site.folder import Folder
from consilium.site.guard import Permit, quorate
from consilium.site.journal import Journal, Writing
from consilium.site.pairing import Pairing, replayed, signers
from consilium.site.states import States
from consilium.site.steps import Kind, Made, Steps, forged, outdated, parsed, place
from consilium.site.updates import Updates
from consilium.wire.messages import SMALL, Task
from consilium.wire.transfer import durable_digest

log = logging.getLogger(__name__)


@dataclass
class Seats:
    """The site's half of each round, in its journal."""

    site: SiteId
    folder: Folder
    journal: Journal
    steps: Steps
    pairing: Pairing
    states: States
    updates: Updates
    _held: tuple[tuple[object, ...], Seat] | None = field(default=None, repr=False)

    def close(self) -> None:
        """Forget the seat that is held in memory between phases."""
        self._held = None

    def step(self, task: Task, permit: Permit, plan: Plan, now: datetime) -> Made:
        """The answer to a permitted task of kind PREPARE, TRAIN or EVALUATE.

        Raises: Refused: `reason` says what is not as it should be; and what training raises.   Unavailable.
        """
        roster = self.pairing.roster(task)
        quorate(plan, len(roster.sites))
        match task.phase:
            case "READY":
                return self._ready(task, permit, plan, roster, now)
            case "MASK":
                return self._mask(task, permit, plan, roster, now)
            case "CONFIRM":
                return self._confirm(task, plan, roster)
            case _:
                return self._unmask(task, plan, roster)

    def _ready(self, task: Task, permit: Permit, plan: Plan, roster: Roster, now: datetime) -> Made:
        state, opening = self.states.ensure(task, plan, now), task.round - 1
        asked = Open(
            study=task.study, run=task.run, plan=plan.digest, roster=roster.digest, opening=opening, round=task.round,
            attempt=task.attempt, kind=task.kind, cohort=roster.sites, state=Digest(task.state.digest),
            segments=layout(plan, task, state).segments, min_sites=roster.min_sites,
        )  # fmt: skip
        own = self._expected(asked, plan)
        secagg.follows(asked, own, self.site)
        drawing = noised(plan, task)
        coins = self.updates.coins(task, task.attempt) if drawing else os.urandom(32)
        about = told.question(task, plan.study, self.updates.mapping(plan), state, self.folder.policy())
        keys, shown = self.pairing.keys(task.run, opening), told.alone(self.journal, about)
        if drawing:  # another attempt draws other patients, as it has other noise
            made = self.updates.anew(task, permit, plan, now, coins)
        else:
            made = self.updates.of(task, permit, plan, now)
        # Coins may come back, in a journal that was set back: masks and noise are of this update, and of no other.
        coins = recipe.bound(coins, made.digest)
        arrays = chain.read(made.path).arrays
        lacks = absence.of(plan.study, arrays)
        about |= {"parts": sorted(absence.parts(plan.study, task.kind, arrays))}
        seat, message = secagg.ready(self.site, keys, coins, asked, own, shown, lacks)
        self._held = (coins, asked.encode(), "", b"", False), seat

        def keep(tx: Writing) -> None:
            self.updates.keep(tx, task, made, "secure_sum")
            self.pairing.advance(tx, task.run, opening)  # the state that came of the openings before was computed here
            tx.do(
                "INSERT INTO seats (run, round, attempt, coins, open, about) VALUES (?, ?, ?, ?, ?, ?)",
                task.run, task.round, task.attempt, coins, asked.encode(), json.dumps(about),
            )  # fmt: skip

        return Made(message, keep, erases=opening > 0)

    def _expected(self, asked: Open, plan: Plan) -> Expected:
        """What follows here, after what was answered and opened before."""
        last = self._last(asked.run)
        opened = self.journal.row("SELECT max(round) AS n FROM seats WHERE run = ? AND opened", asked.run)
        return Expected(
            plan=asked.plan, roster=asked.roster, cohort=asked.cohort, state=asked.state, opening=asked.opening,
            segments=asked.segments, min_sites=self.folder.policy().floor(plan.study),
            last=(last["round"], last["attempt"]) if last else (0, 0),
            opened_round=int(opened["n"] or 0) if opened else 0,
        )  # fmt: skip

    def _last(self, run: str) -> Row | None:
        return self.journal.row("SELECT * FROM seats WHERE run = ? ORDER BY round DESC, attempt DESC LIMIT 1", run)

    def _seat(self, task: Task, roster: Roster) -> tuple[Seat, Row]:
        """The seat of the newest attempt. Raises: Refused: the task is of another, or keys are others (`replayed`)."""
        row = self._last(task.run)
        if row is None or (row["round"], row["attempt"]) != (task.round, task.attempt):
            raise replayed(f"attempt {task.attempt} of round {task.round} is not the newest that was answered here")
        seat = self._sat(row)
        asked = seat.open
        if asked.roster != roster.digest:
            raise replayed(f"keys were agreed anew after attempt {task.attempt} of round {task.round} began")
        if (asked.state, asked.kind) != (task.state.digest, task.kind):
            raise Refused(
                "the coordinator names another state than this round began with", "compare both audit logs",
                reason="state-mismatch",
            )  # fmt: skip
        return seat, row

    def _sat(self, row: Row) -> Seat:
        """The seat as the journal has it. Where it is the one in memory, what was computed of it need not be again."""
        of = bytes(row["coins"]), bytes(row["open"]), row["active"], bytes(row["survivors"]), bool(row["opened"])
        if self._held is None or self._held[0] != of:
            asked, active = Open.model_validate_json(row["open"]), json.loads(row["active"] or "[]")
            if silent := [str(one.get("site")) for one in active if "lacks" not in one]:  # kept before an update here
                raise outdated(", ".join(silent), asked.round)
            keys, called = self.pairing.keys(row["run"], asked.opening), tuple(map(Ready.model_validate, active))
            self._held = of, Seat(self.site, keys, of[0], asked, called, of[3], of[4])
        return self._held[1]

    def _hold(self, row: Row, seat: Seat, active: str, survivors: bytes) -> None:
        """Keep a seat in memory; it is used where the journal has it so."""
        self._held = (bytes(row["coins"]), bytes(row["open"]), active, survivors, False), seat

    def _heard(self, task: Task, phase: str, roster: Roster, kind: type[Kind]) -> dict[SiteId, Kind]:
        return self.steps.messages(task, place(task)._replace(phase=phase), signers(roster), kind)

    def _mask(self, task: Task, permit: Permit, plan: Plan, roster: Roster, now: datetime) -> Made:
        seat, row = self._seat(task, roster)
        ready = self._heard(task, "READY", roster, Ready)
        _known(task, plan, ready)
        seat, boxes = secagg.mask(seat, ready.values())
        quorate(plan, len(ready))
        active = json.dumps([one.model_dump(mode="json") for one in seat.active])
        if row["active"] not in ("", active):  # its own mask would cover two vectors
            raise replayed(f"attempt {task.attempt} of round {task.round} was masked for another roll-call before")
        self._disclosed(row, seat, ready)
        self._hidden(task, plan, row, summed(plan, row, seat, ready))
        drawing = self.updates.coins(task, task.attempt) if noised(plan, task) else b""
        update = self.updates.same(task, permit, plan, now, drawing)
        covered = self.folder.run(task.run) / f"masked-{task.round}-{task.attempt}.safetensors"
        of, names = layout(plan, task, self.states.ensure(task, plan, now)), unsaid(plan, seat)
        if names:
            who = "; ".join(f"{one.site} lacks {', '.join(one.lacks)}" for one in seat.active if one.lacks)
            log.info("%s: nobody adds to what too few have: %s (%s)", task.run, ", ".join(sorted(names)), who)
        absence.trains(plan.study, task.kind, names)
        said = self.steps.own(task.run, place(task))
        before = None if said is None or said.vector is None else Digest(said.vector.digest)
        blank = partial(absence.blanked, plan.study, names=names)
        made = recipe.mask(seat, of, update.path, covered, blank, before)
        durable_digest(covered, made.digest, SMALL)
        self._hold(row, seat, active, b"")

        def keep(tx: Writing) -> None:
            self._put(tx, task, "active = ?", active)

        return Made(secagg.masked(seat, made.digest, boxes), keep, made)

    def _confirm(self, task: Task, plan: Plan, roster: Roster) -> Made:
        seat, row = self._seat(task, roster)
        survivors = self._survivors(task, roster)
        seat, message = secagg.confirm(seat, survivors, self._masked(task))
        quorate(plan, len(survivors))
        self._hidden(task, plan, row, summed(plan, row, seat, survivors))
        self._hold(row, seat, row["active"], seat.survivors)
        return Made(message, lambda tx: self._put(tx, task, "survivors = ?", seat.survivors))

    def _masked(self, task: Task) -> Masked:
        """What this site masked. Raises: Refused: nothing (`replayed`)."""
        own = self.steps.own(task.run, place(task)._replace(phase="MASK"))
        if own is None:
            raise replayed(f"this site has masked nothing in attempt {task.attempt} of round {task.round}")
        return parsed(own, Masked)

    def _survivors(self, task: Task, roster: Roster) -> dict[SiteId, Masked]:
        found = self._heard(task, "MASK", roster, Masked)
        heard = self.steps.heard(task, place(task)._replace(phase="MASK"), signers(roster))
        for site, step in heard.items():
            if step.vector is None or step.vector.digest != found[site].vector:
                raise forged(f"the step of {site} in MASK names another vector than its message")
        return found

    def _unmask(self, task: Task, plan: Plan, roster: Roster) -> Made:
        seat, row = self._seat(task, roster)
        survivors = self._survivors(task, roster)
        if seat.survivors:
            proofs = self._heard(task, "CONFIRM", roster, Confirm)
            seat, message = secagg.unmask(seat, survivors, proofs.values())
        else:
            seat, message = secagg.whole(seat, survivors, self._masked(task))
        quorate(plan, len(survivors))
        now = summed(plan, row, seat, survivors)
        self._hidden(task, plan, row, now)  # once more: another run may have opened a sum since CONFIRM
        openings, shown = self._disclosed(row, seat, survivors), self._alone(task, plan, row, now)

        def keep(tx: Writing) -> None:
            self._put(tx, task, "opened = 1, survivors = ?", seat.survivors)
            if shown:
                log.warning("%s: %s, as far as updates change little between rounds", task.run, _solved(shown))
                body = {"run": task.run, "study": task.study, "round": task.round, **_who(shown)}
                tx.record("solved", body, datetime.now(UTC))
            told.keep(tx, task, json.loads(row["about"]), openings, summed=now)

        return Made(message, keep)

    def _put(self, tx: Writing, task: Task, what: str, value: object) -> None:
        tx.do(
            f"UPDATE seats SET {what} WHERE run = ? AND round = ? AND attempt = ?",  # noqa: S608
            value, task.run, task.round, task.attempt,
        )  # fmt: skip

    def _disclosed(self, row: Row, seat: Seat, sites: Iterable[SiteId]) -> list[Opening]:
        """The openings over these sites, if what was told here before allows them. Raises: Refused (`difference`)."""
        about = json.loads(row["about"])
        known = told.before(self.journal, about)
        (mine,) = (one for one in seat.active if one.site == self.site)
        if told.alone(self.journal, about, known) and not mine.shown:  # since the roll was called
            raise disclosure.apart(about["objective"])
        return told.check(self.journal, about, sites, known)

    def _hidden(self, task: Task, plan: Plan, row: Row, now: Summed) -> None:
        """Whether this sum may be opened, as far as the policy minds that rosters change.

        Raises: Refused: with earlier sums of the study it could be solved for a site (`rosters`).
        """
        if self.folder.policy().changing_rosters == "warn":
            return
        shown = self._alone(task, plan, row, now)
        if shown:
            raise Refused(
                f"with earlier ones of {task.study}, {_solved(shown)}",
                "begin anew with a `quorum` of all hospitals, for which rounds wait; or with an `epsilon`",
                reason="rosters",
            )

    def _alone(self, task: Task, plan: Plan, row: Row, now: Summed) -> frozenset[tuple[str, SiteId]]:
        """Parts, and sites for which the study's sums could be solved there with this one, and could not without it."""
        if plan.study.privacy.epsilon is not None:
            return frozenset()
        before = told.sums(self.journal, task.study, json.loads(row["about"]))
        return frozenset() if now in before else disclosure.solved([*before, now]) - disclosure.solved(before)


def _who(shown: Iterable[tuple[str, SiteId]]) -> dict[str, list[str]]:
    """Which sites these are; and `parts`, where it is not all that they add."""
    sites, parts = (sorted({one[at] for one in shown}) for at in (1, 0))
    return {"sites": sites} if disclosure.WHOLE in parts else {"sites": sites, "parts": parts}


def _solved(shown: Iterable[tuple[str, SiteId]]) -> str:
    who = _who(shown)
    of = f", of what some lack: {', '.join(who['parts'])}" if "parts" in who else ""
    return f"sums over hospitals that change can be solved for {', '.join(who['sites'])} alone{of}"


def _known(task: Task, plan: Plan, ready: Mapping[SiteId, Ready]) -> None:
    """Whether all lack what the round is of, if anything. Raises: Refused: `roll-call`: somebody says other things."""
    if false := [site for site, one in ready.items() if not absence.sound(plan.study, task.kind, one.lacks)]:
        raise Refused(
            f"{', '.join(sorted(false))} said in READY of round {task.round} to lack what nothing is of in it",
            "update the agent there, or ask the coordinator's admin to; no coordinator of this release relays that",
            reason="roll-call",
        )


def summed(plan: Plan, row: Row, seat: Seat, sites: Iterable[SiteId]) -> Summed:
    """The sum over these sites, with what those of them lack. Of a seat of a release of before no parts are known."""
    over, parts = frozenset(sites), frozenset(json.loads(row["about"]).get("parts", ()))
    lacking = frozenset((part, one.site) for one in seat.active if one.site in over for part in one.lacks)
    return Summed(over, parts, lacking, unsaid(plan, seat))


def noised(plan: Plan, task: Task) -> bool:
    """Whether a share of noise is added in the task's round."""
    return plan.study.privacy.shared and task.kind == "TRAIN"


def unsaid(plan: Plan, seat: Seat) -> frozenset[str]:
    """To which parts of the sum nobody adds anything, by what those have nothing of who were called up."""
    return absence.withheld(
        (one.lacks for one in seat.active), max(seat.open.needed, plan.study.quorum), seat.open.min_sites
    )


def layout(plan: Plan, task: Task, state: Path) -> Layout:
    """The segments of a task's round, from the plan and the state here."""
    return layout_of(plan, task.kind, state, len(task.cohort))


def layout_of(plan: Plan, kind: str, state: Path, sites: int) -> Layout:
    """The segments of a round of the plan, for a cohort of so many sites."""
    return _layout(plan.payload, kind, chain.read(state).shape["model"], sites)


@lru_cache(maxsize=16)  # each phase asks for it
def _layout(plan: bytes, kind: str, model: tuple[str, int], sites: int) -> Layout:
    study = Plan.load(plan).study
    shapes = {name: (chain.kind(array), array.size) for name, array in evaluation.nothing(study, kind).items()}
    return Layout.of(study, kind, model, shapes, sites, plugins.sums_of(study, kind, model[1]))
