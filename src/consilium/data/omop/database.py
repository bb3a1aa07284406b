"""Connections for one reading: read-only, one snapshot, and over when their time is."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from socket import SHUT_RDWR, socket
from threading import Event, Thread
from typing import Any, NoReturn, Protocol

import duckdb

from consilium.core.errors import EXTRA, DataUnusable, MappingInvalid
from consilium.data import memory

CLOSED = {"enable_external_access": "false", "TimeZone": "UTC"}
PIECE = 10_000
"""Rows fetched at once."""
GRACE_S = 5.0
"""After its time, how long a server may take to say so by itself before its line is cut."""
SAID = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.PermissionException)
"""Faults of a query itself, whose words hold no value of a row."""
FILE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
"""Faults of a file that was cut or altered."""
MAPPING = "correct the mapping"
Row = tuple[Any, ...]
Answer = tuple[list[str], Iterator[Row]]
"""Names of columns in lower case, and rows."""


class Database(Protocol):
    """What both kinds of database can do. `?` stands for a value."""

    schemas: tuple[str, ...]

    def query(self, sql: str, values: Sequence[str] = (), what: str = "") -> Answer:
        """Ask. `what` of the mapping asks stands in messages.   Raises: DataUnusable."""
        ...


class Watch:
    """The time of a reading: once it is over, `cut` is called again and again, until the reading ends."""

    def __init__(self, limit_s: float, cut: Any, grace_s: float = 0.0) -> None:
        self.limit_s, self._cut, self._end = limit_s, cut, time.monotonic() + limit_s
        self._grace_s, self._done = grace_s, Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """The reading is over."""
        self._done.set()
        self._thread.join()

    @property
    def left_s(self) -> float:
        """Seconds until the end; not above zero after it."""
        return self._end - time.monotonic()

    def check(self, what: str) -> None:
        """Raises: DataUnusable: the time is over."""
        if self.left_s <= 0:
            raise self.over(what)

    def over(self, what: str) -> DataUnusable:
        """That the time is over."""
        return DataUnusable(
            f"{what}: the database took longer than the {self.limit_s:g} s that source.omop.time_limit_s allows",
            "make the query faster, such as by an index, or raise the limit",
        )

    def _run(self) -> None:
        wait = self.left_s + self._grace_s
        while not self._done.wait(max(wait, 0.1)):
            with suppress(Exception):  # the reading may end at this moment
                self._cut()
            wait = 0.1


class Duck:
    """A DuckDB file."""

    def __init__(self, path: Path, shown: str, schemas: Sequence[str], limit_s: float) -> None:
        self.schemas = tuple(schemas) or ("main",)
        try:
            self._connection = memory.opened(str(path), CLOSED, read_only=True)
            known = {row[0] for row in self._connection.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()}
            _known(self.schemas, known)
            self._connection.execute(f"SET search_path = '{','.join(self.schemas)}'")
            self._connection.execute("SET lock_configuration = true")
        except (duckdb.Error, ValueError, RuntimeError) as error:
            raise DataUnusable(
                f"{shown} cannot be opened ({type(error).__name__})",
                "check source.path, that the file was not cut, and that no other program has it open for writing",
            ) from error
        self._watch = Watch(limit_s, self._connection.interrupt)

    def __enter__(self) -> "Duck":
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        self._connection.close()

    def query(self, sql: str, values: Sequence[str] = (), what: str = "") -> Answer:
        """Ask. Raises: DataUnusable."""
        self._watch.check(what)
        try:
            answer = self._connection.execute(sql, list(values))
        except (duckdb.Error, RuntimeError, ValueError, OverflowError) as error:
            self._told(error, what)
        return [column[0].lower() for column in answer.description], self._rows(answer, what)

    def _rows(self, answer: Any, what: str) -> Iterator[Row]:
        while True:
            self._watch.check(what)
            try:
                piece = answer.fetchmany(PIECE)
            except (duckdb.Error, RuntimeError, ValueError, OverflowError) as error:
                self._told(error, what)
            if not piece:
                return
            yield from piece

    def _told(self, error: Exception, what: str) -> NoReturn:
        self._watch.check(what)
        memory.check(error, what)
        words = f": {str(error).splitlines()[0]}" if isinstance(error, SAID) else ""
        remedy = "copy the database anew: it may have been cut or altered" if isinstance(error, FILE) else MAPPING
        raise DataUnusable(f"{what}: cannot be asked ({type(error).__name__}){words}", remedy) from error


class Postgres:
    """A PostgreSQL database, by its SQLAlchemy URL."""

    def __init__(self, url: str, schemas: Sequence[str], limit_s: float) -> None:
        psycopg, given = _driver(url)
        self.schemas, self._psycopg = tuple(schemas) or ("public",), psycopg
        self._watch = Watch(limit_s, self._cut, GRACE_S)
        try:
            self._connection = psycopg.connect(**given, connect_timeout=max(2, min(30, int(limit_s))))
            self._number = self._connection.fileno()
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
        except psycopg.Error as error:
            raise DataUnusable(
                f"the database cannot be reached ({type(error).__name__})", "check source.url, the account and the line"
            ) from error

    def __enter__(self) -> "Postgres":
        self._watch.start()
        try:
            _, rows = self.query("SELECT nspname FROM pg_namespace", what="source.omop.cdm_schema")
            _known(self.schemas, {str(row[0]) for row in rows})
            self._set("search_path", ",".join(f'"{name}"' for name in self.schemas))
            self._set("cursor_tuple_fraction", "1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.stop()
        with suppress(self._psycopg.Error):
            self._connection.close()

    def _cut(self) -> None:
        """End the line, whatever the server does: what waits for it is told so at once."""
        with socket(fileno=os.dup(self._number)) as line:
            line.shutdown(SHUT_RDWR)

    def _set(self, name: str, value: str) -> None:
        self._connection.execute("SELECT set_config(%s, %s, true)", [name, value])

    def query(self, sql: str, values: Sequence[str] = (), what: str = "") -> Answer:
        """Ask. Raises: DataUnusable."""
        self._watch.check(what)
        try:
            self._set("statement_timeout", str(max(1, int(self._watch.left_s * 1000))))
            cursor = self._connection.cursor(name="asked")
            cursor.itersize = PIECE
            cursor.execute(sql.replace("?", "%s") if values else sql, list(values) or None)
        except self._psycopg.Error as error:
            self._told(error, what)
        return [column.name.lower() for column in cursor.description or ()], self._rows(cursor, what)

    def _rows(self, cursor: Any, what: str) -> Iterator[Row]:
        try:
            with cursor:
                yield from cursor
        except self._psycopg.Error as error:
            self._told(error, what)

    def _told(self, error: Any, what: str) -> NoReturn:
        if isinstance(error, self._psycopg.errors.QueryCanceled):
            raise self._watch.over(what) from error
        self._watch.check(what)
        state = error.sqlstate or ""
        words = f": {str(error).splitlines()[0]}" if state.startswith("42") else ""
        if isinstance(error, self._psycopg.errors.ReadOnlySqlTransaction):
            words = ": it wants to write"
        raise DataUnusable(f"{what}: cannot be asked ({type(error).__name__}){words}", "correct the mapping") from error


def _known(wanted: Sequence[str], known: set[str]) -> None:
    for name in wanted:
        if name not in known:
            raise DataUnusable(
                f"the database has no schema {name!r}",
                f"correct source.omop.cdm_schema or vocabulary_schema; there are {', '.join(sorted(known)[:20])}",
            )


def _driver(url: str) -> tuple[Any, dict[str, Any]]:
    """psycopg, and what it is told of a URL."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        made = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number: what it says quotes the password
        raise MappingInvalid("source.url: is no URL", "write postgresql://user:${PASSWORD}@host/database") from None
    if made.get_backend_name() != "postgresql":
        raise MappingInvalid(
            f"source.url: OMOP is read from PostgreSQL and DuckDB, not from {made.get_backend_name()}",
            "copy the tables into a DuckDB file, or give a view of them as type sql",
        )
    try:
        import psycopg
    except ImportError as error:
        raise MappingInvalid("source.url: PostgreSQL needs psycopg", EXTRA.format("postgres")) from error
    return psycopg, {**made.translate_connect_args(username="user", database="dbname"), **made.query}
