"""Whether keys by which a query joins two tables are written otherwise in each: it compares them sign by sign.

Elsewhere `1`, `1.0` and 00001 are one key, and so is a letter with an accent however it is written. A query of DuckDB
in which such keys do not meet gives patients without their values, and says nothing.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.asking import named
from consilium.data.choosing import key, spelt
from consilium.data.counts import hidden
from consilium.data.tree import Undecided, parsed

Column = tuple[str, str]
"""A table and its column."""
TENTHS = re.compile(r"(\+?[0-9]+)\.0*")
DOUBT = "whether keys that source.query joins are written alike in its tables could not be found out"
REMEDY = (
    "write both alike in the query: of whole numbers CAST(CAST(... AS DOUBLE) AS BIGINT), else nfc_normalize("
    "trim(...)); so also where other keys than those of patients are compared"
)


def apart(one: Iterable[str | None], other: Iterable[str | None]) -> int:
    """How many keys of two tables do not meet, though they are one key as people read them.

    A zero before a number is none where both spellings are in one table, as of codes that differ by it.

    >>> apart(["1", "2", "3"], ["1.0", "2"]), apart(["7"], ["007"]), apart(["1"], ["1", "1.0"])
    (1, 1, 1)
    >>> apart(["01", "1"], ["1"]), apart(["A"], ["a"]), apart(["1", "1.0"], ["1", "1.0"])
    (0, 0, 0)
    """
    here, there = (frozenset(text for text in texts if text is not None) for texts in (one, other))
    left, right = here - there, there - here
    found = {key(text) for text in left} & {key(text) for text in right}
    for some, every in ((left, there), (right, here)):
        alike = {_spelt(text) for text in some}
        found |= {key(text) for text in every if alike and _spelt(text) in alike}
    return len(found)


def _spelt(text: str) -> str:
    text = spelt(text)
    match = TENTHS.fullmatch(text)
    return match[1] if match else text


def check(tables: Any, query: str) -> tuple[str, ...]:
    """That all keys meet; a doubt where nobody knows. Raises: DataUnusable: some do not."""
    import duckdb  # not with the module, which the agent has before it forks

    try:
        pairs = sorted({(min(pair), max(pair)) for pair in _pairs(tables, query, _columns(tables))})
        counts = [apart(_values(tables, one), _values(tables, other)) for one, other in pairs]
    except duckdb.InterruptException:
        raise
    except (Undecided, duckdb.Error, KeyError, TypeError, ValueError, RecursionError):
        return (DOUBT,)
    for (one, other), count in zip(pairs, counts, strict=True):
        if count:
            names = " and ".join(".".join(column) for column in (one, other))
            raise DataUnusable(
                f"source.query compares {names}, in which {hidden(count)} keys are written otherwise, as 1 and 1.0, or "
                "letters with an accent in two ways: they do not meet",
                REMEDY,
            )
    return ()


def _values(tables: Any, column: Column) -> list[str]:
    asked = f"SELECT DISTINCT {named(column[1])} FROM {named(column[0])}"  # noqa: S608  names of the database itself
    return [row[0] for row in tables.execute(asked).fetchall()]


def _columns(tables: Any) -> dict[Column, Column]:
    """Columns of text, by their names in small letters."""
    found = tables.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE data_type = 'VARCHAR' AND NOT internal"
    )
    return {(table.casefold(), column.casefold()): (table, column) for table, column in found.fetchall()}


def _pairs(tables: Any, query: str, columns: dict[Column, Column]) -> Iterator[tuple[Column, Column]]:
    """Columns of different tables that a query compares for equality."""
    tree = parsed(tables, query)
    nodes = list(_nodes(tree))
    alias, meant = dict[str, str](), dict[str, set[str]]()
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            alias[(node["alias"] or node["table_name"]).casefold()] = node["table_name"].casefold()
        if node.get("class") == "COLUMN_REF" and node.get("alias"):
            meant.setdefault(node["alias"].casefold(), set()).add(node["column_names"][-1].casefold())

    def of(names: list[str]) -> set[Column]:
        name = names[-1].casefold()
        exact = (alias.get(names[-2].casefold(), "") if len(names) > 1 else "", name)
        if exact in columns:
            return {columns[exact]}
        all_names = {name, *meant.get(name, ())}
        return {column for (table, one), column in columns.items() if one in all_names and table in alias.values()}

    for one, other in itertools.chain.from_iterable(map(_compared, nodes)):
        yield from (pair for pair in itertools.product(of(one), of(other)) if pair[0][0] != pair[1][0])


def _compared(node: dict[str, Any]) -> Iterator[tuple[list[str], list[str]]]:
    """Names of columns that a part of a query compares for equality."""
    sides = list[Any]()
    if node.get("class") == "COMPARISON" and node.get("type") == "COMPARE_EQUAL":
        sides = [node["left"], node["right"]]
    elif node.get("subquery_type") == "ANY" and node.get("comparison_type") == "COMPARE_EQUAL":
        sides = [node["child"], *node["subquery"]["node"].get("select_list", [])]
    if len(sides) == 2 and all(one and one.get("class") == "COLUMN_REF" for one in sides):
        yield sides[0]["column_names"], sides[1]["column_names"]
    yield from (([name], [name]) for name in node.get("using_columns") or ())


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _nodes(inner)
