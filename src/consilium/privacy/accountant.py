"""What a mechanism says of one patient at most: (epsilon, delta) of noised sums, alone and together.

The unit is the patient, and two sets of patients are neighbours when one patient is added or removed. Two accountants:
privacy loss distributions (PLD) inside one plan that is fixed beforehand, by Google's dp-accounting; and Renyi curves
(RDP) across plans that are chosen as one goes, for a filter of PLDs is not known to be sound (arXiv 2602.15815).
Sources: Mironov, CSF 2017 and Mironov et al., arXiv 1908.10530 (RDP of the sampled Gaussian); Canonne, Kamath and
Steinke, NeurIPS 2020 (from RDP to (epsilon, delta)); Kairouz, Liu and Steinke, ICML 2021 (sums of discrete noise).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from consilium.core.errors import EXTRA, Invalid, Unavailable

Curve = npt.NDArray[np.float64]
ORDERS: Curve = np.array([1 + x / 10 for x in range(1, 100)] + [*range(11, 65), 128.0, 256.0, 512.0])
"""Orders at which every curve is kept."""
LEAST = 0.2
"""The least noise multiplier that is ever given: with less, an epsilon says nothing, and takes minutes to compute."""
INTERVAL = 1e-4
"""Discretisation of a privacy loss."""


@dataclass(frozen=True)
class Sampled:
    """`steps` times: each patient is drawn with probability `rate`, independently; sums get Gaussian noise.

    Args:    noise: standard deviation, as a multiple of what one patient adds at most (the noise multiplier).
             rate: in (0, 1]; 1 takes everybody.
    """

    noise: float
    rate: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse what is no such mechanism. Raises: Invalid."""
        if not (self.noise > 0 and math.isfinite(self.noise) and 0 < self.rate <= 1 and self.steps >= 0):
            raise Invalid(
                f"noise {self.noise}, rate {self.rate} and {self.steps} steps are no mechanism",
                "noise is above 0, the rate in (0, 1], steps are not negative",
            )


def curve(event: Sampled) -> Curve:
    """The event's Renyi divergence at each of `ORDERS`; curves of several events add up."""
    return event.steps * _curve(event.noise, event.rate)


@lru_cache(maxsize=256)
def _curve(noise: float, rate: float) -> Curve:
    if rate == 1.0:
        return ORDERS / (2 * noise**2)
    return np.array([_divergence(noise, rate, float(order)) for order in ORDERS])


def _divergence(noise: float, rate: float, order: float) -> float:
    """log E[((1-q) + q exp((2x-1)/2s^2))^a] / (a-1) for x ~ N(0, s^2).

    By the trapezoidal rule, whose error falls exponentially for such an integrand; all in logarithms.
    """
    # The integrand's mass lies between the normal's own and that of its shift by `order`.
    x = np.linspace(-12 * noise, order + 12 * noise, _points(noise, order))
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * x - 1) / (2 * noise**2))
    density = -(x**2) / (2 * noise**2) - math.log(noise * math.sqrt(2 * math.pi))
    terms = order * ratio + density
    largest = float(np.max(terms))
    total = largest + math.log(float(np.sum(np.exp(terms - largest))) * float(x[1] - x[0]))
    return max(total, 0.0) / (order - 1)


def _points(noise: float, order: float) -> int:
    return max(2001, int(40 * (order + 24 * noise) / noise))


def epsilon(spent: Curve, delta: float) -> float:
    """The least epsilon of a Renyi curve at `delta`. Raises: Invalid: delta is not in (0, 1)."""
    if not 0 < delta < 1:
        raise Invalid(f"delta {delta} is not a probability", "choose one far below 1 over the number of patients")
    found = spent + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(float(np.min(found)), 0.0)


