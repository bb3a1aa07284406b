"""A line that is cut in the middle of a transfer costs the time of the cut, a little more, and no bytes twice."""

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from consilium.core.errors import Unavailable
from consilium.core.ids import digest
from consilium.wire.connection import SOON_S, Connection
from consilium.wire.transfer import download, upload
from e2e import wide
from e2e.conftest import Make
from e2e.coordinator import Coordinator
from e2e.cuts import KINDS, Line, line
from e2e.federation import POLICY, Federation, federation
from e2e.processes import PATIENCE_S

pytestmark = pytest.mark.alone

NUMBERS = 8_000_000
SIZE = 4 * NUMBERS
RATE = 20e6
IN_FLIGHT = 8 << 20
"""Bytes that lie in buffers of the two ends and of the line, and that a cut may cost."""
MORE_S = 5.0


class Behind:
    """A hospital whose agent dials the coordinator through a line."""

    def __init__(self, made: Federation, through: Line, command: Path) -> None:
        self.made, self.line = made, through
        hospital = made.add("north", start=False, policy=POLICY + "models: [wide]\n")
        hospital.process.command[0] = command
        about = hospital.home / "site.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"url": f"https://127.0.0.1:{through.port}"}))
        hospital.process.start()
        self.hospital = hospital
        self.runs = 0
        self.undisturbed_s = 0.0
        self.undisturbed_s = min(self.run() for _ in range(2))  # the least: a slow one would hide what a cut costs
        print(f"undisturbed: {self.undisturbed_s:.2f} s")

    def run(self, kind: str = "", seconds: float = 0.0, direction: str = "up") -> float:
        """One run to its end; how long it took. With `kind`, the line is cut in the middle of the transfer."""
        self.runs += 1
        plan = wide.submit(self.made.owner, f"wide-{self.runs}", NUMBERS, seed=self.runs)  # bytes never sent before
        self.hospital.approve(plan)
        began, before = time.monotonic(), self.line.up
        run = self.made.start(plan)
        if kind:
            self.line.crossed(direction, int(SIZE * 0.4))
            self.line.cut(kind)
            threading.Event().wait(seconds)
            self.line.mend()
        self.made.until(run, "finished")
        took = time.monotonic() - began
        sent = self.line.up - before
        assert SIZE <= sent <= SIZE + IN_FLIGHT, f"{sent} bytes went up for an upload of {SIZE}"
        if kind:
            print(f"{kind} of {seconds:g} s ({direction}): {took - self.undisturbed_s - seconds:+.2f} s beyond")
        return took


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("cut")
    with federation(folder / "federation") as made, line(made.coordinator.port, RATE) as through:
        found = Behind(made, through, wide.environment(folder / "environment"))
        yield found
        assert found.hospital.process.alive, found.hospital.process.said[-3000:]


def lasts(behind: Behind, kind: str, seconds: float, direction: str) -> None:
    took = behind.run(kind, seconds, direction)
    most = behind.undisturbed_s + seconds + MORE_S
    assert took <= most, f"{took:.1f} s, of {most:.1f}: {behind.hospital.process.said[-2000:]}"


def among(kind: str, *more: str, long: bool = False) -> ParameterSet:
    """One kind of cut, in the group of its kind: each kind cuts a federation of its own, all at once."""
    marks = [pytest.mark.xdist_group(kind), *([pytest.mark.long] if long else [])]
    return pytest.param(kind, *more, marks=marks)


@pytest.mark.parametrize(("kind", "direction"), [*(among(kind, "up") for kind in KINDS), among("forget", "down")])
def test_a_cut_of_3_s_costs_the_run_little_more(behind: Behind, kind: str, direction: str) -> None:
    lasts(behind, kind, 3.0, direction)


@pytest.mark.parametrize("kind", [among("reset"), among("drop"), among("forget", long=True)])
def test_a_cut_of_30_s_costs_the_run_little_more(behind: Behind, kind: str) -> None:
    lasts(behind, kind, 30.0, "up")


@pytest.mark.parametrize("kind", [among(kind, long=True) for kind in KINDS])
def test_a_cut_of_120_s_costs_the_run_little_more(behind: Behind, kind: str) -> None:
    lasts(behind, kind, 120.0, "up")


@pytest.fixture
def through(make_coordinator: Make) -> Iterator[tuple[Coordinator, Line]]:
    made = make_coordinator(None)
    with line(made.port, 64e6) as found:
        yield made, found
    assert made.stop() == 0, made.process.said[-3000:]


def test_transfers_that_are_cut_again_and_again_move_no_byte_twice_but_those_in_flight(
    through: tuple[Coordinator, Line], tmp_path: Path
) -> None:
    coordinator, cut = through
    north = coordinator.join("north")
    connection = Connection(f"https://127.0.0.1:{cut.port}", coordinator.ca, north.token, limit_s=SOON_S)
    data = os.urandom(48 << 20)
    (tmp_path / "sent").write_bytes(data)
    chance = random.Random(7)
    for direction in ("up", "down"):
        before = getattr(cut, direction)
        ends: list[int] = []
        path = tmp_path / ("sent" if direction == "up" else "fetched")
        move = upload if direction == "up" else download

        def act(move=move, path=path, ends=ends) -> None:  # type: ignore[no-untyped-def]
            args = (path, digest(data)) if move is upload else (digest(data), path)
            ends.append(move(connection, *args, threading.Event()))

        moving = threading.Thread(target=act, daemon=True)
        moving.start()
        for kind in ("reset", "forget", "reset", "drop"):
            cut.crossed(direction, chance.randrange(4 << 20, 8 << 20))
            cut.cut(kind)
            cut.mend()
        moving.join(PATIENCE_S)
        assert ends, f"the transfer {direction} did not end"
        assert getattr(cut, direction) - before <= len(data) + 4 * IN_FLIGHT
    assert (tmp_path / "fetched").read_bytes() == data


def test_the_newest_request_has_the_upload_while_an_older_one_hangs(through: tuple[Coordinator, Line]) -> None:
    coordinator, cut = through
    north = coordinator.join("north")
    data = os.urandom(4 << 20)
    name = digest(data)
    old = Connection(f"https://127.0.0.1:{cut.port}", coordinator.ca, north.token)
    headers = {"Upload-Offset": "0", "Upload-Length": str(len(data)), "Content-Length": str(len(data))}

    class Hanging:
        """A body whose second half never comes."""

        first = True

        def read(self, size: int = -1) -> bytes:
            if not self.first:
                cut.cut("forget")
                cut.mend()
                raise OSError("the sender lost its line")
            self.first = False
            return data[: 2 << 20]

    with pytest.raises(Unavailable):
        old.request("PATCH", f"/v1/blobs/{name}", Hanging(), headers)
    new = north.connection
    told = new.request("HEAD", f"/v1/blobs/{name}", passing=(404,))
    at = int(told.headers["Upload-Offset"])
    new.request("PATCH", f"/v1/blobs/{name}", data[at:], {"Upload-Offset": str(at), "Upload-Length": str(len(data))})
    assert new.request("GET", f"/v1/blobs/{name}").data == data
