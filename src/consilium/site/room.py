"""Room on the hospital's disk: what a task or a study takes under `work/`, and whether policy and disk have it."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from consilium import plugins
from consilium.algorithms import encode
from consilium.algorithms.base import Curvature, Here, Local, Strategy, Validation, run
from consilium.core import state as chain
from consilium.core.errors import ConsiliumError, Refused
from consilium.core.study import Plan, Study
from consilium.core.tensors import Vector
from consilium.governance.policy import Limits
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.training.cox import Cox
from consilium.wire.messages import Task

GB, MB = 1 << 30, 1 << 20
WIDEST = 2
"""How many times as wide as a model's value a masked one is at most: 64 bits."""
LITTLE, LATELY_S = 16 * MB, 30.0
"""Bytes of a task for which nothing is measured anew within so many seconds."""
LEFT_BYTES = 1 << 30
"""What training leaves free on the disk: the journal, which says what left, needs some, and so does the host."""


def used(folder: Path) -> int:
    """Bytes under a folder."""
    total, places = 0, [str(folder)]
    while places:  # as text: every round asks for it, and a Path for each file takes many times longer
        with contextlib.suppress(OSError), os.scandir(places.pop()) as found:
            for one in found:
                with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                    if one.is_dir(follow_symlinks=False):
                        places.append(one.path)
                    else:
                        total += one.stat(follow_symlinks=False).st_size
    return total


