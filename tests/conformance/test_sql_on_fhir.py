"""SQL on FHIR v2: every official test, and the official report."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from consilium.testing import sql_on_fhir

FOLDER = Path(__file__).parents[3] / "shared/suites/sql_on_fhir_tests"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the official tests of SQL on FHIR are not here")
SUITES = sql_on_fhir.suites(FOLDER) if FOLDER.is_dir() else {}
CASES = [
    pytest.param(suite, case, id=f"{name}: {case['title']}")
    for name, suite in SUITES.items()
    for case in suite["tests"]
]


def test_it_is_the_whole_suite() -> None:
    tags = [tag for suite in SUITES.values() for case in suite["tests"] for tag in case["tags"]]
    assert (len(CASES), tags.count("shareable"), tags.count("experimental")) == (134, 123, 11)


@pytest.mark.parametrize(("suite", "case"), CASES)
def test_official(suite: dict[str, Any], case: dict[str, Any]) -> None:
    assert sql_on_fhir.fault(suite, case) == ""


def test_the_report_is_valid_and_says_that_all_passed() -> None:
    schema = json.loads((FOLDER / "test-report.schema.json").read_text())
    made = sql_on_fhir.report(FOLDER)
    jsonschema_rs.validate(schema, made)
    assert sum(test["result"]["passed"] for file in made.values() for test in file["tests"]) == 134
    del made["basic.json"]["tests"][0]["result"]["passed"]
    assert not jsonschema_rs.is_valid(schema, made)


def test_a_wrong_answer_is_found() -> None:
    """The comparison itself: what differs from what is expected is a fault, whatever differs."""
    suite = SUITES["basic.json"]
    case = copy.deepcopy(suite["tests"][1])
    case["expect"][0]["active"] = 1
    assert "rows are" in sql_on_fhir.fault(suite, case), "true is not 1"
    assert sql_on_fhir.fault(suite, {**suite["tests"][0], "expectColumns": ["other"]}) == "columns are ['id']"
    assert sql_on_fhir.fault(suite, {"view": case["view"], "expectError": True})
    assert sql_on_fhir.fault(suite, {"view": case["view"], "expectCount": 2}) == "there are 3 rows"
    assert sql_on_fhir.fault(suite, {"view": {}, "expect": []}).startswith("view-invalid")
