"""From a task to an answer: guard, state chain, pipeline, journal. Refusals reach the study's owner by their reason."""

import logging
import shutil
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Row
from threading import Event

from consilium.core.errors import ConsiliumError, Refused, Unauthenticated, Unavailable
from consilium.core.ids import Digest
from consilium.core.update import Contribution
from consilium.site import room
from consilium.site.child import Died
from consilium.site.folder import Folder, durable
from consilium.site.guard import Permit
from consilium.site.journal import Journal
from consilium.site.pipeline import Paths, Pipeline
from consilium.site.states import States
from consilium.site.veto import Veto, reason_of
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import SMALL, Answer, Blob, Task
from consilium.wire.transfer import file_digest

log = logging.getLogger(__name__)


@dataclass
class Worker:
    """Performs one task at a time. `activity` is what heartbeats tell."""

    folder: Folder
    identity: Identity
    journal: Journal
    states: States
    veto: Veto
    stop: Event
    wake: Event = field(default_factory=Event)
    changed: Event = field(default_factory=Event)
    activity: str = "idle"
    _pipeline: Pipeline | None = None

    @property
    def active(self) -> bool:
        """Whether a run is on at this site."""
        waits = "SELECT seq FROM tasks WHERE status = 'todo' LIMIT 1"
        return self._pipeline is not None or self.journal.row(waits) is not None

    def run(self) -> None:
        """Work until `stop`."""
        while not self.stop.is_set():
            self.wake.clear()
            self._clean()
            row = self.journal.row("SELECT * FROM tasks WHERE status = 'todo' ORDER BY seq LIMIT 1")
            if row is None:
                self.wake.wait()
                continue
            task = Task.decode(bytes(row["payload"]))
            self._say(f"round {task.round} of {task.run}: {'training' if task.kind == 'TRAIN' else 'evaluating'}")
            self._perform(row, task)
            self._say("idle")

    def close(self) -> None:
        """End the child process."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def _say(self, activity: str) -> None:
        self.activity = activity

    def _perform(self, row: Row, task: Task) -> None:
        now = datetime.now(UTC)
        try:
            contribution = self._known(task) or self._made(task, now)
            self._answer(row, task, contribution, datetime.now(UTC))
        except (Unavailable, Unauthenticated):
            if not self.stop.is_set():
                log.warning("round %s of %s is tried again: the coordinator is out of reach", task.round, task.run)
                self.stop.wait(1.0)
        except ConsiliumError as error:
            if (self.stop.is_set() and isinstance(error, Died)) or self._over(row):
                return  # ended with the agent, and done when it is back; or nobody waits for it any more
            self.veto.refuse(task, row["seq"], reason_of(error), error.message, datetime.now(UTC))
        except Exception as error:
            if self.stop.is_set() or self._over(row):
                return
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("round %s of %s: %s\n%s", task.round, task.run, type(error).__name__, frames)
            text = f"the agent failed ({type(error).__name__}); its log says where"
            self.veto.refuse(task, row["seq"], "site-failure", text, datetime.now(UTC))

    def _over(self, row: Row) -> bool:
        """Whether the round closed in the meantime: its files may be gone, and what it comes to is of no interest."""
        return self.journal.row("SELECT seq FROM tasks WHERE seq = ? AND status = 'todo'", row["seq"]) is None

    def _known(self, task: Task) -> Contribution | None:
        """The contribution that was made for exactly this before: a retry sends the same bytes.

        Raises: Refused: this round was answered at another state, and a round has but one (`state-mismatch`).
        """
        row = self.journal.row(
            "SELECT * FROM answers WHERE run = ? AND round = ? AND kind = ?", task.run, task.round, task.kind
        )
        if row is not None and row["state"] != task.state.digest:
            raise Refused(
                f"round {task.round} was answered here at another state than the coordinator now names",
                "compare both audit logs",
                reason="state-mismatch",
            )
        if row is None or not self._whole(row):
            return None
        self.veto.permit(task, datetime.now(UTC))  # a revocation holds for what was trained before it, too
        return Contribution(Path(row["path"]), Digest(row["digest"]), row["size"], row["recipe"])

    def _whole(self, row: Row) -> bool:
        path = Path(row["path"])
        if row["size"] > SMALL:
            return path.exists()
        # Small files are durable in the journal alone: after a power cut the file may be there without its bytes.
        return (path.exists() and file_digest(path) == row["digest"]) or self.journal.restore(path, row["digest"])

    def _made(self, task: Task, now: datetime) -> Contribution:
        permit, plan = self.veto.permit(task, now)
        limits = self.folder.policy().limits
        room.check(task, self.folder, limits)
        state = self.states.ensure(task, plan, now)
        folder = self.folder.run(task.run)
        signed = folder / f"permit-{task.round}.json"  # serves once: after a power cut, another one is given
        signed.write_bytes(seal(Permit.TYPE, permit.encode(), self.identity))
        wheel = plan.study.model.wheel
        mapping = self.journal.row("SELECT path FROM mappings WHERE plan = ?", task.plan)
        paths = Paths(
            folder=folder,
            permit=signed,
            plan=_kept(folder / "plan.json", plan.payload),
            initial=self.states.initial(task, plan),
            state=state,
            state_digest=task.state.digest,
            mapping=self.folder.mapping(plan.study.contract.id, Path(mapping["path"]) if mapping else None),
            wheel=self.states.blob(task.run, "code.whl", Digest(wheel), int(limits.file_gb * room.GB))
            if wheel
            else None,
        )
        if self._pipeline is None or self._pipeline.limits != limits:
            self.close()
            self._pipeline = Pipeline(self.identity.public, limits, self.stop)
        return self._pipeline.run(paths)

    def _answer(self, row: Row, task: Task, made: Contribution, now: datetime) -> None:
        answer = Answer(
            study=task.study, run=task.run, plan=task.plan, round=task.round, kind=task.kind, phase=task.phase,
            state=task.state.digest, contribution=Blob(digest=made.digest, size=made.size), recipe="plain",
        )  # fmt: skip
        envelope = seal(Answer.TYPE, answer.encode(), self.identity)
        about = {"study": task.study, "run": task.run, "round": task.round}
        with self.journal.write() as tx:
            now_todo = tx.row("SELECT status FROM tasks WHERE seq = ?", row["seq"])
            tx.do(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                task.run, task.round, task.kind, task.state.digest, made.digest, made.size, str(made.path), made.recipe,
            )  # fmt: skip
            if now_todo is not None and now_todo["status"] == "todo":
                blob = {"digest": made.digest, "size": made.size, "path": str(made.path)}
                tx.hold(made.path)
                tx.send("answer", envelope, about, now, blob)
                tx.do("UPDATE tasks SET status = 'done' WHERE seq = ?", row["seq"])
        self.veto.outgoing.set()

    def _clean(self) -> None:
        """Remove the files of runs that are over."""
        for row in self.journal.rows("SELECT key FROM meta WHERE value = 'ended'"):
            run = row["key"].removeprefix("run/")
            self.close()
            shutil.rmtree(self.folder.work / run, ignore_errors=True)
            with self.journal.write() as tx:
                tx.do("DELETE FROM states WHERE run = ?", run)
                folder = f"{self.folder.work / run}/"
                tx.do("DELETE FROM small WHERE substr(path, 1, ?) = ?", len(folder), folder)
                tx.keep(row["key"], "removed")
                tx.record("removed", {"run": run}, datetime.now(UTC))


def _kept(path: Path, data: bytes) -> Path:
    """Write a small file, durable, unless it is there with these bytes."""
    if not path.exists() or path.read_bytes() != data:
        durable(path, data)
    return path
