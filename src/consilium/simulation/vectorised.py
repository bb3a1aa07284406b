"""Many sites of a linear, logistic or Poisson model at once: one matrix product in the place of a thousand small ones.

Sites of equally many training patients are stacked: they have the same batches in the same order. What comes of it is
what comes of one site after the other, to rounding: models agree to 1e-9. The figures of a round are computed from all
held-out patients at once; the last round, which has those of single sites, goes one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.algorithms import encode, evaluation, groups
from consilium.algorithms.base import Here, parts_of
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.fedopt import FedAvgM, FedOpt
from consilium.algorithms.fedprox import FedProx
from consilium.algorithms.groups import Members
from consilium.core import state as chain
from consilium.core.errors import Conflict
from consilium.core.tensors import Array, Tensors, Vector, unflatten
from consilium.data.base import Floats
from consilium.simulation.executors import Asked, Sent, Turn, one
from consilium.simulation.patients import Sites
from consilium.training import silence
from consilium.training.linear import Regression

AVERAGING = (FedAvg, FedProx, FedAvgM, FedOpt)
"""Strategies with one pass from the common model, the same terms at every site, and weighted differences."""
TOGETHER = 1024
"""So many sites at most are computed at once: memory does not grow with their number."""
SIMPLER = "choose --executor inline or processes"


@dataclass(frozen=True)
class Stack:
    """Sites of n training patients each: design (d, sites, n), with ones first; label (sites, n)."""

    names: tuple[str, ...]
    design: Floats
    label: Floats


@dataclass(frozen=True)
class HeldOut:
    """Held-out patients of all sites: x (n, p), label (n,), groups (n, groups), and the site of each, an index (n,)."""

    x: Floats
    label: Floats
    groups: Members
    site: npt.NDArray[np.int64]


class Vectorised:
    """All sites at once, as far as model and strategy are known here."""

    def __init__(self, sites: Sites) -> None:
        """Stack the sites. Raises: Conflict: the plan's model, strategy or noise is not known here."""
        study, self._work = sites.plan.study, sites.anywhere
        if study.evaluation.folds:
            raise Conflict("the executor vectorised does not cross-validate", SIMPLER)
        if study.privacy.epsilon is not None:
            raise Conflict("the executor vectorised does not draw noise", SIMPLER)
        if study.prepare is not None and study.prepare.harmonise is not None:
            raise Conflict("the executor vectorised does not know what each site harmonises", SIMPLER)
        if not isinstance(self._work.trainer, Regression):
            raise Conflict(f"the executor vectorised does not know models of kind {study.model.kind}", SIMPLER)
        if type(self._work.strategy) not in AVERAGING:
            raise Conflict(f"the executor vectorised does not know the strategy {study.strategy.name}", SIMPLER)
        self._study, self._trainer, self._sites = study, self._work.trainer, sites
        self._place = {site: index for index, site in enumerate(sites.rows)}
        self._patients = {site: sites.training(site) for site in sites.rows}
        if study.prepare is None:
            self._stacks, self._held_out = _stacked(sites, {})

    def __call__(self, asked: Asked, turns: Sequence[Turn]) -> Iterator[Sent]:
        """In no order: sums of many sites are computed at once."""
        if asked.kind == "PREPARE":
            yield from (one(self._sites(turn.site), asked, turn) for turn in turns)
            return
        if self._study.prepares and asked.number == self._study.prepares + 1:
            self._stacks, self._held_out = _stacked(self._sites, asked.begins.arrays)
        here = self._here(asked)
        (only,) = self._work.strategy.passes(here)
        assert only.start is not None
        if asked.kind != "TRAIN":
            yield from self._judged_apart(only.start, turns)
            return
        names = None if len(turns) == len(self._place) else {turn.site for turn in turns}
        added = self._judged(only.start, names)
        for stack in self._stacks:
            part = stack if names is None else _of(stack, names)
            if not part.names:
                continue
            after = self._trainer.train_many(
                self._study, only.start, part.design, part.label, only.objective, asked.number
            )
            weights = np.full((len(part.names), 1), float(part.label.shape[1]))
            moved = weights * (after - here.model)
            silent = () if not silence.asked(self._study) else _named(part.names, ~np.any(moved, axis=1))
            if silent:
                yield Sent(silent, {}, refuses=silence.nothing().message)
                continue  # nothing of this round is added up: it is as if these had said so before
            yield Sent(part.names, {"update": moved, "weight": weights}, added)
            added = {name: np.zeros_like(array) for name, array in added.items()}

    def _here(self, asked: Asked) -> Here:
        arrays = chain.own(asked.begins.arrays)
        return Here({**arrays, "model": np.array(arrays["model"])}, {}, parts_of(self._work.like))

    def _judged(self, model: Vector, names: set[str] | None) -> Tensors:
        """The sums over held-out patients of these sites, or of all."""
        if names is None:
            return self._sums("TRAIN", model, slice(None))
        mine = np.zeros(len(self._place), dtype=bool)
        mine[[self._place[name] for name in names]] = True
        return self._sums("TRAIN", model, mine[self._held_out.site])

    def _judged_apart(self, model: Vector, turns: Sequence[Turn]) -> Iterator[Sent]:
        """The sums of each site, one after the other."""
        held = self._held_out
        ends = np.cumsum(np.bincount(held.site, minlength=len(self._place)))
        for turn in turns:
            place = self._place[turn.site]
            part = slice(int(ends[place - 1]) if place else 0, int(ends[place]))
            weight = np.array([float(self._patients[turn.site])])  # training patients, as in every round
            found = {"weight": weight, **self._sums("EVALUATE", model, part)}
            yield Sent((turn.site,), {name: array[None] for name, array in found.items()})

    def _sums(self, kind: str, model: Vector, of: slice | Members) -> Tensors:
        held = self._held_out
        score = self._trainer.predict(self._study, unflatten(model, self._work.like), held.x[of]).astype(np.float64)
        found = evaluation.sums(self._study, kind, score, held.label[of], held.groups[of])
        return {f"metrics/{name}": array for name, array in found.items()}


