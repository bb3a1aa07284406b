"""Metrics as sums with n: sums at the site, figures with intervals from (sums of) sums.

Discrimination comes from two histograms of scores, one per class: AUROC is exact on the bins, ties count one half, and
its variance is that of DeLong et al. 1988 (Biometrics 44:837), whose placement values the histograms hold in full.
Proportions have Wilson's interval (1927). Of a time-to-event, pairs of patients of one hospital are compared
(`concordance`), and the pairs of each hospital count by 1 over the number of its patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.algorithms import concordance
from consilium.core.errors import Invalid
from consilium.core.tensors import Array
from consilium.core.timed import TIMED

BINS = 1000
"""Bins of [0, 1] for scores: an AUROC from them differs from the exact one in the fifth decimal."""
LARGEST = 1e100
"""No sum over patients is beyond this; its square is still a number."""
POSITIVE = ("brier", "sse", "sae", "syy", "pairs", "concordant", "squares", "products", "both")
"""Sums beside counts that are never below zero."""
Floats = npt.NDArray[np.float64]
Sums = dict[str, Array]


@dataclass(frozen=True)
class Figure:
    """A value with its interval; `n` patients stand behind it. `note` says why there is none."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""


def sums(kind: str, predicted: Floats, label: Floats) -> Sums:
    """Sums over patients that add up over sites.

    Args:    kind: of the label.   predicted: (n,) probabilities, values, rates or hazards.   label: (n,).
    Raises:  Invalid: shapes differ, or `kind` is unknown.
    """
    if predicted.shape != label.shape or predicted.ndim != 1:
        raise Invalid(f"predictions {predicted.shape} and labels {label.shape} differ in shape")
    n = np.array([float(label.size)])
    if kind == "binary":
        return {"n": n, **_binary(predicted, label)}
    if kind == TIMED:
        return {"n": n, **concordance.sums(predicted, label)}
    error = predicted - label
    found = {
        "n": n,
        "sse": _total(error**2),
        "sae": _total(np.abs(error)),
        "sy": _total(label),
        "syy": _total(label**2),
    }
    if kind == "number":
        return found
    if kind == "count":
        rate = np.maximum(predicted, 1e-12)
        ratio = np.where(label > 0, label * np.log(np.maximum(label, 1e-12) / rate), 0.0)
        return {**found, "deviance": _total(2.0 * (ratio - (label - rate)))}
    raise Invalid(f"there are no metrics for a label of type {kind!r}", f"use binary, number, count or {TIMED}")


def check(kind: str, given: Mapping[str, Array]) -> None:
    """Refuse sums of one site that `sums` cannot have given: another name, size or type, or counts that contradict.

    Figures from whatever passes here, and from sums of such, are numbers.

    Raises: Invalid.
    """
    refusal = Invalid("the metrics of this contribution are not sums over patients", "update the agent")
    if _form(given) != _form_of(kind):
        raise refusal
    counts = [given[name] for name in ("n", "positives", "negatives") if name in given]
    never_below_zero = [*counts, *(given[name] for name in POSITIVE if name in given)]
    sizes = [float(array.sum()) for array in counts]
    if (
        any(not np.all(np.abs(array) <= LARGEST) for array in given.values())
        or any(np.any(array < 0) for array in never_below_zero)
        or any(np.any(array != np.floor(array)) for array in counts)
        or (kind == "binary" and sizes[0] != sizes[1] + sizes[2])
    ):
        raise refusal


def _form(given: Mapping[str, Array]) -> dict[str, tuple[Any, tuple[int, ...]]]:
    return {name: (array.dtype, array.shape) for name, array in given.items()}


@cache
def _form_of(kind: str) -> dict[str, tuple[Any, tuple[int, ...]]]:
    return _form(sums(kind, np.zeros(0), np.zeros(0)))


def _total(values: Floats) -> Floats:
    return np.array([float(np.sum(values))])


def _binary(score: Floats, label: Floats) -> Sums:
    bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    positive = label == 1
    certain = np.clip(score, 1e-12, 1 - 1e-12)
    return {
        "positives": np.bincount(bins[positive], minlength=BINS).astype(np.float64),
        "negatives": np.bincount(bins[~positive], minlength=BINS).astype(np.float64),
        "brier": _total((score - label) ** 2),
        "logloss": _total(-np.where(positive, np.log(certain), np.log1p(-certain))),
    }


