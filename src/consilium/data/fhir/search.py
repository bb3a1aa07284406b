"""Resources of a FHIR server by REST search, page by page: all that the server says there are, each once.

https://hl7.org/fhir/R4/http.html#search, "paging". A server may pass over a parameter that it does not know, and answer
with more than was asked for; `Prefer: handling=strict` asks it to refuse.
"""

import hashlib
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


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    search: Way | None = None


class _Named(msgspec.Struct):
    resourceType: str
    id: str = ""


class _Bundle(msgspec.Struct):
    resourceType: str
    total: int | None = None
    link: list[Link] = []
    entry: list[_Entry] = []


def search(web: Web, given: FhirPart, kinds: list[str], folder: Path) -> list[Path]:
    """Write every resource of each type into `folder`, as NDJSON.

    Raises: DataUnusable: a page fails, is no Bundle or comes twice; there are fewer than the server said; a resource
            came in two versions.
    """
    made = []
    for kind in kinds:
        path = folder / f"{kind}.ndjson"
        with own(path) as file:
            _Search(web, kind, file).run(given)
        made.append(path)
    return made


class _Search:
    """One search. What it found is known by id."""

    def __init__(self, web: Web, kind: str, file: IO[bytes]) -> None:
        self._web, self._kind, self._file = web, kind, file
        self._known: dict[tuple[str, str], bytes] = {}
        self._matched, self._strict = 0, strict.Decoder(False)

    def run(self, given: FhirPart) -> None:
        """Read page after page into the file, until none is left. Raises: DataUnusable: not all came, or twice."""
        asked = parse_qsl(given.filters.get(self._kind, ""), keep_blank_values=True)
        query = [*asked, ("_count", str(given.page)), ("_total", "accurate")]
        url, seen = f"{self._kind}?{urlencode(query)}", set[str]()
        total: int | None = None
        while url:
            if url in seen:
                raise self._wrong("a page leads back to one that was read", "see the server's `next` links")
            seen.add(url)
            page = self._page(url)
            total = page.total if total is None else total
            for number, entry in enumerate(page.entry, 1):
                self._take(entry, number)
            url = next((link.url for link in page.link if link.relation == "next" and link.url), "")
        if total is not None and self._matched < total:
            raise self._wrong(
                "the server said that there are more than came", "it changed, or pages are lacking: try again"
            )

    def _page(self, url: str) -> _Bundle:
        body = self._web.ask(url, JSON, headers={"Prefer": "handling=strict"}).body
        try:
            page = msgspec.json.decode(body, type=_Bundle)
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
