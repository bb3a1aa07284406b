"""A database of an earlier release is brought to this one, with what is in it: on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from consilium.store.database import Database, Transaction
from consilium.store.schema import metadata, people, refusals, sites, studies
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


def of_before(tx: Transaction) -> None:
    """What an earlier release left: no word of over whom sums were refused, and a refusal."""
    tx.do(text("ALTER TABLE refusals DROP COLUMN among"))
    tx.do(text("DROP TABLE attestations"))
    tx.do(text("UPDATE alembic_version SET version_num = '0001'"))
    tx.put(people, name="olga", role="researcher", password="", since=NOW)
    tx.put(studies, study="old", plan="", payload=b"", owner="olga", since=NOW)
    about = {"site": "east", "state": "admitted", "public_key": "", "about": "", "activity": "", "last_seen": 0.0}
    tx.put(sites, **about, since=NOW)
    row = {"id": 1, "site": "east", "study": "old", "run": "old-1", "round": 1, "reason": "difference", "text": "no"}
    tx.put(refusals, **row, at=NOW)


def differs(tx: Transaction) -> list[Any]:
    """What of the tables is not as this release describes them."""
    return list(compare_metadata(MigrationContext.configure(tx.connection), metadata))


def test_a_database_of_before_has_the_tables_of_today_and_keeps_its_rows(url: str) -> None:
    made = Database(url, lambda topic: None)
    try:
        made.prepare()
        assert made.run_here(differs) == []
        made.run_here(of_before)
        assert len(made.run_here(differs)) >= 2
        again = Database(url, lambda topic: None)
        try:
            again.prepare()
            assert again.run_here(differs) == []
            row = again.run_here(lambda tx: tx.find(refusals, id=1))
            assert (row.reason, row.among) == ("difference", None)
        finally:
            again.close()
    finally:
        made.close()
