"""FedAvg. McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629, algorithm 1."""

from collections.abc import Mapping
from typing import Any

from consilium.algorithms.base import LocalObjective, Options, parsed, weighted
from consilium.core.tensors import Array, Tensors, Vector


class FedAvg:
    """Average the local models, weighted by training patients."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        parsed(Options, options, "fedavg")

    def init(self, model: Vector) -> Tensors:
        """The model is all the state there is."""
        return {"model": model}

    def objective(self, model: Vector) -> LocalObjective:
        """The site's own loss."""
        return LocalObjective()

    def contribution(self, before: Vector, after: Vector, weight: float) -> Tensors:
        """Weight times difference."""
        return weighted(before, after, weight)

    def apply_chunk(self, state: Tensors, update: Array, weight: float) -> Tensors:
        """Model plus mean difference."""
        return {"model": state["model"] + update / state["model"].dtype.type(weight)}
