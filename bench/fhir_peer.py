"""sqlonfhir's half of `fhir.py`, run by it in an environment of its own: VIEW FILE ROWS.

Writes the rows it made, if ROWS is not "-", and says how long it took, reading and decoding included.
"""

import json
import sys
import time
from pathlib import Path


def peak() -> int:
    """The most memory that this program held, in bytes; not that of the one that started it."""
    told = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in told if line.startswith("VmHWM"))


def main() -> None:
    """Read, evaluate, tell."""
    from sqlonfhir import evaluate

    view, file, keep = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
    began = time.process_time()
    with file.open() as lines:
        rows = evaluate((json.loads(line) for line in lines), view)
    seconds = time.process_time() - began
    if keep != "-":
        Path(keep).write_text(json.dumps(rows, default=float))
    sys.stdout.write(json.dumps({"rows": len(rows), "seconds": seconds, "peak": peak()}))


if __name__ == "__main__":
    main()
