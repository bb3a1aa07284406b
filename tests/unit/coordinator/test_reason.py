"""What is said of a paused run: who refused it, and what lets it go on."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.coordinator.views import _reason
from consilium.core.run import Status

WAITS = "round 1: 3 of the 4 needed sites have answered"
WAY = "`consilium site approve r6` at that hospital lets the run go on"


def reason(status: Status, **refused: str) -> str:
    fold: Any = SimpleNamespace(status=status, reason=WAITS)
    return _reason("r6", cast(Any, fold), [{"refused": {"a": "disk"}}, {"refused": refused}])


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ({"north": "disk"}, f"{WAITS}; it was refused by north (disk); once the cause is gone, {WAY}"),
        ({"north": "revoked"}, f"{WAITS}; it was refused by north (revoked); {WAY}"),
        ({"north": "difference"}, f"{WAITS}; it was refused by north (difference)"),
        ({}, WAITS),
    ],
)
def test_a_paused_run_says_what_lets_it_go_on(refused: dict[str, str], words: str) -> None:
    assert reason(Status.PAUSED, **refused) == words
    assert reason(Status.RUNNING, **refused) == WAITS
