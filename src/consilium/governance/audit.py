"""The audit log: append-only, each entry holds the digest of the one before. Checked offline, with either end's copy.

An edited, removed, repeated or reordered entry breaks the chain. A chain that was cut at its end, or written anew from
some entry on, is whole in itself; the checkpoint that the other end keeps (an earlier, signed head) finds it.

A head is a digest over the entry's own digest (its *link*), the head before and the number. So the other end can follow
the chain from one head to a later one by the links alone, and need not see what the entries say.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from consilium.core.errors import AuditBroken
from consilium.core.ids import Digest, canonical, digest


@dataclass(frozen=True)
class Head:
    """Number of the newest entry, and the digest that stands for it and all before it."""

    seq: int
    digest: Digest


START = Head(0, digest(b"consilium audit 1"))
"""What the first entry follows."""


@dataclass(frozen=True)
class Entry:
    """One entry: `data` are the bytes that are kept and hashed. `head`: the head that the log has after it."""

    seq: int
    data: bytes
    head: Head


def append(head: Head, *, kind: str, body: Mapping[str, Any], at: datetime) -> Entry:
    """The entry that follows `head`."""
    seq = head.seq + 1
    data = canonical({"seq": seq, "at": at.isoformat(), "kind": kind, "body": dict(body), "prev": head.digest})
    return Entry(seq, data, _next(head, link(data)))


class Tip:
    """The entry that was appended here last, so that its head is not worked out from its bytes again.

    Only ever a cache: whoever keeps the log gives its newest bytes, and it counts for exactly those.
    """

    def __init__(self) -> None:
        self._entry: Entry | None = None

    def head(self, newest: bytes | None) -> Head:
        """The head of a log whose newest entry this is (None: it has none). Raises: AuditBroken: not an entry."""
        known = self._entry
        if newest is None:
            return START
        return known.head if known is not None and known.data == newest else head_of(newest)

    def append(self, newest: bytes | None, *, kind: str, body: Mapping[str, Any], at: datetime) -> Entry:
        """The entry that follows `newest`. Raises: AuditBroken."""
        self._entry = entry = append(self.head(newest), kind=kind, body=body, at=at)
        return entry


def head_of(data: bytes) -> Head:
    """The head that a log has after this entry. Raises: AuditBroken: not an entry."""
    entry = _parsed(data, "?")
    return _next(Head(entry["seq"] - 1, entry["prev"]), link(data))


def link(data: bytes) -> Digest:
    """What of an entry the other end needs in order to follow the chain past it."""
    return digest(data)


def _next(head: Head, link: Digest) -> Head:
    seq = head.seq + 1
    # Canonical JSON of `entry`, `prev` and `seq`: digests and a number need no encoder to be written as one.
    return Head(seq, digest(f'{{"entry":"{link}","prev":"{head.digest}","seq":{seq}}}'.encode()))


@dataclass(frozen=True)
class Contradiction:
    """A head that was kept, and what was shown later that cannot follow from it. `why` is a stable code."""

    why: str
    kept: Head
    shown: Head
    words: str


def ordered(signed: Sequence[Head]) -> Contradiction | None:
    """Whether heads of a log, in the order in which they were signed, are of one that only grew; None when they are."""
    for kept, shown in pairwise(signed):
        if shown.seq < kept.seq:
            words = f"its head at entry {shown.seq} was signed after the one at entry {kept.seq}"
            return Contradiction("log-went-back", kept, shown, words)
        if shown.seq == kept.seq and shown.digest != kept.digest:
            words = f"two heads were signed at entry {kept.seq}: the log up to there was written anew"
            return Contradiction("log-rewritten", kept, shown, words)
    return None


def compare(base: Head, kept: Iterable[Head], shown: Head, links: Sequence[Digest]) -> Contradiction | None:
    """Whether a log whose head is now `shown` extends all that was kept of it; None when it does.

    Args:    base: a head that was kept, after which `links` are those of the following entries.   kept: the others.
    """
    later = [head for head in kept if head.seq > base.seq]
    newest = max([base, *later], key=lambda head: head.seq)
    if shown.seq < newest.seq:
        words = f"the log ends at entry {shown.seq} now, but its head at entry {newest.seq} was signed before"
        return Contradiction("log-went-back", newest, shown, words)
    at, heads = base, {base.seq: base.digest}
    for one in links[: shown.seq - base.seq]:
        at = _next(at, one)
        heads[at.seq] = at.digest
    for head in sorted([*later, shown], key=lambda head: head.seq):
        if head.seq not in heads:
            words = f"the log does not show the entries after {at.seq}, but its head at entry {head.seq} is signed"
            return Contradiction("log-gap", head, shown, words)
        if heads[head.seq] != head.digest:
            words = f"entry {head.seq} is not the one whose head was signed: the log up to there was written anew"
            return Contradiction("log-rewritten", head, shown, words)
    return None


OWN, OTHER = "a head that the log's own end signed, which came with the log", "what the other end saw"
"""What entries are compared with, in the words of what does not fit."""
_NEXT = (
    "keep it as it is; ask its owner for the log again, and compare it with what the other end keeps of it: "
    "`consilium audit verify --against`"
)


def verify(entries: Iterable[bytes], marks: Iterable[Head] = (), own: Iterable[Head] = ()) -> Head:
    """Check a whole log, from its first entry on, and that it contains every head that was signed.

    Args:    marks: what the other end kept.   own: what came with the log itself.
    Raises:  AuditBroken: names the first entry that does not follow from the one before, or the head that is missing,
             and whose that is.
    """
    head = START
    wanted: dict[int, dict[Digest, str]] = {}
    for whose, heads in ((OTHER, marks), (OWN, own)):
        for mark in heads:
            wanted.setdefault(mark.seq, {})[mark.digest] = whose
    for data in entries:
        entry = _parsed(data, head.seq + 1)
        if entry["seq"] != head.seq + 1:
            raise AuditBroken(f"entry {head.seq + 1} is missing: entry {entry['seq']} stands in its place", _NEXT)
        if entry["prev"] != head.digest:
            words = f"entry {entry['seq']} does not follow from entry {head.seq}: one of them was altered"
            raise AuditBroken(words, _NEXT)
        head = _next(head, link(data))
        for whose in (whose for digest_, whose in wanted.get(head.seq, {}).items() if digest_ != head.digest):
            words = f"entry {head.seq} does not fit {whose}: it was altered, or the log was written anew up to there"
            raise AuditBroken(words, _NEXT)
    beyond = max((seq for seq in wanted if seq > head.seq), default=0)
    if beyond:
        (whose, *_) = wanted[beyond].values()
        words = f"the log ends at entry {head.seq}, but {whose} is of entry {beyond}: its end was cut"
        raise AuditBroken(words, _NEXT)
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
        raise AuditBroken(f"entry {number} is not an entry of this log: it was altered", _NEXT) from error
    if not whole:
        raise AuditBroken(f"entry {number} is not in its canonical form: it was altered", _NEXT)
    return dict(entry)
