"""Uploads on their way in: one file each, by a name that only the process has that goes on with it.

Processes share a folder; a file is `<digest>-<announced length>-<token>`. Who goes on with an upload renames it to a
token of its own, while nobody writes; who writes looks first whether its name is still there. So what an older request
has in its buffers, whose line is dead without anybody knowing, is written by no process any more: neither into what
another goes on with, nor into what has become a blob.
"""

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from consilium.core.errors import Conflict, TooLarge
from consilium.core.ids import Digest
from consilium.durable import Ahead

SOON = "ask again soon"
_NAME = re.compile(r"[0-9a-f]{64}-([0-9]+)-[0-9a-f]+")
"""An upload's; others in its folder are not ours, as `.nfs...` of a network's file system."""


class Incoming:
    """An upload that this process goes on with: bytes are written and hashed as they come.

    Args:    size: bytes that are in the file already; where there are any, all are read again for their digest.
    """

    def __init__(self, path: Path, length: int, size: int = 0) -> None:
        self.path, self.length, self.size = path, length, size
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._turn = 0
        self._whole = False
        self.lock = threading.Lock()

    def take_over(self) -> int:
        """The turn of a new request: an older one, whose line may be dead without anybody knowing, writes no more.

        Raises: Conflict: all bytes are here and being made durable.
        """
        with self.lock:
            if self._whole:
                raise Conflict("all bytes of this blob are here, and are being made durable", SOON)
            self._turn += 1
            return self._turn

    def close(self) -> bool:
        """Whether all bytes are here and nobody else completes them; from then on nobody writes."""
        with self.lock:
            first = self.size >= self.length and not self._whole
            self._whole = self._whole or first
            return first

    def write(self, file: IO[bytes], data: bytes, turn: int, ahead: Ahead) -> None:
        """Append `data` durably enough for a restart; the fsync comes with the last byte.

        Raises: Conflict: a newer request goes on with this upload, or another process.   TooLarge.
        """
        with self.lock:
            if turn != self._turn or self._whole:
                raise Conflict("a newer request goes on with this upload", "leave it to that one")
            if self.size + len(data) > self.length:
                raise TooLarge(f"more than the announced {self.length} bytes were sent", "send the blob again")
            with held(file, self.path):
                _fill(file.fileno(), data, self.size)
            if self._hashed == self.size:
                self._hash.update(data)
                self._hashed += len(data)
            ahead.wrote(len(data))
            self.size += len(data)

    def digest(self, file: IO[bytes]) -> Digest:
        """Digest of all bytes; of what this process did not write from the start, by reading the file again."""
        if self._hashed == self.size:
            return Digest("sha256:" + self._hash.hexdigest())
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]


def _fill(handle: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:  # on a disk that is nearly full it is written in part
        count = os.pwrite(handle, rest, at)
        rest, at = rest[count:], at + count


@contextmanager
def held(file: IO[bytes], path: Path) -> Iterator[None]:
    """Meanwhile no other process writes this file or goes on with it. Raises: Conflict: another has gone on with it."""
    _still(path)  # at once: who goes on with it may hold it for as long as it takes to check all its bytes
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        _still(path)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _still(path: Path) -> None:
    if not path.exists():
        raise Conflict("another process goes on with this upload, or it was removed for its age", SOON)


def found(folder: Path, digest: Digest) -> Path | None:
    """The file of an upload, by whichever name it has now."""
    start = _hex(digest) + "-"
    return next((folder / name for name in _names(folder) if name.startswith(start)), None)


def announced(folder: Path, but: Digest) -> int:
    """How long the uploads in a folder will be in all, but for one: what they were announced as."""
    other = _hex(but) + "-"
    named = [_NAME.fullmatch(name) for name in _names(folder) if not name.startswith(other)]
    return sum(int(name[1]) for name in named if name)


def taken(folder: Path, digest: Digest, offset: int, length: int) -> Incoming:
    """Begin an upload, or go on with it in this process, whoever wrote it so far.

    Raises: Conflict: it was not begun, and `offset` is not 0; or it is just being written or completed elsewhere.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    try:
        with _alone(folder):
            piece = found(folder, digest)
            if piece is not None:
                return _renamed(piece, length)
            if offset:
                raise Conflict(f"the upload stands at byte 0, not {offset}", "go on from there")
            path = folder / f"{_hex(digest)}-{length}-{os.urandom(8).hex()}"
            path.touch(mode=0o600, exist_ok=False)
            return Incoming(path, length)
    except (BlockingIOError, FileNotFoundError) as error:
        raise Conflict("another process is just writing or completing this upload", SOON) from error


def _renamed(piece: Path, length: int) -> Incoming:
    name, before, _ = piece.name.split("-")
    with piece.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(file.fileno()).st_size
        length = int(before) if size else length  # of an upload of which nothing came, any length may be announced
        path = piece.with_name(f"{name}-{length}-{os.urandom(8).hex()}")
        piece.rename(path)
    return Incoming(path, length, size)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of processes that would begin or go on with an upload in this folder, one at a time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _hex(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names alone: there may be thousands
    except FileNotFoundError:
        return []
