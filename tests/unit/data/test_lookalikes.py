"""What a query names in one way and stands there in several, and what a CASE of it has no WHEN for, is told."""

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.gate import Gate
from consilium.data import catalogue, falling, lookalikes, quality
from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Asked, Seen
from consilium.data.clock import Clock
from consilium.data.source import TableSource
from consilium.data.tables import SqlSource

WAYS = ("KREA", "Krea", "KREA ", "krea", "\u212area")
"""One code; the last is written with the sign of Kelvin."""
UNITS = ("mg/dL", "mg/dl", "\u00b5mol/L", "\u03bcmol/L", "mmol/L", "n/a", "-")
CODED = (
    "SELECT nr, any_value(v) FILTER (WHERE {}) AS v FROM lab GROUP BY nr",
    "SELECT nr, any_value(CASE WHEN {} THEN v END) AS v FROM lab GROUP BY nr",
    "SELECT p.nr, l.v FROM (SELECT DISTINCT nr FROM lab) AS p LEFT JOIN (SELECT * FROM lab WHERE {}) AS l USING (nr)",
    "WITH l AS (SELECT nr, v, code AS c FROM lab) SELECT p.nr, l.v FROM (SELECT DISTINCT nr FROM lab) AS p"
    " LEFT JOIN l ON l.nr = p.nr AND {}",
)


def asked(rows: list[tuple[str, str, str]], query: str) -> tuple[Any, Answer, Any]:
    tables = duckdb.connect()
    tables.execute("CREATE TABLE lab (nr VARCHAR, code VARCHAR, v VARCHAR)")
    tables.executemany("INSERT INTO lab VALUES (?, ?, ?)", rows)

    def ask(one: str) -> Answer:
        found = tables.execute(one)
        return [column[0] for column in found.description], found.fetchall()

    return tables, ask(query), ask


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from((*WAYS, "CRP", "K")), min_size=1, max_size=8),
       st.sets(st.sampled_from(WAYS), min_size=1), st.sampled_from(CODED))  # fmt: skip
def test_codes_in_other_ways_are_told_if_and_only_if_they_are_there_and_not_named(
    there: list[str], named: set[str], form: str
) -> None:
    listed = ", ".join(f"'{way}'" for way in sorted(named))
    query = form.format(f"{'l.c' if 'AS c' in form else 'code'} IN ({listed})")
    tables, _, ask = asked([(str(nr), code, "5") for nr, code in enumerate(there)], query)
    with tables:
        found = list(lookalikes.lookalikes(tables, query, ask, catalogue.of_duckdb(tables)))
    strange = [code for code in there if code in WAYS and code not in named]
    assert [(one.count, one.of) for one in found] == ([(len(strange), len(there))] if strange else [])
    words = "".join(one.words for one in found)
    assert not strange or ("other values would stand in v" in words and "lab.code" in words)
    assert not any(f"'{way}'" in words for way in WAYS if way not in named)  # nothing but what the query names


@pytest.mark.parametrize(("condition", "told"), [
    ("code LIKE 'E1%'", True), ("code NOT LIKE 'E1%'", True), ("regexp_matches(code, '^E1[0-4]')", True),
    ("upper(code) LIKE 'E1%'", False), ("regexp_matches(upper(code), '^E1[0-4]')", False), ("code ILIKE 'E1%'", False),
    ("code LIKE 'I1%'", False), ("code LIKE '%1%'", False), ("regexp_matches(code, '^E1') AND code <> 'e11'", False),
])  # fmt: skip
def test_a_pattern_that_small_letters_miss_is_told_where_the_answer_hangs_on_it(condition: str, told: bool) -> None:
    query = f"SELECT nr, bool_or({condition}) AS v FROM lab GROUP BY nr"
    codes = ("E11", "e11", "I10")
    tables, _, ask = asked([(str(nr), codes[nr % 3], "") for nr in range(60)], query)
    with tables:
        found = list(lookalikes.lookalikes(tables, query, ask, catalogue.of_duckdb(tables)))
    found = [one for one in found if "looks for" in one.words]
    assert [(one.count, one.of, one.columns) for one in found] == ([(20, 60, ("v",))] if told else [])


