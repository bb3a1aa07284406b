"""The time of one reading: every wait for a source has an end."""

import time
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from consilium.core.errors import DataUnusable

Result = TypeVar("Result")
AGAIN_S, AGAIN = 10.0, 10.0
"""To find out what a query compares, it is asked again: for so many seconds, and as many times as long as it took."""


class Clock:
    """The time of one reading. Raises DataUnusable, once it is over."""

    def __init__(self, limit_s: float, setting: str) -> None:
        self._limit_s, self._setting, self._ends = limit_s, setting, time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """Seconds that are left. Raises: DataUnusable: none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self.over()
        return left

    def again(self, took_s: float) -> "Clock":
        """Of what is asked once more, where a first answer took so many seconds. Raises: DataUnusable: none is left."""
        return Clock(min(AGAIN_S + AGAIN * took_s, self.left_s), self._setting)

    def over(self) -> DataUnusable:
        """That the time is over."""
        return DataUnusable(
            f"the source took longer than the {self._limit_s:g} s that {self._setting} allows",
            "see whether the server answers; ask for less, or raise the limit",
        )

    def wait(self, seconds: float) -> None:
        """Wait. Raises: DataUnusable: longer than what is left."""
        if seconds >= self.left_s:
            raise self.over()
        time.sleep(max(seconds, 0.0))

    def within(self, act: Callable[[], Result], cut: Callable[[], None] | None = None) -> Result:
        """What `act` gives, unless the time is over before: then it is not waited for.

        Args:    cut: tells it to end; called until it has, for what has not begun yet hears nothing.
        """
        found: list[Result] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(act())
            except BaseException as error:
                failed.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        thread.join(self.left_s)
        if thread.is_alive():
            if cut is not None:
                Thread(target=_ended, args=(thread, cut), daemon=True).start()
            raise self.over()
        if failed:
            raise failed[0]
        return found[0]


def _ended(thread: Thread, cut: Callable[[], None]) -> None:
    while thread.is_alive():
        cut()
        thread.join(0.2)
