"""Krum and multi-Krum. Blanchard et al., NeurIPS 2017, https://arxiv.org/abs/1703.02757, sections 4 and 6.

The common model moves by the change that is nearest to those of the other sites, or by the mean of a few such: whoever
lies must stay among the honest to be chosen. Each site counts once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import parsed
from consilium.core.state import Spread
from consilium.core.tensors import Array


class Nearest(base.Options):
    """`liars`: so many sites may send anything. `keep`: of how many sites the mean is taken; 1 is Krum, more is
    multi-Krum.
    """

    liars: int = Field(1, ge=0, le=10_000)
    keep: int = Field(1, ge=1, le=10_000)


class Krum(fedavg.FedAvg):
    """FedAvg of the `keep` sites whose changes have the nearest neighbours."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Nearest = parsed(Nearest, options, "krum")
        self.least = self._options.liars + 2 + max(self._options.liars + 1, self._options.keep)

    def shares(self, of: Spread, sites: int) -> Array:
        """Equal shares for those with the smallest score: the sum over their n - f - 2 nearest of squared distances."""
        near = sites - self._options.liars - 2
        apart = np.sort(of.squares(), axis=1)[:, 1 : near + 1]  # the nearest of all is a site itself
        chosen = np.argsort(apart.sum(axis=1), kind="stable")[: self._options.keep]
        found = np.zeros(sites)
        found[chosen] = 1 / len(chosen)
        return found

    def combine(self, changes: Array, shares: Array) -> Array:
        """The mean of the chosen."""
        found: Array = np.mean(changes[shares > 0], axis=0)
        return found
