"""By how much rounding moves sums of metrics, and what is not told for it.

Under `secure_sum` values are integers of one ring, whose unit follows from `privacy.most_patients` and from the most
that one patient may add (`privacy/layout.py`). Where the label's range is many times as wide as errors are, their
fourth powers are less than such a unit: a variance that follows from them would be 0, and an interval without width.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from consilium.algorithms.figure import Figure, hidden
from consilium.core.contract import APART
from consilium.core.study import Study
from consilium.core.tensors import Array

RING = 2.0**52
"""The integers that all sites share."""
VALUE, WIDTH = 1e-3, 0.1
"""A value is not told where rounding may move it by more than this share, an interval where so its variance."""
COARSE = (
    "rounding in the sums leaves too few digits: narrow the label's range, or, of a secure sum, lower "
    "privacy.most_patients"
)
EPSILON = 4e-16
"""What rounding of floating-point numbers leaves of one that falls out of larger ones by subtraction, as a share."""


def of_powers(study: Study) -> float:
    """By how much a sum of powers may be off, as a standard deviation; 0 where nothing is rounded."""
    return _off(study, APART ** (4 if study.contract.label.range else 2))


def of_deviances(study: Study) -> tuple[float, float]:
    """The same of a sum of deviances, and of their squares."""
    most = study.contract.label.most_deviance
    return _off(study, most), _off(study, most**2)


def _off(study: Study, most: float) -> float:
    """Args: most: that one patient adds. Units are powers of two, and so up to twice as large as need be."""
    if study.privacy.recipe != "secure_sum":
        return 0.0
    sites = study.quorum  # or more
    return math.sqrt(sites / 12) * 2 * sites * study.privacy.most_patients * most / RING


def told(one: Figure, value: bool, width: bool) -> Figure:
    """A figure of which `value`, and the `width` of its interval, have digits enough; else what may be told of it."""
    if one.value is None or (value and (width or one.low is None)):
        return one
    return replace(one, low=None, high=None, note=COARSE) if value else hidden(one.n, COARSE)


def of_mean(study: Study, total: Mapping[str, Array], one: Figure) -> Figure:
    """The mean deviance, as far as it may be told."""
    n, (first, second) = float(total["n"][0]), of_deviances(study)
    mean, squares = float(total["deviance"][0]) / n, float(total["deviance_squares"][0]) / n
    return told(one, first / n <= VALUE * abs(mean), second / n <= WIDTH * (squares - mean**2))
