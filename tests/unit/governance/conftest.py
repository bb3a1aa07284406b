"""A study that a policy may look at, for the tests of this folder."""

from typing import Any

import pytest
import yaml

from consilium import studyfile
from consilium.core.study import Study

WHEEL = "sha256:" + "ab" * 32


def make(**changes: Any) -> Study:
    """The template's study with `changes` to its top-level keys."""
    return Study.model_validate({**yaml.safe_load(studyfile.template("heart")), **changes})


@pytest.fixture
def study() -> Study:
    return make()


def by_time(least: int | None = None) -> Study:
    """A Cox regression of three hospitals with one baseline hazard, which opens sums over so many patients."""
    label = {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, 4000]}
    features = [{"id": "x", "meaning": "x", "type": "number", "unit": "1", "range": [0, 9]}]
    options = {"every": 30, "until": 3650, **({} if least is None else {"least": least})}
    return make(
        contract={"id": "survival", "features": features, "label": label}, model={"kind": "cox"}, quorum=3,
        strategy={"name": "webdisco", "options": options}, sites=("a", "b", "c"), privacy={"recipe": "secure_sum"},
    )  # fmt: skip
