"""A figure: a value, its interval, and how many patients stand behind it; and intervals from variances.

Proportions have Wilson's interval (1927); differences that of Zou and Donner 2008 (Statistics in Medicine 27:1693),
from the intervals of both, which is Newcombe's (1998) where both are proportions. Means of values that are never below
zero, of which a few are large, have Student's t on the scale of logarithms, and means of squares on that of their
reciprocals, whose estimate is nearly symmetric.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

from consilium.algorithms import student

LEAST = 10
"""Fewest patients of a class of whom a figure is drawn, and fewest in a cell that is shown."""
FEW = "too few: fewer than ten positives or negatives"
FEW_PATIENTS = "too few: fewer than ten patients"
FOLLOWS = "withheld: what is too small to be shown would follow from it"
CELL = "too few: between one and nine patients in a cell"


@dataclass(frozen=True)
class Figure:
    """A value with its interval; `n` patients stand behind it. `note` says why there is none.

    freedom: degrees of freedom of its standard error, where the interval is Student's; None: it is a normal variable's.
    It is not told: `difference` needs it.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""
    freedom: float | None = None


def hidden(n: int, why: str) -> Figure:
    """No figure, and why."""
    return Figure(None, None, None, n, why)


def plain(value: float, n: int) -> Figure:
    """A figure without an interval."""
    return Figure(value, None, None, n)


@cache
def quantile(confidence: float) -> float:
    """How many standard errors the interval of a normal variable reaches to either side."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def proportion(count: float, n: float, confidence: float) -> Figure:
    """A proportion with Wilson's score interval."""
    if n == 0:
        return hidden(0, "no patients")
    z = quantile(confidence)
    share, shrunk = count / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / shrunk
    width = z / shrunk * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    low, high = min(max(centre - width, 0.0), share), max(min(centre + width, 1.0), share)  # rounding aside
    return Figure(share, low, high, round(n))


def cell(count: float, n: float, confidence: float) -> Figure:
    """A proportion whose value is hidden where `count` or the rest are one to nine patients.

    The interval then holds those of all shares that such a cell may have: it says what is safe to say.
    """
    small, rest = 0 < count < LEAST, 0 < n - count < LEAST
    if not small and not rest:
        return proportion(count, n, confidence)
    ends = [float(c) for c in ((1, LEAST - 1) if small else (n - LEAST + 1, n - 1)) if 0 <= c <= n] or [0.0, n]
    found = [proportion(end, n, confidence) for end in ends]
    return Figure(None, found[0].low, found[-1].high, round(n), CELL)


def around(
    value: float, error: float, n: int, confidence: float, least: float = -math.inf, most: float = math.inf
) -> Figure:
    """A value with the interval of a normal variable; `error`: its standard error. Within [`least`, `most`]."""
    width = quantile(confidence) * error
    return Figure(value, max(value - width, least), min(value + width, most), n)


def ratio(value: float, error: float, n: int, confidence: float) -> Figure:
    """A positive value whose logarithm has the standard error `error`."""
    factor = math.exp(min(quantile(confidence) * error, 700.0))
    return Figure(value, value / factor, value * factor, n)


def freedom(error: float, n: float) -> float:
    """Degrees of freedom of the standard error of a mean of `n` positive values.

    With few patients, or a few large values, the standard error itself is uncertain, and most often it is too small
    where the mean is. So the interval is Student's, with the degrees of freedom that the variance of gamma variables
    has (Satterthwaite 1946, Biometrics Bulletin 2:110).

    Args:    error: the standard error, as a share of the mean.
    """
    return max(n / (1 + 3 * n * error * error), 1.0)


def average(value: float, error: float, n: int, confidence: float) -> Figure:
    """A mean of values that are never below zero, with the standard error `error`."""
    if value <= 0:
        return around(value, error, n, confidence)
    of = freedom(error / value, n)
    width = min(student.within(confidence, of) * error / value, 300.0)
    return Figure(value, value * math.exp(-width), value * math.exp(width), n, freedom=of)


def root(value: float, error: float, n: int, confidence: float) -> Figure:
    """The root of a mean of squares. Args: value, error: of the mean of squares, > 0.

    The interval is that of the reciprocal. Where it comes near zero, or holds it, the upper end, from twice the value
    on, grows as on the scale of logarithms: so there always is one.
    """
    of = freedom(error / value, n)
    width = min(student.within(confidence, of) * error / value, 300.0)
    most = 1 / (1 - width) if width < 0.5 else 2 * math.exp(width - 0.5)
    return Figure(value**0.5, (value / (1 + width)) ** 0.5, value**0.5 * most**0.5, n, freedom=of)


def share(value: float, error: float, n: int, confidence: float) -> Figure:
    """A value in (0, 1) with the standard error `error`, its interval on the scale of logits."""
    if not 0 < value < 1:
        return plain(value, n)
    width = quantile(confidence) * error / (value * (1 - value))
    odds = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(min(-end, 700.0))) for end in (odds - width, odds + width))
    return Figure(value, low, high, n)


def difference(one: Figure, other: Figure, confidence: float) -> Figure:
    """`one` less `other`, of different patients, with an interval from those of both.

    Of two intervals that are Student's, each is wide for a standard error that alone is not well known. That of the
    difference is better known: it has Welch's degrees of freedom (1947, Biometrika 34:28), at least as many as the one
    that has fewer and at most as many as both together. So both are narrowed to these first; else, of fifty patients
    each, the interval held the truth in 97.5 of 100 instead of 95.

    >>> gap = difference(Figure(0.8, 0.7, 0.9, 50), Figure(0.6, 0.5, 0.7, 50), 0.95)
    >>> round(gap.value, 6), round(gap.low, 6), round(gap.high, 6)
    (0.2, 0.058579, 0.341421)
    """
    n = one.n + other.n
    if one.value is None or other.value is None:
        return hidden(n, one.note if one.value is None else other.note)
    value = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return plain(value, n)
    down, up = (one.value - one.low, other.value - other.low), (one.high - one.value, other.high - other.value)
    reaches = [student.within(confidence, each.freedom) for each in (one, other)]
    errors = [(low**0.5 * high**0.5) / reach for low, high, reach in zip(down, up, reaches, strict=True)]
    both = welch(errors, (one.freedom, other.freedom))
    mine, theirs = (student.within(confidence, both) / reach for reach in reaches)
    low, high = math.hypot(mine * down[0], theirs * up[1]), math.hypot(mine * up[0], theirs * down[1])
    return Figure(value, value - low, value + high, n, freedom=both)


def welch(errors: Sequence[float], freedoms: Sequence[float | None]) -> float | None:
    """Degrees of freedom of the standard error of a difference, from both errors and theirs; None: it is known.

    >>> [round(welch((1.0, error), (10.0, freedom)), 6) for error, freedom in ((1.0, 10.0), (0.0, 3.0), (1.0, None))]
    [20.0, 10.0, 40.0]
    """
    whole = math.hypot(*errors)
    if whole <= 0:
        return None
    shares = [(error / whole) ** 2 for error in errors]  # of the variance
    unsure = sum(share**2 / freedom for share, freedom in zip(shares, freedoms, strict=True) if freedom is not None)
    return 1 / unsure if unsure > 1e-12 else None


def told(found: Figure) -> dict[str, Any]:
    """Plain values of one, as they are told."""
    return {name: value for name, value in vars(found).items() if name != "freedom"}


def to_json(found: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    """Plain values for the wire and for files."""
    return {name: told(one) for name, one in found.items()}
