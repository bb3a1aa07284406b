"""Whether predicted chances come true: intercept and slope, observed to expected, the curve, and its mean distance.

Intercept and slope are those of the logistic regression of the outcome on x = logit(score) (Cox 1958; Van Calster et
al. 2016): its likelihood needs, at every (a, b), the sums over patients of expit(a + bx) and x expit(a + bx). Newton's
method could ask for them round by round. Here they follow from one message: such a sum is that of a smooth function of
t = tanh(x / 5), which `ORDER` Chebyshev polynomials follow closely, and their sums over patients, `moments`, are exact;
what of the function they do not follow is summed over the histogram of scores. Both together are weighted points, which
take the place of the patients. Only differences to expit(x) are summed so, for which the sums of the scores themselves
are exact: a calibrated model has no error at all, and slopes from 0.4 to 2 have one below 1e-6 (a test measures it). So
hospitals answer once, and the fit of every group of patients and of every hospital follows from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from consilium.algorithms.edges import Edges
from consilium.algorithms.figure import LEAST, Figure, around, hidden, proportion, quantile, ratio
from consilium.core.tensors import Array

Floats = npt.NDArray[np.float64]
ORDER = 64
"""Degree of the polynomials whose sums travel."""
WIDTH = 5.0
"""x / WIDTH is what tanh is taken of."""
LEAST_CHANCE = 1e-12
"""Scores are kept this far from 0 and 1, where logits end."""
STEEP = 0.5
"""A step is halved where the likelihood falls at its end by more than this share of how it rose at its beginning."""
LEAST_EXPECTED = 1e-6
"""A model that expects fewer than so many of a patient to have the outcome expects nobody."""
STEPS = 60
FAR = 30.0
"""A slope or intercept beyond this is not told: the polynomials do not carry it. The scores part the classes, and there
is none; or they differ by next to nothing, as those of a model that was hardly trained."""
BEYOND = f"beyond {FAR:g}: scores part the classes, hardly differ, or are 0 and 1"
POINTS = 10
"""Points of the curve, and bins of the expected calibration error."""


def logit(score: Floats) -> Floats:
    """The logits of scores, which are kept within [`LEAST_CHANCE`, 1 - `LEAST_CHANCE`]."""
    kept = np.clip(score, LEAST_CHANCE, 1 - LEAST_CHANCE)
    return np.log(kept) - np.log1p(-kept)


def expit(x: Floats) -> Floats:
    """The inverse of `logit`."""
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def terms(score: Floats, label: Floats) -> dict[str, Floats]:
    """What of each patient a hospital sums, (k, n). Args: score: (n,) in [0, 1].   label: (n,) 0 or 1."""
    kept, x = np.clip(score, LEAST_CHANCE, 1 - LEAST_CHANCE), logit(score)
    return {
        "expected": kept[None],
        "expected_squares": kept[None] ** 2,
        "expected_of_positives": (kept * label)[None],
        "evidence_of_positives": (x * label)[None],
        "evidence_expected": (x * kept)[None],
        "moments": _polynomials(np.tanh(x / WIDTH))[1:],
    }


def _polynomials(t: Floats) -> Floats:
    """Chebyshev polynomials (ORDER + 1, n) at t (n,)."""
    found: Floats = np.cos(np.outer(np.arange(ORDER + 1), np.arccos(t)))
    return found


@lru_cache(maxsize=4)
def _grid(bins: int) -> tuple[Floats, Floats, Floats]:
    """x of all points; what makes weights of polynomials' sums; the polynomials in the middle of each bin."""
    angle = (np.arange(ORDER + 1) + 0.5) * np.pi / (ORDER + 1)
    weights = 2 / (ORDER + 1) * np.cos(np.outer(np.arange(ORDER + 1), angle))
    weights[0] /= 2
    middle = logit((np.arange(bins) + 0.5) / bins)
    x = np.concatenate([WIDTH * np.arctanh(np.cos(angle)), middle])
    return x, weights, _polynomials(np.tanh(middle / WIDTH))


@dataclass(frozen=True)
class Points:
    """Weighted points that take the place of patients: x (m,), weight (m,)."""

    x: Floats
    weight: Floats

    @classmethod
    def of(cls, total: Mapping[str, Array]) -> "Points":
        """From sums of `terms` and the histograms."""
        counts = total["positives"] + total["negatives"]
        x, weights, polynomials = _grid(counts.size)
        moments = np.concatenate([[counts.sum()], total["moments"]])
        return cls(x, np.concatenate([(moments - polynomials @ counts) @ weights, counts]))


LARGE = ("calibration_in_the_large",)
"""The intercept where the slope is 1."""
BOTH = ("calibration_intercept", "calibration_slope")


