"""Two coordinator processes on one PostgreSQL share the work; one is killed, and nothing is done twice or lost."""

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consilium.core.errors import Unavailable
from consilium.governance import audit
from consilium.wire.envelope import Envelope
from consilium.wire.messages import Closed, Ended, Task
from e2e.chaos import bench
from e2e.federation import RUN_S, Federation, federation, study
from e2e.postgres import Postgres
from e2e.processes import Process, until

NAMES = ("east", "north", "south", "west")


class Balancer:
    """What stands before two coordinators: new connections go to each by turns, or to the one that lives."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ports.append(self._ports.pop(0))
                for port in self._ports:
                    with contextlib.suppress(OSError):
                        far = socket.create_connection(("127.0.0.1", port))
                        for one, other in ((near, far), (far, near)):
                            threading.Thread(target=_copy, args=(one, other), daemon=True).start()
                        break
                else:
                    near.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Pair:
    """A federation with two coordinator processes; `by_name` finds a process by the name it signs its work with."""

    def __init__(self, made: Federation, second: Process, balancer: Balancer, *, rows: bool) -> None:
        self.made, self.balancer, self.rows = made, balancer, rows
        self.processes = [made.coordinator.process, second]

    def by_name(self, name: str) -> Process:
        return next(one for one in self.processes if name.endswith(f"-{one.pid}"))

    def leased(self) -> str | None:
        """Who holds a lease now."""
        rows = self.made.rows("SELECT leased_by FROM effects WHERE done IS NULL AND leased_by IS NOT NULL")
        return str(rows[0][0]) if rows else None

    def performed(self) -> list[tuple[int, str]]:
        return [(row[0], row[1]) for row in self.made.rows("SELECT round, performed_by FROM results ORDER BY round")]


def serves(made: Federation, url: str) -> bool:
    """Whether a coordinator answers at this address."""
    with contextlib.suppress(Unavailable):
        made.coordinator.connection(None, url).get("/v1/hello")
        return True
    return False


@pytest.fixture(params=["rows", pytest.param("files", marks=pytest.mark.long)])
def pair(tmp_path: Path, postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """What is small, they keep as rows of the database, or else as files and by leases, like what is large."""
    with federation(tmp_path, postgres()) as made:
        url, second = made.coordinator.beside()
        if request.param == "files":
            for one, address in ((made.coordinator.process, made.coordinator.url), (second, url)):
                one.stop()
                one.variables |= {**bench(tmp_path / f"faults-{one.pid}"), "FAULTS_ROWS": "0"}
                one.start()
                until(lambda address=address: serves(made, address), "it serves")  # type: ignore[misc]
        balancer = Balancer([made.coordinator.port, int(url.rpartition(":")[2])])
        try:
            for name in NAMES:
                member = made.add(name, start=False).home / "site.json"
                member.write_text(json.dumps(json.loads(member.read_text()) | {"url": balancer.url}))
                made.hospitals[name].process.start()
            made.owner = type(made.owner)("olga", _connection(made, balancer.url), made.owner.token)
            yield Pair(made, second, balancer, rows=request.param == "rows")
        finally:
            balancer.close()
            second.kill()


def _connection(made: Federation, url: str) -> Any:
    return made.coordinator.connection(made.owner.token, url)


def test_two_coordinators_share_the_work_and_survive_each_other(pair: Pair) -> None:
    made, rounds = pair.made, 60
    plan = made.approved(study("shared", rounds=rounds, quorum=4, deadlines={"round_s": 3600}))
    run = made.start(plan)
    until(lambda: len({name for _, name in pair.performed()}) == 2, "both perform")

    # (1) while it works, holding a lease if it needs one
    names: list[str] = []

    def working() -> bool:
        names.extend(filter(None, [pair.performed()[-1][1] if pair.rows else pair.leased()]))
        return bool(names)

    until(working, "one of them works")
    first = pair.by_name(names[0])
    first.kill()
    before = len(pair.performed())
    until(lambda: len(pair.performed()) > before, "the other takes over")
    first.start()

    # (2) the other, while the first is not yet back
    other = next(one for one in pair.processes if one is not first)
    other.kill()
    before = len(pair.performed())
    until(lambda: len(pair.performed()) > before, "the first goes on")
    other.start()

    # (3) both at once
    for one in pair.processes:
        one.kill()
    for one in pair.processes:
        one.start()
    made_view = settled(pair, run)
    assert [entry["took_part"] for entry in made_view["participation"]] == [list(NAMES)] * (rounds + 1)
    once_each(made, run, rounds)


def settled(pair: Pair, run: str) -> dict[str, Any]:
    """Wait for the end; the balancer may have nobody to ask for a moment."""
    until(lambda: pair.made.rows(f"SELECT status FROM runs WHERE run = '{run}'")[0][0] == "finished", "it ends", RUN_S)
    until(lambda: any(one.alive for one in pair.processes), "one of them lives")
    found: dict[str, Any] = {}

    def answers() -> bool:
        with contextlib.suppress(Unavailable):
            found.update(pair.made.view(run))
        return bool(found)

    until(answers, "a coordinator answers")
    return found


def once_each(made: Federation, run: str, rounds: int) -> None:
    """From the database: every effect, event, result and message is there, once."""
    keys = [row[0] for row in made.rows("SELECT key FROM effects WHERE done IS NOT NULL AND kind <> 'deadline'")]
    assert sorted(keys) == sorted([f"{run}/begin/0", *(f"{run}/apply/{number}" for number in range(1, rounds + 2))])
    assert [row[0] for row in made.rows("SELECT round FROM results ORDER BY round")] == list(range(rounds + 2))
    told = [(row[0], row[1]) for row in made.rows(f"SELECT kind, body FROM events WHERE run = '{run}' ORDER BY seq")]
    counted = Counter(kind for kind, _ in told)
    assert counted == {"Opened": rounds + 1, "Answered": (rounds + 1) * (len(NAMES) + 1)}
    assert made.rows(f"SELECT version FROM runs WHERE run = '{run}'") == [(len(told),)]
    for name in NAMES:
        envelopes = [
            Envelope.parse(bytes(row[0])) for row in made.rows(f"SELECT envelope FROM inbox WHERE site = '{name}'")
        ]
        kinds = Counter(one.kind for one in envelopes)
        closed = [Task.decode(one.payload).closed() for one in envelopes if one.kind == Task.TYPE]
        closed += [Closed.decode(one.payload) for one in envelopes if one.kind == Closed.TYPE]
        assert sorted(one.round for one in closed if one is not None) == list(range(1, rounds + 2))
        assert (kinds[Task.TYPE], kinds[Ended.TYPE]) == (rounds + 1, 1)
    entries = [bytes(row[0]) for row in made.rows("SELECT entry FROM audit ORDER BY seq")]
    audit.verify(entries)
    closed = [json.loads(entry)["body"]["round"] for entry in entries if json.loads(entry)["kind"] == "round-closed"]
    assert closed == list(range(1, rounds + 2))
