"""A FHIR server as a folder of resources: fetched once, kept by content, and brought up to date."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.core.ids import canonical, digest
from consilium.data.access import authority, signed
from consilium.data.clock import Clock
from consilium.data.databases import expanded
from consilium.data.extracts import Extract, Index, held
from consilium.data.fhir.bulk import Export, export
from consilium.data.fhir.leaving import Leaving
from consilium.data.fhir.search import changed, search
from consilium.data.servers import FhirPart
from consilium.data.web import Web
from consilium.durable import own

WHERE = "source.url"


class _Named(msgspec.Struct):
    resourceType: str
    id: str


class Endpoint:
    """One server, of which some types of resources are read.

    Raises: MappingInvalid: its address or the account is none; a filter is of a type that no view is of.
    """

    def __init__(self, url: str, given: FhirPart, kinds: list[str], folder: Path) -> None:
        strange = sorted(set(given.filters) - set(kinds))
        if strange:
            raise MappingInvalid(f"source.fhir.filters: no view is of type {strange[0]}", "remove it, or add a view")
        self._url, self._given, self._kinds, self._folder = expanded(url), given, kinds, folder
        asked = given.model_dump(mode="json", include={"read", "level", "group", "filters"})
        self._of = str(digest(canonical([self._url, asked, kinds])))
        self._web()

    def _web(self) -> Web:
        given = self._given
        clock = Clock(given.time_limit_s, "source.fhir.time_limit_s")
        web = Web(self._url, WHERE, clock, authority(given.access, self._folder), given.hosts)
        return signed(web, given.access, self._folder)

    @contextmanager
    def resources(self, extracts: Path | None, leaving: Leaving | None = None) -> Iterator[tuple[list[Path], int]]:
        """Files of NDJSON with all resources, for as long as they are read; fetched, unless they are here and fresh.
        And how many of those who opted out are not in them.

        Raises: DataUnusable: the server cannot serve; what was here before stays, and is not read in its place. What
                was here when another list of who opted out was in force goes first.
        """
        of = self._of if leaving is None else str(digest(canonical([self._of, leaving.asked])))
        with held(extracts, self._given.time_limit_s) as extract:
            extract.spill()  # a process may have been ended amid it
            extract.forget_others(of)
            if not extract.fresh(of, self._given.fresh_h, datetime.now(UTC)):
                try:
                    self._fetch(extract, of, datetime.now(UTC), leaving)
                except BaseException as error:
                    extract.spill()
                    if not isinstance(error, OSError):
                        raise
                    raise DataUnusable(
                        f"what is fetched cannot be written here ({errno.errorcode.get(error.errno or 0, 'unknown')})",
                        "make room on the disk of the site's folder",
                    ) from error
            index = extract.index(of)
            yield extract.files(of), index.left_out if index is not None else 0

    def _fetch(self, extract: Extract, of: str, now: datetime, leaving: Leaving | None) -> None:
        web, before, mark = self._web(), extract.index(of), ""
        if self._given.read == "search":
            extract.tidy(before.files if before is not None else None)
            if leaving is not None:
                extract.unfiltered()
            made, mark = self._searched(web, extract, of, before if leaving is None else None)
            before = None
        else:
            # A Patient that was taken out and comes no more cannot say whose the resources are that come now.
            alone = leaving is None or (leaving.by_id and before is not None and not before.linked)
            before = before if self._given.incremental and alone else None
            if leaving is not None:
                extract.unfiltered()
            found = export(web, self._given, self._kinds, extract.new, of, before.mark if before else "")
            made, mark = _joined(found, extract.files(of) if before else [], self._kinds, extract.new), found.mark
        left_out = 0 if leaving is None else _without(made, leaving)
        left_out = max(left_out, before.left_out if before is not None and mark else 0)
        extract.put(of, made, now, mark, left_out, leaving is not None and leaving.linked)

    def _searched(self, web: Web, extract: Extract, of: str, before: Index | None) -> tuple[list[Path], str]:
        """Files with all resources, by what changed since `before` or by all of it; and up to which moment they go.

        Where who opted out is not in what was here, it tells nothing of how many there were.
        """
        if self._given.incremental and before is not None and before.mark:
            found = changed(web, self._given, self._kinds, extract.new, before.mark)
            if found is not None:
                export = Export(found.files, found.mark, frozenset())
                made = _joined(export, extract.files(of), self._kinds, extract.new)
                if [found.totals[kind] for kind in self._kinds] == [sum(1 for _ in _lines(path)) for path in made]:
                    return made, found.mark
        found = search(web, self._given, self._kinds, extract.new)
        return [path for _, path in found.files], found.mark


def _without(made: list[Path], leaving: Leaving) -> int:
    """Take out of files what is of those who opted out; how many they are."""
    leaving.learn(made)
    for path in made:
        leaving.take_out(path)
    return len(leaving.found)


def _joined(found: Export, before: list[Path], kinds: list[str], folder: Path) -> list[Path]:
    """One file for each type: what came, and of what was here what it neither replaces nor deletes.

    Raises: DataUnusable: a resource came in two versions, or has no id.
    """
    made = []
    for kind in kinds:
        path = folder / f"{kind}.ndjson"
        known: dict[str, bytes] = {}
        with own(path) as file:
            for of, part in found.files:
                if of == kind:
                    for line in _lines(part):
                        key, told = _id(line, kind), hashlib.sha256(line).digest()
                        if known.get(key, told) != told:
                            raise DataUnusable(f"{WHERE}: a resource came in two versions", "export again")
                        if key not in known:
                            known[key] = told
                            file.write(line)
            gone = known.keys() | {key for of, key in found.deleted if of == kind}
            for part in before:
                if part.name.startswith(f"{kind}-"):
                    for line in _lines(part):
                        if _id(line, kind) not in gone:
                            file.write(line)
        made.append(path)
    return made


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if not line.isspace():
                yield line if line.endswith(b"\n") else line + b"\n"


def _id(line: bytes, kind: str) -> str:
    try:
        named = msgspec.json.decode(line, type=_Named)
    except msgspec.DecodeError as error:
        raise DataUnusable(f"{WHERE}: an exported resource has no id", "export again") from error
    if named.resourceType != kind:
        raise DataUnusable(f"{WHERE}: a file of {kind} holds another type", "export again")
    return named.id
