"""Bytes on their way to the disk: written back while more arrive, so that little is left to the fsync at the end."""

import ctypes
import os
from collections.abc import Callable
from typing import IO

PIECE = 8 << 20
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
