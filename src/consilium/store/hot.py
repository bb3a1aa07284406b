"""Statements of every round, compiled once: what stands between them and the database is one call of its driver.

To put an expression together and to look up how it is compiled takes many times longer than the database takes to
answer it. Types are converted by the same functions of SQLAlchemy as elsewhere.
"""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.exc import DBAPIError

Convert = Callable[[Any], Any]
Found = tuple[list[Any], int]
"""Rows, and how many there are or were changed."""


class Hot:
    """A statement whose values, all named by `bindparam`, are given when it is executed. Make it once, in a module."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def execute(self, connection: Connection, *rows: dict[str, Any]) -> Found:
        """Execute it with the values in each of `rows`. Raises: DBAPIError."""
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = self._compiled[connection.dialect.name] = _compile(self._statement, connection)
        return compiled.execute(connection, rows)


@dataclass(frozen=True)
class _Compiled:
    text: str
    names: tuple[str, ...]
    positional: bool
    fixed: dict[str, Any]
    given: dict[str, Convert]
    pick: Callable[[dict[str, Any]], tuple[Any, ...]]
    row: Any
    types: list[Any]
    simple: bool
    told: list[Convert | None] = field(default_factory=list)

    def execute(self, connection: Connection, rows: tuple[dict[str, Any], ...]) -> Found:
        """Execute it once for each of `rows`, by the driver alone. Raises: DBAPIError, as SQLAlchemy would."""
        raw: Any = connection.connection.dbapi_connection
        try:
            if len(rows) == 1:
                cursor = raw.execute(self.text, self.pick(rows[0]) if self.simple else self._values(rows[0]))
            else:
                cursor = raw.cursor()
                cursor.executemany(self.text, [self._values(row) for row in rows])
            return self._rows(connection, cursor) if self.row is not None else [], cursor.rowcount
        except connection.dialect.loaded_dbapi.Error as error:
            base = connection.dialect.loaded_dbapi.Error
            raise DBAPIError.instance(self.text, None, error, base, dialect=connection.dialect) from error

    def _values(self, given: dict[str, Any]) -> Any:
        every = {**self.fixed, **given} if self.fixed else given
        if self.given:
            every = dict(every)
            for name, convert in self.given.items():
                every[name] = convert(every[name])
        values = self.pick(every)
        return values if self.positional else dict(zip(self.names, values, strict=True))

    def _rows(self, connection: Connection, cursor: Any) -> list[Any]:
        dialect = connection.dialect
        if not self.told:  # how a value is converted depends on what the database says that it is
            of = zip(self.types, cursor.description, strict=True)
            self.told[:] = [kind.dialect_impl(dialect).result_processor(dialect, about[1]) for kind, about in of]
        make, told, rows = self.row, self.told, cursor.fetchall()
        if not any(told):
            return list(map(make, rows))
        return [make([v if how is None else how(v) for how, v in zip(told, row, strict=True)]) for row in rows]


def _compile(statement: ClauseElement, connection: Connection) -> _Compiled:
    dialect = connection.dialect
    compiled: Any = statement.compile(dialect=dialect)
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    names = tuple(compiled.positiontup) if compiled.positional else tuple(compiled.params)
    columns = list(getattr(statement, "selected_columns", ()))
    row: Any = namedtuple("Row", [column.name for column in columns]) if columns else None  # an attribute per column
    make = None if row is None else partial(tuple.__new__, row)
    given = dict(compiled._bind_processors)
    return _Compiled(
        str(compiled), names, bool(compiled.positional), fixed, given, _picking(names), make,
        [column.type for column in columns], bool(compiled.positional) and not fixed and not given,
    )  # fmt: skip


def _picking(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """What takes the values of these names out of a dictionary, in one call."""
    if len(names) > 1:
        return itemgetter(*names)
    if names:
        (only,) = names
        return lambda given: (given[only],)
    return lambda given: ()
