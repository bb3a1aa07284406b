"""Integers that can be summed without overflow, and back: the encoding of one named segment.

Values are clamped to [-limit, limit] and scaled so that n sites, each at the limit, still fit the ring of 2^bits.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Invalid
from consilium.privacy.masks import Integers

Floats = npt.NDArray[np.floating[Any]]
DTYPES: dict[int, np.dtype[Any]] = {16: np.dtype("<u2"), 32: np.dtype("<u4"), 64: np.dtype("<u8")}
EXACT = 53
"""Bits of a float64: a wider sum of scaled values would not come back exactly."""


@dataclass(frozen=True)
class Encoding:
    """How a segment's values become integers. `limit`: the largest absolute value that one site may add."""

    bits: Literal[16, 32, 64]
    limit: float
    sites: int

    def __post_init__(self) -> None:
        """Refuse what could overflow. Raises: Invalid."""
        if self.sites < 1 or not 0 < self.limit < float("inf"):
            raise Invalid("an encoding needs a positive limit and at least one site", "correct privacy in the study")
        if self.top < 1:
            raise Invalid(f"{self.bits} bits are too few for {self.sites} sites", "use 32 or 64 bits")

    @cached_property
    def top(self) -> int:
        """The largest integer of one site: `sites` of them are less than half of the ring."""
        return int(((1 << (min(self.bits, EXACT) - 1)) - 1) // self.sites)

    @cached_property
    def scale(self) -> float:
        """Integers per unit: the largest power of two that keeps the limit below `top`, so that scaling is exact."""
        scale = float(2.0 ** np.floor(np.log2(self.top / self.limit)))
        return scale if scale * self.limit <= self.top else scale / 2  # the logarithm was rounded up

    def encode(self, values: Floats, chance: Floats | float = 0.5) -> tuple[Integers, int]:
        """Integers modulo 2^bits, two's complement, and how many values were clamped.

        Args:    values: (n,) finite.   chance: (n,) in [0, 1): rounds up with the probability of the remainder, so
                 that rounding adds no bias; 0.5 rounds to the nearest.
        Raises:  Invalid: a value is not finite.
        """
        least, most = _ends(values)
        if not np.isfinite(least) or not np.isfinite(most):
            raise Invalid("a value is not finite", "lower the learning rate of the study")
        wide = values.astype(np.float64)
        clamped = 0 if -self.limit <= least and most <= self.limit else self.clamped(values)
        if clamped:
            np.clip(wide, -self.limit, self.limit, out=wide)
        np.multiply(wide, self.scale, out=wide)
        np.add(wide, chance, out=wide)
        np.floor(wide, out=wide)
        if clamped or max(-least, most) * self.scale > self.top - 1:  # where rounding could lead beyond the top
            np.clip(wide, -self.top, self.top, out=wide)
        return wide.astype(f"<i{self.bits // 8}").view(DTYPES[self.bits]), clamped

    def clamped(self, values: Floats) -> int:
        """How many values are beyond the limit."""
        least, most = _ends(values)
        if -self.limit <= least and most <= self.limit:  # as nearly always: no array of answers is made
            return 0
        wide = values.astype(np.float64)  # else the limit is rounded to what the values are
        return int(np.count_nonzero(np.abs(wide) > self.limit))

    def decode(self, total: Integers) -> npt.NDArray[np.float64]:
        """The sum's values, (n,) float64."""
        signed = total.view(total.dtype.str.replace("u", "i"))
        found = signed.astype(np.float64)
        return np.multiply(found, 1 / self.scale, out=found)  # a power of two: exact, and faster than to divide


FINE = 256
"""A patient adds so many times what rounding does, where there is room: noise for rounding is then of no account."""
LEAST_NOISE = 2.0**8
"""Least deviation of one share, in integers: a rounded Gaussian of that width is a discrete one, and sums like one."""
TAIL = 8.0
"""No sum is expected to have noise beyond so many deviations: the chance is below 1e-14 for each value."""


@dataclass(frozen=True)
class Noised(Encoding):
    """The encoding of a sum over patients to which each site adds a share of noise, in integers.

    What one patient adds to the integers is at most `scale * bound` and what rounding may do to either of two
    neighbouring sums: `scale * bound + sqrt(length)` in Euclidean norm, and the noise is a multiple of that.

    Args:    length: values of the segment.   bound: most that one patient adds to it, in Euclidean norm.
             share: deviation of one site's noise, as a multiple of what one patient adds.
    """

    length: int
    bound: float
    share: float

    def __post_init__(self) -> None:
        """Refuse what could overflow, or is too coarse. Raises: Invalid."""
        super().__post_init__()
        if self.share * self.bound * self.scale < LEAST_NOISE:
            raise Invalid(
                f"{self.bits} bits are too few for noised sums over {self.sites} sites",
                "write `privacy.bits: 64`, or lower `privacy.most_patients` to what a hospital has at most",
            )

    @cached_property
    def scale(self) -> float:
        """Integers per unit, a power of two: as many as the noise needs, and fewer where there is no room for them.

        There is, while `sites` of them at their limits, with `TAIL` deviations of everybody's noise, stay in the ring.
        """
        wanted = max(LEAST_NOISE / (self.share * self.bound), FINE * math.sqrt(self.length) / self.bound)
        scale = 2.0 ** math.ceil(math.log2(wanted))
        room = 2.0 ** (min(self.bits, EXACT) - 1)
        while scale > 2.0**-60 and self._most(scale) >= room:
            scale /= 2
        return scale

    @property
    def deviation(self) -> float:
        """Of one site's noise, in integers."""
        return self.share * self._adds(self.scale)

    def _adds(self, scale: float) -> float:
        return scale * self.bound + math.sqrt(self.length)

    def _most(self, scale: float) -> float:
        noise = self.share * self._adds(scale) * math.sqrt(self.sites)
        return self.sites * (self.limit * scale + 1) + TAIL * noise


def _ends(values: Floats) -> tuple[float, float]:
    """The least and the largest value; not a number, if one is not."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
