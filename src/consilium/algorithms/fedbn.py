"""FedBN. Li et al., ICLR 2021, https://arxiv.org/abs/2102.07623, algorithm 1.

Normalisation layers stay at each site, with what they count: hospitals whose inputs are shifted or scaled, such as by
another scanner, each normalise by their own. All else is averaged.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from consilium.algorithms import base, fedper
from consilium.algorithms.base import parsed

USUAL = ("*norm*", "*bn*", "*.running_mean", "*.running_var")


class Norms(base.Options):
    """`layers`: names of the normalisation layers' parts, if they are not the usual ones."""

    layers: tuple[str, ...] = Field(USUAL, min_length=1, max_length=1000)


class FedBN(fedper.FedPer):
    """FedPer of the normalisation layers."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__({"layers": parsed(Norms, options, "fedbn").layers})
        self.each = "layers" in options  # few models have parts of all the usual names
