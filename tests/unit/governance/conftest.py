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
