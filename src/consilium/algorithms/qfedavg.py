"""q-FedAvg. Li et al., ICLR 2020, https://arxiv.org/abs/1905.10497, algorithm 2, every site weighted by its patients.

What is minimised is the mean of F^(q+1) over patients' sites: a hospital whose loss is high counts for more, and losses
become more equal. Losses are divided by the mean loss of the round before: the step is the same, and what is summed is
about one for each patient, however small losses are, so that rounding in a secure sum leaves it whole. In the first
round, before which there is none, all count alike.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, one, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import Sum

LEAST = 1e-3
"""A loss below this part of `largest_loss` counts as that."""
MOST = 1e3
"""A patient counts for no more than so many times as much as one of a hospital with the mean loss."""


class Fair(base.Options):
    """`q`: how much more a high loss counts; 0 is FedAvg. `largest_loss`: a mean loss above it counts as that."""

    q: float = Field(1.0, ge=0, le=10)
    largest_loss: float = Field(4.0, gt=0, le=1e6)


class QFedAvg(fedavg.FedAvg):
    """FedAvg in which a hospital's weight grows with its loss."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Fair = parsed(Fair, options, "qfedavg")

    def init(self, model: Vector) -> Tensors:
        """Model; the mean loss of the last round, as a part of the largest; 0: there was none."""
        return {"model": model, "loss": one(0)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Differences, weighted by how much patients count; that; how the objective is curved; and losses."""
        most, q = float(study.privacy.most_patients), self._options.q
        steepest = q * max(MOST, LEAST ** (q - 1)) / self._options.largest_loss
        steep = steepest * study.privacy.clip**2 * length / study.training.learning_rate
        return {
            "update": Sum(MOST * most * study.privacy.clip, lasting=True) if q else Sum(),
            "counts": Sum(MOST * most, each=False), "curvature": Sum(most * max(steep, 1.0), each=False),
            "loss": Sum(most, each=False),
        }  # fmt: skip

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """The paper's numerator and the parts of its denominator, divided by the mean loss^q and by its Lipschitz
        constant, 1 / learning rate; `curvature` times the mean loss, too.
        """
        q, loss = self._options.q, min(max(here.loss(here.model) / self._options.largest_loss, LEAST), 1.0)
        mean = float(here.state["loss"][0]) or loss
        change = local.after[0] - here.model
        length = float(np.sum(np.square(change, dtype=np.float64)))
        counts = min((loss / mean) ** q, MOST)
        bent = q * counts * mean / loss / self._options.largest_loss * length / local.rate
        made, patients = weighted(here.model, local.after[0], local.patients), local.patients
        update = made["update"].dtype.type(counts) * made["update"]
        told = {"counts": one(patients * counts), "curvature": one(patients * bent), "loss": one(patients * loss)}
        return {**made, "update": update, **told}, {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus numerator by denominator; it stays where losses fell so far that rounding left nothing of them."""
        now = max(float(sums["loss"][0]) / weight, LEAST)
        below = float(sums["counts"][0]) + float(sums["curvature"][0]) / (float(state["loss"][0]) or now)
        step = sums["update"] / state["model"].dtype.type(below) if below > 0 else np.zeros_like(state["model"])
        return {"model": state["model"] + step, "loss": one(now)}
