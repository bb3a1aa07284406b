"""CSV, Parquet and SQL tables give one and the same rows; a query that is no SELECT is refused and changes nothing."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from consilium import plugins
from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.data import asking, databases, durations, lookalikes, selecting, tables
from consilium.data.base import Asked, Rows, source
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource, ParquetSource, SqlSource
from e2e.processes import until

MARK = "MUSTERMANN-4711"
PLAIN = "MUSTERMANN"
ROWS = {"id": ["p1", "p2", "p3"], "age": ["50", "61", None], "note": ["a,b", 'say "no"', "line\nbreak"]}


def csv(folder: Path, text: str, encoding: str = "utf-8", **given_: Any) -> Rows:
    (folder / "t.csv").write_bytes(text.encode(encoding))
    found = CsvSource(TableSource(type="csv", path="t.csv", encoding=encoding, **given_), folder)
    table = found.rows()
    assert found.count() == len(table)
    return table


def sqlite(folder: Path) -> Path:
    path = folder / "t.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE patients (id TEXT, age INTEGER, note TEXT)")
        database.executemany("INSERT INTO patients VALUES (?, ?, ?)", list(zip(*ROWS.values(), strict=True)))
    database.close()
    return path


def duck(folder: Path) -> Path:
    path = folder / "t.duckdb"
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE patients (id TEXT, age INTEGER, note TEXT)")
        database.executemany("INSERT INTO patients VALUES (?, ?, ?)", list(zip(*ROWS.values(), strict=True)))
    return path


def by_url(folder: Path, query: str) -> SqlSource:
    return SqlSource(TableSource(type="sql", url=f"sqlite:///{folder / 't.sqlite'}", query=query), folder)


def by_path(folder: Path, query: str) -> SqlSource:
    return SqlSource(TableSource(type="sql", path="t.duckdb", query=query), folder)


def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path) -> None:
    text = 'id,age,note\np1,50,"a,b"\np2,61,"say ""no"""\np3,,"line\nbreak"\n'
    of_csv = csv(tmp_path, text).columns
    assert of_csv == ROWS
    pq.write_table(pa.table({"id": ROWS["id"], "age": [50, 61, None], "note": ROWS["note"]}), tmp_path / "t.parquet")
    sqlite(tmp_path), duck(tmp_path)
    query = "SELECT * FROM patients ORDER BY id;"
    sources = [
        ParquetSource(TableSource(type="parquet", path="t.parquet"), tmp_path),
        by_url(tmp_path, query),
        by_path(tmp_path, query),
        by_path(tmp_path, "with p as (select * from patients) select * from p order by id"),
    ]
    for one in sources:
        assert one.rows().columns == ROWS and one.count() == 3


DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "semicolon": ("id;age\np1;50\n", {"delimiter": ";"}),
    "tab": ("id\tage\np1\t50\n", {"delimiter": "\t"}),
    "windows lines": ("id,age\r\np1,50\r\n", {}),
    "no header": ("p1,50\n", {"header": False, "columns": ("id", "age")}),
    "byte order mark": ("\ufeffid,age\np1,50\n", {}),
    "latin-1": ("id,age\np1,50\n", {"encoding": "latin-1"}),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_of_csv(tmp_path: Path, name: str) -> None:
    text, given_ = DIALECTS[name]
    assert csv(tmp_path, text, **given_).columns == {"id": ["p1"], "age": ["50"]}


def test_letters_of_another_encoding_are_read(tmp_path: Path) -> None:
    assert csv(tmp_path, "id,town\np1,Zürich\n", "latin-1").columns["town"] == ["Zürich"]
    with pytest.raises(DataUnusable):  # the same bytes are no UTF-8
        CsvSource(TableSource(type="csv", path="t.csv"), tmp_path).rows()


def test_text_stays_text(tmp_path: Path) -> None:
    """Nothing is guessed: leading zeros, dates, NULL and booleans reach the mapping as they stand."""
    cells = ["007", "2024-01-02", "NULL", "true", "1e3", " x ", "NaN"]
    assert csv(tmp_path, "v\n" + "".join(f"{cell}\n" for cell in cells)).columns["v"] == cells


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=15
)
@given(
    st.lists(st.tuples(st.text("ab 1,;\"'\n\té.", max_size=6), st.text("019.-", max_size=4)), min_size=1, max_size=6),
    st.sampled_from([(), ("first",), ("second",)]),
)
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path: Path, cells: list[tuple[str, str]], used: tuple[str, ...]
) -> None:
    import csv as writer
    import io

    out = io.StringIO()
    told = writer.writer(out, quoting=writer.QUOTE_ALL, lineterminator="\n")
    told.writerow(["first", "second"])
    told.writerows(cells)
    (tmp_path / "t.csv").write_bytes(out.getvalue().encode())
    of_csv = CsvSource(TableSource(type="csv", path="t.csv"), tmp_path)
    of_csv.told(Asked(frozenset(used)))
    every = {"first": [a or None for a, _ in cells], "second": [b or None for _, b in cells]}
    assert of_csv.rows().columns == {name: every[name] for name in used or every}


