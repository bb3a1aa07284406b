"""A query as a tree, as DuckDB reads it, and the query of a tree: by which others are asked, nearly the same."""

import json
from collections.abc import Iterator
from typing import Any

from consilium.data.asking import quoted

Node = dict[str, Any]


class Undecided(Exception):
    """Nothing is known: the query has a part that is not written anew, or cannot be asked so."""


def parsed(tables: Any, query: str) -> Node:
    """The tree of a query. Args: tables: a connection of DuckDB. Raises: Undecided: it reads none; duckdb.Error."""
    found: Node = json.loads(tables.execute(f"SELECT json_serialize_sql({quoted(query)})").fetchone()[0])
    if found.get("error"):
        raise Undecided
    return found


def written(tables: Any, tree: Node) -> str:
    """The query of a tree, as SQL. Raises: duckdb.Error: it is none."""
    return str(tables.execute(f"SELECT json_deserialize_sql({quoted(json.dumps(tree))}::JSON)").fetchone()[0])


def parts(tree: Any) -> Iterator[Node]:
    """All parts of a tree, each before those within it."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    for inner in tree if isinstance(tree, list) else ():
        yield from parts(inner)
