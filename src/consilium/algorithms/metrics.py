"""Metrics as sums with n: sums at the site, figures with intervals from (sums of) sums.

These travel in every round; the last one has more: `evaluation`. AUROC is exact on the bins of two histograms. Of a
time-to-event, pairs of patients of one hospital are compared (`concordance`), and the pairs of each hospital count by 1
over its size; in the last round those of two hospitals as well (`between`).
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.algorithms import between, concordance
from consilium.algorithms.discrimination import auroc, histograms
from consilium.algorithms.figure import Figure, plain, proportion
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
        return {**found, "deviance": _total(deviance(predicted, label))}
    raise Invalid(f"there are no metrics for a label of type {kind!r}", f"use binary, number, count or {TIMED}")


def deviance(predicted: Floats, label: Floats) -> Floats:
    """The deviance of each patient (n,), whose count is `label` where the rate `predicted` was expected."""
    rate = np.maximum(predicted, 1e-12)
    ratio = np.where(label > 0, label * np.log(np.maximum(label, 1e-12) / rate), 0.0)
    return np.asarray(2.0 * (ratio - (label - rate)))


def check(kind: str, given: Mapping[str, Array]) -> None:
    """Refuse sums of one site that `sums` cannot have given: another name, size or type, or counts that contradict.

    Figures from whatever passes here, and from sums of such, are numbers.

    Raises: Invalid.
    """
    refusal = Invalid("the metrics of this contribution are not sums over patients", "update the agent")
    if _form(given) != _form_of(kind):
        raise refusal
    counts = [given[name] for name in ("n", "positives", "negatives") if name in given]
    values, whole = np.concatenate(list(given.values())), np.concatenate(counts)  # few calls: each round asks
    never_below_zero = [whole, *(given[name] for name in POSITIVE if name in given)]
    sizes = [float(array.sum()) for array in counts]
    if (
        not (np.abs(values) <= LARGEST).all()
        or np.concatenate(never_below_zero).min() < 0
        or (whole != np.floor(whole)).any()
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
    positive = label == 1
    certain = np.clip(score, 1e-12, 1 - 1e-12)
    positives, negatives = histograms(score, positive, BINS)
    return {
        "positives": positives,
        "negatives": negatives,
        "brier": _total((score - label) ** 2),
        "logloss": _total(-np.log(np.where(positive, certain, 1 - certain))),
    }


def figures(
    kind: str, total: Mapping[str, Array], confidence: float, single: bool = False, threshold: float = 0.5
) -> dict[str, Figure]:
    """Figures from sums, each with its interval where one is known.

    Args:    confidence: in (0, 1), such as 0.95.   single: the sums are of one hospital, or of one table.
             threshold: from which score on a model says yes; an edge of a bin.
    """
    n = round(float(total["n"][0]))
    if n == 0:
        return {"n": Figure(0.0, None, None, 0, "no patients")}
    mean = {name: plain(float(total[name][0]) / n, n) for name in ("brier", "logloss", "deviance") if name in total}
    if kind == "binary":
        return {**_discrimination(total, n, confidence, threshold), **mean}
    if kind == TIMED:
        return between.figures(total, n, confidence, single)
    mse, variance = float(total["sse"][0]) / n, float(total["syy"][0]) / n - (float(total["sy"][0]) / n) ** 2
    return {
        "rmse": plain(mse**0.5, n),
        "mae": plain(float(total["sae"][0]) / n, n),
        "r2": plain(1 - mse / variance, n) if variance > 0 else Figure(None, None, None, n, "one value only"),
        **mean,
    }


def _discrimination(total: Mapping[str, Array], n: int, confidence: float, threshold: float) -> dict[str, Figure]:
    positives, negatives = total["positives"].astype(np.float64), total["negatives"].astype(np.float64)
    edge = round(threshold * BINS)
    hits, misses = float(positives[edge:].sum()), float(positives[:edge].sum())
    rejections, alarms = float(negatives[:edge].sum()), float(negatives[edge:].sum())
    return {
        "auroc": auroc(positives, negatives, confidence),
        "accuracy": proportion(hits + rejections, float(n), confidence),
        "sensitivity": proportion(hits, hits + misses, confidence),
        "specificity": proportion(rejections, rejections + alarms, confidence),
        "prevalence": proportion(hits + misses, float(n), confidence),
    }
