"""What a hospital tells of itself alone, as the coordinator takes it: once, of the run's final state, rounded."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.coordinator import declarations
from consilium.core.errors import ConsiliumError
from consilium.core.ids import RunId, SiteId, digest
from consilium.core.run import Status
from consilium.core.study import Plan
from consilium.store.database import Database, Transaction
from consilium.store.schema import audit, people, runs, sites, studies
from consilium.wire.messages import Figures
from e2e.federation import study

NOW = datetime(2030, 6, 1, tzinfo=UTC)
PLAN = Plan.of(study("sums", quorum=3, privacy={"recipe": "secure_sum"}))
STATE, EAST, NORTH = digest(b"final"), SiteId("east"), SiteId("north")
SAID = Figures(
    site="east", study="sums", run="sums-1", plan=PLAN.digest, state=STATE, word="told", positives=40, negatives=60,
    common={"auroc": 81}, own={"auroc": 70},  # type: ignore[arg-type]
)  # fmt: skip


@pytest.fixture
def database() -> Iterator[Database]:
    found = Database("sqlite://", lambda topic: None)
    found.prepare()

    def fill(tx: Transaction) -> None:
        tx.put(people, name="Vera", role="researcher", password="", since=NOW)
        tx.put(studies, study="sums", plan=PLAN.digest, payload=PLAN.payload, owner="Vera", since=NOW)
        for number in (1, 2):
            tx.put(runs, run=f"sums-{number}", study="sums", version=1, status="finished")
        for site in (EAST, NORTH):
            tx.put(sites, site=site, state="admitted", public_key=site, about="", since=NOW, last_seen=0.0, activity="")

    found.run_here(fill)
    yield found
    found.close()


def run(
    status: Status = Status.FINISHED, state: str = STATE, plan: Plan = PLAN, took: tuple[str, ...] = (EAST, NORTH)
) -> Any:
    fold = SimpleNamespace(status=status, state=state, number=3, took_part={3: took})
    return SimpleNamespace(fold=fold, plan=plan, study="sums")


def told(database: Database, said: Figures = SAID, site: SiteId = EAST, of: Any = None, envelope: bytes = b"1") -> None:
    database.run_here(
        lambda tx: declarations.keep(tx, cast(Any, of or run()), site, said, said.encode(), envelope, NOW)
    )


def seen(database: Database, name: str = "sums-1") -> Any:
    return database.run_here(lambda tx: declarations.view(tx, RunId(name), PLAN.study, (EAST, NORTH)))


def test_it_is_kept_once_and_seen_rounded_and_of_whom_nothing_came_it_is_withheld(database: Database) -> None:
    told(database)
    told(database)  # an exact retry
    found = seen(database)
    assert found["north"] == {"word": "withheld", "figures": {}}
    auroc = found["east"]["figures"]["federated"]["auroc"]
    assert (auroc["value"], auroc["n"]) == (0.81, 100) and auroc["low"] < 0.81 < auroc["high"]
    assert found["east"]["figures"]["own"]["auroc"]["value"] == 0.7
    (entry,) = database.run_here(lambda tx: [bytes(row.entry) for row in tx.rows(audit.select())])
    assert b'"word":"told"' in entry and b"81" not in entry.split(b'"body"')[0]
    told(database, SAID.model_copy(update={"site": "north", "word": "too few", "positives": None, "negatives": None,
                                           "common": None, "own": None}), NORTH)  # fmt: skip
    assert seen(database)["north"]["word"] == "too few"


OTHER_RECIPE = Plan.of(study("sums"))


def test_where_hospitals_use_personal_models_the_common_one_has_a_name_of_its_own(database: Database) -> None:
    told(database, SAID.model_copy(update={"personal": SAID.own}))
    ditto = PLAN.study.model_copy(update={"strategy": PLAN.study.strategy.model_copy(update={"name": "ditto"})})
    found = database.run_here(lambda tx: declarations.view(tx, RunId("sums-1"), ditto, (EAST,)))["east"]["figures"]
    told_ = {name: one["auroc"]["value"] for name, one in found.items()}
    assert told_ == {"federated": 0.7, "shared": 0.81, "own": 0.7}
    assert seen(database)["east"]["figures"].keys() == {"federated", "own"}


@pytest.mark.parametrize(
    ("said", "site", "of", "code"),
    [
        ({"positives": 50}, EAST, run(), "conflict"),
        ({}, NORTH, run(), "envelope-invalid"),
        ({"run": "sums-2"}, EAST, run(), "conflict"),
    ],
    ids=["other words", "another site", "a second run of the plan"],
)
def test_after_it_was_told_nothing_else_is_taken(
    database: Database, said: dict[str, Any], site: SiteId, of: Any, code: str
) -> None:
    told(database)
    before = seen(database)
    with pytest.raises(ConsiliumError) as refused:
        told(database, SAID.model_copy(update=said), site, of, b"2")
    assert refused.value.code == code
    assert seen(database) == before and seen(database, "sums-2")["east"]["word"] == "withheld"


@pytest.mark.parametrize(
    ("said", "of", "code"),
    [
        ({}, run(status=Status.RUNNING), "out-of-phase"),
        ({"state": digest(b"other")}, run(), "conflict"),
        ({"plan": digest(b"other")}, run(), "conflict"),
        ({}, run(took=(NORTH,)), "conflict"),
        ({"plan": OTHER_RECIPE.digest}, run(plan=OTHER_RECIPE), "invalid"),
    ],
    ids=["a run that goes on", "another state", "another plan", "not in the sum", "plain"],
)
def test_what_does_not_fit_the_run_is_refused(database: Database, said: dict[str, Any], of: Any, code: str) -> None:
    with pytest.raises(ConsiliumError) as refused:
        told(database, SAID.model_copy(update=said), EAST, of)
    assert refused.value.code == code
    assert seen(database)["east"] == {"word": "withheld", "figures": {}}
