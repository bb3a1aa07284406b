"""Whether all pages of a search, or of a history, are among the files of a folder: half of them is another population.

A page names the one that follows (`link`, `next`) and, of a search, how many resources match in all (`total`):
https://hl7.org/fhir/R4/http.html#paging, https://hl7.org/fhir/R4/bundle.html#searchset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from consilium.core.errors import DataUnusable
from consilium.data.fhir import bundles


class Link(msgspec.Struct):
    """Where another page is; `relation`: which, such as `next`."""

    relation: str = ""
    url: str = ""


class Way(msgspec.Struct):
    """Why a resource is on a page: it matches, or is included beside one that does."""

    mode: str = "match"


class _Named(msgspec.Struct):
    resourceType: str = ""
    id: str = ""


class _Entry(msgspec.Struct):
    resource: _Named | None = None
    search: Way | None = None


class _Page(msgspec.Struct):
    resourceType: str = ""
    type: str = ""
    total: int | None = None
    link: list[Link] = []
    entry: list[_Entry] = []


Search = tuple[int, frozenset[str]]
"""By what pages belong together that do not say it: how many match in all, and of which types these are."""


@dataclass(frozen=True)
class _Told:
    """What a page says. found: what matches, by type and id, or by its place where it has no id."""

    path: Path
    following: str
    search: Search | None
    found: frozenset[tuple[str, str]]


def complete(files: Sequence[Path]) -> None:
    """Raises: DataUnusable: a page follows that is not among the files, or fewer match than the server said."""
    told, known = [], set[str]()
    for path in files:
        try:
            page = msgspec.json.decode(bundles.data(path), type=_Page)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # who reads the file says what is wrong
        known |= {link.url for link in page.link if link.relation == "self" and link.url}
        told += [_told(path, page)] if page.resourceType == "Bundle" else []
    found: dict[Search, set[tuple[str, str]]] = {}
    for one in told:
        if one.search is not None:
            found.setdefault(one.search, set()).update(one.found)
    for one in told:
        there = one.search is not None and len(found[one.search]) >= one.search[0]
        if one.search is not None and not there:
            raise DataUnusable(
                f"{one.path.name}: the server said that there are more than are in the files",
                "fetch all pages of the search, or all of it anew",
            )
        if one.following and one.following not in known and not there:
            raise DataUnusable(
                f"{one.path.name}: another page follows, and is not among the files (no `self` link is its `next`)",
                "fetch the pages that its `next` link leads to",
            )


def _told(path: Path, page: _Page) -> _Told:
    following = next((link.url for link in page.link if link.relation == "next" and link.url), "")
    matches = [
        (one.resource.resourceType, one.resource.id or f"{path.name} {number}")
        for number, one in enumerate(page.entry)
        if one.resource is not None and (one.search or Way()).mode == "match"
        and one.resource.resourceType != "OperationOutcome"
    ]  # fmt: skip
    counts = page.type == "searchset" and page.total is not None and (matches or page.total)
    search = (page.total or 0, frozenset(kind for kind, _ in matches)) if counts else None
    return _Told(path, following, search, frozenset(matches))
