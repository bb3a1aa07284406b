"""A process that was killed is started again; one that cannot run is given up, with what it said."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.core.errors import Unavailable
from consilium.simulation.processes import DEATHS, SHORT_S, Children
from e2e.processes import until


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    made = Children(tmp_path, {})
    yield made
    made.end()


def ended(children: Children) -> bool:
    try:
        children.check()
    except Unavailable:
        return True
    return False


def begun(log: Path) -> list[int]:
    """Ids of the processes that said so, in their order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def killed(children: Children, log: Path, times: int) -> None:
    """The process that began as the last of so many is killed."""
    until(lambda: len(begun(log)) == times, "it runs")
    os.kill(begun(log)[-1], signal.SIGKILL)
    until(lambda: ended(children), "it has ended")


def test_who_was_killed_is_started_again_and_nobody_else(children: Children, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("mortal", "other")]
    for log in logs:
        children.start(log.name, ["sh", "-c", "echo $$; exec sleep 60"], log)
    until(lambda: all(len(begun(log)) == 1 for log in logs), "both run")
    assert children.revive(0.0) == []
    for time in range(2 * DEATHS):  # seldom enough: no number of deaths is too many
        killed(children, logs[0], time + 1)
        (said,) = children.revive(time * SHORT_S)
        assert said == "mortal had ended (status -9), and was started again"
    until(lambda: len(begun(logs[0])) == 2 * DEATHS + 1, "it runs again")
    assert not ended(children) and len(begun(logs[1])) == 1


def test_who_cannot_run_is_given_up_with_what_it_said(children: Children, tmp_path: Path) -> None:
    children.start("mortal", ["sh", "-c", "echo there is no key; exit 5"], tmp_path / "log")
    for time in range(DEATHS - 1):
        until(lambda: ended(children), "it has ended")
        assert len(children.revive(float(time))) == 1
    until(lambda: ended(children), "it has ended")
    with pytest.raises(Unavailable, match="status 5") as told:
        children.revive(float(DEATHS))
    assert "there is no key" in told.value.message
