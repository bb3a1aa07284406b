"""A table of numbers that were merged into others is used of all tables of a query, or of which it is not is told."""

import sqlite3
from collections.abc import Iterable
from typing import Any

import duckdb
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from consilium.core.errors import DataUnusable
from consilium.core.gate import Gate
from consilium.data import catalogue, quality, renumbered
from consilium.data.anew import Anew
from consilium.data.base import Seen
from consilium.data.clock import Clock
from consilium.data.tree import Undecided

NUMBERS = st.integers(1, 9)
ROWS = st.lists(st.tuples(NUMBERS, st.integers(1, 3)), max_size=9)
BOTH = (
    "WITH l AS (SELECT {lab} AS nr, v FROM lab LEFT JOIN merged AS m ON m.old = lab.nr), "
    "p AS (SELECT {ward} AS nr FROM ward LEFT JOIN merged AS m ON m.old = ward.nr) "
    "SELECT p.nr, max(l.v) AS v FROM p LEFT JOIN l ON l.nr = p.nr GROUP BY p.nr"
)
TAKEN = {name: f"coalesce(m.new, {name}.nr)" for name in ("lab", "ward")}
PLAIN = {name: f"{name}.nr" for name in ("lab", "ward")}
RIGHT = (
    BOTH.format(**TAKEN),
    "SELECT p.nr, max(v) AS v FROM ward AS p LEFT JOIN (SELECT coalesce(m.new, l.nr) AS nr, v FROM lab AS l LEFT JOIN "
    "merged AS m ON m.old = l.nr) AS l ON l.nr = p.nr WHERE p.nr NOT IN (SELECT old FROM merged) GROUP BY p.nr",
    "SELECT p.nr, max(v) AS v FROM ward AS p LEFT JOIN merged AS a ON a.old = p.nr LEFT JOIN (SELECT coalesce(m.new, "
    "l.nr) AS nr, v FROM lab AS l LEFT JOIN merged AS m ON m.old = l.nr) AS l ON l.nr = p.nr WHERE a.old IS NULL "
    "GROUP BY 1",
    "SELECT p.nr, coalesce(l.v, k.v) AS v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr LEFT JOIN merged AS k "
    "(nr, v) ON k.nr = p.nr",
)  # fmt: skip
FORGOTTEN = {
    "lab": (BOTH.format(**TAKEN | {"lab": PLAIN["lab"]}),
            "SELECT coalesce(m.new, p.nr) AS nr, max(v) AS v FROM ward AS p LEFT JOIN merged AS m ON m.old = p.nr "
            "LEFT JOIN lab AS l ON l.nr = coalesce(m.new, p.nr) GROUP BY coalesce(m.new, p.nr)"),
    "ward": (BOTH.format(**TAKEN | {"ward": PLAIN["ward"]}),
             "SELECT p.nr, EXISTS (SELECT 1 FROM lab AS l LEFT JOIN merged AS m ON m.old = l.nr "
             "WHERE coalesce(m.new, l.nr) = p.nr) AS v FROM ward AS p"),
}  # fmt: skip


def told(queries: Iterable[str], lab: list[tuple[int, int]], ward: Iterable[int], merged: list[tuple[int, int]],
         lite: bool) -> list[list[Seen]]:  # fmt: skip
    rows = {"lab (nr, v)": lab, "ward (nr)": [(nr,) for nr in ward], "merged (old, new)": merged}
    with duckdb.connect(config={"threads": "1"}) as parser, sqlite3.connect(":memory:") as database:
        tables: Any = database if lite else parser
        for name, several in rows.items():
            tables.execute(f"CREATE TABLE {name.replace(',', ' TEXT,').replace(')', ' TEXT)')}")
            for row in several:
                tables.execute(f"INSERT INTO {name} VALUES ({', '.join(map(str, row))})")
        database.commit()
        if not lite:
            known = catalogue.of_duckdb(parser)
            return [list(renumbered.renumbered(parser, query, known)) for query in queries]
        with create_engine("sqlite://", creator=lambda: database).connect() as connection:
            known = catalogue.of_url(connection)
            return [list(renumbered.renumbered(parser, query, known)) for query in queries]


@settings(max_examples=3, deadline=None)
@given(ROWS, st.sets(NUMBERS), st.sets(NUMBERS, max_size=3), st.booleans())
@example([(1, 1), (2, 2)], {1, 3}, {1}, False)
@example([(1, 1), (2, 2)], {1, 3}, {1}, True)
def test_told_is_how_many_old_numbers_stand_in_the_table_of_which_they_are_forgotten(
    lab: list[tuple[int, int]], ward: set[int], old: set[int], lite: bool
) -> None:
    merged = [(nr, nr + 20) for nr in sorted(old)]
    assert told(RIGHT, lab, ward, merged, lite) == [[]] * len(RIGHT)
    for table, queries in FORGOTTEN.items():
        count = len(old & ({nr for nr, _ in lab} if table == "lab" else ward))
        found = told(queries, lab, ward, merged, lite)
        assert [[one.count for one in each] for each in found] == [[count] if count else []] * len(queries)
        assert all(f"not so of {table}.nr" in one.words for each in found for one in each)


STEPS = (
    "WITH RECURSIVE s AS (SELECT old, new, 1 AS step FROM merged UNION ALL SELECT s.old, merged.new, step + 1 FROM s "
    "JOIN merged ON merged.old = s.new WHERE step < 9), m AS (SELECT old, arg_max(new, step) AS new FROM s GROUP BY old"
    ") SELECT coalesce(m.new, lab.nr) AS nr, v FROM lab LEFT JOIN m ON m.old = lab.nr"
)


def test_a_number_that_was_merged_again_is_followed_or_that_it_is_not_is_told() -> None:
    step = "SELECT coalesce(m.new, lab.nr) AS nr, v FROM lab LEFT JOIN {} AS m ON m.old = lab.nr"
    two = "(SELECT a.old, coalesce(b.new, a.new) AS new FROM merged AS a LEFT JOIN merged AS b ON b.old = a.new)"
    queries = [step.format("merged"), step.format(two), STEPS]
    found = told(queries, [(1, 1)], [], [(1, 2), (2, 3), (5, 6), (7, 7)], False)
    assert [[one.count for one in each] for each in found] == [[1], [], []]
    assert told(queries, [(1, 1)], [], [(2, 3), (5, 6), (7, 7)], False) == [[], [], []]


def test_where_it_is_not_found_out_it_is_said_that_nobody_knows() -> None:
    """A query that the database could not answer in time was one that forgets nobody."""
    with duckdb.connect(config={"threads": "1"}) as parser:

        def checked(query: str, fails: Exception | None) -> tuple[Seen, ...]:
            def known() -> catalogue.Catalogue:
                if fails is not None:
                    raise fails
                return catalogue.of_duckdb(parser)

            return renumbered.checked(parser, query, known, Anew(Clock(60, "s"), 1.0, parser.interrupt))

        for name, columns in {"lab": "nr TEXT, v TEXT", "ward": "nr TEXT", "merged": "old TEXT, new TEXT"}.items():
            parser.execute(f"CREATE TABLE {name} ({columns})")
        assert not any(checked(query, None) for query in RIGHT)
        for fails in (Undecided(), duckdb.InterruptException("late"), DataUnusable("late", "wait")):
            assert all(checked(query, fails) == (renumbered.UNKNOWN,) for query in RIGHT)
            assert not checked("SELECT nr, coalesce(v, '0') AS v FROM lab", fails), "of one table it is not asked"
    assert quality._seen(renumbered.UNKNOWN, Gate()).undone
