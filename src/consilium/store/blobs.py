"""Blobs by digest, in a directory. Half-sent pieces wait apart, per sender; a blob appears whole and durable."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from consilium.core.errors import Conflict, DigestMismatch, NotFound, TooLarge
from consilium.core.ids import Digest
from consilium.core.ids import digest as digest_of
from consilium.durable import Ahead, AheadFile


@dataclass(frozen=True)
class Stored:
    """A blob: durable, unless it comes with its `data`, which become durable with the transaction that keeps them."""

    digest: Digest
    size: int
    data: bytes | None = None


class Store(Protocol):
    """What the coordinator needs of a place for blobs; a directory now, object stores later."""

    def path(self, digest: Digest) -> Path:
        """A file with the blob's bytes. Raises: NotFound."""
        ...

    def make(self, write: Callable[[IO[bytes]], tuple[Digest, int]]) -> Stored:
        """Write a blob whose digest is known when it is written."""
        ...

    def offset(self, sender: str, digest: Digest) -> int:
        """Bytes that `sender` has sent of `digest` so far."""
        ...

    def append(self, sender: str, digest: Digest, offset: int, length: int) -> Any:
        """A context in which pieces are appended; see `Directory.append`."""
        ...

    def complete(self, sender: str, digest: Digest) -> Stored | None:
        """The blob, durable, if all its bytes have come; None while some are missing. Raises: DigestMismatch."""
        ...


class Incoming:
    """An upload: bytes are written and hashed as they come."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self.length = length
        self.size = path.stat().st_size if path.exists() else 0
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
                raise Conflict("all bytes of this blob are here, and are being made durable", "ask again soon")
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

        Raises: Conflict: a newer request goes on with this upload.   TooLarge.
        """
        with self.lock:
            if turn != self._turn or self._whole:
                raise Conflict("a newer request goes on with this upload", "leave it to that one")
            if self.size + len(data) > self.length:
                raise TooLarge(f"more than the announced {self.length} bytes were sent", "send the blob again")
            if self._hashed == self.size:
                self._hash.update(data)
                self._hashed += len(data)
            file.write(data)
            ahead.wrote(len(data))
            self.size += len(data)

    def digest(self) -> Digest:
        """Digest of all bytes; what was written before a restart is read again."""
        if self._hashed != self.size:
            self._hash = hashlib.sha256()
            with self.path.open("rb") as file:
                while piece := file.read(1 << 20):
                    self._hash.update(piece)
        return Digest("sha256:" + self._hash.hexdigest())


class Directory:
    """Blobs as files under `root/ab/<hex>`, incoming pieces under `root/incoming`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming: dict[Path, Incoming] = {}
        self._lock = threading.Lock()
        for folder in (root, root / "incoming", root / "making"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _place(self, digest: Digest) -> Path:
        name = digest.removeprefix("sha256:")
        return self._root / name[:2] / name

    def path(self, digest: Digest) -> Path:
        """A file with the blob's bytes.

        Raises: NotFound: it is not here.
        """
        place = self._place(digest)
        if not place.exists():
            raise NotFound(f"blob {digest} is not here", "check the digest, or send it again")
        return place

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here, whole."""
        return self._place(digest).exists()

    def make(self, write: Callable[[IO[bytes]], tuple[Digest, int]]) -> Stored:
        """Write a blob: `write` gets a file and returns digest and size. Durable on return."""
        temporary = self._root / "making" / os.urandom(8).hex()
        try:
            with temporary.open("xb", buffering=1 << 20) as file:
                ahead = AheadFile(file)
                digest, size = write(cast(IO[bytes], ahead))
                ahead.end()
            self._keep(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        return Stored(digest, size)

    def make_bytes(self, data: bytes) -> Stored:
        """Store bytes at hand."""

        def write(file: IO[bytes]) -> tuple[Digest, int]:
            file.write(data)
            return digest_of(data), len(data)

        return self.make(write)

    def _keep(self, temporary: Path, digest: Digest) -> None:
        place = self._place(digest)
        new = not place.parent.exists()
        place.parent.mkdir(exist_ok=True, mode=0o700)
        temporary.replace(place)
        for folder in (place.parent, self._root) if new else (place.parent,):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _piece(self, sender: str, digest: Digest) -> Path:
        name = hashlib.sha256(sender.encode()).hexdigest()[:16]
        return self._root / "incoming" / f"{name}-{digest.removeprefix('sha256:')}"

    def offset(self, sender: str, digest: Digest) -> int:
        """Bytes that `sender` has sent of `digest` so far."""
        piece = self._piece(sender, digest)
        return piece.stat().st_size if piece.exists() else 0

    @contextmanager
    def append(self, sender: str, digest: Digest, offset: int, length: int) -> Iterator[Callable[[bytes], None]]:
        """A context that gives a function which appends pieces; afterwards `complete` may be called.

        The newest request of a sender has the upload: a line that died silently holds nothing up.

        Raises: Conflict: `offset` is not where the upload stands, or all of it is here already.
        """
        piece = self._piece(sender, digest)
        with self._lock:
            incoming = self._incoming.get(piece)
            if incoming is None:
                incoming = self._incoming[piece] = Incoming(piece, length)
            turn = incoming.take_over()
            if incoming.size != self.offset(sender, digest):  # another process of this coordinator went on with it
                incoming = self._incoming[piece] = Incoming(piece, length)
                turn = incoming.take_over()
        if offset != incoming.size or length != incoming.length:
            if not incoming.size:  # nothing was ever sent: a refused request leaves nothing behind
                with self._lock:
                    self._incoming.pop(piece, None)
            raise Conflict(f"the upload stands at byte {incoming.size}, not {offset}", "go on from there")
        with piece.open("ab", buffering=0) as file:
            ahead = Ahead(file, offset)
            yield lambda data: incoming.write(file, data, turn, ahead)

    def complete(self, sender: str, digest: Digest) -> Stored | None:
        """If all bytes have come: check the digest, make it durable. None while bytes are missing.

        Raises: DigestMismatch: the bytes are not what their name says; they are dropped.
        """
        piece = self._piece(sender, digest)
        incoming = self._incoming.get(piece)
        if incoming is None or not incoming.close():
            return None
        try:
            if incoming.digest() != digest:
                piece.unlink()
                raise DigestMismatch(f"the bytes sent are not {digest}", "send the blob again from the start")
            with piece.open("rb") as file:
                os.fsync(file.fileno())
            self._keep(piece, digest)
        finally:
            with self._lock:
                self._incoming.pop(piece, None)
        return Stored(digest, incoming.size)

    def drop(self, digest: Digest) -> None:
        """Forget a blob that nothing refers to any more."""
        self._place(digest).unlink(missing_ok=True)
