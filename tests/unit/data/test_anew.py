"""A source is asked once more for not much longer than it took; how busy the machine is decides nothing."""

import time
from threading import Event
from typing import Any

import pytest

from consilium.core.errors import DataUnusable
from consilium.data import clock
from consilium.data.anew import Anew
from consilium.data.clock import Clock
from consilium.data.tree import Undecided

UNKNOWN = "nobody knows"


def rests() -> str:
    """What takes long only because the processor does something else."""
    time.sleep(0.2)
    return "found"


def works() -> str:
    """What takes the processor for long."""
    begun = time.process_time()
    while time.process_time() - begun < 0.3:
        pass
    return "found"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "AGAIN_S", 0.04)


@pytest.mark.parametrize(("find", "here", "told"), [
    (rests, True, "found"), (rests, False, UNKNOWN), (works, True, UNKNOWN), (works, False, UNKNOWN),
])  # fmt: skip
def test_what_is_worked_out_here_has_the_processors_time(find: Any, here: bool, told: str) -> None:
    assert Anew(Clock(60, "s"), 0.0, lambda: None, here).found(find, UNKNOWN) == told


def test_a_machine_that_stands_still_ends_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "PATIENCE", 2.0)
    ended = Event()
    assert Anew(Clock(60, "s"), 0.0, ended.set).found(rests, UNKNOWN) == UNKNOWN
    assert ended.wait(10), "what is asked is told to end"


def test_the_time_of_the_reading_is_not_exceeded() -> None:
    limit = Clock(0.05, "source.time_limit_s")
    assert Anew(limit, 10.0, lambda: None).found(rests, UNKNOWN) == UNKNOWN
    with pytest.raises(DataUnusable, match=r"longer than the 0\.05 s"):
        Anew(limit, 0.0, lambda: None).found(rests, UNKNOWN)


def test_what_is_beyond_us_is_not_known_and_other_faults_are_told() -> None:
    def fails(error: Exception) -> Any:
        def find() -> str:
            raise error

        return find

    anew = Anew(Clock(60, "s"), 0.0, lambda: None)
    assert all(anew.found(fails(error), UNKNOWN) == UNKNOWN for error in (Undecided(), KeyError("x"), RecursionError()))
    with pytest.raises(OSError, match="disk"):
        anew.found(fails(OSError("disk")), UNKNOWN)
