"""Patients whom a query leaves out in silence are counted, whatever it looks like and wherever its tables stand."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from consilium.core.gate import Gate
from consilium.data import asking, catalogue, joined, lineage, memory, missed, quality, tables
from consilium.data.base import Asked, Missed, Rows, Unused
from consilium.data.source import TableSource
from consilium.data.tree import Undecided

PERSONS = [(str(nr), "J" if nr % 7 == 0 else None if nr % 2 else "N") for nr in range(1, 101)]
"""100 persons; of 14 `consent` says J, of 43 nothing, and of the others N."""
LAB = [(str(nr), 5.0 + visit) for nr in range(1, 61) for visit in (0, 1)]
TABLES = (
    "CREATE TABLE Persons (Nr TEXT, consent TEXT); CREATE TABLE Lab (Nr TEXT, v REAL);"
    "CREATE TABLE Moved (old TEXT, new TEXT); INSERT INTO Moved VALUES ('98', '1');"
)
"""One person of J, 98, has become 1."""
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
    ("SELECT CAST(trim(p.Nr) AS BIGINT) AS nr FROM Persons p WHERE consent = 'N'", 57),
    ("SELECT coalesce(m.new, p.Nr) AS nr FROM Persons p LEFT JOIN Moved m ON m.old = p.Nr WHERE consent = 'N' "
     "GROUP BY coalesce(m.new, p.Nr)", 56),
    ("WITH p AS (SELECT * FROM Persons WHERE consent = 'N') "
     "SELECT coalesce(m.new, p.Nr) AS nr FROM p LEFT JOIN Moved m ON m.old = p.Nr", 56),
    ("WITH k AS (SELECT old, new FROM Moved), who AS (SELECT coalesce(new, Nr) AS one, consent FROM Persons "
     "LEFT JOIN k ON old = Nr), few AS (SELECT w.one, max(v) AS v FROM who w JOIN Lab ON Lab.Nr = w.one GROUP BY 1) "
     "SELECT upper(one) AS nr, v FROM few", 39),
    ("SELECT nr FROM (SELECT upper(Nr) AS nr FROM Persons UNION ALL SELECT lower(Nr) FROM Lab) AS u WHERE nr LIKE '1%'",
     88),
    ("WITH RECURSIVE m AS (SELECT old, new FROM Moved UNION ALL SELECT m.old, o.new FROM m JOIN Moved o ON o.old = "
     "m.new), p AS (SELECT * FROM Persons WHERE consent = 'N') "
     "SELECT coalesce(m.new, p.Nr) AS nr FROM p LEFT JOIN m ON m.old = p.Nr", 56),
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
        for table in ("Persons", "Lab", "Moved"):
            duck.execute(f"COPY {table} TO '{made / table}.parquet'")
    return made


def given(kind: str, query: str) -> dict[str, Any]:
    parquet = {name: {"type": "parquet", "path": f"{name}.parquet"} for name in ("Persons", "Lab", "Moved")}
    where: dict[str, Any] = {
        "sqlite": {"type": "sql", "url": "sqlite:///w.sqlite"}, "duckdb": {"type": "sql", "path": "w.duckdb"},
        "tables": {"type": "tables", "tables": parquet},
    }[kind]  # fmt: skip
    return {**where, "query": query}


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "tables"])
def test_whom_a_query_leaves_out_is_counted(folder: Path, kind: str) -> None:
    make = joined.JoinedSource if kind == "tables" else tables.SqlSource
    for query, count in CASES[::2] if kind == "duckdb" else CASES:
        found = of(query, make(TableSource.model_validate(given(kind, query)), folder))
        assert (found.patients if found else 0) == count, query
        whole = 99 if "new" in query else 100
        assert found is None or (found.of, found.column.casefold()) == (whole, "persons.nr"), query


@settings(max_examples=15, deadline=None)
@drawn(st.data())
def test_however_the_key_is_made_the_same_patients_are_missed(folder: Path, data: st.DataObject) -> None:
    """Layers of WITH and of subqueries, each of which makes something of the key, and one of which leaves some out."""
    made = ("{}", "trim({})", "upper({})", "CAST({} AS BIGINT)", "lpad(CAST({} AS VARCHAR), 9, '0')",
            "coalesce({}, 'x' || consent)")  # fmt: skip
    kinds = st.sampled_from(("with", "from", "star"))
    layers = data.draw(st.lists(st.tuples(st.sampled_from(made), kinds), max_size=4))
    at, ctes, source, key = data.draw(st.integers(0, len(layers))), list[str](), "Persons", "Nr"
    for number, (expression, kind) in enumerate(layers):
        text = key if "BIGINT" in expression else f"CAST({key} AS VARCHAR)"
        where, rest = " WHERE consent = 'N'" * (number == at), "*" if kind == "star" else "consent"
        query = f"SELECT {expression.format(text)} AS k{number}, {rest} FROM {source}{where}"
        source, key = f"c{number}" if kind == "with" else f"({query}) AS s{number}", f"k{number}"
        ctes += [f"c{number} AS ({query})"] if kind == "with" else []
    where = " WHERE consent = 'N'" * (at == len(layers))
    query = f"{'WITH ' * bool(ctes)}{', '.join(ctes)} SELECT {key} AS nr, consent FROM {source}{where}"
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as duck:
        rows = asking.rows_of(["nr", "consent"], duck.execute(query).fetchall())
        found = missed.missed(duck, query, rows, "nr", catalogue.of_duckdb(duck))
    assert found == Missed("Persons.Nr", 57, 100), query


def test_a_sample_leaves_patients_out_too(folder: Path) -> None:
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as duck:
        for query in ("SELECT Nr FROM Persons TABLESAMPLE reservoir(10)", "SELECT Nr FROM Persons USING SAMPLE 10 ROWS",
                      "SELECT coalesce(m.old, p.Nr) AS Nr FROM (SELECT * FROM Persons TABLESAMPLE reservoir(10)) AS p "
                      "LEFT JOIN Moved m ON m.old = p.Nr"):  # fmt: skip
            rows = asking.rows_of(["Nr"], duck.execute(query).fetchall())
            found = missed.missed(duck, query, rows, "Nr", catalogue.of_duckdb(duck))
            assert found is not None and (found.patients, found.of) == (90, 100), query


@pytest.mark.parametrize("made", ["SELECT nr FROM {0} UNION ALL SELECT nr FROM {0}", "FROM {0} UNION ALL FROM {0}",
                                  "SELECT nr || nr AS nr FROM {0}"])  # fmt: skip
def test_a_query_that_grows_without_end_as_it_is_followed_is_left_soon(folder: Path, made: str) -> None:
    layers = ", ".join(f"k{n} AS ({made.format(f'k{n - 1}')})" for n in range(1, 25))
    query = f"WITH k0 AS (SELECT Nr AS nr FROM Persons), {layers} SELECT nr FROM k24"
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as duck:
        before = time.process_time()
        with pytest.raises(Undecided):
            missed.missed(duck, query, Rows({"nr": ["1"]}), "nr", catalogue.of_duckdb(duck))
        assert time.process_time() - before < 5


def test_who_opted_out_is_left_out_by_the_list_and_not_by_the_query(folder: Path) -> None:
    source = tables.SqlSource(TableSource.model_validate(given("sqlite", "SELECT Nr FROM Persons")), folder)
    source.told(Asked(columns=frozenset(("Nr",)), without=("Nr", frozenset(("3", "4")))))
    rows = source.rows()
    assert (rows.left_out, len(rows)) == (2, 98) and not [one for one in rows.doubts if isinstance(one, Missed)]


def test_where_no_key_is_named_or_no_table_is_known_nothing_is_told(folder: Path) -> None:
    with create_engine(f"sqlite:///{folder / 'w.sqlite'}").connect() as connection, memory.opened() as parser:
        known, rows = catalogue.of_url(connection), Rows({"Nr": ["1"]})
        for key, database in (("", "sqlite"), ("Nr", "mysql")):
            of_it = replace(known, database=database)
            assert missed.missed(parser, "SELECT Nr FROM Persons", rows, key, of_it) is None


def test_where_the_key_cannot_be_followed_it_is_said(folder: Path) -> None:
    query = "SELECT unnest(list(Nr)) AS Nr FROM Persons"
    source = joined.JoinedSource(TableSource.model_validate(given("tables", query)), folder)
    source.told(Asked(columns=frozenset(("Nr",)), without=("Nr", frozenset())))
    assert [one for one in source.rows().doubts if not isinstance(one, Unused)] == [missed.UNKNOWN]


@pytest.mark.parametrize(("database", "told"), [
    ("postgresql", "SELECT DISTINCT btrim(Nr) AS v FROM Persons"),
    ("sqlite", 'SELECT DISTINCT "trim"(Nr) AS v FROM Persons'),
])  # fmt: skip
def test_functions_are_written_as_each_database_calls_them(folder: Path, database: str, told: str) -> None:
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as duck:
        known = replace(catalogue.of_duckdb(duck), database=database)
        made = lineage.Lineage(duck, "WITH k AS (SELECT trim(Nr) AS nr FROM Persons p) SELECT nr FROM k", known)
        assert made.asked(*made.of_answer("nr")) == told


@pytest.mark.parametrize(("patients", "word"), [(7, "<10"), (97, "97")])
def test_it_is_a_note_with_small_counts_hidden(patients: int, word: str) -> None:
    found = quality._missed(Missed("Persons.Nr", patients, 194), Gate())
    assert f"leaves out {word} of 194 patients of Persons.Nr" in found.words and "coalesce" in found.remedy
    assert not found.blocks
