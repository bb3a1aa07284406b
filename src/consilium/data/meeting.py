"""Whether keys by which a query joins two tables are written otherwise in each: it compares them sign by sign.

Elsewhere `1`, `1.0` and 00001 are one key, and so is a letter with an accent however it is written. A query in which
such keys do not meet gives patients without their values, and says nothing: of DuckDB, SQLite and PostgreSQL it is
looked for; MySQL compares keys without the blanks at their end.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.anew import Anew
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue, Column, of_duckdb
from consilium.data.choosing import key, spelt
from consilium.data.counts import hidden
from consilium.data.lineage import Lineage
from consilium.data.origins import Origin
from consilium.data.scopes import Scope, equalities, own, references, row
from consilium.data.tree import Node, Undecided, signed

SEVERAL = re.compile(r"(?is)\bjoin\b|\bselect\b.*\bselect\b|\bfrom\b[^()]*,")
"""Of several tables, or of one twice."""
EQUAL = frozenset(("COMPARE_EQUAL", "COMPARE_NOT_DISTINCT_FROM"))
TENTHS = re.compile(r"(\+?[0-9]+)\.0*")
REMEDY = (
    "write both alike in the query: of whole numbers CAST(CAST(... AS DOUBLE) AS BIGINT), else nfc_normalize("
    "trim(...)), or where there is no such function trim(...); so also where other keys than those of patients are "
    "compared"
)
DOUBT = Seen(
    "text-order", "whether keys that source.query compares are written alike in its tables could not be found out",
    f"count the keys of each table that the query does not find in the other, and where they differ {REMEDY}",
    unknown=True,
)  # fmt: skip


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


def offered(texts: Iterable[str], met: Iterable[str]) -> set[str]:
    """Of keys that a query gives in several spellings those in which it meets others, and all of which it meets none.

    >>> sorted(offered(["1", "1.0", "2", "2.0"], ["1.0", "02"]))
    ['1.0', '2', '2.0']
    """
    every, others = set(texts), set(met)
    done = {key(_spelt(text)) for text in every & others}
    return {text for text in every if text in others or key(_spelt(text)) not in done}


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
                rows = _rows(catalogue, asked) if isinstance(asked, str) else catalogue.values(asked)
                known[asked] = [row for row in rows if isinstance(row, str)]
            return known[asked]

        for one, other, several in _pairs(lineage):
            asked = [[_asked(lineage, catalogue, origin) for origin in side] for side in (one, other)]
            if not any(None in side for side in asked):
                here, there = ([text for each in side if each for text in texts(each)] for side in asked)
                count = apart(here, offered(there, here) if several else there)
                first, second = sorted((_told(one[0]), _told(other[0])))
                found += [(first, second, count)] if count else []
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Undecided from error
    return sorted(found)


def _rows(catalogue: Catalogue, asked: str) -> list[Any]:
    """The values of a query for `v`. What PostgreSQL has as CHAR has no blanks at its end where it is compared."""
    if catalogue.database != "postgresql":
        return [row[0] for row in catalogue.ask(asked)]
    rows = catalogue.ask(f"SELECT v, CAST(pg_typeof(v) AS text) FROM ({asked}) AS o")  # noqa: S608  as lineage wrote it
    return [value.rstrip(" ") if kind == "character" and value is not None else value for value, kind in rows]


def _pairs(lineage: Lineage) -> Iterator[tuple[list[Origin], list[Origin], bool]]:
    """Where the two sides of each comparison for equality come from, but for those of one column.

    And whether the second is one of several with which the query compares the first. Raises: Undecided.
    """
    seen = set[frozenset[str]]()
    for scope in lineage.scopes():
        for left, right in _sides(lineage, scope):
            one, other = ([origin for value in side for origin in lineage.origins(value, scope)]
                          for side in (left, right))  # fmt: skip
            signs = [frozenset(origin.sign for origin in side) for side in (one, other)]
            tables = [{origin.column and origin.column[0] for origin in side} for side in (one, other)]
            alone = tables[0] == tables[1] and len(tables[0]) == 1 and None not in tables[0]
            both = frozenset(origin.sign + signed(lineage.kept(origin)) for side in (one, other) for origin in side)
            if one and other and not signs[0] & signs[1] and not alone and both not in seen:
                seen.add(both)
                yield one, other, len(right) > 1 or right[0].get("comparison_type") == "COMPARE_EQUAL"


def _sides(lineage: Lineage, scope: Scope) -> Iterator[tuple[list[Node], list[Node]]]:
    """What a SELECT compares: one expression, with another or with several of which one is enough."""
    done = set[int]()
    for node in own(scope.select):
        if node.get("type") == "COMPARE_IN" and any(True for one in node["children"][1:] for _ in references(one)):
            yield node["children"][:1], node["children"][1:]
        elif node.get("type") == "CONJUNCTION_OR":
            equal = [one for one in node["children"] if one.get("type") in EQUAL]
            done |= {id(one) for one in equal if len(list(equalities(one))) != 1}  # each part holds of other rows alone
            equal = [one for one in equal if id(one) not in done]
            by: dict[str, tuple[list[Node], list[Node], list[int]]] = {}
            for one in equal:
                for this, that in (("left", "right"), ("right", "left")):
                    common, others, whole = by.setdefault(signed(one[this]), ([one[this]], [], []))
                    others.append(one[that])
                    whole.append(id(one))
            for common, others, whole in by.values():
                if len(others) > 1 and any(True for _ in references(common)):
                    done |= set(whole)
                    yield common, others
    yield from (([one], [other]) for one, other in _compared(lineage, scope, done))


def check(tables: Any, query: str) -> tuple[Seen, ...]:
    """That all keys of tables of DuckDB meet; a doubt where nobody knows. Raises: DataUnusable: some do not."""
    try:
        _refuse(unmet(tables, query, of_duckdb(tables)))
    except Undecided:
        return (DOUBT,)
    return ()


def checked(find: Callable[[], list[Apart]], query: str, anew: Anew) -> tuple[Seen, ...]:
    """The same of a hospital's own database. Args: find: `unmet`."""
    if not SEVERAL.search(query):
        return ()
    found = anew.found(find, None)
    if found is None:
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
    yield from _compared(lineage, scope, set())


def _compared(lineage: Lineage, scope: Scope, but: set[int]) -> Iterator[tuple[Node, Node]]:
    for node in own(scope.select):
        if id(node) in but:
            continue
        if node.get("class") == "COMPARISON" and node.get("type") in EQUAL:
            yield from equalities(node)
        elif node.get("subquery_type") == "ANY" and node.get("comparison_type") == "COMPARE_EQUAL":
            for place, one in enumerate(row(node["child"])):
                yield one, {**node, "subquery_type": "SCALAR", "place": place}
        names = lineage.names() if node.get("ref_type") == "NATURAL" else node.get("using_columns") or ()
        for name in names:
            left, right = (lineage.holding(node[side], scope, name) for side in ("left", "right"))
            if left is not None and right is not None:
                yield left, right


def _asked(lineage: Lineage, catalogue: Catalogue, origin: Origin) -> str | Column | None:
    """What gives the values; None: they are no text."""
    where = lineage.kept(origin)
    if origin.column is not None and (origin.column not in catalogue.texts or not where):
        return origin.column if origin.column in catalogue.texts else None
    number = origin.value.get("class") == "CAST" and origin.value["cast_type"]["id"] != "VARCHAR"
    return None if number else lineage.asked(origin, where=where)


def _told(origin: Origin) -> str:
    """The column that stands in it, or what it is called in the query."""
    return ".".join(origin.columns[0] if origin.columns else next(references(origin.value))["column_names"])
