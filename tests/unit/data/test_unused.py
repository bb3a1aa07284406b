"""Columns at which a query never looks are told, once, where they may say whether a row counts."""

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.data import catalogue, unused
from consilium.data.anew import Anew
from consilium.data.base import Asked, Unused
from consilium.data.clock import Clock
from consilium.data.joined import JoinedSource
from consilium.data.source import TableSource
from consilium.data.tables import SqlSource
from consilium.data.tree import Undecided

ALL = frozenset(("nr", "v", "status", "device"))
READ = {
    "SELECT nr, v FROM lab": {"nr", "v"},
    "SELECT * FROM lab": ALL,
    "SELECT nr, v FROM (SELECT * FROM lab) WHERE status = 'F'": {"nr", "v", "status"},
    "WITH l AS (SELECT * FROM lab), m AS (SELECT *, 1 AS one FROM l) SELECT m.nr, m.v FROM m ORDER BY m.device":
        {"nr", "v", "device"},
    "WITH l AS (SELECT nr, status AS s, v FROM lab) SELECT nr, v FROM l": {"nr", "v", "status"},
    "SELECT p.nr, (SELECT max(v) FROM lab AS l WHERE l.nr = p.nr AND l.device = 'A') AS v FROM ward AS p":
        {"nr", "v", "device"},
    "SELECT p.status, l.v FROM ward AS p JOIN lab AS l USING (nr)": {"nr", "v"},
    "SELECT nr, v FROM lab UNION ALL SELECT nr, status FROM ward": {"nr", "v"},
    "SELECT nr, any_value(v) AS v FROM (SELECT * EXCLUDE (device) FROM lab) GROUP BY nr": {"nr", "v", "device"},
    "SELECT p.nr, l.v FROM ward AS p LEFT JOIN lab AS l ON l.nr = p.nr AND l.status IN (SELECT status FROM ward)":
        {"nr", "v", "status"},
    "WITH RECURSIVE c AS (SELECT nr, v FROM lab UNION ALL SELECT c.nr, lab.v FROM c JOIN lab ON lab.nr = c.v) "
    "SELECT nr, v FROM c": {"nr", "v"},
}  # fmt: skip
"""Queries, and the columns of `lab` at which they look; `ward.status` is another one."""


@pytest.mark.parametrize("query", READ)
def test_what_a_query_does_not_look_at_is_told_of_its_own_table(query: str) -> None:
    with duckdb.connect() as tables:
        tables.execute("CREATE TABLE lab AS SELECT i AS nr, i * 7 AS v, ['F', 'C'][i % 2 + 1] AS status, "
                       "['A', 'B'][i % 2 + 1] AS device FROM range(60) AS r(i)")  # fmt: skip
        tables.execute("CREATE TABLE ward AS SELECT nr, status FROM lab")
        names = [row[0] for row in tables.execute(f"DESCRIBE {query}").fetchall()]
        found = {one.table: dict(one.columns)
                 for one in unused.unused(tables, query, names, catalogue.of_duckdb(tables))}  # fmt: skip
    wanted = {"status", "device"} - READ[query]
    assert found.get("lab", {}) == dict.fromkeys(sorted(wanted), 2)


@pytest.mark.parametrize("query", ["SELECT to_json(lab) AS v FROM lab", "SELECT max(COLUMNS('v')) FROM lab",
                                   "SELECT v FROM lab NATURAL JOIN ward"])  # fmt: skip
def test_where_it_is_not_seen_at_what_a_query_looks_nothing_is_told(query: str) -> None:
    with duckdb.connect() as tables:
        tables.execute("CREATE TABLE lab (nr INT, v INT, status INT)")
        tables.execute("CREATE TABLE ward (nr INT, status INT)")
        with pytest.raises(Undecided):
            list(unused.unused(tables, query, ["v"], catalogue.of_duckdb(tables)))


@pytest.mark.parametrize(("query", "idle"), [
    ("WITH a AS (SELECT nr FROM lab), B AS (SELECT nr FROM lab WHERE v > 1) SELECT nr FROM a", ["B"]),
    ("WITH a AS (SELECT nr FROM lab), b AS (SELECT nr FROM A) SELECT v FROM lab WHERE nr IN (SELECT nr FROM b)", []),
    ("WITH RECURSIVE c AS (SELECT 1 AS k UNION ALL SELECT k + 1 FROM c WHERE k < 3) SELECT nr FROM lab", ["c"]),
    ("SELECT nr FROM lab", []),
])  # fmt: skip
def test_what_a_query_makes_and_never_uses_is_told(query: str, idle: list[str]) -> None:
    with duckdb.connect() as tables:
        found = unused.idle(tables, query, Anew(Clock(60, "s"), 1.0, tables.interrupt))
    assert [one.words for one in found] == [f"source.query makes {name} by WITH, and never uses it" for name in idle]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from((None, " ", "a", "b", "c")), max_size=60), st.sampled_from(("STATUT", "colour")))
