"""FedDyn. Acar et al., ICLR 2021, https://arxiv.org/abs/2111.04263, algorithm 1.

Each site keeps the gradient of its loss at its last local model, and minimises its loss less that gradient, near the
common model: at a common model where all stay, the gradients add up to zero, so that it is the joint optimum. The state
holds the sum of the gradients, by patients, of every site that was ever counted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base
from consilium.algorithms.base import Here, Local, LocalObjective, Pass, one, parsed, weighted
from consilium.algorithms.scaffold import added, changed, counted, mean
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import Sum


class Dynamic(base.Options):
    """`alpha`: how strongly local models are held near the common one."""

    alpha: float = Field(0.1, gt=0, le=1e3)


class FedDyn:
    """FedAvg with a regulariser at each site that follows its gradient."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._alpha: float = parsed(Dynamic, options, "feddyn").alpha

    def init(self, model: Vector) -> Tensors:
        """Model; sum of gradients, weighted by patients; patients."""
        return {"model": model, "control": np.zeros_like(model), "patients": one(0)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Weighted differences; changes of the weighted gradients; changes of patients."""
        most = float(study.privacy.most_patients)
        steep = study.privacy.clip * max(self._alpha, 1 / study.training.learning_rate)
        return {"update": Sum(), "control": Sum(2 * most * steep, lasting=True), "patients": Sum(most, each=False)}

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """F(w) - <own gradient, w> + alpha/2 |w - model|^2."""
        linear = -mean(here.memory, here.model)
        return (Pass(here.model, LocalObjective(anchor=here.model, mu=self._alpha, linear=linear)),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weighted difference; the gradient at the local model is the own one less alpha times it, and is kept."""
        number = here.model.dtype.type
        change = (local.after[0] - here.model) * here.moves
        gradient = mean(here.memory, here.model) - number(self._alpha) * change
        patients = counted(here.memory, local)
        more, kept = changed(here.memory, gradient, patients)
        return {**weighted(here.model, local.after[0], patients), "weight": one(local.patients), **more}, kept

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Mean of the local models, less the mean gradient by alpha."""
        number, lasting = state["model"].dtype.type, added(state, sums)
        local = state["model"] + sums["update"] / number(weight)
        return {"model": local - mean(lasting) / number(self._alpha), **lasting}
