"""The natural logarithm, to the same bits on every machine: by + - * / alone, in a fixed order.

log(m 2^e) = e log 2 + 2 artanh((m - 1) / (m + 1)), with m near 1: Abramowitz and Stegun, 1964, 4.1.27.
"""

import numpy as np

from consilium.core.tensors import Array

TERMS = 12
"""With m between the roots of 1/2 and of 2 the next one is below 1e-19."""
LOG_2 = 0.6931471805599453
ROOT = 0.7071067811865476


def logarithm(values: Array) -> Array:
    """Of values > 0, finite, elementwise.

    >>> [round(float(one), 12) for one in logarithm(np.array([1.0, 2.0, 10.0]))]
    [0.0, 0.69314718056, 2.302585092994]
    """
    part, power = np.frexp(values)
    small = part < ROOT
    part, power = np.where(small, 2.0 * part, part), np.where(small, power - 1, power)
    ratio = (part - 1.0) / (part + 1.0)
    square = ratio * ratio
    series = np.full(values.shape, 1.0 / (2 * TERMS - 1))
    for term in range(TERMS - 1, 0, -1):
        series = series * square + 1.0 / (2 * term - 1)
    found: Array = power * LOG_2 + 2.0 * ratio * series
    return found
