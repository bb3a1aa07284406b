"""The audit log: append-only, each entry holds the digest of the one before. Checked offline, with either end's copy.

An edited, removed, repeated or reordered entry breaks the chain. A chain that was cut at its end, or written anew from
some entry on, is whole in itself; the checkpoint that the other end keeps (an earlier, signed head) finds it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consilium.core.errors import AuditBroken
from consilium.core.ids import Digest, canonical, digest


@dataclass(frozen=True)
class Head:
    """Number and digest of the newest entry."""

    seq: int
    digest: Digest


START = Head(0, digest(b"consilium audit 1"))
"""What the first entry follows."""


@dataclass(frozen=True)
class Entry:
    """One entry: `data` are the bytes that are kept and hashed."""

    seq: int
    data: bytes


def append(head: Head, *, kind: str, body: Mapping[str, Any], at: datetime) -> Entry:
    """The entry that follows `head`."""
    seq = head.seq + 1
    told = {"seq": seq, "at": at.isoformat(), "kind": kind, "body": dict(body), "prev": head.digest}
    return Entry(seq, canonical(told))


def head_of(data: bytes) -> Head:
    """The head that a log has after this entry. Raises: AuditBroken: not an entry."""
    return Head(_parsed(data, "?")["seq"], digest(data))


def verify(entries: Iterable[bytes], marks: Iterable[Head] = ()) -> Head:
    """Check a whole log, from its first entry on, and that it contains every head in `marks`.

    Raises: AuditBroken: names the first entry that does not follow from the one before, or the mark that is missing.
    """
    head = START
    wanted = {mark.seq: mark.digest for mark in marks}
    for data in entries:
        entry = _parsed(data, head.seq + 1)
        if entry["seq"] != head.seq + 1:
            raise AuditBroken(f"entry {head.seq + 1} is missing: entry {entry['seq']} stands in its place")
        if entry["prev"] != head.digest:
            raise AuditBroken(f"entry {entry['seq']} does not follow from entry {head.seq}: one of them was altered")
        head = Head(entry["seq"], digest(data))
        if wanted.get(head.seq, head.digest) != head.digest:
            raise AuditBroken(f"entry {head.seq} is not the one that the other end saw: the log was written anew")
    beyond = [seq for seq in wanted if seq > head.seq]
    if beyond:
        raise AuditBroken(f"the log ends at entry {head.seq}, but the other end saw entry {max(beyond)}")
    return head


def _parsed(data: bytes, number: int | str) -> dict[str, Any]:
    try:
        entry = json.loads(data)
        whole = (
            entry.keys() == {"seq", "at", "kind", "body", "prev"}
            and type(entry["seq"]) is int
            and canonical(entry) == data
        )
    except (ValueError, AttributeError, RecursionError) as error:
        raise AuditBroken(f"entry {number} is not an entry of this log: it was altered") from error
    if not whole:
        raise AuditBroken(f"entry {number} is not in its canonical form: it was altered")
    return dict(entry)
