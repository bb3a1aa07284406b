"""The SELECTs of a query, and what each of them reads: tables, or other queries, by the names that it gives them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from consilium.data.tree import Node, Undecided, parts

OF_FIRST = frozenset((
    "any_value", "min", "max", "first", "last", "arbitrary", "mode", "arg_min", "arg_max", "argmin", "argmax", "min_by",
    "max_by", "arg_min_null", "arg_max_null", "first_value", "last_value", "lag", "lead", "nth_value",
))  # fmt: skip
"""Functions whose value is one of those that their first argument has."""
NUMBERS = frozenset((
    "count", "count_star", "sum", "total", "avg", "mean", "median", "row_number", "rank", "dense_rank", "ntile",
    "bool_or", "bool_and", "stddev", "date_diff", "date_sub",
))  # fmt: skip
"""Functions whose value is no text of a table."""
RECURSIVE = "RECURSIVE_CTE_NODE"
"""Of WITH RECURSIVE, a UNION of rows to begin with, and of those that each turn makes of those before."""
OF_MANY = frozenset(("string_agg", "group_concat", "listagg", "list", "array_agg", "histogram"))


@dataclass(frozen=True)
class Made:
    """A query within the query. within: what it sees of WITH.   names: of its columns, where they are given apart.

    again: whether it stands for the rows that a recursion made before, as its own second part sees them.
    """

    query: Node
    within: Mapping[str, "Made"]
    names: tuple[str, ...] = ()
    entry: Node | None = None
    again: bool = False


@dataclass(frozen=True)
class Scope:
    """One SELECT. outer: the one in whose expressions it stands."""

    select: Node
    within: Mapping[str, Made]
    outer: "Scope | None" = None


@dataclass(frozen=True)
class Relation:
    """What stands in FROM: a table, by its name in small letters, or a query; or neither, as of a function."""

    alias: str
    node: Node
    table: str | None = None
    made: Made | None = None


def references(value: Any) -> Iterator[Node]:
    """Columns of an expression, but for those of queries in it."""
    if isinstance(value, dict):
        if value.get("class") == "COLUMN_REF":
            yield value
            return
        if value.get("class") == "SUBQUERY":
            yield from references(value.get("child"))
            return
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


def own(select: Node) -> Iterator[Node]:
    """Parts of a SELECT, each before those within it, but for those of queries in it."""
    yield from _own({key: value for key, value in select.items() if key != "cte_map"})


def _own(value: Any) -> Iterator[Node]:
    if isinstance(value, dict):
        yield value
        value = [inner for key, inner in value.items() if key != "subquery"]
    for inner in value if isinstance(value, list) else ():
        yield from _own(inner)


def sight(query: Node, within: Mapping[str, Made]) -> dict[str, Made]:
    """What a query sees of WITH: its own, and what is seen around it."""
    seen = dict(within)
    for one in query.get("cte_map", {}).get("map", ()):
        entry, name = one["value"], one["key"].casefold()
        if name in seen:
            raise Undecided  # two of one name
        seen[name] = Made(entry["query"]["node"], dict(seen), tuple(entry.get("aliases") or ()), entry)
    return seen


def every_select(query: Node, within: Mapping[str, Made], outer: Scope | None) -> Iterator[Scope]:
    """All SELECTs of a query, those of WITH first."""
    seen = sight(query, within)
    for made in list(seen.values())[len(within) :]:
        yield from every_select(made.query, made.within, None)
    if query["type"] != "SELECT_NODE":
        beside = _turned(Made(query, within), seen)
        for side, there in (("left", seen), ("right", beside)):
            if isinstance(query.get(side), dict):
                yield from every_select(query[side], there, outer)
        return
    scope = Scope(query, seen, outer)
    yield scope
    for key, value in query.items():
        if key != "cte_map":
            for node in _queries(value):
                yield from every_select(node, seen, scope)


def _queries(value: Any) -> Iterator[Node]:
    """The next queries within a part of one."""
    if isinstance(value, dict):
        if isinstance(value.get("subquery"), dict):
            yield value["subquery"]["node"]
            yield from _queries(value.get("child"))
            return
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _queries(inner)


def related(node: Node, within: Mapping[str, Made]) -> Iterator[Relation]:
    """What stands in a FROM."""
    match node["type"]:
        case "JOIN":
            yield from related(node["left"], within)
            yield from related(node["right"], within)
        case "BASE_TABLE":
            name = node["table_name"].casefold()
            alias = (node["alias"] or name).casefold()
            made = None if node.get("schema_name") else within.get(name)
            if made is not None:
                names = tuple(node.get("column_name_alias") or ()) or made.names
                yield Relation(alias, node, made=replace(made, names=names))
            else:
                yield Relation(alias, node, None if node.get("column_name_alias") else name)
        case "SUBQUERY":
            made = Made(node["subquery"]["node"], within, tuple(node.get("column_name_alias") or ()))
            yield Relation(node["alias"].casefold() or f"unnamed {id(node)}", node, made=made)
        case "EMPTY":
            return
        case _:
            yield Relation(str(node.get("alias", "")).casefold(), node)


def leaves(made: Made, outer: Scope | None) -> list[Scope]:
    """The SELECTs of which a query is made by UNION or by recursion. Raises: Undecided: it is made otherwise."""
    seen, kind = sight(made.query, made.within), made.query["type"]
    if kind == "SELECT_NODE":
        return [Scope(made.query, seen, outer)]
    if kind != RECURSIVE and (kind != "SET_OPERATION_NODE" or made.query.get("setop_type") != "UNION"):
        raise Undecided
    sides = (("left", seen), ("right", _turned(made, seen)))
    return [scope for side, there in sides for scope in leaves(Made(made.query[side], there), outer)]


def _turned(made: Made, seen: Mapping[str, Made]) -> Mapping[str, Made]:
    """What the second part of a query sees: of a recursion its own rows, too, as two turns make them.

    So a column that each turn takes from another one is followed, as of numbers that were merged again and again.
    """
    query = made.query
    if query["type"] != RECURSIVE:
        return seen
    entry = {"aliases": query["aliases"], "query": {"node": query, "named_param_map": []},
             "materialized": "CTE_MATERIALIZE_DEFAULT", "key_targets": query["key_targets"]}  # fmt: skip
    node, within = (query["left"], seen) if made.again else (query, made.within)
    return {**seen, query["cte_name"].casefold(): Made(node, within, tuple(query["aliases"]), entry, again=True)}


def joints(node: Node) -> Iterator[Node]:
    """The joins of a FROM."""
    if node["type"] == "JOIN":
        yield node
        yield from joints(node["left"])
        yield from joints(node["right"])


APART = frozenset(("SUBQUERY", "WINDOW", "STAR", "LAMBDA"))
PADDED = {"LEFT": ("right",), "RIGHT": ("left",), "INNER": (), "SEMI": (), "ANTI": ()}
"""By kind of join: its sides of which it gives rows of NULL, too; of another, both."""
REJECT = frozenset(("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN", "COMPARE_IN",
                    "COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO"))  # fmt: skip


def conditions(select: Node, within: Mapping[str, Made]) -> Iterator[tuple[Node, set[str]]]:
    """What holds of all rows that a SELECT compares with others, without queries in it; and of which parts of FROM.

    `l.nr IS NULL` after LEFT JOIN is no such: it holds of who was compared in vain.
    """
    node = select["from_table"]
    yield from _held(select.get("where_clause"), node, [node], within)
    for join in joints(node):
        sides = {"INNER": ("left", "right"), "LEFT": ("right",), "RIGHT": ("left",)}.get(join["join_type"], ())
        yield from _held(join.get("condition"), join, [join[side] for side in sides], within)


def _held(condition: Node | None, node: Node, of: list[Node], within: Mapping[str, Made]
          ) -> Iterator[tuple[Node, set[str]]]:  # fmt: skip
    names = {one.alias for part in of for one in related(part, within)}
    below = joints(node) if of == [node] else (join for part in of for join in joints(part))
    padded = {one.alias for join in below for side in PADDED.get(join["join_type"], ("left", "right"))
              for one in related(join[side], within)}  # fmt: skip
    for one in _conjuncts(condition):
        values = one.get("children") or [one.get("left") or {}, one.get("right") or {}]
        plain = {value.get("class") for value in values} <= {"COLUMN_REF", "CONSTANT"}
        yield one, names if one.get("type") in REJECT and plain else names - padded


def _conjuncts(condition: Node | None) -> Iterator[Node]:
    if condition is not None and condition.get("type") == "CONJUNCTION_AND":
        for one in condition["children"]:
            yield from _conjuncts(one)
    elif condition is not None and not any(one.get("class") in APART for one in parts(condition)):
        pairs = equalities(condition) if condition.get("type") == "COMPARE_EQUAL" else ()
        yield from [{**condition, "left": one, "right": other} for one, other in pairs] or [condition]


def row(node: Node) -> list[Node]:
    """The parts of (a, b); else itself."""
    found: list[Node] = node["children"] if node.get("function_name") == "row" else [node]
    return found


def equalities(node: Node) -> list[tuple[Node, Node]]:
    """What a comparison compares: of (a, b) = (c, d) each of two pairs."""
    left, right = row(node["left"]), row(node["right"])
    return list(zip(left, right, strict=True)) if len(left) == len(right) else []


def needed_of(node: Node, needed: set[str], within: Mapping[str, Made]) -> Node:
    """FROM without the joins of which no column is needed."""
    if node["type"] != "JOIN":
        return node
    sides = [side for side in ("left", "right")
             if needed & {one.alias for one in related(node[side], within)}]  # fmt: skip
    if len(sides) == 1:
        return needed_of(node[sides[0]], needed, within)
    return {**node, **{side: needed_of(node[side], needed, within) for side in sides}}


def relaxed(node: Node, within: Mapping[str, Made], sub: Node) -> Node:
    """FROM, whose first part is there with all its rows. sub: that of a query within."""
    if node["type"] == "JOIN":
        kind = "LEFT" if node["join_type"] == "INNER" else node["join_type"]
        return {**node, "join_type": kind, "left": relaxed(node["left"], within, sub)}
    (relation,) = related(node, within)
    made = relation.made
    if made is None or made.query["type"] != "SELECT_NODE" or made.names or made.again:
        return {**node, "sample": None}
    select = made.query
    if any(one.get("ref_type") not in (None, "REGULAR") for one in joints(select["from_table"])):
        return node
    inner = {**select, "where_clause": None, "having": None, "qualify": None, "modifiers": [], "sample": None,
             "from_table": relaxed(select["from_table"], sight(select, made.within), sub)}  # fmt: skip
    return {**sub, "alias": relation.alias, "subquery": {**sub["subquery"], "node": inner}}
