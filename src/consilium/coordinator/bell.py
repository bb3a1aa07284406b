"""Waiting that wakes at once: a topic is rung when something is committed, here or in another process."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Collection


class Bell:
    """Topics such as ``inbox:NAME`` and ``run:ID``; ``*`` rings all."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._closed = asyncio.Event()
        self._due: list[str] = []
        self._lock = threading.Lock()
        self._calls: dict[str, list[Callable[[], None]]] = defaultdict(list)
        self._rung: dict[str, int] = defaultdict(int)

    def hang(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop the waiters live in."""
        self._loop = loop

    def ring(self, topics: Collection[str]) -> None:
        """Wake the waiters of these topics; may be called from any thread.

        The loop is woken once for all of them, and not at all where nobody waits: whoever begins to has yet to look.
        """
        heard = [one for one in topics if one == "*" or one in self._waiting or one in self._calls]
        if not heard or self._loop is None or self._loop.is_closed():
            return
        with self._lock:
            first = not self._due
            self._due += heard
        if first:
            self._loop.call_soon_threadsafe(self._ring_due)

    def _ring_due(self) -> None:
        with self._lock:
            topics, self._due = self._due, []
        for topic in dict.fromkeys(topics):
            self._ring(topic)

    def on(self, topic: str, call: Callable[[], None]) -> None:
        """Call this, in the loop, whenever `topic` rings."""
        self._calls[topic].append(call)

    def rings(self, topic: str) -> int:
        """How often a topic of `on` has rung."""
        return self._rung[topic]

    def _ring(self, topic: str) -> None:
        topics = {*self._waiting, *self._calls} if topic == "*" else {topic}
        for name in topics & self._calls.keys():
            self._rung[name] += 1
            for call in self._calls[name]:
                call()
        for name in topics:
            for event in self._waiting.get(name, ()):
                event.set()

    def close(self) -> None:
        """The process ends: whoever waits goes home with what there is."""
        self._closed.set()
        self._ring("*")

    def listen(self, *topics: str) -> "Listening":
        """A context; begin to listen, then look, then wait: nothing is missed."""
        return Listening(self._waiting, topics, self._closed)


class Listening:
    """One waiter."""

    def __init__(self, waiting: dict[str, set[asyncio.Event]], topics: tuple[str, ...], closed: asyncio.Event) -> None:
        self._waiting, self._topics, self._event, self._closed = waiting, topics, asyncio.Event(), closed

    def __enter__(self) -> "Listening":
        for topic in self._topics:
            self._waiting[topic].add(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        for topic in self._topics:
            self._waiting[topic].discard(self._event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def wait(self, seconds: float) -> bool:
        """Wait until rung, at most `seconds`. Whether it rang, and the process goes on."""
        if self._closed.is_set():
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return not self._closed.is_set()
