"""A resource that stands several times among files counts once, in its current version.

FHIR names a resource by type and id, and its current version is the one that was changed last (`meta.lastUpdated`); a
`versionId` says which version it is, and nothing of their order. What is the same but for `meta` is one. What differs,
and of which nothing says which is newer, or two of one `versionId`, is a finding: https://hl7.org/fhir/resource.html#Meta.

Memory: eight bytes for each resource, and the versions of no more than `MOST` resources at once.
"""

import hashlib
import math
from array import array
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from consilium.core.errors import DataUnusable
from consilium.data.fhir import reading
from consilium.data.fhir.reading import Page

Older = Mapping[Path, Sequence[int]]
"""By file, the numbers of resources that do not count, ascending."""
MOST = 50_000
_WRITTEN = msgspec.json.Encoder(order="sorted")


class Seen:
    """What was read, by hashes of type and id: that something stood twice is known at next to no cost."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def note(self, page: Page, kind: str) -> None:
        """Note those of a type that are on a page."""
        keys = [one.get("id") for _, one in page if one.get("resourceType") == kind]
        self._hashes.extend([hash((kind, key)) for key in keys if type(key) is str])

    @property
    def twice(self) -> bool:
        """Whether one of them stood several times (or two have one hash, which does no harm)."""
        return bool(_twice(self._hashes).size)


def _twice(hashes: "array[int]") -> npt.NDArray[np.int64]:
    every = np.sort(np.frombuffer(hashes, dtype=np.int64))
    return np.unique(every[1:][every[1:] == every[:-1]])


@dataclass(frozen=True)
class Version:
    """One version of a resource: where it stands, what it is but for `meta`, its name, and since when it is so."""

    file: Path
    number: int
    content: bytes
    name: str
    since: datetime | None

    def __str__(self) -> str:
        """Where it stands."""
        return f"{reading.place(self.file)} {self.number}"


def older(files: Sequence[Path], kinds: Collection[str]) -> Older:
    """Which resources of these types do not count, for they stand elsewhere in the same or in a newer version.

    Raises: DataUnusable: two versions contradict each other; says where they stand, and no value.
    """
    hashes = array("q")
    for file in files:
        hashes.extend(hash((kind, key)) for _, kind, key, _ in reading.named(file, kinds))
    twice = _twice(hashes)
    found: dict[Path, list[int]] = {}
    for begins in range(0, len(twice), MOST):
        versions = _versions(files, kinds, frozenset(twice[begins : begins + MOST].tolist()))
        for (kind, _), several in versions.items():
            counts = _current(kind, several)
            for one in several:
                if one is not counts:
                    found.setdefault(one.file, []).append(one.number)
    return {file: array("q", sorted(numbers)) for file, numbers in found.items()}


def current(page: Page, older: Sequence[int]) -> Page:
    """The resources of a page that count. older: numbers of others in its file, ascending."""
    first, end = (bisect_left(older, page[at][0] + past) for at, past in ((0, 0), (-1, 1))) if page else (0, 0)
    passed = frozenset(older[first:end])
    return [one for one in page if one[0] not in passed]


def _versions(
    files: Sequence[Path], kinds: Collection[str], wanted: frozenset[int]
) -> dict[tuple[str, str], list[Version]]:
    """All versions of what has these hashes, in the order of files."""
    found: dict[tuple[str, str], list[Version]] = {}
    for file in files:
        for number, kind, key, raw in reading.named(file, kinds):
            if hash((kind, key)) in wanted:
                found.setdefault((kind, key), []).append(_version(file, number, reading.whole(raw)))
    return found


def _version(file: Path, number: int, resource: dict[str, Any]) -> Version:
    meta = resource.get("meta")
    meta = meta if type(meta) is dict else {}
    told = _WRITTEN.encode({key: value for key, value in resource.items() if key != "meta"})
    name, since = meta.get("versionId"), None
    with suppress(TypeError, ValueError, KeyError):
        since = datetime.fromisoformat(meta["lastUpdated"])
    return Version(
        file, number, hashlib.blake2b(told, digest_size=16).digest(), name if type(name) is str else "",
        since if since is not None and since.tzinfo is not None else None,
    )  # fmt: skip


def _current(kind: str, several: list[Version]) -> Version:
    """The one that counts: of those that were changed last, the first."""
    first, known = several[0], dict[str, Version]()
    changed = next((one for one in several if one.content != first.content), None)
    if changed is None:
        return max(several, key=_since)
    for one in several:
        same = known.setdefault(one.name, one) if one.name else one
        if same.content != one.content:
            raise DataUnusable(
                f"{one}: a {kind} is not the same as at {same}, which is the same version of it (`meta.versionId`)",
                "fetch both files anew: one of them was altered",
            )
        if one.since is None:
            raise _undecided(kind, one, changed if one is first else first)
    newest = max(several, key=_since)
    other = next((one for one in several if one.since == newest.since and one.content != newest.content), None)
    if other is not None:
        raise _undecided(kind, other, newest)
    return newest


def _since(one: Version) -> float:
    return -math.inf if one.since is None else one.since.timestamp()


def _undecided(kind: str, one: Version, other: Version) -> DataUnusable:
    return DataUnusable(
        f"{one}: a {kind} stands in another version at {other}, and nothing says which is newer",
        "take out the older one, or have `meta.lastUpdated` in both",
    )
