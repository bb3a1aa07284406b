"""What is asked of a table: the columns that are used, of nobody who opted out. Of them the key is looked at alone."""

import re
from collections.abc import Callable
from typing import Any

from consilium.data import headers
from consilium.data.base import Asked, Rows
from consilium.data.choosing import key
from consilium.data.instants import POSTGRESQL, refused

Answer = tuple[list[str], list[tuple[Any, ...]]]
"""Names of columns, and rows."""
Ask = Callable[[str], Answer]
"""Asks a database one query."""
TABLES = ("sqlite", "postgresql", "mysql", "mariadb")
"""Databases that take any query as a table of another one; of others rows are left out as they come."""


BITS = {b"\x00": "0", b"\x01": "1"}
"""As MySQL gives a BIT(1), in which it keeps what is true."""


def _text(value: Any) -> str | None:
    if isinstance(value, bytes) and value in BITS:
        return BITS[value]
    return None if value is None else str(value)


def rows_of(names: list[str], found: list[tuple[Any, ...]], name: str = "the answer to the query") -> Rows:
    """What a database answered, as text. Raises: DataUnusable: two of its columns have one name."""
    headers.once(names, name)
    return Rows({name: [_text(row[index]) for row in found] for index, name in enumerate(names)})


def answer_of(rows: Rows) -> Answer:
    """The same as an answer again: names, and rows of text."""
    return list(rows.columns), list(zip(*rows.columns.values()))


def quoted(text: str) -> str:
    """A text as it stands in SQL. For a value that is given beside a query DuckDB imports pandas, if it is there."""
    return "'" + text.replace("'", "''") + "'"


def named(name: str) -> str:
    """A name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def opted_out(answer: Answer, out: frozenset[str]) -> list[str]:
    """Of keys of patients, as a database has them, those of who opted out."""
    return [row[0] for row in answer[1] if row[0] is not None and key(row[0]) in out]


def left_out(keys: list[str]) -> int:
    """How many patients these keys are of."""
    return len(set(map(key, keys)))


def used(names: list[str], asked: Asked) -> list[str]:
    """Of the columns those that are used; all where none is: whoever looks for theirs tells which there are."""
    return [name for name in names if asked.uses(name)] or names


def of_duckdb(ask: Ask, table: str, names: list[str], asked: Asked, sql: Callable[[str], str] = named) -> Rows:
    """The rows of a table of DuckDB: columns that are used, of all but those who opted out.

    Args:    table: SQL that stands after FROM.   names: of its columns.   sql: what is read of a column.
    """
    wanted, (where, away) = used(names, asked), staying(ask, table, names, asked)
    found = rows_of(*ask(f"SELECT {', '.join(map(sql, wanted))} FROM {table}{where}"))  # noqa: S608
    return Rows(found.columns, tuple(name for name in names if name not in wanted), left_out=left_out(away))


def staying(ask: Ask, table: str, names: list[str], asked: Asked) -> tuple[str, list[str]]:
    """WHERE of a table of DuckDB, for all but those who opted out; and their keys."""
    column, out = asked.without
    if not out or column not in names:
        return "", []
    text = f"CAST({named(column)} AS VARCHAR)"
    away = opted_out(ask(f"SELECT DISTINCT {text} FROM {table}"), out)  # noqa: S608  names are quoted
    return f" WHERE {named(column)} IS NULL OR {text} NOT IN ({', '.join(map(quoted, away))})" if away else "", away


def plain(query: str) -> Any:
    """A query as SQLAlchemy takes it: no colon in it, as in '12:30' or `::text`, is a place for a value."""
    from sqlalchemy import text

    return text(query.replace(":", "\\:"))


def of_url(connection: Any, query: str, asked: Asked, zone: bool = True) -> Rows:
    """The rows of a query by a connection of SQLAlchemy: columns that are used, of all but those who opted out.

    Args:    zone: whether the time zone of instants is known.
    Raises:  DataUnusable: it is not, and a column of PostgreSQL holds instants.
    """
    from sqlalchemy import String, bindparam, cast, column, or_, select

    def ask(statement: Any, known: bool = True) -> Answer:
        answer = connection.execute(statement)
        kinds = () if known or connection.dialect.name != "postgresql" else answer.cursor.description
        for name in (one[0] for one in kinds if one[1] == POSTGRESQL):
            raise refused(name)
        return list(answer.keys()), [tuple(row) for row in answer]

    key_column, out = asked.without
    if connection.dialect.name not in TABLES or (asked.every and not out):
        found = rows_of(*ask(plain(query), zone)).columns
        wanted = used(list(found), asked)
        return Rows({name: found[name] for name in wanted}, tuple(name for name in found if name not in wanted))
    whole_query = f"{query}\n"  # a remark may end it
    names, _ = ask(plain(f"SELECT * FROM ({whole_query}) AS asked WHERE 1 = 0"))  # noqa: S608  the hospital's own query
    headers.once(_as_written(names, connection.dialect.name), "the answer to the query")
    table = plain(whole_query).columns(*map(column, names)).subquery("asked")
    wanted, away = used(names, asked), list[str]()
    chosen = select(*(table.c[name] for name in wanted))
    if key_column in names:
        patient, spelt = table.c[key_column], cast(table.c[key_column], String)
        away = opted_out(ask(select(spelt).distinct()), out)
        listed = bindparam("away", away, type_=String(), expanding=True, literal_execute=True)
        chosen = chosen.where(or_(patient.is_(None), spelt.not_in(listed))) if away else chosen
    columns = rows_of(*ask(chosen, zone)).columns
    return Rows(columns, tuple(name for name in names if name not in wanted), left_out=left_out(away))


def _as_written(names: list[str], dialect: str) -> list[str]:
    """Names of columns as the query has them: SQLite calls a second `a` of a subquery `a:1`."""
    if dialect != "sqlite":
        return names
    return [re.sub(r":\d+$", "", name) if re.sub(r":\d+$", "", name) in names else name for name in names]
