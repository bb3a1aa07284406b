"""Blobs of any size: small ones stand in the database, in the transaction that names them; large ones are files.

A small blob costs no file, no rename and no fsync of its own, and another process of this coordinator sees it with the
row that names it. Whoever removes a blob removes its row, and after the commit its file, if it has one.
"""

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from sqlalchemy import LargeBinary, bindparam, select, text, update

from consilium.core.ids import Digest
from consilium.store.blobs import Directory, Stored
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import blobs

LATELY = 16
"""Small blobs that are kept in memory: all sites ask for the newest that were made, and those sent are summed soon."""
_sizes: dict[str, int] = {}
_SIZE = Hot(select(blobs.c.size).where(blobs.c.digest == bindparam("digest")))
_TOUCH = Hot(update(blobs).where(blobs.c.digest == bindparam("of")).values(touched=bindparam("at")))
_KEEP = Hot(
    text(
        "INSERT INTO blobs (digest, size, data, sender, touched) VALUES (:digest, :size, :data, :sender, :touched)"
        " ON CONFLICT (digest) DO UPDATE SET touched = excluded.touched"
    ).bindparams(bindparam("data", type_=LargeBinary()))
)
_DATA = Hot(select(blobs.c.data).where(blobs.c.digest == bindparam("digest")))


class Shelf:
    """Blobs of at most `small` bytes in the database, larger ones in `files`."""

    def __init__(self, files: Directory, small: int) -> None:
        self.files, self.small = files, small
        self._lately: OrderedDict[Digest, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, write: Callable[[IO[bytes]], tuple[Digest, int]], about: int) -> Stored:
        """Write a blob of `about` so many bytes: in memory, to become durable when it is kept; or to a durable file."""
        if about > self.small:
            return self.files.make(write)
        out = io.BytesIO()
        name, size = write(out)
        if size > self.small:
            return self.files.make_bytes(out.getvalue())
        stored = Stored(name, size, out.getvalue())
        self._remember(stored)  # before it is kept: nobody asks for it before a message names it
        return stored

    def _remember(self, stored: Stored) -> None:
        """Its bytes and its size: what a digest names has but one of each."""
        assert stored.data is not None
        with self._lock:
            self._lately[stored.digest] = stored.data
            while len(self._lately) > LATELY:
                self._lately.popitem(last=False)

    def lately(self, digest: Digest) -> bytes | None:
        """A small blob that was made or kept here lately, from memory."""
        return self._lately.get(digest)

    def keep(self, tx: Transaction, stored: Stored, sender: str = "") -> None:
        """Record a blob: with its bytes, which become durable with this transaction, or where it is a durable file.

        One that is known has been touched: it stays for its time anew. `sender`: for whose quota it counts.
        """
        row = {"digest": stored.digest, "size": stored.size, "data": stored.data}
        tx.do(_KEEP, **row, sender=sender, touched=time.time())
        if stored.data is not None:
            tx.then(partial(self._remember, stored))

    def read(self, tx: Transaction, digest: Digest) -> bytes | Path:
        """The bytes of a small blob, or the file of a large one. Raises: NotFound."""
        found = self.lately(digest)
        if found is None:
            found = tx.scalar(_DATA, digest=digest)
        return self.files.path(digest) if found is None else bytes(found)


def touch(tx: Transaction, digest: str) -> bool:
    """Whoever asks for a blob may be about to use it: it stays for its time anew. Whether it is recorded."""
    return bool(tx.do(_TOUCH, of=digest, at=time.time()))


def size_of(tx: Transaction, digest: str) -> int:
    """Size of a recorded blob in bytes: what a digest names has but one."""
    if (known := _sizes.get(digest)) is None:
        known = int(tx.scalar(_SIZE, digest=digest))
        if len(_sizes) >= LATELY:
            _sizes.clear()
        _sizes[digest] = known
    return known
