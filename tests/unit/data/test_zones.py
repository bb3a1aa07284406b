"""Of which day a moment is, is read as the hospital wrote it, from whatever source and on whatever machine."""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data import compiled
from consilium.data.base import Asked
from consilium.data.joined import JoinedSource
from consilium.data.source import TableSource
from consilium.data.tables import ParquetSource, SqlSource
from consilium.site import tables
from unit.data.fhir.test_source import observation
from unit.data.test_records import MAPPING, _study, made

TAKEN = ["2024-03-31T23:30:00-04:00", "2024-04-01T00:30:00-04:00", "2024-04-01T23:59:59-04:00", "2024-04-01"]
"""Of patients who came on the first of April: at Greenwich the first record is of this day, and the third of none."""
ON_THE_DAY = [np.nan, 1.0, 1.0, 1.0]
ZONE = "America/New_York"
LABS = ", ".join(f"('p{n}', '2160-0', '{when}', 1.0, 'mg/dL')" for n, when in enumerate(TAKEN))
TABLE = f'SELECT * FROM (VALUES {LABS}) t(pid, code, "when", value, unit)'
INSTANTS = TABLE.replace("*", 'pid, code, CAST("when" AS TIMESTAMPTZ) AS "when", value, unit', 1) + " WHERE pid <> 'p3'"


def csv(folder: Path) -> dict[str, Any]:
    lines = "".join(f"p{n},2160-0,{when},1.0,mg/dL\n" for n, when in enumerate(TAKEN))
    (folder / "labs.csv").write_text("pid,code,when,value,unit\n" + lines)
    return {"source": {"type": "csv", "path": "labs.csv"}}


def parquet(folder: Path, query: str = TABLE, **more: Any) -> dict[str, Any]:
    duckdb.sql(f"COPY ({query}) TO '{folder}/labs.parquet'")
    return {"source": {"type": "parquet", "path": "labs.parquet", **more}}


def instants(folder: Path) -> dict[str, Any]:
    with duckdb.connect() as made_by:
        made_by.execute(f"SET TimeZone = '{ZONE}'; COPY ({INSTANTS}) TO '{folder}/labs.parquet'")
    return {"source": {"type": "parquet", "path": "labs.parquet", "zone": ZONE}}


def database(folder: Path) -> dict[str, Any]:
    with duckdb.connect(str(folder / "labs.duckdb")) as made_by:
        made_by.execute(f"SET TimeZone = '{ZONE}'; CREATE TABLE labs AS {INSTANTS}")
        made_by.execute('CREATE VIEW days AS SELECT pid, CAST("when" AS DATE) AS day FROM labs')
    return {"source": {"type": "sql", "path": "labs.duckdb", "query": "SELECT * FROM labs", "zone": ZONE}}


def sqlite(folder: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(folder / "labs.db")) as made_by:
        made_by.execute('CREATE TABLE labs (pid, code, "when", value, unit)')
        rows = [(f"p{n}", "2160-0", when, 1.0, "mg/dL") for n, when in enumerate(TAKEN)]
        made_by.executemany("INSERT INTO labs VALUES (?, ?, ?, ?, ?)", rows)
        made_by.commit()
    return {"source": {"type": "sql", "url": "sqlite:///labs.db", "query": "SELECT * FROM labs"}}


def fhir(folder: Path) -> dict[str, Any]:
    every = [observation(f"p{n}", "2160-0", 1, effectiveDateTime=when) for n, when in enumerate(TAKEN)]
    for one in every:
        one["valueQuantity"] |= {"code": "mg/dL"}
    (folder / "labs.ndjson").write_text("".join(json.dumps(one) + "\n" for one in every))
    (folder / "view.json").write_text(json.dumps(compiled.views(made())))
    return {"source": {"type": "fhir", "path": "labs.ndjson", "views": {"labs": "view.json"}},
            "patient": "patient", "system": "system", "time": "taken"}  # fmt: skip


