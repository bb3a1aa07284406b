"""Columns of tables at which a query never looks, and which may say whether a row counts: found, and told.

That a laboratory's value was cancelled, a document replaced by a later version, or a product is another one, stands in
a column of few different values, or of such a name. Which of them says so nobody but a person knows.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Ask, named, staying
from consilium.data.base import UNIT, Asked, Rows, Seen, Unused
from consilium.data.catalogue import Catalogue, Column
from consilium.data.counts import MIN_CELL
from consilium.data.lineage import Lineage
from consilium.data.scopes import Scope, own, related
from consilium.data.tree import Node, Undecided, last_of, parsed, parts

NAMED = re.compile(
    r"status|statut|storn|cancel|annul|anulad|loesch|losch|delet|supprim|elimin|geannul|version|revision|produ[cktz]|"
    r"prodott|comment|kommentar|coment|bemerk|opmerk|remark|osserv|observ|gultig|gueltig|valid|ersetz|replac|remplac|"
    r"\b(?:etat|estado|stato|state|stat|zustand|typ|type|tipo|soort|art|kind|nature|note|nota|void|flag|active|aktiv|"
    r"actif|activo|attivo|final|vorlaeufig|vorlaufig|kennzeichen)\b"
)
"""In names of columns, without accents and in words: what may say whether a row counts, in the usual languages."""
FEW = 12
"""Different values at most, of a column that is called otherwise; an empty cell is one of them."""
LOOKED = 20_000
"""Rows of a table that are looked at."""
SELDOM = 0.01
"""Share of the rows in which a column that is called otherwise has something."""
TOLD = 8
"""Columns of a table that are told; of more that are only of few values, as of a register, none."""
DEEP = 40
REMEDY = (
    "if one of them says that a row was cancelled, replaced by a later one, is not valid yet or of another kind "
    "than is asked for, add a condition on it to the query; else all is well"
)
IDLE = (
    "if it says who or what does not count, such as who objected, the condition on it is forgotten, as "
    "`nr NOT IN (SELECT nr FROM ...)`; else leave it out"
)


def checked(parser: Any, query: str, names: Sequence[str], known: Callable[[], Catalogue], anew: Anew
            ) -> tuple[Unused, ...]:  # fmt: skip
    """Such columns of each table; none where it is not found out soon.

    Args:    parser: a connection of DuckDB.   names: columns of the answer that are used.   known: the tables.
    """
    return anew.found(lambda: tuple(unused(parser, query, names, known())), ())


def idle(parser: Any, query: str, anew: Anew) -> tuple[Seen, ...]:
    """That a query makes something by WITH, and never uses it.

    Args:    parser: a connection of DuckDB.
    """
    names = anew.found(lambda: tuple(_idle(parsed(parser, query))), ())
    if not names:
        return ()
    return (Seen("unread", f"source.query makes {' and '.join(names)} by WITH, and never uses it", IDLE),)


def _idle(tree: Node) -> Iterator[str]:
    made = {one["key"].casefold(): one for node in parts(tree) for one in node.get("cte_map", {}).get("map", ())}
    for name, entry in made.items():
        used = sum(one.get("type") == "BASE_TABLE" and one["table_name"].casefold() == name for one in parts(tree))
        own = sum(one.get("type") == "BASE_TABLE" and one["table_name"].casefold() == name for one in parts(entry))
        if used == own:
            yield entry["key"]


def unused(parser: Any, query: str, names: Sequence[str], known: Catalogue) -> Iterator[Unused]:
    """The same. Raises: Undecided; and what the database raises."""
    for table, columns in _unused(Lineage(parser, query, known), names, known).items():
        found = counted(lambda asked: ([], known.ask(asked)), named(table), columns)
        if found:
            yield Unused(table, found)


def counted(ask: Ask, table: str, columns: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Which of these columns may say it, and how many different values each has.

    Args:    ask: answers a query of DuckDB, SQLite or PostgreSQL.   table: SQL that stands after FROM.
    """
    columns = [name for name in columns if not UNIT.search(name)]
    if not columns:
        return ()
    texts = ", ".join(f"nullif(trim(CAST({named(name)} AS TEXT)), '') AS c{at}" for at, name in enumerate(columns))
    sums = ", ".join(f"count(c{at}), count(DISTINCT c{at})" for at in range(len(columns)))
    asked = f"SELECT count(*), {sums} FROM (SELECT {texts} FROM {table} LIMIT {LOOKED}) AS looked"  # noqa: S608
    _, ((rows, *each),) = ask(asked)
    told, others = list[tuple[str, int]](), list[tuple[str, int]]()
    for name, filled, distinct in zip(columns, each[::2], each[1::2], strict=True):
        values = distinct + (filled < rows)
        if filled and values > 1:
            if of_name(name):
                told.append((name, values))
            elif values <= min(FEW, rows // MIN_CELL) and filled >= max(MIN_CELL, SELDOM * rows):
                others.append((name, values))
    return (*told, *(others if len(others) <= TOLD else ()))


def noted(ask: Ask, table: str, found: Rows, asked: Asked) -> Rows:
    """The rows of a table of DuckDB, with those columns of which nothing was read; of nobody who opted out."""
    if not asked.units or not found.others:
        return found
    where, _ = staying(ask, table, [*found.columns, *found.others], asked)
    return replace(found, unused=counted(ask, f"{table}{where}", found.others))


def _unused(lineage: Lineage, names: Sequence[str], known: Catalogue) -> dict[str, list[str]]:
    """Columns that the query never looks at, by their table, as they are called. Raises: Undecided."""
    used, seen = set[Column](), set[int]()
    loose, alone, aliases, read = set[str](), set[str](), set[str](), set[str]()

    def follow(ref: Node, scope: Scope, deep: int = 0) -> None:
        try:
            if deep > DEEP:
                raise Undecided
            for inner, at in lineage.behind(ref, scope):
                if not isinstance(at, Scope):
                    used.add(at)
                elif inner.get("class") == "COLUMN_REF":  # else it stands in the query, and so do its columns
                    follow(inner, at, deep + 1)
        except (Undecided, KeyError):
            said = [name.casefold() for name in ref["column_names"]]
            (loose if said[1:] else alone).update(said)  # of a struct it is the first

    for scope in lineage.scopes():
        for relation in related(scope.select["from_table"], scope.within):
            aliases.add(relation.alias)
            read |= {relation.table} if relation.table is not None else set()
        for node in own(scope.select):
            if node.get("class") == "COLUMN_REF":
                seen.add(id(node))
                follow(node, scope)
    for name in names:
        try:
            for value, scope in lineage.defined(lineage.answer, name.casefold()):
                if value.get("class") == "COLUMN_REF":
                    follow(value, scope)
        except Undecided:
            loose.add(name.casefold())
    every = list(parts(lineage.answer.query))
    loose |= alone | {name.casefold() for one in every for name in _said(one, seen)}
    if alone & aliases or any(map(_whole, every)):  # a row as a whole, or columns by a pattern
        raise Undecided
    apart = {one["table_name"].casefold() for one in every if one.get("column_name_alias") and one.get("table_name")}
    found = dict[str, list[str]]()
    for (table, name), column in known.columns.items():
        if table in read - apart and column not in used and name not in loose:
            found.setdefault(column[0], []).append(column[1])
    return found


def _said(node: Node, seen: set[int]) -> Iterator[str]:
    """Names of columns in what is not followed: of a join by USING, left out of `*`, or the order of a UNION."""
    yield from (name for name in node.get("using_columns") or () if isinstance(name, str))
    if node.get("class") == "STAR":
        yield from (name for name in node.get("exclude_list") or () if isinstance(name, str))
        yield from (one["column"] for one in node.get("qualified_exclude_list") or ())
    if node.get("class") == "COLUMN_REF" and id(node) not in seen:
        yield last_of(node)


def _whole(node: Node) -> bool:
    """Whether a part of a query takes columns that it does not name, other than by a plain `*`."""
    return (
        node.get("ref_type") == "NATURAL"
        or node.get("type") in ("PIVOT", "SHOW_REF", "POSITIONAL_REFERENCE")
        or (node.get("class") == "STAR" and bool(node.get("columns") or node.get("expr")))
        or (node.get("class") in ("FUNCTION", "WINDOW") and any(one.get("class") == "STAR" for one in node["children"]))
    )


def of_name(name: str) -> bool:
    """Whether a column is called so.

    >>> [of_name(name) for name in ("ÉTAT", "LabStatus", "Befundbemerkung", "visit_type", "Artery", "typical")]
    [True, True, True, True, False, False]
    """
    plain = unicodedata.normalize("NFKD", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).casefold()
    words = re.sub(r"[^a-z]+", " ", "".join(one for one in plain if not unicodedata.combining(one)))
    return NAMED.search(words) is not None


def told(passed: Sequence[Unused]) -> tuple[str, str]:
    """In words, and what to do."""
    by = dict[str, dict[str, int]]()
    for one in passed:
        by.setdefault(one.table, {}).update(one.columns)
    listed = "; ".join(f"{table}: {', '.join(_shown(one) for one in columns.items())}"
                       for table, columns in sorted(by.items()))  # fmt: skip
    return f"source.query never reads these columns, which may say whether a row counts: {listed}", REMEDY


def _shown(column: tuple[str, int]) -> str:
    name, values = column
    return f"{name} ({values} values)" if values else name
