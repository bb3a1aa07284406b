"""From a permit to an update on file: state, files, child process. It stays here; a recipe makes of it what leaves.

What was made for a round is known by its state: a retry finds it again, or trains again to the same bytes.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from sqlite3 import Row
from threading import Event

from consilium.algorithms import evaluation
from consilium.algorithms.combat import Harmony
from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import Digest, digest
from consilium.core.study import BUFFERED, Plan
from consilium.core.tensors import Array, from_safetensors, to_safetensors
from consilium.durable import replace_file
from consilium.exported import origin
from consilium.governance.policy import Limits
from consilium.privacy.recipe import sample_key
from consilium.site import declarations, figures, memories, room, sources
from consilium.site.folder import Folder
from consilium.site.guard import Permit
from consilium.site.journal import Journal, Writing
from consilium.site.ledger import Ledger, sent
from consilium.site.pipeline import Paths, Pipeline, Trained
from consilium.site.states import States
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Task
from consilium.wire.transfer import file_digest

log = logging.getLogger(__name__)


@dataclass
class Updates:
    """Updates of rounds, on file; keeps one pipeline between rounds."""

    folder: Folder
    identity: Identity
    journal: Journal
    states: States
    stop: Event
    begin: Callable[[str, Limits, Event], Pipeline] = Pipeline
    _pipeline: Pipeline | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Nothing is measured yet."""
        self._room = room.Room(self.folder)

    @property
    def warm(self) -> bool:
        """Whether a run is on, as far as training goes."""
        return self._pipeline is not None

    def close(self) -> None:
        """End the child process."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.close()

    def of(self, task: Task, permit: Permit, plan: Plan, now: datetime, coins: bytes = b"") -> Trained:
        """The update of a permitted task.

        Args:    coins: of the attempt, where hospitals share noise: by them patients are drawn.
        Raises:  Refused: this round was answered at another state, and a round has but one (`state-mismatch`); and what
                 the pipeline and the state chain raise.
        """
        return self._known(task) or self.anew(task, permit, plan, now, coins)

    def same(self, task: Task, permit: Permit, plan: Plan, now: datetime, coins: bytes = b"") -> Trained:
        """The update with which a round was begun: what hides it is bound to it, and hides no other.

        Where its file is lost, or holds what was trained since, it is made once more.

        Raises:  Refused: what is made now is another one (`update-changed`); and as `of`.
        """
        row, made = self._kept(task), self._known(task)
        if made is None:
            made = self.anew(task, permit, plan, now, coins)
        if row is None or made.digest != row["digest"]:
            raise Refused(
                f"the update with which round {task.round} was begun here is lost, and what is trained now is another",
                "open the round anew; the hospital sees whether its data have changed since",
                reason="update-changed",
            )
        return made

    def anew(self, task: Task, permit: Permit, plan: Plan, now: datetime, coins: bytes = b"") -> Trained:
        """The update of a permitted task, whatever an attempt before has made. Raises: as `of`."""
        self._kept(task)
        if plan.study.privacy.local and task.kind == "TRAIN":
            # The noise is in the update, so attempts have one. Of a file that is lost, or of a table that has changed
            # since, it is made again: with the same noise as long as nothing that has it left, and then never again.
            coins = self.coins(task, sent(self.journal, task.run, task.round))
        return self._made(task, permit, plan, now, sample_key(coins) if coins else b"")

    def coins(self, task: Task, attempt: int) -> bytes:
        """Fresh chance, durable before it is used: who is drawn, noise and masks follow from it, also in a retry.

        Args:    attempt: of the round, by any count in which a retry has the number of what it repeats.
        """
        of = (task.run, task.round, attempt)
        row = self.journal.row("SELECT coins FROM coins WHERE run = ? AND round = ? AND attempt = ?", *of)
        if row is not None:
            return bytes(row["coins"])
        coins = os.urandom(32)
        with self.journal.write() as tx:
            tx.do("INSERT INTO coins VALUES (?, ?, ?, ?)", *of, coins)
        return coins

    def _known(self, task: Task) -> Trained | None:
        row = self._kept(task)
        if row is None or not self._whole(Path(row["path"]), Digest(row["digest"])):
            return None
        memory = memories.of(self.journal, task.run, task.round)
        if memory is not None and not memories.whole(self.journal, memory):
            return None
        return Trained(Path(row["path"]), Digest(row["digest"]), row["size"], memory)

    def _kept(self, task: Task) -> Row | None:
        """What was made for this round before. Raises: Refused: at another state."""
        row = self.journal.row(
            "SELECT * FROM answers WHERE run = ? AND round = ? AND kind = ?", task.run, task.round, task.kind
        )
        if row is not None and row["state"] != task.state.digest:
            raise Refused(
                f"round {task.round} was answered here at another state than the coordinator now names",
                "compare both audit logs",
                reason="state-mismatch",
            )
        return row

    def _whole(self, path: Path, digest: Digest) -> bool:
        # After a power cut a small file may be there without its bytes, and any after a restore with others.
        return (path.exists() and file_digest(path) == digest) or self.journal.restore(path, digest)

    def keep(self, tx: Writing, task: Task, made: Trained, recipe: str) -> None:
        """Remember what was made, with what leaves of it."""
        tx.do(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            task.run, task.round, task.kind, task.state.digest, made.digest, made.size, str(made.path), recipe,
        )  # fmt: skip
        if made.memory is not None:
            memories.keep(tx, task.run, task.round, made.memory)

    def mapping(self, plan: Plan) -> Path:
        """The mapping with which a plan is trained. Raises: NotFound."""
        return sources.mapping(self.folder, self.journal, plan)

    def _made(self, task: Task, permit: Permit, plan: Plan, now: datetime, sample: bytes) -> Trained:
        pipeline, paths = self._begun(task, permit, plan, now, f"permit-{task.round}.json", sample)
        Ledger(self.folder, self.journal).charge(task, plan, now)  # durable before the first patient is read
        made = pipeline.run(paths)
        if made.harmony is not None:
            self._harmony(task, made.harmony, now)
        if task.kind == "EVALUATE":
            self._judged(task, plan, made.path, now)
        if task.kind != "EVALUATE" or made.memory is None:
            return made
        self._own(task, plan, made.memory, paths.state, now)
        return replace(made, memory=None)

    def alone(self, task: Task, permit: Permit, plan: Plan, now: datetime) -> dict[str, Array]:
        """Sums over held-out patients of a model that is trained here alone, of a task that judged the common one.

        Raises: what the pipeline and the state chain raise.
        """
        # Its round is over: what others of its files are called is swept at any moment.
        pipeline, paths = self._begun(task, permit, plan, now, "alone.json")
        return pipeline.alone(paths)

    def _begun(
        self, task: Task, permit: Permit, plan: Plan, now: datetime, named: str, sample: bytes = b""
    ) -> tuple[Pipeline, Paths]:
        """The pipeline, and the files of a task. Args: named: how the file of the permit is called."""
        limits = self.folder.policy().limits
        self._room.check(task, limits, room.copies(plan), time.monotonic())
        state = self.states.ensure(task, plan, now)
        memory = memories.before(self.journal, task.run, task.round)
        _trained(task, plan, memory)
        folder = self.folder.run(task.run)
        signed = folder / named  # serves once: after a power cut, another one is given
        signed.write_bytes(seal(Permit.TYPE, permit.encode(), self.identity))
        wheel, most = plan.study.model.wheel, int(limits.file_gb * room.GB)
        waits = task.kind == "TRAIN" and plan.study.strategy.name in BUFFERED
        paths = Paths(
            folder=folder,
            permit=signed,
            plan=_kept(folder / "plan.json", plan.payload),
            initial=self.states.initial(task, plan),
            state=state,
            state_digest=task.state.digest,
            mapping=self.mapping(plan),
            wheel=self.states.blob(task.run, "code.whl", Digest(wheel), most) if wheel else None,
            memory=memory,
            late=memories.late(self.journal, task.run, task.round) if waits else None,
            extracts=self.folder.extracts / plan.study.name,
            sample=sample,
        )
        if self._pipeline is None or self._pipeline.limits != limits:
            self.close()
            self._pipeline = self.begin(self.identity.public, limits, self.stop)
        return self._pipeline, paths

    def _judged(self, task: Task, plan: Plan, made: Path, now: datetime) -> None:
        """Keep what the model is worth here. Nobody waits for that: a round does not fail by it."""
        try:
            sums = figures.sums_of(made)
            found = figures.judged(plan.study, sums)
        except (ArithmeticError, ValueError, LookupError, TypeError) as error:  # of patients as nobody has thought of
            log.warning("the figures of %s for this hospital alone are not told: %s", task.run, type(error).__name__)
            return
        with self.journal.write(durable=False) as tx:  # who comes here again makes them again
            figures.keep(tx, task, found, now)
            declarations.judged(tx, task, plan.study, sums)

    def _harmony(self, task: Task, made: Path, now: datetime) -> None:
        """Keep by what this hospital's numbers are harmonised: later patients need it when the run's files are gone."""
        kept = Harmony.load(made.read_bytes())  # which may be foreign code's
        data = json.dumps(kept.to_json()).encode()
        replace_file(self.folder.models / f"{task.run}.harmony.json", data)
        made.unlink()
        with self.journal.write() as tx:
            tx.record("harmony", {"study": task.study, "run": task.run, "harmony": digest(data)}, now)

    def _own(self, task: Task, plan: Plan, model: memories.Kept, state: Path, now: datetime) -> None:
        """Keep the model that this site has for itself at the end of a run, with its origin, so that it can be applied
        to raw rows as the common one can. It stays when the run's files go."""
        own = from_safetensors(model.path.read_bytes())
        told = origin(plan, task.run, task.state.digest, own, chain.read(state).arrays)
        data = to_safetensors(own, {**told, "personal": "true"})
        replace_file(self.folder.models / f"{task.run}.safetensors", data)
        with self.journal.write() as tx:
            tx.record("own-model", {"study": task.study, "run": task.run, "model": digest(data)}, now)


def _trained(task: Task, plan: Plan, memory: Path | None) -> None:
    """Whether this hospital has a model of its own, where that is judged beside the common one.

    Who has none adds the same to the sums of both models: in their difference it is not there, and those whose sum that
    is may be fewer than a secure sum opens.

    Raises: Refused: `untrained`.
    """
    if memory is None and plan.study.privacy.recipe == "secure_sum" and evaluation.both(plan.study, task.kind):
        raise Refused(
            "this hospital was in no round of training, and has no model of its own to judge beside the common one",
            "it takes part in the training of the next run",
            reason="untrained",
        )


def _kept(path: Path, data: bytes) -> Path:
    """Write a small file, durable, unless it is there with these bytes."""
    if not path.exists() or path.read_bytes() != data:
        replace_file(path, data)
    return path
