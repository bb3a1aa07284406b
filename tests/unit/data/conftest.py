"""A contract, a mapping that fits it, and rows, for the tests of this folder."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from consilium.core.study import Study
from consilium.data.base import Rows
from unit.data.player import Player

STUDY = """
consilium: 1
name: s
title: s
purpose: {code: research, text: t, requester: r}
contract:
  id: c
  features:
    - {id: age, meaning: age, type: number, unit: a, range: [18, 110], missing: forbidden}
    - {id: glucose, meaning: glucose, type: number, unit: mg/dL, range: [20, 600]}
    - {id: temp, meaning: temperature, type: number, unit: Cel, range: [30, 45]}
    - {id: sex, meaning: sex, type: category, categories: {female: female, male: male}}
  label: {id: sick, meaning: sick, type: binary}
model: {kind: logistic}
rounds: 1
quorum: 1
privacy: {recipe: plain}
"""
MAPPING: dict[str, Any] = {
    "mapping": 1,
    "contract": "c",
    "source": {"type": "csv", "path": "table.csv"},
    "patient": {"column": "id"},
    "missing": ["", "NA"],
    "features": {
        "age": {"column": "AGE", "unit": "a"},
        "glucose": {"column": "GLUC", "unit": "mmol/L", "analyte": "glucose", "missing": ["-9"]},
        "temp": {"column": "TEMP", "unit": "[degF]"},
        "sex": {"column": "SEX", "codes": {"1": "male", "2": "female"}, "missing": ["9"]},
    },
    "label": {"column": "SICK", "codes": {"0": 0, "1": 1}},
}
COLUMNS = ("id", "AGE", "GLUC", "TEMP", "SEX", "SICK")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """A server that answers what a test has it answer."""
    made = Player(tmp_path_factory.mktemp("tls"))
    yield made
    made.close()


@pytest.fixture
def study() -> Study:
    return Study.model_validate(yaml.safe_load(STUDY))


def rows(*values: tuple[str | None, ...]) -> Rows:
    """Rows of text in the order of COLUMNS."""
    return Rows({name: [row[index] for row in values] for index, name in enumerate(COLUMNS)})
