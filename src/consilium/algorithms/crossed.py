"""Cross-validation by patient: beside the common model, one for each fold that never sees this fold's patients.

Stone, JRSS B 1974, 36:111. All models are trained side by side, in the same rounds and by the same strategy, each with
the sums of its own training patients; so each opened sum is one over all hospitals of the round. A patient is judged by
the model of its fold. The model of the study is that of all patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from consilium.algorithms.base import Here, Local, Pass, Strategy
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import Sum

WEIGHT = "weight"
FOLD = "fold-"
T = TypeVar("T")


class Crossed:
    """A strategy that trains `folds` models more. The common one's arrays have the names that they have without it."""

    def __init__(self, inner: Strategy, folds: int) -> None:
        self.inner, self.folds = inner, folds

    def init(self, model: Vector) -> Tensors:
        """The strategy's own state, once for each model; all begin alike."""
        return self.joined([self.inner.init(model.copy()) for _ in self._models])

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """The strategy's own for each model, and for each fold how many patients trained without it."""
        own = dict(self.inner.sums(study, length))
        patients = Sum(float(study.privacy.most_patients), each=False)
        return self.joined([own, *({**own, WEIGHT: patients} for _ in range(self.folds))])

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """Those of the common model."""
        return self.inner.passes(here)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """The same training for each model: who has folds joins the segments of each model's own patients instead."""
        each = [replace(here, state=self.part(here.state, at)) for at in self._models]
        return self.joined([self.inner.contribution(one, local)[0] for one in each]), {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """The strategy's own step for each model, by its patients; a model of which there were none stays."""
        found = []
        for at in self._models:
            before, added = self.part(state, at), dict(self.part(sums, at))
            patients = weight if at == 0 else float(added.pop(WEIGHT)[0])
            found.append(self.inner.apply_chunk(dict(before), added, patients) if patients > 0 else dict(before))
        return self.joined(found)

    @property
    def _models(self) -> range:
        return range(self.folds + 1)

    def part(self, of: Mapping[str, T], at: int) -> dict[str, T]:
        """What belongs to one model, under the strategy's own names: 0 is the common one, then come the folds."""
        if at == 0:
            return {name: value for name, value in of.items() if not name.startswith(FOLD)}
        mine = named(at)
        return {name.removeprefix(mine): value for name, value in of.items() if name.startswith(mine)}

    def joined(self, parts: Sequence[Mapping[str, T]]) -> dict[str, T]:
        """What belongs to all models."""
        folds = {f"{named(at)}{name}": value for at, part in enumerate(parts) if at for name, value in part.items()}
        return {**parts[0], **folds}


def named(at: int) -> str:
    """With what the names of a fold's arrays begin. Args: at: from 1 on."""
    return f"{FOLD}{at}/"


class CrossedWhole(Crossed):
    """The same of a strategy whose step is computed as a whole."""

    def __init__(self, inner: Strategy, folds: int) -> None:
        super().__init__(inner, folds)
        assert isinstance(inner, chain.Whole)
        self.most = inner.most


def crossed(inner: Strategy, folds: int) -> Crossed:
    """A strategy that cross-validates."""
    return (CrossedWhole if isinstance(inner, chain.Whole) else Crossed)(inner, folds)


def without(fold: npt.NDArray[np.int64], at: int) -> npt.NDArray[np.bool_]:
    """Who trains a model (n,): all the common one, and a fold's all who are not in it."""
    return np.ones(len(fold), dtype=bool) if at == 0 else np.asarray(fold != at - 1)
