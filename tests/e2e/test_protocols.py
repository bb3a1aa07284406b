"""Releases of two protocols work together where they can, and else refuse each other in one clear sentence."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.core.errors import ProtocolMismatch, Unavailable
from consilium.wire.connection import Connection
from e2e.coordinator import Coordinator, refusal
from e2e.federation import Federation, Hospital, federation, study
from e2e.processes import PATIENCE_S, Process, environment, until

RELEASE = Path(__file__).with_name("release.py")
OURS_TO_THEIRS = "one side speaks protocol 2 and the other side speaks 3"
THEIRS_TO_OURS = "one side speaks protocol 3 and the other side speaks 2"


def other(speaks: str, understands: str, *words: str | Path) -> list[str | Path]:
    """A command of another release."""
    return [sys.executable, RELEASE, speaks, understands, *words]


def says(command: list[str | Path]) -> tuple[int, str]:
    """A command to its end: exit code, and what it complained of."""
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    return done.returncode, done.stderr


def newer(coordinator: Coordinator, speaks: str, understands: str) -> Process:
    """The coordinator's folder and port, served by another release."""
    words = ("coordinator", "run", "--home", coordinator.home, "--host", "127.0.0.1", "--port", str(coordinator.port))
    process = Process(other(speaks, understands, *words, "--lease", "5"), coordinator.folder / "newer.log")
    process.start()

    def answers() -> bool:
        try:
            Connection(coordinator.url, coordinator.ca).get("/v1/hello", limit_s=2.0)
        except Unavailable:
            return False
        except ProtocolMismatch:
            pass
        return True

    process.until(answers, "the newer coordinator answers")
    return process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("protocols")) as found:
        found.add("south")
        yield found


def ticket(made: Federation, name: str) -> str:
    return str(made.coordinator.admin.connection.post("/v1/tokens", {"site": name})["token"])


def test_a_newer_agent_is_refused_by_our_coordinator(made: Federation, tmp_path: Path) -> None:
    home, token = tmp_path / "site", ticket(made, "east")
    assert says(other("3", "3", "site", "init", "--home", home))[0] == 0
    code, said = says(other("3", "3", "site", "join", token, "--home", home))
    assert code == 6 and said.count("\n") <= 3 and OURS_TO_THEIRS in said and "update the side that speaks 2" in said
    assert "Traceback" not in said
    assert "east" not in {site["site"] for site in made.coordinator.admin.connection.get("/v1/sites")}


def test_a_newer_agent_that_still_understands_us_works_with_our_coordinator(made: Federation, tmp_path: Path) -> None:
    """The next release speaks our protocol until the last site has it: so both keep working while sites update."""
    home, token = tmp_path / "site", ticket(made, "west")
    assert says(other("2", "2, 3", "site", "init", "--home", home))[0] == 0
    assert says(other("2", "2, 3", "site", "join", token, "--home", home)) == (0, "")


def test_our_agent_trains_with_a_newer_coordinator_that_still_understands_it(made: Federation) -> None:
    coordinator, south = made.coordinator, made.hospitals["south"]
    assert coordinator.stop() == 0
    process = newer(coordinator, "2", "2, 3")
    try:
        assert coordinator.connection().get("/v1/hello")["protocols"] == [2, 3]
        plan = made.submit(study("sums", rounds=1, quorum=1))
        south.approve(plan)
        made.until(made.start(plan), "finished")
    finally:
        process.kill()
        coordinator.start()


def test_our_agent_is_refused_by_a_newer_coordinator_and_says_so(made: Federation) -> None:
    coordinator, south = made.coordinator, made.hospitals["south"]
    token = ticket(made, "north")
    assert coordinator.stop() == 0
    process = newer(coordinator, "3", "3")
    try:
        error = refusal(lambda: coordinator.connection().get("/v1/hello"))
        assert isinstance(error, ProtocolMismatch) and str(error).startswith(THEIRS_TO_OURS)
        refused_at_the_door(made, token)
        until(lambda: not south.process.alive, "the agent that ran ends")
        assert told(south.process.said)
        south.process.start()
        until(lambda: not south.process.alive, "the agent that is started anew ends")
        assert told(south.process.said.rpartition("the agent ends")[2])
    finally:
        process.kill()
        coordinator.start()
    south.process.start()
    plan = made.submit(study("again", rounds=1, quorum=1))
    south.approve(plan)
    made.until(made.start(plan), "finished")


def refused_at_the_door(made: Federation, token: str) -> None:
    """Joining, and the doctor, say the sentence."""
    home = made.folder / "north" / "site"
    hospital = Hospital("north", home, home, Process([], home))
    hospital.command("init")
    code, said = hospital.says("join", token)
    assert code == 6 and told(said), said
    assert told(made.hospitals["south"].says("doctor")[1])


def told(said: str) -> bool:
    """Whether the sentence stands there, and no traceback."""
    plain = " ".join(said.split())
    return THEIRS_TO_OURS in plain and "update the side that speaks 2" in plain and "Traceback" not in plain
