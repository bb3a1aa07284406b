"""Resources of a FHIR server by REST search, page by page: all that the server says there are, each once.

https://hl7.org/fhir/R4/http.html#search, "paging". A server may pass over a parameter that it does not know, and answer
with more than was asked for; `Prefer: handling=strict` asks it to refuse. `Cache-Control: no-cache` asks for what is
there now: HAPI FHIR else answers for a minute as it did before.

A search by `_lastUpdated` brings what was made or changed, and never says what was deleted. But all that is there is
among what was here and what came: where the server counts as many, it has the same, and else all of it is read.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from consilium.core.errors import DataUnusable
from consilium.data.fhir import strict
from consilium.data.fhir.pages import Link, Way
from consilium.data.servers import FhirPart
from consilium.data.web import Web, outcome
from consilium.durable import own

JSON = "application/fhir+json"
_LINES = bytes.maketrans(b"\r\n", b"  ")
UNKNOWN = (400, 404, 405, 412, 422, 501)
"""With which servers refuse a search that they do not know."""
OVERLAP = timedelta(hours=1)
"""Before the moment of the last search: what was changed then may have come into the server's index afterwards."""


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    search: Way | None = None


class _Meta(msgspec.Struct):
    lastUpdated: str = ""


class _Named(msgspec.Struct):
    resourceType: str
    id: str = ""
    meta: _Meta | None = None


class _Bundle(msgspec.Struct):
    resourceType: str
    total: int | None = None
    link: list[Link] = []
    entry: list[_Entry] = []


@dataclass(frozen=True)
class Found:
    """What was found: a file for each type; up to which moment of the server, "" where it does not tell the time; and
    how many resources of each type there are, where only those are here that changed.
    """

    files: list[tuple[str, Path]]
    mark: str
    totals: dict[str, int]


def search(web: Web, given: FhirPart, kinds: list[str], folder: Path) -> Found:
    """Write every resource of each type into `folder`, as NDJSON.

    Raises: DataUnusable: a page fails, is no Bundle or comes twice; there are fewer than the server said; a resource
            came in two versions.
    """
    made, mark = [], ""
    for kind in kinds:
        path = folder / f"{kind}.ndjson"
        with own(path) as file:
            one = _Search(web, kind, file)
            one.run(given)
        made.append((kind, path))
        mark = mark or one.mark
    return Found(made, mark, {})


def changed(web: Web, given: FhirPart, kinds: list[str], folder: Path, since: str) -> Found | None:
    """The same of resources that were made or changed; None: the server does not count, or does not know when what
    changed. Counted is before it is searched: what is deleted in between is found by the next one.

    Raises: DataUnusable: as `search`.
    """
    made, mark, totals = [], "", dict[str, int]()
    for kind in kinds:
        path = folder / f"{kind}.changed"
        with own(path) as file:
            one = _Search(web, kind, file)
            total = one.count(given)
            if total is None or not one.run(given, since):
                return None
        made.append((kind, path))
        mark, totals[kind] = mark or one.mark, total
    return Found(made, mark, totals)


