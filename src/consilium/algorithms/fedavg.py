"""FedAvg. McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629, algorithm 1."""

from collections.abc import Mapping
from typing import Any

from consilium.algorithms.base import Here, Local, Options, Pass, parsed, weighted
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import UPDATE, Sum


class FedAvg:
    """Average the local models, weighted by training patients."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        parsed(Options, options, "fedavg")

    def init(self, model: Vector) -> Tensors:
        """The model is all the state there is."""
        return {"model": model}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """The weighted differences."""
        return UPDATE

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The site's own loss, from the common model."""
        return (Pass(here.model),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weight times difference; nothing is kept."""
        return weighted(here.model, local.after[0], local.patients), {}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Model plus mean difference."""
        return {"model": state["model"] + sums["update"] / state["model"].dtype.type(weight)}
