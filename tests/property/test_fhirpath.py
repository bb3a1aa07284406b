"""Laws of compiled paths: chains together are chains alone, and ours answers as another FHIRPath does."""

from decimal import Decimal
from typing import Any

import fhirpathpy
from fhirpathpy.models import models
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import ViewInvalid
from consilium.data.fhir.chains import gather
from consilium.data.fhir.paths import FUNCTIONS, OPERATORS, Scope, compile_path
from consilium.data.fhir.steps import Made, Typed, along, where_text
from consilium.data.fhir.values import Mismatch, items
from property.resources import JSON, PATHS, PATIENT

MADE = [Made("count()", lambda value: len(items(value))), Made("where(a = 'a')", where_text("a", "a"))]
KEYS = st.sampled_from(
    ["a", "b", "value", "valueString", 0, 1, Typed("value", "string"), Typed("value", "Quantity"), *MADE]
)


@settings(max_examples=200)
@given(st.lists(JSON, max_size=4), st.lists(st.lists(KEYS, max_size=4).map(tuple), min_size=1, max_size=6))
@example([[{"a": 1}]], [("a",), (0, "a")])
@example([{"value": "x"}], [("valueString", 0), (Typed("value", "string"), 0)])
@example([{"a": [None, {"b": 1}]}], [("a", "b"), ("a", 0), ("a",)])
@example([{"a": 1}, [{"a": 2}, {"a": 3}]], [("a",), ("a", 0)])
@example([[None]], [(), ("a",)])
def test_chains_together_find_what_each_finds_alone(nodes: list[Any], chains: list[tuple[Any, ...]]) -> None:
    assert gather(chains)(nodes) == [[along(keys)(node) for node in nodes] for keys in chains]


def _ours(path: str, resource: Any) -> Any:
    try:
        return [_plain(item) for item in items(compile_path(path, Scope()).run(resource))]
    except Mismatch:
        return "error"


def _theirs(path: str, resource: Any) -> Any:
    try:
        return [_plain(item) for item in fhirpathpy.evaluate(resource, path, {}, models["r4"])]
    except Exception:
        return "error"


def _plain(item: Any) -> Any:
    if type(item) in (int, float, Decimal):
        return round(float(item), 9)
    return item


@settings(max_examples=120)
@given(PATIENT, PATHS)
def test_ours_answers_as_another_does(resource: dict[str, Any], path: str) -> None:
    assume(not ("mod" in path and "-" in path))  # theirs has the sign of the divisor, as Python's has
    assert _ours(path, resource) == _theirs(path, resource), path


def test_a_remainder_is_that_of_the_truncated_division() -> None:
    assert [_ours(path, {}) for path in ("(0 - 7) mod 2", "7 mod (0 - 2)", "(0 - 7) div 2")] == [[-1], [1], [-3]]


PIECES = st.sampled_from(
    [*FUNCTIONS, *OPERATORS, *"()[]{}.,%'`@$", "name", "1", "1.5", "'a'", "@2018", "%x", "$this", " "]
)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=20), JSON)
def test_whatever_is_written_is_a_path_or_is_refused(text: str, node: Any) -> None:
    try:
        path = compile_path(text, Scope())
    except ViewInvalid as error:
        assert error.message and error.remedy
        return
    try:
        path.run(node)
    except Mismatch as error:
        assert str(error)