CHANGES = [
    "DELETE FROM patients",
    "DROP TABLE patients",
    "UPDATE patients SET age = 1",
    "INSERT INTO patients VALUES ('x', 1, '')",
    "SELECT 1; DELETE FROM patients",
    "ATTACH 'other' AS o",
    "PRAGMA writable_schema = 1",
    "COPY patients TO 'stolen.csv'",
    "EXPLAIN DELETE FROM patients",
    "-- SELECT\nDELETE FROM patients",
    "/* SELECT */ DELETE FROM patients",
    "selection FROM patients",
    "",
]


NAMES = ["it's", "'; DROP TABLE t; --", "{0}", "$1", "?", "back\\slash"]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_file_or_a_column_is_called_it_is_read(tmp_path: Path, name: str) -> None:
    rows = {name: ["p1", "p2"], "age": ["50", "61"]}
    (tmp_path / f"{name}.csv").write_text("".join(f"{a};{b}\n" for a, b in zip(*rows.values(), strict=True)))
    pq.write_table(pa.table(rows), tmp_path / f"{name}.parquet")
    told = TableSource(type="csv", path=f"{name}.csv", delimiter=";", header=False, columns=tuple(rows))
    for found in (
        CsvSource(told, tmp_path),
        ParquetSource(TableSource(type="parquet", path=f"{name}.parquet"), tmp_path),
    ):
        assert found.rows().columns == rows and found.count() == 2


def test_reading_a_file_imports_no_pandas(tmp_path: Path) -> None:
    """It takes longer than all else that an agent imports, and whoever has statsmodels has it."""
    pytest.importorskip("pandas")
    (tmp_path / "t.csv").write_text("id,age\np1,50\n")
    pq.write_table(pa.table({"id": ["p1"]}), tmp_path / "t.parquet")
    code = """
import sys
from pathlib import Path
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource, ParquetSource
for kind, of in (("csv", CsvSource), ("parquet", ParquetSource)):
    assert of(TableSource(type=kind, path=f"t.{kind}"), Path(sys.argv[1])).count() == 1
    assert len(of(TableSource(type=kind, path=f"t.{kind}"), Path(sys.argv[1])).rows()) == 1
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 0


@pytest.mark.parametrize("query", CHANGES)
def test_what_is_not_one_select_is_refused_before_it_runs(tmp_path: Path, query: str) -> None:
    sqlite(tmp_path), duck(tmp_path)
    for make in (by_url, by_path):
        with pytest.raises(MappingInvalid):
            make(tmp_path, query)


SLY = [
    "WITH gone AS (SELECT 1) DELETE FROM patients",
    "WITH gone AS (SELECT 1) DELETE FROM patients RETURNING *",
    "WITH gone AS (SELECT 1) UPDATE patients SET age = 0",
    "WITH gone AS (SELECT 1) INSERT INTO patients SELECT 'x', 1, ''",
    "SELECT * INTO stolen FROM patients",
    "WITH gone AS (DELETE FROM patients RETURNING *) SELECT * FROM gone",
    "SELECT * FROM patients) AS counted; DELETE FROM patients --",
]


@pytest.mark.parametrize("query", SLY)
def test_what_looks_like_a_select_changes_nothing(tmp_path: Path, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused as it is read; what would pass there is stopped by the databases that can."""
    with pytest.raises(MappingInvalid):
        selecting.one_select(query)
    monkeypatch.setattr(selecting, "_writes", lambda query: False)
    paths = sqlite(tmp_path), duck(tmp_path)
    before = [path.read_bytes() for path in paths]
    for make in (by_url, by_path):
        for act in ("rows", "count"):
            with pytest.raises((DataUnusable, MappingInvalid)):
                getattr(make(tmp_path, query), act)()
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("query", [
    "SELECT replace(note, 'a', 'b') AS \"delete\", 'insert into' AS x FROM t WHERE id IN (SELECT id FROM u) FOR UPDATE",
    "WITH t AS (SELECT 1 AS x) SELECT x AS merge FROM t -- delete\n UNION SELECT (replace('a', 'b', 'c'))",
])  # fmt: skip
def test_a_select_with_words_that_write_elsewhere_is_one(query: str) -> None:
    assert selecting.one_select(f"{query};") == query


