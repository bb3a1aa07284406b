"""Whether an agent runs in a folder, and how commands wake it: a lock, and a named pipe."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from consilium.core.errors import Conflict
from consilium.durable import locked
from consilium.site.folder import Folder

GLANCES = 5


def running(folder: Folder) -> bool:
    """Whether an agent runs in this folder."""
    if not folder.lock.exists():
        return False
    with folder.lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a folder's one agent. Raises: Conflict: another agent holds it.   Invalid: no locks there."""
    with path.open("w") as file:
        for last in (*[False] * GLANCES, True):  # a command that asks whether we run holds the lock for a moment
            if locked(file):
                break
            if last:
                raise Conflict(f"an agent already runs in {path.parent}", "stop it first")
            time.sleep(0.02)
        yield


@contextmanager
def doorbell(path: Path) -> Iterator[IO[bytes]]:
    """The bell that commands ring."""
    # A named pipe, opened for both ends: it never reports end of file, and its path may be of any length.
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as bell:
        yield bell
    path.unlink(missing_ok=True)


def ring(folder: Folder) -> None:
    """Wake the agent of a folder, if one runs."""
    try:
        handle = os.open(folder.bell, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        os.write(handle, b"!")
    finally:
        os.close(handle)
