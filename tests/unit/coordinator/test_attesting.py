"""Who is asked to train where a study has a gate: who approves it, and whose newest check of this very plan passed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from consilium.coordinator import attesting
from consilium.coordinator.whom import Whom
from consilium.core.errors import EnvelopeInvalid, NotFound
from consilium.core.ids import RunId, SiteId, digest
from consilium.core.study import Plan
from consilium.store.database import Database
from consilium.store.schema import attestations, decisions, people, sites, studies
from consilium.wire.messages import Attestation, Decision
from e2e.federation import study

NOW = datetime(2030, 1, 1, tzinfo=UTC)
EAST, NORTH, SOUTH, WEST = map(SiteId, ("east", "north", "south", "west"))
GATED, FREE = Plan.of(study("gated", gate={"blocking": []})), Plan.of(study("free"))
CLOSED = Plan.of(study("closed", gate={"blocking": []}, sites=["north", "south"]))
OTHER = Plan.of(study("gated", gate={"blocking": []}, min_patients=11))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'db.sqlite'}", lambda topic: None)
    made.prepare()

    def fill(tx: Any) -> None:
        tx.put(people, name="Vera", role="researcher", password="", since=NOW)
        for plan in (GATED, FREE, CLOSED):
            named = {"study": plan.study.name, "plan": plan.digest, "payload": plan.payload}
            tx.put(studies, **named, owner="Vera", since=NOW)
        for site in (EAST, NORTH, SOUTH, WEST):
            tx.put(sites, site=site, state="admitted", public_key=site, about="", since=NOW, last_seen=0.0, activity="")

    made.run_here(fill)
    yield made
    made.close()


def attest(database: Database, by: SiteId, of: Plan = GATED, number: int = 0, **changes: Any) -> bool:
    """A check of a site's data arrives, signed by `by`; whether a run may wait for it."""
    told = Attestation(**{
        "site": by, "study": of.study.name, "plan": of.digest, "contract": of.study.contract.digest,
        "source": "csv", "passed": True, "patients": None, "coverage": (), "findings": (), "at": NOW, **changes,
    })  # fmt: skip
    envelope = told.encode() + bytes([number])
    return database.run_here(lambda tx: attesting.keep(tx, by, told, told.encode(), envelope, NOW))


def approve(database: Database, by: SiteId, plan: Plan = GATED) -> None:
    told = Decision(site=by, study=plan.study.name, plan=plan.digest, decision="approve", person="Ada", at=NOW)
    payload = told.encode()
    row = {"site": by, "study": plan.study.name, "payload": payload, "envelope": payload, "digest": digest(payload)}
    database.run_here(lambda tx: tx.put(decisions, id=[EAST, NORTH, SOUTH, WEST].index(by) + 1, **row))


def asked(database: Database, plan: Plan = GATED) -> list[SiteId]:
    return database.run_here(lambda tx: Whom(tx, RunId("one"), plan, cast(Any, None), NOW).approving())


def test_who_approved_and_never_attested_is_not_asked(database: Database) -> None:
    for site in (EAST, NORTH, SOUTH):
        approve(database, site)
    assert asked(database) == []
    assert attest(database, NORTH)
    assert attest(database, SOUTH, passed=False)
    assert attest(database, WEST)  # whose people have not approved
    assert asked(database) == [NORTH]
    assert attest(database, SOUTH, number=1)
    assert attest(database, NORTH, number=2, passed=False)
    assert asked(database) == [SOUTH]
    why = database.run_here(lambda tx: attesting.lacking(tx, GATED))
    assert [attesting.why(why, site) for site in (EAST, NORTH, SOUTH)] == ["not-attested", "check-failed", ""]


def test_who_approves_a_study_without_a_gate_is_asked(database: Database) -> None:
    approve(database, EAST, FREE)
    assert asked(database, FREE) == [EAST]
    assert not attest(database, EAST, FREE)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (EnvelopeInvalid, {"site": NORTH}),
        (NotFound, {"plan": OTHER.digest}),
        (NotFound, {"contract": digest(b"another contract")}),
        (NotFound, {"study": "unknown"}),
        (NotFound, {"study": "free"}),
        (NotFound, {"study": "closed", "plan": CLOSED.digest}),  # which does not invite it
    ],
)
def test_a_check_of_another_site_plan_or_contract_is_refused(
    database: Database, error: type[Exception], changes: dict[str, Any]
) -> None:
    approve(database, EAST)
    with pytest.raises(error):
        attest(database, EAST, **changes)
    assert database.run_here(lambda tx: tx.find(attestations, site=EAST)) is None
    assert asked(database) == []


def test_a_check_that_comes_twice_is_one(database: Database) -> None:
    assert attest(database, EAST)
    assert not attest(database, EAST)
    assert database.run_here(lambda tx: attesting.view(tx, GATED))["east"]["checks"] == 1
