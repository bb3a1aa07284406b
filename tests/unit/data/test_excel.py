"""Workbooks: every cell as Excel showed it, or a finding that says where."""

import re
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pytest

from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.data.base import Asked, Rows
from consilium.data.excel import ExcelSource
from consilium.data.mapping import Mapping
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource, ParquetSource
from unit.data.conftest import MAPPING

HEADER = ("id", "age", "day", "at", "sick")
TABLE: list[tuple[Any, ...]] = [
    ("01", 50.0, date(2020, 2, 29), datetime(2020, 2, 29, 7, 5), True),
    ("2", 0.1, None, None, False),
    ("p3", None, date(1999, 1, 1), datetime(1999, 1, 1), None),
]


def book(path: Path, *rows: tuple[Any, ...], sheet: str = "visits", **others: list[tuple[Any, ...]]) -> Path:
    made = openpyxl.Workbook()
    made.active.title = sheet
    for row in rows:
        made.active.append(row)
    for name, more in others.items():
        page = made.create_sheet(name)
        for row in more:
            page.append(row)
    made.save(path)
    return path


def read(path: Path, *used: str, sheet: str | None = None) -> Rows:
    source = ExcelSource(TableSource(type="excel", path=path.name, sheet=sheet), path.parent)
    source.told(Asked(frozenset(used)))
    found = source.rows()
    assert source.count() == len(found)
    return found


def test_cells_are_as_a_csv_file_would_have_them(tmp_path: Path) -> None:
    found = read(book(tmp_path / "t.xlsx", HEADER, *TABLE, (None,) * 5)).columns
    assert found == {
        "id": ["01", "2", "p3"], "age": ["50", "0.1", None], "day": ["2020-02-29", None, "1999-01-01"],
        "at": ["2020-02-29 07:05:00", None, "1999-01-01"], "sick": ["True", "False", None],
    }  # fmt: skip


def test_a_number_stays_the_number_that_it_is(tmp_path: Path) -> None:
    """To the 15 digits that Excel has."""
    values = [0.1, -2.5e-300, 1e300, 123456789012345, 5e-324, -0.0, 1e15, 999999999999999.0, 2**50, 0.30000000000000004]
    path = book(tmp_path / "t.xlsx", ("x",), *((value,) for value in values))
    assert [float(str(text)) for text in read(path).columns["x"]] == pytest.approx(values, rel=1e-14, abs=0)


def test_percent_is_read_as_it_is_shown(tmp_path: Path) -> None:
    """Excel keeps 0.437 and shows 43.7 %; a sign within a text of the format is none."""
    made = openpyxl.Workbook()
    forms = {"0.0%": "43.7", "[Red]0.00 %;-0.00 %": "43.7", '0.0" %"': "0.437", "General": "0.437", "0.0\\%": "0.437"}
    made.active.append(tuple(forms))
    for value in (0.437, 1, "n.d."):
        made.active.append((value,) * len(forms))
    for row in made.active.iter_rows(min_row=2):
        for cell, form in zip(row, forms):
            cell.number_format = form
    made.save(tmp_path / "t.xlsx")
    found = read(tmp_path / "t.xlsx").columns
    for form, shown in forms.items():
        assert found[form] == [shown, "100" if shown == "43.7" else "1", "n.d."]