def test_a_number_of_single_precision_is_read_as_it_was_written(tmp_path: Path) -> None:
    """6.9, at the end of a range, is within it."""
    texts = ["6.9", "0.1", "16777216.0", "1e-30", "-3.25"]
    pq.write_table(pa.table({"x": pa.array(list(map(float, texts)), pa.float32())}), tmp_path / "t.parquet")
    found = ParquetSource(TableSource(type="parquet", path="t.parquet"), tmp_path).rows().columns["x"]
    assert list(map(float, found)) == list(map(float, texts))  # type: ignore[arg-type]
    with duckdb.connect(str(tmp_path / "f.duckdb")) as made:
        made.execute(f"CREATE TABLE t AS FROM '{tmp_path / 't.parquet'}'")
    source = TableSource(type="sql", path="f.duckdb", query="SELECT x, x * 2 AS y FROM t")
    assert SqlSource(source, tmp_path).rows().columns["x"] == found


RAGGED = {
    "a line too long at the end": "id,age\np1,50\np2,61,x\n",
    "a line too long": "id,age\np1,50\np2,61,x\np3,5\n",
    "a line too short": "id,age\np1\np2,6\n",
    "a title before the header": "Export of 2024\nid,age\np1,5\n",
    "a quote left open": 'id,age\n"p1,50\n',
    "a last line without an end: 50 may have been 500": "id,age\np1,50",
}


@pytest.mark.parametrize("name", RAGGED)
def test_a_line_that_does_not_fit_is_refused_and_no_patient_is_skipped(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataUnusable):
        csv(tmp_path, RAGGED[name])


@pytest.mark.parametrize("name", RAGGED)
def test_a_line_that_does_not_fit_is_refused_though_only_one_column_is_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text(RAGGED[name])
    found = CsvSource(TableSource(type="csv", path="t.csv"), tmp_path)
    found.told(Asked(frozenset({"id"})))
    with pytest.raises(DataUnusable):
        found.rows()


FAILS = "CAST('x' || id AS INTEGER) AS note"


def test_of_columns_that_are_not_used_no_value_is_computed(tmp_path: Path) -> None:
    """A column whose every value fails ends the reading, unless nobody uses it; which columns there are is known."""
    sqlite(tmp_path), duck(tmp_path)
    bad = {by_path: FAILS, by_url: "json('[' || id) AS note"}
    for make, column in bad.items():
        query = f"SELECT id, {column}, age FROM patients ORDER BY id -- all"
        with pytest.raises(DataUnusable):
            make(tmp_path, query).rows()
        for used, wanted, others in (
            ({"age", "id"}, ("id", "age"), ("note",)), ({"age", "none"}, ("age",), ("id", "note")),
        ):  # fmt: skip
            found = make(tmp_path, query)
            found.told(Asked(frozenset(used)))
            rows = found.rows()
            assert rows.columns == {name: ROWS[name] for name in wanted} and rows.others == others
    (tmp_path / "t.csv").write_bytes(b"id,note,age\np1,x,50\n")
    of_csv = CsvSource(TableSource(type="csv", path="t.csv"), tmp_path)
    of_csv.told(Asked(frozenset({"age"})))
    assert of_csv.rows() == Rows({"age": ["50"]}, ("id", "note"))