def free(folder: Path) -> int:
    """Bytes that are free where a folder lies."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Copies:
    """How many arrays of the model's size a strategy has in its state, in an update, and in what is kept at a site."""

    state: int = 1
    update: int = 1
    memory: int = 0

    @classmethod
    def of(cls, study: Study) -> "Copies":
        """Of a study's strategy; where it is not installed here, the study cannot be trained either."""
        try:
            strategy: Strategy = plugins.strategy_of(study)
        except ConsiliumError:
            return cls()
        most = strategy.most if isinstance(strategy, chain.Whole) else None
        if study.cell is not None or study.validates:  # of these models it is known
            most = len(encode.names(study.contract, study.prepare)) + int(study.validates)  # and an intercept
        model = np.zeros(2 if most is None else most)
        state = strategy.init(model)
        here = Here(state)

        def flat(of: Vector, first: bool) -> Curvature:
            return Curvature(0.0, of, np.zeros(of.size * (of.size + 1) // 2))

        ends, sums = run(strategy.passes(here), lambda start, objective: start), strategy.sums(study, model.size)
        timed = Cox().timed(study, np.zeros((0, model.size)), np.zeros(0)) if study.cell is not None else None
        divided = Validation(flat, 1.0, lambda of: 0.0)
        segments, kept = strategy.contribution(here, Local(ends, 1.0, 1, 1.0, flat, sums, timed, divided))
        made = [[array.size for array in of.values()] for of in (state, segments, kept)]
        if most is not None:  # arrays of any length: as many copies as they are for the largest model
            return cls(*(-(-sum(sizes) // most) for sizes in made))
        return cls(*(sizes.count(model.size) for sizes in made))


def copies(plan: Plan) -> Copies:
    """Those of a plan's strategy. Every round asks for them, and they are a function of the plan."""
    return _copies(plan.payload)


@lru_cache(16)
def _copies(payload: bytes) -> Copies:
    return Copies.of(Plan.load(payload).study)


def check(task: Task, folder: Folder, limits: Limits, copies: Copies = Copies()) -> None:
    """Whether there is room for a task; before anything is fetched for it.

    Raises: Refused: `reason` is `disk`.
    """
    need, have = _needed(task, folder.work / task.run, copies, limits), used(folder.work)
    most = int(limits.disk_gb * GB)
    if have + need > most:
        raise Refused(
            f"the round needs {size(need)} of disk, and the studies of this hospital have {size(have)} of the "
            f"{size(most)} that its policy allows",
            "the hospital raises limits.disk_gb, or stops another study",
            reason="disk",
        )
    left = free(folder.work) - need
    if left < LEFT_BYTES:
        raise Refused(
            f"the round needs {size(need)} of disk, and less than {size(LEFT_BYTES)} would be left free",
            "the hospital makes room on the disk where its site lies",
            reason="disk",
        )


class Room:
    """The same of task after task: what is small is added to what was found lately, and no file is looked at for it."""

    def __init__(self, folder: Folder) -> None:
        self._folder, self._until, self._have, self._left = folder, 0.0, 0, 0

    def check(self, task: Task, limits: Limits, copies: Copies, now: float) -> None:
        """See `check`. Args: now: seconds of a clock that never goes back. Raises: Refused: `reason` is `disk`."""
        most = _most(task, copies, limits)
        self._have, self._left = self._have + most, self._left - most
        if most > LITTLE or now > self._until or not self._fits(limits):
            check(task, self._folder, limits, copies)
            self._have, self._left = used(self._folder.work) + most, free(self._folder.work) - most
            self._until = now + LATELY_S

    def _fits(self, limits: Limits) -> bool:
        return self._have <= int(limits.disk_gb * GB) and self._left >= LEFT_BYTES


def _needed(task: Task, folder: Path, copies: Copies, limits: Limits) -> int:
    """Bytes that a task adds: what it fetches or computes and is not there yet, and its update twice, for a copy, as
    is what it keeps."""
    before = task.round - 1
    files = {"initial": task.initial.size, f"state-{before}": task.state.size}
    if task.aggregate is not None:
        files[f"sums-{before}"] = task.aggregate.size
    there = sum(size for name, size in files.items() if (folder / f"{name}.safetensors").exists())
    return _most(task, copies, limits) - there


def _most(task: Task, copies: Copies, limits: Limits) -> int:
    """The same where none of it is there."""
    fetched = task.initial.size + task.state.size + (task.aggregate.size if task.aggregate is not None else 0)
    train = 2 * task.initial.size * (copies.update + copies.memory) if task.kind == "TRAIN" else 0
    sealed = _sealed(copies.update * task.initial.size, len(task.cohort), limits) if task.cohort else 0
    return fetched + train + sealed


def checked(vector: int, limits: Limits) -> bool:
    """Whether the sum of masked vectors of so many bytes is computed anew here."""
    return vector <= limits.check_mb * MB


def _sealed(model: int, sites: int, limits: Limits) -> int:
    """Bytes that a secure sum adds: the masked vector, and while its sum is computed anew, the vectors of all."""
    least, vector = model // 2, WIDEST * model  # of 16 bits, where values have 32
    return vector + (sites * min(vector, int(limits.check_mb * MB)) if checked(least, limits) else 0)


@dataclass(frozen=True)
class Need:
    """What an approved study takes at most, as the coordinator told its model's size; 0: it did not."""

    study: str
    bytes: int


def announced(journal: Journal, plan: Plan) -> tuple[int, int]:
    """Bytes of a study's initial model and of its wheel, as they were told with its offer; 0: they were not."""
    row = journal.row("SELECT model, code FROM studies WHERE plan = ?", plan.digest)
    return (int(row["model"]), int(row["code"])) if row is not None else (0, 0)


def of_study(journal: Journal, plan: Plan, limits: Limits) -> Need:
    """What a run of a study takes at most: its initial model and code, three states, sums, an update twice, and what
    is kept of three rounds."""
    model, code = announced(journal, plan)
    study, of = plan.study, copies(plan)
    most = model * (1 + 3 * of.update + 3 * of.state + 3 * of.memory) + code
    if study.privacy.recipe == "secure_sum":
        most += _sealed(of.update * model, len(study.sites) or 2 * study.quorum, limits)
    return Need(study.name, most)


def size(count: int) -> str:
    """Bytes, as a person reads them.

    >>> size(3 << 29)
    '1.5 GB'
    """
    return f"{count / GB:.1f} GB" if count >= GB // 10 else f"{count / MB:.1f} MB"
