"""The probe: `python -m consilium.training.sandbox FOLDER` confines itself to FOLDER/work and tries what it must not.

Prints {"refused": why or null, "denied": {attempt: bool}, "works": bool}.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from consilium.core.errors import Refused
from consilium.training.sandbox import confine


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def probe(folder: Path) -> dict[str, object]:
    """What a confined process finds denied. FOLDER holds `secret`, `given`, which it may read, and an empty `work`."""
    given = folder / "given"
    try:
        confine([given], [folder / "work"])
    except Refused as error:
        return {"refused": error.message}
    attempts: dict[str, Callable[[], object]] = {
        "reading outside": (folder / "secret").read_text,
        "writing outside": lambda: (folder / "beside").write_text("x"),
        "writing what may be read": lambda: os.close(os.open(given, os.O_WRONLY)),
        "emptying what may be read": lambda: os.close(os.open(given, os.O_RDONLY | os.O_TRUNC)),
        "a link": lambda: (folder / "work" / "link").symlink_to(folder / "secret"),
        "changing modes": lambda: (folder / "secret").chmod(0o777),
        "a socket": socket.socket,
        "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "a signal to the parent": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "reading /proc": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "a new process": _fork,
        "a new program": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606  the filter must deny it
    }
    denied = {name: _denied(attempt) for name, attempt in attempts.items()}
    mine = folder / "work" / "update"
    mine.write_text("update")
    works = mine.read_text() == "update" and given.read_text() == "given"
    return {"refused": None, "denied": denied, "works": works}


def _denied(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False  # it failed for another reason: nothing is shown
    return False


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(Path(sys.argv[1]))))
