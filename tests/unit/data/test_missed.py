"""Patients whom a query leaves out in silence are counted, whatever it looks like and wherever its tables stand."""

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import create_engine

from consilium.core.gate import Gate
from consilium.data import joined, memory, missed, quality, tables
from consilium.data.base import Asked, Missed, Rows
from consilium.data.source import TableSource

PERSONS = [(str(nr), "J" if nr % 7 == 0 else None if nr % 2 else "N") for nr in range(1, 101)]
"""100 persons; of 14 `consent` says J, of 43 nothing, and of the others N."""
LAB = [(str(nr), 5.0 + visit) for nr in range(1, 61) for visit in (0, 1)]
TABLES = "CREATE TABLE Persons (Nr TEXT, consent TEXT); CREATE TABLE Lab (Nr TEXT, v REAL);"
CASES = [
    ("SELECT Nr, consent FROM Persons", 0),
    ("SELECT p.Nr AS nr, p.consent FROM Persons AS p WHERE consent <> 'J'", 14 + sum(c is None for _, c in PERSONS)),
    ("SELECT p.Nr AS nr FROM Persons p WHERE coalesce(p.consent, '') <> 'J'", 14),
    ("SELECT p.Nr, max(v) AS v FROM Persons p JOIN Lab l ON l.Nr = p.Nr GROUP BY p.Nr", 40),
    ("SELECT p.Nr, max(v) AS v FROM Persons p LEFT JOIN Lab l ON l.Nr = p.Nr GROUP BY p.Nr", 0),
    ("SELECT l.Nr, max(v) AS v FROM Persons p JOIN Lab l ON l.Nr = p.Nr GROUP BY l.Nr", 0),
    ("WITH few AS (SELECT Nr AS who FROM Persons WHERE consent = 'N') SELECT trim(who) AS nr FROM few",
     100 - sum(c == "N" for _, c in PERSONS)),
    ("SELECT * FROM Persons WHERE consent = 'N'", 100 - sum(c == "N" for _, c in PERSONS)),
    ("SELECT 'x' || Nr AS nr FROM Lab UNION SELECT Nr FROM Persons", 0),
]  # fmt: skip


def of(query: str, source: Any) -> Missed | None:
    asked = Asked(columns=frozenset(("Nr", "nr", "v")), without=("nr" if " AS nr" in query else "Nr", frozenset()))
    source.told(asked)
    found = [note for note in source.rows().doubts if isinstance(note, Missed)]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ward")
    with sqlite3.connect(made / "w.sqlite") as lite:
        lite.executescript(TABLES)
        lite.executemany("INSERT INTO Persons VALUES (?, ?)", PERSONS)
        lite.executemany("INSERT INTO Lab VALUES (?, ?)", LAB)
    with duckdb.connect(str(made / "w.duckdb")) as duck:
        duck.execute(TABLES)
        duck.executemany("INSERT INTO Persons VALUES (?, ?)", PERSONS)
        duck.executemany("INSERT INTO Lab VALUES (?, ?)", LAB)
        for table in ("Persons", "Lab"):
            duck.execute(f"COPY {table} TO '{made / table}.parquet'")
    return made


def given(kind: str, query: str) -> dict[str, Any]:
    parquet = {name: {"type": "parquet", "path": f"{name}.parquet"} for name in ("Persons", "Lab")}
    where: dict[str, Any] = {
        "sqlite": {"type": "sql", "url": "sqlite:///w.sqlite"}, "duckdb": {"type": "sql", "path": "w.duckdb"},
        "tables": {"type": "tables", "tables": parquet},
    }[kind]  # fmt: skip
    return {**where, "query": query}


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "tables"])
def test_whom_a_query_leaves_out_is_counted(folder: Path, kind: str) -> None:
    make = joined.JoinedSource if kind == "tables" else tables.SqlSource
    for query, count in CASES:
        found = of(query, make(TableSource.model_validate(given(kind, query)), folder))
        assert (found.patients if found else 0) == count, query
        assert found is None or (found.of, found.column.casefold()) == (100, "persons.nr"), query


def test_who_opted_out_is_left_out_by_the_list_and_not_by_the_query(folder: Path) -> None:
    source = tables.SqlSource(TableSource.model_validate(given("sqlite", "SELECT Nr FROM Persons")), folder)
    source.told(Asked(columns=frozenset(("Nr",)), without=("Nr", frozenset(("3", "4")))))
    rows = source.rows()
    assert (rows.left_out, len(rows)) == (2, 98) and not [one for one in rows.doubts if isinstance(one, Missed)]


def test_where_no_key_is_named_or_no_table_is_known_nothing_is_told(folder: Path) -> None:
    with create_engine(f"sqlite:///{folder / 'w.sqlite'}").connect() as connection, memory.opened() as parser:
        ask, rows = missed.of_url(connection), Rows({"Nr": ["1"]})
        for key, database in (("", "sqlite"), ("Nr", "mysql")):
            assert missed.missed(parser, "SELECT Nr FROM Persons", rows, key, database, ask) is None


@pytest.mark.parametrize(("patients", "word"), [(7, "<10"), (97, "97")])
def test_it_is_a_note_with_small_counts_hidden(patients: int, word: str) -> None:
    found = quality._missed(Missed("Persons.Nr", patients, 194), Gate())
    assert f"leaves out {word} of 194 patients of Persons.Nr" in found.words and "coalesce" in found.remedy
    assert not found.blocks
