"""Which columns of its tables a query can need, so that no other is read: by the tree that DuckDB makes of it."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from consilium.data.tree import Undecided, parsed

WHOLE = frozenset(("STAR", "POSITIONAL_REFERENCE", "PIVOT", "SHOW_REF"))
"""Parts of a query that take all columns of a table, those of a pattern, or one by its place."""
MADE = frozenset(("unnest", "range", "generate_series"))
"""Functions that make a table, and read none."""


def columns(tables: Any, query: str, names: Collection[str]) -> frozenset[str] | None:
    """Names of columns that a query can need, in small letters, of whatever table; None: of all columns, or unknown.

    Args:    tables: a connection of DuckDB.   names: of the tables, which stand for a whole row of theirs.
    """
    import duckdb  # not with the module, which the agent has before it forks

    try:
        nodes = list(_nodes(parsed(tables, query)))
    except (Undecided, duckdb.Error, ValueError, RecursionError):
        return None
    tables_of = [node for node in nodes if "sample" in node and "alias" in node]
    rows = {str(node["alias"]).casefold() for node in tables_of} | {name.casefold() for name in names}
    if any(node.get("column_name_alias") for node in tables_of):
        return None  # labs AS l(nr, v): by their places
    found = set[str]()
    for node in nodes:
        if (
            not WHOLE.isdisjoint(filter(_text, (node.get("class"), node.get("type"))))
            or node.get("ref_type") == "NATURAL"
        ):
            return None
        if node.get("type") == "TABLE_FUNCTION" and node["function"].get("function_name") not in MADE:
            return None
        told = [one.casefold() for one in (*(node.get("column_names") or ()), *(node.get("using_columns") or ()))]
        if node.get("class") == "COLUMN_REF" and len(told) == 1 and told[0] in rows:
            return None  # a row as a whole, as of to_json(labs)
        found.update(told)
    return frozenset(found)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _nodes(inner)