@pytest.fixture(params=["Asia/Tokyo", pytest.param("UTC", marks=pytest.mark.long)])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is another one than the hospital's."""
    monkeypatch.setitem(os.environ, "TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("source", [csv, parquet, instants, database, sqlite, fhir])
def test_a_moment_is_of_the_day_on_which_the_hospital_wrote_it(
    tmp_path: Path, machine: None, source: Callable[[Path], dict[str, Any]]
) -> None:
    (tmp_path / "stays.csv").write_text("pid,at,died\n" + "".join(f"p{n},2024-04-01,{n % 2}\n" for n in range(4)))
    given = {**MAPPING, "records": {"labs": {**MAPPING["records"]["labs"], **source(tmp_path)}}}
    (tmp_path / "mapping.yaml").write_text(json.dumps(given))
    found = tables.mapped(_study(made({"window": ["0d", "0d"]})), tmp_path / "mapping.yaml").table.columns["crea"]
    known = 3 if source in (instants, database) else 4
    np.testing.assert_array_equal(found[:known], ON_THE_DAY[:known])


def test_of_instants_nobody_knows_the_day_before_the_hospital_says_its_zone(tmp_path: Path, machine: None) -> None:
    """Nor where a query of the hospital's own makes days of them; unless nobody asks for them."""
    for make, kind in ((instants, ParquetSource), (database, SqlSource)):
        given = make(tmp_path)["source"]
        read = kind(TableSource.model_validate({**given, "zone": None}), tmp_path)
        read.told(Asked(frozenset({"pid", "when"})))
        with pytest.raises(DataUnusable, match="column 'when' holds instants") as told:
            read.rows()
        assert "source.zone" in told.value.remedy and "2024" not in str(told.value)
        read.told(Asked(frozenset({"pid"})))
        assert read.rows().columns == {"pid": ["p0", "p1", "p2"]}
        with pytest.raises(MappingInvalid, match="no time zone Mars/Phobos"):
            kind(TableSource.model_validate({**given, "zone": "Mars/Phobos"}), tmp_path).rows()
    for query in ('SELECT pid, CAST("when" AS DATE) AS day FROM labs', "SELECT * FROM days"):
        own = {"type": "sql", "path": "labs.duckdb", "query": query}
        with pytest.raises(
            DataUnusable, match=r"makes days .* of instants .*other values would stand in day; write .*source\.zone"
        ):
            SqlSource(TableSource.model_validate(own), tmp_path).rows()
        found = SqlSource(TableSource.model_validate({**own, "zone": ZONE}), tmp_path).rows()
        assert found.columns["day"] == ["2024-03-31", "2024-04-01", "2024-04-01"] and not found.doubts
        unused = SqlSource(TableSource.model_validate(own), tmp_path)
        unused.told(Asked(frozenset({"pid"})))
        assert not unused.rows().doubts


def test_of_tables_that_stand_together_a_query_of_instants_wants_their_zone(tmp_path: Path) -> None:
    """What the query does not speak of is not asked for."""
    labs = instants(tmp_path)["source"]
    for query, wants in (
        ('SELECT pid, CAST("When" AS DATE) AS day FROM labs', True), ("SELECT * FROM labs", True),
        ("SELECT pid, count(*) AS day FROM labs GROUP BY pid -- when?", False),
    ):  # fmt: skip
        for zone in (None, ZONE):
            given = {"type": "tables", "tables": {"labs": {**labs, "zone": zone}}, "query": query}
            made = JoinedSource(TableSource.model_validate(given), tmp_path)
            made.told(Asked(frozenset({"pid", "day", "when"})))
            if zone is None and wants:
                with pytest.raises(
                    DataUnusable, match=r"source\.tables\.labs: column 'when' .*source\.tables\.labs\.zone"
                ):
                    made.rows()
                continue
            assert len(made.rows()) == 3
            if zone and "DATE" in query:
                assert sorted(map(str, made.rows().columns["day"])) == ["2024-03-31", "2024-04-01", "2024-04-01"]


def test_a_query_over_tables_makes_no_day_of_an_instant_by_the_clock_of_the_machine(
    tmp_path: Path, machine: None
) -> None:
    """Nor by that of Greenwich; the day as it is written is one, and so is that of a zone that the query says."""
    labs = csv(tmp_path)["source"]
    cast = 'CAST("when" AS TIMESTAMPTZ)'
    for day, wanted in (
        (f"CAST({cast} AS DATE)", None), (f"hour({cast})", None), ('substr("when", 1, 10)', "2024-03-31"),
        (f"CAST({cast} AT TIME ZONE '{ZONE}' AS DATE)", "2024-03-31"), (f"year({cast})", "2024"),
    ):  # fmt: skip
        query = f"SELECT pid, {day} AS day FROM labs WHERE pid = 'p0'"
        given = {"type": "tables", "tables": {"labs": labs}, "query": query}
        made = JoinedSource(TableSource.model_validate(given), tmp_path)
        if wanted is None:
            with pytest.raises(
                DataUnusable, match=r"makes days or hours .*: other values would stand in day; .* AT TIME ZONE"
            ):
                made.rows()
        else:
            assert made.rows().columns["day"] == [wanted] and not made.rows().doubts


def test_a_zone_that_would_not_be_heard_is_refused(tmp_path: Path) -> None:
    sqlite(tmp_path)
    for url in ("sqlite:///labs.db", "mysql+pymysql://reader:secret@host/research"):
        given = TableSource(type="sql", url=url, query="SELECT 1 AS a", zone=ZONE)
        with pytest.raises(MappingInvalid, match=r"source.zone: (sqlite|mysql) is not told.*in the query") as told:
            SqlSource(given, tmp_path)
        assert "secret" not in str(told.value)
