"""Whether an answer hangs on which of several rows comes first that are equal in what a query orders by.

`row_number() OVER (PARTITION BY nr ORDER BY day) = 1` takes one of two rows of a day, and which is chance; so do
DISTINCT ON, ORDER BY with LIMIT, arg_min and arg_max. The query is asked twice, with what ties in order by all that
stands in its row, upwards and downwards. Rows that are equal in all of that make no difference. DuckDB is asked so, and
PostgreSQL and SQLite, as far as the query is understood.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue
from consilium.data.dropping import changed
from consilium.data.lineage import Lineage
from consilium.data.ordering import BY, ranged
from consilium.data.scopes import Scope, leaves, references, related
from consilium.data.tree import Node, column_of, name_of, parsed, written

PLACED = frozenset(("row_number", "first_value", "last_value", "nth_value", "lag", "lead", "ntile"))
"""Functions of a window whose value hangs on the place of a row among those that tie."""
SPOKEN = re.compile(rf"(?i)\b(?:{'|'.join(sorted(BY | PLACED))}|distinct\s+on|limit|order\s+by)\b")
WAYS = ("ASCENDING", "DESCENDING")
Name = tuple[str, ...]
RowsOf = Callable[[Node], tuple[Name, ...]]
MOST = 8
"""Places of a query of which it is asked by which of them the answer hangs."""
DIGITS = 9
"""Of numbers, that are compared: their sum hangs on the order in which they come, too."""
REMEDY = (
    "add to ORDER BY what decides, such as a version, an hour or the number of the record, and of arg_min and such "
    "take (day, CAST(number AS BIGINT)) as the key; or leave out the rows that do not count, by a condition"
)


def checked(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer], once_more: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """What of the answer is chance so; nothing where it is not found out soon.

    Args:    tables: a connection of DuckDB.   ask: answers a query.
    """
    if not SPOKEN.search(query):
        return ()
    found = once_more.found(lambda: tied(tables, query, answer, ask), None)
    return (found,) if found is not None else ()


def of_url(parser: Any, query: str, answer: Answer, ask: Callable[[str], Answer], known: Callable[[], Catalogue],
           once_more: Anew) -> tuple[Seen, ...]:  # fmt: skip
    """The same of PostgreSQL or SQLite. Args: parser: a connection of DuckDB.   known: the tables."""
    if not SPOKEN.search(query):
        return ()
    found = once_more.found(lambda: tied_in(parser, query, answer, ask, known()), None)
    return (found,) if found is not None else ()


def tied_in(parser: Any, query: str, answer: Answer, ask: Callable[[str], Answer], known: Catalogue) -> Seen | None:
    """The same. Raises: Undecided; and what the database raises."""
    lineage = Lineage(parser, query, known)
    within = {id(scope.select): tuple(_columns(known, scope)) for scope in lineage.scopes()}
    return _tied(parser, lineage.answer.query, answer, lambda node: ask(lineage.written(node)),
                 lambda select: within.get(id(select), ()))  # fmt: skip


def tied(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer]) -> Seen | None:
    """The columns that would be others, in how many rows. Raises: Undecided; and what DuckDB raises."""
    return _tied(tables, parsed(tables, query), answer, lambda tree: ask(written(tables, tree)), _whole)


def _tied(tables: Any, tree: Node, answer: Answer, ask: Callable[[Node], Answer], rows_of: RowsOf) -> Seen | None:
    every = Broken(tables, WAYS[0], rows_of)
    every.of(tree)

    def differ(only: Iterable[int]) -> tuple[set[str], int]:
        one, other = (ask(Broken(tables, way, rows_of, frozenset(only)).of(tree)) for way in WAYS)
        return changed((answer[0], _rounded(one)), (answer[0], _rounded(other)))

    if not every.places:
        return None
    names, rows = differ(range(len(every.places)))
    if not names:
        return None
    said = [", ".join(by) for by in every.places]
    if 1 < len(said) <= MOST:
        said = [by for at, by in enumerate(said) if differ((at,))[0]] or said
    who = "the rows" in names
    what = "there would be other rows" if who else f"these would have other values: {', '.join(sorted(names))}"
    words = (
        f"source.query takes one of several rows that are equal in {' and in '.join(dict.fromkeys(said))}, by which it "
        f"puts them in order: which one is chance, and with another one {what}"
    )
    return Seen("text-order", words, REMEDY, rows, 0 if who else len(answer[1]), tuple(sorted(names)))


def _rounded(answer: Answer) -> list[tuple[Any, ...]]:
    return [tuple(map(_plain, row)) for row in answer[1]]


def _plain(value: Any) -> Any:
    try:
        return f"{float(value):.{DIGITS}g}" if isinstance(value, float | str) else value
    except ValueError:
        return value


class Broken:
    """What writes a query anew, with what ties in one order.

    Args:    way: of `WAYS`.   rows_of: all that stands in a row of a SELECT.   only: the places at which it does so,
             by their numbers; None: all.
    """

    def __init__(self, tables: Any, way: str, rows_of: RowsOf, only: frozenset[int] | None = None) -> None:
        self.places = list[list[str]]()
        """By what is put in order at each."""
        self._way, self._rows_of, self._only = way, rows_of, only
        first = (
            "SELECT first(1 ORDER BY 2 ASC, 3 DESC) FILTER (WHERE 4 IS NOT NULL AND 5 IS NOT NULL) FROM t ORDER BY 1"
        )
        (statement,) = parsed(tables, first)["statements"]
        self._first, self._modifier = statement["node"]["select_list"][0], statement["node"]["modifiers"][0]

    def of(self, value: Any, rows: tuple[Name, ...] = ()) -> Any:
        """A part of the query. rows: names of all that stands in a row of FROM, where each row of it is one."""
        if isinstance(value, list):
            return [self.of(one, rows) for one in value]
        if not isinstance(value, dict):
            return value
        if value.get("type") == "SELECT_NODE":
            rows = () if _grouped(value) else self._rows_of(value)
        made = {key: self.of(inner, rows) for key, inner in value.items()}
        if value.get("type") == "SELECT_NODE" and rows:
            made["modifiers"] = self._select(made["modifiers"], rows)
        if made.get("class") == "WINDOW" and made["function_name"] in PLACED and made["orders"] and not ranged(made):
            made["orders"] += self._ties(rows) if rows and self._here(made["orders"]) else []
        if made.get("class") == "FUNCTION" and not made.get("distinct"):
            return self._aggregate(made)
        return made

    def _select(self, modifiers: list[Node], rows: tuple[Name, ...]) -> list[Node]:
        """Of DISTINCT ON, and of LIMIT with ORDER BY."""
        kinds = {one["type"]: one for one in modifiers}
        on = (kinds.get("DISTINCT_MODIFIER") or {}).get("distinct_on_targets") or []
        limited = "LIMIT_MODIFIER" in kinds and "DISTINCT_MODIFIER" not in kinds
        order = kinds.get("ORDER_MODIFIER")
        if not on and not (limited and order):
            return modifiers
        orders = order["orders"] if order else []
        if not self._here(orders or [{"expression": one} for one in on]):
            return modifiers
        last = {**self._modifier, "orders": [*orders, *self._ties(rows)]}
        if order is None:
            return [*modifiers, last]
        return [last if one is order else one for one in modifiers]

    def _aggregate(self, made: Node) -> Node:
        """Of arg_min and such, and of functions with an order of their own."""
        given, name = made["children"], made["function_name"]
        orders = (made.get("order_bys") or {}).get("orders") or []
        if orders and given and self._here(orders):
            more = {**orders[0], "type": self._way, "null_order": "ORDER_DEFAULT", "expression": given[0]}
            return {**made, "order_bys": {**made["order_bys"], "orders": [*orders, more]}}
        if name not in BY or len(given) != 2 or orders or not self._here([{"expression": given[1]}]):
            return made
        value, by = ({**one, "alias": ""} for one in given)
        end, last = self._first["order_bys"]["orders"]
        end = {**end, "type": WAYS["max" in name], "expression": by}
        there, known = self._first["filter"]["children"]
        held = [{**there, "children": [by]}, *([] if name.endswith("_null") else [{**known, "children": [value]}])]
        held += [made["filter"]] if made.get("filter") else []
        orders = [end, {**last, "type": self._way, "expression": value}]
        return {
            **self._first, "alias": made.get("alias", ""), "children": [value],
            "order_bys": {**self._first["order_bys"], "orders": orders},
            "filter": {**self._first["filter"], "children": held} if len(held) > 1 else held[0],
        }  # fmt: skip

    def _here(self, orders: list[Node]) -> bool:
        """Whether what ties is put in order at this place, the next one."""
        at = len(self.places)
        names = (".".join(ref["column_names"]) for one in orders for ref in references(one["expression"]))
        self.places.append(list(dict.fromkeys(names)) or ["nothing"])
        return self._only is None or at in self._only

    def _ties(self, rows: tuple[Name, ...]) -> list[Node]:
        (pattern,) = self._modifier["orders"]
        return [{**pattern, "type": self._way, "expression": {**column_of("", one[-1]), "column_names": list(one)}}
                for one in rows]  # fmt: skip


def _grouped(select: Node) -> bool:
    """Whether its rows are of groups."""
    return bool(select["group_expressions"]) or select.get("aggregate_handling") != "STANDARD_HANDLING"


def _whole(select: Node) -> tuple[Name, ...]:
    """Names of what stands in FROM, of which DuckDB takes each for a whole row."""
    return tuple((one.alias,) for one in related(select["from_table"], {})
                 if (one.table or one.made) and not one.alias.startswith("unnamed "))  # fmt: skip


def _columns(known: Catalogue, scope: Scope) -> Iterator[Name]:
    """Names of all columns of what stands in FROM, as far as they are known."""
    for one in related(scope.select["from_table"], scope.within):
        if one.table is not None:
            yield from ((one.alias, called[1]) for (table, _), called in known.columns.items() if table == one.table)
        elif one.made is not None and not one.alias.startswith("unnamed "):
            yield from ((one.alias, name) for name in one.made.names or _given(known, leaves(one.made, None)[0]))


def _given(known: Catalogue, scope: Scope) -> Iterator[str]:
    """Names of the columns that a SELECT gives."""
    for one in scope.select["select_list"]:
        if one.get("class") == "STAR":
            yield from (name[-1] for name in _columns(known, scope))
        elif name := one.get("alias") or name_of(one):
            yield name