def test_who_is_left_out_by_one_of_several_ways_is_told_and_blocks() -> None:
    query = "SELECT nr FROM lab GROUP BY nr HAVING count(*) FILTER (WHERE coalesce(code, '') = 'N') = 0"
    tables, _, ask = asked([(str(nr), "N" if nr < 9 else "n" if nr < 20 else "J", "") for nr in range(400)], query)
    with tables:
        (found,) = lookalikes.lookalikes(tables, query, ask, catalogue.of_duckdb(tables))
    assert (found.count, found.of) == (11, 0) and "there would be other patients" in found.words
    assert quality._seen(found, Gate()).blocks


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(UNITS), min_size=1, max_size=8), st.sets(st.sampled_from(UNITS[:5]), min_size=2),
       st.booleans())  # fmt: skip
def test_texts_that_fall_through_a_case_are_counted_if_and_only_if_the_answer_hangs_on_them(
    there: list[str], named: set[str], filtered: bool
) -> None:
    """A FILTER that leaves them out says that somebody has looked; a word for nothing is none of them."""
    listed = " ".join(f"WHEN '{unit}' THEN {number + 1}" for number, unit in enumerate(sorted(named)))
    some = ", ".join(f"'{unit}'" for unit in sorted(named))
    query = f"SELECT nr, max(CAST(v AS DOUBLE) * CASE code {listed} END) "
    query += f"FILTER (WHERE code IN ({some})) AS v FROM lab GROUP BY nr" if filtered else "AS v FROM lab GROUP BY nr"
    tables, answer, ask = asked([(str(nr), unit, "5") for nr, unit in enumerate(there)], query)
    with tables:
        found = falling.lost(tables, query, len(answer[1]), ask)
    lost = 0 if filtered else sum(unit in UNITS[:5] and unit not in named for unit in there)
    assert (found.count if found else 0) == lost
    assert found is None or ("texts of code" in found.words and "other values would stand in v" in found.words)


@pytest.mark.parametrize(("case", "told"), [
    ("CASE code WHEN 'a' THEN v END", False),  # takes one of several: that is what it is for
    ("CASE WHEN code = 'a' THEN 1 WHEN v = '5' THEN 2 END", False),
    ("CASE code WHEN 'a' THEN 1 WHEN 'b' THEN 1 END", False),
    ("CASE code WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE 3 END", False),
    ("CASE code WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE CAST(NULL AS DOUBLE) END", False),
    ("CASE code WHEN 'a' THEN 1 WHEN 'b' THEN 2 WHEN 'c' THEN NULL END", False),
    ("CASE code WHEN 'a' THEN 1 WHEN 'b' THEN 2 END", True),
    ("CASE WHEN code = 'a' OR code IN ('b') THEN 'x' WHEN code = 'd' THEN 'y' ELSE NULL END", True),
    ("CASE trim(code) WHEN 'a' THEN DATE '2024-01-01' WHEN 'b' THEN DATE '2024-01-02' END", True),
    ("CAST(v AS DOUBLE) * CASE code_unit WHEN 'a' THEN CAST(v AS INTEGER) END", True),
    *((f"CASE code_unit WHEN 'a' THEN {made} END", True)
      for made in ("v", "strptime('0' || v, '%m')", "v = '5'", "CAST(v AS DECIMAL(9, 2))")),
    ("(CASE code_unit WHEN 'a' THEN v END) || (CASE code_unit WHEN 'a' THEN CAST(v AS BIGINT) END)", True),
    ("CASE code_unit WHEN 'a' THEN v WHEN 'c' THEN code END", False),
])  # fmt: skip
def test_what_a_case_says_it_passes_over_is_not_told(case: str, told: bool) -> None:
    query = f"SELECT nr, {case} AS v FROM (SELECT *, code AS code_unit FROM lab)"
    tables, answer, ask = asked([(str(nr), "ac"[nr % 2], "5") for nr in range(40)], query)
    with tables:
        found = falling.checked(tables, query, answer, ask, Anew(Clock(60, "s"), 1.0, tables.interrupt))
    assert [one.count for one in found] == ([20] if told else [])
    assert all(quality._seen(one, Gate()).blocks for one in found)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_hospitals_own_database_is_looked_at_too(tmp_path: Path, kind: str) -> None:
    made: Any = sqlite3.connect(tmp_path / "own.db") if kind == "sqlite" else duckdb.connect(str(tmp_path / "own.db"))
    made.execute("CREATE TABLE lab (nr VARCHAR, code VARCHAR)")
    made.executemany("INSERT INTO lab VALUES (?, ?)", [(str(nr), WAYS[nr % 2]) for nr in range(40)])
    made.commit()
    made.close()
    place = {"url": "sqlite:///own.db"} if kind == "sqlite" else {"path": "own.db"}
    query = "SELECT nr, CASE WHEN trim(code) = 'KREA' THEN 1 ELSE 0 END AS v FROM lab"
    source = SqlSource(TableSource.model_validate({"type": "sql", "query": query, **place}), tmp_path)
    source.told(Asked(columns=frozenset(("nr", "v")), without=("nr", frozenset())))
    (found,) = source.rows().doubts
    assert (
        isinstance(found, Seen)
        and (found.count, found.of) == (20, 40)
        and "other values would stand in v" in found.words
    )


