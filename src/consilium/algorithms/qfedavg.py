"""q-FedAvg. Li et al., ICLR 2020, https://arxiv.org/abs/1905.10497, algorithm 2, every site weighted by its patients.

What is minimised is the mean of F^(q+1) over patients' sites: a hospital whose loss is high counts for more, and losses
become more equal. Losses are divided by `largest_loss`: the step is the same, and every sum has a bound.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.core.update import Sum

LEAST = 1e-3
"""A loss below this part of `largest_loss` counts as that."""


class Fair(base.Options):
    """`q`: how much more a high loss counts; 0 is FedAvg. `largest_loss`: a mean loss above it counts as that."""

    q: float = Field(1.0, ge=0, le=10)
    largest_loss: float = Field(4.0, gt=0, le=1e6)


class QFedAvg(fedavg.FedAvg):
    """FedAvg in which a hospital's weight grows with its loss."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Fair = parsed(Fair, options, "qfedavg")

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Differences weighted by loss and patients; and the estimate of how the objective is curved."""
        steepest = max(self._steepness(LEAST), self._steepness(1.0))
        steep = steepest * study.privacy.clip**2 * length / study.training.learning_rate
        return {"update": Sum(), "curvature": Sum(study.privacy.most_patients * (1 + steep), each=False)}

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """The paper's numerator and denominator, both divided by its Lipschitz constant, 1 / learning rate."""
        loss = min(max(here.loss(here.model) / self._options.largest_loss, LEAST), 1.0)
        change = local.after[0] - here.model
        length = float(np.sum(np.square(change, dtype=np.float64)))
        counts = loss**self._options.q
        bent = counts + self._steepness(loss) * length / local.rate
        made = weighted(here.model, local.after[0], local.patients)
        update = made["update"].dtype.type(counts) * made["update"]
        return {**made, "update": update, "curvature": one(local.patients * bent)}, {}

    def _steepness(self, loss: float) -> float:
        """How fast the weight grows with a loss that is this part of the largest."""
        return self._options.q * float(loss ** (self._options.q - 1)) / self._options.largest_loss

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus numerator by denominator."""
        return {"model": state["model"] + sums["update"] / state["model"].dtype.type(float(sums["curvature"][0]))}
