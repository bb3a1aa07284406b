"""Agnostic federated learning (AFL). Mohri et al., ICML 2019, https://arxiv.org/abs/1902.00146, algorithm 1.

What is minimised is the loss under the worst mixture of hospitals: none is served worse than it must be. Who has a loss
above the mixture's counts for more, and who has one below it for less. The paper steps along the losses and projects on
the mixtures, for which one place must know all weights; here each site keeps its own, which is multiplied by an
exponential of its loss (mirror ascent), and sums make them a mixture.
"""

from collections.abc import Mapping
from math import exp
from typing import Any

from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import Sum


class Agnostic(base.Options):
    """`mixture_rate`: how fast weights follow losses; 0 is FedAvg. `largest_loss`: a mean loss above it counts as that.
    `largest_weight`: a patient counts for at most so many times as much as on average, and at least for its inverse.
    """

    mixture_rate: float = Field(1.0, ge=0, le=100)
    largest_loss: float = Field(4.0, gt=0, le=1e6)
    largest_weight: float = Field(10.0, ge=1, le=1e3)


class AFL(fedavg.FedAvg):
    """FedAvg under the mixture of hospitals that is worst for the model."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Agnostic = parsed(Agnostic, options, "afl")

    def init(self, model: Vector) -> Tensors:
        """Model; the mixture's loss, as a part of the largest; how much a patient counts on average."""
        return {"model": model, "loss": one(0), "counts": one(1)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Differences and losses, weighted by how much patients count; and that."""
        privacy, most = study.privacy, self._options.largest_weight
        counts = Sum(most * privacy.most_patients, each=False)
        return {"update": Sum(most * privacy.clip * privacy.most_patients), "counts": counts, "loss": counts}

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weighted difference and loss; how much a patient of this site counts is kept."""
        loss = min(here.loss(here.model) / self._options.largest_loss, 1.0)
        counts = self._counts(here, loss)
        made = weighted(here.model, local.after[0], local.patients)
        update = made["update"].dtype.type(counts) * made["update"]
        told = {"counts": one(counts * local.patients), "loss": one(counts * local.patients * loss)}
        return {**made, "update": update, **told}, {"counts": one(counts)}

    def _counts(self, here: Here, loss: float) -> float:
        """How much a patient of this site counts: as one on average, when the site is counted for the first time."""
        if "counts" not in here.memory:
            return 1.0
        before = float(here.memory["counts"][0]) / float(here.state["counts"][0])
        after = before * exp(self._options.mixture_rate * (loss - float(here.state["loss"][0])))
        return min(max(after, 1 / self._options.largest_weight), self._options.largest_weight)

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus mean difference under the mixture; the mixture's loss, and how much a patient counts in it."""
        counts = float(sums["counts"][0])
        model = state["model"] + sums["update"] / state["model"].dtype.type(counts)
        return {"model": model, "loss": one(float(sums["loss"][0]) / counts), "counts": one(counts / weight)}
