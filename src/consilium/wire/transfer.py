"""Bulk bytes: resumable uploads and ranged downloads. A cut costs what it lost and no more."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import IO

from consilium.core.errors import DigestMismatch, EnvelopeInvalid, Refused, TooLarge, Unavailable
from consilium.core.ids import Digest
from consilium.wire.connection import SOON_S, Connection, retrying
from consilium.wire.http import PIECE, Response
from consilium.wire.lines import STALLED_S
from consilium.wire.messages import MAX_MESSAGE

ALTERED = 3
"""Times that bytes which were changed on the way are moved again, before somebody has to look into it."""
REQUEST = 64 << 20
"""Bytes of one PATCH. Bytes of a request that was cut are kept, so this bounds nothing but the time of one request."""


FRESH = 256 << 10
"""A file of at most so many bytes is first sent without asking how much of it is there: none, most likely."""


class _Window:
    """`length` bytes of a file from where it stands, for one request."""

    def __init__(self, file: IO[bytes], length: int, stop: Event) -> None:
        self._file, self._left, self._stop = file, length, stop

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes. Raises: Unavailable: stopped; what is given up must not leave to its last byte."""
        if self._stop.is_set():
            raise Unavailable("the upload was given up", "nothing more of it is sent")
        size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        self._left -= len(data)
        return data


def upload(
    connection: Connection, path: Path, digest: Digest, stop: Event, before: Callable[[], None] = lambda: None
) -> int:
    """Send a file until the coordinator has all of it; returns the bytes that were sent. Resumes after every cut.

    Args:    before: called before each request that carries bytes; it may set `stop`, and then none leaves.
    Raises: DigestMismatch: the file is not what its name says.   Unavailable: stopped.   Others: refused by code.
    """
    sent = altered = 0
    fresh = path.stat().st_size <= FRESH

    def go_on() -> None:
        """From where the coordinator stands to the end. Raises: Unavailable: cut; it is called again."""
        nonlocal sent, altered, fresh
        size = path.stat().st_size
        offset, whole = (0, False) if fresh else standing(connection, digest)
        fresh = False
        while not whole:
            length = min(REQUEST, size - offset)
            before()
            try:
                after, taken = _patch(connection, path, digest, offset, length, size, stop)
            except DigestMismatch as error:
                altered += 1
                if altered == ALTERED or file_digest(path) != digest:
                    raise
                raise Unavailable("something on the way altered the upload", "it is sent again") from error
            if not taken and after in (offset, size):
                raise Unavailable("the upload cannot go on yet", "it is tried again")
            sent += max(after - offset, 0)
            offset, whole = after, taken and after == size

    retrying(go_on, stop)
    return sent


def deliver(
    connection: Connection, envelope: bytes, data: bytes, stop: Event, before: Callable[[], None] = lambda: None
) -> None:
    """Send an answer together with its small contribution, until the coordinator has acknowledged both.

    Args:    before: called before each request; it may set `stop`, and then none leaves.
    Raises: Unavailable: stopped.   Others: refused by code.
    """
    altered = 0

    def go_on() -> None:
        nonlocal altered
        before()
        if stop.is_set():
            raise Unavailable("the answer was given up", "it is not sent")
        try:
            connection.post("/v1/answers", raw=envelope + b"\n" + data)
        except (DigestMismatch, EnvelopeInvalid) as error:
            altered += 1
            if altered == ALTERED:
                raise
            raise Unavailable("something on the way altered the answer", "it is sent again") from error

    retrying(go_on, stop)


def standing(connection: Connection, digest: Digest) -> tuple[int, bool]:
    """How many bytes of a blob the coordinator has of us, and whether that is all."""
    response = connection.request("HEAD", f"/v1/blobs/{digest}", read_s=SOON_S, passing=(404,))
    if response.status == 404 and "Upload-Offset" not in response.headers:
        raise Unavailable("something between here and the coordinator answered for it", "check the proxy")
    return int(response.headers["Upload-Offset"]), response.status == 200


def _patch(
    connection: Connection, path: Path, digest: Digest, offset: int, length: int, size: int, stop: Event
) -> tuple[int, bool]:
    """Where the upload stands now, and whether what was sent was taken."""
    headers = {
        "Upload-Offset": str(offset),
        "Upload-Length": str(size),
        "Content-Length": str(length),
        "Content-Type": "application/octet-stream",
    }
    with path.open("rb") as file:
        file.seek(offset)
        response = connection.request(
            "PATCH", f"/v1/blobs/{digest}", _Window(file, length, stop), headers, read_s=STALLED_S, passing=(409, 401)
        )
    if response.status == 401:
        raise Unavailable("the token expired during the upload", "it goes on with a new one")
    # 409: bytes of a request that we gave up came after all, so that the upload stands further than we thought.
    return int(response.headers["Upload-Offset"]), response.status != 409


