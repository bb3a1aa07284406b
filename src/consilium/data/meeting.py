"""Whether keys by which a query joins two tables are written otherwise in each: it compares them sign by sign.

Elsewhere `1`, `1.0` and 00001 are one key, and so is a letter with an accent however it is written. A query in which
such keys do not meet gives patients without their values, and says nothing: of DuckDB, SQLite and PostgreSQL it is
looked for; MySQL compares keys without the blanks at their end.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.asking import named, plain
from consilium.data.choosing import key, spelt
from consilium.data.clock import Clock
from consilium.data.counts import hidden
from consilium.data.tree import Undecided, meanings, parsed, parts

Column = tuple[str, str]
"""A table and its column."""
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


@dataclass(frozen=True)
class Store:
    """Where tables stand. columns: of text, by their names in small letters.   values: of a column, each once."""

    columns: dict[Column, Column]
    values: Callable[[Column], list[str]]


def of_duckdb(tables: Any) -> Store:
    """Tables of a connection of DuckDB."""
    found = tables.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE data_type = 'VARCHAR' AND NOT internal"
    ).fetchall()
    return _store(found, lambda query: tables.execute(query).fetchall(), "SELECT DISTINCT {column} FROM {table}")


def of_url(connection: Any) -> Store:
    """Tables of a connection of SQLAlchemy, to SQLite or PostgreSQL, whose CHAR has no blanks at its end as a text."""

    def ask(query: str) -> list[Any]:
        return list(connection.execute(plain(query)))

    if connection.dialect.name == "sqlite":
        found = ask(
            "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c "
            "WHERE t.type IN ('table', 'view')"
        )
        return _store(found, ask, "SELECT DISTINCT {column} FROM {table} WHERE typeof({column}) = 'text'")
    found = ask(
        "SELECT table_name, column_name FROM information_schema.columns WHERE"
        " table_schema = ANY(current_schemas(false)) AND data_type IN ('text', 'character varying', 'character')"
    )
    return _store(found, ask, "SELECT DISTINCT CAST({column} AS text) FROM {table}")


def _store(found: list[Any], ask: Callable[[str], list[Any]], values: str) -> Store:
    def read(column: Column) -> list[str]:
        table, name = map(named, column)
        return [row[0] for row in ask(values.format(table=table, column=name))]

    return Store({(table.casefold(), name.casefold()): (table, name) for table, name in found}, read)


def unmet(parser: Any, query: str, store: Store) -> list[tuple[Column, Column, int]]:
    """Columns whose keys do not meet, and how many. parser: a connection of DuckDB. Raises: Undecided."""
    import duckdb  # not with the module, which the agent has before it forks

    try:
        pairs = sorted({(min(pair), max(pair)) for pair in _pairs(parser, query, store.columns)})
        counts = [apart(store.values(one), store.values(other)) for one, other in pairs]
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Undecided from error
    return [(one, other, count) for (one, other), count in zip(pairs, counts, strict=True) if count]


def check(tables: Any, query: str) -> tuple[str, ...]:
    """That all keys of tables of DuckDB meet; a doubt where nobody knows. Raises: DataUnusable: some do not."""
    try:
        _refuse(unmet(tables, query, of_duckdb(tables)))
    except Undecided:
        return (DOUBT,)
    return ()


def checked(find: Callable[[], list[tuple[Column, Column, int]]], query: str, cut: Callable[[], None], clock: Clock,
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


def _refuse(found: list[tuple[Column, Column, int]]) -> None:
    for one, other, count in found:
        names = " and ".join(".".join(column) for column in (one, other))
        raise DataUnusable(
            f"source.query compares {names}, in which {hidden(count)} keys are written otherwise, as 1 and 1.0, with "
            "blanks at the end, or letters with an accent in two ways: they do not meet",
            REMEDY,
        )


def _pairs(tables: Any, query: str, columns: dict[Column, Column]) -> Iterator[tuple[Column, Column]]:
    """Columns of different tables that a query compares for equality."""
    tree = parsed(tables, query)
    nodes = list(parts(tree))
    alias, meant = meanings(nodes)
    made = _made(tree, nodes)

    def of(names: list[str]) -> set[Column]:
        name = names[-1].casefold()
        exact = (alias.get(names[-2].casefold(), "") if len(names) > 1 else "", name)
        if exact in columns:
            return {columns[exact]}
        if name in made:  # as trim(nr) AS nr in a WITH: whoever wrote it has seen to it
            return set()
        all_names = {name, *meant.get(name, ())}
        return {column for (table, one), column in columns.items() if one in all_names and table in alias.values()}

    for one, other in itertools.chain.from_iterable(map(_compared, nodes)):
        yield from (pair for pair in itertools.product(of(one), of(other)) if pair[0][0] != pair[1][0])


def _made(tree: dict[str, Any], nodes: list[dict[str, Any]]) -> set[str]:
    """Names of what is computed within the query, in small letters; what its own answer computes nothing joins by."""
    outer = [id(one) for said in tree["statements"] for one in said["node"].get("select_list", [])]
    inner = (one for one in nodes if one.get("alias") and one.get("class") not in (None, "COLUMN_REF", "STAR"))
    found = {str(one["alias"]).casefold() for one in inner if id(one) not in outer}
    return found | {str(one["key"]).casefold() for node in nodes for one in node.get("replace_list") or ()}


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