@lru_cache(maxsize=64)
def tight(event: Sampled, delta: float) -> float:
    """Epsilon by privacy loss distributions; for a plan that is fixed before it begins.

    Raises: Unavailable: the extra `dp` is not installed.   Invalid.
    """
    if not 0 < delta < 1:
        raise Invalid(f"delta {delta} is not a probability", "choose one far below 1 over the number of patients")
    if event.steps == 0:
        return 0.0
    try:
        import dp_accounting as google
        from dp_accounting.pld import PLDAccountant
    except ImportError as error:
        raise Unavailable("the accountant is not installed", EXTRA.format("dp")) from error
    gaussian = google.GaussianDpEvent(event.noise)
    one = gaussian if event.rate == 1.0 else google.PoissonSampledDpEvent(event.rate, gaussian)
    accountant = PLDAccountant(value_discretization_interval=INTERVAL)
    accountant.compose(google.SelfComposedDpEvent(one, event.steps))
    return float(accountant.get_epsilon(delta))


def calibrated(wanted: float, delta: float, rate: float, steps: int, *, precision: float = 1e-4) -> float:
    """The least noise multiplier, of those from `LEAST` on, whose epsilon is at most the wanted one.

    The search begins at what Renyi orders give, some percent too much, and goes on by the secant of the logarithms,
    along which epsilon falls nearly straight: a few calls of `tight`.

    Args:    precision: relative; what is given lies above the least, never below it.
    Raises:  Invalid: no noise gives it.   Unavailable.
    """
    if not (wanted > 0 and math.isfinite(wanted) and steps > 0):
        raise Invalid(f"epsilon {wanted} over {steps} steps cannot be had", "choose a positive epsilon")

    def over(noise: float) -> float:
        """Logarithm of how far the noise's epsilon lies above the wanted one."""
        return math.log(max(tight(Sampled(noise, rate, steps), delta), 1e-12) / wanted)

    high = _by_orders(wanted, delta, rate, steps)
    while (above := over(high)) > 0:
        high *= 1.05
    low, below = LEAST, math.inf
    while high - low > precision * high:
        if math.isinf(below):
            guess = max(0.93 * high, low)  # orders give some percent too much: most often this is too little
        else:  # a little beyond where the secant says, so that it most often is enough
            guess = high * (low / high) ** (above / (above - below)) * (1 + precision / 3)
            guess = min(max(guess, low * (1 + precision / 3)), high * (1 - precision / 3))
        found = over(guess)
        if found > 0:
            low, below = guess, found
        elif guess == low:
            return low
        else:
            high, above = guess, found
    return high


def _by_orders(wanted: float, delta: float, rate: float, steps: int) -> float:
    """A noise multiplier that Renyi orders say is enough, to a percent. Raises: Invalid: none is."""
    low, high = LEAST, 1.0
    while epsilon(curve(Sampled(high, rate, steps)), delta) > wanted:
        low, high = high, 2 * high
        if high > 1e6:
            raise Invalid(f"no noise gives epsilon {wanted} at delta {delta}", "choose a larger epsilon")
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        enough = epsilon(curve(Sampled(middle, rate, steps)), delta) <= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


@dataclass(frozen=True)
class Shares:
    """Noise that sites add in shares, inside a sum that at least `opening` of them open.

    Each adds a share as if only `opening - colluding` honest sites added theirs: then the promised noise is there
    whoever drops out, and whichever `colluding` sites tell theirs to the coordinator.
    """

    sites: int
    opening: int
    colluding: int = 1

    def __post_init__(self) -> None:
        """Refuse what leaves no honest site. Raises: Invalid."""
        if not 0 < self.opening <= self.sites or not 0 <= self.colluding < self.opening:
            raise Invalid(
                f"{self.opening} of {self.sites} sites with {self.colluding} colluding leave no noise",
                "ask for more sites, or assume fewer that collude",
            )

    def of_one(self, noise: float) -> float:
        """Standard deviation of one site's share, for a promised noise."""
        return noise / math.sqrt(self.opening - self.colluding)

    def of_all(self, noise: float) -> float:
        """Standard deviation of the whole noise when every site adds its share."""
        return self.of_one(noise) * math.sqrt(self.sites)

    def discrete(self, noise: float) -> float:
        """What rounding adds to delta, per coordinate, when each share is a discrete Gaussian in units of integers.

        Kairouz et al. 2021, Theorem 3: tau = 10 sum_k exp(-2 pi^2 s^2 k/(k+1)), with s the share's deviation.
        """
        share = self.of_one(noise)
        return 10 * sum(math.exp(-2 * math.pi**2 * share**2 * k / (k + 1)) for k in range(1, self.sites))
