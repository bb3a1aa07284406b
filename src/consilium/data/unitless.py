"""Which columns of an answer are made of the numbers of a table, and not of its column of units, though it has several.

A query that takes a laboratory's values and passes its units over gives mg/dL among mmol/L, each within its range.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import named
from consilium.data.base import UNIT, Seen
from consilium.data.catalogue import Catalogue, Column
from consilium.data.lineage import Lineage
from consilium.data.lookalikes import folded
from consilium.data.meeting import compared
from consilium.data.scopes import NUMBERS, OF_FIRST, Scope, references
from consilium.data.tree import Node, Undecided

NUMBER = re.compile(r"\s*[<>]?\s*-?\d+([.,]\d+)?\s*")
LOOKED = 200
"""Values by which a column is seen to be of numbers."""
MOST = 1000
"""Units that are looked at."""
DEEP = 40
REMEDY = (
    "convert each by a CASE of its unit, or leave out other units by a condition; all is well where something else "
    "tells the unit, such as the code"
)
UNKNOWN = "whether source.query looks at the units of the numbers that it takes could not be found out"


def checked(parser: Any, query: str, names: list[str], known: Callable[[], Catalogue], anew: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """A note of each table of which that is so; or that nobody knows of those where several units stand.

    Args:    parser: a connection of DuckDB.   names: columns of the answer.   known: the tables.
    """
    several = anew.found(lambda: mixed(known()), None)
    if several is None:
        return (_unknown(UNKNOWN),)
    if not several:
        return ()
    where = f"{UNKNOWN}: several stand in {' and '.join('.'.join(unit) for unit in several)}"
    return anew.found(lambda: tuple(unitless(parser, query, names, known(), several)), (_unknown(where),))


def _unknown(words: str) -> Seen:
    return Seen("text-order", words, f"look whether it does; else {REMEDY}", unknown=True)


def mixed(known: Catalogue) -> list[Column]:
    """Columns of units in which there are several."""
    return [unit for unit in sorted(known.columns.values()) if UNIT.search(unit[1]) and _several(known, unit)]


def unitless(parser: Any, query: str, names: list[str], known: Catalogue, several: list[Column]) -> Iterator[Seen]:
    """The notes. Raises: Undecided; and what the database raises."""
    if not several:
        return
    lineage = Lineage(parser, query, known)
    pairs = ((pair, scope) for scope in lineage.scopes() for pair in compared(lineage, scope))
    keys = {column for pair, scope in pairs if all(next(references(side), None) for side in pair)
            for side in pair for column in used(lineage, side, scope, whole=True)}  # fmt: skip
    keys |= {column for scope in lineage.scopes() for one in scope.select["group_expressions"]
             for column in used(lineage, one, scope)}  # fmt: skip
    for unit in several:
        if _given(lineage, unit):
            continue
        found, of = list[str](), set[str]()
        for name in names:
            at = lineage.defined(lineage.answer, name.casefold())
            given = {column for value, scope in at for column in used(lineage, value, scope)} - keys
            every = {column for value, scope in at for column in used(lineage, value, scope, whole=True)}
            beside = {column for column in given if column[0] == unit[0] and column != unit and _number(known, column)}
            if beside and unit not in every:
                found.append(name)
                of |= {".".join(column) for column in beside}
        if found:
            words = (
                f"{', '.join(found)}: source.query takes the numbers of {' and '.join(sorted(of))}, and does not look "
                f"at {'.'.join(unit)}, in which several units stand"
            )
            yield Seen("other-unit", words, REMEDY)


def _given(lineage: Lineage, unit: Column) -> bool:
    """Whether the answer has the units themselves, as where a table is read for another query."""
    try:
        at = lineage.defined(lineage.answer, unit[1].casefold())
    except Undecided:
        return False
    return any(unit in used(lineage, value, scope) for value, scope in at)


def _several(known: Catalogue, unit: Column) -> bool:
    table, name = map(named, unit)
    there = known.ask(f"SELECT DISTINCT {name} FROM {table} LIMIT {MOST}")  # noqa: S608  names as the database has them
    return len({folded(row[0]) for row in there if isinstance(row[0], str)} - {""}) > 1


def _number(known: Catalogue, column: Column) -> bool:
    """Whether a column is one of numbers, for the most part."""
    table, name = map(named, column)
    there = known.ask(f"SELECT {name} FROM {table} WHERE {name} IS NOT NULL LIMIT {LOOKED}")  # noqa: S608
    return 2 * sum(bool(NUMBER.fullmatch(str(row[0]))) for row in there) > len(there)


def used(lineage: Lineage, value: Node, scope: Scope, whole: bool = False, deep: int = 0) -> Iterator[Column]:
    """Columns of tables that a value is made of; whole: those of its conditions, too."""
    if deep > DEEP:
        raise Undecided
    for ref in list(references(value) if whole else _values(value)):
        try:
            for inner, at in lineage.behind(ref, scope):
                if isinstance(at, Scope):
                    yield from used(lineage, inner, at, whole, deep + 1)
                else:
                    yield at
        except Undecided:
            continue


def _values(node: Any) -> Iterator[Node]:
    """Columns in an expression whose values may be its value: none of a condition, nor by which it is chosen."""
    if isinstance(node, list):
        for one in node:
            yield from _values(one)
    if not isinstance(node, dict):
        return
    kind = node.get("class")
    if kind == "COLUMN_REF":
        yield node
    elif kind == "CASE":
        yield from _values([*(one["then_expr"] for one in node["case_checks"]), node["else_expr"]])
    elif kind in ("FUNCTION", "WINDOW"):
        name, given = node["function_name"], node["children"]
        if name not in NUMBERS or name in ("sum", "avg", "mean", "median", "total"):
            yield from _values(given[:1] if name in OF_FIRST else given)
    elif kind == "CAST":
        yield from _values(node["child"])
    elif kind == "OPERATOR" and node["type"] == "OPERATOR_COALESCE":
        yield from _values(node["children"])
