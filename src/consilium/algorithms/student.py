"""Tails and quantiles of Student's t and of the normal distribution, in plain arithmetic.

The incomplete beta function by its continued fraction: Press et al., Numerical Recipes, 3rd ed., 2007, section 6.4.
Quantiles of many degrees of freedom by their expansion: Abramowitz and Stegun, 1964, 26.7.5.
"""

import math
from statistics import NormalDist

TINY = 1e-300
TERMS = 10_000
MANY = 1000.0
"""Degrees of freedom from which on the expansion is right to twelve digits."""


def two_sided(score: float, freedom: float | None) -> float:
    """The chance of a value at least as far from zero as `score`.

    Args:    freedom: degrees of freedom, > 0; None: of a standard normal variable.

    >>> round(two_sided(1.959963984540054, None), 12)
    0.05
    >>> round(two_sided(1.0, 1.0), 12)
    0.5
    """
    if freedom is None:
        return math.erfc(abs(score) / math.sqrt(2.0))
    squared = score * score
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + squared), squared / (freedom + squared))


def within(confidence: float, freedom: float | None) -> float:
    """How far from zero a value lies at most with a chance of `confidence`, in (0, 1).

    >>> round(within(0.95, None), 6), round(within(0.95, 10.0), 6)
    (1.959964, 2.228139)
    """
    normal = NormalDist().inv_cdf(0.5 + confidence / 2)
    if freedom is None:
        return normal
    if freedom >= MANY:
        return _expanded(normal, freedom)
    scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    at = normal + (normal**3 + normal) / (4 * freedom)
    for _ in range(200):  # Newton's method: the chance is convex, so that it comes from below, never below the normal
        density = math.exp(scale - (freedom + 1) / 2 * math.log1p(at * at / freedom))
        before, at = at, max(normal, at + (two_sided(at, freedom) - (1 - confidence)) / (2 * density))
        if abs(at - before) <= 1e-14 * at:
            break
    return at


def _expanded(z: float, freedom: float) -> float:
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term * (1 / freedom) ** power for power, term in enumerate(terms, 1))


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b), the regularised incomplete beta function, for x in [0, 1]; `y` is 1 - x, of which no digit is lost."""
    if x <= 0 or y <= 0:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, y) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Lentz's method."""
    above, below = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1))
    found = below
    for m in range(1, TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            below = 1 / _apart(1 + term * below)
            above = _apart(1 + term / above)
            found *= above * below
        if abs(above * below - 1) < 1e-16:
            break
    return found


def _apart(value: float) -> float:
    return value if abs(value) > TINY else TINY
