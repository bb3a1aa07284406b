"""One training round of the shipped coordinator and four agents, beside the floor of the same bytes.

    .venv/bin/python bench/round.py             (or, for less of its time: --sizes 0.1 10)

The model goes down to four sites over TLS, each adds a constant, it comes back, is summed and committed. All processes
are started by public commands, with default durability. A round is the time between two events `Opened` of the run; the
first round is left out, since processes start in it. Beside it run a floor that moves and adds the same bytes over bare
TCP with TLS, and one that also hashes and fsyncs them. Exit code 1: an aim of `aims.py` does not hold.
"""

import itertools
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np

import aims
import floor
import place

SITES, PATIENTS = 4, 40
POLICY = "policy: 1\nmin_patients: 10\nmodels: [add-constant]\n"
ROUNDS = {0.1: 30, 10.0: 10, 100.0: 5, 400.0: 3}


class Peak:
    """The most anonymous memory that processes were seen to use, in bytes."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.most = dict.fromkeys(pids, 0)
        self._pids, self._stop = pids, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            for name, pid in self._pids.items():
                self.most[name] = max(self.most[name], place.memory(pid))

    def end(self) -> dict[str, int]:
        """Stop looking."""
        self._stop.set()
        self._thread.join()
        return self.most


def wanted(size: int, rounds: int, sites: int, **changes):
    """A study whose model is `size` float32, with `changes`."""
    from e2e.federation import study

    model = {"kind": "add-constant", "options": {"size": size}}
    return study("bench", model=model, rounds=rounds, quorum=sites, deadlines={"round_s": 3600}, **changes)


def table(folder: Path, number: int) -> None:
    """Patients whose first column is half the site's number: what its trainer adds is a tenth of it."""
    lines = [f"p{i},{number / 2},{i % 7},{i % 2}" for i in range(PATIENTS)]
    (folder / "table.csv").write_text("\n".join(["id,x,y,large", *lines]) + "\n")


@contextmanager
def federation(folder: Path, sites: int = SITES) -> Iterator:
    """A coordinator and agents with tables of their own."""
    from e2e.federation import Federation

    made = Federation(folder)
    try:
        for number in range(1, sites + 1):
            made.add(f"site-{number}", policy=POLICY)
            table(folder / f"site-{number}", number)
        yield made
    finally:
        made.close()


def opened(events: list[dict]) -> list[float]:
    """When each round was opened, in seconds."""
    return [datetime.fromisoformat(one["at"]).timestamp() for one in events if one["kind"] == "Opened"]


def finished(made, run: str, limit_s: float) -> list[dict]:
    """The run's events, once it has ended."""
    deadline, events, ended = time.monotonic() + limit_s, [], False
    while not ended and time.monotonic() < deadline:  # seldom: who watches must not slow down what is measured
        time.sleep(0.5)
        after = events[-1]["seq"] if events else 0
        events += made.owner.connection.get(f"/v1/runs/{run}/events", {"after": after})["events"]
        ended = bool(events) and events[-1]["body"].get("phase") == "APPLY"  # else the next round was opened with it
    view = made.view(run)
    assert view["status"] == "finished", f"the run is {view['status']}: {view['reason']}"
    return events


def check(made, run: str, size: int, rounds: int, sites: int = SITES) -> None:
    """The model is the initial one plus, per round, the mean of the constants."""
    from consilium.core.tensors import from_safetensors

    view = made.owner.connection.get(f"/v1/runs/{run}/result")
    ask = lambda blob: made.owner.connection.request("GET", f"/v1/blobs/{blob['digest']}", stream=True)  # noqa: E731
    read = lambda blob: from_safetensors(bytes(ask(blob).read(blob["size"])))  # noqa: E731
    first, last = read(view["initial"])["vector"], read(view["state"])["model"]
    mean = sum(range(1, sites + 1)) / sites / 20
    assert last.dtype == np.float32 and last.size == size
    assert np.allclose(last - first, rounds * mean, atol=1e-4), "the federation computed another mean"


def ours(folder: Path, size: int, rounds: int) -> dict[str, object]:
    """Rounds of the shipped coordinator and agents."""
    with federation(folder) as made:
        plan = made.approved(wanted(size, rounds + 1, SITES))
        pids = {"coordinator": made.coordinator.process.pid}
        pids |= {name: hospital.process.pid for name, hospital in made.hospitals.items()}
        peak = Peak(pids)
        run = made.start(plan)
        times = opened(finished(made, run, 600))
        most = peak.end()
        check(made, run, size, rounds + 1)
        seconds = [after - before for before, after in itertools.pairwise(times)]
        blobs = sum(path.stat().st_size for path in (made.coordinator.home).rglob("*") if path.is_file())
    agents = max(most[name] for name in most if name != "coordinator")
    return {
        "round_s": place.spread(seconds[1:]), "first_round_s": seconds[0], "all_s": seconds,
        "coordinator_mb": most["coordinator"] / place.MB, "agent_mb": agents / place.MB, "disk_mb": blobs / place.MB,
    }  # fmt: skip


def measure(folder: Path, megabytes: float, rounds: int) -> dict[str, object]:
    """Both floors and the product at one size."""
    size = int(megabytes * place.MB / place.MODEL_BYTES)
    found: dict[str, object] = {"model_mb": megabytes}
    for name, durable in (("floor_s", False), ("durable_floor_s", True)):
        found[name] = place.spread(floor.measure(folder / name, size, rounds, durable=durable))
        shutil.rmtree(folder / name)
    found |= ours(folder / "federation", size, rounds)
    shutil.rmtree(folder / "federation")
    return found


def tell(found: dict) -> None:
    """One line."""
    own, bare, durable = (found[name]["median"] for name in ("round_s", "floor_s", "durable_floor_s"))
    least, most = found["round_s"]["least"], found["round_s"]["most"]
    print(
        f"{found['model_mb']:>6g} MB   round {own:8.3f} s [{least:.3f}-{most:.3f}]"
        f"   floor {bare:.4f} s ({own / bare:.1f}x)   hashed, fsynced {durable:.4f} s ({own / durable:.2f}x)"
        f"   overhead {1000 * (own - bare):.0f} ms   first {found['first_round_s']:.1f} s"
        f"   coordinator {found['coordinator_mb']:.0f} MB   agent {found['agent_mb']:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measure, print, keep."""
    ask = place.arguments(__doc__)
    folder, load = place.enter(), aims.load()
    sizes = []
    for megabytes in ask.sizes or ROUNDS:
        rounds = ask.rounds or next(count for size, count in ROUNDS.items() if megabytes <= size or size == 400.0)
        sizes.append(measure(folder / f"{megabytes:g}", megabytes, rounds))
        tell(sizes[-1])
    found = {"machine": place.machine(), "load": load, "sites": SITES, "sizes": sizes}
    place.keep(ask.json and ask.json.resolve(), "round", found)
    sys.exit(aims.verdict([aim for aim in map(aims.of_round, sizes) if aim is not None]))


if __name__ == "__main__":
    main()