def test_a_file_of_text_is_read_by_the_columns_that_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DuckDB plans it."""
    (tmp_path / "t.csv").write_text("id,note,age\np1,x,50\n")
    plans, plain = list[str](), asking.of_duckdb

    def explained(ask: Any, table: str, names: list[str], asked: Any) -> Rows:
        def also(query: str) -> Any:
            plans.append(ask(f"EXPLAIN {query}")[1][0][1])
            return ask(query)

        return plain(also, table, names, asked)

    monkeypatch.setattr(tables, "of_duckdb", explained)
    of_csv = CsvSource(TableSource(type="csv", path="t.csv"), tmp_path)
    of_csv.told(Asked(frozenset({"age"}), without=("id", frozenset({"p2"}))))
    assert of_csv.rows().columns == {"age": ["50"]}
    keys, chosen = plans
    assert "id" in keys and "note" not in keys + chosen and "age" in chosen and "age" not in keys


def test_nothing_is_guessed_about_quotes_and_comments(tmp_path: Path) -> None:
    assert csv(tmp_path, "id,age\n#p1,50\n'p2',61\n").columns["id"] == ["#p1", "'p2'"]


BROKEN: dict[str, Callable[[Path], object]] = {
    "csv with a line too long": lambda folder: csv(folder, f"id,age\np1,50\np2,61,{MARK}\n"),
    "csv with a quote left open": lambda folder: csv(folder, f'id,age\n"{MARK},50\n'),
    "csv with text after a quote": lambda folder: csv(folder, f'id,age\n"{MARK}"x,50\n'),
    "csv of an unknown encoding": lambda folder: csv(folder, f"id,age\n{MARK},50\n").columns and CsvSource(
        TableSource(type="csv", path="t.csv", encoding="klingon"), folder).rows(),
    "a file that is no parquet": lambda folder: (folder / "t.parquet").write_text(MARK) and ParquetSource(
        TableSource(type="parquet", path="t.parquet"), folder).rows(),
    "a cast that fails": lambda folder: duck(folder) and by_path(
        folder, f"SELECT CAST(id || '{MARK}' AS INTEGER) AS n FROM patients").rows(),
    "a column that is not there": lambda folder: sqlite(folder) and by_url(folder, "SELECT none FROM patients").rows(),
    "a database that is not there": lambda folder: by_url(folder / "nowhere", "SELECT 1 AS one").rows(),
    "a driver that is not there": lambda folder: SqlSource(
        TableSource(type="sql", url=f"oracle://{MARK}@h/d", query="SELECT 1 AS one"), folder).rows(),
    "a URL that is none": lambda folder: SqlSource(
        TableSource(type="sql", url=f"::{MARK}", query="SELECT 1 AS one"), folder).rows(),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_source_that_cannot_be_read_says_so_without_a_cell_or_a_password(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConsiliumError) as told:
        BROKEN[name](tmp_path)
    assert MARK not in str(told.value) and told.value.remedy


def test_a_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite(tmp_path)
    given_ = TableSource(type="sql", url="sqlite:///${TABLES}/t.sqlite", query="SELECT id FROM patients")
    monkeypatch.delenv("TABLES", raising=False)
    with pytest.raises(MappingInvalid, match="the environment has no TABLES"):
        SqlSource(given_, tmp_path)
    monkeypatch.setenv("TABLES", str(tmp_path))
    assert SqlSource(given_, tmp_path).count() == 3


def test_a_source_without_its_parts_says_which(tmp_path: Path) -> None:
    bad = [
        (CsvSource, {"type": "csv"}, "needs the path"),
        (CsvSource, {"type": "csv", "path": "none.csv"}, "no file none.csv"),
        (SqlSource, {"type": "sql", "path": "none.duckdb"}, "needs one SELECT"),
        (SqlSource, {"type": "sql", "query": "SELECT 1"}, "needs the path of a DuckDB file"),
        (SqlSource, {"type": "sql", "query": "SELECT 1", "path": "t", "url": "sqlite:///t"}, "name one of both"),
    ]
    for kind, given_, words in bad:
        with pytest.raises(ConsiliumError, match=words):
            kind(TableSource(**given_), tmp_path)
    (tmp_path / "t.csv").write_text("1,2\n")
    with pytest.raises(MappingInvalid, match="name the columns"):
        CsvSource(TableSource(type="csv", path="t.csv", header=False), tmp_path)
    with pytest.raises(MappingInvalid, match="'csv' is none of sql"):
        source(TableSource(type="csv"), tmp_path, {"sql": plugins.names("consilium.sources")["sql"]})


URLS = ["sqlite:///t.sqlite", "sqlite:///sub/../t.sqlite", "sqlite+pysqlite:///t.sqlite?timeout=3",
        "sqlite:///file:t.sqlite?uri=true", "duckdb:///t.duckdb"]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_the_url_of_a_file_begins_at_the_mapping_as_a_path_does(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "it's 100% (a folder)#1"
    (folder / "sub").mkdir(parents=True)
    sqlite(folder), duck(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    query = "SELECT * FROM patients ORDER BY id"
    assert SqlSource(TableSource(type="sql", url=url, query=query), folder).rows().columns == ROWS
    wrong = url.replace("t.", "none.")
    with pytest.raises(DataUnusable, match=r"there is no database .*none\.(sqlite|duckdb)") as told:
        SqlSource(TableSource(type="sql", url=wrong, query=query), folder).rows()
    assert "the folder of the mapping" in told.value.remedy
    assert not list(elsewhere.iterdir()) and len(list(folder.iterdir())) == 3, "no empty database was made"


def test_a_database_is_opened_for_reading_alone(tmp_path: Path) -> None:
    path = sqlite(tmp_path)
    engine = databases.engine(f"sqlite:///{path}", path)
    with engine.connect() as connection, pytest.raises(OperationalError, match="readonly database"):
        connection.exec_driver_sql("CREATE TABLE t (x)")
    path.unlink()
    with pytest.raises(OperationalError, match="unable to open"):
        databases.engine(f"sqlite:///{path}", path).connect()
    assert not path.exists()


@pytest.mark.parametrize("make", [by_url, by_path])
@pytest.mark.parametrize(
    ("query", "told"),
    [("SELECT * FROM patienten", "no table patienten"), ("SELECT age, born FROM patients", "no column born"),
     ("SELECT p.* FROM patients AS p JOIN labs USING (id)", "no table labs"),
     (f"SELECT * FROM patients WHERE note = '{MARK}' AND FROM", "")],
)  # fmt: skip
def test_what_a_query_names_that_is_not_there_is_told_and_nothing_else_of_the_drivers(
    tmp_path: Path, make: Callable[[Path, str], SqlSource], query: str, told: str
) -> None:
    sqlite(tmp_path), duck(tmp_path)
    with pytest.raises(DataUnusable) as error:
        make(tmp_path, query).rows()
    assert MARK not in str(error.value)
    assert (error.value.message == f"source.query: the database has {told}") is bool(told)


@pytest.mark.parametrize(
    ("said", "told"),
    [('relation "labs" does not exist\nLINE 1: SELECT * FROM labs', "no table labs"),
     ("column p.born does not exist", "no column p.born"),
     ("(1146, \"Table 'ward.labs' doesn't exist\")", "no table ward.labs"),
     ("(1054, \"Unknown column 'born' in 'SELECT'\")", "no column born"),
     (f'invalid input syntax for type integer: "relation {PLAIN} does not exist"', ""),
     (f"Conversion Error: Could not convert string to INT32: no such table: {PLAIN}", "")],
)  # fmt: skip
def test_of_a_drivers_words_only_how_they_begin_counts(said: str, told: str) -> None:
    assert databases.lacking(ValueError(said)) == told


@pytest.mark.parametrize("kind", ["sql", "csv", "parquet"])
def test_a_file_of_sqlite_as_a_path_says_what_to_write(tmp_path: Path, kind: str) -> None:
    sqlite(tmp_path)
    query = {"query": "SELECT 1 AS one"} if kind == "sql" else {}
    with pytest.raises(MappingInvalid, match="a file of SQLite") as told:
        source(TableSource(type=kind, path="t.sqlite", **query), tmp_path, plugins.names("consilium.sources"))
    assert 'url: "sqlite:///t.sqlite"' in told.value.remedy


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) AS x FROM n"


@pytest.mark.parametrize("place", ["path", "url"])
def test_a_query_that_hangs_is_given_up(tmp_path: Path, place: str) -> None:
    """On DuckDB and on SQLite, both of which are told to stop."""
    file = tmp_path / "t.db"
    if place == "path":
        duckdb.connect(str(file)).close()
    else:
        file.touch()
    where = {"path": "t.db"} if place == "path" else {"url": f"sqlite:///{file}"}
    source = SqlSource(TableSource(type="sql", **where, query=ENDLESS, time_limit_s=0.5), tmp_path)
    began, before = time.monotonic(), threading.active_count()
    with pytest.raises(DataUnusable, match=r"longer than the 0.5 s that source.time_limit_s allows"):
        source.rows()
    assert time.monotonic() - began < 20
    until(lambda: threading.active_count() <= before, "the query ends")


@pytest.mark.parametrize(
    ("query", "differs"),
    [
        ("SELECT nr, max(replace(v, ',', '.')) AS v FROM lab GROUP BY nr", "v"),
        ("SELECT nr, min(day) AS day FROM lab GROUP BY nr", "day"),
        ("SELECT nr, (SELECT v FROM lab l WHERE l.nr = k.nr ORDER BY day LIMIT 1) AS v FROM lab k GROUP BY nr", "v"),
        ("SELECT nr, count(*) AS n FROM lab WHERE day < '02.01.2024' GROUP BY nr", "the rows|n"),
        ("SELECT nr, max(CAST(replace(v, ',', '.') AS REAL)) AS v FROM lab GROUP BY nr", ""),
        ("SELECT nr, min(substr(day, 7)||substr(day, 4, 2)||substr(day, 1, 2)) AS d FROM lab GROUP BY nr", ""),
        ("SELECT DISTINCT nr FROM lab WHERE nr < 10 ORDER BY nr", ""),
        ("SELECT nr, v FROM lab AS k WHERE iso = (SELECT min(iso) FROM lab WHERE nr = k.nr)", ""),
    ],
)  # fmt: skip
def test_a_query_of_sqlite_that_compares_numbers_or_days_as_text_is_refused(
    tmp_path: Path, query: str, differs: str
) -> None:
    """Of an index that has the order itself nobody knows."""
    rows = [
        (1, "9,5", "02.01.2024", "2024-01-02"),
        (1, "10,5", "01.02.2024", "2024-02-01"),
        (2, "7", "05.01.2024", "2024"),
    ]
    with sqlite3.connect(tmp_path / "lab.db") as database:
        database.execute("CREATE TABLE lab (nr INTEGER, v TEXT, day TEXT, iso TEXT)")
        database.executemany("INSERT INTO lab VALUES (?, ?, ?, ?)", rows)
    database.close()
    made = SqlSource(TableSource.model_validate({"type": "sql", "url": "sqlite:///lab.db", "query": query}), tmp_path)
    if not differs:
        found = made.rows()
        assert len(found) == 2 and not found.doubts
        return
    with pytest.raises(
        DataUnusable, match=rf"as text, by which 9 is more than 10.*: other values would stand in ({differs})"
    ):
        made.rows()


@pytest.mark.parametrize(
    ("query", "differs"),
    [
        ("SELECT nr, max(v) AS v, max(iso) AS iso FROM ward.lab GROUP BY nr", "v"),
        ("SELECT nr, arg_min(v, day) AS v FROM ward.lab GROUP BY nr -- the first", "v"),
        ("SELECT nr, min(day) AS unused, max(CAST(v AS DOUBLE)) AS v, max(number) AS n FROM ward.lab GROUP BY nr", ""),
    ],
)
def test_a_query_of_a_file_of_duckdb_that_compares_numbers_or_days_as_text_is_refused(
    tmp_path: Path, query: str, differs: str
) -> None:
    """In whatever schema; of a patient who opted out, and of a column that nobody uses, nothing is said."""
    with duckdb.connect(str(tmp_path / "lab.duckdb")) as database:
        database.execute("CREATE SCHEMA ward")
        database.execute("CREATE TABLE ward.lab (nr INT, v VARCHAR, day VARCHAR, iso VARCHAR, number DOUBLE)")
        rows = [(1, "9.5", "02.01.2024", "2024-01-02", 9.5), (1, "10.5", "01.02.2024", "2024-02-01", 10.5),
                (2, "7", "05.01.2024", "2024", 7), (3, "9", "01.01.2024", "", 9),
                (3, "10", "01.01.2024", "", 10)]  # fmt: skip
        database.executemany("INSERT INTO ward.lab VALUES (?, ?, ?, ?, ?)", rows)
    made = SqlSource(TableSource.model_validate({"type": "sql", "path": "lab.duckdb", "query": query}), tmp_path)
    made.told(Asked(columns=frozenset(("nr", "v", "iso")), without=("nr", frozenset("3"))))
    if not differs:
        found = made.rows()
        assert len(found) == 2 and not found.doubts and found.left_out == 1
        return
    with pytest.raises(
        DataUnusable, match=rf"as text, by which 9 is more than 10.*: other values would stand in {differs}; within"
    ):
        made.rows()
    own = SqlSource(TableSource.model_validate({"type": "sql", "path": "lab.duckdb", "query": query}), tmp_path)
    own.told(Asked(columns=frozenset(("nr", "v", "iso")), without=("nr", frozenset("13"))))
    assert len(own.rows()) == 1, "only the first has two of them"


@pytest.mark.parametrize(
    ("query", "differs"),
    [
        ("SELECT nr, CAST(v AS REAL) AS v FROM lab WHERE nr < 3", "v"),
        ("SELECT nr, avg(l.v) AS v FROM lab l GROUP BY nr", "v"),
        ("SELECT nr, max(v * 18.0) AS v FROM lab GROUP BY nr", "v"),
        ("SELECT nr, round( /* ( */ l . 'v', 1) AS v FROM lab AS l".replace("'", '"'), "v"),
        ("SELECT nr, count(*) AS n FROM lab WHERE CAST(v AS NUMERIC(9, 2)) < 5 GROUP BY nr", "the rows|n"),
        ("SELECT nr, 2030 - born AS age FROM lab", "age"),
        ("SELECT nr, (v) + 0 AS v FROM lab", "v"),
        ("SELECT nr, 1 * replace(trim(v), ',', ':') AS v FROM lab", "v"),
        ("SELECT nr, -v AS v FROM lab", "v"),
        ("SELECT nr, CAST(v AS TEXT) * 1 AS v, CASE WHEN nr < 9 THEN v END + nr AS w FROM lab", "v, w"),
        ("SELECT nr, v || '' + 0 AS v, (SELECT max(k.v) FROM lab k) - -(l.v) AS w FROM lab l", "v, w"),
        ("SELECT nr, max(v) FILTER (WHERE nr < 9) / 2 AS w, nr + max(v) OVER (PARTITION BY nr) AS v FROM lab"
         " GROUP BY v", "w, v"),
        ("SELECT nr, v | 0 AS v, printf('%.1f', v) AS w FROM lab", "v, w"),
        ("SELECT nr, max(CASE WHEN v NOT GLOB '*[^0-9,]*' AND v <> '' THEN CAST(replace(v, ',', '.') AS REAL) END) AS v"
         " FROM lab GROUP BY nr", ""),
        ("SELECT nr, max(CAST(replace(v, ',', '.') AS REAL)) AS v FROM lab WHERE v LIKE '%,%' GROUP BY nr", ""),
        ("SELECT l.*, strftime('%Y', '2030-05-01') - substr(born, 1, 4) AS age, count(*) AS m, 'CAST(v AS INT)' AS said"
         " FROM lab AS l GROUP BY nr -- avg(v)", ""),
        ("SELECT nr, sum(n) * 2 + avg(DISTINCT n) - n AS n, CAST(n AS TEXT) AS said FROM lab GROUP BY nr", ""),
        ("SELECT nr, +v AS v, (n) + 0 AS n, EXISTS (SELECT 1) + ('1') AS e, count(*) + n AS m, printf('%s', v) AS s"
         " FROM lab GROUP BY nr", ""),
    ],
)  # fmt: skip
def test_a_query_of_sqlite_that_takes_texts_for_numbers_that_are_none_is_refused(
    tmp_path: Path, query: str, differs: str
) -> None:
    """A comma, a bound, a word, nothing, and a day whose year is taken: SQLite says 7, 0, 0, 0 and 1960."""
    texts = ("7,5", "<5", "gone", "", "12")
    with sqlite3.connect(tmp_path / "lab.db") as database:
        database.execute("CREATE TABLE lab (nr INTEGER, v TEXT, n INTEGER, born TEXT)")
        database.executemany("INSERT INTO lab VALUES (?, ?, ?, '1960-12-31')", [(n, v, n) for n, v in enumerate(texts)])
    database.close()
    made = SqlSource(TableSource.model_validate({"type": "sql", "url": "sqlite:///lab.db", "query": query}), tmp_path)
    if not differs:
        assert set(made.rows().doubts) <= {lookalikes.UNKNOWN}  # of NOT GLOB it is not found out
        return
    with pytest.raises(
        DataUnusable, match=rf"takes texts for numbers .* 7 of 7,5.*: other values would stand in ({differs}); let"
    ):
        made.rows()


def test_where_an_index_of_sqlite_gives_the_order_it_is_a_doubt(tmp_path: Path) -> None:
    query = "SELECT nr, (SELECT v FROM lab AS l WHERE l.nr = k.nr ORDER BY day LIMIT 1) AS v FROM k"
    for index, doubts in (("lab (nr)", 0), ("lab (nr, day)", 1)):
        with sqlite3.connect(tmp_path / f"{doubts}.db") as database:
            database.execute("CREATE TABLE lab (nr INTEGER, v TEXT, day TEXT)")
            database.execute("CREATE TABLE k (nr INTEGER)")
            database.execute(f"CREATE INDEX i ON {index}")
            database.execute("INSERT INTO k VALUES (1)")
            database.executemany("INSERT INTO lab VALUES (1, ?, ?)", [("5", "2024-01-01"), ("6", "2024-02-01")])
        database.close()
        given = {"type": "sql", "url": f"sqlite:///{doubts}.db", "query": query}
        found = SqlSource(TableSource.model_validate(given), tmp_path).rows()
        assert len(found.doubts) == doubts and found.columns["v"] == ["5"]


@pytest.mark.parametrize(
    ("query", "orders", "computes"),
    [
        ("SELECT `nr`, sex FROM persons AS p JOIN stays AS s USING (nr) WHERE p.ward = 'A' ORDER BY nr", 0, 0),
        ("SELECT nr, TIMESTAMPDIFF(YEAR, born, day) AS age, trim(v) AS v, count(*) AS n, l.* FROM lab AS l", 0, 0),
        ("SELECT nr, max(v) AS v FROM lab GROUP BY nr", 1, 0),
        ("SELECT nr, (SELECT v FROM lab WHERE lab.nr = p.nr ORDER BY day LIMIT 1) AS v FROM persons AS p", 1, 0),
        ("SELECT nr, v FROM lab ORDER BY v LIMIT 10", 1, 0),
        ("SELECT nr, v FROM lab WHERE day BETWEEN '01.01.2024' AND '31.12.2024'", 1, 0),
        ("SELECT nr FROM lab WHERE v < '7'", 1, 0),
        ("SELECT nr, JSON_VALUE(v, '$.a') AS v FROM lab", 1, 0),
        ("SELECT nr, CAST(v AS DECIMAL(9, 2)) AS v FROM lab", 0, 1),
        ("SELECT nr, v + 0 AS v FROM lab", 0, 1),
        ("SELECT nr, v * w AS v FROM lab WHERE v = 7", 0, 1),
        ("SELECT nr, 'it\\'s' AS a, max(v) AS v FROM lab WHERE b <> 'x'", 1, 0),
    ],
)
def test_what_nobody_finds_out_of_a_query_of_mysql_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, orders: int, computes: int
) -> None:
    """Nothing is, where it compares and computes nothing; a database that ends such a query is asked no second."""
    monkeypatch.setattr(SqlSource, "_asked", lambda *given: Rows({"nr": ["1"]}))
    for database, doubts in (("mysql+pymysql", orders + computes), ("mariadb", orders + computes), ("mssql", orders)):
        given = {"type": "sql", "url": f"{database}://reader@host/research", "query": query}
        found = SqlSource(TableSource.model_validate(given), tmp_path).rows()
        assert len(found.doubts) == doubts, found.doubts
        assert all(database.split("+")[0] in str(one) for one in found.doubts)


@given(
    units=st.lists(st.sampled_from(["s", "ms", "us", "ns", ""]), min_size=1, max_size=6),
    letters=st.text(st.sampled_from('ab\u00e4 "'), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_the_unit_of_a_duration_is_read_as_arrow_reads_it(units: list[str], letters: str) -> None:
    columns = {f"{letters}{at}": pa.duration(unit) if unit else pa.int64() for at, unit in enumerate(units)}
    schema = pa.schema([*columns.items(), ("l", pa.list_(pa.int8())), ("t", pa.timestamp("us", "UTC"))])
    wanted = {name: units[at] for at, name in enumerate(columns) if units[at]}
    assert durations.durations(schema.serialize().to_pybytes()) == wanted


def test_a_duration_of_parquet_is_no_number_whose_unit_nobody_knows(tmp_path: Path) -> None:
    stays = pa.table({"p": ["a", "b"], "los": pa.array([timedelta(hours=3), None], pa.duration("us"))})
    pq.write_table(stays, tmp_path / "x.parquet")

    def read(*columns: str) -> Rows:
        source = ParquetSource(TableSource(type="parquet", path="x.parquet"), tmp_path)
        source.told(Asked(frozenset(columns)))
        return source.rows()

    assert read("p").columns == {"p": ["a", "b"]} and read().columns["los"] == ["10800000000 us", None]
    with pytest.raises(DataUnusable, match="'los' holds durations, which are stored in us"):
        read("p", "los")


@pytest.mark.parametrize(("text", "given_"), [
    ("p,v\na,1,\nb,2,\n", {}), ("v\na,1\nb,\n", {}), ("a,1,\nb,2,\n", {"header": False, "columns": ("p", "v")}),
])  # fmt: skip
def test_lines_with_more_fields_than_columns_are_named_are_refused_though_they_are_empty(
    tmp_path: Path, text: str, given_: dict[str, Any]
) -> None:
    """The column without a name may be the last one, or, as R writes it, the first: then all names are shifted."""
    with pytest.raises(DataUnusable, match="fields"):
        csv(tmp_path, text, **given_)
    assert len(csv(tmp_path, "p,v,\na,1,\nb,2,\n").columns["p"]) == 2


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_a_database_is_told_to_read_alone_and_a_server_to_end_what_nobody_waits_for(dialect: str) -> None:
    """Tried on MariaDB 10.11: a function that deletes is refused, and SLEEP(20) ends after the time."""
    for mariadb in (False, True):
        said = " ".join(databases.before(dialect, mariadb, 65.5))
        assert "READ ONLY" in said or "query_only" in said
        assert dialect == "sqlite" or "= 65500" in said or (mariadb and "= 65.5" in said)
    assert databases.before("mssql", False, 65.5) == ()


def test_what_mysql_answers_in_its_own_way_is_read() -> None:
    assert asking.rows_of(["b", "t"], [(b"\x01", b"x"), (b"\x00", None)]).columns == {
        "b": ["1", "0"],
        "t": ["b'x'", None],
    }
    assert databases.twice(OperationalError("SELECT", {}, Exception("(1060, \"Duplicate column name 'nr'\")")))
    assert not databases.twice(ValueError("nr (1060, "))


def test_no_connection_is_kept_that_nobody_uses(tmp_path: Path) -> None:
    for url in ("sqlite:///x.db", "postgresql+psycopg://reader@host/research"):
        assert type(databases.engine(url).pool).__name__ == "NullPool"
