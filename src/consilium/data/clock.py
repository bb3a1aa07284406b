"""The time of one reading: every wait for a source has an end."""

import time
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from consilium.core.errors import DataUnusable

Result = TypeVar("Result")
AGAIN_S, AGAIN = 10.0, 10.0
"""To find out what a query compares, it is asked again: for so many seconds, and as many times as long as it took."""
PATIENCE = 10.0
"""So many times as long at most, where the machine is busy with something else."""
LOOK_S = 0.2


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

    def again(self, took_s: float, here: bool = False) -> "Clock":
        """Of what is asked once more, where a first answer took so many seconds. Raises: DataUnusable: none is left.

        Args:    here: this process works it out: what the machine does for others meanwhile does not count, so that
                 what is found does not hang on how busy it is.
        """
        limit_s = AGAIN_S + AGAIN * took_s
        return _Worked(limit_s, self.left_s, self._setting) if here else Clock(min(limit_s, self.left_s), self._setting)

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
        try:
            while thread.is_alive():
                thread.join(self.left_s)
        except DataUnusable:
            if cut is not None:
                Thread(target=_ended, args=(thread, cut), daemon=True).start()
            raise
        if failed:
            raise failed[0]
        return found[0]


class _Worked(Clock):
    """The same of the processor's time in this process, as far as that took longer to come by than it is."""

    def __init__(self, limit_s: float, most_s: float, setting: str) -> None:
        super().__init__(min(PATIENCE * limit_s, most_s), setting)
        self._soon, self._work_s, self._begun_s = time.monotonic() + limit_s, limit_s, time.process_time()

    @property
    def left_s(self) -> float:
        """Seconds after which to look once more. Raises: DataUnusable: none are left."""
        left, soon = super().left_s, self._soon - time.monotonic()
        if soon > 0:
            return min(left, soon)
        if time.process_time() - self._begun_s >= self._work_s:
            raise self.over()
        return min(left, LOOK_S)


def _ended(thread: Thread, cut: Callable[[], None]) -> None:
    while thread.is_alive():
        cut()
        thread.join(0.2)
