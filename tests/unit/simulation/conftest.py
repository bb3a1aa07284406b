"""Small hospitals with tables of their own, and a study for them."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.core.study import Study

Make = Callable[..., dict[str, Path]]


@pytest.fixture
def study() -> Study:
    """Whether x + y is large: 60 passes in all."""
    number = {"type": "number", "unit": "1", "range": [-4, 4], "missing": "forbidden"}
    return Study.model_validate(
        {
            "consilium": 1, "name": "sums", "title": "Sums",
            "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
            "contract": {
                "id": "sums",
                "features": [{"id": "x", "meaning": "x", **number}, {"id": "y", "meaning": "y", **number}],
                "label": {"id": "large", "meaning": "the sum is large", "type": "binary"},
            },
            "model": {"kind": "logistic", "l2": 0.01}, "training": {"epochs": 10, "learning_rate": 2.0, "seed": 1},
            "rounds": 6, "quorum": 2, "min_patients": 10, "privacy": {"recipe": "plain"},
        }
    )  # fmt: skip


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make(north=(100, None))`: the mapping of each hospital; patients, and the one label that they have, if so."""

    def hospitals(**wanted: tuple[int, int | None]) -> dict[str, Path]:
        return {name: table(tmp_path / name, seed, *given) for seed, (name, given) in enumerate(wanted.items())}

    return hospitals


def table(folder: Path, seed: int, patients: int, only: int | None) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    values = np.clip(rng.normal(size=(patients, 2)), -4, 4)
    large: Any = values.sum(axis=1) + rng.normal(size=patients) > 0.3
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "x", "y", "large"])
        for i, row in enumerate(values):
            writer.writerow([f"p{i}", *map(repr, map(float, row)), int(large[i]) if only is None else only])
    (folder / "mapping.yaml").write_text(
        "mapping: 1\ncontract: sums\nsource: {type: csv, path: table.csv}\npatient: {column: id}\n"
        "features: {x: {column: x, unit: '1'}, y: {column: y, unit: '1'}}\n"
        "label: {column: large, codes: {'0': 0, '1': 1}}\n"
    )
    return folder / "mapping.yaml"
