"""Which CAST of a query cannot make what it is to make of some text: each is tried alone, over the table it reads.

DuckDB casts before FILTER, and where it likes before WHERE, so a text of another test may be what fails.
"""

from collections.abc import Iterator
from typing import Any

import duckdb

from consilium.data.catalogue import of_duckdb
from consilium.data.counts import hidden
from consilium.data.lineage import Lineage
from consilium.data.scopes import Scope, references
from consilium.data.tree import Node, Undecided, instead, parsed, parts, written

TOLD = 3
OPEN, REACHED, ELSEWHERE = range(3)
"""Without a CASE around it; within one, and of texts for which it comes to it; of texts for which it does not."""
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
        found = dict[str, tuple[int, int]]()
        for scope in lineage.scopes():
            for node, case in _casts({key: value for key, value in scope.select.items() if key != "cte_map"}, None):
                for said, rank, count in _tried(tables, lineage, node, scope, case):
                    if count:
                        found[said] = min(found.get(said, (rank, count)), (rank, count))
    except (Undecided, duckdb.Error, KeyError, TypeError, ValueError, RecursionError):
        return ""
    fail = {said: one for said, one in found.items() if one[0] < ELSEWHERE} or found
    told = sorted(fail.items(), key=lambda each: each[1][0])[:TOLD]
    return ", ".join(f"{said} fails for {hidden(count)} texts" for said, (_, count) in told)


def _casts(value: Any, case: Node | None) -> Iterator[tuple[Node, Node | None]]:
    """What makes something else of a text, or fails; and the outermost CASE around it. Of queries within, none."""
    if isinstance(value, dict):
        fails = value.get("class") == "CAST" and not value["try_cast"] and value["cast_type"]["id"] != "VARCHAR"
        if fails or value.get("function_name") == "strptime":
            yield value, case
        case = value if case is None and value.get("class") == "CASE" else case
        value = [inner for key, inner in value.items() if key != "subquery"]
    for inner in value if isinstance(value, list) else ():
        yield from _casts(inner, case)


def _tried(
    tables: Any, lineage: Lineage, node: Node, scope: Scope, case: Node | None
) -> Iterator[tuple[str, int, int]]:
    """The expression as SQL, how sure it is that it fails where it stands, and of how many texts it makes nothing."""
    cast = node.get("class") == "CAST"
    child = node["child"] if cast else node["children"][0]
    v = _item(tables, "v")
    one: Node = {**node, "child": v, "try_cast": True, "alias": ""} if cast else {
        **node, "function_name": "try_strptime", "children": [v, *node["children"][1:]], "alias": ""}  # fmt: skip
    tree = parsed(tables, "SELECT 1")
    said, tried = (
        written(tables, {**tree, "statements": [{**tree["statements"][0], "node": {
            **tree["statements"][0]["node"], "select_list": [{**each, "alias": ""}]}}]}).removeprefix("SELECT ")
        for each in (node, one)
    )  # fmt: skip
    said = said.replace("main.", "").replace(chr(34), "")
    try:
        origins = lineage.origins(child, scope)
        for origin in origins:
            asked = f"SELECT count(*) FROM ({lineage.asked(origin)}) AS o WHERE v IS NOT NULL AND {tried} IS NULL"  # noqa: S608
            of = f" of {'.'.join(origin.columns[0])}" if origin.columns else ""
            rank = OPEN if case is None else ELSEWHERE
            yield f"{said}{of}", rank, int(tables.execute(asked).fetchone()[0])
        if case is not None and origins:
            made = _item(tables, f"CASE WHEN {tried} IS NULL THEN CAST(v AS VARCHAR) END")
            made = instead(made, {id(ref): child for ref in references(made)})
            there = _reached(case, node, made, _item(tables, "CAST(NULL AS VARCHAR)"))
            for origin in lineage.origins(there, scope):
                asked = f"SELECT count(*) FROM ({lineage.asked(origin)}) AS o WHERE v IS NOT NULL"  # noqa: S608
                of = f" of {'.'.join(origins[0].columns[0])}" if origins[0].columns else ""
                yield f"{said}{of}", REACHED, int(tables.execute(asked).fetchone()[0])
    except (Undecided, duckdb.Error):
        return


def _item(tables: Any, expression: str) -> Node:
    """An expression, as it is parsed."""
    found: Node = parsed(tables, f"SELECT {expression}")["statements"][0]["node"]["select_list"][0]
    return found


def _reached(value: Any, node: Node, made: Node, nothing: Node) -> Any:
    """Of an expression in which a part stands another one in its place, where a CASE comes to it; else nothing."""
    if value is node:
        return made
    if isinstance(value, dict) and value.get("class") == "CASE":
        before = list[Node]()
        for check in value["case_checks"]:
            if any(one is node for one in parts(check["when_expr"])):
                inner = _reached(check["when_expr"], node, made, nothing)
                return {**value, "case_checks": before, "else_expr": inner} if before else inner
            if any(one is node for one in parts(check["then_expr"])):
                inner = _reached(check["then_expr"], node, made, nothing)
                return {**value, "case_checks": [*before, {**check, "then_expr": inner}], "else_expr": nothing}
            before.append({**check, "then_expr": nothing})
        return {**value, "case_checks": before, "else_expr": _reached(value["else_expr"], node, made, nothing)}
    for inner in value.values() if isinstance(value, dict) else value:
        if any(one is node for one in parts(inner)):
            return _reached(inner, node, made, nothing)
    raise Undecided
