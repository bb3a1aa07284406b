"""A view of 17 columns over Observations in NDJSON, to Arrow on one core; beside sqlonfhir on the same file.

    make bench-fhir                          (or: .venv/bin/python bench/fhir.py --json bench/results.json)

Both read the file, decode it and make the table; each in a process of its own with one thread, by turns. Times are of
the processor, and the least of the turns counts: others at work on the machine only ever add to it. Rows are compared
first. Ours looks for resources that stand twice, theirs does not. The Observations are those of Synthea in
../shared/data (LOINC and UCUM), again and again with ids of their own.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aims
import fhir_peer
import place
from consilium.data.fhir import arrow, definition, ndjson, versions
from consilium.data.fhir.views import compile_view

DATA = place.HERE.parent.parent / "shared/data/fhir_synthea_pathling/ndjson/Observation.ndjson.gz"
VIEW = place.HERE / "fhir_view.json"
TURNS, PASSES = 5, 6
"""Processes of each, and how often ours goes through the file in one: it takes a fifth of a second, theirs seconds."""
SMALL, LARGE = 2, 20
"""How often the Observations stand in a file: the small one for the peer and for ours, the large one for memory."""


def once(file: Path, passes: int) -> dict:
    """Ours over a file: resources, least seconds, the process's peak memory; and least seconds of decoding alone."""
    view, seconds, decode, count = compile_view(definition.load(VIEW)), [], [], 0
    for _ in range(passes):
        began = time.process_time()
        seen = versions.Seen()
        rows = sum(batch.num_rows for batch in arrow.batches(view, file, seen=seen))
        assert not seen.twice
        seconds.append(time.process_time() - began)
    peak = fhir_peer.peak()
    for _ in range(passes):
        began = time.process_time()
        count = sum(1 for _ in ndjson.resources(file))
        decode.append(time.process_time() - began)
    return {"rows": rows, "seconds": min(seconds), "peak": peak, "count": count, "decode": min(decode)}


def ours(file: Path, passes: int = PASSES) -> dict:
    """The same in a process of its own."""
    return json.loads(subprocess.check_output([sys.executable, __file__, "--once", file, str(passes)]))


def theirs(file: Path, rows: str = "-") -> dict:
    """Theirs over a file."""
    return json.loads(subprocess.check_output([place.peer("sqlonfhir"), place.HERE / "fhir_peer.py", VIEW, file, rows]))


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
        sys.stdout.write(json.dumps(once(Path(sys.argv[2]), int(sys.argv[3]))))
        return
    ask = place.arguments(__doc__)
    if not DATA.exists():
        sys.exit(f"{DATA.name} of Synthea is not here: nothing is measured")
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        plain, small = write(folder / "plain.ndjson", 1), write(folder / "small.ndjson", SMALL)
        apart, load = differing(plain, folder), os.getloadavg()[0]
        mine, other = [], []
        for _ in range(TURNS):
            mine.append(ours(small))
            other.append(theirs(small))
        large = ours(write(folder / "large.ndjson", LARGE), 1)
    count = mine[0]["count"]
    found = {
        "resources": count, "columns": 17, "differing": apart, "load": load,
        "per_s": round(count / min(one["seconds"] for one in mine)),
        "decode_per_s": round(count / min(one["decode"] for one in mine)),
        "peer_per_s": round(count / min(one["seconds"] for one in other)),
        "peak_mb": max(one["peak"] for one in mine) / place.MB, "peer_peak_mb": other[0]["peak"] / place.MB,
        "large": large["count"], "large_peak_mb": large["peak"] / place.MB,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    place.keep(ask.json, "fhir", {"machine": place.machine(), **found})
    sys.exit(aims.verdict(aims.of_views(found)))


if __name__ == "__main__":
    main()
