"""A query as a tree, as DuckDB reads it, and the query of a tree: by which others are asked, nearly the same."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from consilium.data.asking import quoted

Node = dict[str, Any]
PATTERNS = {"~~": "like", "~~~": "glob"}


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


def rebuilt(value: Any, change: Callable[[Node, Node], Node]) -> Any:
    """The same tree, each part of which is as `change` makes it: as it was, and with those within changed."""
    if isinstance(value, list):
        return [rebuilt(one, change) for one in value]
    if not isinstance(value, dict):
        return value
    return change(value, {key: rebuilt(inner, change) for key, inner in value.items()})


def tried(value: Any) -> Any:
    """The same, of which in DuckDB nothing fails."""

    def change(_: Node, made: Node) -> Node:
        if made.get("class") == "CAST":
            made["try_cast"] = True
        if made.get("class") == "FUNCTION" and made["function_name"] == "strptime":
            made["function_name"] = "try_strptime"
        return made

    return rebuilt(value, change)


def in_words_of(database: str, value: Any) -> Any:
    """The same for a database that is not DuckDB, whose schema stands before no function then."""

    def change(_: Node, made: Node) -> Node:
        if (word := PATTERNS.get(made.get("function_name", ""))) and database == "sqlite":
            made |= {"function_name": word, "children": made["children"][::-1], "is_operator": False}
        if made.get("class") == "FUNCTION" and made.get("schema") == "main":
            made["schema"] = ""
            if made["function_name"] == "trim" and database == "postgresql":
                made["function_name"] = "btrim"  # which is no word of its grammar
        return made

    return rebuilt(value, change)


def instead(value: Any, by: Mapping[int, Node]) -> Any:
    """The expression with others in place of some of its parts, by their `id`."""
    if isinstance(value, list):
        return [instead(one, by) for one in value]
    if not isinstance(value, dict):
        return value
    if id(value) in by:
        return {**by[id(value)], "alias": value.get("alias", "")}
    return {key: instead(inner, by) for key, inner in value.items()}


def signed(value: Any) -> str:
    """The same for what is written alike."""
    return json.dumps(_unplaced(value))


def _unplaced(value: Any) -> Any:
    if isinstance(value, list):
        return [_unplaced(one) for one in value]
    if not isinstance(value, dict):
        return value.casefold() if isinstance(value, str) else value
    return {key: _unplaced(one) for key, one in value.items() if key not in ("query_location", "alias")}


def last_of(ref: Node) -> str:
    """The name of a column, in small letters."""
    return str(ref["column_names"][-1]).casefold()


def name_of(one: Node) -> str:
    """Its name, if it is a column."""
    return str(one["column_names"][-1]) if one.get("class") == "COLUMN_REF" else ""


def column_of(alias: str, name: str) -> Node:
    """A column of a part of FROM."""
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [alias, name]}
