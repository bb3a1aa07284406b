"""Ditto. Li et al., ICML 2021, https://arxiv.org/abs/2012.04221, algorithm 1 (with FedAvg for the common model).

Beside the common model, each site trains one of its own, held near the common one by a penalty. It stays there, and is
the one that is judged.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, LocalObjective, Pass, parsed, weighted
from consilium.core.tensors import Tensors


class Held(base.Options):
    """`penalty`: the paper's lambda; 0 trains alone, and the more, the nearer to the common model."""

    penalty: float = Field(0.1, ge=0, le=1e3)


class Ditto(fedavg.FedAvg):
    """FedAvg, and a model of each site's own."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._penalty: float = parsed(Held, options, "ditto").penalty

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """FedAvg's; then the own model, F(v) + penalty/2 |v - model|^2."""
        own = here.memory.get("personal", here.model)
        return Pass(here.model), Pass(own, LocalObjective(anchor=here.model, mu=self._penalty))

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """FedAvg's; the own model is kept."""
        return weighted(here.model, local.after[0], local.patients), {"personal": local.after[1]}