@pytest.mark.parametrize(("query", "told"), [
    ("SELECT nr, v * CASE code WHEN 'KREA' THEN 1 ELSE 1/88 END AS v FROM lab", True),
    ("SELECT nr, v * CASE code WHEN 'KREA' THEN 1 ELSE 1.0/88 END AS v FROM lab WHERE upper(code) GLOB 'K*'", False),
    ("SELECT nr, v / 2.0 AS v FROM lab WHERE code IN ('KREA', 'Krea')", False),
    ("SELECT nr, n / 7 AS v FROM lab WHERE code IN ('KREA', 'Krea')", True),
    ("SELECT nr, n / 1 AS v FROM lab", False),
    ("SELECT nr, n / 7 AS v FROM lab WHERE code LIKE 'k%' AND nr GLOB '[0-9]*'", True),
])  # fmt: skip
def test_whole_numbers_that_sqlite_divides_are_told_where_the_answer_hangs_on_it(
    tmp_path: Path, query: str, told: bool
) -> None:
    with sqlite3.connect(tmp_path / "own.db") as made:
        made.execute("CREATE TABLE lab (nr TEXT, code TEXT, v REAL, n INTEGER)")
        made.executemany("INSERT INTO lab VALUES (?, ?, 5.5, 3)", [(str(nr), WAYS[nr % 2]) for nr in range(40)])
    source = SqlSource(TableSource.model_validate({"type": "sql", "query": query, "url": "sqlite:///own.db"}), tmp_path)
    source.told(Asked(columns=frozenset(("nr", "v")), without=("nr", frozenset())))
    found = [one for one in source.rows().doubts if isinstance(one, Seen) and "divides" in one.words]
    assert [one.columns for one in found] == ([("v",)] if told else [])


def test_what_a_database_does_not_understand_as_it_is_written_anew_stands_in_nobodys_way(tmp_path: Path) -> None:
    """NOT LIKE becomes !~~, which SQLite has not."""
    with sqlite3.connect(tmp_path / "own.db") as made:
        made.execute("CREATE TABLE lab (nr TEXT, code TEXT)")
        made.executemany("INSERT INTO lab VALUES (?, ?)", [(str(nr), WAYS[nr % 2]) for nr in range(40)])
    query = "SELECT nr, 4 / 2 AS v FROM lab WHERE nr NOT LIKE 'x%' AND code <> 'KREA'"
    source = SqlSource(TableSource.model_validate({"type": "sql", "query": query, "url": "sqlite:///own.db"}), tmp_path)
    assert len(source.rows()) == 20
