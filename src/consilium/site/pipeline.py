"""The pipeline: from a permit to an update on file. It believes only what it reads from disk and verifies itself.

(1) the permit is signed by this site's key   (2) the plan on disk has the digest in the permit   (3) the permit is for
the state that is to be trained   (4) enough training patients, counted here, and no more than a secure sum has room
for. Then the child trains.   (5) what it made is an update and nothing more. It stays here: only a recipe makes of it
what may leave.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from consilium import plugins
from consilium.algorithms import layout
from consilium.core import state as chain
from consilium.core.errors import Invalid, Refused
from consilium.core.ids import Digest, digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array
from consilium.governance.policy import Limits
from consilium.privacy import recipe
from consilium.site import tables
from consilium.site.child import Child, Died
from consilium.site.forkserver import ForkServer
from consilium.site.guard import Permit
from consilium.site.memories import Kept, kept
from consilium.wire.envelope import unseal
from consilium.wire.messages import SMALL
from consilium.wire.transfer import durable_digest, file_digest

DO = {"PREPARE": "prepare", "TRAIN": "train", "EVALUATE": "evaluate"}
"""What the child is told to do in a round of a kind."""
LIVES = 3
"""So many children may die of one task before it is refused: what killed them may not have been their own doing."""


@dataclass(frozen=True)
class Paths:
    """Files of one task.

    `wheel` is foreign code, or None. `memory`: what the strategy kept here, or None; `late`: what it kept with an
    answer that was not counted, where it may be counted later. `extracts`: where what servers of the hospital give is
    kept. `sample`: the key by which patients are drawn, or empty.
    """

    folder: Path
    permit: Path
    plan: Path
    initial: Path
    state: Path
    state_digest: str
    mapping: Path
    wheel: Path | None = None
    memory: Path | None = None
    late: Path | None = None
    extracts: Path | None = None
    sample: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Trained:
    """An update on file, and what the strategy keeps beside it; at the end, by what this hospital's numbers are
    harmonised. All of it stays at the site.
    """

    path: Path
    digest: Digest
    size: int
    memory: Kept | None = None
    harmony: Path | None = None


@dataclass
class Pipeline:
    """Runs permits; keeps one warm child between rounds. `forks`: where children come from, if not from a program."""

    public_key: str
    limits: Limits
    stop: Event
    forks: ForkServer | None = field(default=None, repr=False)
    _warm: tuple[Any, Child] | None = field(default=None, repr=False)
    _prepared: tables.Prepared | None = None
    _shape: tuple[str, layout.Shape] | None = None

    def run(self, paths: Paths) -> Trained:
        """Perform one permitted task.

        Raises: Refused: the permit, plan or state is not what it should be, or there are too few or too many patients.
                DataUnusable, MappingInvalid, TrainingFailed: the hospital's side cannot do it.
        """
        plan, permit = self._permitted(paths)
        lives = LIVES
        while True:
            try:
                return self._trained(plan, permit, paths)
            except Died:
                lives -= 1
                if self.stop.is_set() or not lives:
                    raise

    def alone(self, paths: Paths) -> dict[str, Array]:
        """Train a model of this hospital's own; sums over its held-out patients, which stay here. Raises: as `run`."""
        plan, permit = self._permitted(paths)
        child = self._child(plan, permit, paths)
        self._enough(plan, permit)
        out = paths.folder / "alone.safetensors"
        try:
            child.ask({"do": "alone", "state": str(paths.state), "out": str(out)})
        except BaseException:
            self.close()
            raise
        arrays = chain.read(out.read_bytes()).arrays
        out.unlink()
        return dict(arrays)

    def _permitted(self, paths: Paths) -> tuple[Plan, Permit]:
        permit: Permit = Permit.decode(unseal(paths.permit.read_bytes(), Permit.TYPE, [self.public_key]))
        payload = paths.plan.read_bytes()
        if digest(payload) != permit.plan:
            raise Refused("the plan on disk is not the permitted one", "ask the study's owner", reason="plan-changed")
        if permit.state != paths.state_digest:
            raise Refused("the permit is for another state", "take the task again", reason="state-mismatch")
        return Plan.load(payload), permit

    def _trained(self, plan: Plan, permit: Permit, paths: Paths) -> Trained:
        child = self._child(plan, permit, paths)
        self._enough(plan, permit)
        out = paths.folder / f"update-{permit.round}.safetensors"
        command: dict[str, Any] = {"do": DO[permit.kind], "round": permit.round}
        foreign = plan.study.model.foreign
        if paths.sample and not foreign:
            command["sample"] = self._chance(plan, permit, paths).hex()  # by a pipe, and into no file
        keep = paths.folder / f"memory-{permit.round}.safetensors"
        harmony = paths.folder / "harmony.json"
        for one in (keep, harmony):
            one.unlink(missing_ok=True)  # of an attempt that was cut off
        made, remembered, shifts = out, keep, harmony
        if foreign:
            made, remembered, shifts = (paths.folder / "out" / one.name for one in (out, keep, harmony))
        if paths.memory is not None:
            command["memory"] = str(paths.memory)
        if paths.late is not None:
            command["late"] = str(paths.late)
        try:
            beside = {"keep": str(remembered), "harmony": str(shifts)}
            told = child.ask({**command, "state": str(paths.state), "out": str(made), **beside})
        except BaseException:
            self.close()
            raise
        if foreign:  # foreign code may hold its own file open: what is hashed and sent is a copy beyond its reach
            for theirs, ours in ((made, out), (remembered, keep), (shifts, harmony)):
                if theirs is made or theirs.exists():
                    shutil.copyfile(theirs, ours, follow_symlinks=False)
                    theirs.unlink()
        self._fits(plan, permit, paths.state, out)
        named = None if foreign else told  # what foreign code says of its own bytes is not believed
        # A small file becomes durable with the journal's transaction that names it, or is made again.
        found, size = durable_digest(out, Digest(str(named["digest"])) if named else None, SMALL)
        return Trained(out, found, size, kept(keep), harmony if harmony.exists() else None)

    def _chance(self, plan: Plan, permit: Permit, paths: Paths) -> bytes:
        """By which patients are drawn and noise is added: bound to all of which the update is made, the table first.

        The same chance for another table would fall away in the difference of both.
        """
        assert self._prepared is not None and self._prepared.digest
        kept = ("" if one is None else file_digest(one) for one in (paths.memory, paths.late))
        return recipe.bound(paths.sample, plan.digest, self._prepared.digest, permit.state, *kept)

    def _fits(self, plan: Plan, permit: Permit, state: Path, made: Path) -> None:
        """Whether what was made is an update and nothing more: foreign code could have put patients beside it.

        Raises: Refused: `contribution`.
        """
        fits(plan.study, permit.kind, self._model(permit.run, state), made)

    def _model(self, run: str, state: Path) -> layout.Shape:
        """Type and length of a run's model: those of its first state, for a state that follows has the same arrays."""
        if self._shape is None or self._shape[0] != run:
            self._shape = run, layout.model_of(chain.read(state))
        return self._shape[1]

    def _child(self, plan: Plan, permit: Permit, paths: Paths) -> Child:
        key = (plan.digest, permit.run, _stamp(paths.mapping))
        if self._warm is not None and self._warm[0] == key:
            return self._warm[1]
        self.close()
        prepared = tables.prepare(plan.study, paths.mapping, paths.folder, paths.extracts)
        self._prepared = prepared
        try:
            self._enough(plan, permit)
        except Refused:
            prepared.path.unlink()
            raise
        child = Child(paths.folder, self.limits, foreign=plan.study.model.foreign, forks=self.forks)
        self._warm = (key, child)
        load: dict[str, Any] = {
            "do": "load",
            "plan": str(paths.plan),
            "initial": str(paths.initial),
            "table": str(prepared.path),
        }
        if plan.study.model.foreign:
            out = paths.folder / "out"
            out.mkdir(exist_ok=True)
            load |= {"confine": {"read": [str(paths.folder)], "write": [str(out)]}}
            load |= {"wheel": str(paths.wheel)} if paths.wheel else {}
        try:
            child.ask(load)
        except BaseException:
            self.close()
            raise
        finally:
            prepared.path.unlink(missing_ok=True)
        return child

    def _enough(self, plan: Plan, permit: Permit) -> None:
        assert self._prepared is not None
        most = plan.study.privacy.most_patients
        test = 0 if plan.study.evaluation.folds else self._prepared.test
        if permit.recipe == "secure_sum" and self._prepared.training + test > most:
            raise Refused(
                f"this hospital has more patients than the {most} for which the study's secure sum has room",
                "raise privacy.most_patients in a new study",
                reason="too-many-patients",
            )
        if self._prepared.counted < permit.min_patients:
            who = " who choose the penalty" if plan.study.validates else ""
            raise Refused(
                f"this hospital has fewer than {permit.min_patients} patients for training{who}",
                "the hospital's policy and the study ask for more",
                reason="too-few-patients",
            )

    def close(self) -> None:
        """End the child."""
        if self._warm is not None:
            self._warm[1].close()
            self._warm = None


def fits(study: Study, kind: str, model: layout.Shape, made: Path) -> None:
    """Whether what was made in a round of a kind is an update of a model, and nothing more. Raises: Refused."""
    try:
        vectors, asked = chain.read(made), study.privacy
        sums = plugins.sums_of(study, kind, model[1])
        update = ("F64", model[1]) if asked.shared else model  # as exact as noise is added to it
        layout.check(vectors, update, kind, study, sums, judged=True, weight=asked.weight)
        if study.model.foreign and not chain.finite(vectors):  # our own trainers see to that
            raise Invalid("a value of the contribution is not finite")
    except Invalid as error:
        raise Refused(
            f"what was trained here does not leave: {error.message}",
            "look into the code that trains, or lower the learning rate; the file stays in the folder of the run",
            reason="contribution",
        ) from error


def _stamp(mapping: Path) -> tuple[str, tuple[int, ...]]:
    return str(mapping), tables.stamp(mapping)
