"""The exported audit log is never older than its checkpoint, while other processes write to the same PostgreSQL."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from consilium.coordinator import research
from consilium.coordinator.accounts import Who
from consilium.coordinator.app import Settings, make_services
from consilium.coordinator.endpoints import After, Call
from consilium.coordinator.ledgers import record
from consilium.coordinator.services import Services
from consilium.core.ids import Digest
from consilium.governance import audit
from consilium.store.database import Database, Transaction
from consilium.wire.envelope import unseal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint
from e2e.postgres import Postgres


@pytest.fixture
def services(postgres: Postgres, tmp_path: Path) -> Iterator[Services]:
    Identity.create(tmp_path / "identity.key")
    settings = Settings(
        home=tmp_path, host="", port=1, url="https://localhost:1", database=postgres(), blobs=tmp_path / "blobs",
        certificate=tmp_path, key=tmp_path, ca=None,
    )  # fmt: skip
    made = make_services(settings)
    yield made
    made.database.close()


def test_what_others_add_in_the_middle_of_an_export_is_in_it_if_the_checkpoint_says_so(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Database(services.database.url, lambda topic: None)
    checkpoint, count = research.checkpoint, 0

    def add() -> None:
        nonlocal count
        count += 1
        other.run_here(lambda tx: record(tx, "person", {"name": f"n{count}"}, services.now()))

    def busy(tx: Transaction, now: datetime) -> Checkpoint:
        add()  # between whatever the export did before and its checkpoint ...
        found = checkpoint(tx, now)
        add()  # ... and between that and what it does next
        return found

    monkeypatch.setattr(research, "checkpoint", busy)
    try:
        for _ in range(3):
            told = asyncio.run(research.read_audit(_call(services)))
            entries = [entry.encode() for entry in told["entries"]]
            sealed = json.dumps(told["checkpoint"]).encode()
            mark = Checkpoint.decode(unseal(sealed, Checkpoint.TYPE, [told["key"]]))
            assert audit.verify(entries, [audit.Head(mark.seq, Digest(mark.head))]).seq == count
            assert mark.seq == count - 1, "the other process did write in between"
    finally:
        other.close()


def _call(services: Services) -> Call:
    nothing: Any = None
    return Call(nothing, services, Who("root", "admin"), "", None, After(after=0), services.seconds())
