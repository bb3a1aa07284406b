"""The official tests of FHIRPath that lie within the subset."""

from collections import Counter
from dataclasses import replace

import pytest

from conformance import fhirpath

pytestmark = pytest.mark.skipif(not fhirpath.FOLDER.is_dir(), reason="the official tests of FHIRPath are not here")
COUNTS = {"r4": 473, "r5": 529}
"""Tests within the subset: were it to shrink unseen, tests would fall out of it."""
APART = {
    "testSimpleFail": "names of elements are not checked against FHIR's definitions",
    "testSimpleWithWrongContext": "nor is the resource at the head of a path",
    "testPolymorphismB": "valueQuantity is taken for value.ofType(Quantity)",
    "testPolymorphicsB": "valueQuantity is taken for value.ofType(Quantity)",
    "testIif6": "what is no boolean is found in the data, not in the path",
    "testFHIRPathAsFunction16": "JSON does not tell a code from a string",
    "testFHIRPathAsFunction18": "JSON does not tell a code from an id",
    "testFHIRPathAsFunction20": "JSON does not tell a string from a code",
    "testFHIRPathAsFunction24": "names of types are not checked",
    "testPrimitiveExtensions": "a null in JSON that has an extension beside it is no item",
    "testPrimitiveExtensionsElement": "a null in JSON that has an extension beside it is no item",
}
"""What we answer otherwise, and why; the page on view definitions says it in words."""


@pytest.mark.parametrize("release", COUNTS)
def test_official(release: str) -> None:
    counts: Counter[str] = Counter()
    for case in fhirpath.cases(release):
        wrong, apart = fhirpath.fault(release, case), case.name.split("/")[1] in APART
        assert wrong is None or (wrong != "") == apart, f"{case.name}: {case.expression}: {wrong}"
        counts["outside" if wrong is None else "apart" if apart else "passed"] += 1
    assert counts["passed"] == COUNTS[release], counts


def test_a_wrong_answer_is_found() -> None:
    case = next(case for case in fhirpath.cases("r4") if case.outputs)
    assert fhirpath.fault("r4", case) == ""
    assert fhirpath.fault("r4", replace(case, outputs=(("integer", "5"),))) == "gives ['4']"
    assert fhirpath.fault("r4", replace(case, invalid="execution")) == "there is no error, but 4"
    assert fhirpath.fault("r4", replace(case, invalid="syntax")) == "it is taken for a path"
    assert fhirpath.fault("r4", replace(case, expression="2.lowest()")) is None, "outside of the subset"