def _stacked(sites: Sites, learned: Mapping[str, Array]) -> tuple[list[Stack], HeldOut]:
    """All sites' inputs. Args: learned: arrays of a state, with what it holds of preparation."""
    patients, study = sites.patients, sites.plan.study
    by_size: dict[int, list[str]] = {}
    for site in sites.rows:
        by_size.setdefault(sites.training(site), []).append(site)
    stacks = []
    for size, names in sorted(by_size.items()):
        for start in range(0, len(names) if size else 0, TOGETHER):
            some = names[start : start + TOGETHER]
            mine = patients.at(np.concatenate([_trained(sites, site) for site in some]))
            x = encode.encode(study.contract, mine.columns, study.prepare, learned)
            design = np.vstack([np.ones(len(x)), x.T]).reshape(-1, len(some), size)
            stacks.append(Stack(tuple(some), design, mine.label.reshape(len(some), size)))
    held = [rows[patients.test[rows]] for rows in sites.rows.values()]
    mine = patients.at(np.concatenate(held))
    index = np.repeat(np.arange(len(held)), [len(rows) for rows in held])
    apart = groups.members(study, mine.columns, len(mine.label))
    x = encode.encode(study.contract, mine.columns, study.prepare, learned)
    return stacks, HeldOut(x, mine.label, apart, index)


def _trained(sites: Sites, site: str) -> npt.NDArray[np.int64]:
    rows = sites.rows[site]
    found: npt.NDArray[np.int64] = rows[~sites.patients.test[rows]]
    return found


def _named(names: tuple[str, ...], which: Members) -> tuple[str, ...]:
    return tuple(name for name, chosen in zip(names, which, strict=True) if chosen)


def _of(stack: Stack, names: set[str]) -> Stack:
    at = [index for index, name in enumerate(stack.names) if name in names]
    if len(at) == len(stack.names):
        return stack
    return Stack(tuple(stack.names[index] for index in at), stack.design[:, at], stack.label[at])