def fit(
    total: Mapping[str, Array], confidence: float, wanted: Sequence[tuple[str, ...]] = (LARGE, BOTH)
) -> dict[str, Figure]:
    """What is free in the regressions that are wanted, each with Wald's interval, as statistical packages give it.

    Where the slope is held at 1 the regression is no true model, unless the slope is 1: its variance is the robust one
    (White 1982, HC0), in whose middle the scores of each outcome are those of the histograms.
    """
    points, n = Points.of(total), round(float(total["n"][0]))
    found: dict[str, Figure] = {}
    for free in wanted:
        fitted = _newton(total, points, len(free))
        if fitted is None:
            found |= {name: hidden(n, BEYOND) for name in free}
            continue
        for at, name in enumerate(free):
            found[name] = around(float(fitted[0][at]), float(fitted[1][at]), n, confidence)
    return found


def _newton(total: Mapping[str, Array], points: Points, free: int) -> tuple[Floats, Floats] | None:
    """Estimates and standard errors of the first `free` of (intercept, slope); None where there is no fit.

    Far from the best values Newton's steps go too far, and on and on between two places: so a step is halved until the
    likelihood, which is concave, does not fall along it more steeply than it rose.
    """
    at = np.array([0.0, 1.0])
    positives = float(total["positives"].sum())
    exact = np.array([
        positives - float(total["expected"][0]),
        float(total["evidence_of_positives"][0]) - float(total["evidence_expected"][0]),
    ])  # fmt: skip
    x, here = points.x, expit(points.x)

    def rising(at: Floats) -> Floats:
        apart = points.weight * (expit(at[0] + at[1] * x) - here)
        found: Floats = (exact - np.array([apart.sum(), apart @ x]))[:free]
        return found

    inverse, gradient, rest = None, rising(at), False
    for _ in range(STEPS):
        chance = expit(at[0] + at[1] * x)
        curved = points.weight * chance * (1 - chance)
        cross = float(curved @ x)
        hessian = np.array([[float(curved.sum()), cross], [cross, float(curved @ x**2)]])[:free, :free]
        inverse = _inverse(hessian)
        if inverse is None:
            return None
        step = inverse @ gradient
        step *= min(1.0, 2.0 / max(float(np.max(np.abs(step))), 1e-300))
        rest = bool(np.max(np.abs(step)) < 1e-9)
        slope, before = float(gradient @ step), at.copy()
        for _ in range(STEPS):
            at[:free] = before[:free] + step
            gradient = rising(at)
            if rest or float(gradient @ step) >= -STEEP * slope:
                break
            step = step / 2
            slope /= 2
        if np.max(np.abs(at)) > FAR:
            return None
        if rest:
            break
    if inverse is None or not rest:
        return None
    if free == 1:
        chance = expit(at[0] + logit((np.arange(total["positives"].size) + 0.5) / total["positives"].size))
        inverse = inverse * (total["positives"] @ (1 - chance) ** 2 + total["negatives"] @ chance**2) @ inverse
    return at, np.sqrt(np.diag(inverse))


def _inverse(hessian: Floats) -> Floats | None:
    """The inverse of a positive definite matrix (1, 1) or (2, 2); None of another one."""
    if hessian.size == 1:
        return np.array([[1 / hessian[0, 0]]]) if hessian[0, 0] > 0 else None
    (a, b), (_, d) = hessian
    determinant = a * d - b * b
    if not (a > 0 and d > 0 and determinant > 1e-12 * a * d):
        return None
    found: Floats = np.array([[d, -b], [-b, a]]) / determinant
    return found


def observed_to_expected(total: Mapping[str, Array], confidence: float) -> Figure:
    """Positives for each one that was expected; the logarithm's variance is that of a ratio of means (delta method)."""
    positives, expected = float(total["positives"].sum()), float(total["expected"][0])
    n = round(float(total["n"][0]))
    if positives == 0 or expected <= 0:
        return hidden(n, "one class only")
    if expected < LEAST_EXPECTED * n:
        return hidden(n, "the model expects nobody to have the outcome")
    variance = (
        1 / positives
        - 2 * float(total["expected_of_positives"][0]) / (positives * expected)
        + float(total["expected_squares"][0]) / expected**2
    )
    return ratio(positives / expected, max(variance, 0.0) ** 0.5, n, confidence)


def distance(total: Mapping[str, Array], confidence: float) -> Figure:
    """The expected calibration error over ten bins of equal width, from the middles of the histogram's bins.

    Chance alone makes it positive. The interval is of the error without that part: by the normal variable that each
    bin's difference is, folded at zero. It reaches to the value, and to zero unless a chi-square test of all bins says
    that there is an error: then to no less than the least that the test lets stand.
    """
    bins = _bins(total)
    size, gap, n = bins.size, np.abs(bins.gap), float(total["n"][0])
    folded, twice = _folded(gap, bins.error), _folded(gap, bins.error * 2**0.5)
    variance = float(np.sum(bins.error**2 + gap**2 / size)) - float(gap.sum()) ** 2 / n
    value, centre = float(gap.sum()) / n, float((2 * gap - folded).sum()) / n
    left = float((2 * folded - twice - gap).sum()) / n  # of chance's part, that is still in `centre`
    reach = quantile(confidence) * max(variance, 0.0) ** 0.5 / n
    standing = _standing(bins, confidence) / n
    low = max(centre - max(left, 0.0) - reach, standing) if standing > 0 else 0.0
    return Figure(value, min(low, value), max(centre - min(left, 0.0) + reach, value), round(n))


