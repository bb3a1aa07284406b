"""Whether the answer to a query hangs on numbers, or days as 31.03.2024, that it compares as text.

As text, 9 is more than 10, and 31.01.2024 later than 01.02.2024. What DuckDB parses of a query is written anew:
wherever texts are compared (`<`, BETWEEN, ORDER BY, max, min, arg_max and such) by a key of each. It is asked with keys
by which numbers and days are in order, and, where the answer is another one, with keys that are the text: whether these
two differ tells it. What is cast before is no text any more, and in order in both.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb

from consilium.core.errors import DataUnusable
from consilium.data.anew import Anew
from consilium.data.asking import Answer, named
from consilium.data.base import Seen
from consilium.data.catalogue import of_duckdb
from consilium.data.lineage import Lineage
from consilium.data.mapping import normal
from consilium.data.scopes import own, references
from consilium.data.tree import Node, Undecided, parsed, written

NUMBER = r"\s*\+?(-?[0-9]+(?:[.,][0-9]+)?(?:[eE][-+]?[0-9]{1,2})?)(?:\s*[^0-9\s.,:/-][^:]{0,11})?\s*"
"""A number, and what may stand behind it: a unit, or the letter of a grade, as in `2B`."""
DAY = r"\s*([0-9]{1,2})[./-]([0-9]{1,2})[./-]([0-9]{4}|[0-9]{2})(?:[ T].*)?"
MONTH_FIRST = r"\s*[0-9]{1,2}[./-](?:1[3-9]|[23][0-9])[./-](?:[0-9]{4}|[0-9]{2})(?:[ T].*)?"
CENTURY = 69
"""Of two digits of a year, those of 1900 begin here, as `strptime` has it."""
LESS = {
    "COMPARE_LESSTHAN": ("order_less", False), "COMPARE_GREATERTHAN": ("order_less", True),
    "COMPARE_LESSTHANOREQUALTO": ("order_at_most", False), "COMPARE_GREATERTHANOREQUALTO": ("order_at_most", True),
}  # fmt: skip
"""What comparisons are written as, and whether the sides change places."""
SIGNS = {"COMPARE_LESSTHAN": "<", "COMPARE_GREATERTHAN": ">", "COMPARE_LESSTHANOREQUALTO": "<=",
         "COMPARE_GREATERTHANOREQUALTO": ">="}  # fmt: skip
Place = tuple[str, list[Node]]
"""What compares, and columns of what is compared."""
ENDS = {"max": "arg_max", "min": "arg_min"}
BY = frozenset(("arg_max", "arg_min", "argmax", "argmin", "max_by", "min_by", "arg_max_null", "arg_min_null"))
"""Of two columns, the one by the end of the other."""
OF_TWO = {"greatest": "order_greatest", "least": "order_least"}
SORTED = frozenset((
    "median", "quantile", "quantile_disc", "list_sort", "array_sort", "list_reverse_sort", "array_reverse_sort",
    "list_max", "list_min",
))  # fmt: skip
"""What sorts by itself: of text it is not found out."""
MACROS = {
    "order_key(x)":
        "CASE WHEN x IS NULL THEN NULL ELSE struct_pack(n := CASE WHEN typeof(x) = 'VARCHAR' "
        "THEN order_rank(CAST(x AS VARCHAR)) WHEN typeof(x) LIKE '%VARCHAR%' THEN error('text within') "
        "ELSE CAST(0 AS DOUBLE) END, t := x) END",
    "order_text(x)":
        "CASE WHEN x IS NULL THEN NULL "
        "ELSE create_sort_key(order_rank(x), 'ASC NULLS LAST', x, 'ASC NULLS LAST') END",
    "order_less(a, b)":
        "CASE WHEN typeof(a) = 'VARCHAR' AND typeof(b) = 'VARCHAR' "
        "THEN order_text(CAST(a AS VARCHAR)) < order_text(CAST(b AS VARCHAR)) ELSE a < b END",
    "order_at_most(a, b)":
        "CASE WHEN typeof(a) = 'VARCHAR' AND typeof(b) = 'VARCHAR' "
        "THEN order_text(CAST(a AS VARCHAR)) <= order_text(CAST(b AS VARCHAR)) ELSE a <= b END",
    "order_between(x, a, b)":
        "CASE WHEN typeof(x) = 'VARCHAR' AND typeof(a) = 'VARCHAR' AND typeof(b) = 'VARCHAR' "
        "THEN order_text(CAST(a AS VARCHAR)) <= order_text(CAST(x AS VARCHAR)) "
        "AND order_text(CAST(x AS VARCHAR)) <= order_text(CAST(b AS VARCHAR)) ELSE x BETWEEN a AND b END",
    "order_greatest(a, b)":
        "CASE WHEN typeof(a) = 'VARCHAR' AND typeof(b) = 'VARCHAR' AND a IS NOT NULL AND b IS NOT NULL "
        "THEN CASE WHEN order_text(CAST(a AS VARCHAR)) < order_text(CAST(b AS VARCHAR)) THEN b ELSE a END "
        "ELSE greatest(a, b) END",
    "order_least(a, b)":
        "CASE WHEN typeof(a) = 'VARCHAR' AND typeof(b) = 'VARCHAR' AND a IS NOT NULL AND b IS NOT NULL "
        "THEN CASE WHEN order_text(CAST(b AS VARCHAR)) < order_text(CAST(a AS VARCHAR)) THEN b ELSE a END "
        "ELSE least(a, b) END",
    "order_known(x)": "CASE WHEN typeof(x) IN ('VARCHAR', 'VARCHAR[]') THEN error('sorts text') ELSE x END",
}  # fmt: skip


AS_TEXT = ", by which 9 is more than 10, and 31.01.2024 later than 01.02.2024"
CAST = (
    "within max, min, greatest, arg_max, arg_min, ORDER BY, < and such write TRY_CAST(... AS DOUBLE), where needed of "
    "replace(..., ',', '.'), and of days strptime(..., '%d.%m.%Y')"
)


@dataclass(frozen=True)
class Slip:
    """A mistake that a query may make: what it does, how to mend it, and that nobody could find it out."""

    words: str
    remedy: str
    doubt: str


TEXT = Slip(
    f"compares numbers or days as text{AS_TEXT}", CAST,
    "whether source.query compares numbers or days as text, by which 9 is more than 10, could not be found out",
)  # fmt: skip


def checked(find: Callable[[], list[str]], once_more: Anew, slip: Slip,
            place: Callable[[], str] = str) -> tuple[Seen, ...]:  # fmt: skip
    """That nothing of an answer is so by this mistake; a doubt where nobody knows.

    Args:    find: columns that would be others.   place: of the query, in words, at which it is so; empty: not known.
    Raises:  DataUnusable.
    """
    found = once_more.found(find, None)
    if found is None:
        return (Seen("text-order", slip.doubt, f"look whether it does: {slip.remedy}", unknown=True),)
    if found:
        where = once_more.found(place, "")
        where = f", in {where}" if where else ""
        raise DataUnusable(
            f"source.query {slip.words}{where}: other values would stand in {', '.join(found)}", slip.remedy
        )
    return ()


def others(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer]) -> list[str]:
    """Columns of the answer that would be others if numbers and days were compared as such; `the rows`: there would
    be another number of them.

    Args:    tables: a connection of DuckDB, on which macros are made for it alone.   ask: answers a query.
    Raises:  Undecided.   duckdb.InterruptException.
    """
    try:
        written = anew(tables, query)
        if written is None:
            return []
        _define(tables, _rank(_month_first(tables, query)))
        right = ask(written)
        if not differing(answer, right):
            return []
        _define(tables, "CAST('Infinity' AS DOUBLE)")  # of equal rank either may come first: as texts they decide
        return differing(ask(written), right, answer[0])
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Undecided from error


def place(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer]) -> str:
    """Where the query does so, in words, such as `greatest of salle.PAS_H0`; of several places, at one of them. Empty:
    at no place alone, as of `a < b AND c < d`, where both would have to be others.

    Args:    as of `others`, after it.
    Raises:  Undecided; and what DuckDB raises.
    """

    def differs(at: Sequence[int]) -> bool:
        sql = _keyed(tables, query, frozenset(at))[1]
        return sql is not None and bool(differing(answer, ask(sql)))

    every, _ = _keyed(tables, query)
    _define(tables, _rank(_month_first(tables, query)))
    left = range(len(every))
    while len(left) > 1:
        half = len(left) // 2
        left = left[:half] if differs(left[:half]) else left[half:]
    if not differs(left):  # to halve them takes it that one place suffices
        return ""
    what, refs = every[left[0]]
    names = dict.fromkeys(_called(tables, query, refs))
    return f"{what} of {', '.join(names)}" if names else what


def differing(one: Answer, other: Answer, names: list[str] | None = None) -> list[str]:
    """Names of the columns in which two answers differ, in whatever order their rows stand."""
    if len(one[1]) != len(other[1]):
        return ["the rows"]
    pairs = zip(names or one[0], _columns(one[1]), _columns(other[1]))
    return [name for name, here, there in pairs if here != there]


def _columns(rows: list[tuple[Any, ...]]) -> list[list[str]]:
    return [sorted("" if value is None else normal(str(value)) for value in column) for column in zip(*rows)]


@lru_cache(maxsize=65536)
def rank(text: str, month_first: bool = False) -> float:
    """By which numbers and days are in order; of other texts, whether they stand before or after all numbers.

    >>> [rank(text) for text in ("7,5", "10.5", "-9", "2B", "31.03.2024", "1/4/24", "2024-03-31", "high", "?")]
    [7.5, 10.5, -9.0, 2.0, 20240331.0, 20240401.0, inf, inf, inf]
    """
    if number := re.fullmatch(NUMBER, text, re.ASCII):
        return float(number[1].replace(",", "."))
    if day := re.fullmatch(DAY, text, re.ASCII):
        first, second, year = map(int, day.groups())
        year += (2000 if year < CENTURY else 1900) if year < 100 else 0
        return float(year * 10000 + (first * 100 + second if month_first else second * 100 + first))
    return float("-inf") if text < "0" else float("inf")


def _rank(month_first: bool) -> str:
    """The same in SQL."""
    first, second, year = (f"TRY_CAST(regexp_extract(x, '^{DAY}$', {at}) AS INTEGER)" for at in (1, 2, 3))
    day, month = (second, first) if month_first else (first, second)
    century = f"CASE WHEN {year} >= 100 THEN 0 WHEN {year} < {CENTURY} THEN 2000 ELSE 1900 END"
    return (
        f"CASE WHEN regexp_full_match(x, '{NUMBER}') "
        f"THEN TRY_CAST(replace(regexp_extract(x, '^{NUMBER}$', 1), ',', '.') AS DOUBLE) "
        f"WHEN regexp_full_match(x, '{DAY}') THEN CAST(({year} + {century}) * 10000 + {month} * 100 + {day} AS DOUBLE) "
        "WHEN x < '0' THEN CAST('-Infinity' AS DOUBLE) ELSE CAST('Infinity' AS DOUBLE) END"
    )


def _define(tables: Any, ranked: str) -> None:
    for signature, body in {"order_rank(x)": ranked, **MACROS}.items():
        tables.execute(f"CREATE OR REPLACE TEMP MACRO {signature} AS {body}")


def _month_first(tables: Any, query: str) -> bool:
    """Whether days of the query's tables have the month first, as some show whose second number is no month."""
    asked = "SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE data_type = 'VARCHAR'"
    columns: dict[str, list[str]] = {}
    used = frozenset(_tables(parsed(tables, query)))
    for schema, table, column in tables.execute(asked).fetchall():
        if table.casefold() in used:
            shows = f"bool_or(regexp_full_match({named(column)}, '{MONTH_FIRST}'))"
            columns.setdefault(f"{named(schema)}.{named(table)}", []).append(shows)
    return any(
        any(tables.execute(f"SELECT {', '.join(each)} FROM {table}").fetchone())  # noqa: S608  names are quoted
        for table, each in columns.items()
    )


