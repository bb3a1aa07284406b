"""From a task to an answer: guard, then what its phase asks for. Refusals reach the study's owner by their reason."""

import logging
import math
import shutil
import time
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sqlite3 import Row
from threading import Event

from consilium.core.errors import ConsiliumError, Unauthenticated, Unavailable
from consilium.core.ids import SiteId
from consilium.core.study import BUFFERED, Plan
from consilium.privacy.recipe import protect
from consilium.site import extracts, failures, leftout, told
from consilium.site.child import Died
from consilium.site.declaring import Declaring
from consilium.site.folder import Folder
from consilium.site.guard import Permit
from consilium.site.journal import OPEN, REOPENED, Journal, uncompared
from consilium.site.pairing import Pairing, replayed
from consilium.site.seats import Seats
from consilium.site.states import States
from consilium.site.steps import Steps
from consilium.site.updates import Updates
from consilium.site.veto import Veto, reason_of
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Answer, Blob, Task

log = logging.getLogger(__name__)
DOES = {
    "SUBMIT": "training", "READY": "training", "KEYS": "agreeing on keys", "PAIR": "agreeing on keys",
    "PROVE": "agreeing on keys", "MASK": "masking", "CONFIRM": "adding up", "UNMASK": "adding up",
}  # fmt: skip
"""What heartbeats tell of a phase."""
WORKS = {"PREPARE": "preparing", "EVALUATE": "evaluating"}
"""What they tell instead of training in rounds of other kinds."""
HELD = "held: two agents of this hospital run"
SWEEP_S = 60.0
"""So often it is looked for extracts that nothing needs any more: not in each round."""
TELL_S = 600
"""So long at most it is waited for the coordinator until it is said what a run's model is worth here."""
OF_RUN = ("states", "memories", "closings", "steps", "epochs", "chains", "seats", "coins")
"""Tables of what serves one run alone. What was opened is remembered beyond it."""


