"""Blobs by digest, in a directory. What is half sent waits apart, per sender; a blob appears whole and durable."""

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from consilium.core.errors import Conflict, DigestMismatch, NotFound
from consilium.core.ids import Digest
from consilium.core.ids import digest as digest_of
from consilium.durable import Ahead, AheadFile
from consilium.store import incoming
from consilium.store.incoming import Incoming


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


class Directory:
    """Blobs as files under `root/ab/<hex>`, uploads under `root/incoming`, by sender."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming: dict[tuple[str, Digest], Incoming] = {}
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

    def make(self, write: Callable[[IO[bytes]], tuple[Digest, int]]) -> Stored:
        """Write a blob: `write` gets a file and returns digest and size. Durable on return."""
        temporary = self._root / "making" / os.urandom(8).hex()
        try:
            with temporary.open("xb", buffering=1 << 20) as file:
                fcntl.flock(file, fcntl.LOCK_SH)
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

    def _folder(self, sender: str) -> Path:
        return self._root / "incoming" / hashlib.sha256(sender.encode()).hexdigest()[:16]

    def _mine(self, sender: str, digest: Digest) -> Incoming | None:
        """The upload, if this process was the last to go on with it."""
        incoming = self._incoming.get((sender, digest))
        return incoming if incoming is not None and incoming.path.exists() else None

    def offset(self, sender: str, digest: Digest) -> int:
        """Bytes that `sender` has sent of `digest` so far."""
        mine = self._mine(sender, digest)
        if mine is not None:
            return mine.size
        piece = incoming.found(self._folder(sender), digest)
        return 0 if piece is None else _size(piece)

    @contextmanager
    def append(self, sender: str, digest: Digest, offset: int, length: int) -> Iterator[Callable[[bytes], None]]:
        """A context that gives a function which appends pieces; afterwards `complete` may be called.

        The newest request of a sender has the upload, whichever process it comes to: a line that died silently holds
        nothing up, and what still comes of it is refused.

        Raises: Conflict: `offset` is not where the upload stands, or all of it is here already.
        """
        mine, turn = self._turn(sender, digest, offset, length)
        try:
            file = mine.path.open("r+b", buffering=0)
        except FileNotFoundError as error:
            raise Conflict("another process goes on with this upload", incoming.SOON) from error
        with file:
            os.utime(file.fileno())  # it is in use: who sweeps leaves it
            ahead = Ahead(file, offset)
            yield lambda data: mine.write(file, data, turn, ahead)

    def _turn(self, sender: str, digest: Digest, offset: int, length: int) -> tuple[Incoming, int]:
        with self._lock:
            mine = self._mine(sender, digest)
            if mine is None:
                mine = incoming.taken(self._folder(sender), digest, offset, length)
                self._incoming[sender, digest] = mine
            turn = mine.take_over()
            if offset == mine.size and length == mine.length:
                return mine, turn
            if not mine.size:  # nothing was ever sent: a refused request leaves nothing behind
                self._incoming.pop((sender, digest), None)
        raise Conflict(f"the upload stands at byte {mine.size}, not {offset}", "go on from there")

    def complete(self, sender: str, digest: Digest) -> Stored | None:
        """If all bytes have come: check the digest, make it durable. None while bytes are missing.

        Raises: DigestMismatch: the bytes are not what their name says; they are dropped.
                Conflict: another process goes on with this upload.
        """
        mine = self._incoming.get((sender, digest))
        if mine is None or not mine.close():
            return None
        try:
            # Held from the first byte that is checked: else whoever is asked meanwhile takes it, and checks anew.
            with mine.path.open("rb") as file, incoming.held(file, mine.path):
                if os.fstat(file.fileno()).st_size != mine.length or mine.digest(file) != digest:
                    mine.path.unlink()
                    raise DigestMismatch(f"the bytes sent are not {digest}", "send the blob again from the start")
                os.fsync(file.fileno())
                self._keep(mine.path, digest)
        except FileNotFoundError as error:
            raise Conflict("another process goes on with this upload", incoming.SOON) from error
        finally:
            with self._lock:
                if self._incoming.get((sender, digest)) is mine:
                    del self._incoming[sender, digest]
        return Stored(digest, mine.size)

    def begun(self, sender: str, but: Digest) -> int:
        """Bytes of the uploads that `sender` has begun, as long as they were announced to be, of all blobs but one."""
        return incoming.announced(self._folder(sender), but)

    def drop(self, sender: str, digest: Digest) -> None:
        """Forget an upload of which nothing has come."""
        with self._lock:
            mine = self._mine(sender, digest)
            if mine is not None and not mine.size:
                mine.path.unlink(missing_ok=True)
                del self._incoming[sender, digest]

    def remove(self, digest: Digest, before: float) -> None:
        """Remove a blob that no row names any more, unless its file is newer: then it was sent again.

        Args:    before: seconds since the epoch.
        """
        place = self._place(digest)
        with contextlib.suppress(FileNotFoundError):
            if place.stat().st_mtime < before:
                place.unlink()

    def older(self, before: float) -> list[Digest]:
        """Blobs whose files were written before this time, in seconds since the epoch."""
        places = self._root.glob("[0-9a-f][0-9a-f]/*")
        return [Digest(f"sha256:{path.name}") for path in places if _written(path) < before]

    def sweep(self, before: float) -> None:
        """Remove uploads and unfinished blobs that nobody has written to since, and that no process has open."""
        uploads = self._root / "incoming"
        earlier = (path for path in uploads.glob("*") if path.is_file())  # of releases that had no folder for a sender
        for path in (*uploads.glob("*/*"), *earlier, *(self._root / "making").iterdir()):
            if _written(path) >= before or path.name.startswith("."):  # `.nfs...` is removed by its file system
                continue
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_mtime < before:  # nobody has gone on with it since
                    path.unlink()
        with self._lock:
            self._incoming = {key: one for key, one in self._incoming.items() if one.path.exists()}


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # in the meantime it was completed, or removed by another process
        return float("inf")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