def _tables(value: Any) -> Iterator[str]:
    """Names of the tables of a parsed query."""
    if isinstance(value, dict) and value.get("type") == "BASE_TABLE":
        yield value["table_name"].casefold()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _tables(inner)


def anew(tables: Any, query: str) -> str | None:
    """The query with keys, as SQL; None where it compares nothing. Raises: Undecided, duckdb.Error."""
    return _keyed(tables, query)[1]


def _keyed(tables: Any, query: str, only: frozenset[int] | None = None) -> tuple[list[Place], str | None]:
    """The places at which it compares, and the query with keys at all of them, or at some."""
    tree = parsed(tables, query)
    pattern = parsed(tables, "SELECT order_key(1)")["statements"][0]["node"]["select_list"][0]
    (statement,) = tree["statements"]
    keyed = Keyed(pattern, only)
    made = keyed.of(_unordered(statement["node"]))
    if made == _unordered(statement["node"]):
        return keyed.places, None
    return keyed.places, written(tables, {**tree, "statements": [{**statement, "node": made}]})


def _called(tables: Any, query: str, refs: Iterable[Node]) -> Iterator[str]:
    """Columns of tables that columns of a query are, or else as they are called there."""
    lineage = Lineage(tables, query, of_duckdb(tables))
    stand = {one.get("query_location"): (one, scope) for scope in lineage.scopes() for one in own(scope.select)
             if one.get("class") == "COLUMN_REF"}  # fmt: skip
    for ref in refs:
        try:
            origins = lineage.origins(*stand[ref.get("query_location")])
        except (Undecided, KeyError):
            origins = []
        yield from [".".join(one) for origin in origins for one in origin.columns] or [".".join(ref["column_names"])]


