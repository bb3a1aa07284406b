"""Geometric median. Pillutla et al., IEEE TSP 2022, https://arxiv.org/abs/1912.13445, algorithm 2 (smoothed Weiszfeld).

The common model moves by the point whose distances to the sites' changes are least in sum: it turns with the data,
which a median of each parameter does not, and fewer than half of the sites cannot drag it away. Each site counts once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import parsed
from consilium.core.state import Spread
from consilium.core.tensors import Array

STEPS, CLOSE = 1000, 1e-10
"""Most steps, and the part of the sites' distances that is no distance: there the objective is smooth."""


class GeometricMedian(fedavg.FedAvg):
    """FedAvg with the geometric median in the place of the mean."""

    least = 3

    def __init__(self, options: Mapping[str, Any]) -> None:
        parsed(base.Options, options, "geometric-median")

    def shares(self, of: Spread, sites: int) -> Array:
        """Weights of which the median is the mean: each inverse to the distance from it.

        It is sought from the half of the sites that are nearest to the one in their midst, in products relative to that
        one: so that a change beyond all bounds takes no digit from the others.
        """
        squares = of.squares()
        centre = int(np.argmin(np.sqrt(squares).sum(axis=0)))
        near = np.argsort(squares[centre], kind="stable")[: sites // 2 + 1]
        scale = float(np.sqrt(squares[centre][near[-1]]))
        shares = np.zeros(sites)
        shares[near] = 1 / len(near)
        if scale == 0:  # more than half say the same
            return shares
        products = of.products(centre)
        for _ in range(STEPS):
            counted = shares > 0
            apart = _distances(products, shares, counted)
            nearer = 1 / np.maximum(apart, CLOSE * scale)
            after = nearer / nearer.sum()
            done = np.max(np.abs(after - shares)) < 1e-14
            shares = after
            if done:
                break
        return shares

    def combine(self, changes: Array, shares: Array) -> Array:
        """The weighted mean."""
        found: Array = np.sum(changes * shares[:, None], axis=0)
        return found


def _distances(products: Array, shares: Array, counted: Array) -> Array:
    """Of each site from the mean by these shares: |z|^2 - 2 <z, x> + |x|^2."""
    part = products[:, counted] * shares[counted]
    across = np.sum(part, axis=1)
    length = float(np.sum(across[counted] * shares[counted]))
    found: Array = np.sqrt(np.maximum(length - 2 * across + np.diag(products), 0.0))
    return found