def download(
    connection: Connection, digest: Digest, path: Path, stop: Event, moved: Callable[[int], None] = lambda n: None,
    *, durable: bool = True, most: int | None = None,
) -> int:  # fmt: skip
    """Fetch a blob into `path`, checked and, unless told otherwise, durable; returns the bytes received.

    Resumes after every cut.

    Raises: NotFound: it is not there for us.   DigestMismatch: the coordinator sent other bytes.
            TooLarge: more than `most` bytes come; what came of them is removed.   Refused: `disk`: no room for it.
    """
    part = path.with_name(path.name + ".part")
    received, altered, hashed = 0, 0, _Hashed()

    def came(count: int) -> None:
        nonlocal received
        received += count
        moved(count)

    def go_on() -> None:
        nonlocal altered
        _ranged(connection, digest, part, hashed, most, came)
        if hashed.digest(part) != digest:
            part.unlink()
            altered += 1
            if altered == ALTERED:
                raise DigestMismatch(f"other bytes than {digest} came", "report this: it may be an attack")
            raise Unavailable("something on the way altered the download", "it is fetched again")

    retrying(go_on, stop)
    if durable:
        with part.open("rb") as file:
            os.fsync(file.fileno())
    part.replace(path)
    return received


class _Hashed:
    """The digest of a file that is hashed while it is written; what was there before is read again."""

    def __init__(self) -> None:
        self._hash, self._size = hashlib.sha256(), 0

    def add(self, data: bytes | bytearray, at: int) -> None:
        """`data` were written at this position."""
        if at == 0:
            self._hash, self._size = hashlib.sha256(), 0
        if at == self._size:
            self._hash.update(data)
            self._size += len(data)

    def digest(self, path: Path) -> Digest:
        """The file's digest."""
        if path.stat().st_size != self._size:
            return file_digest(path)
        return Digest("sha256:" + self._hash.hexdigest())


def _ranged(
    connection: Connection, digest: Digest, part: Path, hashed: _Hashed, most: int | None, came: Callable[[int], None]
) -> None:
    """Fetch what is missing; `came` hears of each piece, also where the next one does not come."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    response = connection.request(
        "GET", f"/v1/blobs/{digest}", None, headers, read_s=STALLED_S, stream=True, passing=(416,)
    )
    try:
        if response.status == 416:  # all bytes are here
            return
        whole = have + int(response.headers.get("Content-Length", "0"))
        at = have if response.status == 206 else 0
        with part.open("ab" if response.status == 206 else "wb") as file:
            while data := _piece(response):
                if most is not None and at + len(data) > most:
                    part.unlink()
                    raise TooLarge(f"more than the {most} bytes that were announced came for {digest}", "report this")
                file.write(data)
                hashed.add(data, at)
                at += len(data)
                came(len(data))
        if part.stat().st_size < whole and response.status == 206:
            raise Unavailable("the download was cut", "it goes on")
    except OSError as error:
        told = f"{part} cannot be written: {error.strerror or type(error).__name__}"
        raise Refused(told, "make room on its disk, and begin again: it goes on where it was", reason="disk") from error
    finally:
        response.close()


def _piece(response: Response) -> bytes | bytearray:
    try:
        return response.read(PIECE)
    except OSError as error:
        raise Unavailable("the download was cut", "it goes on") from error


def file_digest(path: Path) -> Digest:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())


def fetch(connection: Connection, digest: Digest, most: int = MAX_MESSAGE) -> bytes:
    """A small blob into memory, checked. Raises: NotFound; DigestMismatch; TooLarge: more than `most`; Unavailable."""
    response = connection.request("GET", f"/v1/blobs/{digest}", stream=True)
    try:
        data = bytes(response.read(most + 1))
    except OSError as error:
        raise Unavailable("the download was cut", "it is fetched again") from error
    finally:
        response.close()
    if len(data) > most:
        raise TooLarge(f"more than {most} bytes came for {digest}", "report this: it may be an attack")
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise DigestMismatch(f"the coordinator sent other bytes than {digest}", "report this: it may be an attack")
    return data


def durable_digest(path: Path, known: Digest | None, small: int = 0) -> tuple[Digest, int]:
    """Make a file of more than `small` bytes durable; its digest (computed unless `known`) and size in bytes."""
    size = path.stat().st_size
    if size > small:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return known or file_digest(path), size
