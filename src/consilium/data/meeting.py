"""Whether keys by which a query joins two tables are written otherwise in each: it compares them sign by sign.

Elsewhere `1`, `1.0` and 00001 are one key, and so is a letter with an accent however it is written. A query in which
such keys do not meet gives patients without their values, and says nothing: of DuckDB, SQLite and PostgreSQL it is
looked for; MySQL compares keys without the blanks at their end.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.catalogue import Catalogue, Column, of_duckdb
from consilium.data.choosing import key, spelt
from consilium.data.clock import Clock
from consilium.data.counts import hidden
from consilium.data.lineage import Lineage, Origin
from consilium.data.scopes import Scope, own, references
from consilium.data.tree import Node, Undecided

SEVERAL = re.compile(r"(?i)\bjoin\b|\bin\s*\(\s*select\b|\bexists\s*\(|\bfrom\b[^()]*,")
"""Of several tables, or of one twice."""
TENTHS = re.compile(r"(\+?[0-9]+)\.0*")
DOUBT = "whether keys that source.query joins are written alike in its tables could not be found out"
REMEDY = (
    "write both alike in the query: of whole numbers CAST(CAST(... AS DOUBLE) AS BIGINT), else nfc_normalize("
    "trim(...)), or where there is no such function trim(...); so also where other keys than those of patients are "
    "compared"
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


Apart = tuple[str, str, int]
"""Two columns that a query compares, or of which it makes what it compares, and how many keys do not meet."""


def unmet(parser: Any, query: str, catalogue: Catalogue) -> list[Apart]:
    """What is compared and does not meet. parser: a connection of DuckDB. Raises: Undecided."""
    import duckdb  # not with the module, which the agent has before it forks

    try:
        found, known = list[Apart](), dict[str | Column, list[str]]()
        lineage = Lineage(parser, query, catalogue)

        def texts(asked: str | Column) -> list[str]:
            if asked not in known:
                rows = catalogue.ask(asked) if isinstance(asked, str) else [(one,) for one in catalogue.values(asked)]
                known[asked] = [row[0] for row in rows if isinstance(row[0], str)]
            return known[asked]

        for one, other in _pairs(lineage):
            asked = [[_asked(lineage, catalogue, origin) for origin in side] for side in (one, other)]
            if not any(None in side for side in asked):
                count = apart(*([text for each in side if each for text in texts(each)] for side in asked))
                first, second = sorted((_told(one[0]), _told(other[0])))
                found += [(first, second, count)] if count else []
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Undecided from error
    return sorted(found)


def _pairs(lineage: Lineage) -> Iterator[tuple[list[Origin], list[Origin]]]:
    """Where the two sides of each comparison for equality come from, but for those of one column. Raises: Undecided."""
    seen = set[frozenset[str]]()
    for scope in lineage.scopes():
        for one, other in compared(lineage, scope):
            sides = lineage.origins(one, scope), lineage.origins(other, scope)
            signs = [frozenset(origin.sign for origin in side) for side in sides]
            tables = [{origin.column and origin.column[0] for origin in side} for side in sides]
            alone = tables[0] == tables[1] and len(tables[0]) == 1 and None not in tables[0]
            if all(sides) and not signs[0] & signs[1] and not alone and (both := signs[0] | signs[1]) not in seen:
                seen.add(both)
                yield sides


def check(tables: Any, query: str) -> tuple[str, ...]:
    """That all keys of tables of DuckDB meet; a doubt where nobody knows. Raises: DataUnusable: some do not."""
    try:
        _refuse(unmet(tables, query, of_duckdb(tables)))
    except Undecided:
        return (DOUBT,)
    return ()


def checked(find: Callable[[], list[Apart]], query: str, cut: Callable[[], None], clock: Clock,
            took_s: float) -> tuple[str, ...]:  # fmt: skip
    """The same of a hospital's own database, which is asked for not much longer than it took to answer.

    Args:    find: `unmet`, which `cut` ends.   clock: of the reading, of which answering took `took_s`.
    """
    import duckdb

    from consilium.data.ordering import AGAIN, AGAIN_S  # which has duckdb, too

    if not SEVERAL.search(query):
        return ()
    again = Clock(min(AGAIN_S + AGAIN * took_s, clock.left_s), "source.time_limit_s")
    try:
        found = again.within(find, cut)
    except (Undecided, duckdb.InterruptException, DataUnusable):
        return (DOUBT,)
    _refuse(found)
    return ()


def _refuse(found: list[Apart]) -> None:
    for one, other, count in found:
        raise DataUnusable(
            f"source.query compares {one} and {other}, in which {hidden(count)} keys are written otherwise, as 1 and "
            "1.0, with blanks at the end, or letters with an accent in two ways: they do not meet",
            REMEDY,
        )


def compared(lineage: Lineage, scope: Scope) -> Iterator[tuple[Node, Node]]:
    """What a SELECT compares for equality."""
    for node in own(scope.select):
        if node.get("class") == "COMPARISON" and node.get("type") == "COMPARE_EQUAL":
            yield node["left"], node["right"]
        elif node.get("subquery_type") == "ANY" and node.get("comparison_type") == "COMPARE_EQUAL":
            yield node["child"], {**node, "subquery_type": "SCALAR"}
        for name in node.get("using_columns") or ():
            sides = [lineage.holding(node[side], scope, name) for side in ("left", "right")]
            if sides[0] is not None and sides[1] is not None:
                yield sides[0], sides[1]


def _asked(lineage: Lineage, catalogue: Catalogue, origin: Origin) -> str | Column | None:
    """What gives the values; None: they are no text."""
    if origin.column is not None:
        return origin.column if origin.column in catalogue.texts else None
    number = origin.value.get("class") == "CAST" and origin.value["cast_type"]["id"] != "VARCHAR"
    return None if number else lineage.asked(origin)


def _told(origin: Origin) -> str:
    """The column that stands in it, or what it is called in the query."""
    return ".".join(origin.columns[0] if origin.columns else next(references(origin.value))["column_names"])