@dataclass
class Worker:
    """Performs one task at a time. `activity` is what heartbeats tell; `changed` is set when it should be told soon.

    held: another agent of this hospital runs; two that answer would say different things under one key.
    """

    folder: Folder
    identity: Identity
    journal: Journal
    states: States
    veto: Veto
    steps: Steps
    updates: Updates
    pairing: Pairing
    seats: Seats
    declaring: Declaring
    stop: Event
    wake: Event = field(default_factory=Event)
    changed: Event = field(default_factory=Event)
    activity: str = "idle"
    held: bool = False
    _swept: float = field(default=-math.inf, repr=False)
    _waited: int = field(default=0, repr=False)

    @property
    def active(self) -> bool:
        """Whether a run is on at this site."""
        waits = f"SELECT seq FROM tasks WHERE status IN {OPEN} LIMIT 1"  # noqa: S608
        return self.updates.warm or self.journal.row(waits) is not None

    def run(self) -> None:
        """Work until `stop`."""
        while not self.stop.is_set():
            self.wake.clear()
            if self.held:
                self.activity = HELD
                self.changed.set()
                self.wake.wait()
                continue
            row = self.journal.row("SELECT * FROM tasks WHERE status = 'todo' ORDER BY seq LIMIT 1")
            if row is None:
                self._clean()
                self._rest()
                self.wake.wait()
                continue
            task = Task.decode(bytes(row["payload"]))
            works = task.phase in ("SUBMIT", "READY")
            does = WORKS.get(task.kind, DOES[task.phase]) if works else DOES[task.phase]
            self.activity = f"round {task.round} of {task.run}: {does}"
            self._perform(row, task)

    def close(self) -> None:
        """End the child process."""
        self.updates.close()

    def _rest(self) -> None:
        if time.monotonic() - self._swept > SWEEP_S:
            extracts.sweep(self.folder, self.journal, datetime.now(UTC))
            self._swept = time.monotonic()
        runs = uncompared(self.journal)
        before, self.activity = self.activity, "idle"
        if runs:
            self.activity = f"waits for the words of the roster of {runs[0]} to be compared"
            if before != self.activity:
                until = leftout.until(self.journal, runs[0])
                when = "" if until is None else f", until {leftout.spoken(until.isoformat())}"
                log.info("%s%s: `consilium site compare %s`", self.activity, when, runs[0])
                self.changed.set()

    def _perform(self, row: Row, task: Task) -> None:
        began = time.time()
        try:
            permit, plan = self.veto.permit(task, datetime.now(UTC))
            over = self.journal.meta(f"run/{task.run}")
            if over and (over, task.phase) != (REOPENED, "SUBMIT"):  # the keys of secure sums are gone for good
                raise replayed(f"{task.run} is over")
            self.veto.ledger.reserve(task, plan, datetime.now(UTC))
            if task.phase == "SUBMIT":
                self._submit(row, task, permit, plan)
            else:
                self._step(row, task, permit, plan)
        except (Unavailable, Unauthenticated):
            if not self.stop.is_set():
                log.warning("round %s of %s is tried again: the coordinator is out of reach", task.round, task.run)
                self.stop.wait(1.0)
        except ConsiliumError as error:
            if (self.stop.is_set() and isinstance(error, Died)) or self._over(row):
                return  # ended with the agent, and done when it is back; or nobody waits for it any more
            self._heard(task, error, began)
            self.veto.refuse(task, row["seq"], reason_of(error), error.message, datetime.now(UTC))
        except Exception as error:
            if self.stop.is_set() or self._over(row):
                return
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("round %s of %s: %s\n%s", task.round, task.run, type(error).__name__, frames)
            text = f"the agent failed ({type(error).__name__}); its log says where"
            self.veto.refuse(task, row["seq"], "site-failure", text, datetime.now(UTC))

    def _heard(self, task: Task, error: ConsiliumError, began: float) -> None:
        """Keep what the process that trains said as it failed: its folder goes with the run."""
        about = f"round {task.round} of {task.run} was refused here ({reason_of(error)}): {error.message}"
        try:
            path = failures.keep(self.folder, task.run, about, began - 1, datetime.now(UTC))
        except OSError as lost:  # a full disk may be why it failed: the round is refused all the same
            log.warning("what the process that trains said cannot be kept: %s", lost.strerror)
            return
        if path is not None:
            log.warning(
                "what the process that trains said is in %s, and may quote patients: `consilium site log %s` shows it",
                path, task.run,
            )  # fmt: skip

    def _over(self, row: Row) -> bool:
        """Whether the round closed in the meantime: its files may be gone, and what it comes to is of no interest."""
        return self.journal.row("SELECT seq FROM tasks WHERE seq = ? AND status = 'todo'", row["seq"]) is None

    def _step(self, row: Row, task: Task, permit: Permit, plan: Plan) -> None:
        now = datetime.now(UTC)
        if self.steps.again(row["seq"], task, now):
            return
        made = self.pairing.step(task, plan) if task.kind == "PAIR" else self.seats.step(task, permit, plan, now)
        if made is not None:
            self.steps.send(row["seq"], task, made, datetime.now(UTC))
        else:
            with self.journal.write() as tx:
                tx.do("UPDATE tasks SET status = 'waits' WHERE seq = ? AND status = 'todo'", row["seq"])
        if task.kind != "PAIR" and self._closed(task):
            self.states.forget(task.run, task.round)  # the round closed while this was made

    def _closed(self, task: Task) -> bool:
        closed = "SELECT run FROM closings WHERE run = ? AND round = ?"
        return self.journal.row(closed, task.run, task.round) is not None

    def _submit(self, row: Row, task: Task, permit: Permit, plan: Plan) -> None:
        made = self.updates.of(task, permit, plan, datetime.now(UTC))
        state = self.states.ensure(task, plan, datetime.now(UTC))
        asked = told.question(task, plan.study, self.updates.mapping(plan), state, self.folder.policy())
        alone = told.check(self.journal, asked, {SiteId(self.veto.site)})
        part = protect(permit.recipe, made.path, made.digest, made.size)
        answer = Answer(
            study=task.study, run=task.run, plan=task.plan, round=task.round, kind=task.kind, phase=task.phase,
            state=task.state.digest, contribution=Blob(digest=part.digest, size=part.size), recipe="plain",
        )  # fmt: skip
        envelope = seal(Answer.TYPE, answer.encode(), self.identity)
        about = {"study": task.study, "run": task.run, "round": task.round}
        buffered = plan.study.strategy.name in BUFFERED  # then the answer may be of the model of an earlier round
        stale = buffered and task.round > plan.study.prepares + 1
        with self.journal.write() as tx:
            now_todo = tx.row("SELECT status FROM tasks WHERE seq = ?", row["seq"])
            self.updates.keep(tx, task, made, part.recipe)
            if now_todo is not None and now_todo["status"] == "todo":
                blob = {"digest": part.digest, "size": part.size, "path": str(part.path)}
                tx.hold(part.path)
                answer_ = tx.send("answer", envelope, about, datetime.now(UTC), blob)
                told.keep(tx, task, asked, alone, None if stale else answer_)
                tx.do("UPDATE tasks SET status = 'done' WHERE seq = ?", row["seq"])
            elif buffered:  # it may be the answer to a later round
                told.keep(tx, task, asked, alone)
        self.veto.outgoing.set()

    def _tell(self, run: str) -> bool:
        """Say what a run's model is worth here, or that it is not told; nobody waits for it, and no run ends by it.

        False: it is to be said later, for the coordinator is out of reach. Not for long: keys wait to be erased.
        """
        try:
            self.declaring.of(run, datetime.now(UTC), waits=self._waited < TELL_S)
        except Unavailable:
            self._waited += 1
            return False
        except Exception as error:
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("nothing is said of what %s is worth here: %s\n%s", run, type(error).__name__, frames)
        self._waited = 0
        return True

    def _clean(self) -> None:
        """Remove the files of runs that are over."""
        for row in self.journal.rows("SELECT key FROM meta WHERE value = 'ended'"):
            run = row["key"].removeprefix("run/")
            if not self._tell(run):
                self.stop.wait(1.0)
                self.wake.set()
                return
            if self.stop.is_set():
                return  # what a run comes to is said before its files go
            self.close()
            self.seats.close()
            shutil.rmtree(self.folder.work / run, ignore_errors=True)
            extracts.run_ended(self.folder, self.journal, run, datetime.now(UTC))
            with self.journal.write(erases=True) as tx:
                for table in OF_RUN:
                    tx.do(f"DELETE FROM {table} WHERE run = ?", run)  # noqa: S608  names of our own
                folder = f"{self.folder.work / run}/"
                tx.do("DELETE FROM small WHERE substr(path, 1, ?) = ?", len(folder), folder)
                tx.keep(row["key"], "removed")
                tx.record("removed", {"run": run}, datetime.now(UTC))
