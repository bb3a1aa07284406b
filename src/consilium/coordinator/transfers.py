"""Blobs on the wire: ask for the offset, append pieces, read with Range."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, literal, select
from starlette.responses import FileResponse, Response

from consilium.coordinator.conduct import grant
from consilium.coordinator.endpoints import Call, take
from consilium.coordinator.ingest import Letter
from consilium.coordinator.problems import problem
from consilium.coordinator.retention import room_for
from consilium.core.errors import (
    Conflict,
    DigestMismatch,
    EnvelopeInvalid,
    Invalid,
    NotFound,
    OverQuota,
    TooLarge,
    Unavailable,
)
from consilium.core.ids import Digest, is_digest
from consilium.core.ids import digest as digest_of
from consilium.store.blobs import Stored
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import blobs, contributions, decisions, grants, openings, runs, studies
from consilium.store.shelf import touch
from consilium.wire.messages import Answer, Blob, Step

PIECE = 1 << 20
TOGETHER = 16 << 20
"""Of an upload, so many bytes wait to be written at once; and of all uploads together, where there are many."""
MAX_BLOB = 64 << 30
STALLED_S = 30.0
"""A sender of whom no byte comes for this long has gone without a word: its request ends, what it sent stays."""


_SIZE = (
    select(blobs.c.size).join(grants, grants.c.digest == blobs.c.digest)
    .where(blobs.c.digest == bindparam("digest")).limit(1)
)  # fmt: skip
_GRANTED = Hot(_SIZE.where(grants.c.subject == bindparam("subject")))
_OF_STUDIES = Hot(_SIZE.where(grants.c.subject.like("study:%")))
_STUDY = literal("study:") + studies.c.study
_OWNED = Hot(_SIZE.where(grants.c.subject.in_(select(_STUDY).where(studies.c.owner == bindparam("owner")))))
_MINE = grants.alias()
_OFFERED = Hot(
    _SIZE.where(
        grants.c.subject.in_(
            select(_STUDY).join(_MINE, _MINE.c.digest == studies.c.plan).where(_MINE.c.subject == bindparam("subject"))
        )
    )
)
_OPENED = Hot(
    select(contributions.c.size)
    .join(openings, (contributions.c.run == openings.c.run) & (contributions.c.round == openings.c.round))
    .join(runs, runs.c.run == contributions.c.run)
    .where(
        contributions.c.digest == bindparam("digest"),
        runs.c.study.in_(select(decisions.c.study).where(decisions.c.site == bindparam("site"))),
    )
    .limit(1)
)
"""Size of a masked vector whose sum is open."""


def _digest(call: Call) -> Digest:
    if not is_digest(call.key):
        raise Invalid("a blob is named sha256:<64 hex digits>", "correct the address")
    return Digest(call.key)


def _readable(tx: Transaction, call: Call, digest: Digest) -> int | None:
    """Size of the blob if this subject may read it: sent by or granted to it, or of a study that it may see."""
    asked = {"digest": digest, "subject": call.who.subject}
    size: int | None = tx.scalar(_GRANTED, **asked)
    if size is not None:
        return size
    if call.who.role in ("admin", "auditor"):
        size = tx.scalar(_OF_STUDIES, digest=digest)
    elif call.who.role == "researcher":
        size = tx.scalar(_OWNED, digest=digest, owner=call.who.name)
    else:
        size = tx.scalar(_OPENED, digest=digest, site=call.who.name)  # a site of its study computes the sum anew
        size = tx.scalar(_OFFERED, **asked) if size is None else size
    return size


async def head(call: Call) -> Response:
    """Whether a blob is here whole (200, Content-Length); else 404 with Upload-Offset, from where to go on."""
    digest = _digest(call)
    size = await call.store(lambda tx: _held(tx, call, digest))
    if size is not None:
        return Response(headers={"Content-Length": str(size), "Upload-Offset": str(size)})
    offset = call.services.blobs.offset(call.who.subject, digest)
    return Response(status_code=404, headers={"Upload-Offset": str(offset)})


def _held(tx: Transaction, call: Call, digest: Digest) -> int | None:
    """Size of the blob if it is here for its sender, who need not send it; from now it stays for its time anew."""
    size = _readable(tx, call, digest)
    if size is not None:
        touch(tx, digest)
    return size


async def _wanted(call: Call, digest: Digest, length: int) -> bool:
    """Whether this blob is not here yet, and its sender may have so many bytes more. Raises: OverQuota."""
    sender, store = call.who.subject, call.services.blobs
    begun = await call.services.to_thread(
        lambda: store.begun(sender, digest)
    )  # before the transaction: all wait for it

    def act(tx: Transaction) -> bool:
        if _held(tx, call, digest) is not None:
            return False
        room_for(tx, sender, begun + length, call.services.keeping.quota_gb)
        return True

    return await call.store(act)


async def _still_wanted(call: Call, digest: Digest, length: int) -> None:
    """Ask once more, now that others see what this upload will come to: many may have begun in one moment.

    Raises: OverQuota: and nothing of it is left.
    """
    try:
        await _wanted(call, digest, length)
    except OverQuota:
        call.services.blobs.drop(call.who.subject, digest)
        raise


async def read(call: Call) -> Response:
    """A blob's bytes, with Range."""
    digest, shelf = _digest(call), call.services.shelf

    def act(tx: Transaction) -> tuple[int | None, bytes | Path]:
        size = _readable(tx, call, digest)
        return size, b"" if size is None else shelf.read(tx, digest)

    size, source = await call.store(act)
    if size is None:
        raise NotFound(f"blob {digest} is not here, or is not yours to read", "check the digest")
    asked = call.request.headers.get("range")
    if asked is not None and not _inside(asked, size):
        error = Invalid(f"the range {asked[:100]!r} does not lie in a blob of {size} bytes", "ask for bytes=FROM-")
        return problem(error, 416, {"Content-Range": f"bytes */{size}"})
    headers = {"ETag": f'"{digest}"'}
    if isinstance(source, bytes):
        return _part(
            source, asked if call.request.headers.get("if-range", headers["ETag"]) == headers["ETag"] else None, headers
        )
    return _File(source, media_type="application/octet-stream", headers=headers)


