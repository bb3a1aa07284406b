"""Views: what is refused before anything is read, and what data that do not fit end in."""

import gzip
import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from consilium.core.errors import DataUnusable, ViewInvalid
from consilium.data.fhir import arrow, definition, ndjson
from consilium.data.fhir.views import ACCEPTED, TEXT, compile_view


def view(*columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"resource": "Patient", "select": [{"column": list(columns)}], **more}


def column(path: str, kind: str | None = "string", name: str = "c", **more: Any) -> dict[str, Any]:
    return {"name": name, "path": path, **({"type": kind} if kind else {}), **more}


def values(given: Any, *resources: dict[str, Any]) -> list[Any]:
    every = [{"resourceType": "Patient", **resource} for resource in resources]
    made = compile_view(given)
    return [
        value for batch in made.batches([list(enumerate(every, 1))], "p.ndjson line") for value in batch.columns["c"]
    ]


def write(path: Path, *lines: bytes) -> Path:
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


WRONG = [
    (view(column("id"), column("gender")), "column c stands twice"),
    (view(column("id", name="a-b")), "select.0.column.0.name"),
    (view(column("id"), select=[]), "select"),
    ({"resource": "Patient", "select": [{"column": [], "each": "name"}]}, "there is no column"),
    (view({**column("id"), "pth": "x"}), "select.0.column.0.pth"),
    (view(column("name.given.frist()")), "did you mean first"),
    (view(column("id.matches('a')")), "outside of the subset"),
    (view(column("name.where()")), "where\\(\\) takes 1"),
    (view(column("4 'g'")), "is not expected"),
    (view(column("value is Quantity")), "is not expected"),
    (view(column("(" * 70 + "id" + ")" * 70)), "nests too deeply"),
    (view(column("a" * 300_000)), "300000 characters"),
    (view(column("%ages"), constant=[{"name": "age", "valueInteger": 1}]), "did you mean %age"),
    (view(column("id"), constant=[{"name": "a", "valueInteger": "1"}]), "constant a"),
    (view(column("id"), constant=[{"name": "a", "valueDate": "2018-13"}]), "constant a: is no date"),
    (view(column("id"), constant=[{"name": "rowIndex", "valueInteger": 1}]), "constant.0.name"),
    (view(column("extension(url)")), "URL of the extension"),
    (view(column("value.ofType('x')")), "name of a FHIR type"),
    (
        {"resource": "Patient", "select": [{"forEach": "name", "repeat": ["name"], "column": [column("use")]}]},
        "exclude",
    ),
    ("text", "the definition"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_what_is_wrong_with_a_view_is_said_before_anything_is_read(given: Any, said: str) -> None:
    with pytest.raises(ViewInvalid, match=said) as raised:
        compile_view(given)
    assert raised.value.remedy


def test_selects_that_nest_for_ever_are_refused() -> None:
    inner: dict[str, Any] = {"column": [column("id")]}
    for _ in range(2000):
        inner = {"select": [inner]}
    with pytest.raises(ViewInvalid, match="too deeply"):
        compile_view({"resource": "Patient", "select": [inner]})


MISFITS = [
    (column("birthDate", "integer"), {"birthDate": "1970-01-01"}, "no integer"),
    (column("multipleBirth.ofType(integer)", "integer"), {"multipleBirthInteger": 1.5}, "no integer"),
    (column("active", "boolean"), {"active": "true"}, "no boolean"),
    (column("active", "integer"), {"active": True}, "no integer"),
    (column("name", "string"), {"name": [{"family": "SECRET"}]}, "no string"),
    (column("gender", "code"), {"gender": 1}, "no code"),
    (column("name.family"), {"name": [{"family": "SECRET"}, {"family": "b"}]}, "several values"),
    (column("name.given", "integer", collection=True), {"name": [{"given": ["SECRET"]}]}, "no integer"),
    (column("gender < 5", "boolean"), {"gender": "SECRET"}, "cannot be compared"),
    (column("gender + 5"), {"gender": "SECRET"}, "no numbers"),
    (column("value.ofType(decimal) * 10", "decimal"), {"valueDecimal": 1.7e308}, "too large"),
    (column("name.getReferenceKey()"), {"name": ["SECRET"]}, "no Reference"),
]


@pytest.mark.parametrize(("given", "resource", "said"), MISFITS)
def test_data_that_do_not_fit_end_in_a_finding_with_its_line_and_no_value(
    given: dict[str, Any], resource: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataUnusable, match=said) as raised:
        values(view(given), {}, resource)
    assert "p.ndjson line 2" in str(raised.value) and "SECRET" not in str(raised.value)
    assert raised.value.remedy


def test_of_several_faults_the_first_is_told(tmp_path: Path) -> None:
    given = view(column("gender + 5", name="a"), column("birthDate + 5", name="b"))
    day, text, broken = ({"birthDate": "1970"}, {"gender": "male"}, "{")
    for order, said in (((day, text, broken), 2), ((text, day, broken), 2), ((broken, day, text), 2)):
        lines = [one if one is broken else json.dumps({"resourceType": "Patient", **one}) for one in order]
        path = write(tmp_path / "p.ndjson", PERSON, *(line.encode() for line in lines))
        with pytest.raises(DataUnusable, match=f"line {said}: {'is no JSON' if order[0] is broken else 'Patient has'}"):
            list(arrow.batches(compile_view(given), path))


VALUES = ["a", "", 1, 0, 1.5, True, False, [], ["a"], {}, {"a": 1}, Decimal("1.5"), 2**70]


@pytest.mark.parametrize("kind", ["string", "boolean"])
def test_arrow_takes_what_a_column_takes_and_nothing_else(kind: str) -> None:
    """So that one of both looks at the values (`arrow.STRICT`)."""
    accepted = ACCEPTED.get(kind, TEXT)
    for value in VALUES:
        for before in ([], [None], [True if kind == "boolean" else "a"]):
            try:
                taken = pa.array([*before, value], arrow.TYPES.get(kind, pa.string())) is not None
            except arrow.MISFITS:
                taken = False
            assert taken == (type(value) in accepted), value


def test_a_repeat_without_an_end_is_a_finding() -> None:
    given = {"resource": "Patient", "select": [{"repeat": ["$this"], "column": [column("id")]}]}
    with pytest.raises(DataUnusable, match="no end"):
        values(given, {"id": "a"})


def test_numbers_keep_their_digits_where_a_view_asks_for_them(tmp_path: Path) -> None:
    given = view(column("extension('u').value.ofType(decimal).lowBoundary()", "decimal"))
    path = write(tmp_path / "p.ndjson", b'{"resourceType":"Patient","extension":[{"url":"u","valueDecimal":1.50}]}')
    (batch,) = arrow.batches(compile_view(given), path)
    assert batch.to_pydict() == {"c": [1.495]}


def test_arithmetic_is_decimal() -> None:
    assert values(view(column("1.8 - 1.2", "decimal")), {}) == [0.6]


def test_true_is_not_1() -> None:
    every = [{"active": True}, {"active": False}]
    assert values(view(column("active = 1", "boolean")), *every) == [False, False]
    assert values(view(column("(active | 1).count() = 2", "boolean")), *every) == [True, True]


def test_a_day_is_a_date_where_its_element_always_is_one() -> None:
    assert values(view(column("birthDate.lowBoundary()")), {"birthDate": "1970-06"}) == ["1970-06-01"]
    start = {"name": [{"period": {"start": "1970-06"}}]}
    assert values(view(column("name.period.start.lowBoundary()")), start) == ["1970-06-01T00:00:00.000+14:00"]


def test_the_ends_of_a_time_are_those_of_each_columns_own_type_though_paths_are_alike() -> None:
    path = "extension('u').value.select($this.lowBoundary())"
    day, moment = (column(path, kind, name) for kind, name in (("date", "day"), ("dateTime", "c")))
    given = {"extension": [{"url": "u", "valueString": "1970-06"}]}
    for columns in ((day, moment), (moment, day)):
        assert values(view(*columns), given) == ["1970-06-01T00:00:00.000+14:00"]


def test_codes_of_a_contract_by_constants_and_sets() -> None:
    path = "name.where(use in ('official' | 'usual')).family.first()"
    assert values(view(column(path)), {"name": [{"use": "old", "family": "a"}, {"use": "usual", "family": "b"}]}) == [
        "b"
    ]


PERSON = b'{"resourceType":"Patient","id":"p1"}'
BROKEN = [
    (b'{"resourceType":"Patient","id":"p', "line 2: is no JSON"),
    (b"[1]", "line 2: is no FHIR resource"),
    (b'{"id":"SECRET"}', "line 2: is no FHIR resource"),
    (b'{"resourceType":"Patient","id":"\xff"}', "line 2: is no JSON"),
    (b"SECRET,SECRET", "line 2: is no JSON"),
    (b'{"resourceType":"Patient","a":' + b"[" * 100_000, "line 2: is no JSON"),
    (b'{"resourceType":"Patient","a":NaN}', "line 2: is no JSON"),
    (PERSON + PERSON, "line 2: is no JSON"),
    (
        b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"SECRET"}}]}',
        "line 2: is a Bundle",
    ),
    (b'{"resourceType":"OperationOutcome","issue":[{"severity":"error"}]}', "line 2: the server reports an error"),
]


