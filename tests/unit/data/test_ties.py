"""Where a query takes one of several rows that tie, and its answer hangs on which, that is told: and only there."""

import sqlite3
from functools import lru_cache
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from consilium.data import catalogue, ties
from consilium.data.asking import Answer
from consilium.data.base import Seen

FORMS = (
    "SELECT nr, v FROM lab QUALIFY row_number() OVER (PARTITION BY nr ORDER BY day) = 1",
    "SELECT s.nr, s.v FROM (SELECT *, row_number() OVER (PARTITION BY nr ORDER BY day) AS k FROM lab) AS s WHERE k = 1",
    "SELECT nr, arg_min(v, day) AS v FROM lab GROUP BY nr",
    "SELECT nr, min_by(v, day) FILTER (WHERE place = 0) AS v "
    "FROM (FROM lab UNION ALL SELECT 1, nr, place, day + v FROM lab) GROUP BY nr",
    "SELECT nr, arg_max_null(v, -day) AS v FROM lab GROUP BY nr",
    "SELECT DISTINCT ON (nr) nr, v FROM lab ORDER BY nr, day",
    "SELECT nr, first(v ORDER BY day) AS v FROM lab GROUP BY nr",
    "SELECT nr, last(v ORDER BY day DESC) AS v FROM lab GROUP BY nr",
    "SELECT DISTINCT nr, first_value(v) OVER (PARTITION BY nr ORDER BY day) AS v FROM lab",
    "SELECT p.nr, (SELECT v FROM lab AS l WHERE l.nr = p.nr ORDER BY day LIMIT 1) AS v FROM ward AS p",
)
DECIDED = (
    "SELECT nr, v FROM lab QUALIFY row_number() OVER (PARTITION BY nr ORDER BY day, v) = 1",
    "SELECT nr, arg_min(v, (day, v)) AS v FROM lab GROUP BY nr",
    "SELECT nr, arg_min(day, day) AS v FROM lab GROUP BY nr",
    "SELECT DISTINCT ON (nr) nr, v FROM lab ORDER BY nr, day, v",
    "SELECT nr, max(v) AS v FROM lab GROUP BY nr ORDER BY nr LIMIT 90",
    "SELECT nr, max(v) AS v FROM (SELECT * FROM lab QUALIFY rank() OVER (PARTITION BY nr ORDER BY day) = 1) "
    "GROUP BY nr",
    "SELECT nr, sum(v / 10) OVER (PARTITION BY nr ORDER BY day) AS v FROM lab",
)


@lru_cache
def database() -> Any:
    """One for all, for to begin one takes as long as what it is asked."""
    tables = duckdb.connect(config={"threads": "1"})
    tables.execute("CREATE TABLE lab (place INT, nr INT, day INT, v INT)")
    tables.execute("CREATE VIEW ward AS SELECT DISTINCT nr FROM lab")
    return tables


def tied(rows: list[tuple[int, int, int]], query: str) -> Seen | None:
    tables = database()
    tables.execute("DELETE FROM lab")
    tables.execute(
        f"INSERT INTO lab SELECT 0, r[1], r[2], r[3] FROM (SELECT unnest({[list(row) for row in rows]}) AS r)"
    )

    def ask(one: str) -> Answer:
        found = tables.execute(f"SELECT * FROM ({one}) ORDER BY ALL")
        return [column[0] for column in found.description], found.fetchall()

    return ties.tied(tables, query, ask(query), ask)


IN_SQLITE = (
    "SELECT s.nr, s.v FROM (SELECT *, row_number() OVER (PARTITION BY nr ORDER BY day{}) AS k FROM lab) AS s "
    "WHERE k = 1",
    "WITH l AS (SELECT nr, day AS d, v FROM lab), r AS (SELECT *, row_number() OVER (PARTITION BY nr ORDER BY d{}) "
    "AS k FROM l) SELECT r.nr, r.v FROM r WHERE k = 1",
    "SELECT DISTINCT nr, first_value(v) OVER (PARTITION BY nr ORDER BY day{}) AS v FROM lab",
    "SELECT p.nr, (SELECT l.v FROM lab AS l WHERE l.nr = p.nr ORDER BY l.day{} LIMIT 1) AS v FROM ward AS p",
)


