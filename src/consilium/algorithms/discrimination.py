"""How well scores tell who has the outcome, from two histograms of scores: AUROC, its bound and curve, and AUPRC.

AUROC: ties in a bin count one half, and the variance is that of DeLong et al. 1988 (Biometrics 44:837), whose placement
values the histograms hold in full. AUPRC is average precision: the mean over all orders of the patients within a bin,
which no histogram tells; `order_within` says how far that of the scores' own order may be. Its variance is the
infinitesimal jackknife (Efron 1982), its interval on the scale of logits (Boyd et al. 2013), with Student's t.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from consilium.algorithms import student
from consilium.algorithms.edges import Edges
from consilium.algorithms.figure import LEAST, Figure, around, hidden, quantile, share

Floats = npt.NDArray[np.float64]
NEAR = 0.01
"""An AUROC says by how much it may be off where that is more: scores of a rare outcome lie in few bins."""
PARTS = 32
"""So many positives of a bin are taken one by one for AUPRC, and more of them in so many parts."""


def histograms(score: Floats, positive: npt.NDArray[np.bool_], bins: int) -> tuple[Floats, Floats]:
    """How many positives, and how many others, have a score in each of `bins` equal parts of [0, 1]; (bins,) each."""
    found = np.bincount(places(score, bins) + bins * positive, minlength=2 * bins).astype(np.float64)
    return found[bins:], found[:bins]


def places(score: Floats, bins: int) -> npt.NDArray[np.int64]:
    """The bin of each score: the last one whose lower edge, k / bins, is not above it."""
    place = np.floor(score * bins)
    place += (place + 1) / bins <= score  # the product was rounded down
    place -= place / bins > score
    whole = place.astype(np.int64)
    return np.minimum(np.maximum(whole, 0, out=whole), bins - 1, out=whole)


def auroc(positives: Floats, negatives: Floats, confidence: float) -> Figure:
    """The chance that a positive has the higher score, with DeLong's interval.

    That has no width where all pairs are in order, or none is. There the interval is exact: min(m, n) pairs have no
    patient in common, and all of them are in order by a chance of AUROC ** min(m, n) at most.
    """
    m, n = float(positives.sum()), float(negatives.sum())
    if m == 0 or n == 0:
        return hidden(round(m + n), "one class only")
    below = (np.cumsum(negatives) - negatives / 2) / n  # share of negatives below a positive in this bin
    above = 1 - (np.cumsum(positives) - positives / 2) / m
    value = float(np.dot(positives, below)) / m
    variance = _spread(positives, below, value, m) / m + _spread(negatives, above, value, n) / n
    found = around(value, variance**0.5, round(m + n), confidence, 0.0, 1.0)
    if value in (0.0, 1.0):
        sure = (1 - confidence) ** (1 / min(m, n))
        found = replace(found, low=min(value, sure), high=max(value, 1 - sure))
    if min(m, n) < LEAST:
        return replace(found, note="fewer than ten of a class: read with care")
    off = within(positives, negatives)
    return replace(found, note=f"scores lie close together: off by up to {off:.2f}") if off > NEAR else found


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


def curve(positives: Floats, negatives: Floats, edges: Edges) -> tuple[Cut, ...]:
    """The curves of ROC and of precision and recall, from the highest threshold down.

    Args:    edges: that may be told; of those with the same patients above them, the highest.
    """
    hits, alarms = (np.concatenate([[0.0], np.cumsum(part[::-1])]) for part in (positives, negatives))
    found, last = [Cut(1.0, 0.0, 0.0, None)], (0.0, 0.0)
    for edge in reversed(edges.at):
        now = (float(hits[edges.bins - edge]), float(alarms[edges.bins - edge]))
        if now != last:
            precision = now[0] / (now[0] + now[1])
            found.append(Cut(edge / edges.bins, now[1] / float(alarms[-1]), now[0] / float(hits[-1]), precision))
            last = now
    return tuple(found)


def auprc(positives: Floats, negatives: Floats, confidence: float) -> Figure:
    """Average precision: the mean, over positives, of the share of positives among those who score no lower."""
    total, n = float(positives.sum()), round(float(positives.sum() + negatives.sum()))
    if total == 0 or n == total:
        return hidden(n, "one class only")
    mine, others = positives[::-1], negatives[::-1]  # from the highest score down
    there = np.flatnonzero(mine)
    # (bins, parts): the positives of a bin in their order, and who is above or among them.
    sick, well, part = mine[there, None], others[there, None], np.arange(PARTS)
    few = sick <= PARTS
    rank = np.where(few, part + 1.0, (part + 0.5) / PARTS * sick + 0.5)
    weight = np.where(few, np.where(part < sick, 1.0, 0.0), sick / PARTS) / total
    hits = np.cumsum(sick, axis=0) - sick + rank
    alarms = (np.cumsum(others) - others)[there, None] + well * rank / (sick + 1)
    # How many negatives of its bin score higher than a positive is a negative hypergeometric variable.
    varies = well * np.maximum(rank * (sick + 1 - rank), 0.0) * (sick + well + 1) / ((sick + 1) ** 2 * (sick + 2))
    precision = hits / (hits + alarms) * (1 + varies / (hits + alarms) ** 2)
    value = min(float(np.sum(weight * precision)), 1.0)
    # What one patient more of either class, above a bin's positives, moves it by; and what one of the bin does.
    more, less = np.zeros_like(mine), np.zeros_like(mine)
    more[there], less[there] = (np.sum(weight * of / (hits + alarms) ** 2, axis=1) for of in (alarms, hits))
    above = [np.cumsum(moved[::-1])[::-1] - moved / 2 for moved in (more, less)]
    own = np.sum(weight * precision, axis=1) / mine[there] - value / total
    by_positives = float(np.dot(mine[there], (own + above[0][there]) ** 2)) * _fewer(total)
    by_negatives = float(np.dot(others, above[1] ** 2)) * _fewer(n - total)
    variance = by_positives + by_negatives
    freedom = variance**2 / (by_positives**2 / max(total - 1, 1) + by_negatives**2 / max(n - total - 1, 1) + 1e-300)
    wider = student.within(confidence, max(freedom, 1.0)) / quantile(confidence)
    return share(value, wider * math.sqrt(variance), n, confidence)


def _fewer(n: float) -> float:
    """By what a variance over n patients is made that of a sample, whose mean is the sample's own, too."""
    return n / (n - 1) if n > 1 else 1.0


