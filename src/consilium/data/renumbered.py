"""Whether a query takes the number into which another one was merged in some of its tables, and not in all of them.

`coalesce(merged.new, lab.nr)`, where `merged.old = lab.nr`, is the number that counts. Of another table, whose numbers
are compared with such, and not with the old ones, those that are old are found with nobody. Numbers that were merged
again are looked for, too: one step of the way leads to a number that nobody has.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import named
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue, Column
from consilium.data.choosing import key
from consilium.data.counts import hidden
from consilium.data.lineage import Lineage
from consilium.data.meeting import compared
from consilium.data.scopes import Made, Scope, joints, own
from consilium.data.tree import Node, Undecided, parts
from consilium.data.unitless import used

EITHER = re.compile(r"(?i)\b(?:coalesce|ifnull|nvl)\b")
SEVERAL = re.compile(r"(?is)\bjoin\b|\bfrom\b.*(?:,|\bfrom\b)")
"""What a query of one table alone has nothing of."""
UNKNOWN = Seen(
    "of-nobody",
    "whether source.query forgets in one of its tables that numbers were merged into others, of which it speaks in "
    "another one, could not be found out",
    "where coalesce takes the new number of somebody in place of the old one, look whether it does so of each table, "
    "and whether a new number was merged again",
    unknown=True,
)  # fmt: skip
Columns = frozenset[Column]


@dataclass(frozen=True)
class Pair:
    """Two sides of a comparison for equality. here, there: columns of which they are made."""

    here: Columns
    there: Columns
    one: Node
    other: Node
    scope: Scope


def checked(parser: Any, query: str, known: Callable[[], Catalogue], anew: Anew) -> tuple[Seen, ...]:
    """A note of each table of which that is so; or that nobody knows.

    Args:    parser: a connection of DuckDB.   known: the tables.
    """
    if not EITHER.search(query) or not SEVERAL.search(query):
        return ()
    return anew.found(lambda: tuple(renumbered(parser, query, known())), (UNKNOWN,))


def renumbered(parser: Any, query: str, known: Catalogue) -> Iterator[Seen]:
    """The notes. Raises: Undecided; and what the database raises."""
    lineage = Lineage(parser, query, known)
    scopes = list(lineage.scopes())
    pairs = [Pair(_columns(lineage, one, scope), _columns(lineage, other, scope), one, other, scope)
             for scope in scopes for one, other in compared(lineage, scope)]  # fmt: skip
    merges = [found for scope in scopes for found in _merges(lineage, scope, pairs)]
    for old, new in sorted({(old, new) for old, new, _ in merges}):
        asked = f"{_text(known, old)}, {_text(known, new)} FROM {named(old[0])}"
        links = [tuple(key(str(text or "")) for text in row) for row in known.ask(f"SELECT DISTINCT {asked}")]
        before = {one for one, other in links if one != other} - {""}
        again = {other for one, other in links if one != other} & before
        if again and not _on(lineage, scopes, pairs, old, new):
            yield _again(old, new, len(again))
        done = {column for one, _, column in merges if one == old}
        done |= {column for pair in pairs if _apart(lineage, pair, old) for column in pair.here | pair.there}
        for pair in pairs:
            for those, these, side in ((pair.here, pair.there, pair.one), (pair.there, pair.here, pair.other)):
                if new not in these or new in those or any(column[0] == old[0] for column in those):
                    continue
                for column in sorted(those - done):
                    count = len(before & _keys(lineage, known, side, pair.scope, column))
                    done.add(column)
                    yield from [_forgotten(old, new, column, count)] if count else []


def _merges(lineage: Lineage, scope: Scope, pairs: Sequence[Pair]) -> Iterator[tuple[Column, Column, Column]]:
    """Columns of old and of new numbers, and that of which these are: `coalesce(new, k)`, where old is compared with k
    of another table.
    """
    for node in own(scope.select):
        if node.get("type") != "OPERATOR_COALESCE" and node.get("function_name") != "nvl":
            continue
        given = [column for one in node["children"] for column in _columns(lineage, one, scope)]
        for new, other in ((new, other) for new in given for other in given if other[0] != new[0]):
            for here, there in ((pair.here, pair.there) for pair in pairs):
                if other in here | there:
                    yield from ((old, new, other) for old in here | there if old[0] == new[0] and old != new)


def _on(lineage: Lineage, scopes: Sequence[Scope], pairs: Sequence[Pair], old: Column, new: Column) -> bool:
    """Whether a query goes on from a new number that was merged again."""
    if any({old, new} <= pair.here | pair.there and _apart(lineage, pair, old) for pair in pairs):
        return True
    either = ((node["children"], scope) for scope in scopes for node in own(scope.select)
              if node.get("type") == "OPERATOR_COALESCE")  # fmt: skip
    return any(sum(new in _columns(lineage, one, scope) for one in given) > 1 for given, scope in either)


def _apart(lineage: Lineage, pair: Pair, old: Column) -> bool:
    """Whether by this comparison a query treats rows of old numbers apart; by a LEFT JOIN, where it looks at what came
    of that.
    """
    if old not in pair.here | pair.there:
        return False
    select = pair.scope.select
    joined = {id(one) for join in joints(select["from_table"]) if join["join_type"] == "LEFT"
              for one in parts(join.get("condition"))}  # fmt: skip
    nulls = (one for one in own(select) if one.get("type") in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"))
    return id(pair.one) not in joined or any(
        column[0] == old[0] for one in nulls for child in one["children"]
        for column in _columns(lineage, child, pair.scope)
    )  # fmt: skip


def _columns(lineage: Lineage, value: Node, scope: Scope) -> Columns:
    """Of tables, of which a value is made; those that could be followed."""
    if value.get("class") != "SUBQUERY":
        return frozenset(used(lineage, value, scope))
    try:
        made = Made(value["subquery"]["node"], scope.within)
        below = lineage.nth(made, value.get("place", 0), scope)
    except Undecided:
        return frozenset()
    return frozenset(column for inner, at in below for column in used(lineage, inner, at))


def _keys(lineage: Lineage, known: Catalogue, value: Node, scope: Scope, column: Column) -> set[str]:
    """The numbers of a column, those alone that are compared, where that can be told."""
    try:
        found = [one for one in lineage.origins(value, scope) if column in one.columns]
        asked = [lineage.asked(one, where=lineage.kept(one)) for one in found]
    except Undecided:
        asked = [f"SELECT DISTINCT {_text(known, column)} FROM {named(column[0])}"]  # noqa: S608
    return {key(str(row[0])) for one in asked for row in known.ask(one) if row[0] is not None}


def _text(known: Catalogue, column: Column) -> str:
    return f"CAST({named(column[1])} AS {'VARCHAR' if known.database == 'duckdb' else 'text'})"


def _forgotten(old: Column, new: Column, column: Column, count: int) -> Seen:
    said, before, after = (".".join(one) for one in (column, old, new))
    words = (
        f"source.query takes {after} in place of numbers that stand in {before}, and not so of {said}, in which "
        f"{hidden(count)} of these stand: what is there is found with nobody, or stands for a patient of its own"
    )
    remedy = (
        f"join {old[0]} there, too, by LEFT JOIN ... ON {before} = {said}, and take coalesce({after}, {said}); where "
        f"rows of old numbers do not count, leave out by NOT IN whose number stands in {before}"
    )
    return Seen("of-nobody", words, remedy, count)


def _again(old: Column, new: Column, count: int) -> Seen:
    before, after = (".".join(one) for one in (old, new))
    words = (
        f"source.query takes {after} in place of numbers that stand in {before}; {hidden(count)} of the new numbers "
        f"stand in {before} themselves, for they were merged again, and the query goes one step"
    )
    remedy = "go on until none is left: by WITH RECURSIVE, or by joining the table with itself as often as that is so"
    return Seen("of-nobody", words, remedy, count)
