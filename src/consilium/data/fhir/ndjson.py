"""Newline-delimited JSON of FHIR resources, as Bulk Data exports have it; one resource at a time, gzip or not.

What is no resource is never passed over: a file that ends amid a line was not fetched whole, and its patients lack.
"""

import gzip
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from consilium.core.errors import DataUnusable
from consilium.data.fhir import strict
from consilium.data.fhir.reading import Page

LONGEST = 64 * 2**20
"""Bytes of one line."""
PAGE = 2**15
"""Bytes of lines that are read before any of them is gone on with, or one line that is longer."""
BOM = b"\xef\xbb\xbf"
ANEW = "fetch the file anew: it may have been cut or altered"
TWICE = "see what made the file: of two values of one name one would be lost"
REPORTS = ("Bundle", "OperationOutcome")
"""What is no resource of a patient: it holds several, or says what became of them."""
_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')


def resources(path: Path, exact: bool = False, kind: str = "", data: bool = True) -> Iterator[tuple[int, Any]]:
    """Every resource of a file, with the number of its line; the same as `pages`, one by one."""
    return chain.from_iterable(pages(path, exact, kind, data))


def pages(path: Path, exact: bool = False, kind: str = "", data: bool = True) -> Iterator[Page]:
    """Every resource of a file, with the number of its line, some at a time; before a fault is told, those before it.

    Args:    exact: whether numbers keep their digits, as Decimal.
             kind: lines of other resource types may be left out unread; all of them where it is "".
             data: whether these are patients' resources, where a Bundle, and a report that some are lacking, is none.
    Raises:  DataUnusable: a line is no resource, or the file cannot be read; says which, and no value.
    """
    page: Page = []
    size = 0
    try:
        for one, length in _read(path, exact, kind, data):
            page.append(one)
            size += length
            if size >= PAGE:
                yield page
                page, size = [], 0
    except DataUnusable:
        yield page
        raise
    yield page


def _read(path: Path, exact: bool, kind: str, data: bool) -> Iterator[tuple[tuple[int, Any], int]]:
    """Numbered resources, and the bytes of the line of each."""
    decoder = strict.Decoder(exact)
    number, name, wanted = 0, path.name, f'"{kind}"'.encode() if kind else b""
    usual = kind if kind not in REPORTS else ""
    try:
        with _opened(path) as file:
            while line := file.readline(LONGEST):
                number += 1
                line = line.removeprefix(BOM) if number == 1 else line
                if line.isspace() or (wanted not in line and _other(line, kind)):
                    continue
                found = decoder.decode(line)
                if type(found) is not dict or found.get("resourceType") != usual:
                    _check(found, f"{name} line {number}", kind, data)
                yield (number, found), len(line)
    except strict.Twice:
        raise DataUnusable(f"{name} line {number}: has a name twice in one object", TWICE) from None
    except strict.FAULTS as error:
        raise DataUnusable(f"{name} line {number}: is no JSON", ANEW) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnusable(f"{name} cannot be read after line {number}", "fetch the file anew") from error


def _check(found: Any, place: str, kind: str, data: bool) -> None:
    if type(found) is not dict or type(found.get("resourceType")) is not str:
        raise DataUnusable(f"{place}: is no FHIR resource", "give one resource on each line")
    if kind and strict.almost(found["resourceType"], kind):
        raise DataUnusable(f"{place}: its type is almost {kind}", ANEW)
    if data and found["resourceType"] in REPORTS:
        _refuse(found, place)


def _refuse(found: dict[str, Any], place: str) -> None:
    if found["resourceType"] == "Bundle":
        raise DataUnusable(f"{place}: is a Bundle", "give its resources, one on each line, or itself as .json")
    if strict.grave(found):
        raise DataUnusable(f"{place}: the server reports an error: something is lacking", "fetch all of it anew")


class _Named(msgspec.Struct):
    resourceType: str
    id: str


def named(path: Path, kinds: Collection[str]) -> Iterator[tuple[int, str, str, bytes]]:
    """Number, type, id and line of every resource of some types that has an id; what else there is is passed over."""
    decode, number = msgspec.json.Decoder(_Named).decode, 0
    marks = [f'"{kind}"'.encode() for kind in kinds]
    with suppress(OSError, EOFError, zlib.error), _opened(path) as file:
        while line := file.readline(LONGEST):
            number += 1
            line = line.removeprefix(BOM) if number == 1 else line
            if b"\\u00" not in line and not any(mark in line for mark in marks):
                continue
            try:
                found = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if found.resourceType in kinds:
                yield number, found.resourceType, found.id, line


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _other(line: bytes, kind: str) -> bool:
    """Whether a line is of another type, by its bytes; what does not end as a line of JSON is read: it may be cut."""
    found = _TYPE.search(line) if line.endswith(b"}\n") and b"\\u00" not in line else None
    return found is not None and not strict.almost(of := found[1].decode(), kind) and of not in REPORTS
