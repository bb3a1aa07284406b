"""A compiler from a ViewDefinition to rows. `compile_view(definition).rows(resource)` are those of one resource.

What a view asks for is checked before any resource is read: names of columns, branches of unions, constants, paths.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from consilium.core.errors import DataUnusable, ViewInvalid
from consilium.data.bounds import bound
from consilium.data.fhir.chains import Columns
from consilium.data.fhir.definition import Definition, SelectPart, WherePart, check
from consilium.data.fhir.moments import Moment, moment
from consilium.data.fhir.paths import Scope, compile_path, wants_digits
from consilium.data.fhir.reading import Page
from consilium.data.fhir.rows import Column, Contexts, Rows, Values, compile_rows, compile_values
from consilium.data.fhir.values import Mismatch, items

Row = tuple[Any, ...]
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
class Batch:
    """Some rows of a view, by column as paths gave them, and by row the number of its resource."""

    of: tuple[Column, ...]
    found: Columns
    lines: list[int]
    place: str

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.lines)

    @property
    def columns(self) -> dict[str, Sequence[Any]]:
        """By name, as `values`."""
        return {column.name: self.values(number) for number, column in enumerate(self.of)}

    def values(self, number: int) -> Sequence[Any]:
        """JSON values of a column, and lists of them if it is a collection. Raises: DataUnusable: no such value."""
        return _values(self.of[number], self.found[number], self.lines, self.place)


class View:
    """A compiled view. It is for one thread: `%rowIndex` stands in it while it goes along.

    Args:    marked: whether a number that is only a bound is read as text, with its sign before it: `<5`.
    """

    def __init__(
        self, resource: str, columns: tuple[Column, ...], rows: Rows, where: list[Values], exact: bool, marked: bool
    ) -> None:
        self.resource, self.columns, self.exact, self._marked = resource, columns, exact, marked
        self._rows, self._where = rows, where

    def rows(self, resource: Any) -> list[Row]:
        """Rows of one resource, with collections as paths gave them; none for another type.

        Raises: Mismatch: the data are not what a path demands.
        """
        return list(zip(*self._table([resource])[0]))

    def batches(self, pages: Iterable[Page], place: str, size: int = 4096) -> Iterator[Batch]:
        """Rows of many resources, some thousands at a time; none where there are none.

        Args:    pages: resources, each with its number, which follows `place` in messages, such as "p.ndjson line".
        Raises:  DataUnusable: says line and remedy, and no value; and so does a batch, and the column.
        """
        found: Columns = [[] for _ in self.columns]
        lines: list[int] = []
        for page in pages:
            if self._marked:
                for _, resource in page:
                    mark(resource)
            columns, of = self._page(page, place)
            for column, more in zip(found, columns):
                column += more
            lines += [page[number][0] for number in of]
            if len(lines) >= size:
                yield Batch(self.columns, found, lines, place)
                found, lines = [[] for _ in self.columns], []
        if lines:
            yield Batch(self.columns, found, lines, place)

    def _page(self, page: Page, place: str) -> tuple[Columns, Sequence[int]]:
        try:
            return self._table([resource for _, resource in page])
        except Mismatch as error:
            for one in page if len(page) > 1 else ():
                self._page([one], place)  # of the first that does not fit is told
            where = f"{place} {page[0][0]}: {self.resource}"
            raise DataUnusable(f"{where} {error}", "correct the path, or the resource") from None

    def _table(self, resources: list[Any]) -> tuple[Columns, Sequence[int]]:
        """Columns, and by row which of the resources it is of."""
        kind = self.resource
        kept = [at for at, one in enumerate(resources) if type(one) is dict and one.get("resourceType") == kind]
        for condition in self._where:
            found = condition(_contexts(resources, kept))
            kept = [at for at, value in zip(kept, found) if _holds(value)]
        columns, of = self._rows(_contexts(resources, kept))
        return columns, kept if of is None else [kept[number] for number in of]


def _contexts(resources: list[Any], kept: list[int]) -> Contexts:
    nodes = resources if len(kept) == len(resources) else [resources[at] for at in kept]
    return Contexts(nodes, [0] * len(kept))


def _holds(found: Any) -> bool:
    if type(found) is list:
        found = found[0] if len(found) == 1 else found
    if found is not None and type(found) is not bool:
        raise Mismatch("has a value that is not true or false where `where` wants one")
    return found is True


def _values(column: Column, values: list[Any], lines: list[int], place: str) -> Sequence[Any]:
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
    rows, columns = compile_rows(definition.select, scope)
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


def _conditions(parts: list[WherePart], scope: Scope) -> list[Values]:
    scope.hint = ""
    return [compile_values(compile_path(part.path, scope), scope) for part in parts]


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
