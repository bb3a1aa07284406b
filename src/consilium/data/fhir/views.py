"""A compiler from a ViewDefinition to rows. `compile_view(definition).rows(resource)` are those of one resource.

What a view asks for is checked before any resource is read: names of columns, branches of unions, constants, paths.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from consilium.core.errors import DataUnusable, ViewInvalid
from consilium.data.bounds import bound
from consilium.data.fhir.definition import ColumnPart, Definition, SelectPart, WherePart, check
from consilium.data.fhir.moments import Moment, moment
from consilium.data.fhir.paths import Path, Scope, compile_path, wants_digits
from consilium.data.fhir.steps import gather
from consilium.data.fhir.values import Mismatch, Run, items

Row = tuple[Any, ...]
Rows = Callable[[Any], list[Row]]
"""From a context to its rows."""
MOST_REPEATED = 100_000
"""Items of one resource that `repeat` may find: a path such as `$this` finds itself for ever."""
TEMPORAL = ("date", "dateTime", "instant", "time")
CONSTANTS = {
    "Base64Binary": str, "Boolean": bool, "Canonical": str, "Code": str, "Date": str, "DateTime": str, "Decimal": float,
    "Id": str, "Instant": str, "Integer": int, "Integer64": int, "Markdown": str, "Oid": str, "PositiveInt": int,
    "String": str, "Time": str, "UnsignedInt": int, "Uri": str, "Url": str, "Uuid": str,
}  # fmt: skip
WHOLE = ("integer", "positiveInt", "unsignedInt", "integer64")
ACCEPTED: dict[str, frozenset[type]] = {
    "boolean": frozenset({bool, type(None)}),
    "decimal": frozenset({int, float, type(None)}),
    **dict.fromkeys(WHOLE, frozenset({int, type(None)})),
}
"""What values a column of a type takes as they are; all others take text."""
TEXT = frozenset({str, type(None)})


@dataclass(frozen=True)
class Column:
    """A column of a view; `type` is a FHIR type, or "" where neither definition nor path tell one."""

    name: str
    type: str
    collection: bool


@dataclass(frozen=True)
class Batch:
    """Some rows of a view, as columns: JSON values, and lists of them where a column is a collection."""

    columns: dict[str, Sequence[Any]]
    rows: int


class View:
    """A compiled view. It is for one thread: `%rowIndex` stands in it while it goes along.

    Args:    marked: whether a number that is only a bound is read as text, with its sign before it: `<5`.
    """

    def __init__(
        self, resource: str, columns: tuple[Column, ...], rows: Rows, where: list[Run], exact: bool, marked: bool
    ) -> None:
        self.resource, self.columns, self.exact, self._marked = resource, columns, exact, marked
        self._rows, self._where = rows, where

    def rows(self, resource: Any) -> list[Row]:
        """Rows of one resource, with collections as paths gave them; none for another type.

        Raises: Mismatch: the data are not what a path demands.
        """
        if type(resource) is not dict or resource.get("resourceType") != self.resource:
            return []
        for condition in self._where:
            found = condition(resource)
            if type(found) is list:
                found = found[0] if len(found) == 1 else found
            if found is not True:
                if found is None or found is False:
                    return []
                raise Mismatch("has a value that is not true or false where `where` wants one")
        return self._rows(resource)

    def batches(self, resources: Iterable[tuple[int, Any]], place: str, size: int = 4096) -> Iterator[Batch]:
        """Rows of many resources, some thousands at a time; none where there are none.

        Args:    resources: each with its number, which follows `place` in messages, such as "Patient.ndjson line".
        Raises:  DataUnusable: says line, column and remedy, and no value.
        """
        found: list[Row] = []
        lines: list[int] = []
        for line, resource in resources:
            if self._marked:
                mark(resource)
            try:
                more = self.rows(resource)
            except Mismatch as error:
                where = f"{place} {line}: {self.resource}"
                raise DataUnusable(f"{where} {error}", "correct the path, or the resource") from None
            found += more
            lines += [line] * len(more)
            if len(found) >= size:
                yield self._batch(found, lines, place)
                found, lines = [], []
        if found:
            yield self._batch(found, lines, place)

    def _batch(self, found: list[Row], lines: list[int], place: str) -> Batch:
        columns = {
            column.name: _values(column, values, lines, place) for column, values in zip(self.columns, zip(*found))
        }
        return Batch(columns, len(found))


def _values(column: Column, values: Row, lines: list[int], place: str) -> Sequence[Any]:
    """The values of a column, checked: of its type, and one each unless it is a collection."""
    accepted = ACCEPTED.get(column.type, TEXT) if column.type else None
    if not column.collection and accepted is not None and accepted.issuperset(map(type, values)):
        return values
    made: list[Any] = []
    for line, value in zip(lines, values):
        found = [_plain(item) for item in items(value)]
        if accepted is not None and not all(type(item) in accepted for item in found):
            if any(type(item) is str and bound(item) for item in found):
                raise DataUnusable(
                    f"{place} {line}: column {column.name} has a value that is only a bound, such as <5",
                    "read it as text: end its path with toString(), and give it no type; or leave such resources out "
                    "by `where`, with comparator.empty()",
                )
            raise DataUnusable(
                f"{place} {line}: column {column.name} has a value that is no {column.type}",
                "correct its path or its type",
            )
        if not column.collection and len(found) > 1:
            raise DataUnusable(
                f"{place} {line}: column {column.name} has several values",
                "write first() into its path, forEach into its select, or `collection: true`",
            )
        made.append(found if column.collection else found[0] if found else None)
    return made


def _plain(item: Any) -> Any:
    if type(item) is Decimal:
        return float(item)
    return item.text if type(item) is Moment else item


def mark(resource: Any) -> None:
    """Write the sign of each number that is only a bound into it: a Quantity's value and its comparator are `<5`.

    >>> resource = {"valueQuantity": {"value": 5, "comparator": "<"}, "component": [{"valueQuantity": {"value": 7}}]}
    >>> mark(resource)
    >>> resource["valueQuantity"]["value"], resource["component"][0]["valueQuantity"]["value"]
    ('<5', 7)
    """
    waiting = [resource]
    while waiting:
        node = waiting.pop()
        if type(node) is dict:
            if "comparator" in node and type(node.get("value")) in (int, float, Decimal):
                node["value"] = f"{node['comparator']}{node['value']}"
            node = node.values()
        elif type(node) is not list:
            continue
        waiting += [item for item in node if type(item) is dict or type(item) is list]


def compile_view(given: Definition | Any, marked: bool = False) -> View:
    """A view from its definition (or from JSON that was read).

    Args:    marked: read numbers that are only bounds as text, unless the view itself reads the comparator.
    Raises:  ViewInvalid: says what, where, and what to do.
    """
    definition = given if isinstance(given, Definition) else check(given)
    exact = any(wants_digits(path) for part in definition.select for path in _paths(part))
    exact = exact or any(wants_digits(part.path) for part in definition.where)
    scope = Scope({}, exact)
    scope.constants = _constants(definition)
    rows, columns = _all(definition.select, scope)
    names = [column.name for column in columns]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ViewInvalid(f"column {sorted(twice)[0]} stands twice", "give each column a name of its own")
    if not names:
        raise ViewInvalid("select: there is no column", "name one")
    paths = [*(path for part in definition.select for path in _paths(part)), *(part.path for part in definition.where)]
    marked = marked and not any("comparator" in path for path in paths)
    return View(definition.resource, tuple(columns), rows, _conditions(definition.where, scope), exact, marked)


def _paths(part: SelectPart) -> Iterator[str]:
    yield from (column.path for column in part.column)
    yield from (path for path in (part.each, part.each_or_null, *part.repeat) if path is not None)
    for inner in (*part.select, *part.union):
        yield from _paths(inner)


def _conditions(parts: list[WherePart], scope: Scope) -> list[Run]:
    scope.hint = ""
    return [compile_path(part.path, scope).run for part in parts]


def _constants(definition: Definition) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, given in enumerate(definition.constant):
        name, keys = given.get("name"), [key for key in given if key.startswith("value")]
        kind = keys[0].removeprefix("value") if len(keys) == 1 else ""
        wanted = CONSTANTS.get(kind)
        if type(name) is not str or not name.isidentifier() or name == "rowIndex" or name in found:
            raise ViewInvalid(f"constant.{number}.name: is no name of its own", "use letters, digits and _")
        value = given[keys[0]] if wanted else None
        if wanted is None or type(value) not in ((int, float) if wanted is float else (wanted,)):
            raise ViewInvalid(f"constant {name}: has no value of a known type", "give one, such as valueString")
        found[name] = _constant(name, kind[0].lower() + kind[1:], value)
    return found


def _constant(name: str, kind: str, value: Any) -> Any:
    if kind == "decimal":
        return Decimal(repr(value))
    if kind not in TEMPORAL:
        return value
    read = moment(value, kind)
    if read is None:
        raise ViewInvalid(f"constant {name}: is no {kind}", "write it as FHIR does, such as 2018-03-01T10:30:00Z")
    return read


def _all(parts: list[SelectPart], scope: Scope) -> tuple[Rows, list[Column]]:
    """Every combination of the rows of several selects."""
    made = [_select(part, scope) for part in parts]
    return _product([rows for rows, _ in made]), [column for _, columns in made for column in columns]


def _product(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]

    def run(node: Any) -> list[Row]:
        found: list[Row] = [()]
        for part in parts:
            more = part(node)
            found = [(*one, *other) for one in found for other in more]
        return found

    return run


def _select(part: SelectPart, scope: Scope) -> tuple[Rows, list[Column]]:
    """The rows of one select: its columns, then its selects, then its union, for each item that it goes along."""
    parts: list[Rows] = []
    columns: list[Column] = []
    if part.column:
        rows, told = _columns(part.column, scope)
        parts.append(rows)
        columns += told
    if part.select:
        rows, told = _all(part.select, scope)
        parts.append(rows)
        columns += told
    if part.union:
        rows, told = _union(part.union, scope)
        parts.append(rows)
        columns += told
    scope.hint = ""
    inner = _product(parts) if parts else (lambda node: [()])
    if part.repeat:
        return _each(_repeat([compile_path(path, scope).run for path in part.repeat]), inner, False, scope), columns
    path = part.each if part.each is not None else part.each_or_null
    if path is None:
        return inner, columns
    found = compile_path(path, scope).run
    return _each(lambda node: items(found(node)), inner, part.each is None, scope), columns


def _columns(parts: list[ColumnPart], scope: Scope) -> tuple[Rows, list[Column]]:
    paths: list[Path] = []
    columns: list[Column] = []
    for part in parts:
        scope.hint = part.type or ""
        path = compile_path(part.path, scope)
        paths.append(path)
        columns.append(Column(part.name, part.type or path.type, part.collection))
    together = gather([path.keys or () for path in paths])
    rests = [(slot, path.rest) for slot, path in enumerate(paths) if path.keys is not None and path.rest is not None]
    alone = [(slot, path.run) for slot, path in enumerate(paths) if path.keys is None]

    def rows(node: Any) -> list[Row]:
        found = together(node)
        for slot, rest in rests:
            found[slot] = rest(found[slot])
        for slot, run in alone:
            found[slot] = run(node)
        return [tuple(found)]

    return rows, columns


def _union(parts: list[SelectPart], scope: Scope) -> tuple[Rows, list[Column]]:
    made = [_select(part, scope) for part in parts]
    names = [[column.name for column in columns] for _, columns in made]
    if any(other != names[0] for other in names):
        raise ViewInvalid("unionAll: its branches have not the same columns in the same order", "name them alike")
    branches = [rows for rows, _ in made]
    return (lambda node: [row for branch in branches for row in branch(node)]), made[0][1]


def _each(found: Callable[[Any], Sequence[Any]], inner: Rows, or_null: bool, scope: Scope) -> Rows:
    """The rows of each item, with its index as `%rowIndex`; where there is none, those of an empty one if `or_null`."""

    def run(node: Any) -> list[Row]:
        every = found(node)
        if not every and or_null:
            every = ({},)
        before, rows = scope.row, []
        try:
            for scope.row, item in enumerate(every):
                rows += inner(item)
        finally:
            scope.row = before
        return rows

    return run


def _repeat(paths: list[Run]) -> Callable[[Any], list[Any]]:
    """Every item that is reached by the paths again and again, each before those that are reached from it."""

    def run(node: Any) -> list[Any]:
        found: list[Any] = []
        waiting = [item for path in reversed(paths) for item in reversed(items(path(node)))]
        while waiting:
            item = waiting.pop()
            found.append(item)
            if len(found) > MOST_REPEATED:
                raise Mismatch("has no end where `repeat` goes along")
            waiting += [inner for path in reversed(paths) for inner in reversed(items(path(item)))]
        return found

    return run
