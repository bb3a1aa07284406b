"""IFCA, clustered learning. Ghosh et al., NeurIPS 2020, https://arxiv.org/abs/2006.04088, algorithm 1 (averaging).

The state holds several models. In each round a site takes the one that has the least loss on its training patients,
trains it, and adds what came of it to that model's sum, and zeros to the others': which one it took is in no single
number that all do not have. Where hospitals are of a few kinds, each kind gets its own model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base
from consilium.algorithms.base import Here, Local, Pass, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector
from consilium.core.update import Sum


class Clusters(base.Options):
    """`clusters`: how many models; 1 is FedAvg. `spread`: how far parameters of the others begin from the first's."""

    clusters: int = Field(2, ge=1, le=16)
    spread: float = Field(0.1, gt=0, le=1)


class IFCA:
    """FedAvg of each group of sites that one model serves best."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Clusters = parsed(Clusters, options, "ifca")

    def init(self, model: Vector) -> Tensors:
        """The model, and others that are drawn around it: the same everywhere."""
        spread = self._options.spread
        others = {name: (model + spread * drawn(model.size, at)).astype(model.dtype)
                  for at, name in enumerate(self._named("model")[1:])}  # fmt: skip
        return {"model": model, **others}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Of each model the weighted differences, and the patients of those who took it."""
        patients = Sum(float(study.privacy.most_patients), each=False)
        return {name: Sum() for name in self._named("update")} | dict.fromkeys(self._named("patients"), patients)

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The site's own loss, from the model that it takes."""
        return (Pass(here.state[self._named("model")[self._taken(here)]]),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weight times difference to the model that was taken; zeros for the others; nothing is kept."""
        taken = self._taken(here)
        made = weighted(here.state[self._named("model")[taken]], local.after[0], local.patients)
        nothing = np.zeros_like(here.model)
        updates = {name: made["update"] if at == taken else nothing for at, name in enumerate(self._named("update"))}
        patients = {name: one(local.patients if at == taken else 0) for at, name in enumerate(self._named("patients"))}
        return {"weight": made["weight"], **updates, **patients}, {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Each model plus the mean difference of those who took it; one that nobody took stays."""
        found = {}
        for model, update, patients in zip(*map(self._named, ("model", "update", "patients")), strict=True):
            counted, before = float(sums[patients][0]), state[model]
            found[model] = before + sums[update] / before.dtype.type(counted) if counted > 0 else before
        return found

    def _taken(self, here: Here) -> int:
        """The place of the model of least loss; the first of several."""
        return int(np.argmin([here.loss(here.state[name]) for name in self._named("model")]))

    def _named(self, what: str) -> list[str]:
        return [what, *(f"{what}-{at}" for at in range(2, self._options.clusters + 1))]


def drawn(length: int, stream: int) -> Array:
    """Numbers in [-1, 1) that look like chance (length,) float64, by whole numbers: the same bits on every machine.

    Source: Steele et al., OOPSLA 2014, doi:10.1145/2660193.2660195 (SplitMix64), at every place of a stream.
    """
    z = (np.arange(1, length + 1, dtype=np.uint64) + np.uint64(stream << 40)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: Array = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-52 - 1
    return found
