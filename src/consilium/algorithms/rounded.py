"""Figures of one hospital as they may leave it: rounded there, and made to estimates again by who reads them.

What leaves is the AUROC in hundredths, and how many held-out patients of each class there are, in tens, rounded down:
no class has fewer than ten. The interval follows from these numbers alone, so that it tells nothing more; with as many
patients as are told, who are fewer than there are, it is a little too wide. No accuracy leaves, and no other figure
that is a mean over patients: the sum over all less what the others tell would be that of a hospital which leaves it
out, as it must where a cell of its confusion matrix is small. Pairs of patients of one hospital are summed, too (see
`discrimination.of_one`): of a hospital that tells no AUROC, for it has fewer than ten of a class, the sum and what all
others tell leave some hundredths open, and no more (see decision 0044).
Source: Hanley and McNeil 1982 (Radiology 143:29), formula 1.
"""

from collections.abc import Mapping

from consilium.algorithms import discrimination
from consilium.algorithms.figure import LEAST, Figure, around
from consilium.core.tensors import Array

HUNDRED = 100
TENS = 10
HALF = 0.005
"""By how much a rounded figure may be off."""


def classes(sums: Mapping[str, Array]) -> tuple[int, int] | None:
    """Held-out patients with the outcome, and without, in tens; None: one of both has fewer than ten."""
    counts = [round(float(sums[name].sum())) for name in ("positives", "negatives")]
    return (counts[0] // TENS * TENS, counts[1] // TENS * TENS) if min(counts) >= LEAST else None


def auroc(sums: Mapping[str, Array]) -> int:
    """Of a model, in hundredths, from its histograms over patients of whom there are enough of each class."""
    found = discrimination.auroc(sums["positives"], sums["negatives"], 0.95).value
    assert found is not None
    return int(found * HUNDRED + 0.5)


def estimates(told: int, positives: int, negatives: int, confidence: float) -> dict[str, Figure]:
    """What a reader knows of a model: its AUROC, told in hundredths, and an interval.

    >>> one = estimates(80, 40, 60, 0.95)["auroc"]
    >>> one.value, round(one.low, 3), round(one.high, 3), one.n
    (0.8, 0.702, 0.898, 100)
    """
    return {"auroc": _auroc(told / HUNDRED, positives, negatives, confidence)}


def _auroc(value: float, positives: int, negatives: int, confidence: float) -> Figure:
    least = max(HALF, 0.5 / min(positives, negatives))  # at the ends the formula has no error, and few patients have
    inner = min(max(value, least), 1 - least)
    q1, q2 = inner / (2 - inner), 2 * inner**2 / (1 + inner)
    variance = inner * (1 - inner) + (positives - 1) * (q1 - inner**2) + (negatives - 1) * (q2 - inner**2)
    error = (variance / (positives * negatives)) ** 0.5
    found = around(inner, error, positives + negatives, confidence, 0.0, 1.0)
    assert found.low is not None and found.high is not None
    return Figure(value, max(min(found.low, value) - HALF, 0.0), min(max(found.high, value) + HALF, 1.0), found.n)
