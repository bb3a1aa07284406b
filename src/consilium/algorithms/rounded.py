"""Figures of one hospital as they may leave it: rounded there, and made to estimates again by who reads them.

What leaves are the AUROC and the accuracy in hundredths, and how many held-out patients of each class there are, in
tens, rounded down: no class has fewer than ten. Intervals follow from these numbers alone, so that they tell nothing
more; with as many patients as are told, who are fewer than there are, they are a little too wide.
Sources: Hanley and McNeil 1982 (Radiology 143:29), formula 1; Wilson 1927.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from consilium.algorithms import decisions, discrimination
from consilium.algorithms.figure import CELL, LEAST, Figure, around, hidden, proportion
from consilium.core.tensors import Array

HUNDRED = 100
TENS = 10
HALF = 0.005
"""By how much a rounded figure may be off."""


@dataclass(frozen=True)
class Worth:
    """Of one model, in hundredths; no accuracy where a cell of its confusion matrix has one to nine patients."""

    auroc: int
    accuracy: int | None


def classes(sums: Mapping[str, Array]) -> tuple[int, int] | None:
    """Held-out patients with the outcome, and without, in tens; None: one of both has fewer than ten."""
    counts = [round(float(sums[name].sum())) for name in ("positives", "negatives")]
    return (counts[0] // TENS * TENS, counts[1] // TENS * TENS) if min(counts) >= LEAST else None


def worth(sums: Mapping[str, Array], threshold: float) -> Worth:
    """Of a model, from its histograms over patients of whom there are enough of each class."""
    found = discrimination.auroc(sums["positives"], sums["negatives"], 0.95).value
    assert found is not None
    accuracy = decisions.confusion(decisions.Counts.at(sums, threshold), threshold, 0.95).figures["accuracy"].value
    return Worth(_hundredths(found), None if accuracy is None else _hundredths(accuracy))


def _hundredths(value: float) -> int:
    return int(value * HUNDRED + 0.5)


def estimates(told: Worth, positives: int, negatives: int, confidence: float) -> dict[str, Figure]:
    """What a reader knows of a model: each figure, and its interval.

    >>> one = estimates(Worth(80, 75), 40, 60, 0.95)["auroc"]
    >>> one.value, round(one.low, 3), round(one.high, 3), one.n
    (0.8, 0.704, 0.896, 100)
    """
    n = positives + negatives
    found = {"auroc": _auroc(told.auroc / HUNDRED, positives, negatives, confidence)}
    if told.accuracy is None:
        return {**found, "accuracy": hidden(n, CELL)}
    share = proportion(told.accuracy / HUNDRED * n, n, confidence)
    return {**found, "accuracy": Figure(told.accuracy / HUNDRED, share.low, share.high, n)}


def _auroc(value: float, positives: int, negatives: int, confidence: float) -> Figure:
    least = max(HALF, 0.5 / min(positives, negatives))  # at the ends the formula has no error, and few patients have
    inner = min(max(value, least), 1 - least)
    q1, q2 = inner / (2 - inner), 2 * inner**2 / (1 + inner)
    variance = inner * (1 - inner) + (positives - 1) * (q1 - inner**2) + (negatives - 1) * (q2 - inner**2)
    error = (variance / (positives * negatives)) ** 0.5
    found = around(inner, error, positives + negatives, confidence, 0.0, 1.0)
    assert found.low is not None and found.high is not None
    return Figure(value, max(min(found.low, value) - HALF, 0.0), min(max(found.high, value) + HALF, 1.0), found.n)
