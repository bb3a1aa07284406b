"""A DuckDB for one reading: in memory, over files, or a file of the hospital's own; and what its errors tell."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data import databases, memory
from consilium.data.asking import Answer, Ask, quoted

Begun = Callable[[Callable[[], None]], None]
"""Is told how to end what has begun."""
BESIDE = (
    "name files under `tables` of a source of type tables, where they stand beside the mapping; or write whole paths"
)


@contextmanager
def opened(database: str, begun: Begun, zone: str | None) -> Iterator[Any]:
    """A connection, by the clock of a zone; None: of Greenwich. begun: is told how to end what it is asked."""
    with memory.opened(database, read_only=database != ":memory:") as connection:
        begun(connection.interrupt)
        _set_zone(connection, zone or "UTC")
        yield connection


def asker(connection: Any) -> Ask:
    """Who asks it."""

    def ask(query: str) -> Answer:
        answer = connection.execute(query)
        return [column[0] for column in answer.description], answer.fetchall()

    return ask


@contextmanager
def reading(
    name: str | None, database: str = ":memory:", begun: Begun = lambda cut: None, zone: str | None = None
) -> Iterator[Ask]:
    """Raises: DataUnusable: of a query of ours nothing is told; of the hospital's own, which name is not there.

    Args:    zone: by whose clock instants are read; None: by that of Greenwich, and never by the machine's.
    """
    try:
        with opened(database, begun, zone) as connection:
            yield asker(connection)
    except duckdb.ParserException as error:
        raise DataUnusable("the query is none that DuckDB knows", "correct source.query") from error
    except (duckdb.Error, ValueError, OverflowError) as error:  # of a damaged file: names that are no text, too
        memory.check(error, name or "the query")
        if database != ":memory:" and (lacks := databases.lacking(error)):
            raise lacking(lacks) from error
        kind = type(error).__name__
        if "No files found" in str(error):
            raise DataUnusable(
                "source.query: a file that it, or a view of the database, reads is not there", BESIDE
            ) from error
        remedy = "check path, delimiter, header and query; if they are right, the file may have been cut: fetch it anew"
        raise DataUnusable(f"{name or 'the query'} cannot be read ({kind})", remedy) from error


def _set_zone(connection: Any, zone: str) -> None:
    try:
        connection.execute(f"SET TimeZone = {quoted(zone)}")
    except duckdb.Error:
        raise MappingInvalid(
            f"source.zone: there is no time zone {zone}", "such as Europe/Berlin, as IANA has it"
        ) from None


def lacking(words: str) -> DataUnusable:
    """That a database has no such table or column."""
    return DataUnusable(
        f"source.query: the database has {words}", "correct the query; check that source names the right database"
    )
