"""What may be said of the names of a table's columns: where its first line is a patient, they are values of one."""

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from consilium.core.errors import DataUnusable, MappingInvalid

SHOWN = 30
NO_HEADER = "or write `header: false` and `columns` if its first line is no header"
NO_QUERY = "or let the source's query give it: name it in its SELECT"


def lacking(
    where: str, name: str, there: Collection[str], wanted: Collection[str], query: bool = False
) -> MappingInvalid:
    """That a column is not there; what there is only where more than half of those that are wanted are.

    Args:    query: whether the table is what a query gives, and has no first line.
    """
    folded = {one.casefold() for one in there}
    if 2 * sum(one.casefold() in folded for one in wanted) <= len(wanted):
        remedy = f"correct its name, {NO_QUERY if query else NO_HEADER}"
    elif near := difflib.get_close_matches(name, there, n=3, cutoff=0.5):
        remedy = f"did you mean {' or '.join(near)}?"
    else:
        remedy = f"it has {', '.join(list(there)[:SHOWN])}" + (f"; {NO_QUERY[3:]}" if query else "")
    return MappingInvalid(f"{where}: {'what the query gives' if query else 'the table'} has no column {name!r}", remedy)


def once(names: Iterable[Any], name: str) -> None:
    """That no two columns have one name: which of them is meant nobody knows. Raises: DataUnusable."""
    seen = dict[str, int]()
    for at, one in enumerate(map(str, names), 1):
        if one and seen.setdefault(one, at) != at:
            raise DataUnusable(
                f"{name} has two columns of one name, the {_place(seen[one])} and the {_place(at)}",
                "give each column a name of its own",
            )


def _place(at: int) -> str:
    """In words.

    >>> [_place(at) for at in (1, 2, 3, 4, 11, 21, 112)]
    ['1st', '2nd', '3rd', '4th', '11th', '21st', '112th']
    """
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{at}{'th' if at // 10 % 10 == 1 else ends.get(at % 10, 'th')}"
