"""Bytes on their way to the disk: small files are there whole or not at all, large ones are written back on the way."""

import contextlib
import ctypes
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from consilium.core.errors import Invalid

PIECE = 8 << 20
PAGES = "page_size=16384"
"""Of a new SQLite file that holds small models: with its own 4 KiB, one of 100 KB takes four times as many writes."""
PRAGMAS = (PAGES, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")
"""Of any of our SQLite files. What SQLite sets aside while a statement runs goes into no file in `/tmp`: pages of the
database could be in it."""
REST_NS = 100_000_000
"""Who saves a file empties it first, or writes it in parts: one that nobody has changed for so long is whole."""
RESTS = 20
"""What is changed again and again is not waited for any longer than that many times."""
_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, and do not wait


def _found() -> Callable[[int, int, int], object] | None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if call is None:
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return lambda handle, start, length: call(handle, start, length, _WRITE)


_begin = _found()


class Ahead:
    """Begins to write a file back, piece by piece. It promises nothing: only fsync does."""

    def __init__(self, file: IO[bytes], at: int = 0) -> None:
        self._file, self._begun, self._at = file, at, at

    def wrote(self, count: int) -> None:
        """`count` more bytes have been written."""
        self._at += count
        if self._at - self._begun >= PIECE and _begin is not None:
            _begin(self._file.fileno(), self._begun, self._at - self._begun)
            self._begun = self._at


class AheadFile:
    """A file opened for writing that is written back on the way, and durable once `end` returns."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._ahead = file, Ahead(file)

    def write(self, data: bytes | memoryview) -> int:
        """Append `data`."""
        count = self._file.write(data)
        self._ahead.wrote(len(data))
        return count

    def end(self) -> None:
        """Make all of it durable."""
        self._file.flush()
        os.fsync(self._file.fileno())


def locked(file: IO[str]) -> bool:
    """Hold a file's lock until it is closed, or this process ends; False: another process holds it.

    Raises: Invalid: where it lies there are no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        told = f"{file.name} cannot be locked: {error.strerror or type(error).__name__}"
        raise Invalid(told, "put its folder on a disk of this machine, or on one that knows locks") from error
    return True


def create_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new small file, durable; where that fails, as on a full disk, it is not there.

    Args:    mode: who may do what with it, less the umask.
    Raises:  FileExistsError: it is there, and is left as it is.   OSError, which names the file.
    """
    with naming(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            _filled(handle, data)
            settle(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def replace_file(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a small file so that it is there whole, or as it was before, whatever happens.

    Args:    mode: who may do what with it, less the umask.
    Raises:  OSError, which names the file.
    """
    fresh = path.with_name(path.name + ".new")
    with naming(path):
        try:
            _filled(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), data)
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        settle(path.parent)


def rest(path: Path) -> int:
    """When a file that people write was changed last, in ns; one that is just being saved is waited for.

    Raises: OSError.
    """
    for _ in range(RESTS):
        changed = path.stat().st_mtime_ns
        left = REST_NS - abs(time.time_ns() - changed)
        if left <= 0:
            break
        time.sleep(left / 1e9)
    return changed


def rested(path: Path) -> bytes:
    """The bytes of a small file that people write: of one that is just being saved, those that it has then.

    Raises: OSError.
    """
    for _ in range(RESTS):
        changed = rest(path)
        with path.open("rb", buffering=0) as file:
            data = file.read()
        if path.stat().st_mtime_ns == changed:
            break
    return data


def own(path: Path, goes_on: bool = False) -> IO[bytes]:
    """A file to write to that nobody else may read, from its beginning, or on from its end. Raises: OSError."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if goes_on else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o600), "ab" if goes_on else "wb")


def _filled(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError say which file it was about: that a disk is full comes without a name."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        error.filename2 = None
        raise


def settle(folder: Path) -> None:
    """Make durable what was created or renamed in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def present(database: Path) -> bool:
    """Whether a database of SQLite holds anything: what was just made may stand in its log beside it alone."""
    logged = database.with_name(f"{database.name}-wal")
    return any(one.is_file() and one.stat().st_size > 0 for one in (database, logged) if database.is_file())
