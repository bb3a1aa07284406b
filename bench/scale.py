"""The coordinator's memory and time with many sites: a load generator that streams stands for them.

    .venv/bin/python bench/scale.py             (or: --sites 4 16 64 --megabytes 100)

The coordinator is the shipped one. Each site of the generator has a key of its own, joins, approves, fetches the state,
and sends random bytes that no other site sends, with the code of the wire; it holds one block in memory. Exit code 1:
an aim of `aims.py` does not hold.
"""

import hashlib
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import aims
import place
from round import Peak, opened, wanted

BLOCK = 1 << 20


class Stream:
    """A contribution of `size` float32 that is made while it is read: one random block of the site's, over and over."""

    def __init__(self, size: int, seed: int) -> None:
        from consilium.core import state as chain

        shape = {"update": ("F32", size), "weight": ("F64", 1)}
        self._head = chain.header(shape)
        self._block = np.random.default_rng(seed).standard_normal(BLOCK // 4, dtype=np.float32).tobytes()
        self._body, self._tail = 4 * size, np.array([10.0]).tobytes()
        self.length = len(self._head) + self._body + len(self._tail)
        self._pieces = self.pieces()
        self._rest = b""

    def pieces(self):
        """All bytes, block by block."""
        yield self._head
        for start in range(0, self._body, BLOCK):
            yield self._block[: min(BLOCK, self._body - start)]
        yield self._tail

    def digest(self) -> str:
        """SHA-256 of all bytes."""
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece)
        return "sha256:" + found.hexdigest()

    def read(self, size: int = -1) -> bytes:
        """The next bytes, for a request's body."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        size = len(self._rest) if size < 0 else size
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


def take_part(site, plan, run: str, number: int, seed: int) -> None:
    """One site's part of a round: state down, contribution up, answer signed."""
    from e2e import studies

    task = studies.task(site, run, number)
    response = site.connection.request("GET", f"/v1/blobs/{task.state.digest}", stream=True)
    while response.read(BLOCK):
        pass
    stream = Stream(plan.study.model.options["size"], seed)
    digest = stream.digest()
    headers = {"Upload-Offset": "0", "Upload-Length": str(stream.length), "Content-Length": str(stream.length)}
    site.connection.request("PATCH", f"/v1/blobs/{digest}", stream, headers, read_s=120)
    site.send(studies.answer(task, digest, stream.length))


def measure(folder: Path, count: int, megabytes: float) -> dict[str, object]:
    """One training round of `count` sites."""
    from e2e import studies
    from e2e.coordinator import Coordinator

    folder.mkdir(parents=True)
    coordinator = Coordinator(folder)
    coordinator.start()
    try:
        owner = coordinator.person("olga", "researcher")
        sites = [coordinator.join(f"site-{number}") for number in range(1, count + 1)]
        plan = studies.submit(owner, wanted(int(megabytes * place.MB / place.MODEL_BYTES), 1, count))
        for site in sites:
            site.send(studies.decision(site, plan))
        peak = Peak({"coordinator": coordinator.process.pid})
        run = studies.start(owner, plan)
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(lambda pair: take_part(pair[1], plan, run, 1, pair[0]), enumerate(sites)))
        events, deadline = [], time.monotonic() + 600
        while len(opened(events)) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
            events = owner.connection.get(f"/v1/runs/{run}/events")["events"]
        times, most = opened(events), peak.end()["coordinator"]
    finally:
        coordinator.process.kill()
        shutil.rmtree(folder)
    return {
        "sites": count, "model_mb": megabytes, "round_s": times[1] - times[0], "coordinator_mb": most / place.MB,
    }  # fmt: skip


def main() -> None:
    """Measure, print, keep."""
    ask = place.arguments(__doc__)
    folder, load = place.enter(), aims.load()
    found = []
    for count in ask.sites:
        found.append(measure(folder / str(count), count, ask.megabytes))
        line = "{sites:>3} sites   {model_mb:g} MB   round {round_s:.2f} s   coordinator {coordinator_mb:.0f} MB"
        print(line.format(**found[-1]), flush=True)
    told = {"machine": place.machine(), "load": load, "rounds": found}
    place.keep(ask.json and ask.json.resolve(), "scale", told)
    sys.exit(aims.verdict([aims.of_scale(one) for one in found]))


if __name__ == "__main__":
    main()
