"""Who reads which blob, and what a run's hospitals say: the owner rules beside the table of `access.py`."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.coordinator import endpoints, transfers
from consilium.coordinator.accounts import Who
from consilium.coordinator.ingest import Ingest
from consilium.core.errors import NotFound
from consilium.core.ids import Digest, SiteId, digest
from consilium.store.database import Database
from consilium.store.schema import (
    blobs,
    contributions,
    decisions,
    grants,
    openings,
    people,
    runs,
    sites,
    studies,
)
from consilium.wire.messages import Blob

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLAN, SUM, DRAFT, MASKED, LATER = (digest(name) for name in (b"plan", b"sum", b"draft", b"masked", b"masked later"))
SITES, PEOPLE = (
    ("north", "south", "west"),
    {"ada": "researcher", "eve": "researcher", "kim": "auditor", "root": "admin"},
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Of the study `heart` of ada, offered to north and south; north decided on it, and so did west on another one.

    Round 1 of its run is open to be checked, round 2 is not yet.
    """
    made = Database(f"sqlite:///{tmp_path / 'db.sqlite'}", lambda topic: None)
    made.prepare()

    def fill(tx: Any) -> None:
        for name, role in PEOPLE.items():
            tx.put(people, name=name, role=role, password="", since=NOW)
        for site in SITES:
            tx.put(sites, site=site, state="admitted", public_key=site, about="", since=NOW, last_seen=0.0, activity="")
        for study, owner in (("heart", "ada"), ("lung", "eve")):
            tx.put(studies, study=study, plan=PLAN if study == "heart" else DRAFT, payload=b"", owner=owner, since=NOW)
            tx.put(runs, run=f"{study}-1", study=study, version=0, status="running")
        for number, (site, study) in enumerate((("north", "heart"), ("west", "lung")), start=1):
            row = {"site": site, "study": study, "payload": b"", "envelope": b"", "digest": digest(site.encode())}
            tx.put(decisions, id=number, **row)
        for name in (PLAN, SUM, DRAFT):
            tx.put(blobs, digest=name, size=1, data=b"x", sender="", touched=0.0)
        for name, to in ((PLAN, "site:north"), (PLAN, "site:south"), (SUM, "study:heart"), (DRAFT, "person:eve")):
            tx.put(grants, digest=name, subject=to)
        for number, name in ((1, MASKED), (2, LATER)):
            tx.put(contributions, run="heart-1", round=number, site="north", digest=name, size=1, envelope=b"")
        tx.put(openings, run="heart-1", round=1, attempt=1, body="{}")

    made.run_here(fill)
    yield made
    made.close()


def call(database: Database, who: Who, **more: Any) -> Any:
    async def store(act: Callable[..., Any], *given: Any) -> Any:
        return database.run_here(lambda tx: act(tx, *given))

    return SimpleNamespace(who=who, store=store, **more)


EVERYBODY = [*(Who(site, "site") for site in SITES), *(Who(name, role) for name, role in PEOPLE.items())]


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        (PLAN, {"north", "south"}), (SUM, {"north", "south", "ada", "kim", "root"}), (DRAFT, {"eve"}),
        (MASKED, {"north"}), (LATER, set()), (digest(b"never sent"), set()),
    ],
    ids=["plan", "sum", "draft", "masked", "masked later", "never sent"],
)  # fmt: skip
def test_a_blob_is_read_by_those_alone_to_whom_it_is_granted_or_whose_study_it_is_of(
    database: Database, name: str, readers: set[str]
) -> None:
    def reads(who: Who) -> bool:
        return database.run_here(lambda tx: transfers._readable(tx, call(database, who), Digest(name))) is not None

    assert {who.name for who in EVERYBODY if reads(who)} == readers


@pytest.mark.parametrize("site", SITES)
def test_what_opened_a_sum_is_told_to_hospitals_that_decided_on_its_study(database: Database, site: str) -> None:
    async def told(run: str, number: int) -> bytes:
        return b"{}"

    asked = call(
        database,
        Who(site, "site"),
        key="heart-1",
        query=SimpleNamespace(round=1),
        services=SimpleNamespace(opening=told),
    )
    if site == "north":
        assert asyncio.run(endpoints.opening(asked)).body == b"{}"
    else:
        with pytest.raises(NotFound, match="no run heart-1 of this site"):
            asyncio.run(endpoints.opening(asked))


def test_a_step_names_no_vector_that_another_hospital_sent(database: Database) -> None:
    letter = SimpleNamespace(message=SimpleNamespace(vector=Blob(digest=MASKED, size=1)))
    with pytest.raises(NotFound, match="was not sent by this site"):
        database.run_here(
            lambda tx: Ingest._check_vector(cast(Any, None), tx, SiteId("south"), cast(Any, letter), cast(Any, None))
        )