def _unordered(node: Node) -> Node:
    """A whole query without its order, which decides nothing where all of its rows are taken."""
    kinds = {one["type"] for one in node["modifiers"]}
    if kinds - {"ORDER_MODIFIER"}:
        return node
    return {**node, "modifiers": []}


class Keyed:
    """What writes a parsed query anew. pattern: a call of a function, as it is parsed.   only: at these places."""

    def __init__(self, pattern: Node, only: frozenset[int] | None = None) -> None:
        self.places = list[Place]()
        self._pattern, self._only = pattern, only

    def of(self, value: Any) -> Any:
        """A part of the query, with all that is in it. Raises: Undecided."""
        if isinstance(value, list):
            return [self.of(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value.get("ref_type") == "ASOF" or (value.get("class") == "SUBQUERY" and _compares(value)):
            raise Undecided
        if value.get("type") == "SELECT_NODE":
            value = {**value, "modifiers": list(_named(value))}
        made = {key: self.of(inner) for key, inner in value.items()}
        for orders in ("orders", "arg_orders"):
            by = [one["expression"] for one in made.get(orders) or ()]
            if by and not ranged(made) and self._here("ORDER BY", by):
                made[orders] = [
                    {**one, "expression": self._call("order_key", one["expression"])} for one in made[orders]
                ]
        return self._alone(made)

    def _alone(self, made: Node) -> Node:
        """One part whose inner parts are written."""
        if made.get("class") == "COMPARISON" and made["type"] in LESS:
            name, turned = LESS[made["type"]]
            sides = (made["right"], made["left"]) if turned else (made["left"], made["right"])
            here = self._here(SIGNS[made["type"]], sides)
            return self._call(name, *sides, alias=made.get("alias", "")) if here else made
        if made.get("class") == "BETWEEN" and self._here("BETWEEN", (made["input"], made["lower"], made["upper"])):
            return self._call("order_between", made["input"], made["lower"], made["upper"], alias=made.get("alias", ""))
        if made.get("class") in ("FUNCTION", "WINDOW"):
            return self._function(made)
        return made

    def _function(self, made: Node) -> Node:
        name, given = made.get("function_name", ""), made.get("children", [])
        compares = (given and name in (ENDS.keys() | SORTED)) or (len(given) > 1 and name in (BY | OF_TWO.keys()))
        if not compares or not self._here(name, given[1:2] if name in BY else given):
            return made
        if name in ENDS:
            children = [given[0], self._call("order_key", given[0]), *given[1:]]
            return {**made, "function_name": ENDS[name], "children": children}
        if name in BY:
            return {**made, "children": [given[0], self._call("order_key", given[1]), *given[2:]]}
        if name in OF_TWO:
            folded = given[0]
            for one in given[1:]:
                folded = self._call(OF_TWO[name], folded, one)
            return {**folded, "alias": made.get("alias", "")}
        return {**made, "children": [self._call("order_known", given[0]), *given[1:]]}

    def _here(self, what: str, of: Iterable[Node]) -> bool:
        """Whether keys are written at this place, the next one."""
        at = len(self.places)
        self.places.append((what, [ref for one in of for ref in references(one)]))
        return self._only is None or at in self._only

    def _call(self, name: str, *given: Node, alias: str = "") -> Node:
        plain = [{**copy.deepcopy(one), "alias": ""} for one in given]
        return {**copy.deepcopy(self._pattern), "function_name": name, "children": plain, "alias": alias}


def _compares(subquery: Node) -> bool:
    """Whether it is of `< ANY`, or such."""
    return subquery.get("subquery_type") == "ANY" and subquery.get("comparison_type") in LESS


def ranged(window: Node) -> bool:
    """Whether the order of a window is measured, as by RANGE BETWEEN 3 PRECEDING, which is none of text."""
    return any("EXPR" in str(window.get(end)) and "RANGE" in str(window.get(end)) for end in ("start", "end"))


def _named(select: Node) -> Iterator[Node]:
    """Modifiers of a SELECT, with an order by what its names and places stand for."""
    columns = select["select_list"]
    known = {one["alias"].casefold(): one for one in columns if one.get("alias")}
    for modifier in select["modifiers"]:
        if modifier["type"] == "ORDER_MODIFIER":
            orders = [{**one, "expression": _meant(one["expression"], columns, known)} for one in modifier["orders"]]
            modifier = {**modifier, "orders": orders}
        yield modifier


def _meant(by: Node, columns: list[Node], known: dict[str, Node]) -> Node:
    if by.get("class") == "COLUMN_REF" and len(by["column_names"]) == 1:
        return known.get(by["column_names"][0].casefold(), by)
    if by.get("class") == "STAR":
        raise Undecided
    if by.get("class") == "CONSTANT" and isinstance(place := by["value"].get("value"), int):
        before = columns[:place]
        if any(one.get("class") == "STAR" for one in before) or not 0 < place <= len(columns):
            raise Undecided
        return before[-1]
    return by
