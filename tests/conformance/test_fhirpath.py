"""The official tests of FHIRPath that lie within the subset."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import fhirpath
from consilium.core.errors import ViewInvalid
from consilium.data.fhir.paths import Scope, compile_path

pytestmark = pytest.mark.skipif(not fhirpath.FOLDER.is_dir(), reason="the official tests of FHIRPath are not here")
COUNTS = {"r4": 471, "r5": 527}
"""Tests within the subset: were it to shrink unseen, tests would fall out of it."""


@pytest.mark.parametrize("release", COUNTS)
def test_official(release: str) -> None:
    counts: Counter[str] = Counter()
    for case in fhirpath.cases(release):
        wrong = fhirpath.fault(release, case)
        assert not wrong, f"{case.name}: {case.expression}: {wrong}"
        counts["outside" if wrong is None else "passed"] += 1
    assert counts["passed"] == COUNTS[release], counts


def test_the_page_names_the_tests_that_lie_outside_though_nothing_refuses_them() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/view-definitions.md").read_text("utf-8")
    assert all(f"`{name}`" in page for name in fhirpath.STRICT)
    assert all(f"{count} of the" in page for count in COUNTS.values())


@pytest.mark.parametrize("path", ["gender.ofType(code)", "value.ofType(Quantiy)", "gender.ofType(string1)",
                                  "iif('yes', 1)", "given.select(hasValue())"])  # fmt: skip
def test_what_json_cannot_tell_or_is_no_type_is_refused(path: str) -> None:
    with pytest.raises(ViewInvalid):
        compile_path(path, Scope())


def test_of_a_choice_json_tells_the_type_by_its_name() -> None:
    found = compile_path("value.ofType(code)", Scope()).run({"valueString": "a"})
    assert found is None
    assert compile_path("value.ofType(code)", Scope()).run({"valueCode": "a"}) == "a"


def test_a_wrong_answer_is_found() -> None:
    case = next(case for case in fhirpath.cases("r4") if case.outputs)
    assert fhirpath.fault("r4", case) == ""
    assert fhirpath.fault("r4", replace(case, outputs=(("integer", "5"),))) == "gives ['4']"
    assert fhirpath.fault("r4", replace(case, invalid="execution")) == "there is no error, but 4"
    assert fhirpath.fault("r4", replace(case, invalid="syntax")) == "it is taken for a path"
    assert fhirpath.fault("r4", replace(case, expression="2.lowest()")) is None, "outside of the subset"
