"""Tables are found in files, folders and databases; a patient is never taken for the names of columns."""

import gzip
import sqlite3
from pathlib import Path

import duckdb
import pytest

from consilium import plugins
from consilium.core.errors import DataUnusable, MappingInvalid, NotFound
from consilium.data.base import source
from consilium.data.proposal.document import beside
from consilium.data.proposal.survey import tables, text_source

ROWS = [("1", "Müller, A.", "34.5"), ("2", "Ober", "61"), ("3", "Öz", "47")]


def written(path: Path, delimiter: str, encoding: str, header: bool) -> Path:
    lines = [("nr", "Name", "Alter")] * header + ROWS
    text = "".join(delimiter.join(f'"{one}"' if "," in one else one for one in line) + "\n" for line in lines)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8-sig"), (";", "latin-1"), ("\t", "utf-16"), ("|", "utf-8")]
)
def test_text_is_read_as_it_is_written(tmp_path: Path, delimiter: str, encoding: str) -> None:
    found = text_source(written(tmp_path / "t.csv", delimiter, encoding, True))
    assert (found.delimiter, found.header, found.columns) == (delimiter, True, ())
    rows = source(found, Path("/"), plugins.names("consilium.sources")).rows()
    assert list(rows.columns) == ["nr", "Name", "Alter"] and rows.columns["Name"] == [row[1] for row in ROWS]


@pytest.mark.parametrize(
    "text",
    ["63,1,?\n67,1,2\n", "m,yes,home\nf,no,home\nm,no,ward\n", "2020-01-31,a,b\n2020-02-01,c,d\n", "a,a,b\nc,d,e\n",
     "1.5;x;y\n2;z;w\n", "?,x,y\n1,z,w\n"],
)  # fmt: skip
def test_a_first_line_that_could_be_a_patient_names_no_column(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.data").write_text(text)
    found = text_source(tmp_path / "t.data")
    assert not found.header and found.columns == ("column_1", "column_2", "column_3")
    assert text_source(tmp_path / "t.data", ["p", "q", "r"]).columns == ("p", "q", "r")


def test_a_folder_gives_each_of_its_tables_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", ",", "utf-8", True)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    duckdb.sql(f"COPY (SELECT 1 AS x, 'z' AS y) TO '{tmp_path / 'c.parquet'}'")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    found = tables(str(tmp_path))
    assert [one.title for one in found] == ["a.csv", "b.csv.gz", "c.parquet"]
    kinds = plugins.names("consilium.sources")
    assert [len(source(one.look, Path("/"), kinds).rows()) for one in found] == [3, 3, 1]


def test_databases_are_read_for_what_is_used_alone(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "d.duckdb")) as database:
        database.execute('CREATE TABLE "my table" AS SELECT 1 AS age, 2 AS "SE""X"')
    with sqlite3.connect(tmp_path / "lite.db") as lite:
        lite.execute("CREATE TABLE stays (age, sex, note)")
        lite.execute("INSERT INTO stays VALUES (70, 'f', 'x')")
    kinds = plugins.names("consilium.sources")
    for where, title, used in (
        (tmp_path / "d.duckdb", "my table", ["age", 'SE"X']),
        (tmp_path / "lite.db", "stays", ["age", "sex"]),
    ):
        (found,) = tables(str(where))
        assert found.title == title and "LIMIT" in str(found.look.query)
        assert len(source(found.look, Path("/"), kinds).rows()) == 1
        rows = source(found.kept(used), Path("/"), kinds).rows()
        assert list(rows.columns) == used and len(rows) == 1


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="nothing at"):
        tables(str(tmp_path / "no.csv"))
    with pytest.raises(NotFound, match="no table"):
        tables(str(tmp_path))
    with pytest.raises(MappingInvalid, match="holds a password"):
        tables("postgresql+psycopg://reader:secret@db.example/research")
    monkeypatch.setenv("DB_PASSWORD", "secret")
    with pytest.raises(DataUnusable, match="database cannot be read"):
        tables("nonesuch://reader:${DB_PASSWORD}@db.example/research")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataUnusable, match="is empty"):
        tables(str(tmp_path / "empty.csv"))


def test_a_url_that_is_typed_from_where_one_is_serves_from_wherever_the_mapping_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "lite.db") as lite:
        lite.execute("CREATE TABLE stays (nr, age)")
        lite.execute("INSERT INTO stays VALUES (1, 70)")
    monkeypatch.chdir(tmp_path)
    kinds = plugins.names("consilium.sources")
    for where in ("data/lite.db", "sqlite:///data/lite.db"):
        for found in (*tables(where), *tables(where, query="SELECT nr, age FROM stays")):
            kept = found.kept(["nr"])
            assert kept.url == f"sqlite:///{tmp_path}/data/lite.db"
            for folder in (tmp_path, tmp_path / "data", tmp_path / "mappings"):
                url = beside(str(kept.url), folder)
                assert len(source(kept.model_copy(update={"url": url}), folder, kinds).rows()) == 1
            assert len(source(found.look, Path("/"), kinds).rows()) == 1
    assert beside(str(kept.url), tmp_path / "data") == "sqlite:///lite.db"
    with pytest.raises(DataUnusable, match=r"no database .*data/light\.db"):
        tables("sqlite:///data/light.db")
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["lite.db"], "no empty database was made"


def test_a_query_is_of_a_database_and_reads_alone(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / "d.duckdb")).execute("CREATE TABLE t AS SELECT 1 AS nr").close()
    (tmp_path / "t.csv").write_text("nr,age\n1,2\n")
    assert [one.title for one in tables(f"duckdb:///{tmp_path}/d.duckdb")] == ["t"]
    (found,) = tables(str(tmp_path / "d.duckdb"), query="SELECT nr, nr + 1 AS age FROM t;")
    assert found.kept([]).query == "SELECT nr, nr + 1 AS age FROM t"
    assert source(found.look, Path("/"), plugins.names("consilium.sources")).rows().columns == {
        "nr": ["1"],
        "age": ["2"],
    }
    with pytest.raises(MappingInvalid, match="--query is for a database"):
        tables(str(tmp_path / "t.csv"), query="SELECT 1")
    with pytest.raises(MappingInvalid, match="--query: only one SELECT"):
        tables(str(tmp_path / "d.duckdb"), query="DROP TABLE t")
