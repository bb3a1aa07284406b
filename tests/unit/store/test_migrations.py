"""A database of an earlier release is brought to this one, with what is in it: on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from consilium.coordinator import before
from consilium.core.ids import RunId, SiteId, digest
from consilium.store.database import Database, Transaction
from consilium.store.schema import metadata, people, refusals, runs, sites, studies
from e2e.postgres import Postgres, missing

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'db.sqlite'}"
        return
    if why := missing():
        pytest.skip(why)
    server = Postgres()
    try:
        server.start()
        yield server()
    finally:
        server.close()


def rows(tx: Transaction) -> None:
    """What an earlier release wrote: a run, and a sum that was refused in it."""
    tx.put(people, name="olga", role="researcher", password="", since=NOW)
    tx.put(studies, study="old", plan="", payload=b"", owner="olga", since=NOW)
    about = {"site": "east", "state": "admitted", "public_key": "", "about": "", "activity": "", "last_seen": 0.0}
    tx.put(sites, **about, since=NOW)
    tx.put(runs, run="old-1", study="old", version=0, status="running")
    row = {"id": 1, "site": "east", "study": "old", "run": "old-1", "round": 1, "reason": "difference", "text": "no"}
    tx.put(refusals, **row, at=NOW)


def of_before(tx: Transaction, version: str) -> None:
    """Take away what this release's tables have beyond those of a version."""
    tx.do(text("DROP TABLE told"))
    if version < "0002":
        tx.do(text("ALTER TABLE refusals DROP COLUMN among"))
        tx.do(text("DROP TABLE attestations"))
    tx.do(text(f"UPDATE alembic_version SET version_num = '{version}'"))


def goes_on(tx: Transaction) -> None:
    """Of a round of before nothing is known over whom it was; of the next ones at its model, it is."""
    run = RunId("old-1")
    before.expect(tx, run, 2, [digest(b"a model")])
    assert before.over(tx, run, "old", 2) == []
    before.opening(tx, run, 2, [SiteId("east")])
    before.expect(tx, run, 3, [digest(b"a model")])
    assert before.over(tx, run, "old", 3) == [before.Known(frozenset([SiteId("east")]), True, True)]


def differs(tx: Transaction) -> list[Any]:
    """What of the tables is not as this release describes them."""
    return list(compare_metadata(MigrationContext.configure(tx.connection), metadata))


def test_a_database_of_before_has_the_tables_of_today_and_keeps_its_rows(url: str) -> None:
    """Of a release that knew neither over whom sums were refused nor at which models they were; and of the next one."""
    made = Database(url, lambda topic: None)
    try:
        made.prepare()
        assert made.run_here(differs) == []
        made.run_here(rows)
        for version, lacks in (("0001", {"told", "attestations"}), ("0002", {"told"})):
            made.run_here(lambda tx, version=version: of_before(tx, version))
            assert {one[1].name for one in made.run_here(differs) if one[0] == "add_table"} == lacks
            again = Database(url, lambda topic: None)
            try:
                again.prepare()
                assert again.run_here(differs) == []
                row = again.run_here(lambda tx: tx.find(refusals, id=1))
                assert (row.reason, row.among, row.run) == ("difference", None, "old-1")
                again.run_here(goes_on)
            finally:
                again.close()
    finally:
        made.close()
