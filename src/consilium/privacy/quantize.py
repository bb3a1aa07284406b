"""Integers that can be summed without overflow, and back: the encoding of one named segment.

Values are clamped to [-limit, limit] and scaled so that n sites, each at the limit, still fit the ring of 2^bits.
"""

from dataclasses import dataclass
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

    @property
    def top(self) -> int:
        """The largest integer of one site: `sites` of them are less than half of the ring."""
        return int(((1 << (min(self.bits, EXACT) - 1)) - 1) // self.sites)

    @property
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


def _ends(values: Floats) -> tuple[float, float]:
    """The least and the largest value; not a number, if one is not."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