def test_told_is_what_has_several_values_and_of_a_name_that_says_nothing_few_of_many_rows(
    texts: list[str | None], name: str
) -> None:
    plain = [(one or "").strip() for one in texts]
    filled, values = sum(map(bool, plain)), len(set(plain))
    told = filled > 0 and values > 1 and (name == "STATUT" or (values * 10 <= len(plain) and filled >= 10))
    with sqlite3.connect(":memory:") as database:
        database.execute(f"CREATE TABLE t ({name} TEXT)")
        database.executemany("INSERT INTO t VALUES (?)", [(one,) for one in texts])
        found = unused.counted(lambda query: ([], database.execute(query).fetchall()), "t", [name])
    database.close()
    assert found == (((name, values),) if told else ())


def test_of_a_register_of_many_columns_those_of_such_a_name_alone_are_told() -> None:
    names = [f"q{at}" for at in range(9)]
    rows = [(20, *[20, 2] * 10)]
    assert unused.counted(lambda _: ([], rows), "t", [*names, "Storno"]) == (("Storno", 2),)
    assert len(unused.counted(lambda _: ([], [(20, *[20, 2] * 9)]), "t", [*names[:8], "Storno"])) == 9


LINES = [(nr, f"{nr}.5", "FC"[nr % 4 == 0], "xy"[nr % 2], f"note {nr}", "same") for nr in range(40)]
NAMES = ("nr", "v", "Befundstatus", "device", "comment", "kind")


@pytest.mark.parametrize("form", ["csv", "parquet", "sqlite", "excel", "star"])
def test_it_is_told_wherever_the_table_stands_and_nothing_is_read_of_who_opted_out(tmp_path: Path, form: str) -> None:
    """The value of a column that nobody but who opted out has is none."""
    lines = [*LINES, (99, "1", "secret", "z", "secret", "secret")]
    with duckdb.connect() as tables:
        tables.execute(f"CREATE TABLE lab ({', '.join(f'{name} VARCHAR' for name in NAMES)})")
        tables.executemany("INSERT INTO lab VALUES (?, ?, ?, ?, ?, ?)", lines)
        for kind in ("csv", "parquet"):
            tables.execute(f"COPY lab TO '{tmp_path}/lab.{kind}'")
    given_: dict[str, Any] = {"type": form, "path": f"lab.{form}"}
    if form == "sqlite":
        with sqlite3.connect(tmp_path / "lab.db") as database:
            database.execute(f"CREATE TABLE lab ({', '.join(NAMES)})")
            database.executemany("INSERT INTO lab VALUES (?, ?, ?, ?, ?, ?)", LINES)
        database.close()
        made: Any = SqlSource(TableSource.model_validate(
            {"type": "sql", "url": "sqlite:///lab.db", "query": "SELECT * FROM lab"}), tmp_path)  # fmt: skip
    else:
        if form == "excel":
            import openpyxl

            book = openpyxl.Workbook()
            for line in (NAMES, *lines):
                book.active.append(line)
            book.save(tmp_path / "lab.xlsx")
            given_["path"] = "lab.xlsx"
        given_ = {"type": "csv", "path": "lab.csv"} if form == "star" else given_
        query = "SELECT nr, v FROM (SELECT * FROM lab)" if form == "star" else "SELECT nr, v FROM lab"
        made = JoinedSource(
            TableSource.model_validate({"type": "tables", "tables": {"lab": given_, "unread": given_}, "query": query}),
            tmp_path,
        )
    made.told(Asked(columns=frozenset(("nr", "v")), without=("nr", frozenset(("99",)))))
    (found,) = [one for one in made.rows().doubts if isinstance(one, Unused)]
    wanted = (("Befundstatus", 2), ("comment", 40), ("device", 2))
    assert found == Unused("lab", (("Befundstatus", 0), ("comment", 0), ("kind", 0)) if form == "excel" else wanted)
    words, _ = unused.told([found, Unused("visits", (("Storno", 2),)), Unused("lab", (("comment", 40),))])
    assert words.count("lab:") == words.count("comment") == 1 and "visits: Storno (2 values)" in words
    assert "secret" not in words
