"""Codes that stand beside those that a query names are shown to who checks, and kept in no report."""

import sqlite3
from typing import Any

import duckdb
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from consilium.data import catalogue, unnamed
from consilium.data.base import Unnamed

QUERIES = (
    "SELECT nr, max(v) AS v FROM lab WHERE test IN ('HB', 'FERR') GROUP BY nr",
    "WITH l AS (SELECT nr, upper(trim(test)) AS t, v FROM lab) "
    "SELECT nr, max(CASE WHEN t = 'HB' THEN v WHEN t <> 'FERR' THEN 1 END) AS v FROM l GROUP BY nr",
)
COUNTS = st.dictionaries(st.sampled_from(("HB", "FERR", "CRP", "HEMOGLOBINE", " hb ", "x" * 40, "")),
                         st.integers(8, 12))  # fmt: skip


def told(query: str, counts: dict[str, int], lite: bool) -> list[Unnamed]:
    with duckdb.connect() as parser, sqlite3.connect(":memory:") as database:
        tables: Any = database if lite else parser
        tables.execute("CREATE TABLE lab (nr TEXT, test TEXT, v TEXT)")
        rows = [f"('{at}', '{test}', '1')" for test, count in counts.items() for at in range(count)]
        tables.execute(f"INSERT INTO lab VALUES {', '.join(rows or ['(1, NULL, 1)'])}")
        database.commit()
        if not lite:
            return list(unnamed.unnamed(parser, query, catalogue.of_duckdb(parser)))
        with create_engine("sqlite://", creator=lambda: database).connect() as connection:
            return list(unnamed.unnamed(parser, query, catalogue.of_url(connection)))


@settings(max_examples=3, deadline=None)
@given(COUNTS)
@example({"HB": 12, "CRP": 10, "HEMOGLOBINE": 11, "FERR": 9})
def test_told_are_codes_of_ten_rows_that_the_query_does_not_name_in_any_way(counts: dict[str, int]) -> None:
    others = {test: count for test, count in counts.items() if test in ("CRP", "HEMOGLOBINE") and count >= 10}
    wanted = tuple(sorted(others.items(), key=lambda one: (-one[1], one[0])))
    for query in QUERIES:
        for lite in (False, True):
            found = told(query, counts, lite)
            assert found == ([Unnamed("lab.test", ("FERR", "HB"), wanted)] if wanted else []), query


def test_of_a_column_of_many_texts_and_of_what_is_not_compared_nothing_is_shown() -> None:
    many = {f"c{at}": 10 for at in range(unnamed.FEW + 1)}
    assert told(QUERIES[0], many, False) == []
    assert told("SELECT nr, v FROM lab WHERE v LIKE '1%'", {"CRP": 12}, False) == []