def tied_in_sqlite(rows: list[tuple[int, int, int]], queries: list[str]) -> list[Seen | None]:
    with sqlite3.connect(":memory:") as lite:
        lite.execute("CREATE TABLE lab (Nr INT, day INT, v INT)")
        lite.execute("CREATE VIEW ward AS SELECT DISTINCT nr FROM lab")
        lite.executemany("INSERT INTO lab VALUES (?, ?, ?)", rows)
        lite.commit()
        with create_engine("sqlite://", creator=lambda: lite).connect() as connection:

            def ask(query: str) -> Answer:
                found = connection.execute(text(query))
                return list(found.keys()), [tuple(row) for row in found]

            known = catalogue.of_url(connection)
            return [ties.tied_in(database(), query, ask(query), ask, known) for query in queries]


ROWS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)), min_size=1, max_size=9)


@settings(max_examples=4, deadline=None)
@given(ROWS)
@example([(1, 1, 1), (1, 1, 2), (1, 2, 3), (2, 1, 1), (2, 2, 1), (2, 2, 2), (3, 1, 1), (3, 1, 1),
          (4, 1, 1), (4, 1, 2), (4, 2, 1)])  # fmt: skip
def test_told_is_of_how_many_patients_the_first_row_is_chance(rows: list[tuple[int, int, int]]) -> None:
    """Rows that are equal in all are none such."""
    first = {nr: min(day for other, day, _ in rows if other == nr) for nr, _, _ in rows}
    values = {nr: {v for other, day, v in rows if (other, day) == (nr, first[nr])} for nr in first}
    chance = sum(len(one) > 1 for one in values.values())
    for query in FORMS:
        found = tied(rows, query)
        told = None if found is None else (found.count, found.of, found.columns)
        assert told == ((chance, len(first), ("v",)) if chance else None), query
        assert found is None or "equal in day" in found.words or "equal in nr, day" in found.words


@settings(max_examples=3, deadline=None)
@given(ROWS)
@example([(1, 1, 1), (1, 1, 2), (1, 2, 3), (2, 1, 1), (2, 2, 1), (2, 2, 2), (3, 1, 1), (3, 1, 1)])
def test_so_it_is_in_sqlite_which_takes_no_row_for_a_whole(rows: list[tuple[int, int, int]]) -> None:
    first = {nr: min(day for other, day, _ in rows if other == nr) for nr, _, _ in rows}
    chance = sum(len({v for other, day, v in rows if (other, day) == (nr, first[nr])}) > 1 for nr in first)
    for found in tied_in_sqlite(rows, [query.format("") for query in IN_SQLITE]):
        assert (found and (found.count, found.columns)) == ((chance, ("v",)) if chance else None)
    assert tied_in_sqlite(rows, [query.format(", v") for query in IN_SQLITE]) == [None] * len(IN_SQLITE)


@settings(max_examples=2, deadline=None)
@given(ROWS)
def test_nothing_is_told_where_the_query_decides_or_nothing_hangs_on_it(rows: list[tuple[int, int, int]]) -> None:
    for query in DECIDED:
        assert tied(rows, query) is None, query


def test_of_several_places_that_one_is_named_by_which_the_answer_is_chance() -> None:
    """Nor does a view stand in the way, or another patient; the number of rows is told where it is another."""
    rows = [(1, 1, 1), (1, 1, 2), (2, 2, 1)]
    two = (
        f"SELECT l.nr, l.v, m.w FROM ({FORMS[0]}) AS l "
        "JOIN (SELECT nr, arg_min(v, v) AS w FROM lab GROUP BY nr) AS m ON m.nr = l.nr"
    )
    found = tied(rows, two)
    assert found is not None and "equal in day, by" in found.words and found.columns == ("v",)
    found = tied(rows, f"SELECT * FROM ({FORMS[0]}) WHERE v = 1")
    assert found is not None and "there would be other rows" in found.words and found.of == 0


@pytest.mark.parametrize("query", ["SELECT nr, max(v) AS v FROM lab GROUP BY nr", "SELECT nr, v FROM lab WHERE v > 1"])
def test_a_query_without_an_order_is_not_asked_again(query: str) -> None:
    assert ties.checked(None, query, ([], []), lambda _: pytest.fail("asked"), None) == ()  # type: ignore[arg-type]


def test_a_row_in_which_the_last_digit_of_a_sum_is_another_is_not_counted() -> None:
    """It hangs on the order of what is added."""
    answers = iter([[(1, 0.3), (2, 0.5)], [(1, 0.1 + 0.2), (3, 0.5)]])
    found = ties.tied(database(), FORMS[0], (["v", "w"], []), lambda _: (["v", "w"], next(answers)))
    assert found is not None and (found.count, found.columns) == (1, ("v",))