def _part(data: bytes, asked: str | None, headers: dict[str, str]) -> Response:
    """A small blob, or the range of it that is asked for; the same answer as that of a file."""
    headers = {**headers, "Accept-Ranges": "bytes"}
    if asked is None:
        return Response(data, media_type="application/octet-stream", headers=headers)
    first, last = (int(number) if number else len(data) - 1 for number in asked.removeprefix("bytes=").split("-"))
    last = min(last, len(data) - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Response(data[first : last + 1], 206, headers, media_type="application/octet-stream")


class _File(FileResponse):
    chunk_size = PIECE  # the default of 64 KiB costs a change of threads for each


def _inside(asked: str, size: int) -> bool:
    """Whether this is one range `bytes=FROM-` or `bytes=FROM-TO` that begins in the blob."""
    parts = re.fullmatch("bytes=([0-9]{1,18})-([0-9]{0,18})", asked)
    return parts is not None and int(parts[1]) < size and int(parts[2] or size) >= int(parts[1])


async def append(call: Call) -> Response:
    """Send a file: append bytes at Upload-Offset of Upload-Length; the last piece completes the blob."""
    digest, (offset, length) = _digest(call), _numbers(call)
    store, sender = call.services.blobs, call.who.subject
    if length > MAX_BLOB:
        raise TooLarge(f"a blob holds at most {MAX_BLOB} bytes", "split it")
    if not await _wanted(call, digest, length):
        return Response(status_code=204, headers={"Upload-Offset": str(length)})
    try:
        with store.append(sender, digest, offset, length) as write:
            if offset == 0:
                await _still_wanted(call, digest, length)
            await _pour(call, write)
        stored = await call.services.to_thread(lambda: store.complete(sender, digest))
    except Conflict as error:
        return problem(error, headers={"Upload-Offset": str(store.offset(sender, digest))})
    if stored is not None:
        await call.store(lambda tx: _keep(tx, call, stored))
    return Response(status_code=204, headers={"Upload-Offset": str(store_offset(call, digest, stored))})


async def answer(call: Call) -> Any:
    """An answer with its small contribution: the envelope in one line, then the contribution's bytes."""
    shelf = call.services.shelf
    envelope, line, data = call.body.partition(b"\n")
    letter = Letter.read(envelope)
    named = _named(letter.message)
    if not line or len(data) != named.size or digest_of(data) != named.digest:
        raise DigestMismatch(f"the bytes sent are not {named.digest}", "send the envelope in one line, then the blob")
    # No quota is asked: what is small is kept in the transaction that takes its answer, once per round, or not at all.
    stored = Stored(Digest(named.digest), named.size, data)
    if named.size > shelf.small:
        stored = await call.services.to_thread(lambda: shelf.files.make_bytes(data))
    return await take(call, letter.holding(data), lambda tx: _keep(tx, call, stored))


def _named(message: Any) -> Blob:
    """The blob that a message names. Raises: EnvelopeInvalid: it is none of those that come with one."""
    if isinstance(message, Answer):
        return message.contribution
    if isinstance(message, Step) and message.vector is not None:
        return message.vector
    raise EnvelopeInvalid("only an answer comes with a contribution", "send other messages to /v1/envelopes")


async def _pour(call: Call, write: Callable[[bytes], None]) -> None:
    """Write what comes; while some of it is hashed and written, the next arrives."""
    uploads, mine = call.services.uploads, object()
    uploads.add(mine)
    waiting: list[bytes] = []
    size, writing = 0, None
    try:
        async for piece in _flowing(call):
            waiting.append(piece)
            size += len(piece)
            if size >= min(PIECE, TOGETHER // len(uploads)):
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(call.services.to_thread(partial(_written, write, waiting)))
                waiting, size = [], 0
    finally:
        uploads.discard(mine)
        if writing is not None:
            await writing
    _written(write, waiting)


def _written(write: Callable[[bytes], None], pieces: list[bytes]) -> None:
    pieces.reverse()
    while pieces:  # each is free again once it is written
        write(pieces.pop())


async def _flowing(call: Call) -> AsyncIterator[bytes]:
    """The body's pieces. Raises: Unavailable: none came for so long that the line must be dead."""
    pieces = aiter(call.request.stream())
    while True:
        try:
            async with asyncio.timeout(STALLED_S):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Unavailable("the upload stalled", "ask for the offset, then go on") from error
        yield piece


def store_offset(call: Call, digest: Digest, stored: Stored | None) -> int:
    """Where the upload stands."""
    return stored.size if stored else call.services.blobs.offset(call.who.subject, digest)


def _keep(tx: Transaction, call: Call, stored: Stored) -> None:
    call.services.shelf.keep(tx, stored, call.who.subject)
    grant(tx, stored.digest, [call.who.subject])


def _numbers(call: Call) -> tuple[int, int]:
    try:
        offset, length = (int(call.request.headers[name]) for name in ("Upload-Offset", "Upload-Length"))
    except (KeyError, ValueError) as error:
        raise Invalid("the headers Upload-Offset and Upload-Length are needed, as numbers", "send both") from error
    if not 0 <= offset <= length:
        raise Invalid("Upload-Offset must lie between 0 and Upload-Length", "ask for the offset with HEAD")
    return offset, length
