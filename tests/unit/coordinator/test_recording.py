"""The record of a site that it finds a restored journal by."""

from datetime import UTC, datetime
from typing import Any

from consilium.coordinator.recording import record_of
from consilium.core.ids import RunId, SiteId, canonical, digest
from consilium.core.round import Answered, Kind, Phase
from consilium.core.run import Opened
from consilium.core.study import Plan
from consilium.store.database import Database, Transaction
from consilium.store.schema import events, people, runs, studies
from e2e.federation import study
from e2e.test_private import ASKED

NOW = datetime(2030, 6, 1, tzinfo=UTC)
SITES = (SiteId("north"), SiteId("north-2"))


def said(site: str, phase: str, number: int, attempt: int) -> Answered:
    return Answered(SiteId(site), Phase(phase), digest(f"{site} {phase} {number} {attempt}".encode()))


def opened(number: int, kind: Kind, attempt: int) -> Opened:
    return Opened(number, kind, SITES, attempt)


HAPPENED: list[Any] = [
    opened(0, Kind.PAIR, 1), said("north", "KEYS", 0, 1),
    opened(1, Kind.TRAIN, 1), said("north", "READY", 1, 1), said("north-2", "READY", 1, 1), said("north", "MASK", 1, 1),
    opened(1, Kind.TRAIN, 2), said("north", "READY", 1, 2),
    opened(2, Kind.TRAIN, 1), said("north-2", "MASK", 2, 1), said("north", "CONFIRM", 2, 1),
    opened(3, Kind.EVALUATE, 1), said("north", "READY", 3, 1),
]  # fmt: skip


def test_it_names_each_answer_to_training_under_an_epsilon_also_when_messages_are_dropped() -> None:
    """From events: the table of steps is empty here, as it is once a run is over."""
    database = Database("sqlite://", lambda topic: None)
    database.prepare()

    def fill(tx: Transaction) -> None:
        tx.put(people, name="Vera", role="researcher", password="", since=NOW)
        for name, changes in (("noised", ASKED), ("plain", {})):
            plan = Plan.of(study(name, **changes))
            tx.put(studies, study=name, plan=plan.digest, payload=plan.payload, owner="Vera", since=NOW)
            tx.put(runs, run=RunId(f"{name}-1"), study=name, version=len(HAPPENED), status="stopped")
            for seq, event in enumerate(HAPPENED, 1):
                body = canonical(vars(event)).decode()
                tx.put(events, run=f"{name}-1", seq=seq, at=NOW, kind=type(event).__name__, body=body)

    database.run_here(fill)
    (found,) = database.run_here(lambda tx: record_of(tx, "north")).sent
    database.close()
    assert found.run == "noised-1" and found.answers == tuple(
        (number, attempt, phase, said("north", phase, number, attempt).digest)
        for number, attempt, phase in ((1, 1, "READY"), (1, 1, "MASK"), (1, 2, "READY"))
    )
