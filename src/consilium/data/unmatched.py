"""Whether the answer of DuckDB hangs on filled cells in which a `regexp_extract` of its query finds nothing.

`regexp_extract(gp, '^G[0-9]+P([0-9]+)$', 1)` gives '' of `G1 P0`, which is no parity, as TRY_CAST gives nothing of 7,5.
Looked at is what has a digit, where the pattern finds something in a third of the different texts at least: in notes it
is sought, and not in each. What a coalesce has something else for, such as 0, is none such.
"""

from collections.abc import Callable, Iterator
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Lost, Seen
from consilium.data.catalogue import of_duckdb
from consilium.data.dropping import changed
from consilium.data.lineage import Lineage
from consilium.data.scopes import Scope, references
from consilium.data.tree import Node, Undecided, parsed, rebuilt, signed, tried, written

BY = "regexp_extract"
SHARE = 3
"""A pattern finds something in one of so many different texts at least."""
PICK = (
    "match_pick(made, x, instead)",
    "CASE WHEN coalesce(made, '') = '' AND regexp_matches(CAST(x AS VARCHAR), '[0-9]') THEN instead ELSE made END",
)
INSTEAD = ("0", "99")
UNKNOWN = Seen(
    "text-order",
    "whether a regexp_extract of source.query finds nothing in filled cells could not be found out",
    "count the cells in which it finds nothing: WHERE v <> '' AND regexp_extract(v, ...) = ''",
    unknown=True,
)  # fmt: skip


def checked(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer], once_more: Anew
            ) -> tuple[Seen | Lost, ...]:  # fmt: skip
    """What of the answer is lost so; or that nobody knows.

    Args:    tables: a connection of DuckDB, on which a macro is made.   ask: answers a query.
    """
    if BY not in query.casefold():
        return ()
    found = once_more.found(lambda: unmatched(tables, query, answer, ask), UNKNOWN)
    return (found,) if found is not None else ()


def unmatched(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer]) -> Lost | None:
    """The columns that would be others, in how many rows. Raises: Undecided; and what DuckDB raises."""
    tree, lineage = parsed(tables, query), Lineage(tables, query, of_duckdb(tables))
    several = {signed(node) for scope in lineage.scopes()
               for node in _extracts({key: value for key, value in scope.select.items() if key != "cte_map"})
               if _at_times(tables, lineage, node, scope)}  # fmt: skip
    if not several:
        return None
    tables.execute(f"CREATE OR REPLACE TEMP MACRO {PICK[0]} AS {PICK[1]}")
    names, rows, plain = set[str](), 0, ask(written(tables, tried(tree)))
    for instead in INSTEAD:
        pattern = f"SELECT match_pick(1, 2, '{instead}')"
        (pick,) = parsed(tables, pattern)["statements"][0]["node"]["select_list"]

        def change(was: Node, made: Node, pick: Node = pick) -> Node:
            if made.get("function_name") != BY or signed(was) not in several:
                return made
            of, said = made["children"][0], pick["children"][2]
            return {**pick, "children": [{**made, "alias": ""}, of, said], "alias": made.get("alias", "")}

        others, count = changed(plain, ask(written(tables, tried(rebuilt(tree, change)))))
        names, rows = names | others, max(rows, count)
    return Lost(tuple(sorted(names)), rows, len(answer[1]), (BY,)) if names else None


def _extracts(value: Any) -> Iterator[Node]:
    """Such functions of a SELECT, but for those of queries in it, and where something else stands in for nothing."""
    if isinstance(value, dict):
        if value.get("type") == "OPERATOR_COALESCE" and any(map(_constant, value["children"])):
            return
        if value.get("function_name") == BY and len(value["children"]) > 1 and _constant(value["children"][1]):
            yield value
        value = [inner for key, inner in value.items() if key != "subquery"]
    for inner in value if isinstance(value, list) else ():
        yield from _extracts(inner)


def _constant(node: Node) -> bool:
    return node.get("class") == "CONSTANT" and not node["value"]["is_null"]


def _at_times(tables: Any, lineage: Lineage, node: Node, scope: Scope) -> bool:
    """Whether a pattern finds something in many texts of what it reads, and nothing in others."""
    (found,) = parsed(tables, f"SELECT {BY}(v, 'p')")["statements"][0]["node"]["select_list"]
    (v,) = references(found)
    tree = parsed(tables, "SELECT 1")
    one = {**node, "alias": "", "children": [v, *node["children"][1:]]}
    (statement,) = tree["statements"]
    item = {**tree, "statements": [{**statement, "node": {**statement["node"], "select_list": [one]}}]}
    said = written(tables, item).removeprefix("SELECT ")
    hits, misses = 0, 0
    try:
        for origin in lineage.origins(node["children"][0], scope):
            asked = lineage.asked(origin, where=lineage.kept(origin))
            counted = f"SELECT count(*) FILTER ({said} <> ''), count(*) FILTER ({said} = '') FROM ({asked}) AS o"  # noqa: S608
            there = tables.execute(f"{counted} WHERE regexp_matches(CAST(v AS VARCHAR), '[0-9]')").fetchone()
            hits, misses = hits + there[0], misses + there[1]
    except Undecided:
        return False
    return misses > 0 and hits * SHARE >= hits + misses
