"""How well scores tell who has the outcome, from two histograms of scores: AUROC, its bound and curve, and AUPRC.

AUROC: ties in a bin count one half, and the variance is that of DeLong et al. 1988 (Biometrics 44:837), whose placement
values the histograms hold in full. AUPRC is average precision, with the patients of a bin in the order in which chance
would have put them; its variance is the infinitesimal jackknife (Efron 1982), its interval on the scale of logits
(Boyd et al. 2013).
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from consilium.algorithms.figure import LEAST, Figure, around, hidden, share

Floats = npt.NDArray[np.float64]
PARTS = 32
"""Positives of one bin are taken in so many parts for AUPRC."""


def histograms(score: Floats, positive: npt.NDArray[np.bool_], bins: int) -> tuple[Floats, Floats]:
    """How many positives, and how many others, have a score in each of `bins` equal parts of [0, 1]; (bins,) each."""
    found = np.bincount(places(score, bins) + bins * positive, minlength=2 * bins).astype(np.float64)
    return found[bins:], found[:bins]


def places(score: Floats, bins: int) -> npt.NDArray[np.int64]:
    """The bin of each score: the last one whose lower edge, k / bins, is not above it."""
    place = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    place += (place + 1 < bins) & ((place + 1) / bins <= score)  # the product was rounded down
    place -= place / bins > score
    return np.clip(place, 0, bins - 1)


def auroc(positives: Floats, negatives: Floats, confidence: float) -> Figure:
    """The chance that a positive has the higher score, with DeLong's interval."""
    m, n = float(positives.sum()), float(negatives.sum())
    if m == 0 or n == 0:
        return hidden(round(m + n), "one class only")
    below = (np.cumsum(negatives) - negatives / 2) / n  # share of negatives below a positive in this bin
    above = 1 - (np.cumsum(positives) - positives / 2) / m
    value = float(np.dot(positives, below)) / m
    variance = _spread(positives, below, value, m) / m + _spread(negatives, above, value, n) / n
    found = around(value, variance**0.5, round(m + n), confidence, 0.0, 1.0)
    return replace(found, note="fewer than ten of a class: read with care") if min(m, n) < LEAST else found


def _spread(counts: Floats, placement: Floats, value: float, size: float) -> float:
    return float(np.dot(counts, (placement - value) ** 2)) / (size - 1) if size > 1 else 0.25


def within(positives: Floats, negatives: Floats) -> float:
    """How far the AUROC of the scores themselves may be from that of the histograms: half of the pairs in one bin."""
    pairs = float(positives.sum()) * float(negatives.sum())
    return float(np.dot(positives, negatives)) / (2 * pairs) if pairs else 0.0


@dataclass(frozen=True)
class Cut:
    """What the scores tell at a threshold: rates of those who score no lower. `precision`: None where nobody does."""

    threshold: float
    false_positive_rate: float
    sensitivity: float
    precision: float | None


def curve(positives: Floats, negatives: Floats) -> tuple[Cut, ...]:
    """The curves of ROC and of precision and recall, from the highest threshold down.

    Between two points there are, of each class, no patients or ten and more.
    """
    bins, (hits, alarms) = positives.size, (np.cumsum(part[::-1]) for part in (positives, negatives))
    found, last, ends = [Cut(1.0, 0.0, 0.0, None)], (0.0, 0.0), (float(hits[-1]), float(alarms[-1]))
    for at, now in enumerate(zip(hits, alarms, strict=True), 1):
        steps = [a - b for a, b in zip((*now, *ends), (*last, *now), strict=True)]
        if all(step == 0 or step >= LEAST for step in steps) and now != last:
            precision = float(now[0] / (now[0] + now[1]))
            found.append(Cut(1 - at / bins, float(now[1] / ends[1]), float(now[0] / ends[0]), precision))
            last = now
    return tuple(found)


def auprc(positives: Floats, negatives: Floats, confidence: float) -> Figure:
    """Average precision: the mean, over positives, of the share of positives among those who score no lower."""
    total, n = float(positives.sum()), round(float(positives.sum() + negatives.sum()))
    if total == 0 or n == total:
        return hidden(n, "one class only")
    # (bins, parts): from the highest score down, positives and negatives above and among a positive of the bin.
    mine, others = positives[::-1, None], negatives[::-1, None]
    position = (np.arange(PARTS) + 0.5) / PARTS  # of positives within their bin, evenly
    hits = np.cumsum(mine, axis=0) - mine + np.maximum(mine * position + 0.5, 1.0)
    alarms = np.cumsum(others, axis=0) - others + others * position
    precision = hits / (hits + alarms)
    value = float(np.sum(mine * precision)) / (PARTS * total)
    return share(value, _jackknife(mine, others, precision, hits, alarms, value), n, confidence)


def _jackknife(mine: Floats, others: Floats, precision: Floats, hits: Floats, alarms: Floats, value: float) -> float:
    """Standard error of the average precision: what each bin's patients move it by, squared and added up."""
    total, size = float(mine.sum()), (hits + alarms) ** 2
    more = np.mean(mine * alarms / size, axis=1)  # by one more positive above
    less = np.mean(mine * hits / size, axis=1)  # by one more negative above
    below = [(np.cumsum(part[::-1])[::-1] - part / 2) / total for part in (more, less)]
    by_positive = (np.mean(precision, axis=1) - value) / total + below[0]
    variance = np.dot(mine[:, 0], by_positive**2) + np.dot(others[:, 0], below[1] ** 2)
    return math.sqrt(float(variance))
