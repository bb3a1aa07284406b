"""A CSV file that cannot be read: the error names file, line and cause, and none of its values."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource


def refused(folder: Path, data: bytes, **about: Any) -> ConsiliumError:
    (folder / "t.csv").write_bytes(data)
    with pytest.raises(ConsiliumError) as caught:
        CsvSource(TableSource(type="csv", path="t.csv", **about), folder).rows()
    assert caught.value.remedy
    return caught.value


QUOTE = "has a quote that opens and is not closed where its field ends"
FLAWS: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "no letter of Windows": (b"id,age\np1,5\np\x81,6\n", {"encoding": "cp1252"}, "line 3 is not cp1252"),
    "another encoding": ("id,age\np1,5\nMüller,6\n".encode("latin-1"), {}, "line 3 is not utf-8"),
    "too long": (b"id,age\np1,5\np2,6,7\n", {}, "line 3 has 3 fields where the first line has 2"),
    "too short": (b"id,age\np1,5\np2\n", {}, "line 3 has 1 field where the first line has 2"),
    "a title": (b"Export of 2024\nid,age\np1,5\n", {}, "line 2 has 2 fields where the first line has 1"),
    "after a value of two lines": (b'id,age\n"a\nb",5\np2,6,7\n', {}, "line 4 has 3 fields where the first line has 2"),
    "after an empty line": (b"id,age\r\n\r\np2,6,7\r\n", {}, "line 3 has 3 fields where the first line has 2"),
    "never closed": (b'id,age\np1,5\n"p2,6\np3,7\n', {}, f"line 3 {QUOTE}"),
    "closed too late": (b'id,age\n"p1,5\n"p2",6\n', {}, f"line 2 {QUOTE}"),
    "text after a quote": (b'id,age\np1,5\n"p2"x,6\n', {}, f"line 3 {QUOTE}"),
    "too many names": (
        b"p1,5\n", {"header": False, "columns": ("a", "b", "c")}, "line 1 has 2 fields where source.columns names 3"
    ),
    "two ends of lines": (b"id,age\r\np1,5\np2,6\r\n", {}, "line 2 ends otherwise than those before it"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    data, about, words = FLAWS[name]
    error = refused(tmp_path, data, **about)
    assert isinstance(error, DataUnusable) and error.message == f"t.csv: {words}"


@pytest.mark.parametrize("encoding", ["klingon", "cp1250", "UTF8"])
def test_an_encoding_that_is_not_read_is_named_with_those_that_are(tmp_path: Path, encoding: str) -> None:
    error = refused(tmp_path, b"id,age\np1,5\n", encoding=encoding)
    assert isinstance(error, MappingInvalid)
    assert error.message == f"source.encoding: {encoding!r} is none of utf-8, utf-16, latin-1, cp1252"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(st.characters(codec="cp1252", exclude_categories=("Cc", "Cf", "Zs")), min_size=1), min_size=1),
       st.booleans())  # fmt: skip
def test_what_windows_writes_is_read_sign_by_sign(
    tmp_path_factory: pytest.TempPathFactory, towns: list[str], packed: bool
) -> None:
    """€, – and quotes of Word, which are no letters of latin-1; in the names of columns, too."""
    folder = tmp_path_factory.mktemp("windows")
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([("id", "town – €"), *enumerate(towns)])
    data, name = written.getvalue().encode("cp1252"), "t.csv.gz" if packed else "t.csv"
    (folder / name).write_bytes(gzip.compress(data) if packed else data)
    source = CsvSource(TableSource(type="csv", path=name, encoding="cp1252"), folder)
    assert source.rows().columns == {"id": [str(row) for row in range(len(towns))], "town – €": towns}
    assert not [one for one in folder.iterdir() if one.name != name]


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf-16", "latin-1", "Latin-1", "cp1252", "CP1252"])
def test_every_encoding_that_is_named_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("id,town\np1,Zürich\n".encode(encoding))
    source = CsvSource(TableSource(type="csv", path="t.csv", encoding=encoding), tmp_path)
    assert source.rows().columns == {"id": ["p1"], "town": ["Zürich"]}


def too_long(line: bytes) -> bytes:
    return line + b",\xc3\x9f"


def too_short(line: bytes) -> bytes:
    return line.rpartition(b",")[0]


def open_quote(line: bytes) -> bytes:
    return b'"' + line


def other_bytes(line: bytes) -> bytes:
    return b"\xff" + line


CAUSES = {too_long: "has 4 fields", too_short: "has 2 fields", open_quote: QUOTE, other_bytes: "is not utf-8"}
CELL = st.text("ßøłж", min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8), st.sampled_from(sorted(CAUSES, key=str)), st.data()
)
def test_wherever_a_line_is_spoilt_that_line_and_cause_are_named_and_no_value_is(
    tmp_path: Path, cells: list[tuple[str, ...]], spoil: Any, data: st.DataObject
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("id", "age", "note"), *cells])
    lines = out.getvalue().encode().split(b"\n")
    at = data.draw(st.integers(1, len(cells)))
    lines[at] = spoil(lines[at])
    error = refused(tmp_path, b"\n".join(lines))
    assert error.message.startswith(f"t.csv: line {at + 1} ") and CAUSES[spoil] in error.message
    assert not set(str(error)) & set("ßøłж")
