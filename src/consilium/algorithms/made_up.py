"""Patients who never were: rows that a contract allows, by which a model's file is tried where there is no patient."""

from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.contract import Contract, Feature

Row = float | str | None
Floats = npt.NDArray[np.float64]


def made_up(contract: Contract, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Values of `n` made-up patients by feature: numbers in its unit, of its range and at the ends of it; codes of
    categories; None where a feature may be missing, for a fifth of them; of an image (n, rows, columns).
    """
    found: dict[str, Any] = {feature.id: _values(feature, n, rng) for feature in contract.features}
    if (image := contract.image) is not None:
        values = np.array(_values(image.feature, n * image.size, rng), dtype=np.float64)
        found[image.id] = values.reshape(n, image.rows, image.columns)
    return found


def coded(contract: Contract, rows: dict[str, Any]) -> dict[str, Floats]:
    """Such rows as `encode` takes them: numbers, places of categories, NaN for None; of an image (n, size)."""
    found: dict[str, Floats] = {}
    for feature in contract.features:
        codes = {code: float(place) for place, code in enumerate(feature.categories or ())}
        told = [codes.get(str(value), value) for value in rows[feature.id]]
        found[feature.id] = np.array([np.nan if value is None else float(value) for value in told])
    if (image := contract.image) is not None:
        found[image.id] = rows[image.id].reshape(-1, image.size)
    return found


def _values(feature: Feature, n: int, rng: np.random.Generator) -> list[Row]:
    found: list[Row]
    if feature.range is not None:
        low, high = feature.range
        numbers = np.clip(rng.uniform(low, high, size=n), low, high)
        ends = rng.random(n)
        numbers[ends < 0.05], numbers[ends > 0.95] = low, high
        found = [float(value) for value in numbers]
    else:
        codes = list(feature.categories or {})
        found = [codes[place] for place in rng.integers(len(codes), size=n)]
    if feature.missing == "allowed":
        found = [None if gone else value for gone, value in zip(rng.random(n) < 0.2, found, strict=True)]
    return found
