"""Rows that were taken back, in a word that the query does not name, are counted where the answer hangs on them."""

import sqlite3
from typing import Any

import duckdb
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from consilium.data import cancelled, catalogue
from consilium.data.asking import Answer
from consilium.data.base import Seen

READ = (
    "SELECT p.nr, sum(l.v) AS v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr GROUP BY p.nr",
    "WITH k AS (SELECT nr, v FROM lab WHERE status <> 'X') "
    "SELECT nr, (SELECT sum(v) FROM k WHERE k.nr = ward.nr) AS v FROM ward",
)
NAMED = (
    "SELECT p.nr, sum(l.v) AS v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr AND l.status <> 'annulé' "
    "AND l.status <> 'Cancelled' GROUP BY p.nr",
    "SELECT p.nr, sum(l.v) AS v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr "
    "AND lower(l.status) IN ('final', 'annulé', 'cancelled') GROUP BY p.nr",
    "WITH lab AS (SELECT 1 AS nr, 2 AS v) SELECT p.nr, sum(l.v) AS v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr "
    "GROUP BY p.nr",
)
ROWS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(("final", "annulé", "Cancelled", "stopped"))), max_size=7)


def told(queries: tuple[str, ...], rows: list[tuple[int, str]], lite: bool) -> list[list[Seen]]:
    with duckdb.connect(config={"threads": "1"}) as parser, sqlite3.connect(":memory:") as database:
        tables: Any = database if lite else parser
        tables.execute("CREATE TABLE lab (nr INT, status TEXT, v INT)")
        tables.execute("CREATE TABLE ward (nr INT)")
        tables.execute("INSERT INTO ward VALUES (1), (2), (3)")
        for nr, status in rows:
            tables.execute(f"INSERT INTO lab VALUES ({nr}, '{status}', 1)")
        database.commit()
        with create_engine("sqlite://", creator=lambda: database).connect() as connection:

            def ask(query: str) -> Answer:
                found: Any = connection.execute(text(query)) if lite else parser.execute(query)
                names = list(found.keys()) if lite else [one[0] for one in found.description]
                return names, [tuple(row) for row in found.fetchall()]

            known = catalogue.of_url(connection) if lite else catalogue.of_duckdb(parser)
            return [list(cancelled.cancelled(parser, query, ask, known)) for query in queries]


@settings(max_examples=3, deadline=None)
@given(ROWS, st.booleans())
@example([(1, "annulé"), (1, "final"), (2, "Cancelled")], False)
@example([(1, "annulé"), (1, "final"), (2, "final")], True)
def test_told_is_how_many_rows_hang_on_what_was_taken_back(rows: list[tuple[int, str]], lite: bool) -> None:
    away = {nr for nr, status in rows if status in ("annulé", "Cancelled")}
    for found in told(READ, rows, lite):
        assert [(one.count, one.of, one.columns) for one in found] == ([(len(away), 3, ("v",))] if away else [])
    assert told(NAMED, rows, lite) == [[]] * len(NAMED)
