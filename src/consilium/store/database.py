"""One database, SQLite or PostgreSQL: transactions run in threads, and a committed transaction rings its topics."""

import asyncio
import select as polling
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, Insert, Select, Table, bindparam, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError, OperationalError

from consilium.core.errors import Unavailable

Result = TypeVar("Result")
CHANNEL = "consilium"
_NOTIFY = text("SELECT pg_notify(:channel, topic) FROM unnest(CAST(:topics AS text[])) AS topic")
MIGRATION_LOCK = 0x436F6E73
RETRIES, AWAY = 20, 6
CONFLICTS = ("40001", "40P01")
TWICE = "23505"
"""What PostgreSQL says when another transaction was faster, and when it inserted the same row."""


@dataclass
class Transaction:
    """One transaction. `topics` are rung after the commit; `after` runs then, too."""

    connection: Connection
    topics: set[str] = field(default_factory=set)

    def ring(self, topic: str) -> None:
        """Wake whoever waits for `topic`, once this is committed."""
        self.topics.add(topic)

    def rows(self, statement: Any) -> list[Any]:
        """All rows of a statement."""
        return list(self.connection.execute(statement))

    def row(self, statement: Any) -> Any:
        """The first row, or None."""
        return self.connection.execute(statement).first()

    def scalar(self, statement: Any) -> Any:
        """The first column of the first row, or None."""
        return self.connection.execute(statement).scalar()

    def find(self, table: Table, **equal: Any) -> Any:
        """The first row of `table` in which these columns have these values, or None."""
        return self.connection.execute(_selecting(table, tuple(equal)), equal).first()

    def put(self, table: Table, **row: Any) -> None:
        """Insert a row."""
        self.connection.execute(_inserting(table), row)

    def do(self, statement: Any) -> int:
        """Execute; the number of rows that changed."""
        return int(self.connection.execute(statement).rowcount)


@cache  # to put a statement together takes longer than the database takes to answer it
def _selecting(table: Table, columns: tuple[str, ...]) -> Select[Any]:
    return select(table).where(*(table.c[name] == bindparam(name) for name in columns)).limit(1)


@cache
def _inserting(table: Table) -> Insert:
    return insert(table)


class Database:
    """SQLite (one process, one writer thread, synchronous=FULL) or PostgreSQL (any number of processes)."""

    def __init__(self, url: str, ring: Callable[[str], None]) -> None:
        self.url = _with_driver(url)
        self.postgres = self.url.startswith("postgresql")
        self._ring = ring
        self._engine = _engine(self.url, self.postgres)
        self._threads = ThreadPoolExecutor(8 if self.postgres else 1, thread_name_prefix="store")
        self._closing = threading.Event()
        self._listener: threading.Thread | None = None

    def prepare(self) -> None:
        """Bring the tables to this release; start listening to other coordinator processes (PostgreSQL)."""
        with self._engine.begin() as connection:
            if self.postgres:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        if self.postgres:
            self._listener = threading.Thread(target=self._listen, name="store-listen", daemon=True)
            self._listener.start()

    async def run(self, act: Callable[[Transaction], Result]) -> Result:
        """Run `act` in one transaction, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.run_here, act)

    def run_here(self, act: Callable[[Transaction], Result]) -> Result:
        """Run `act` in one transaction, in this thread; serialisation failures are tried again.

        Raises: Unavailable: the database cannot be reached, or the conflict does not end.
        """
        for attempt in range(RETRIES):
            try:
                return self._once(act)
            except DBAPIError as error:
                last = error
                if not _passes(error, attempt):
                    if isinstance(error, OperationalError):
                        break
                    raise
                self._closing.wait(0.01 * 2 ** min(attempt, 6))
        raise Unavailable("the database does not answer", "check that it runs, then try again") from last

    def _once(self, act: Callable[[Transaction], Result]) -> Result:
        with self._engine.begin() as connection:
            transaction = Transaction(connection)
            result = act(transaction)
            if self.postgres and transaction.topics:
                connection.execute(_NOTIFY, {"channel": CHANNEL, "topics": sorted(transaction.topics)})
        for topic in transaction.topics:
            self._ring(topic)
        return result

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                with _listening(self._engine) as raw:
                    self._ring("*")  # what was rung while nobody listened
                    while not self._closing.is_set():
                        if polling.select([raw.fileno()], [], [], 1.0)[0]:
                            for notice in raw.notifies(timeout=0):
                                self._ring(notice.payload)
            except (DBAPIError, OSError, _psycopg_errors()):
                self._closing.wait(0.5)

    def close(self) -> None:
        """Let running transactions end, then close."""
        self._closing.set()
        self._threads.shutdown()
        if self._listener is not None:
            self._listener.join()
        self._engine.dispose()


def _passes(error: DBAPIError, attempt: int) -> bool:
    """Whether trying again is right: the database is away or was busy, or now shows what another inserted before us."""
    state = getattr(error.orig, "sqlstate", None)
    if state in CONFLICTS:
        return True
    away = isinstance(error, OperationalError) and attempt < AWAY  # whoever asks is told soon, and asks again
    return away or (state == TWICE and attempt < 3)


def _psycopg_errors() -> type[Exception]:
    import psycopg

    return psycopg.Error


@contextmanager
def _listening(engine: Engine) -> Iterator[Any]:
    import psycopg

    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as raw:
        raw.execute(f"LISTEN {CHANNEL}")
        yield raw


def _with_driver(url: str) -> str:
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _engine(url: str, postgres: bool) -> Engine:
    if postgres:
        return create_engine(url, pool_size=8, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, pool_reset_on_return=None)

    @event.listens_for(engine, "connect")
    def _configure(raw: sqlite3.Connection, _: Any) -> None:
        raw.isolation_level = None  # SQLAlchemy's own BEGIN below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
