"""From a contract's features to a matrix: numbers scaled by the contract's ranges, categories one-hot, missing flagged.

Nothing is learned from data here, so that every site, and pooled training, encodes alike: where a study asks for it,
what was learned of the patients of all (`preparation`) is given.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from consilium.core.contract import Contract, Feature
from consilium.core.errors import Invalid
from consilium.core.preparing import Prepare
from consilium.core.tensors import Array

Floats = npt.NDArray[np.float64]
PLAIN = Prepare.model_validate({})
"""Nothing is learned."""


def names(contract: Contract, prepare: Prepare | None = None) -> list[str]:
    """Names of the p columns, in order."""
    found = [name for feature in contract.features for name in _columns(feature, prepare or PLAIN)]
    return found if contract.image is None else found + contract.image.names


def _columns(feature: Feature, prepare: Prepare) -> list[str]:
    flag = [f"{feature.id}?"] if feature.missing == "allowed" and prepare.missing == "flag" else []
    if feature.id in prepare.bins:
        return [*(f"{feature.id}#{number}" for number in range(2, prepare.bins[feature.id] + 1)), *flag]
    if feature.type == "number":
        return [feature.id, *flag]
    assert feature.categories is not None
    return [f"{feature.id}={code}" for code in list(feature.categories)[1:]] + flag


def encode(
    contract: Contract,
    columns: Mapping[str, Floats],
    prepare: Prepare | None = None,
    learned: Mapping[str, Array] | None = None,
) -> Floats:
    """Encode.

    Args:    columns: per feature (n,): numbers in the contract's unit, or the index of the category; NaN is missing;
             of an image (n, size).
             prepare, learned: what the study asks for, and what was learned of it (`preparation.learned`).
    Returns: (n, p). A number becomes (x - middle) / (half the range), by the contract's `typical` range if it has one;
             the category whose code sorts first, a plan's first, is the reference; a missing value is 0 everywhere,
             with 1 in its flag `<id>?` where the contract allows it to be missing. Standardised, a number becomes
             (x - mean) / standard deviation; one that is cut into bins has a column for each but the first; a value
             that is imputed has no flag. A number that is harmonised comes as it is then (`combat.harmonised`), and
             becomes (x - centre) / spread.
    """
    asked = prepare or PLAIN
    parts: list[Floats] = []
    edges, kept = by_feature(contract, asked, learned)
    for index, feature in enumerate(contract.features):
        values = columns[feature.id]
        missing = np.isnan(values)
        if asked.missing == "impute" and feature.missing == "allowed":
            values = np.where(missing, _given(learned, "fill")[index], values)
        if feature.type == "category":
            count = len(feature.categories or {})
            if index in kept:
                values = np.where(np.isin(values, np.flatnonzero(kept[index] == 0)), 0.0, values)
            parts.extend((values == code).astype(np.float64) for code in range(1, count))
        elif feature.id in asked.bins:
            bins, count = np.searchsorted(edges[index], values, side="right"), asked.bins[feature.id]
            parts.extend(((bins == number) & ~np.isnan(values)).astype(np.float64) for number in range(1, count))
        else:
            centre, spread = scale(feature, asked, learned, index)
            parts.append(np.where(np.isnan(values), 0.0, (values - centre) / spread))
        if feature.missing == "allowed" and asked.missing == "flag":
            parts.append(missing.astype(np.float64))
    if contract.image is None:
        return np.stack(parts, axis=1)
    values, size = columns[contract.image.id], contract.image.size
    found = np.empty((len(values), len(parts) + size))  # once, and all in it: images are large
    for at, part in enumerate(parts):
        found[:, at] = part
    pixels = found[:, len(parts) :]
    pixels[:] = values
    if asked.numbers == "standardise":
        begins = len(contract.features)
        pixels -= _given(learned, "centre")[begins : begins + size]
        pixels /= _given(learned, "spread")[begins : begins + size]
    else:
        centre, spread = scale(contract.image.feature, asked, learned, 0)
        pixels -= centre
        pixels /= spread
    return found


def by_feature(
    contract: Contract, asked: Prepare, learned: Mapping[str, Array] | None
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Edges of bins, and 1 for each category that is kept, by place of the feature: of all, they lie in one array."""
    edges, kept, edge, category = dict[int, Array](), dict[int, Array](), 0, 0
    for place, feature in enumerate(contract.features):
        if feature.id in asked.bins:
            inner = asked.bins[feature.id] - 1
            edges[place], edge = _given(learned, "edges")[edge : edge + inner], edge + inner
        elif feature.type == "category" and asked.rare_below:
            count = len(feature.categories or {})
            kept[place], category = _given(learned, "kept")[category : category + count], category + count
    return edges, kept


def rare(contract: Contract, asked: Prepare, learned: Mapping[str, Array] | None) -> frozenset[str]:
    """Columns of codes that count as the reference, because too few patients have them."""
    _, kept = by_feature(contract, asked, learned)
    return frozenset(
        f"{contract.features[place].id}={code}"
        for place, own in kept.items()
        for code, counts in zip(contract.features[place].categories or {}, own, strict=True)
        if counts == 0
    )


def decode(contract: Contract, x: Floats) -> dict[str, Floats]:
    """What `encode` was given, where nothing was learned: per feature (n,), NaN where missing; of an image (n, size).

    Numbers come back to fourteen digits of their range, so that what was written with fewer is the very same.
    """
    at = {name: place for place, name in enumerate(names(contract))}
    found: dict[str, Floats] = {}
    for feature in contract.features:
        flag = at.get(f"{feature.id}?")
        if feature.range is not None:
            values = _scaled_back(feature, x[:, at[feature.id]])
        else:
            others = list(feature.categories or {})[1:]
            values = np.sum(
                [number * x[:, at[f"{feature.id}={code}"]] for number, code in enumerate(others, 1)], axis=0
            )
        found[feature.id] = values if flag is None else np.where(x[:, flag] == 1, np.nan, values)
    if contract.image is not None:
        found[contract.image.id] = _scaled_back(contract.image.feature, x[:, -contract.image.size :])
    return found


def _scaled_back(feature: Feature, values: Floats) -> Floats:
    assert feature.range is not None
    centre, spread = scale(feature, PLAIN, None, 0)
    digits = 14 - math.ceil(math.log10(max(map(abs, feature.range))))
    return np.round(values * spread + centre, min(digits, 290))


def scale(feature: Feature, asked: Prepare, learned: Mapping[str, Array] | None, index: int) -> tuple[float, float]:
    """What is subtracted of a number, and by what it is divided; `index` of the feature in the contract."""
    if asked.numbers == "standardise" or (asked.harmonise is not None and feature.id in asked.harmonise.numbers):
        return float(_given(learned, "centre")[index]), float(_given(learned, "spread")[index])
    assert feature.range is not None
    low, high = feature.typical or feature.range
    return (low + high) / 2, (high - low) / 2


def _given(learned: Mapping[str, Array] | None, name: str) -> Array:
    if learned is None or f"prepare/{name}" not in learned:
        raise Invalid("what was learned of the patients of all is not there", "encode after the round of preparation")
    return learned[f"prepare/{name}"]
