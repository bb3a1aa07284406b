"""sqlonfhir's half of `fhir.py`, run by it in an environment of its own: VIEW FILE ROWS.

Writes the rows it made, if ROWS is not "-", and says how long it took, reading and decoding included.
"""

import json
import resource
import sys
import time
from pathlib import Path

from sqlonfhir import evaluate


def main() -> None:
    """Read, evaluate, tell."""
    view, file, keep = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
    began = time.perf_counter()
    with file.open() as lines:
        rows = evaluate((json.loads(line) for line in lines), view)
    seconds = time.perf_counter() - began
    if keep != "-":
        Path(keep).write_text(json.dumps(rows, default=float))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"rows": len(rows), "seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main()
