"""What waits while SQLite writes shares the next transaction: each is answered as if it had been alone."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from consilium.core.errors import Refused
from consilium.store.database import Database, Transaction
from consilium.store.queue import Asked, answer
from consilium.store.schema import assertions, effects, metadata

HOW = st.lists(st.sampled_from(["keeps", "refused", "broken", "nested"]), min_size=2, max_size=8)


class Counting(Database):
    """It knows how many transactions there were."""

    begun = 0

    def _once(self, act: Any) -> Any:
        self.begun += 1
        return super()._once(act)


@pytest.fixture
def rung() -> list[str]:
    return []


@pytest.fixture
def database(tmp_path: Path, rung: list[str]) -> Iterator[Counting]:
    made = Counting(f"sqlite:///{tmp_path / 'db.sqlite'}", rung.extend)
    made.run_here(lambda tx: metadata.create_all(tx.connection))
    yield made
    made.close()


def act(how: str, name: str, tx: Transaction) -> str:
    """Write a row and ring, then end in this way."""
    tx.put(assertions, jti=name, expires=1.0)
    tx.ring(name)
    match how:
        case "refused":
            raise Refused("no", "never", reason="test")
        case "broken":
            tx.do(text("INSERT INTO nowhere VALUES (1)"))
        case "nested":
            _, error = tx.apart(lambda inner: act("refused", f"{name}-inner", inner))
            assert isinstance(error, Refused)
            kept, _ = tx.apart(lambda inner: act("keeps", f"{name}-kept", inner))
            assert kept == f"{name}-kept"
    return name


def together(database: Database, hows: list[str]) -> list[Any]:
    """Ask all of it while one transaction holds the thread that writes; what comes of each."""
    holding, go = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        holding.set()
        go.wait()

    async def ask() -> list[Any]:
        first = asyncio.ensure_future(database.run(hold))
        await asyncio.get_running_loop().run_in_executor(None, holding.wait)
        rest = [
            asyncio.ensure_future(database.run(lambda tx, how=how, n=n: act(how, f"{n}", tx)))  # type: ignore[misc]
            for n, how in enumerate(hows)
        ]
        await asyncio.sleep(0)  # each has asked
        go.set()
        await first
        return await asyncio.gather(*rest, return_exceptions=True)

    return asyncio.run(ask())


def rows(database: Database) -> set[str]:
    return database.run_here(lambda tx: {row.jti for row in tx.rows(select(assertions))})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(hows=HOW)
def test_each_is_answered_as_if_it_had_been_alone(database: Counting, rung: list[str], hows: list[str]) -> None:
    database.run_here(lambda tx: tx.do(assertions.delete()))
    rung.clear()
    found = together(database, hows)
    kept = set()
    for n, (how, what) in enumerate(zip(hows, found, strict=True)):
        if how in ("keeps", "nested"):
            assert what == f"{n}"
            kept |= {f"{n}"} | ({f"{n}-kept"} if how == "nested" else set())
        else:
            assert isinstance(what, Refused if how == "refused" else Exception), what
    assert rows(database) == kept
    assert set(rung) == kept, "only what is committed rings"


def test_they_share_one_transaction(database: Counting) -> None:
    before = database.begun
    assert together(database, ["keeps", "refused", "nested", "keeps"]) is not None
    assert database.begun == before + 2, "the one that held the thread, and one for all that waited"


def test_what_asked_and_went_away_holds_nobody_up(database: Database) -> None:
    async def ask() -> str:
        gone = asyncio.ensure_future(database.run(lambda tx: act("keeps", "gone", tx)))
        stays = asyncio.ensure_future(database.run(lambda tx: act("keeps", "stays", tx)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask()) == "stays"


def test_a_commit_that_fails_is_tried_again_one_by_one(database: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failed = Counting._once, []

    def once(self: Counting, what: Any) -> Any:
        if not failed and getattr(what, "__name__", "") == "each":
            failed.append(what)
            raise OperationalError("COMMIT", None, Exception("database is locked"))
        return real(self, what)

    monkeypatch.setattr(Counting, "_once", once)
    assert together(database, ["keeps", "keeps"]) == ["0", "1"]
    assert failed and rows(database) == {"0", "1"}


def test_a_row_with_a_known_key_is_put_once(database: Counting) -> None:
    for expires in (1.0, 2.0):
        database.run_here(lambda tx, at=expires: tx.put_once(assertions, jti="one", expires=at))  # type: ignore[misc]
    assert database.run_here(lambda tx: [row.expires for row in tx.rows(select(assertions))]) == [1.0]


def test_a_transaction_whose_commit_fails_is_undone_and_the_next_goes_on(database: Counting) -> None:
    """In the thread that keeps its connection: what a constraint forbids that SQLite looks at when all is written."""
    orphan = {"key": "e", "run": "nowhere", "kind": "apply", "body": "", "due": 1.0, "leased_until": 0.0, "attempts": 0}

    def breaks(tx: Transaction) -> None:
        tx.do(text("PRAGMA defer_foreign_keys=ON"))
        tx.put(effects, orphan)

    async def ask() -> None:
        with pytest.raises(IntegrityError):
            await database.run(breaks)
        await database.run(lambda tx: act("keeps", "next", tx))
        assert await database.run(lambda tx: tx.find(effects, key="e")) is None

    asyncio.run(ask())
    assert rows(database) == {"next"}


def test_of_those_that_are_answered_together_one_that_went_away_holds_nobody_up() -> None:
    async def ask() -> object:
        gone, stays = (asyncio.get_running_loop().create_future() for _ in range(2))
        gone.cancel()
        answer([Asked(str, gone), Asked(str, stays)], [("gone", None), ("stays", None)])
        return await asyncio.wait_for(stays, 5)

    assert asyncio.run(ask()) == "stays"
