"""Tables of several files are one by a query over their names, which reads nothing else."""

import csv
import re
import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.core.gate import Gate
from consilium.data import asking, catalogue, closed, joined, meeting, needed, ordering, quality
from consilium.data.base import Lost, Rows, Seen, Source, Unused
from consilium.data.joined import JoinedSource
from consilium.data.source import TableSource
from consilium.data.tables import SqlSource

MARK = "MUSTERMANN-4711"
PERSONS = [(1, "1950-03-31", "w"), (2, "1990-01-01", "m"), (3, "1970-06-15", "w")]
VISITS = [(2, "2024-12-31", 5.5), (1, "2024-03-30", 7.25), (1, "2023-12-31", 9.0)]
FIRST = """
    SELECT nr, sex, date_sub('year', CAST(born AS DATE), CAST(min(day) AS DATE)) AS age,
           arg_min(glucose, day) AS glucose
    FROM persons JOIN visits USING (nr) GROUP BY nr, sex, born
"""
PLACES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"type": "excel", "path": "ward.xlsx", "sheet": "Persons"},
        {"type": "excel", "path": "ward.xlsx", "sheet": "Visits"},
    ),
    ({"type": "parquet", "path": "persons.parquet"}, {"type": "parquet", "path": "visits.parquet"}),
    (
        {"type": "csv", "path": "persons.csv"},
        {"type": "sql", "url": "sqlite:///ward.db", "query": "SELECT * FROM visits"},
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Persons and visits, in every form."""
    made = tmp_path_factory.mktemp("ward")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, header, rows in (
        ("persons", ("nr", "born", "sex"), PERSONS), ("visits", ("nr", "day", "glucose"), VISITS),
    ):  # fmt: skip
        pq.write_table(pa.table(dict(zip(header, map(list, zip(*rows))))), made / f"{name}.parquet")
        with (made / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        sheet = book.create_sheet(name.capitalize())
        for row in (header, *rows):
            sheet.append(row)
    book.save(made / "ward.xlsx")
    with sqlite3.connect(made / "ward.db") as database:
        database.execute("CREATE TABLE visits (nr INTEGER, day TEXT, glucose REAL)")
        database.executemany("INSERT INTO visits VALUES (?, ?, ?)", VISITS)
    database.close()
    return made


def of(folder: Path, persons: dict[str, Any], visits: dict[str, Any], query: str = FIRST) -> JoinedSource:
    tables = {"persons": persons, "visits": visits}
    return JoinedSource(TableSource.model_validate({"type": "tables", "tables": tables, "query": query}), folder)


@pytest.mark.parametrize(("persons", "visits"), PLACES, ids=["sheets", "parquet", "file-and-database"])
def test_two_tables_are_one_wherever_they_stand(folder: Path, persons: dict[str, Any], visits: dict[str, Any]) -> None:
    """Whole years on the day of the first visit: one day before a birthday, and not those of the calendar."""
    found = of(folder, persons, visits)
    columns = dict(found.rows().columns)
    assert [float(str(one)) for one in columns.pop("glucose")] == [9.0, 5.5]
    assert columns == {"nr": ["1", "2"], "sex": ["w", "m"], "age": ["73", "34"]} and found.count() == 2


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(*[st.none() | st.text(st.characters(exclude_categories=["Cs"]))] * 2)), st.integers(1, 3))
def test_values_are_text_as_they_stand(rows: list[tuple[str | None, str | None]], at_once: int) -> None:
    """In whatever pieces they are handed over."""
    table = Rows({"a": [row[0] for row in rows], 'b "b"': [row[1] for row in rows]})
    with pytest.MonkeyPatch.context() as patch, duckdb.connect(config=closed.CLOSED) as tables:
        patch.setattr(joined, "AT_ONCE", at_once)
        joined._fill(tables, "t", table)
        assert tables.execute("SELECT * FROM t").fetchall() == rows


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT nope FROM persons", 'Referenced column "nope" not found'),
        ("SELECT * FROM person", "its tables are persons (nr, born, sex), visits (nr, day, glucose)"),
        ("SELECT sum(glucose) FROM visits", "columns of `tables` are text: write CAST"),
        ("SELECT CAST(sex AS DOUBLE) FROM persons", "write TRY_CAST"),
        ("SELECT * FROM read_csv('persons.csv')", "a file is named under `tables`"),
        ("SELECT * FROM persons, visits", "has two columns of one name, the 1st and the"),
        ("SELECT nr FROM persons; DROP TABLE persons", "only one SELECT"),
    ],
)
def test_what_is_wrong_with_a_query_is_told_without_a_value(folder: Path, query: str, told: str) -> None:
    with (folder / "marked.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("nr", "born", "sex"), (1, "1950-01-01", MARK)])
    with pytest.raises(ConsiliumError) as caught:
        of(folder, {"type": "csv", "path": "marked.csv"}, PLACES[0][1], query).rows()
    assert told in str(caught.value) and MARK not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "differs"),
    [
        ("SELECT nr, max(glucose) AS most FROM visits GROUP BY nr", "most"),
        ("WITH s AS (SELECT nr, glucose AS g FROM visits) SELECT nr, arg_min(nr, g) a, min(g) AS b FROM s GROUP BY nr",
         "b"),
        ("SELECT nr, glucose FROM visits WHERE glucose > limit_", "the rows|glucose|nr"),
        ("SELECT nr, glucose FROM visits WHERE glucose BETWEEN '7' AND '90'", "the rows"),
        ("SELECT nr, max(replace(glucose, '.', ',')) AS most FROM visits GROUP BY nr", "most"),
        ("SELECT nr, max(glucose) AS most, any_value(upper(trim(glucose))) FROM visits GROUP BY nr", "most"),
        ("SELECT nr, max(glucose) FILTER (WHERE glucose NOT LIKE '<%') AS most FROM visits GROUP BY nr", "most"),
        ("SELECT nr, max(worded) AS most FROM visits WHERE worded <> 'lost' GROUP BY nr", "most"),
        ("SELECT nr, greatest(glucose, limit_) AS g FROM visits", "g"),
        ("SELECT nr, min(said) AS day FROM visits GROUP BY nr", "day"),
        ("SELECT nr, arg_min(glucose, said) AS first FROM visits GROUP BY nr", "first"),
        ("SELECT nr, first(glucose ORDER BY said) AS g FROM visits GROUP BY nr", "g"),
        ("SELECT nr, glucose AS g FROM visits QUALIFY row_number() OVER (PARTITION BY nr ORDER BY said) = 1", "g"),
        ("SELECT nr, glucose AS g FROM visits ORDER BY said DESC LIMIT 1", "g"),
        ("SELECT nr, (SELECT v.glucose FROM visits v WHERE v.nr = p.nr ORDER BY v.said LIMIT 1) AS g FROM visits p",
         "g"),
        ("SELECT nr, count(*) AS n FROM visits WHERE said >= '02.01.2024' GROUP BY nr", "the rows|n"),
        ("SELECT nr, max(CAST(glucose AS DOUBLE)) AS most FROM visits GROUP BY nr", ""),
        ("SELECT nr, max(day) AS last FROM visits GROUP BY nr ORDER BY nr", ""),
        ("SELECT nr, arg_min(glucose, strptime(said, '%d.%m.%Y')) AS g FROM visits GROUP BY nr", ""),
        ("SELECT nr, max(TRY_CAST(worded AS DOUBLE)) AS most FROM visits GROUP BY nr", ""),
        ("SELECT nr, min(grade) AS least, max(day || grade) AS g FROM visits GROUP BY nr", ""),
        ("SELECT DISTINCT nr FROM visits WHERE day >= '2024-01-01' AND CAST(glucose AS DOUBLE) < 100", ""),
        ("SELECT nr, glucose FROM visits QUALIFY row_number() OVER (PARTITION BY nr ORDER BY day) = 1", ""),
    ],
)  # fmt: skip
def test_a_query_that_compares_numbers_or_days_as_text_is_refused_and_says_what_would_be_another(
    tmp_path: Path, query: str, differs: str
) -> None:
    """9 and 10.5 of one patient, and a column of limits between them; days that as text stand the other way round."""
    header = ("nr", "day", "said", "glucose", "limit_", "worded", "grade")
    with (tmp_path / "visits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, (1, "2024-01-02", "02.01.2024", 9, 9.5, 9, "2B"),
                                    (1, "2024-02-01", "01.02.2024", 10.5, 9.5, 10, "3"),
                                    (2, "2024-01-01", "01.01.2024", 7, 7.5, "lost", "2"),
                                    (2, "2024-01-01", "01.01.2024", 7, 7.5, "<5", "<1")])  # fmt: skip
    visits = {"type": "csv", "path": "visits.csv"}
    found = of(tmp_path, visits, visits, query)
    if not differs:
        made = found.rows()
        assert len(made) == 2 and all(isinstance(one, Lost) for one in made.doubts)
        return
    with pytest.raises(
        DataUnusable, match=rf"as text, by which 9 is more than 10.*: other values would stand in ({differs})"
    ) as error:
        found.rows()
    what, columns = re.search(r"later than 01.02.2024, in (\S+|ORDER BY) of ([\w., ]+): ", str(error.value)).groups()  # type: ignore[union-attr]
    assert what.casefold() in query.casefold(), "where it is so is told: by which function, and of which columns"
    assert all(one.split(".")[-1] in header for one in columns.split(", "))


@pytest.mark.parametrize(("made", "told"), [
    ("CASE WHEN lo < hi AND a < b THEN 1 ELSE 0 END AS y, ward > 'A' AS w", ""),
    ("CASE WHEN ward > 'A' AND lo < hi THEN 1 ELSE 0 END AS y, a = b AS w", "< of lab.lo, lab.hi"),
    ("ward > 'A' AS w, CASE WHEN a < b THEN 1 ELSE 0 END AS y, lo = hi AS x", "< of lab.a, lab.b"),
])  # fmt: skip
def test_a_place_is_named_only_if_the_answer_hangs_on_it_alone(made: str, told: str) -> None:
    """Of two that only together make another answer, a third was named, at which nothing is wrong."""
    query = f"SELECT nr, {made} FROM lab"
    with duckdb.connect(config={"threads": "1"}) as tables:
        tables.execute("CREATE TABLE lab (nr TEXT, lo TEXT, hi TEXT, a TEXT, b TEXT, ward TEXT)")
        tables.execute("INSERT INTO lab VALUES ('1', '9', '10', '8', '12', 'A'), ('2', '9', '11', '7', '13', 'B')")

        def ask(asked: str) -> asking.Answer:
            found = tables.execute(asked)
            return [column[0] for column in found.description], found.fetchall()

        assert ordering.others(tables, query, ask(query), ask) == ["y"]
        assert ordering.place(tables, query, ask(query), ask) == told


LABS = [(nr, f"{90 + nr},5" if nr % 2 else "<5" if nr % 4 else "n.d.", nr % 3) for nr in range(40)]


@pytest.mark.parametrize(
    ("made", "lost"),
    [
        ("avg(TRY_CAST(text AS DOUBLE))", (("k",), 30)),
        ("TRY_CAST(any_value(text) AS INTEGER)", (("k",), 30)),
        ("count(*) FILTER (TRY_CAST(text AS DECIMAL(9, 2)) > 50)", (("k",), 30)),
        ("avg(TRY_CAST(replace(text, ',', '.') AS DOUBLE))", (("k",), 10)),
        ("avg(CASE WHEN text LIKE '<%' THEN 2.5 ELSE TRY_CAST(replace(text, ',', '.') AS DOUBLE) END)", None),
        ("max(TRY_CAST(ward AS DOUBLE))", None),
        ("any_value(text)", None),
    ],
)
@pytest.mark.parametrize("form", ["tables", "duckdb"])
def test_texts_of_which_try_cast_makes_nothing_are_counted(
    tmp_path: Path, form: str, made: str, lost: tuple[tuple[str, ...], int] | None
) -> None:
    """A word for nothing is none of them, and neither is what a CASE takes out before."""
    query = f"SELECT nr, {made} AS k FROM labs GROUP BY nr"
    if form == "duckdb":
        with duckdb.connect(str(tmp_path / "labs.duckdb")) as database:
            database.execute("CREATE TABLE labs (nr INTEGER, text VARCHAR, ward INTEGER)")
            database.executemany("INSERT INTO labs VALUES (?, ?, ?)", LABS)
        source: Source = SqlSource(TableSource(type="sql", path="labs.duckdb", query=query), tmp_path)
    else:
        with (tmp_path / "labs.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("nr", "text", "ward"), *LABS])
        tables = {"labs": {"type": "csv", "path": "labs.csv"}}
        source = JoinedSource(
            TableSource.model_validate({"type": "tables", "tables": tables, "query": query}), tmp_path
        )
    found = [one for one in source.rows().doubts if not isinstance(one, Unused)]
    assert found == ([] if lost is None else [Lost(*lost, 40)])


YEAR = "DATE '2024-01-01' AND DATE '2024-12-31'"


@pytest.mark.parametrize(("made", "by"), [
    ("max(try_strptime(day, '%d.%m.%Y'))", ("try_strptime",)),
    (f"count(*) FILTER (WHERE try_strptime(day, '%d.%m.%Y') BETWEEN {YEAR})", ("try_strptime",)),
    ("count(CASE WHEN TRY_CAST(day AS DATE) >= DATE '2024-01-01' AND TRY_CAST(day AS DATE) < DATE '2025-01-01' "
     "THEN 1 END)", ("TRY_CAST",)),
    ("max(coalesce(try_strptime(day, '%d.%m.%Y'), TRY_CAST(day AS DATE)))", ()),
    (f"count(*) FILTER (WHERE coalesce(try_strptime(day, '%d.%m.%Y'), try_strptime(day, '%Y-%m-%d')) BETWEEN {YEAR})",
     ()),
    ("max(coalesce(try_strptime(day, '%d.%m.%Y'), try_strptime(day, '%d/%m/%Y'), DATE '1999-01-01'))",
     ("try_strptime",)),
    ("max(try_strptime(day, ['%d.%m.%Y', '%Y-%m-%d']))", ()),
    ("max(CASE WHEN day LIKE '%-%' THEN NULL ELSE try_strptime(day, '%d.%m.%Y') END)", ()),
    (f"count(*) FILTER (WHERE DATE '9999-12-31' > DATE '2024-01-01' AND strptime(nr, '%j') BETWEEN {YEAR})", ()),
])  # fmt: skip
def test_days_of_which_a_query_makes_nothing_are_counted_in_a_window_too(
    tmp_path: Path, made: str, by: tuple[str, ...]
) -> None:
    """Of half of the patients a day is written otherwise, of one not at all, and of one by a word for nothing."""
    days = [f"{nr},{f'2024-03-{nr:02}' if nr % 2 else f'{nr:02}.03.2024'}" for nr in range(1, 31)]
    (tmp_path / "visits.csv").write_text("\n".join(["nr,day", *days, "31,", "32,unknown", ""]))
    visits = {"type": "csv", "path": "visits.csv"}
    doubts = of(tmp_path, visits, visits, f"SELECT nr, {made} AS k FROM visits GROUP BY nr").rows().doubts
    assert doubts == ((Lost(("k",), 15, 32, by),) if by else ())
    if by:
        found = quality._lost(doubts[0], Gate())  # type: ignore[arg-type]
        assert found.blocks and by[0] in found.words and ("lpad" in found.remedy) is (by == ("try_strptime",))


def test_days_with_the_month_first_are_read_so_where_one_of_them_shows_it(tmp_path: Path) -> None:
    visits = {"type": "csv", "path": "visits.csv"}
    for days, fits in (("01/13/2024 02/12/2024 03/11/2024", True), ("01/12/2024 02/12/2024 03/11/2024", False)):
        with (tmp_path / "visits.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("nr", "said"), *((1, day) for day in days.split())])
        found = of(tmp_path, visits, visits, "SELECT nr, max(said) AS last FROM visits GROUP BY nr")
        if fits:
            assert found.rows().columns["last"] == ["03/11/2024"]
        else:
            with pytest.raises(DataUnusable, match="other values would stand in last"):
                found.rows()


@pytest.mark.parametrize("query", [
    "SELECT nr, list_max(list(glucose)) AS most FROM visits GROUP BY nr",
    "SELECT nr, max({'day': day, 'v': glucose}).v AS last FROM visits GROUP BY nr",
    "SELECT v.nr, w.glucose FROM visits AS v ASOF JOIN visits AS w ON v.nr = w.nr AND v.day >= w.day",
])  # fmt: skip
def test_where_it_is_not_found_out_what_a_query_compares_it_is_a_doubt(folder: Path, query: str) -> None:
    assert len(of(folder, *PLACES[1], query).rows().doubts) == 1


NUMBERS, PARTS = st.from_regex(r"[-+]?[0-9]{1,3}([.,][0-9]{1,2})?", fullmatch=True), st.integers(1, 31).map(str)
DAYS = st.tuples(
    PARTS, st.sampled_from("./-"), PARTS, st.sampled_from("./-"), st.sampled_from(["24", "2024", "68", "69"])
)


SIGNS = st.text("0123456789.,/-+:eEBTmg? <", max_size=9)


@settings(max_examples=12, deadline=None)
@given(st.lists(NUMBERS | DAYS.map("".join) | SIGNS, min_size=5, max_size=30), st.booleans())
def test_the_order_is_one_and_the_same_in_both_languages(texts: list[str], month_first: bool) -> None:
    with duckdb.connect() as tables:
        tables.execute(f"CREATE MACRO rank(x) AS {ordering._rank(month_first)}")
        told = ", ".join(f"rank({asking.quoted(text)})" for text in texts)
        assert tables.execute(f"SELECT {told}").fetchone() == tuple(ordering.rank(one, month_first) for one in texts)


@pytest.mark.parametrize("cast", ["CAST(said AS DATE)", "strptime(said, '%m/%d/%Y')"])
def test_days_that_are_written_otherwise_are_told_with_strptime_first_and_their_column(
    tmp_path: Path, cast: str
) -> None:
    with (tmp_path / "visits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("nr", "said"), (1, "31/03/1977")])
    visits = {"type": "csv", "path": "visits.csv"}
    with pytest.raises(DataUnusable) as caught:
        of(tmp_path, visits, visits, f"SELECT nr, {cast} AS d FROM visits").rows()
    assert "text: of days as 31.03.2024 write strptime" in str(caught.value) and "1977" not in str(caught.value)
    assert ("of column said" in str(caught.value)) is cast.startswith("CAST")


@pytest.mark.parametrize(("query", "told"), [
    ("SELECT max(CAST(v AS DOUBLE)) FILTER (WHERE test = 'CRP') AS v, min(CAST(nr AS BIGINT)) AS nr FROM visits",
     "CAST(v AS DOUBLE) of visits.v fails for 11 texts"),
    ("WITH k AS (SELECT nr, replace(v, '/', ':') AS w FROM visits) SELECT nr, CAST(trim(w) AS INTEGER) AS v FROM k",
     "CAST(trim(w) AS INTEGER) of visits.v fails for 11 texts"),
    ("SELECT nr, strptime(v, '%Y') AS v, CASE WHEN test = 'CRP' THEN CAST(v AS BIGINT) END AS w FROM visits",
     "strptime(v, '%Y') of visits.v fails for 11 texts"),
    ("WITH k AS (SELECT nr, trim(test) AS t, v AS w FROM visits) SELECT nr, CASE WHEN t = 'CRP' THEN CAST(w AS DOUBLE) "
     "END AS w, max(CASE WHEN t = 'X' THEN 0 WHEN CAST(w AS BIGINT) > 0 THEN 1 END) AS v FROM k GROUP BY ALL",
     "CAST(w AS BIGINT) of visits.v fails for 11 texts"),
    ("SELECT nr, CASE test WHEN 'CRP' THEN CAST(v AS DOUBLE) ELSE CASE WHEN nr <> '9' THEN CAST(v AS INTEGER) END END "
     "AS v FROM visits", "CAST(v AS INTEGER) of visits.v fails for 10 texts"),
])  # fmt: skip
def test_the_cast_that_fails_is_named_wherever_it_stands_and_no_value(tmp_path: Path, query: str, told: str) -> None:
    """Of one test, whose values FILTER leaves out, each value is a pair of numbers."""
    lines = [f"{nr},{'CRP' if nr < 9 else 'RR'},{nr if nr < 9 else f'{nr}/77'}" for nr in range(20)]
    (tmp_path / "visits.csv").write_text("\n".join(["nr,test,v", *lines]) + "\n")
    visits = {"type": "csv", "path": "visits.csv"}
    with pytest.raises(DataUnusable, match=r"FILTER or WHERE protects no CAST") as caught:
        of(tmp_path, visits, visits, query).rows()
    assert caught.value.message.endswith(f": {told}") and "77" not in str(caught.value)


def test_what_is_wrong_with_a_table_is_told_with_its_name(folder: Path) -> None:
    persons, visits = PLACES[2]
    for wrong, error, told in (
        ({"type": "csv", "path": "visit.csv"}, DataUnusable, "correct source.tables.visits.path"),
        ({"type": "sql", "query": "SELECT 1"}, MappingInvalid, "source.tables.visits.url"),
        ({"type": "excel", "path": "ward.xlsx", "sheet": "Visit"}, MappingInvalid, "source.tables.visits.sheet"),
        ({"type": "tables", "tables": {"a": visits}, "query": "SELECT 1"}, MappingInvalid, "is no single table"),
    ):
        with pytest.raises(error, match=told):
            of(folder, persons, wrong).rows()
    with pytest.raises(MappingInvalid, match="needs them, and a SELECT"):
        JoinedSource(TableSource.model_validate({"type": "tables", "query": "SELECT 1"}), folder)


@pytest.mark.parametrize("file", ["'persons.csv'", "read_csv('persons.csv')", "read_parquet(['persons.parquet'])"])
def test_a_query_of_duckdb_names_no_file_that_would_be_looked_for_elsewhere(folder: Path, file: str) -> None:
    """In the folder where the agent was started, that is: there may be another of this name."""
    with duckdb.connect(str(folder / "own.duckdb")) as database:
        database.execute("CREATE OR REPLACE TABLE t AS SELECT 'persons.csv' AS a")
    own = {"type": "sql", "path": "own.duckdb"}
    with pytest.raises(MappingInvalid, match=r"looked for where the agent was started.*`tables`"):
        SqlSource(TableSource.model_validate({**own, "query": f"SELECT * FROM {file}"}), folder)
    whole = file.replace("persons.", f"{folder}/persons.")
    assert SqlSource(TableSource.model_validate({**own, "query": f"SELECT * FROM {whole}"}), folder).count() == 3
    told = TableSource.model_validate({**own, "query": "SELECT * FROM t WHERE a = 'persons.csv'"})
    assert SqlSource(told, folder).count() == 1
    gone = whole.replace("persons.", "nobody.")
    with pytest.raises(DataUnusable, match="is not there"):
        SqlSource(TableSource.model_validate({**own, "query": f"SELECT * FROM {gone}"}), folder).rows()


ALIKE = "coalesce(CAST(TRY_CAST({0} AS DOUBLE) AS VARCHAR), nfc_normalize(trim({0})))"
"""Of a key what it is compared by, however it is written."""


@pytest.mark.parametrize(("query", "told"), [
    ("SELECT p.nr, v FROM persons AS p JOIN visits AS w ON p.nr = w.pid",
     "persons.nr and visits.pid, in which 12 keys"),
    ("SELECT nr, v FROM persons, visits WHERE visits.pid = nr", "persons.nr and visits.pid"),
    ("WITH k AS (SELECT PID AS nr, v FROM visits) SELECT nr, v FROM persons LEFT JOIN k USING (nr)",
     "persons.nr and visits.pid"),
    ("SELECT nr FROM persons WHERE nr IN (SELECT pid FROM visits)", "persons.nr and visits.pid"),
    ("SELECT nr FROM persons AS p WHERE EXISTS (SELECT 1 FROM visits w WHERE w.pid = p.nr)",
     "persons.nr and visits.pid"),
    ("SELECT p.nr, v FROM persons p JOIN visits ON lower(p.nr) = pid AND p.ward = v", "persons.nr and visits.pid"),
    ("SELECT p.nr, v FROM persons AS p JOIN visits AS w ON nfc_normalize(trim(p.nr)) = w.pid",
     "persons.nr and visits.pid, in which 11 keys"),
    ("WITH k AS (SELECT coalesce(pid, v) AS nr, v FROM visits) SELECT nr, v FROM persons LEFT JOIN k USING (nr)",
     "persons.nr and visits.pid, in which 12 keys"),
    ("WITH k AS (SELECT lower(CAST(nr AS VARCHAR)) AS pid FROM persons), f AS (SELECT max(pid) AS who FROM k "
     "GROUP BY pid) SELECT pid, v FROM visits LEFT JOIN f ON pid = upper(who)",
     "persons.nr and visits.pid, in which 11 keys"),
    (f"SELECT nr, v FROM persons p JOIN visits w ON {ALIKE.format('nr')} = {ALIKE.format('pid')}", ""),
    (f"WITH k AS (SELECT {ALIKE.format('nr')} AS nr FROM persons), w AS (SELECT {ALIKE.format('pid')} AS nr, v "
     "FROM visits) SELECT nr, v FROM k LEFT JOIN w USING (nr)", ""),
    ("SELECT p.nr, p.ward FROM persons AS p JOIN visits AS w ON p.ward = w.ward", ""),
    ("SELECT nr, v FROM (SELECT * REPLACE (trim(nr) AS nr) FROM persons) JOIN (SELECT pid AS nr, v FROM visits) "
     "USING (nr)", "persons.nr and visits.pid, in which 11 keys"),
    ("SELECT trim(nr) AS nr, v FROM persons JOIN (SELECT pid AS nr, v FROM visits) USING (nr)",
     "persons.nr and visits.pid"),
])  # fmt: skip
def test_keys_that_do_not_meet_for_how_they_are_written_are_counted(tmp_path: Path, query: str, told: str) -> None:
    """A number as a workbook and as a column of doubles has it, a blank, and an accent in two ways."""
    (tmp_path / "persons.csv").write_text(
        f"nr,ward\n{chr(10).join(f'{n},{n}' for n in range(20))}\nJos\u00e9,1\nK-2 ,2\n"
    )
    visits = [f"{n}.0,A,01" if n < 10 else f"{n},A,1" for n in range(20)]
    (tmp_path / "visits.csv").write_text("pid,v,ward\n" + "\n".join([*visits, "Jose\u0301,A,2", "K-2,A,3"]) + "\n")
    found = of(tmp_path, *({"type": "csv", "path": f"{name}.csv"} for name in ("persons", "visits")), query)
    if not told:
        assert not [
            one for one in found.rows().doubts if isinstance(one, Seen) and one.unknown and "TRY_CAST" not in one.words
        ]
        return
    with pytest.raises(DataUnusable, match=f"compares {told}.*do not meet; write both alike") as error:
        found.rows()
    assert "Jos" not in str(error.value) and "K-2" not in str(error.value)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
@pytest.mark.parametrize(("query", "told"), [
    ("SELECT p.nr, v FROM persons p LEFT JOIN visits w ON w.pid = p.nr", True),
    ("SELECT nr FROM persons WHERE nr IN (SELECT pid FROM visits)", True),
    ("SELECT nr, (SELECT max(v) FROM visits w WHERE w.pid = p.nr) AS v FROM persons p", True),
    ("SELECT p.nr, v FROM persons p LEFT JOIN visits w ON w.pid = trim(p.nr)", False),
    ("SELECT p.nr, v FROM persons p LEFT JOIN visits w ON w.n = p.n", False), ("SELECT nr FROM persons", False),
])  # fmt: skip
def test_keys_of_a_hospitals_own_database_that_do_not_meet_are_counted(
    tmp_path: Path, kind: str, query: str, told: bool
) -> None:
    """As where one table was filled from columns of CHAR(6), whose blanks at the end are part of the text elsewhere."""
    made: Any = sqlite3.connect(tmp_path / "own.db") if kind == "sqlite" else duckdb.connect(str(tmp_path / "own.db"))
    made.execute("CREATE TABLE persons (nr VARCHAR, n INTEGER)")
    made.execute("CREATE TABLE visits (pid VARCHAR, v VARCHAR, n VARCHAR)")
    made.executemany("INSERT INTO persons VALUES (?, ?)", [(f"K{n:<5}" if n < 12 else f"K{n}", n) for n in range(30)])
    made.executemany("INSERT INTO visits VALUES (?, 'A', ?)", [(f"K{n}", str(n)) for n in range(30)])
    made.commit()
    made.close()
    place = {"url": "sqlite:///own.db"} if kind == "sqlite" else {"path": "own.db"}
    source = SqlSource(TableSource.model_validate({"type": "sql", "query": query, **place}), tmp_path)
    if not told:
        assert len(source.rows()) == 30 and not source.rows().doubts
        return
    with pytest.raises(DataUnusable, match=r"compares persons.nr and visits.pid, in which 12 keys .* do not meet"):
        source.rows()


BOTH = [
    ("SELECT p.nr, v FROM pat p LEFT JOIN (SELECT trim(nr) AS nr, v FROM lab WHERE src = 'x') l ON l.nr = p.nr", True),
    ("SELECT p.nr FROM pat p WHERE p.nr IN (SELECT trim(l.nr) FROM lab l WHERE l.src = 'x' AND v > 0)", True),
    ("SELECT p.nr, v FROM pat p LEFT JOIN lab l ON l.nr = p.nr AND coalesce(l.src, '') = 'x'", True),
    ("SELECT p.nr, v FROM pat p LEFT JOIN lab l ON l.nr = p.nr WHERE l.src = 'x'", True),
    ("SELECT p.nr, v FROM pat p JOIN lab l ON l.nr IN (SELECT p.nr UNION SELECT p.nr || '.0')", True),
    ("SELECT p.nr, v FROM pat p, lab l WHERE trim(l.nr) = trim(p.nr) OR trim(l.nr) = trim(p.nr) || '.0'", True),
    ("SELECT p.nr, v FROM pat p, lab l WHERE l.nr IN (p.nr, p.nr || '.0')", True),
    ("SELECT nr FROM pat WHERE nr IN (SELECT nr FROM lab)", True),
    ("SELECT p.nr, v FROM pat p LEFT JOIN (SELECT trim(nr) AS nr, v FROM lab WHERE src = 'old') l ON l.nr = p.nr",
     False),
    ("SELECT p.nr FROM pat p LEFT JOIN lab l ON l.nr = p.nr WHERE l.nr IS NULL", False),
    ("SELECT p.nr FROM pat p LEFT JOIN lab l ON l.nr = p.nr AND p.ward = 'A' JOIN lab k ON k.nr = p.nr", False),
    ("SELECT p.nr FROM pat p LEFT JOIN lab l ON l.nr = p.nr WHERE coalesce(l.src, 'x') = 'x'", False),
    ("SELECT p.nr, v FROM pat p, lab l WHERE l.nr IN (p.nr, p.nr || '.00')", False),
    ("SELECT p.nr, v FROM pat p, lab l WHERE trim(l.nr) = trim(p.nr) OR trim(l.nr) = trim(p.nr) || '.00'", False),
    ("SELECT p.nr, v FROM pat p, lab l WHERE trim(l.nr) = trim(p.nr) OR l.v = 7", False),
    ("SELECT l.nr FROM lab l WHERE l.nr IN (SELECT nr FROM pat)", False),
    ("SELECT p.nr, v FROM pat p, lab l WHERE l.nr IS NOT DISTINCT FROM p.nr", False),
    ("SELECT p.nr, v FROM pat p NATURAL JOIN lab l", False),
    ("WITH k AS (SELECT trim(nr) AS nr, v, upper(src) AS s FROM lab), l AS (SELECT * FROM k WHERE s = 'X') "
     "SELECT p.nr, l.v FROM pat p LEFT JOIN l ON l.nr = p.nr", True),
    ("WITH k AS (SELECT nr, v, src AS s FROM lab) SELECT p.nr, k.v FROM pat p LEFT JOIN k ON k.nr = p.nr AND s = 'x'",
     True),
    ("WITH k AS (SELECT nr, min(src) AS s FROM lab GROUP BY nr) SELECT 1 FROM pat p, k WHERE k.nr = p.nr AND s = 'x'",
     False),
    ("WITH k AS (SELECT nr, src AS s FROM lab), l AS (SELECT * FROM k WHERE s = 'x' UNION ALL SELECT nr, s FROM k) "
     "SELECT p.nr FROM pat p LEFT JOIN l ON l.nr = p.nr", False),
    ("WITH l AS (SELECT p.nr, l.nr AS n FROM pat p LEFT JOIN lab l ON l.nr = p.nr) SELECT nr FROM l WHERE n IS NULL",
     False),
    ("SELECT who FROM (SELECT nr AS who FROM pat) AS p NATURAL JOIN (SELECT trim(nr) AS who FROM lab) AS l", False),
    ("SELECT p.nr, v FROM pat p, lab l WHERE (l.nr, l.src) = (p.nr, 'old')", False),
    ("SELECT l.nr, v FROM lab l WHERE (l.src, l.nr) IN (SELECT ward, nr FROM pat)", False),
    ("SELECT p.nr, v FROM pat p, lab l WHERE (l.nr, l.src) = (p.nr, 'x')", True),
    ("SELECT p.nr, v FROM pat p, lab l WHERE (l.src, l.nr) = ('old', p.nr || '.0') OR (l.src, l.nr) = ('x', p.nr)",
     True),
    *((f"WITH RECURSIVE c AS (SELECT nr, v AS step FROM lab WHERE src = '{src}' UNION ALL SELECT c.nr, step + 1 FROM c "
       f"WHERE step < 9) SELECT p.nr FROM pat p JOIN c ON c.nr = p.nr{only}", src == "x")
      for src in ("x", "old") for only in ("", " AND c.step = 5")),
    ("WITH RECURSIVE c(nr, was, step) AS (SELECT 'old', 'old', 1 UNION SELECT l.nr, c.nr, step + 1 FROM c JOIN "
     "lab l ON l.src = c.nr WHERE step < 3), k AS (SELECT max(was) AS who FROM c GROUP BY was) SELECT p.nr FROM pat p "
     "JOIN k ON who = p.nr", False),
]  # fmt: skip
"""Queries over keys of which one source of one table writes some otherwise, and whether they meet all the same."""


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_keys_that_the_query_leaves_out_or_gives_in_both_spellings_meet(tmp_path: Path, kind: str) -> None:
    made: Any = sqlite3.connect(tmp_path / "own.db") if kind == "sqlite" else duckdb.connect(str(tmp_path / "own.db"))
    made.execute("CREATE TABLE pat (nr VARCHAR, ward VARCHAR)")
    made.execute("CREATE TABLE lab (nr VARCHAR, v REAL, src VARCHAR)")
    made.executemany("INSERT INTO pat VALUES (?, 'B')", [(str(n),) for n in range(30)])
    made.executemany("INSERT INTO lab VALUES (?, 1, 'x')", [(str(n),) for n in range(20)])
    made.executemany("INSERT INTO lab VALUES (?, 1, 'old')", [(f"{n}.0",) for n in range(12)])
    made.commit()
    made.close()
    both = [("SELECT p.nr, v FROM pat p JOIN lab l ON l.nr = ANY([p.nr, p.nr || '.0'])", True)] * (kind == "duckdb")
    parser = duckdb.connect() if kind == "sqlite" else duckdb.connect(str(tmp_path / "own.db"))
    with parser, create_engine(f"sqlite:///{tmp_path}/own.db").connect() as connection:
        known = catalogue.of_url(connection) if kind == "sqlite" else catalogue.of_duckdb(parser)
        for query, meet in [*BOTH, *both]:
            assert meeting.unmet(parser, query, known) == ([] if meet else [("lab.nr", "pat.nr", 12)]), query


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 30), max_size=9), st.sets(st.integers(0, 30), max_size=9), st.data())
def test_keys_that_are_alike_meet_or_are_counted(here: set[int], there: set[int], data: st.DataObject) -> None:
    """Each table writes each of its keys in one way; counted are those that are in both, in two ways."""
    ways = st.sampled_from(["{}", "{}.0", " {}", "0{}", "+{}", "{}."])
    one, other = ({n: data.draw(ways).format(n) for n in keys} for keys in (here, there))
    assert meeting.apart(one.values(), other.values()) == sum(one[n] != other[n] for n in here & there)
    assert meeting.apart(other.values(), one.values()) == meeting.apart(one.values(), other.values())


@pytest.mark.parametrize(("age", "told"), [
    ("date_diff('year', CAST(born AS DATE), CAST(day AS DATE))", True),
    ("DATEDIFF ( 'years' , CAST(born AS DATE), CAST(day AS DATE))", True),
    ("year(CAST(day AS DATE)) - year(CAST(born AS DATE))", False),
    ("date_diff('year', DATE '2000-01-01', CAST(day AS DATE))", False),
])  # fmt: skip
def test_years_of_the_calendar_are_refused_where_whole_ones_would_be_others(folder: Path, age: str, told: bool) -> None:
    """Over tables, and in a file of DuckDB."""
    query = f"SELECT nr, {age} AS age FROM persons JOIN visits USING (nr)"
    with duckdb.connect(str(folder / "ages.duckdb")) as database:
        for name in ("persons", "visits"):
            database.execute(f"CREATE OR REPLACE TABLE {name} AS FROM '{folder}/{name}.parquet'")
    own = SqlSource(TableSource.model_validate({"type": "sql", "path": "ages.duckdb", "query": query}), folder)
    for source in (own, of(folder, *PLACES[1], query)):
        if not told:
            found = source.rows()
            assert len(found) == 3 and not found.doubts
            continue
        with pytest.raises(DataUnusable, match=r"year changed .*: other values would stand in age; .*date_sub"):
            source.rows()


QUERIES = {
    "SELECT nr, max(b) AS w FROM labs JOIN persons USING (nr) GROUP BY nr ORDER BY w": {"nr", "b"},
    "SELECT p.NR, l.a FROM persons p LEFT JOIN labs l ON l.nr = p.nr": {"nr", "a"},
    "SELECT nr FROM labs WHERE a IN (SELECT sex FROM persons) QUALIFY row_number() OVER (ORDER BY c) = 1":
        {"nr", "a", "c", "sex"},
    "SELECT nr, count(*) AS n FROM labs GROUP BY ALL": {"nr"},
    **{query: {"nr", "a", "b", "c", "sex"} for query in (
        "SELECT * FROM labs JOIN persons USING (nr)", "SELECT nr, to_json(labs) AS j FROM labs",
        "SELECT x.nr FROM labs AS x(a, nr)", "SELECT nr FROM labs NATURAL JOIN persons", "SELECT #1 AS nr FROM labs",
        "SELECT nr FROM (FROM labs)", "SELECT nr FROM query_table('labs')", "SELECT COLUMNS('n.*') FROM labs",
    )},
}  # fmt: skip
"""And which columns are read for them."""


@pytest.mark.parametrize("query", QUERIES)
def test_of_each_table_only_what_the_query_can_need_is_read_and_the_answer_is_the_same(
    tmp_path: Path, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "persons.csv").write_text("sex,nr\nf,1\nm,2\nx,3\n")
    (tmp_path / "labs.csv").write_text("c,a,nr,b\n1,x,1,5\n2,y,2,6\n3,z,2,7\n")
    read = set[str]()
    fill = joined._fill

    def seen(tables: Any, name: str, rows: Any) -> None:
        read.update(rows.columns)
        fill(tables, name, rows)

    monkeypatch.setattr(joined, "_fill", seen)
    tables = {name: {"type": "csv", "path": f"{name}.csv"} for name in ("persons", "labs")}
    source = TableSource.model_validate({"type": "tables", "query": query, "tables": tables})
    rows = JoinedSource(source, tmp_path).rows()
    unused = set() if "persons" in query else {"sex"}  # a table of which nothing is used
    assert read - unused == QUERIES[query] - unused
    monkeypatch.setattr(needed, "columns", lambda *_: None)
    assert JoinedSource(source, tmp_path).rows() == rows
