"""Whatever comes in, a view ends in rows of its types or in a finding: never in a crash, and never in another value."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import DataUnusable
from consilium.data.fhir import arrow, strict
from consilium.data.fhir.views import compile_view
from property.resources import JSON, PATIENT

COLUMNS = [
    ("a", "string", "b.first()"), ("number", "decimal", "value.ofType(decimal) * 10"), ("whole", "integer", "a"),
    ("low", "date", "b.lowBoundary()"), ("given", "string", "name.given"), ("x", None, "value"),
    ("key", "string", "b.getReferenceKey(Patient)"), ("yes", "boolean", "a = b or value < 3"),
    ("joined", "string", "name.given.join('-')"),
]  # fmt: skip
COUNTED = {
    "resource": "Patient", "where": [{"path": "active or a.empty()"}],
    "select": [
        {"column": [{"name": name, "path": path, **({"type": kind} if kind else {})} for name, kind, path in COLUMNS]},
        {"forEachOrNull": "name", "column": [{"name": "family", "path": "family", "type": "string"}]},
        {"repeat": ["contact", "a"], "column": [{"name": "at", "path": "%rowIndex", "type": "integer"}]},
        {"unionAll": [{"forEach": "telecom", "column": [{"name": "t", "path": "value", "type": "string"}]},
                      {"column": [{"name": "t", "path": "gender", "type": "string"}]}]},
    ],
}  # fmt: skip
ALONE = {**COUNTED, "select": COUNTED["select"][1:]}
NAMES = st.sampled_from(["a", "b", "active", "name", "telecom", "contact", "value", "valueDecimal", "gender"])
ANY = st.builds(lambda rest, more: {**rest, **more}, PATIENT, st.dictionaries(NAMES, JSON, max_size=4))


def table(view: dict[str, Any], *lines: bytes) -> pa.Table | None:
    """The rows of lines, or None where there is a finding."""
    compiled = compile_view(view)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.ndjson"
        path.write_bytes(b"\n".join(lines))
        try:
            return pa.Table.from_batches(arrow.batches(compiled, path), arrow.schema(compiled))
        except DataUnusable as error:
            assert "p.ndjson" in error.message and error.remedy
            return None


@settings(max_examples=120)
@given(st.sampled_from([COUNTED, ALONE]), ANY)
@example(ALONE, {"resourceType": "Patient", "name": [{"family": "\ud800"}]})
@example(COUNTED, {"resourceType": "Patient", "valueDecimal": 10**400})
@example(COUNTED, {"resourceType": "Patient", "valueDecimal": 1.7e308, "a": 2**40})
def test_any_json(view: dict[str, Any], resource: dict[str, Any]) -> None:
    found = table(view, json.dumps(resource).encode())
    if found is not None:
        found.validate(full=True)


@settings(max_examples=80)
@given(PATIENT, st.data())
def test_bytes_that_were_altered(resource: dict[str, Any], data: st.DataObject) -> None:
    line = bytearray(json.dumps(resource).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    found = table(ALONE, bytes(line), b'{"resourceType":"Patient","gender":"sound"}')
    assert found is None or found.num_rows >= 0


@settings(max_examples=40)
@given(st.lists(PATIENT, max_size=5), st.lists(PATIENT, max_size=5))
def test_rows_of_files_together_are_those_of_each(one: list[Any], other: list[Any]) -> None:
    first, second, both = (
        table(ALONE, *(json.dumps(resource).encode() for resource in every)) for every in (one, other, [*one, *other])
    )
    if first is None or second is None:
        assert both is None
    else:
        assert both is not None and both.to_pylist() == first.to_pylist() + second.to_pylist()


PAIRS = st.recursive(
    st.none() | st.integers(0, 20) | st.sampled_from([0.5, 1e30, "a", ":", '"a":1', "\u00e9"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.lists(st.tuples(st.sampled_from("ab:"), inner), max_size=3).map(tuple)
    ),
    max_leaves=8,
)
"""JSON, of which an object is a tuple of names and values, and may have a name twice."""


def _written(value: Any, colon: str) -> str:
    if type(value) is tuple:
        return "{" + ",".join(json.dumps(name) + colon + _written(one, colon) for name, one in value) + "}"
    if type(value) is list:
        return "[" + ",".join(_written(one, colon) for one in value) + "]"
    return json.dumps(value, ensure_ascii=colon != ":")


def _twice(value: Any) -> bool:
    names = [name for name, _ in value] if type(value) is tuple else []
    inner = [one for _, one in value] if type(value) is tuple else value if type(value) is list else []
    return len(set(names)) < len(names) or any(map(_twice, inner))


@settings(max_examples=80)
@given(PAIRS, st.sampled_from([":", " : "]), st.sampled_from(["", "\n", " \r\n"]))
@example((("a", 1), ("a", ((":", 2),))), ":", "")
def test_a_name_that_stands_twice_is_found_however_it_is_written(value: Any, colon: str, end: str) -> None:
    try:
        strict.Decoder(exact=False).decode((_written(value, colon) + end).encode())
    except strict.Twice:
        assert _twice(value)
    else:
        assert not _twice(value)
