"""What waits for the one thread that writes: taken together, and answered together."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MOST = 64
"""So many share a transaction at most: who asks waits for all of them."""
Told = tuple[Any, BaseException | None]


@dataclass(frozen=True)
class Asked:
    """Something to be done in a transaction, and who waits for it, in its event loop."""

    act: Callable[[Any], Any]
    future: "asyncio.Future[Any]"


class Queue:
    """First in, first out, between event loops and one thread."""

    def __init__(self) -> None:
        self._waiting: list[Asked] = []
        self._busy = False
        self._lock = threading.Lock()

    def add(self, asked: Asked) -> bool:
        """Add one. Whether nobody is at work, so that somebody has to begin."""
        with self._lock:
            self._waiting.append(asked)
            first, self._busy = not self._busy, True
            return first

    def take(self) -> list[Asked]:
        """What waits, at most `MOST`; if nothing does, the work is over."""
        with self._lock:
            some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            self._busy = bool(some)
            return some


def answer(asked: Sequence[Asked], told: Sequence[Told]) -> None:
    """Tell everybody what came of it: each loop is woken once."""
    loops = {one.future.get_loop() for one in asked}
    for loop in loops:
        mine = [(one.future, what) for one, what in zip(asked, told, strict=True) if one.future.get_loop() is loop]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle, mine)


def _settle(found: list[tuple["asyncio.Future[Any]", Told]]) -> None:
    for future, (result, error) in found:
        if future.done():  # who asked has gone
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
