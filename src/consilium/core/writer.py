"""Bytes of a file that is named by its digest: written and hashed on the way."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

from consilium.core.ids import Digest

BESIDE = 256 << 10
"""Bytes from which on it pays to write and hash them in a thread beside."""


class Writer:
    """Write bytes to a file and hash them on the way; what is large by a thread beside, while the next is computed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None  # it ends with this writer
        self._beside: Future[None] | None = None
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`, which must not change any more. Raises: OSError, also of what was written before."""
        self._settle()
        self.size += len(data)
        if len(data) < BESIDE:
            self._append(data)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1)
        self._beside = self._thread.submit(self._append, data)

    def _append(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)

    def _settle(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.result()

    def digest(self) -> Digest:
        """Digest of all that was written."""
        self._settle()
        return Digest("sha256:" + self._hash.hexdigest())
