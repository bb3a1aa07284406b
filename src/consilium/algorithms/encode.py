"""From a contract's features to a matrix: numbers scaled by the contract's ranges, categories one-hot, missing flagged.

Nothing is learned from data here, so that every site, and pooled training, encodes alike.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consilium.core.study import Contract, Feature

Floats = npt.NDArray[np.float64]


def names(contract: Contract) -> list[str]:
    """Names of the p columns, in order."""
    return [name for feature in contract.features for name in _columns(feature)]


def _columns(feature: Feature) -> list[str]:
    flag = [f"{feature.id}?"] if feature.missing == "allowed" else []
    if feature.type == "number":
        return [feature.id, *flag]
    assert feature.categories is not None
    return [f"{feature.id}={code}" for code in list(feature.categories)[1:]] + flag


def encode(contract: Contract, columns: Mapping[str, Floats]) -> Floats:
    """Encode.

    Args:    columns: per feature (n,): numbers in the contract's unit, or the index of the category; NaN is missing.
    Returns: (n, p). A number becomes (x - middle) / (half the range), by the contract's `typical` range if it has one;
             the first category is the reference; a missing value is 0 everywhere, with 1 in its flag `<id>?` where the
             contract allows it to be missing.
    """
    parts: list[Floats] = []
    for feature in contract.features:
        values = columns[feature.id]
        missing = np.isnan(values)
        if feature.type == "number":
            assert feature.range is not None
            low, high = feature.typical or feature.range
            scaled = (values - (low + high) / 2) / ((high - low) / 2)
            parts.append(np.where(missing, 0.0, scaled))
        else:
            assert feature.categories is not None
            parts.extend((values == index).astype(np.float64) for index in range(1, len(feature.categories)))
        if feature.missing == "allowed":
            parts.append(missing.astype(np.float64))
    return np.stack(parts, axis=1)