def test_values_of_columns_that_are_not_used_are_not_kept(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", ("id", "name"), ("1", "SECRET-NAME"), ("2", "=SECRET"))
    assert read(path, "id") == Rows({"id": ["1", "2"]}, ("name",))
    (tmp_path / "t.csv").write_text("id,name\n1,SECRET-NAME\n2,SECRET\n")
    with duckdb.connect() as made:
        made.execute(f"COPY (FROM read_csv('{tmp_path / 't.csv'}', all_varchar = true)) TO '{tmp_path / 't.parquet'}'")
    every = {"id": ["1", "2"], "name": ["SECRET-NAME", "SECRET"]}
    for used, wanted in (("id", Rows({"id": ["1", "2"]}, ("name",))), ("ID", Rows(every))):
        source = ParquetSource(TableSource(type="parquet", path="t.parquet"), tmp_path)
        source.told(Asked(frozenset({used})))
        assert source.rows() == wanted
    assert CsvSource(TableSource(type="csv", path="t.csv"), tmp_path).count() == source.count() == 2


def test_one_of_several_sheets_is_named(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", ("id",), ("1",), labs=[("id",), ("7",)])
    assert read(path, sheet="labs").columns == {"id": ["7"]}
    for sheet, said in (
        (None, "several sheets; name one of visits, labs"),
        ("lab", "no sheet 'lab'; there are visits"),
    ):
        with pytest.raises(MappingInvalid, match=said):
            read(path, sheet=sheet)


def test_what_a_file_says_of_its_extent_is_not_believed(tmp_path: Path) -> None:
    """A wrong `dimension`, as some programs write it, would cut the table."""
    path = book(tmp_path / "t.xlsx", ("id", "x"), *((str(n), n) for n in range(9)))
    cut = tmp_path / "cut.xlsx"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(cut, "w") as sink:
        for name in source.namelist():
            data = source.read(name)
            sink.writestr(name, re.sub(rb'<dimension ref="[^"]*" ?/>', b'<dimension ref="A1:A4"/>', data))
    assert read(cut) == read(path) and len(read(cut)) == 9


def spoilt(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("id", "x"), ("1", "=SUM(SECRET)")], "cell B2 of visits has a formula whose value was not saved"),
        ([("id", None), ("1", "2")], "does not name every column|beyond the named columns"),
        ([("id", "", "x"), ("1", "2", "3")], "does not name every column"),
        ([], "does not name every column"),
        ([("id", "id"), ("1", "2")], "two columns of one name, the 1st and the 2nd"),
        ([("id",), ("1",), (None,), ("SECRET",)], "row 3 of visits is empty, and others follow"),
        ([("id",), ("1", "SECRET")], "row 2 of visits goes beyond"),
    ],
)
def test_what_is_wrong_is_said_by_its_place(tmp_path: Path, rows: list[tuple[Any, ...]], said: str) -> None:
    with pytest.raises(DataUnusable, match=said) as raised:
        read(book(tmp_path / "t.xlsx", *rows))
    assert "SECRET" not in str(raised.value)


def test_half_a_file_is_a_finding(tmp_path: Path) -> None:
    data = book(tmp_path / "t.xlsx", HEADER, *TABLE * 50).read_bytes()
    for size in range(0, len(data), max(1, len(data) // 12)):
        with pytest.raises(DataUnusable, match="no workbook that can be read"):
            read(spoilt(tmp_path / "half.xlsx", data[:size]))


def test_a_damaged_file_is_read_right_or_a_finding(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", HEADER, *TABLE * 50)
    data, whole = path.read_bytes(), read(path)
    for at in range(10, len(data), max(1, len(data) // 12)):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        try:
            assert read(spoilt(tmp_path / "damaged.xlsx", bytes(damaged))) == whole
        except ConsiliumError as error:
            assert error.remedy


def test_an_error_of_excel_is_no_number(tmp_path: Path) -> None:
    path = book(tmp_path / "t.xlsx", ("x", "t"), ("#N/A", time(7, 30)))
    assert read(path).columns == {"x": ["#N/A"], "t": ["07:30:00"]}


def test_every_column_that_a_mapping_names_is_used() -> None:
    """One that were forgotten would look empty."""
    features = {"age": {"column": "AGE", "unit": "a"}, "sex": "absent"}
    time = {"column": "DAYS", "unit": "d"}
    given = {**MAPPING, "features": features, "label": {"column": "DEAD", "codes": {"1": 1, "0": 0}, "time": time}}
    assert Mapping.model_validate(given).columns == {"id", "AGE", "DEAD", "DAYS"}
