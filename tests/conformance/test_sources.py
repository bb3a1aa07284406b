"""Every kind of source that is installed keeps every law; and each law finds a source that breaks it."""

import itertools
import json
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consilium import plugins
from consilium.data.base import Rows
from consilium.data.source import TableSource
from consilium.testing import sources
from consilium.testing.sources import LAWS
from e2e import omop

GIVEN: dict[str, dict[str, Any]] = {
    "csv": {"path": "t.csv"},
    "parquet": {"path": "t.parquet"},
    "excel": {"path": "t.xlsx"},
    "dicom": {"path": ".", "dicom": {"labels": {"type": "csv", "path": "t.csv"}, "accession": "id"}},
    "sql": {"path": "t.duckdb", "query": "SELECT * FROM t ORDER BY id"},
    "tables": {"tables": {"t": {"type": "csv", "path": "t.csv"}}, "query": "SELECT * FROM t"},
    "fhir": {"path": "t.ndjson", "views": {"patients": "patients.json"}},
    "omop": {
        "path": "cdm.duckdb",
        "omop": {
            "version": "5.4",
            "cohort": {"query": "SELECT person_id, death_date AS cohort_start_date FROM death"},
            "columns": {
                "age": {"family": "age"},
                "visits": {"family": "visit", "window": [None, 0], "take": "count", "none_here": True},
            },
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One table of three patients, in every form."""
    made = tmp_path_factory.mktemp("tables")
    table = {"id": ["p1", "p2", "p3"], "age": [50, None, 61], "ratio": [0.5, 1.0, None], "sick": [True, False, None]}
    pq.write_table(pa.table(table), made / "t.parquet")
    with duckdb.connect(str(made / "t.duckdb")) as database:
        database.execute("CREATE TABLE t AS SELECT * FROM read_parquet(?)", [str(made / "t.parquet")])
        database.execute(f"COPY t TO '{made / 't.csv'}' (HEADER)")
    book = openpyxl.Workbook()
    book.active.append(list(table))
    for row in zip(*table.values()):
        book.active.append(row)
    book.save(made / "t.xlsx")
    resources = [{"resourceType": "Patient", "id": "p1", "active": True}, {"resourceType": "Patient", "id": "p2"}]
    (made / "t.ndjson").write_text("".join(json.dumps(person) + "\n" for person in resources))
    people = [(1, 8532, 1960, 0, 0), (2, 8507, None, 0, 0)]
    omop.small(made / "cdm.duckdb", {"person": people, "death": [(2, "2020-01-01", 0), (1, "2020-02-01", 0)]})
    columns = [{"name": "id", "path": "id"}, {"name": "active", "path": "active", "type": "boolean"}]
    (made / "patients.json").write_text(json.dumps({"resource": "Patient", "select": [{"column": columns}]}))
    return made


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", plugins.names("consilium.sources"))
def test_every_source_keeps_every_law(folder: Path, name: str, law: Any) -> None:
    kind, given = plugins.load("consilium.sources", name), TableSource(type=name, **GIVEN[name])
    law(lambda: kind(given, folder))


class Fixed:
    """A source of these columns."""

    def __init__(self, columns: dict[str, Any], count: int) -> None:
        self.columns, self.number = columns, count

    def count(self) -> int:
        return self.number

    def rows(self) -> Rows:
        return Rows(self.columns)


turn = itertools.count()
WRONG: list[tuple[Any, Any]] = [
    (sources.counts_its_rows, lambda: Fixed({"a": ["1", "2"]}, 3)),
    (sources.counts_its_rows, lambda: Fixed({"a": []}, 0)),
    (sources.gives_columns_of_one_length, lambda: Fixed({"a": ["1"], "b": []}, 1)),
    (sources.gives_columns_of_one_length, lambda: Fixed({"": ["1"]}, 1)),
    (sources.gives_text_or_nothing, lambda: Fixed({"a": [1]}, 1)),
    (sources.gives_text_or_nothing, lambda: Fixed({"a": [float("nan")]}, 1)),
    (sources.gives_the_same_rows_again, lambda: Fixed({"a": [str(next(turn))]}, 1)),
]


@pytest.mark.parametrize(("law", "wrong"), WRONG)
def test_each_law_finds_a_source_that_breaks_it(law: Any, wrong: Any) -> None:
    with pytest.raises(AssertionError):
        law(wrong)


def test_no_law_goes_without_a_source_that_breaks_it() -> None:
    assert {law for law, _ in WRONG} == set(LAWS)