@pytest.mark.parametrize(("line", "said"), BROKEN)
@pytest.mark.parametrize(("name", "kind"), [("p.ndjson", ""), ("p.ndjson.gz", "Patient")])
def test_broken_lines_end_in_a_finding(tmp_path: Path, name: str, kind: str, line: bytes, said: str) -> None:
    path = write(tmp_path / name, PERSON, line, PERSON)
    with pytest.raises(DataUnusable, match=said) as raised:
        list(ndjson.resources(path, kind=kind))
    assert name in str(raised.value) and "SECRET" not in str(raised.value)


def test_half_a_download_is_found_wherever_it_was_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "p.ndjson.gz", *[PERSON] * 20)
    whole = path.read_bytes()
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataUnusable):
            list(ndjson.resources(path))
    plain = write(tmp_path / "p.ndjson", PERSON, PERSON).read_bytes()
    (tmp_path / "p.ndjson").write_bytes(plain[:-5])
    with pytest.raises(DataUnusable, match="line 2"):
        list(ndjson.resources(tmp_path / "p.ndjson"))


def test_a_folder_is_read_file_by_file_in_order(tmp_path: Path) -> None:
    write(tmp_path / "b.ndjson", b'{"resourceType":"Patient","id":"2"}')
    write(tmp_path / "a.ndjson.gz", b'{"resourceType":"Patient","id":"1"}', b"", b'{"resourceType":"Group","id":"g"}')
    (tmp_path / "log.txt").write_text("no resource")
    made = compile_view(view(column("getResourceKey()", None)))
    table = pa.Table.from_batches(arrow.batches(made, tmp_path))
    assert table.to_pydict() == {"c": ["1", "2"]} and table.schema.field("c").type == pa.string()
    with pytest.raises(DataUnusable, match="no FHIR resources"):
        list(arrow.batches(made, tmp_path / "none"))


