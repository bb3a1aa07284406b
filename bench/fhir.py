"""A view of 17 columns over Observations in NDJSON, to Arrow on one core; beside sqlonfhir on the same file.

    make bench-fhir                          (or: .venv/bin/python bench/fhir.py --json bench/results.json)

Both read the file, decode it and make the table; each in a process of its own with one thread, by turns. Times are of
the clock, and the least of the turns counts: others at work on the machine only ever add to it. Rows are compared
first. The Observations are those of Synthea in ../shared/data (LOINC and UCUM), again and again with ids of their own.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import place
from consilium.data.fhir import arrow, definition, ndjson
from consilium.data.fhir.views import compile_view

DATA = place.HERE.parent.parent / "shared/data/fhir_synthea_pathling/ndjson/Observation.ndjson.gz"
PEER = place.HERE.parent / ".venv-sqlonfhir"
VIEW = place.HERE / "fhir_view.json"
TURNS, PEER_TURNS = 7, 2
SMALL, LARGE = 4, 20
"""How often the Observations stand in a file: the small one for the peer and for ours, the large one for memory."""


def once(file: Path) -> dict:
    """Ours over a file: resources, seconds, and the process's peak memory; and seconds of decoding alone."""
    view = compile_view(definition.load(VIEW))
    began = time.perf_counter()
    rows = sum(batch.num_rows for batch in arrow.batches(view, file))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    count = sum(1 for _ in ndjson.resources(file))
    return {"rows": rows, "seconds": seconds, "peak": peak, "count": count, "decode": time.perf_counter() - began}


def ours(file: Path) -> dict:
    """The same in a process of its own."""
    return json.loads(subprocess.check_output([sys.executable, __file__, "--once", file]))


def peer() -> Path:
    """Python of the peer's environment, made where it is not there."""
    python = PEER / "bin" / "python"
    if not (PEER / "ready").exists():
        venv.create(PEER, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", place.HERE / "fhir_peer.txt"], check=True)
        (PEER / "ready").touch()
    return python


def theirs(file: Path, rows: str = "-") -> dict:
    """Theirs over a file."""
    return json.loads(subprocess.check_output([peer(), place.HERE / "fhir_peer.py", VIEW, file, rows]))


def write(path: Path, times: int) -> Path:
    """The Observations so many times."""
    lines = [json.loads(line) for line in gzip.decompress(DATA.read_bytes()).splitlines()]
    with path.open("w") as file:
        for turn in range(times):
            for line in lines:
                file.write(json.dumps({**line, "id": f"{line['id']}-{turn}"}, separators=(",", ":")) + "\n")
    return path


def differing(file: Path, folder: Path) -> int:
    """How many rows differ between both; 0 is to be expected."""
    theirs(file, str(folder / "rows.json"))
    wanted = json.loads((folder / "rows.json").read_text())
    found = [row for batch in arrow.batches(compile_view(definition.load(VIEW)), file) for row in batch.to_pylist()]
    return abs(len(found) - len(wanted)) + sum(one != other for one, other in zip(found, wanted))


def main() -> None:
    """Measure, print, keep."""
    if sys.argv[1:2] == ["--once"]:
        sys.stdout.write(json.dumps(once(Path(sys.argv[2]))))
        return
    ask = place.arguments(__doc__)
    if not DATA.exists():
        sys.exit(f"{DATA.name} of Synthea is not here: nothing is measured")
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        plain, small = write(folder / "plain.ndjson", 1), write(folder / "small.ndjson", SMALL)
        apart, load = differing(plain, folder), os.getloadavg()[0]
        mine = [ours(small) for _ in range(TURNS)]
        other = [theirs(small) for _ in range(PEER_TURNS)]
        mine += [ours(small) for _ in range(TURNS)]
        large = ours(write(folder / "large.ndjson", LARGE))
    count = mine[0]["count"]
    found = {
        "resources": count, "columns": 17, "differing": apart, "load": load,
        "per_s": round(count / min(one["seconds"] for one in mine)),
        "decode_per_s": round(count / min(one["decode"] for one in mine)),
        "peer_per_s": round(count / min(one["seconds"] for one in other)),
        "peak_mb": max(one["peak"] for one in mine) / place.MB, "peer_peak_mb": other[0]["peak"] / place.MB,
        "large": large["count"], "large_peak_mb": large["peak"] / place.MB,
        "large_per_s": round(large["count"] / large["seconds"]),
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    place.keep(ask.json, "fhir", {"machine": place.machine(), **found})


if __name__ == "__main__":
    main()
