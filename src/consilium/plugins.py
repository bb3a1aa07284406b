"""Plug-ins by name, through Python's entry points. Built-ins register by the same door as those of outsiders."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from consilium.core.errors import NotFound

GROUPS = {
    "consilium.strategies": "federated algorithms",
    "consilium.trainers": "kinds of models",
    "consilium.sources": "kinds of data sources",
    "consilium.commands": "command groups",
}


def names(group: str) -> dict[str, EntryPoint]:
    """The plug-ins of a group by name, sorted."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load(group: str, name: str) -> Any:
    """The object behind a name.

    Raises: NotFound: no plug-in of this name is installed.
    """
    known = names(group)
    if name not in known:
        raise NotFound(f"there is no {name!r} among the {GROUPS.get(group, group)}", f"known are: {', '.join(known)}")
    return known[name].load()
