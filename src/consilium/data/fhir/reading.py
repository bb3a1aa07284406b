"""The resources of a folder: NDJSON as Bulk Data exports have it, Bundles and single resources as servers answer."""

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from consilium.core.errors import DataUnusable

LINES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
WHOLE = (".json", ".json.gz")
LOG = "log.ndjson"
"""What clients of Bulk Data write beside an export: https://github.com/smart-on-fhir/bulk-data-client, "log"."""


def files(place: Path) -> list[Path]:
    """The files of a folder that hold resources, by name; or the one file.

    Raises: DataUnusable: there is none.
    """
    if place.is_file():
        return [place]
    try:
        every = sorted(place.iterdir()) if place.is_dir() else []
    except OSError as error:
        raise DataUnusable(f"{place.name} cannot be read ({type(error).__name__})", "let the agent read it") from error
    found = [path for path in every if path.is_file() and path.name.endswith((*LINES, *WHOLE)) and path.name != LOG]
    empty = next((path.name for path in found if not path.stat().st_size), None)
    if empty is not None:
        raise DataUnusable(f"{empty} is empty", "fetch it anew, or take it out if there is nothing of its type")
    if not found:
        raise DataUnusable(
            f"there are no FHIR resources in {place.name}", f"files end in {', '.join((*LINES, *WHOLE))}"
        )
    return found


Page = list[tuple[int, Any]]
"""Some resources of a file, each with its number."""
MANY = 64
"""Resources of a Bundle in a page."""
Raw = bytes | dict[str, Any]
"""A resource, read or not yet."""


def named(path: Path, kinds: Collection[str]) -> Iterator[tuple[int, str, str, Raw]]:
    """Number, type and id of every resource of some types that has one; and the resource, for `whole`.

    What is no resource is passed over: `resources` tells of it.
    """
    if path.name.endswith(WHOLE):
        from consilium.data.fhir import bundles

        for number, one in bundles.resources(path):
            if one["resourceType"] in kinds and type(one.get("id")) is str:
                yield number, one["resourceType"], one["id"], one
        return
    from consilium.data.fhir import ndjson

    yield from ndjson.named(path, kinds)


def whole(raw: Raw) -> dict[str, Any]:
    """What `named` gave, as a resource."""
    found: dict[str, Any] = msgspec.json.decode(raw) if isinstance(raw, bytes) else raw
    return found


def place(path: Path) -> str:
    """What numbers of resources of a file are of."""
    return f"{path.name} {'entry' if path.name.endswith(WHOLE) else 'line'}"


def pages(path: Path, exact: bool, kind: str) -> tuple[Iterator[Page], str]:
    """Every resource of type `kind` of a file (others may be among them), numbered, and what the numbers are of."""
    if path.name.endswith(WHOLE):
        from consilium.data.fhir import bundles

        every = bundles.resources(path, exact, kind)
        return iter(lambda: list(islice(every, MANY)), []), place(path)
    from consilium.data.fhir import ndjson

    return ndjson.pages(path, exact, kind), place(path)
