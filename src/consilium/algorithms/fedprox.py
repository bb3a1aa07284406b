"""FedProx. Li et al., MLSys 2020, https://arxiv.org/abs/1812.06127, algorithm 2."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from consilium.algorithms import fedavg
from consilium.algorithms.base import Here, LocalObjective, Options, Pass, parsed


class Proximal(Options):
    """`mu`: strength of the pull; 0 is FedAvg."""

    mu: float = Field(0.01, ge=0)


class FedProx(fedavg.FedAvg):
    """FedAvg whose sites are held near the common model by mu/2 |w - model|^2."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._mu: float = parsed(Proximal, options, "fedprox").mu

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The site's loss plus the proximal term."""
        return (Pass(here.model, LocalObjective(anchor=here.model, mu=self._mu)),)
