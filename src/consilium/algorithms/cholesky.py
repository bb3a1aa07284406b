"""Symmetric systems by Cholesky's factorisation, to the same bits on every machine.

Element by element, in a fixed order, by + - * / sqrt alone: no product of a library, whose order of sums depends on the
number of threads and on the processor. For the few hundred unknowns of a regression.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
PIVOT = 1e-7
"""Where less than this share of a diagonal element is left, its column follows from the columns before it."""


def square(packed: Floats, size: int) -> Floats:
    """The symmetric matrix (size, size) of a lower triangle that is given row by row."""
    found = np.zeros((size, size))
    found[np.tril_indices(size)] = packed
    return found + np.tril(found, -1).T


def factor(matrix: Floats, without: Flags) -> tuple[Floats, Flags]:
    """The lower factor of a symmetric matrix (d, d), and which columns (d,) it goes without.

    Those of `without`, and those that are zero or follow from the columns before them; the others are factored.
    """
    lower, diagonal, passed = np.array(matrix), np.diag(matrix).copy(), np.array(without)
    for k in range(len(diagonal)):
        pivot = lower[k, k]
        if passed[k] or not pivot > PIVOT * diagonal[k]:
            passed[k] = True
            continue
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
