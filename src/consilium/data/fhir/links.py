"""Patients that were merged at the hospital: what is of one that was replaced is of the one that is used in its place.

`Patient.link`: of `replaced-by` the resource must no longer be used, and the other one must in lieu of it; `replaces`
says the same from there (https://hl7.org/fhir/valueset-link-type.html, alike in R4 and R5). `seealso` and `refer` link
resources that are both in use and valid, and are left as they are: the hospital has two patients.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from consilium.data.fhir import reading, versions
from consilium.data.fhir.steps import reference_key
from consilium.data.fhir.values import items
from consilium.data.merging import Merged, merged

SUBJECTS = ("subject", "patient", "beneficiary", "individual", "for")
"""Elements that say whose a resource is."""
REFERENCE = reference_key("Patient")
MARKS, PIECE = (b'"replace', b"\\u00"), 1 << 20
"""How the types of such links begin in JSON, if it is not by an escape; and bytes that are looked through at once."""
NOBODY = ""
"""Where a link does not name a Patient."""


def follow(files: Sequence[Path]) -> Merged:
    """Who was merged, by the Patients of these files in their current versions.

    Raises: DataUnusable: two versions of a Patient contradict each other.
    """
    found = [one for file in files for one in _patients(file)] if any(map(_mentions, files)) else []
    if not any(replaced for *_, replaced in found):
        return Merged()
    older = {(file, number) for file, numbers in versions.older(files, {"Patient"}).items() for number in numbers}
    current = [(key, replaced) for file, number, key, replaced in found if (file, number) not in older]
    here = frozenset(key for key, _ in current)
    pairs = [pair for _, replaced in current for pair in replaced]
    unnamed = sum(one == NOBODY for one, _ in pairs)  # `replaces` one that is not named
    whole = merged([pair for pair in pairs if pair[0] != NOBODY], here)
    return replace(whole, unnamed=unnamed)


def _mentions(file: Path) -> bool:
    """Whether a file may hold such links, by its bytes: most hold none, and are not gone through line by line."""
    tail = b""
    with suppress(OSError, EOFError, zlib.error), gzip.open(file) if file.suffix == ".gz" else file.open("rb") as data:
        while piece := data.read(PIECE):
            tail += piece
            if any(mark in tail for mark in MARKS):
                return True
            tail = tail[-max(map(len, MARKS)) :]
    return False


Found = tuple[Path, int, str, list[tuple[str, str]]]
"""Where a Patient stands, its id, and which records are replaced by which."""


def _patients(file: Path) -> Iterator[Found]:
    for number, kind, key, raw in reading.named(file, {"Patient"}):
        if kind == "Patient":
            links = b"replace" in raw or b"\\u00" in raw if isinstance(raw, bytes) else "link" in raw
            yield file, number, key, list(_replaced(key, reading.whole(raw))) if links else []


def _replaced(key: str, patient: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for link in items(patient.get("link")):
        if type(link) is dict and link.get("type") in ("replaced-by", "replaces"):
            named = link.get("other")
            other = REFERENCE(named) if type(named) is dict else None
            other = other if type(other) is str else NOBODY
            yield (key, other) if link["type"] == "replaced-by" else (other, key)


def followed(resources: Iterable[tuple[int, Any]], of: Merged) -> Iterator[tuple[int, Any]]:
    """Numbered resources as they are of who stands for several; without Patients that are not to be used any more."""
    for number, resource in resources:
        if resource.get("resourceType") == "Patient":
            key = resource.get("id")
            if type(key) is str and (key in of.unknown or of.of(key) != key):
                continue
        elif not _refer(resource, of):
            continue
        yield number, resource


def _refer(resource: dict[str, Any], of: Merged) -> bool:
    """Write references anew; False: it is of somebody of whom nobody knows who that is."""
    named = [one for name in SUBJECTS for one in items(resource.get(name)) if type(one) is dict]
    for one in named or _references(resource):
        key = REFERENCE(one)
        if type(key) is str and key in of.person:
            if key in of.unknown:
                return False
            one["reference"] = f"Patient/{of.person[key]}"
    return True


def _references(resource: Any) -> list[dict[str, Any]]:
    """Every reference of a resource that does not say whose it is where most do."""
    found, waiting = [], [resource]
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            found += [one] if type(one.get("reference")) is str else []
            waiting += one.values()
        elif type(one) is list:
            waiting += one
    return found
