"""Bundles of FHIR resources, as servers answer and as transactions are sent; and a resource by itself.

Within a Bundle a resource may have no more than a `fullUrl` of its own, `urn:uuid:...`, by which others refer to it.
Such references are written anew as Type/id: what a view joins by is the id.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.fhir import strict
from consilium.data.fhir.ndjson import ANEW, BOM, TWICE

LARGEST = 2**30
"""Bytes of one file, which is read as a whole."""
ALTERS = ("DELETE", "PATCH")
"""Methods of entries that change what other entries, or other files, hold."""


def resources(path: Path, exact: bool = False, kind: str = "") -> Iterator[tuple[int, Any]]:
    """Every resource of a file, with the number of its entry, from 1.

    Args:    exact: whether numbers keep their digits, as Decimal.   kind: the type that is wanted; "" for all.
    Raises:  DataUnusable: it is no Bundle and no resource; an entry is a Bundle itself, an error of the server's, or
             takes another one back; says file and entry, and no value.
    """
    found = _read(path, exact)
    if _kind(found) != "Bundle":
        if not _kind(found):
            raise DataUnusable(f"{path.name}: is no FHIR resource", "give Bundles and resources alone in the folder")
        _certain(found, kind, f"{path.name} entry 1")
        _no_error(found, f"{path.name} entry 1")
        yield 1, found
        return
    entries = found.get("entry") or []
    if type(entries) is not list or not all(type(entry) is dict for entry in entries):
        raise DataUnusable(f"{path.name}: is no Bundle", "`entry` is a list of entries")
    names: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        one, place = entry.get("resource"), f"{path.name} entry {number}"
        if one is not None and not _kind(one):
            raise DataUnusable(f"{place}: is no FHIR resource", "fetch the file anew")
        if _kind(one) == "Bundle":
            raise DataUnusable(f"{place}: is a Bundle within a Bundle", "give each as a file of its own")
        _certain(one, kind, place)
        _no_error(one, place)
        _answered(entry, place)
        if one is not None and not _named(entry.get("fullUrl"), one, names):
            raise DataUnusable(f"{place}: has the fullUrl of another", "fetch the file anew")
    for number, entry in enumerate(entries, 1):
        if entry.get("resource") is not None:
            _refer(entry["resource"], names)
            yield number, entry["resource"]


def data(path: Path) -> bytes:
    """What is in a file, unpacked. Raises: DataUnusable: it cannot be read, or is too large."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            found = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnusable(f"{path.name} cannot be read", "fetch the file anew") from error
    if len(found) > LARGEST:
        raise DataUnusable(f"{path.name} is larger than {LARGEST // 2**20} MiB", "give it as NDJSON")
    return found.removeprefix(BOM)


def _read(path: Path, exact: bool) -> Any:
    try:
        return strict.Decoder(exact).decode(data(path))
    except strict.Twice:
        raise DataUnusable(f"{path.name}: has a name twice in one object", TWICE) from None
    except strict.FAULTS as error:
        raise DataUnusable(f"{path.name}: is no JSON", ANEW) from error


def _kind(found: Any) -> str:
    kind = found.get("resourceType") if type(found) is dict else None
    return kind if type(kind) is str else ""


def _certain(one: Any, kind: str, place: str) -> None:
    if one is not None and kind and strict.almost(_kind(one), kind):
        raise DataUnusable(f"{place}: its type is almost {kind}", ANEW)


def _no_error(one: Any, place: str) -> None:
    if _kind(one) == "OperationOutcome" and strict.grave(one):
        raise DataUnusable(f"{place}: the server reports an error: something is lacking", "fetch all of it anew")


def _answered(entry: dict[str, Any], place: str) -> None:
    """That an entry takes nothing back, and that the server did what it was asked."""
    asked, answered = entry.get("request"), entry.get("response")
    if type(asked) is dict and asked.get("method") in ALTERS:
        raise DataUnusable(
            f"{place}: deletes or alters a resource, which may stand elsewhere as it was",
            "fetch what the server has now, by a search or an export, and not its history",
        )
    if type(answered) is dict and (str(answered.get("status"))[:1] in "45" or strict.grave(answered.get("outcome"))):
        raise DataUnusable(f"{place}: the server answered with an error", "fetch all of it anew")


def _named(url: Any, resource: dict[str, Any], names: dict[str, str]) -> bool:
    """Remember what a `urn:uuid:` stands for; where the resource has no id, it is its own. False: it stands for two."""
    if type(url) is not str or not url.startswith("urn:"):
        return True
    known = f"{resource['resourceType']}/{resource.setdefault('id', url.rsplit(':', 1)[-1])}"
    return names.setdefault(url, known) == known


def _refer(resource: Any, names: dict[str, str]) -> None:
    """Write references to what is in the Bundle anew."""
    waiting = [resource]
    while waiting:
        one = waiting.pop()
        if type(one) is dict:
            named = one.get("reference")
            if type(named) is str and named in names:
                one["reference"] = names[named]
            waiting += one.values()
        elif type(one) is list:
            waiting += one