class _Search:
    """One search. What it found is known by id."""

    def __init__(self, web: Web, kind: str, file: IO[bytes]) -> None:
        self._web, self._kind, self._file = web, kind, file
        self._known: dict[tuple[str, str], bytes] = {}
        self._matched, self._strict = 0, strict.Decoder(False)
        self.mark = ""
        self._since: datetime | None = None
        self._older = False

    def count(self, given: FhirPart) -> int | None:
        """How many resources there are; None: the server does not say."""
        page = self._page(self._asked(given, ("_summary", "count")), UNKNOWN)
        return None if page is None else page.total

    def _asked(self, given: FhirPart, *more: tuple[str, str]) -> str:
        asked = parse_qsl(given.filters.get(self._kind, ""), keep_blank_values=True)
        return f"{self._kind}?{urlencode([*asked, *more])}"

    def run(self, given: FhirPart, since: str = "") -> bool:
        """Read page after page into the file, until none is left.

        Args:    since: what did not change since then need not come.
        Returns: false: the server gave what did, or does not say of a resource when it changed.
        Raises:  DataUnusable: not all came, or twice.
        """
        self._since = datetime.fromisoformat(since) if since else None
        more = [("_lastUpdated", f"ge{since}")] if since else []
        plain = self._asked(given, *more, ("_count", str(given.page)))
        url, total, seen = f"{plain}&_total=accurate", None, set[str]()
        page = self._page(url, UNKNOWN)
        if page is None:  # a server that is strict may not know `_total`
            url = plain
            page = self._page(url, UNKNOWN if since else ())
        while url:
            if url in seen:
                raise self._wrong("a page leads back to one that was read", "see the server's `next` links")
            page = page if not seen else self._page(url)
            seen.add(url)
            if page is None:
                return False
            total = total if page.total is None else page.total  # of Google it is an estimate until the last page
            for number, entry in enumerate(page.entry, 1):
                self._take(entry, number)
            if self._older:
                return False
            url = next((link.url for link in page.link if link.relation == "next" and link.url), "")
        if total is not None and self._matched < total:
            raise self._wrong(
                "the server said that there are more than came", "it changed, or pages are lacking: try again"
            )
        return True

    def _page(self, url: str, passing: tuple[int, ...] = ()) -> _Bundle | None:
        """A page; None: the server refuses it with one of these statuses."""
        headers = {"Prefer": "handling=strict", "Cache-Control": "no-cache"}
        answer = self._web.ask(url, JSON, headers=headers, passing=passing)
        if answer.status >= 400:
            return None
        self.mark = self.mark or _mark(answer.headers.get("Date", ""))
        try:
            page = msgspec.json.decode(answer.body, type=_Bundle)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
            raise self._wrong("a page is no Bundle", "it may have been cut: try again; check the proxy") from error
        if page.resourceType != "Bundle":
            raise self._wrong("a page is no Bundle", "check the server's address")
        return page

    def _take(self, entry: _Entry, number: int) -> None:
        mode = entry.search.mode if entry.search is not None else "match"
        if not bytes(entry.resource):
            raise self._wrong(f"entry {number} of a page has no resource", "see the server's log")
        try:
            self._strict.decode(bytes(entry.resource))  # what is kept is what can be read: it is kept for a day
            named = msgspec.json.decode(entry.resource, type=_Named)
        except strict.Twice:
            raise self._wrong(
                f"entry {number} of a page has a name twice in one object", "see the server's log"
            ) from None
        except strict.FAULTS as error:
            raise self._wrong(f"entry {number} of a page is no FHIR resource", "see the server's log") from error
        if mode == "outcome" or named.resourceType == "OperationOutcome":
            self._told(entry.resource)
            return
        if mode == "match" and named.resourceType != self._kind:
            raise self._wrong(f"entry {number} of a page is of another type", "see the server's log")
        if self._since is not None and mode == "match":
            self._older |= not _since(named.meta, self._since)
        data = bytes(entry.resource).translate(_LINES)  # a line break within a resource is never within a text
        key, told = (named.resourceType, named.id), hashlib.sha256(data).digest()
        before = self._known.setdefault(key, told)
        if before != told or not named.id:
            raise self._wrong("a resource came in two versions, or without an id", "it changed meanwhile: try again")
        if before is told:  # a page that moved while others were read brings some again
            self._matched += mode == "match"
            self._file.write(data + b"\n")

    def _told(self, resource: msgspec.Raw) -> None:
        """An OperationOutcome among what was found: warnings are passed over, and errors are not."""
        found: Any = msgspec.json.decode(resource)
        if strict.grave(found):
            codes = ", ".join(outcome(found)) or "no code"
            raise self._wrong(f"the server reports an error among what it found ({codes})", "see the server's log")

    def _wrong(self, what: str, remedy: str) -> DataUnusable:
        return DataUnusable(f"{self._web.where}: search of {self._kind}: {what}", remedy)


def _mark(date: str) -> str:
    """From when on changes are asked for next time; "" where the server does not tell the time."""
    try:
        told = parsedate_to_datetime(date)
        return (told.astimezone(UTC) - OVERLAP).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""


def _since(meta: _Meta | None, since: datetime) -> bool:
    """Whether a resource says that it changed since then."""
    try:
        told = datetime.fromisoformat(meta.lastUpdated if meta is not None else "")
        return told.tzinfo is not None and told >= since
    except ValueError:
        return False
