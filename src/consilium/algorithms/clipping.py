"""Changes of hospitals, each clipped as a whole, at a bound that adapts. Andrew et al., NeurIPS 2021,
https://arxiv.org/abs/1905.03871, algorithm 1: the bound follows a quantile of the norms, by the noised number of
hospitals that stay below it.

What a hospital sends is in units of the bound, so that what noise has to hide is one for all rounds.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from consilium.algorithms.base import Here, Local, Pass, Strategy, one
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector
from consilium.core.update import UPDATE, Sum

RATE = 0.2
"""How fast the bound moves, as in the paper (eta_C)."""
SLACK = 1e-9
"""By so much more is clipped than it should be: more than the rounding of a norm over many values."""


class Clipped:
    """A strategy whose sites' changes are clipped. `quantile`: None: the bound stays at `bound`."""

    def __init__(self, inner: Strategy, bound: float, quantile: float | None) -> None:
        self._inner, self._bound, self._quantile = inner, bound, quantile

    def init(self, model: Vector) -> Tensors:
        """The strategy's own, and the bound."""
        return {**self._inner.init(model), "bound": one(self._bound)}

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """Changes in units of the bound; and by how much more than half of the hospitals stay below it.

        Raises: StudyInvalid: the strategy adds up more than changes.
        """
        if self._inner.sums(study, length) != UPDATE:
            raise StudyInvalid(
                f"strategy.name: {study.strategy.name} adds up more than changes of the model", "use fedavg"
            )
        within = {} if self._quantile is None else {"within": Sum(0.5, each=False)}
        return {"update": Sum(1.0), **within}

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The strategy's own."""
        return self._inner.passes(here)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """The change, of a norm of at most 1, in float64; each hospital counts as one."""
        made, kept = self._inner.contribution(here, replace(local, patients=1.0))
        change = made["update"].astype(np.float64) / float(here.state["bound"][0])
        norm = float(np.sqrt(np.sum(np.square(change))))
        found = {"update": change * min(1.0, (1 - SLACK) / norm) if norm > 0 else change, "weight": one(1)}
        if self._quantile is not None:
            found["within"] = one(0.5 if norm <= 1 else -0.5)
        return found, kept

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """The strategy's own step, with changes in their unit again; and the next bound."""
        bound = float(state["bound"][0])
        own = {name: array for name, array in state.items() if name != "bound"}
        after = self._inner.apply_chunk(own, {"update": sums["update"] * sums["update"].dtype.type(bound)}, weight)
        if self._quantile is not None:
            bound = moved(bound, float(sums["within"][0]) / weight + 0.5, self._quantile)
        return {**after, "bound": one(bound)}


def moved(bound: float, below: float, quantile: float) -> float:
    """The next bound: bound * exp(-RATE (below - quantile)), and no step beyond a factor of e.

    By a quotient of polynomials (Pade, of second degree; 1e-6 off for shares without noise, and two thousandths where
    the factor is e): it is the same to the last bit on every machine, which an exponential is not.

    Args:    below: share of hospitals that were not clipped, with its noise.
    """
    x = min(max(RATE * (below - quantile), -1.0), 1.0)
    even, odd = 12.0 + x * x, 6.0 * x
    return bound * ((even - odd) / (even + odd))
