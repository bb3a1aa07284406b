"""Whoever waits is woken at once, and the event loop not for nothing."""

import asyncio
import threading

import pytest

from consilium.coordinator.bell import Bell


async def rung(bell: Bell, topics: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Ring from another thread; how often the loop was woken for it."""
    loop, woken = asyncio.get_running_loop(), 0
    bell.hang(loop)
    wake = loop.call_soon_threadsafe

    def counted(*args: object) -> object:
        nonlocal woken
        woken += 1
        return wake(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_soon_threadsafe", counted)
        thread = threading.Thread(target=bell.ring, args=(topics,))
        thread.start()
        thread.join()
    await asyncio.sleep(0)  # and it rings
    return woken


def test_all_topics_of_a_transaction_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def waits() -> None:
        bell = Bell()
        with bell.listen("inbox:a") as first, bell.listen("inbox:b") as second:
            assert await rung(bell, ["inbox:a", "run:r", "inbox:b"], monkeypatch) == 1
            assert await first.wait(9) and await second.wait(9)
            assert not await first.wait(0.001)

    asyncio.run(waits())


def test_the_loop_sleeps_on_where_nobody_waits_and_all_hear_what_is_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def waits() -> None:
        bell, called = Bell(), list[int]()
        bell.on("access", lambda: called.append(1))
        with bell.listen("inbox:a") as mine:
            assert await rung(bell, ["run:r", "inbox:b"], monkeypatch) == 0
            assert await rung(bell, ["access"], monkeypatch) == 1
            assert await rung(bell, ["*"], monkeypatch) == 1
            assert await mine.wait(9)
        assert await rung(bell, ["inbox:a"], monkeypatch) == 0
        assert called == [1, 1] and bell.rings("access") == 2

    asyncio.run(waits())
