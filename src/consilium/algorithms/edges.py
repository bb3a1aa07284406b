"""Which scores may part patients in what is told of all of them: the table, the curves and the matrix have these alone.

Each list by itself keeps small counts out; of two lists, neighbours may differ by a few patients. So all take their
thresholds from one: between two of it there are, of each outcome, no patients or ten and more.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from consilium.algorithms.figure import LEAST
from consilium.core.tensors import Array


@dataclass(frozen=True)
class Edges:
    """Edges of the bins of a histogram, in rising order, the first and the last among them."""

    bins: int
    at: tuple[int, ...]

    def __contains__(self, threshold: float) -> bool:
        return round(threshold * self.bins) in self.at


def common(total: Mapping[str, Array], chosen: float, thresholds: Iterable[float]) -> Edges:
    """The edges that may be told: `chosen` before all others, then these thresholds, then all bins from the top down.

    Of `chosen` the counts of one outcome are told where those of the other are small: other edges keep away from it.
    """
    bins = total["positives"].size
    below = [[0.0, *np.cumsum(total[name]).tolist()] for name in ("positives", "negatives")]
    known = [[0, bins], [0, bins]]  # by outcome
    wanted = [round(one * bins) for one in (chosen, *sorted(thresholds))]
    found = {0, bins}
    for place, edge in enumerate([*wanted, *range(bins - 1, 0, -1)]):
        apart = [_apart(of, told, edge) for of, told in zip(below, known, strict=True)]
        if all(apart):
            found.add(edge)
        for told, fine in zip(known, apart, strict=True):
            if (all(apart) or (place == 0 and fine)) and edge not in told:
                told.insert(bisect_left(told, edge), edge)
    return Edges(bins, tuple(sorted(found)))


def _apart(below: list[float], known: list[int], edge: int) -> bool:
    """Whether between an edge and its neighbours there are no patients or ten and more."""
    at = bisect_left(known, edge)
    near = [known[min(at, len(known) - 1)], known[max(at - 1, 0)]]
    return all((count := abs(below[edge] - below[one])) == 0 or count >= LEAST for one in near)
