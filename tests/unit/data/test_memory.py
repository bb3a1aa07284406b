"""A query that needs more memory than there is ends with what to do, and leaves no value of a patient on disk."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from consilium.core.errors import DataUnusable
from consilium.data import closed, joined, memory, tables
from consilium.data.fhir import source as fhir
from consilium.data.omop import database
from consilium.data.source import TableSource


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """No DuckDB of another test, whose settings were others."""
    memory._instance.cache_clear()
    yield
    memory._instance.cache_clear()


LARGE = "SELECT md5(CAST(range AS VARCHAR)) AS a, md5(CAST(range + 1 AS VARCHAR)) AS b FROM range(400000)"
VIEW = {"resource": "Patient", "select": [{"column": [{"name": "id", "path": "id"}]}]}


def of_tables(folder: Path) -> Any:
    (folder / "t.csv").write_text("nr\n1\n")
    given = {"type": "tables", "tables": {"t": {"type": "csv", "path": "t.csv"}}, "query": LARGE}
    return joined.JoinedSource(TableSource.model_validate(given), folder).rows()


def of_a_file(folder: Path) -> Any:
    duckdb.connect(str(folder / "t.duckdb")).close()
    given = {"type": "sql", "path": "t.duckdb", "query": f"{LARGE} ORDER BY ALL"}
    return tables.SqlSource(TableSource.model_validate(given), folder).rows()


def of_fhir(folder: Path) -> Any:
    (folder / "f").mkdir()
    (folder / "f" / "Patient.ndjson").write_text(json.dumps({"resourceType": "Patient", "id": "1"}) + "\n")
    (folder / "v.json").write_text(json.dumps(VIEW))
    given = {"type": "fhir", "path": "f", "views": {"t": "v.json"}, "query": LARGE}
    return fhir.FhirSource(TableSource.model_validate(given), folder).rows()


def of_omop(folder: Path) -> Any:
    duckdb.connect(str(folder / "t.duckdb")).close()
    with database.Duck(folder / "t.duckdb", "t.duckdb", (), 60.0) as asked:
        return list(asked.query(f"{LARGE} ORDER BY ALL", what="source.omop")[1])


@pytest.mark.parametrize("read", [of_tables, of_a_file, of_fhir, of_omop])
def test_what_has_no_room_in_memory_is_put_nowhere_and_told(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(memory.ALONE, "memory_limit", "20MB")
    with pytest.raises(DataUnusable, match=r"takes more memory than there is .*; ask for less at once") as told:
        read(tmp_path)
    assert told.value.message.startswith(("source.", "t.duckdb, by source.query,"))
    assert not list(tmp_path.glob("*.tmp"))


def test_readings_of_one_process_share_neither_settings_nor_tables_nor_what_a_file_held(tmp_path: Path) -> None:
    """They share an instance of DuckDB; a file that is written anew, in the same moment, is read anew."""
    file, moment = tmp_path / "t.parquet", (10**18, 10**18)
    with memory.opened() as one, memory.opened() as other:
        one.execute("SET TimeZone = 'Europe/Berlin'")
        one.execute("CREATE TEMP TABLE kept AS SELECT 1 AS nr")
        assert other.execute("SELECT current_setting('TimeZone')").fetchall() != [("Europe/Berlin",)]
        with pytest.raises(duckdb.CatalogException):
            other.execute("SELECT * FROM kept")
    for value in (1, 2):
        with duckdb.connect() as making:
            making.execute(f"COPY (SELECT {value} AS nr) TO '{file}' (FORMAT parquet)")
        os.utime(file, ns=moment)
        with memory.opened() as reading:
            assert reading.execute(f"SELECT nr FROM '{file}'").fetchall() == [(value,)]


def test_no_thread_of_it_is_left_at_a_fork() -> None:
    """A child of a process with such threads ends by SIGABRT; `preexec_fn` makes it a fork."""
    program = (
        "import os\nfrom consilium.data import memory\nmemory.opened().execute('SELECT 1').close()\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\nbefore = threads()\n"
        "child = os.fork()\nif not child:\n    os._exit(0)\nos.waitpid(child, 0)\n"
        "assert threads() < before, before"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_range_beside_the_first_of_each_is_answered(tmp_path: Path) -> None:
    """DuckDB 1.5 fails by itself there, in an optimizer that is left out."""
    (tmp_path / "t.csv").write_text("nr,day,v\n" + "".join(f"{i % 5},2024-01-{i + 1:02},{i}\n" for i in range(20)))
    table = f"read_csv('{tmp_path / 't.csv'}', all_varchar=true)"
    query = f"""
        WITH t AS (SELECT nr, v, day AS d, CAST(day AS DATE) AS t FROM {table})
        SELECT nr, v FROM t WHERE t BETWEEN DATE '2024-01-03' AND DATE '2024-01-15'
        QUALIFY row_number() OVER (PARTITION BY nr ORDER BY d) = 1 ORDER BY ALL
    """
    with memory.opened() as tables:
        assert tables.execute(query).fetchall() == [("0", "5"), ("1", "6"), ("2", "2"), ("3", "3"), ("4", "4")]


@pytest.mark.parametrize("read", [of_tables, of_fhir])
def test_where_duckdb_fails_by_itself_it_is_not_said_of_the_query(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise duckdb.InternalException("INTERNAL Error: a text of a patient")

    before = memory.opened()
    monkeypatch.setattr(closed.Closed, "answered", fails)
    with pytest.raises(DataUnusable, match=r"DuckDB failed by itself .*; the query may well be right") as told:
        read(tmp_path)
    assert "patient" not in f"{told.value.message} {told.value.remedy}".replace("DuckDB", "")
    assert memory._instance.cache_info().currsize == 0, "after that it answers nobody: another one is begun"
    before.close()