@dataclass(frozen=True)
class _Bins:
    """Of the bins that hold patients: how many, and positives less those expected, with its standard error.

    spread, fourth: variance and fourth cumulant of this difference where the scores are right.
    """

    size: Floats
    gap: Floats
    error: Floats
    spread: Floats
    fourth: Floats


PRIOR = 5.0
"""How a bin's differences spread is seen from its patients, and from so many more who spread as the scores say."""


def _bins(total: Mapping[str, Array]) -> _Bins:
    positives, counts = total["positives"], total["positives"] + total["negatives"]
    middle = (np.arange(counts.size) + 0.5) / counts.size
    variance = middle * (1 - middle)
    there = counts.reshape(POINTS, -1).sum(axis=1) > 0
    size, gap, squares, spread, fourth = (
        values.reshape(POINTS, -1).sum(axis=1)[there]
        for values in (
            counts, positives - counts * middle, positives * (1 - 2 * middle) + counts * middle**2, counts * variance,
            counts * variance * (1 - 6 * variance),
        )
    )  # fmt: skip
    own = np.maximum(squares - gap**2 / size, 0.0) * size / np.maximum(size - 1, 1)
    error = np.sqrt((own * size + spread * PRIOR) / (size + PRIOR))
    return _Bins(size, gap, error, spread, fourth)


def _standing(bins: _Bins, confidence: float) -> float:
    """The least sum of differences that the chi-square test of all bins lets stand; 0 where it lets stand none.

    With few patients the statistic is no chi-square variable, but has the mean and the variance of a multiple of one.
    """
    freedom, spread, gap = float(bins.size.size), bins.spread, np.abs(bins.gap)
    times = max(float(np.sum(2 + bins.fourth / spread**2)) / (2 * freedom), 1e-6)
    most = times * _chi_square(freedom / times, confidence)
    low, high = 0.0, float(np.max(gap / spread))
    if float(np.sum(gap**2 / spread)) <= most:
        return 0.0
    for _ in range(STEPS):  # of all differences within the test's reach, these add up to the least
        at = (low + high) / 2
        taken = np.minimum(gap, at * spread)
        low, high = (low, at) if float(np.sum(taken**2 / spread)) > most else (at, high)
    return float(np.sum(gap - np.minimum(gap, low * spread)))


def _folded(mean: Floats, error: Floats) -> Floats:
    """The mean of the absolute value of normal variables."""
    below = np.array([NormalDist().cdf(-m / e) for m, e in zip(mean, error, strict=True)])
    found: Floats = error * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * error**2)) + mean * (1 - 2 * below)
    return found


def _chi_square(freedom: float, confidence: float) -> float:
    """The quantile, by Wilson and Hilferty 1931."""
    step = 2 / (9 * freedom)
    return float(freedom * (1 - step + NormalDist().inv_cdf(confidence) * step**0.5) ** 3)


@dataclass(frozen=True)
class Point:
    """Patients with scores in [low, high): how many, their mean score, and the share with the outcome."""

    low: float
    high: float
    n: int
    predicted: float
    observed: Figure


def curve(total: Mapping[str, Array], confidence: float, told: Edges) -> tuple[Point, ...]:
    """At most ten groups of about as many patients each, by their scores, with ten positives and ten negatives or more.

    The mean score is that of the middles of the histogram's bins: it is off by half a bin at most.

    Args:    told: edges that may be told, at which groups end.
    """
    counts = total["positives"] + total["negatives"]
    bins, wanted = counts.size, float(counts.sum()) / POINTS * (1 - 1e-9)
    sick, well, all_ = (np.concatenate([[0.0], np.cumsum(c)]) for c in (total["positives"], total["negatives"], counts))
    edges = [0]
    for end in told.at[1:]:
        start = edges[-1]
        if all_[end] - all_[start] >= wanted and min(sick[end] - sick[start], well[end] - well[start]) >= LEAST:
            edges.append(end)
    if len(edges) == 1:
        return ()
    edges[-1] = bins  # what is left over belongs to the last group
    middle = (np.arange(bins) + 0.5) / bins
    found = []
    for low, high in pairwise(edges):
        n = float(all_[high] - all_[low])
        predicted = float(counts[low:high] @ middle[low:high]) / n
        observed = proportion(float(sick[high] - sick[low]), n, confidence)
        found.append(Point(low / bins, high / bins, round(n), predicted, observed))
    return tuple(found)
