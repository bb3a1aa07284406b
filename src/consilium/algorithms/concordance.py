"""How well scores order patients by their times: Harrell's concordance, as sums that add up over hospitals.

A pair of patients of one hospital counts if one of them is known to have had the event first: Harrell et al., JAMA
1982, 247:2543. It is concordant if that one has the higher score; equal scores count one half. The variance is that of
the infinitesimal jackknife, from how much each patient adds to both sums: Therneau and Atkinson, the vignette
"Concordance" of R's package survival.
"""

import numpy as np

from consilium.core import survival
from consilium.core.survival import Flags, Floats

SMALL = 256
"""So few patients are compared each with each."""


def sums(score: Floats, label: Floats) -> dict[str, Floats]:
    """Pairs of the patients of one hospital, by the number of its patients; so each sum grows as that number does.

    Args:    score: (n,), larger for earlier events.   label: (n,), as `core.survival` joins them.
    Returns: `pairs`, `concordant`: of them; `squares`, `products`, `both`: over patients, of the pairs and the
             concordant ones that each is part of, by the number of patients: concordant squared, product, pairs
             squared. Each (1,) and at most n.
    """
    counted, agreed = _of_each(score, label)
    n = max(len(score), 1)
    pairs, concordant = counted / n, agreed / n
    return {
        "pairs": _total(pairs) / 2, "concordant": _total(concordant) / 2, "squares": _total(concordant**2),
        "products": _total(concordant * pairs), "both": _total(pairs**2),
    }  # fmt: skip


def _total(values: Floats) -> Floats:
    return np.array([float(np.sum(values))])


def _of_each(score: Floats, label: Floats) -> tuple[Floats, Floats]:
    """In how many pairs each patient is (n,), and in how many concordant ones (n,)."""
    time, event = survival.times(label), survival.events(label)
    order = np.lexsort((~event, time))  # who is censored at the time of an event was still observed then
    _, key = np.unique(2 * np.unique(time, return_inverse=True)[1] + ~event, return_inverse=True)
    pairs, agreed = np.zeros(len(label)), np.zeros(len(label))
    _between(score[order], key[order].astype(np.float64), event[order], pairs, agreed)
    found = np.empty(len(label), dtype=np.int64)
    found[order] = np.arange(len(label))
    return pairs[found], agreed[found]


def _between(score: Floats, key: Floats, event: Flags, pairs: Floats, agreed: Floats) -> None:
    """Count pairs of patients that are sorted by `key`; an event comes before all with a larger key."""
    size = len(key)
    if size == 0 or key[0] == key[-1]:
        return
    if size <= SMALL:
        known = (key[:, None] < key[None, :]) & event[:, None]
        right = known * (0.5 * (score[:, None] == score[None, :]) + (score[:, None] > score[None, :]))
        pairs += known.sum(axis=0) + known.sum(axis=1)
        agreed += right.sum(axis=0) + right.sum(axis=1)
        return
    middle = int(np.searchsorted(key, key[size // 2]))
    middle = middle or int(np.searchsorted(key, key[0], side="right"))
    for part in (slice(0, middle), slice(middle, size)):
        _between(score[part], key[part], event[part], pairs[part], agreed[part])
    first, later = np.flatnonzero(event[:middle]), score[middle:]
    pairs[first] += size - middle
    pairs[middle:] += len(first)
    agreed[first] += _below(np.sort(later), score[first])
    agreed[middle:] += len(first) - _below(np.sort(score[first]), later)


def _below(ordered: Floats, values: Floats) -> Floats:
    """How many of `ordered` are below each value; equal ones count one half."""
    both = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return 0.5 * both.astype(np.float64)