def of_one(score: Floats, positive: npt.NDArray[np.bool_]) -> Floats:
    """What a hospital counts of pairs of its own patients (4,), exactly: pairs with the outcome and without, by the
    number of its patients; those of them in order; the variance of the latter by DeLong; and 1. All are 0 where one
    class has fewer than ten.
    """
    sick, well = np.sort(score[positive]), np.sort(score[~positive])
    if min(sick.size, well.size) < LEAST:
        return np.zeros(4)
    below = _ranks(well, sick) / well.size
    above = 1 - _ranks(sick, well) / sick.size
    pairs, value = sick.size * well.size / score.size, float(np.mean(below))
    one = np.ones_like
    variance = _spread(one(below), below, value, sick.size) / sick.size
    variance += _spread(one(above), above, value, well.size) / well.size
    return np.array([pairs, pairs * value, pairs**2 * variance, 1.0])


def _ranks(among: Floats, of: Floats) -> Floats:
    """How many of the sorted values `among` are below each value, ties counted one half."""
    return np.asarray((np.searchsorted(among, of, "left") + np.searchsorted(among, of, "right")) / 2)


def within_hospitals(total: Floats, n: int, confidence: float) -> Figure:
    """The AUROC of pairs of one hospital, by van Elteren's weights (1960, Bull. Int. Stat. Inst. 37:351).

    Args:    total: (4,) sums over hospitals of `of_one`, of one or more.
    """
    return around(float(total[1] / total[0]), float(total[2]) ** 0.5 / float(total[0]), n, confidence, 0.0, 1.0)


def order_within(positives: Floats, negatives: Floats) -> float:
    """How far the average precision of the scores themselves may be from that of the histograms, at most."""
    total = float(positives.sum())
    if total == 0 or not negatives.any():
        return 0.0
    hits, alarms = (np.cumsum(part[::-1]) - part[::-1] for part in (positives, negatives))
    best, worst = (
        float(np.sum(_kept(hits, above, positives[::-1]))) / total for above in (alarms, alarms + negatives[::-1])
    )
    value = auprc(positives, negatives, 0.95).value or 0.0
    return max(best - value, value - worst, 0.0)


def _kept(hits: Floats, alarms: Floats, mine: Floats) -> Floats:
    """Precision summed over the positives of each bin, who come one after the other below so many hits and alarms."""
    return np.asarray(mine - alarms * (_harmonic(hits + alarms + mine) - _harmonic(hits + alarms)))


def _harmonic(n: Floats) -> Floats:
    """1 + 1/2 + ... + 1/n, less Euler's constant."""
    large = np.maximum(n, 16.0)
    far = np.log(large) + 1 / (2 * large) - 1 / (12 * large**2) + 1 / (120 * large**4) - 1 / (252 * large**6)
    return np.where(n >= 16, far, HARMONIC[np.minimum(n, 16).astype(np.int64)])


HARMONIC = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 17))]) - np.euler_gamma
