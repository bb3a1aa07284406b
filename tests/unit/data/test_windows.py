"""A window that is open on the other side of a moment is told, and so is a span or a day that a query does not have."""

import sqlite3
from functools import lru_cache
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from consilium.data import catalogue, spans, windows
from consilium.data.asking import Answer

JOINED = "SELECT b.nr, max(l.v) AS v FROM birth AS b LEFT JOIN lab AS l ON l.nr = b.nr AND {} GROUP BY b.nr"
OPEN = (
    JOINED.format("l.day >= b.day - INTERVAL 9 DAY"),
    JOINED.format("b.day - INTERVAL '9 days' <= l.day"),
    JOINED.format("date_diff('day', l.day, b.day) <= 9"),
    JOINED.format("b.day - l.day < 10"),
    "WITH k AS (SELECT nr, day AS t FROM birth) SELECT nr, (SELECT max(v) FROM lab WHERE lab.nr = k.nr AND "
    "lab.day > t - INTERVAL 10 DAY) AS v FROM k",
)
CLOSED = (
    JOINED.format("l.day >= b.day - INTERVAL 9 DAY AND l.day <= b.day"),
    JOINED.format("l.day BETWEEN b.day - INTERVAL 9 DAY AND b.day + INTERVAL 1 DAY"),
    JOINED.format("date_diff('day', l.day, b.day) BETWEEN 0 AND 9"),
    JOINED.format("date_diff('day', l.day, b.day) <= 9 AND b.day >= l.day"),
    JOINED.format("l.day <= b.day"),
    JOINED.format("l.day >= b.day"),
    JOINED.format("l.day = b.day - INTERVAL 1 DAY"),
    JOINED.format("l.day >= DATE '2024-01-01' - INTERVAL 9 DAY"),
    JOINED.format("l.day < b.day - INTERVAL 1 DAY"),
)
LITE = JOINED.format("julianday(b.day) - julianday(l.day) <= 9")
BIRTH = "2024-06-01"


@lru_cache
def database() -> Any:
    tables = duckdb.connect(config={"threads": "1"})
    tables.execute("CREATE TABLE lab (nr INT, day DATE, v INT)")
    tables.execute("CREATE TABLE birth (nr INT, day DATE)")
    return tables


def ask(query: str) -> Answer:
    found = database().execute(f"SELECT * FROM ({query}) ORDER BY ALL")
    return [column[0] for column in found.description], found.fetchall()


@settings(max_examples=2, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-12, 12)), max_size=8))
@example([(1, -1), (1, 3), (2, -2), (3, 5), (3, -11)])
@example([(1, -1), (2, 0)])
def test_told_is_of_how_many_patients_something_counts_that_lies_beyond_the_moment(rows: list[tuple[int, int]]) -> None:
    database().execute("DELETE FROM lab; DELETE FROM birth")
    database().execute(f"INSERT INTO birth SELECT unnest([1, 2, 3]), DATE '{BIRTH}'")
    for at, (nr, days) in enumerate(rows):
        database().execute(f"INSERT INTO lab VALUES ({nr}, DATE '{BIRTH}' + ({days}), {at})")
    taken = {nr: [days for n, days in rows if n == nr and days >= -9] for nr, _ in rows}
    beyond = sum(bool(days) and days[-1] > 0 for days in taken.values())
    known = catalogue.of_duckdb(database())
    for query in OPEN:
        found = windows.opened(database(), query, ask, known)
        assert (found and (found.count, found.columns)) == ((beyond, ("v",)) if beyond else None), query
    for query in CLOSED:
        assert windows.opened(database(), query, ask, known) is None, query


def test_so_it_is_in_sqlite() -> None:
    with sqlite3.connect(":memory:") as lite, duckdb.connect() as parser:
        lite.executescript(
            f"CREATE TABLE birth (nr, day); CREATE TABLE lab (nr, day, v); INSERT INTO birth VALUES (1, '{BIRTH}');"
            "INSERT INTO lab VALUES (1, '2024-05-30', 1), (1, '2024-06-03', 2);"
        )
        with create_engine("sqlite://", creator=lambda: lite).connect() as connection:

            def answer(asked: str) -> Answer:
                found = connection.execute(text(asked.replace(":", "\\:")))
                return list(found.keys()), [tuple(row) for row in found]

            found = windows.opened(parser, LITE, answer, catalogue.of_url(connection))
            assert found is not None and found.count == 1 and "after l.day" in found.words
            closed = LITE.replace(" GROUP", " AND l.day <= b.day GROUP")
            assert windows.opened(parser, closed, answer, catalogue.of_url(connection)) is None


MEANT = {"v": "largest value, drawn at most 42 days before the birth", "nr": "who it is",
         "": "births from 2022-01-01 to 2024-12-31; the board agreed on 2026-02-03"}  # fmt: skip
SAID = {
    "l.day >= b.day - INTERVAL 42 DAY": [], "l.day > b.day - INTERVAL '43 days'": [],
    "date_diff('hour', l.day, b.day) <= 1008": [], "l.day >= b.day - INTERVAL 6 WEEK": [],
    "julianday(b.day) - julianday(l.day) <= 42": [], "l.day <= b.day": ["42 days"],
    "l.day >= b.day - INTERVAL 280 DAY": ["42 days"], "l.day >= b.day - INTERVAL 1000 HOUR": ["42 days"],
    "b.day >= DATE '2022-01-01' AND b.day < DATE '2025-01-01' AND l.day > b.day - INTERVAL 42 DAY": [],
    "b.day < DATE '2025-01-01' AND l.day > b.day - INTERVAL 42 DAY": ["2022-01-01"],
}  # fmt: skip


@pytest.mark.parametrize("condition", SAID)
def test_a_span_or_a_day_of_the_contract_that_a_query_does_not_have_is_told(condition: str) -> None:
    known = catalogue.of_duckdb(database())
    found = list(spans.unsaid(database(), JOINED.format(condition), known, MEANT))
    assert [one.words for one in found if not any(said in one.words for said in SAID[condition])] == []
    assert len(found) == len(SAID[condition])


def test_of_what_the_query_takes_as_it_stands_no_span_is_wanted() -> None:
    """Nor where nothing is said of one."""
    plain = "SELECT b.nr, l.v FROM birth AS b LEFT JOIN lab AS l ON l.nr = b.nr"
    known = catalogue.of_duckdb(database())
    assert list(spans.unsaid(database(), plain, known, MEANT)) == []
    assert list(spans.unsaid(database(), JOINED.format("true"), known, {"v": "5 cigarettes a day, age in years"})) == []
