"""Symmetric systems by Cholesky's factorisation, to the same bits on every machine.

Element by element, in a fixed order, by + - * / sqrt alone: no product of a library, whose order of sums depends on the
number of threads and on the processor. For the few hundred unknowns of a regression.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
PIVOT = 1e-7
"""Where less than this share of a diagonal element is left, its column follows from the columns before it."""
ROUNDED = 2.0**-52
"""By this share of its largest terms a sum of products is off."""
COARSE = 2.0**-16
"""Sums that are all multiples of this were rounded to nothing finer: they are of whole numbers, and exact."""
TOGETHER = 1.0
"""A sum over a dozen sites is off by about so many of the units to which each of them rounds."""


@dataclass(frozen=True)
class Noise:
    """About how far elements of a symmetric matrix are off: a_ij by `each` + `share` * sqrt(a_ii a_jj).

    Args:    each: one for all; or (d,) of the diagonal, and a_ij is off by the geometric mean of two.
    """

    each: float | Floats
    share: float

    @classmethod
    def of(cls, packed: Floats, share: float = ROUNDED, least: float = 0.0) -> "Noise":
        """Of a lower triangle of sums over sites: they are multiples of what a secure sum rounds to.

        Args:    least: what `each` is at least.
        """
        unit = unit_of(packed)
        return cls(max(least, TOGETHER * unit if unit < COARSE else 0.0), share)

    def within(self, weights: Floats, diagonal: Floats) -> float:
        """By about how much w'Aw is off, for w (d,) and the diagonal (d,) of A: elements are off by chance."""
        squares = np.square(weights)
        of_each, of_size = self.each * squares, squares * np.maximum(diagonal, 0.0)
        plain, scaled = (np.add.accumulate(one)[-1] for one in (of_each, of_size))
        return float(2**0.5 * (plain + self.share * scaled))


def unit_of(values: Floats) -> float:
    """The largest power of two of which all values are multiples; 0 where all are zero."""
    some = values[values != 0]
    if not some.size:
        return 0.0
    mantissa, exponent = np.frexp(some)
    whole = np.abs(np.ldexp(mantissa, 53)).astype(np.int64)
    return float(np.min(np.ldexp((whole & -whole).astype(np.float64), exponent - 53)))


def square(packed: Floats, size: int) -> Floats:
    """The symmetric matrix (size, size) of a lower triangle that is given row by row."""
    found = np.zeros((size, size))
    found[np.tril_indices(size)] = packed
    return found + np.tril(found, -1).T


def factor(matrix: Floats, without: Flags, noise: Noise | None = None) -> tuple[Floats, Flags]:
    """The lower factor of a symmetric matrix (d, d), and which columns (d,) it goes without.

    Those of `without`, and those that are zero or follow from the columns before them; the others are factored.

    Args:    noise: a column follows from others where what is left of it is no more than this may be; without, by
             `PIVOT`.
    """
    lower, diagonal, passed = np.array(matrix), np.diag(matrix).copy(), np.array(without)
    inverse = np.zeros_like(lower)
    for k in range(len(diagonal)):
        pivot, least = lower[k, k], PIVOT * diagonal[k]
        if passed[k]:
            continue
        if noise is not None:
            rest = np.zeros(len(diagonal))  # of which columns, and how much of each, what is left of this one consists
            rest[k] = 1.0
            if k:
                share = np.where(passed[:k], 0.0, lower[k, :k])
                rest[:k] = -np.add.accumulate(share[:, None] * inverse[:k, :k])[-1]
            least = noise.within(rest, diagonal)
        if not pivot > least:
            passed[k] = True
            continue
        if noise is not None:
            inverse[k] = rest / np.sqrt(pivot)
        column = lower[k:, k] / np.sqrt(pivot)
        lower[k:, k] = column
        lower[k + 1 :, k + 1 :] -= column[1:, None] * column[None, 1:]
    return np.tril(lower), passed


def solve(lower: Floats, passed: Flags, right: Floats) -> Floats:
    """x (d,) with L L' x = right, for a factor as `factor` gives it; 0 where it goes without a column."""
    rest, found = np.array(right), np.zeros(len(right))
    order = [k for k in range(len(right)) if not passed[k]]
    for k in order:
        found[k] = rest[k] / lower[k, k]
        rest[k + 1 :] -= lower[k + 1 :, k] * found[k]
    rest = found
    found = np.zeros(len(right))
    for k in reversed(order):
        found[k] = rest[k] / lower[k, k]
        rest[:k] -= lower[k, :k] * found[k]
    return found