def test_arrow_types(tmp_path: Path) -> None:
    given = view(
        column("active", "boolean", "b"), column("multipleBirth.ofType(integer)", None, "i"),
        column("multipleBirth.ofType(integer) / 2", "decimal", "d"), column("birthDate", "date", "t"),
        column("name.given", "string", "g", collection=True),
    )  # fmt: skip
    line = {"resourceType": "Patient", "active": False, "multipleBirthInteger": 3, "birthDate": "1970-01"}
    path = write(tmp_path / "p.ndjson", json.dumps(line).encode(), PERSON)
    (batch,) = arrow.batches(compile_view(given), path)
    assert batch.to_pydict() == {
        "b": [False, None], "i": [3, None], "d": [1.5, None], "t": ["1970-01", None], "g": [[], []],
    }  # fmt: skip
    types = [pa.bool_(), pa.int32(), pa.float64(), pa.string(), pa.list_(pa.string())]
    assert [field.type for field in batch.schema] == types
    path = write(tmp_path / "q.ndjson", json.dumps({**line, "multipleBirthInteger": 2**40}).encode())
    with pytest.raises(DataUnusable, match="no int32"):
        list(arrow.batches(compile_view(given), path))


def test_memory_is_bounded_by_a_batch(tmp_path: Path) -> None:
    made = compile_view(view(column("id", "id"), column("name.family.first()", name="f")))
    line = b'{"resourceType":"Patient","id":"p","name":[{"family":"' + b"x" * 500 + b'"}]}'
    peaks = []
    for count in (2_000, 20_000):
        path = write(tmp_path / f"{count}.ndjson", *[line] * count)
        tracemalloc.start()
        assert sum(batch.num_rows for batch in arrow.batches(made, path, size=500)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], "ten times the rows, not ten times the memory"


def test_a_definition_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps({"resourceType": "ViewDefinition", **view(column("id"))}))
    assert compile_view(definition.load(tmp_path / "v.json")).columns[0].name == "c"
    (tmp_path / "w.json").write_text("{")
    for name in ("w.json", "none.json"):
        with pytest.raises(ViewInvalid, match=name):
            definition.load(tmp_path / name)
