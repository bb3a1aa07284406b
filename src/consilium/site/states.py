"""The state chain at the site: it computes the state after each round itself and compares its digest.

A site that missed rounds computes them from the sums that their closings name. Under the recipe `plain` it may also
adopt the coordinator's snapshot; it says so in its audit log, and goes on from there.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import IO, Any, cast

from consilium import plugins
from consilium.algorithms import preparation
from consilium.core import state as chain
from consilium.core.errors import NotFound, Refused
from consilium.core.ids import Digest
from consilium.core.ids import digest as digest_of
from consilium.core.study import Plan
from consilium.durable import AheadFile, replace_file
from consilium.site import memories
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.wire.connection import Connection
from consilium.wire.messages import SMALL, Task
from consilium.wire.transfer import download, file_digest

_NEWEST = "(SELECT max(round) FROM states WHERE run = ?)"
_OLD = f"run = ? AND round < ? AND round < {_NEWEST}"
INITIAL = "initial.safetensors"
"""The file of a run's initial model."""
STAMP = 4096
"""Bytes by which the headers of two sums may differ: they name their rounds."""
Check = Callable[[Task, Plan, int, Path, Digest, Path], chain.Source | None]
"""The sums of a round, if they were computed anew; see `Checking.check`."""
Sums = chain.Source | chain.Vectors
Write = Callable[[IO[bytes]], tuple[Digest, int]]


