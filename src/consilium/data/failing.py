"""Which CAST of a query cannot make what it is to make of some text: each is tried alone, over the table it reads.

DuckDB casts before FILTER, and where it likes before WHERE, so a text of another test may be what fails.
"""

from collections.abc import Iterator
from typing import Any

import duckdb

from consilium.data.catalogue import of_duckdb
from consilium.data.counts import hidden
from consilium.data.lineage import Lineage
from consilium.data.tree import Node, Undecided, parsed, written

TOLD = 3
PROTECTS = (
    "a FILTER or WHERE protects no CAST, for DuckDB may cast before it: write CASE WHEN ... THEN CAST(...) END, with "
    "the condition behind WHEN"
)


def casts(tables: Any, query: str) -> str:
    """Those that fail, with how many texts, in words without any of these; empty where none is found.

    Args:    tables: a connection of DuckDB, to the tables.
    """
    try:
        lineage = Lineage(tables, query, of_duckdb(tables))
        found = dict[str, tuple[bool, int]]()
        for scope in lineage.scopes():
            for node, guarded in _casts({key: value for key, value in scope.select.items() if key != "cte_map"}, False):
                for said, count in _tried(tables, lineage, node, scope):
                    if count:
                        found.setdefault(said, (guarded, count))
    except (Undecided, duckdb.Error, KeyError, TypeError, ValueError, RecursionError):
        return ""
    open_ones = {said: count for said, (guarded, count) in found.items() if not guarded}
    told = open_ones or {said: count for said, (_, count) in found.items()}
    return ", ".join(f"{said} fails for {hidden(count)} texts" for said, count in list(told.items())[:TOLD])


def _casts(value: Any, guarded: bool) -> Iterator[tuple[Node, bool]]:
    """What makes something else of a text, or fails; and whether a CASE is around it. Of queries within, none."""
    if isinstance(value, dict):
        fails = value.get("class") == "CAST" and not value["try_cast"] and value["cast_type"]["id"] != "VARCHAR"
        if fails or value.get("function_name") == "strptime":
            yield value, guarded
        guarded = guarded or value.get("class") == "CASE"
        value = [inner for key, inner in value.items() if key != "subquery"]
    for inner in value if isinstance(value, list) else ():
        yield from _casts(inner, guarded)


def _tried(tables: Any, lineage: Lineage, node: Node, scope: Any) -> Iterator[tuple[str, int]]:
    """The expression as SQL, and of how many texts it makes nothing."""
    cast = node.get("class") == "CAST"
    child = node["child"] if cast else node["children"][0]
    v = parsed(tables, "SELECT v")["statements"][0]["node"]["select_list"][0]
    one: Node = {**node, "child": v, "try_cast": True, "alias": ""} if cast else {
        **node, "function_name": "try_strptime", "children": [v, *node["children"][1:]], "alias": ""}  # fmt: skip
    tree = parsed(tables, "SELECT 1")
    said, tried = (
        written(tables, {**tree, "statements": [{**tree["statements"][0], "node": {
            **tree["statements"][0]["node"], "select_list": [{**each, "alias": ""}]}}]}).removeprefix("SELECT ")
        for each in (node, one)
    )  # fmt: skip
    try:
        for origin in lineage.origins(child, scope):
            asked = f"SELECT count(*) FROM ({lineage.asked(origin)}) AS o WHERE v IS NOT NULL AND {tried} IS NULL"  # noqa: S608
            of = f" of {'.'.join(origin.columns[0])}" if origin.columns else ""
            yield f"{said.replace('main.', '').replace(chr(34), '')}{of}", int(tables.execute(asked).fetchone()[0])
    except (Undecided, duckdb.Error):
        return
