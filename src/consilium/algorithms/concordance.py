"""How well scores order patients by their times: Harrell's concordance, as sums that add up over hospitals.

A pair of patients of one hospital counts if one of them is known to have had the event first: Harrell et al., JAMA
1982, 247:2543. It is concordant if that one has the higher score; equal scores count one half. The variance is that of
the infinitesimal jackknife, from how much each patient adds to both sums: Therneau and Atkinson, the vignette
"Concordance" of R's package survival. Pairs of patients of two hospitals: `between`.
"""

from collections.abc import Mapping

import numpy as np

from consilium.algorithms.figure import Figure, around, hidden
from consilium.core import survival
from consilium.core.survival import Flags, Floats
from consilium.core.tensors import Array

PARTS = 128
"""Two hospitals of more patients than that, one times the other, have all sums of fractions; the concordance of some
fifty patients of a hospital moves by a thousandth or less, a fiftieth of its standard error."""
SUMS = ("pairs", "concordant", "squares", "products", "both")
SMALL = 256
"""So few patients are compared each with each."""


def sums(score: Floats, label: Floats) -> dict[str, Floats]:
    """Pairs of the patients of one hospital, by the number of others that each of them has: n - 1.

    So each sum grows as patients do. Where all have the event, `pairs` is half of n: it tells no more than n does,
    which is summed beside it. What is told of few hospitals is rounded: see `rounded`.

    Args:    score: (n,), larger for earlier events.   label: (n,), as `core.survival` joins them.
    Returns: `pairs`, `concordant`: of them; `squares`, `products`, `both`: over patients, of the pairs and the
             concordant ones that each is part of, by the others: concordant squared, product, pairs squared. Each (1,)
             and at most n.
    """
    counted, agreed = compared(score, ranks(label), survival.events(label))
    others = max(len(score) - 1, 1)
    pairs, concordant = counted / others, agreed / others
    return {
        "pairs": _total(pairs) / 2, "concordant": _total(concordant) / 2, "squares": _total(concordant**2),
        "products": _total(concordant * pairs), "both": _total(pairs**2),
    }  # fmt: skip


def rounded(sums: Floats, parts: int = PARTS) -> Floats:
    """Sums by the number of others, to multiples of 1 / `parts`, at the hospital.

    They are fractions, and of a few hospitals a sum of fractions has but one set of denominators: it would tell how
    many patients each has, and then what each adds. Rounded, every number of patients that is not tiny has such a sum.
    """
    return np.round(sums * parts) / parts


def stratified(total: Mapping[str, Array], n: int, confidence: float) -> Figure:
    """The concordance of n patients whose pairs were summed, each hospital's by the number of its patients less one."""
    pairs = float(total["pairs"][0])
    if pairs <= 0:
        return hidden(n, "no two patients can be compared")
    value = float(total["concordant"][0]) / pairs
    of = {name: float(total[name][0]) for name in ("squares", "products", "both")}
    variance = max(of["squares"] - 2 * value * of["products"] + value**2 * of["both"], 0.0) / pairs**2
    return around(value, variance**0.5, n, confidence, 0.0, 1.0)


def _total(values: Floats) -> Floats:
    return np.array([float(np.sum(values))])


def ranks(label: Floats) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """The order of times (n,): an event comes before all with a larger one, and who is censored then is later."""
    found = np.unique(survival.times(label), return_inverse=True)[1]
    return np.asarray(2 * found + ~survival.events(label), dtype=np.int64)


def compared(score: Floats, rank: "np.ndarray[tuple[int], np.dtype[np.int64]]", event: Flags) -> tuple[Floats, Floats]:
    """In how many pairs each patient is (n,), and in how many concordant ones (n,).

    Args:    rank: (n,); a patient with the event is compared with all whose rank is larger, and with no other.
    """
    order = np.argsort(rank, kind="stable")
    pairs, agreed = np.zeros(len(score)), np.zeros(len(score))
    _between(score[order], rank[order].astype(np.float64), event[order], pairs, agreed)
    found = np.empty(len(score), dtype=np.int64)
    found[order] = np.arange(len(score))
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
