"""Filled cells in which a pattern of a query finds nothing are counted, where the answer hangs on them."""

from functools import lru_cache
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.data import falling, unmatched
from consilium.data.asking import Answer

HITS, MISSES, NOTHING = ("G1P0", "G2P1", "G3P2"), ("G1 P0", "g2p1", "2/1"), (None, "", "NR", "?")
PATTERN = "'^G[0-9]+P([0-9]+)$', 1)"
FORMS = (
    f"SELECT nr, regexp_extract(gp, {PATTERN} AS parity FROM births",
    f"WITH b AS (SELECT nr, trim(gp) AS t FROM births) SELECT nr, max(CAST(nullif(regexp_extract(t, {PATTERN}, '') AS "
    "INTEGER)) AS parity FROM b GROUP BY nr",
    f"SELECT nr, CASE WHEN regexp_extract(b.gp, {PATTERN} > '0' THEN 'more' WHEN regexp_extract(b.gp, {PATTERN} = '0' "
    "THEN 'none' END AS parity FROM births AS b",
)
SAID = (
    f"SELECT nr, coalesce(TRY_CAST(regexp_extract(gp, {PATTERN} AS INTEGER), 0) AS parity FROM births",
    "SELECT nr, regexp_extract(gp, 'CRP ([0-9]+)', 1) AS crp FROM births",
    f"SELECT nr, 1 AS one FROM births WHERE regexp_extract(gp, {PATTERN} IS NOT NULL",
)
SHAPED = "SELECT nr, CASE WHEN regexp_matches(gp, '{}') THEN CAST(gp AS DOUBLE) END AS v FROM births"


@lru_cache
def database() -> Any:
    tables = duckdb.connect(config={"threads": "1"})
    tables.execute("CREATE TABLE births (nr INT, gp VARCHAR)")
    return tables


def ask(query: str) -> Answer:
    found = database().execute(f"SELECT * FROM ({query}) ORDER BY ALL")
    return [column[0] for column in found.description], found.fetchall()


def fill(texts: list[str | None]) -> None:
    database().execute("DELETE FROM births")
    for nr, text in enumerate(texts):
        database().execute("INSERT INTO births VALUES (?, ?)", [nr, text])


@settings(max_examples=2, deadline=None)
@given(st.lists(st.sampled_from((*HITS, *MISSES, *NOTHING)), max_size=12))
@example(["G1P0", "G1 P0", "G1 P0", "2/1", "NR", None])
@example(["G1P0", "NR", ""])
def test_told_is_how_many_cells_with_a_digit_a_pattern_does_not_fit(texts: list[str | None]) -> None:
    """Where it fits a third of the texts at least."""
    fill(texts)
    lost, hits = [text for text in texts if text in MISSES], set(texts) & set(HITS)
    for query in FORMS:
        found = unmatched.unmatched(database(), query, ask(query), ask)
        told = lost and 3 * len(hits) >= len(hits) + len(set(lost))
        assert (found and (found.rows, found.columns)) == ((len(lost), ("parity",)) if told else None), query
    for query in SAID:
        assert unmatched.unmatched(database(), query, ask(query), ask) is None, query


@pytest.mark.parametrize(("pattern", "lost"), [("^[0-9.]+$", 2), (r"^\d+(\.\d)?$", 2), ("^1", 0), ("^[a-z]+$", 0)])
def test_a_case_by_a_pattern_of_numbers_is_asked_what_falls_through(pattern: str, lost: int) -> None:
    fill(["1.5", "12", "1.2 mg", "<1", "NR", None])
    query = SHAPED.format(pattern).replace("CAST", "TRY_CAST")
    found = falling.lost(database(), query, 6, ask)
    assert (found.count if found else 0) == lost