@dataclass
class States:
    """States of runs, on file."""

    folder: Folder
    journal: Journal
    connection: Connection
    stop: Event
    check: Check | None = None
    _seen: dict[str, Path] = field(default_factory=dict, repr=False)
    _offered: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def ensure(self, task: Task, plan: Plan, now: datetime) -> Path:
        """The file of the state at which the task trains.

        Raises: Refused: the state that the coordinator names is not the one that follows (`state-mismatch`); or this
                site came too late into a secure run to know what follows (`missed-rounds`).
        """
        number, wanted = task.round - 1, Digest(task.state.digest)
        known = self._known(task.run, number)
        if known is None:
            known = self._computed(task, plan)
            how = "computed" if known is not None else "adopted"
            if known is None and plan.study.privacy.recipe == "secure_sum":
                raise Refused(
                    f"this site missed rounds before {task.round}, and the sums of them are not known here",
                    "a state that it cannot compute itself is not trained under secure_sum: begin a new run",
                    reason="missed-rounds",
                )
            known = known or self._adopted(task)
            self._keep(task, number, known[0], known[1], how, now)
        if known[0] != wanted:
            raise Refused(
                f"the state after round {number} is {known[0]} here, but the coordinator says {wanted}",
                "one of the two computed wrongly, or lies: compare both audit logs",
                reason="state-mismatch",
            )
        return known[1]

    def _known(self, run: str, number: int) -> tuple[Digest, Path] | None:
        row = self.journal.row("SELECT digest, path FROM states WHERE run = ? AND round = ?", run, number)
        if row is None:
            return None
        digest, name = Digest(row["digest"]), str(row["path"])
        path = self._seen.get(name) or Path(name)
        there = path.exists()
        if name not in self._seen:  # the disk may have changed it since an earlier process wrote it
            there = there and file_digest(path) == digest
        if not there and not self.journal.restore(path, digest):
            return None
        self._seen[name] = path
        return digest, path

    def _computed(self, task: Task, plan: Plan) -> tuple[Digest, Path] | None:
        strategy = plugins.strategy_of(plan.study)
        missed = self._missed(task)
        number = task.round - 1 - len(missed)
        state, replays = self._known(task.run, number), plan.study.privacy.recipe == "secure_sum"
        if None in missed or (not replays and (len(missed) > 1 or (state is None and task.round > 1))):
            return None
        kept = state is not None
        if state is None:
            initial = self.initial(task, plan)
            state = self._written(self._path(task.run, 0), lambda out: chain.begin(strategy, initial, task.run, out))
        for past, named in enumerate(missed, number + 1):
            digest = Digest(str(named))
            mine = self._checked(task, plan, past, state[1], digest) if replays else None
            sums: Sums = self._sums(task, past, digest) if mine is None else mine
            before, state = state, self._advanced(plan, strategy, task, past, state, sums)
            if past - 1 > number or not kept:  # on the way only, and in no journal
                before[1].unlink()
                self._sums_path(task.run, past - 1).unlink(missing_ok=True)
        return state

    def _checked(self, task: Task, plan: Plan, number: int, before: Path, digest: Digest) -> chain.Source | None:
        """The sums of a round, computed anew, if that can be done here; else that they were not is recorded.

        Vectors of rounds that this site missed may be gone. Then those that took part have checked the sum; and this
        site masks nothing before as many as open a sum have called the roll at the same state (`secagg.mask`).
        """
        try:
            into = self._sums_path(task.run, number)
            mine = self.check(task, plan, number, before, digest, into) if self.check is not None else None
        except NotFound:
            if number == task.round - 1:
                raise
            mine = None
        if mine is None:
            self._unchecked(task, number)
        return mine

    def _unchecked(self, task: Task, number: int) -> None:
        with self.journal.write(durable=False) as tx:
            body = {"run": task.run, "study": task.study, "round": number}
            tx.record("sum-not-checked", body, datetime.now(UTC))

    def _missed(self, task: Task) -> list[Digest | None]:
        """The sums that lead from the newest state here to the task's, in order; None for one that is not known."""
        last = task.round - 1
        newest = last
        while newest > 0 and self._known(task.run, newest) is None:
            newest -= 1
        closed = self.journal.rows(
            "SELECT round, aggregate FROM closings WHERE run = ? AND round > ?", task.run, newest
        )
        known = {row["round"]: row["aggregate"] for row in closed}
        if task.aggregate is not None:
            known[last] = task.aggregate.digest
        return [known.get(number) for number in range(newest + 1, last + 1)]

    def _path(self, run: str, number: int) -> Path:
        return self.folder.run(run) / f"state-{number}.safetensors"

    def _sums_path(self, run: str, number: int) -> Path:
        return self.folder.run(run) / f"sums-{number}.safetensors"

    def _advanced(
        self, plan: Plan, strategy: Any, task: Task, number: int, before: tuple[Digest, Path], sums: Sums
    ) -> tuple[Digest, Path]:
        run = task.run
        step: Write = lambda out: preparation.advance(  # noqa: E731
            plan.study, strategy, before[1], before[0], sums, run, number, out
        )
        return self._written(self._path(run, number), step)

    def _sums(self, task: Task, number: int, digest: Digest) -> chain.Vectors:
        offered = self._offered.get(digest)  # it came with the task: no file is needed
        sums = chain.read(self._sums_file(task, number, digest) if offered is None else offered)
        stamp = sums.metadata
        if (stamp.get("run"), stamp.get("round")) != (task.run, str(number)):
            raise Refused(
                "the sums that the coordinator sent are of another round", "report this", reason="state-mismatch"
            )
        return sums

    def _sums_file(self, task: Task, number: int, digest: Digest) -> Path:
        path, newest = self._sums_path(task.run, number), task.aggregate
        if str(path) not in self._seen or not path.exists():
            # Not made durable, and fetched again by a later process: only the state that comes of it is kept.
            most = newest.size + STAMP if newest is not None else None  # sums of all rounds have the same segments
            download(self.connection, digest, path, self.stop, durable=False, most=most)
            self._seen[str(path)] = path
        return path

    def _adopted(self, task: Task) -> tuple[Digest, Path]:
        path = self.folder.run(task.run) / f"state-{task.round - 1}.safetensors"
        download(self.connection, Digest(task.state.digest), path, self.stop, most=task.state.size)
        stamp = chain.read(path).metadata
        if (stamp.get("run"), stamp.get("round")) != (task.run, str(task.round - 1)):
            raise Refused(
                "the state that the coordinator sent is of another round", "report this", reason="state-mismatch"
            )
        return Digest(task.state.digest), path

    def initial(self, task: Task, plan: Plan) -> Path:
        """The initial model that the plan names."""
        return self.blob(task.run, INITIAL, Digest(str(plan.study.model.initial)), task.initial.size)

    def blob(self, run: str, name: str, digest: Digest, most: int) -> Path:
        """A blob of the plan, of at most `most` bytes, in the run's folder; `download` checks its digest."""
        path = self.folder.run(run) / name
        if not path.exists():
            data = self._offered.get(digest)
            if data is None:
                download(self.connection, digest, path, self.stop, most=most)
            else:
                replace_file(path, data)
        return path

    def offer(self, blobs: Mapping[str, bytes]) -> None:
        """Small blobs that came with a task. Each is what its name says, or it is not used."""
        self._offered = {name: data for name, data in blobs.items() if digest_of(data) == name}

    def _written(self, path: Path, write: Write) -> tuple[Digest, Path]:
        fresh = path.with_suffix(".new")
        with fresh.open("wb", buffering=1 << 20) as file:
            ahead = AheadFile(file)
            digest, size = write(cast(IO[bytes], ahead))
            if size > SMALL:  # else it becomes durable with the journal's transaction that names it
                ahead.end()
        fresh.replace(path)
        self._seen[str(path)] = path
        return digest, path

    def _keep(self, task: Task, number: int, digest: Digest, path: Path, how: str, now: datetime) -> None:
        with self.journal.write(durable=False) as tx:  # it can be computed again
            tx.hold(path)
            tx.do("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", task.run, number, digest, str(path))
            body = {"run": task.run, "study": task.study, "round": number, "state": digest, "how": how}
            tx.record("state", body, now)

    def may_stay(self, run: str) -> bool:
        """Whether what a round of a run left may stay for some rounds: it is little, and nothing of a secure sum."""
        try:
            little = (self.folder.work / run / INITIAL).stat().st_size <= SMALL
        except OSError:
            return False
        return little and not self._sealed(run)

    def _sealed(self, run: str) -> bool:
        return self.journal.row("SELECT run FROM seats WHERE run = ? LIMIT 1", run) is not None

    def forget(self, run: str, before: int) -> None:
        """Remove states, sums, updates and permits of rounds that nothing needs any more; `before` is over, too.

        The newest state stays: one that is missed later is computed from it. What was made in a secure sum does not
        outlast its round.
        """
        sealed, folder, gone = self._sealed(run), str(self.folder.work / run), list[str]()
        try:
            with os.scandir(folder) as found:
                there = [one.name for one in found]
        except FileNotFoundError:  # the run has ended, and what works here has removed its folder
            there = []
        for row in self.journal.rows(f"SELECT round, path FROM states WHERE {_OLD}", run, before - 1, run):  # noqa: S608
            gone += [row["path"], f"{folder}/sums-{row['round']}.safetensors"]
        for name in there:
            what, _, number = name.partition(".")[0].partition("-")
            if what in ("update", "permit", "masked") and int(number.split("-")[0]) < before + sealed:
                gone.append(f"{folder}/{name}")
        with self.journal.write(durable=False) as tx:
            for table in ("steps", "seats"):  # of rounds whose sum was checked; those of round 0 are of the whole run
                tx.do(f"DELETE FROM {table} WHERE run = ? AND round > 0 AND round < {_NEWEST}", run, run)  # noqa: S608
            tx.do(f"DELETE FROM states WHERE {_OLD}", run, before - 1, run)  # noqa: S608
            gone += map(str, memories.forget(tx, run, before))
            tx.do("DELETE FROM small WHERE path IN (SELECT value FROM json_each(?))", json.dumps(gone))
        for path in gone:
            Path(path).unlink(missing_ok=True)
            self._seen.pop(path, None)
