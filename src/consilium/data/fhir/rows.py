"""Rows of a view's selects, for many contexts at once and by column: of columns, selects, unions and iterations.

A context is a resource, or an item that `forEach` or `repeat` found in one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from typing import Any, NamedTuple

from consilium.core.errors import ViewInvalid
from consilium.data.fhir.chains import Columns, gather
from consilium.data.fhir.definition import ColumnPart, SelectPart
from consilium.data.fhir.paths import Path, Scope, compile_path
from consilium.data.fhir.values import Mismatch, Run, items

MOST_REPEATED = 100_000
"""Items of one resource that `repeat` may find: a path such as `$this` finds itself for ever."""


@dataclass(frozen=True)
class Column:
    """A column of a view; `type` is a FHIR type, or "" where neither definition nor path tell one."""

    name: str
    type: str
    collection: bool


class Contexts(NamedTuple):
    """Parsed JSON, and of each its `%rowIndex`: which of the items it is that an iteration found."""

    nodes: list[Any]
    indexes: Sequence[int]


class Table(NamedTuple):
    """Rows as columns. of: by row the number of its context, ascending; None where each context has one row."""

    columns: Columns
    of: Sequence[int] | None


Rows = Callable[[Contexts], Table]
Values = Callable[[Contexts], list[Any]]
"""From contexts to a value of each."""


def compile_rows(parts: list[SelectPart], scope: Scope) -> tuple[Rows, list[Column]]:
    """Every combination of the rows of several selects, and their columns. Raises: ViewInvalid."""
    made = [_select(part, scope) for part in parts]
    return _product([rows for rows, _ in made]), [column for _, columns in made for column in columns]


def compile_values(path: Path, scope: Scope) -> Values:
    """A path along contexts."""
    if path.keys is not None:
        together = gather([path.keys])
        return lambda contexts: together(contexts.nodes)[0]
    run = path.run
    if not path.counts:
        return lambda contexts: [run(node) for node in contexts.nodes]

    def counting(contexts: Contexts) -> list[Any]:
        found = []
        for scope.row, node in zip(contexts.indexes, contexts.nodes):
            found.append(run(node))
        return found

    return counting


def _select(part: SelectPart, scope: Scope) -> tuple[Rows, list[Column]]:
    """The rows of one select: its columns, then its selects, then its union, for each item that it goes along."""
    parts: list[Rows] = []
    columns: list[Column] = []
    if part.column:
        rows, told = _columns(part.column, scope)
        parts.append(rows)
        columns += told
    if part.select:
        rows, told = compile_rows(part.select, scope)
        parts.append(rows)
        columns += told
    if part.union:
        rows, told = _union(part.union, scope)
        parts.append(rows)
        columns += told
    scope.hint = ""
    inner = _product(parts) if parts else (lambda _: Table([], None))
    path = part.each if part.each is not None else part.each_or_null
    if part.repeat:
        found = _repeat([compile_path(path, scope) for path in part.repeat])
    elif path is not None:
        found = compile_path(path, scope)
    else:
        return inner, columns
    return _each(compile_values(found, scope), inner, part.each_or_null is not None), columns


def _columns(parts: list[ColumnPart], scope: Scope) -> tuple[Rows, list[Column]]:
    paths: list[Path] = []
    columns: list[Column] = []
    for part in parts:
        scope.hint = part.type or ""
        path = compile_path(part.path, scope)
        paths.append(path)
        columns.append(Column(part.name, part.type or path.type, part.collection))
    together = gather([path.keys or () for path in paths])
    alone = [(slot, compile_values(path, scope)) for slot, path in enumerate(paths) if path.keys is None]

    def rows(contexts: Contexts) -> Table:
        found = together(contexts.nodes)
        for slot, values in alone:
            found[slot] = values(contexts)
        return Table(found, None)

    return rows, columns


def _taken(columns: Columns, rows: Sequence[int]) -> Columns:
    return [[column[row] for row in rows] for column in columns]


def _product(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return lambda contexts: reduce(_times, [part(contexts) for part in parts])


def _times(one: Table, other: Table) -> Table:
    """Each row of the one beside each row of the other that is of the same context."""
    if other.of is None:
        return Table(one.columns + (other.columns if one.of is None else _taken(other.columns, one.of)), one.of)
    if one.of is None:
        return Table(_taken(one.columns, other.of) + other.columns, other.of)
    theirs: dict[int, list[int]] = {}
    for row, context in enumerate(other.of):
        theirs.setdefault(context, []).append(row)
    beside = [theirs.get(context, ()) for context in one.of]
    left = [row for row, several in enumerate(beside) for _ in several]
    right = [row for several in beside for row in several]
    return Table(_taken(one.columns, left) + _taken(other.columns, right), [one.of[row] for row in left])


def _union(parts: list[SelectPart], scope: Scope) -> tuple[Rows, list[Column]]:
    made = [_select(part, scope) for part in parts]
    names = [[column.name for column in columns] for _, columns in made]
    if any(other != names[0] for other in names):
        raise ViewInvalid("unionAll: its branches have not the same columns in the same order", "name them alike")
    branches = [rows for rows, _ in made]

    def run(contexts: Contexts) -> Table:
        tables = [table for branch in branches if (table := branch(contexts)).of is None or table.of]
        if len(tables) == 1:
            return tables[0]
        every = range(len(contexts.nodes))
        of = [context for table in tables for context in (every if table.of is None else table.of)]
        rows = sorted(range(len(of)), key=of.__getitem__)  # which is stable: within a context branch by branch
        columns = [[*chain.from_iterable(several)] for several in zip(*(table.columns for table in tables))]
        return Table(_taken(columns, rows), [of[row] for row in rows])

    return run, made[0][1]


def _each(found: Values, inner: Rows, or_null: bool) -> Rows:
    """The rows of each item, with its index as `%rowIndex`; where there is none, those of an empty one if `or_null`."""

    def run(contexts: Contexts) -> Table:
        several = [items(value) or ((({},)) if or_null else ()) for value in found(contexts)]
        indexes = [index for every in several for index in range(len(every))]
        columns, of = inner(Contexts([*chain.from_iterable(several)], indexes))
        outer = [number for number, every in enumerate(several) for _ in every]
        return Table(columns, outer if of is None else [outer[number] for number in of])

    return run


def _repeat(paths: list[Path]) -> Path:
    """Every item that is reached by the paths again and again, each before those that are reached from it."""
    steps: list[Run] = [path.run for path in reversed(paths)]

    def run(node: Any) -> list[Any]:
        found: list[Any] = []
        waiting = [item for step in steps for item in reversed(items(step(node)))]
        while waiting:
            item = waiting.pop()
            found.append(item)
            if len(found) > MOST_REPEATED:
                raise Mismatch("has no end where `repeat` goes along")
            waiting += [inner for step in steps for inner in reversed(items(step(item)))]
        return found

    return Path(run, "", None, counts=any(path.counts for path in paths))
