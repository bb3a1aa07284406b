"""Coordinate-wise median and trimmed mean. Yin et al., ICML 2018, https://arxiv.org/abs/1803.01498, algorithm 1.

Each parameter of the common model moves by the median, or the trimmed mean, of what it moved by at the sites: a few of
them that send anything at all, by a fault or a lie, cannot move it beyond what the others say. Each site counts once,
for the number of its patients is its own word, too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import parsed
from consilium.core.state import Spread
from consilium.core.tensors import Array


class Median(fedavg.FedAvg):
    """FedAvg with the median in the place of the mean; fewer than half of the sites cannot spoil it."""

    least = 3

    def __init__(self, options: Mapping[str, Any]) -> None:
        parsed(base.Options, options, "median")

    def shares(self, of: Spread, sites: int) -> Array:
        """All alike."""
        return np.full(sites, 1 / sites)

    def combine(self, changes: Array, shares: Array) -> Array:
        """The median over sites of each parameter."""
        found: Array = np.median(changes, axis=0)
        return found


class Trimmed(base.Options):
    """`liars`: so many of the largest and of the smallest values of each parameter are left out; 0 is the mean."""

    liars: int = Field(1, ge=0, le=10_000)


class TrimmedMean(Median):
    """FedAvg with a trimmed mean, every site counting once; `liars` of them cannot spoil it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._liars: int = parsed(Trimmed, options, "trimmed-mean").liars
        self.least = 2 * self._liars + 1

    def combine(self, changes: Array, shares: Array) -> Array:
        """The mean over sites of each parameter, less the extremes."""
        ordered = np.sort(changes, axis=0)
        found: Array = np.mean(ordered[self._liars : len(ordered) - self._liars], axis=0)
        return found