def figures(kind: str, total: Mapping[str, Array], confidence: float) -> dict[str, Figure]:
    """Figures from sums, each with its interval where one is known.

    Args:    confidence: in (0, 1), such as 0.95.
    """
    n = round(float(total["n"][0]))
    if n == 0:
        return {"n": Figure(0.0, None, None, 0, "no patients")}
    mean = {name: _plain(float(total[name][0]) / n, n) for name in ("brier", "logloss", "deviance") if name in total}
    if kind == "binary":
        return {**_discrimination(total, n, confidence), **mean}
    if kind == TIMED:
        return {"concordance": _concordance(total, n, confidence)}
    mse, variance = float(total["sse"][0]) / n, float(total["syy"][0]) / n - (float(total["sy"][0]) / n) ** 2
    return {
        "rmse": _plain(mse**0.5, n),
        "mae": _plain(float(total["sae"][0]) / n, n),
        "r2": _plain(1 - mse / variance, n) if variance > 0 else Figure(None, None, None, n, "one value only"),
        **mean,
    }


def _plain(value: float, n: int) -> Figure:
    return Figure(value, None, None, n)


def _discrimination(total: Mapping[str, Array], n: int, confidence: float) -> dict[str, Figure]:
    positives, negatives = total["positives"].astype(np.float64), total["negatives"].astype(np.float64)
    half = BINS // 2
    hits, misses = float(positives[half:].sum()), float(positives[:half].sum())
    rejections, alarms = float(negatives[:half].sum()), float(negatives[half:].sum())
    return {
        "auroc": _auroc(positives, negatives, confidence),
        "accuracy": proportion(hits + rejections, float(n), confidence),
        "sensitivity": proportion(hits, hits + misses, confidence),
        "specificity": proportion(rejections, rejections + alarms, confidence),
        "prevalence": proportion(hits + misses, float(n), confidence),
    }


def proportion(count: float, n: float, confidence: float) -> Figure:
    """A proportion with Wilson's score interval."""
    if n == 0:
        return Figure(None, None, None, 0, "no patients")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, shrunk = count / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrunk
    width = z / shrunk * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low, high = min(max(centre - width, 0.0), share), max(min(centre + width, 1.0), share)  # rounding aside
    return Figure(share, low, high, round(n))


def _auroc(positives: Floats, negatives: Floats, confidence: float) -> Figure:
    m, n = float(positives.sum()), float(negatives.sum())
    if m == 0 or n == 0:
        return Figure(None, None, None, round(m + n), "one class only")
    below = (np.cumsum(negatives) - negatives / 2) / n  # share of negatives below a positive in this bin
    above = 1 - (np.cumsum(positives) - positives / 2) / m
    value = float(np.dot(positives, below)) / m
    variance = _spread(positives, below, value, m) / m + _spread(negatives, above, value, n) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    width = z * variance**0.5
    note = "fewer than ten of a class: read with care" if min(m, n) < 10 else ""
    return Figure(value, max(value - width, 0.0), min(value + width, 1.0), round(m + n), note)


def _concordance(total: Mapping[str, Array], n: int, confidence: float) -> Figure:
    pairs = float(total["pairs"][0])
    if pairs <= 0:
        return Figure(None, None, None, n, "no two patients can be compared")
    value = float(total["concordant"][0]) / pairs
    of = {name: float(total[name][0]) for name in ("squares", "products", "both")}
    variance = max(of["squares"] - 2 * value * of["products"] + value**2 * of["both"], 0.0) / pairs**2
    width = NormalDist().inv_cdf(0.5 + confidence / 2) * variance**0.5
    return Figure(value, max(value - width, 0.0), min(value + width, 1.0), n)


def _spread(counts: Floats, placement: Floats, value: float, size: float) -> float:
    return float(np.dot(counts, (placement - value) ** 2)) / (size - 1) if size > 1 else 0.25


def to_json(found: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    """Plain values for the wire and for files."""
    return {name: dict(vars(figure)) for name, figure in found.items()}
