"""One database, SQLite or PostgreSQL: transactions run in threads, and a committed transaction rings its topics."""

import asyncio
import select as polling
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Table, bindparam, create_engine, event, insert, select, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError

from consilium.core.errors import EXTRA, ConsiliumError, Invalid, Unavailable
from consilium.durable import PRAGMAS
from consilium.store.hot import Hot
from consilium.store.queue import Asked, Queue, Told, answer

Result = TypeVar("Result")
CHANNEL = "consilium"
FORGET = "forget:"
"""Topics by which processes tell each other of inboxes whose messages were removed."""
_NOTIFY = text("SELECT pg_notify(:channel, topic) FROM unnest(CAST(:topics AS text[])) AS topic")
_SAVE, _UNDO, _RELEASE = (Hot(text(f"{word} apart")) for word in ("SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE"))
_BEGIN, _COMMIT = Hot(text("BEGIN IMMEDIATE")), Hot(text("COMMIT"))
MIGRATION_LOCK = 0x436F6E73
RETRIES, AWAY = 20, 6
LATELY = 8
"""Messages of an inbox that are kept in memory, until its site has asked for them."""
CONFLICTS = ("40001", "40P01")
TWICE = "23505"
"""What PostgreSQL says when another transaction was faster, and when it inserted the same row."""
DISK_FULL = "53100"


class Away(Unavailable):
    """The database, or room on its disk: an operator must hear of it, and not only who asks."""


@dataclass
class Transaction:
    """One transaction. After the commit `after` is done, and `topics` are rung; what was `posted` is kept in memory
    then, by inbox.

    `placed`: number of the newest message of an inbox, and digest of its payload, where it is of this transaction.
    `forget`: inboxes of which messages were removed: what memory holds of them is not true any more.
    """

    connection: Connection
    topics: set[str] = field(default_factory=set)
    posted: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    forget: set[str] = field(default_factory=set)
    placed: dict[str, tuple[int, str]] = field(default_factory=dict)
    after: list[Callable[[], object]] = field(default_factory=list)

    def apart(self, act: "Callable[[Transaction], Any]") -> "Told":
        """Do something that, if it is refused, is undone, and nothing else of this transaction with it.

        Raises: DBAPIError: the database refused; what stands of the transaction is not known.
        """
        inner = Transaction(self.connection)
        _SAVE.execute(self.connection, {})
        try:
            result = act(inner)
        except DBAPIError:
            raise
        except Exception as error:
            _UNDO.execute(self.connection, {})
            _RELEASE.execute(self.connection, {})
            return None, error
        _RELEASE.execute(self.connection, {})
        self.topics |= inner.topics
        self.placed |= inner.placed
        self.forget |= inner.forget
        self.after += inner.after
        for inbox in inner.forget:
            self.posted.pop(inbox, None)
        for inbox, messages in inner.posted.items():
            self.posted.setdefault(inbox, []).extend(messages)
        return result, None

    def ring(self, topic: str) -> None:
        """Wake whoever waits for `topic`, once this is committed."""
        self.topics.add(topic)

    def then(self, act: Callable[[], object]) -> None:
        """Do this once this is committed; of what is undone it is not done. It must not fail."""
        self.after.append(act)

    def rows(self, statement: Any, **values: Any) -> list[Any]:
        """All rows of a statement; `values` are those of a `Hot` one."""
        if isinstance(statement, Hot):
            return statement.execute(self.connection, values)[0]
        return list(self.connection.execute(statement))

    def row(self, statement: Any, **values: Any) -> Any:
        """The first row, or None."""
        if isinstance(statement, Hot):
            rows, _ = statement.execute(self.connection, values)
            return rows[0] if rows else None
        return self.connection.execute(statement).first()

    def scalar(self, statement: Any, **values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.row(statement, **values)
        return None if row is None else row[0]

    def find(self, table: Table, **equal: Any) -> Any:
        """The first row of `table` in which these columns have these values, or None."""
        return self.row(_selecting(table, tuple(equal)), **equal)

    def put(self, table: Table, *rows: dict[str, Any], **row: Any) -> None:
        """Insert rows that have values for the same columns, the key among them."""
        rows = rows or (row,)
        _inserting(table, tuple(rows[0])).execute(self.connection, *rows)

    def put_once(self, table: Table, **row: Any) -> None:
        """Insert a row, unless there is one with its key: that one stands."""
        _inserting_once(table, tuple(row)).execute(self.connection, row)

    def do(self, statement: Any, **values: Any) -> int:
        """Execute; the number of rows that changed."""
        if isinstance(statement, Hot):
            return statement.execute(self.connection, values)[1]
        return int(self.connection.execute(statement).rowcount)


@cache
def _selecting(table: Table, columns: tuple[str, ...]) -> Hot:
    return Hot(select(table).where(*(table.c[name] == bindparam(name) for name in columns)).limit(1))


@cache
def _inserting(table: Table, columns: tuple[str, ...]) -> Hot:
    return Hot(insert(table).values({name: bindparam(name) for name in columns}).inline())


@cache
def _inserting_once(table: Table, columns: tuple[str, ...]) -> Hot:
    given = (bindparam(name, type_=table.c[name].type) for name in columns)
    into, values = ", ".join(columns), ", ".join(f":{name}" for name in columns)
    words = f"INSERT INTO {table.name} ({into}) VALUES ({values}) ON CONFLICT DO NOTHING"  # noqa: S608  names of ours
    return Hot(text(words).bindparams(*given))


class Database:
    """SQLite (one process, one writer thread, synchronous=FULL) or PostgreSQL (any number of processes)."""

    def __init__(self, url: str, ring: Callable[[Collection[str]], None]) -> None:
        """ring: is told the topics of each transaction that is committed.

        Raises: Invalid: the URL is of no such database.   Unavailable: a package is lacking.
        """
        self.url = _with_driver(url)
        self.postgres = self.url.startswith("postgresql")
        self._ring = ring
        self._engine = _engine(self.url, self.postgres)
        self._threads = ThreadPoolExecutor(8 if self.postgres else 1, thread_name_prefix="store")
        self._closing = threading.Event()
        self._own = threading.local()
        self._queue = Queue()
        self._posted: dict[str, list[tuple[int, bytes]]] = {}
        self._listener: threading.Thread | None = None

    def prepare(self) -> None:
        """Bring the tables to this release; start listening to other coordinator processes (PostgreSQL).

        Raises: Unavailable: the database does not answer.   Invalid: it is none, or of a later release.
        """
        try:
            self._migrate()
        except OperationalError as error:
            raise Unavailable("the database does not answer", "check that it runs, its URL and its password") from error
        except DatabaseError as error:
            raise unreadable(error) from error
        except CommandError as error:
            raise Invalid("the database is of a later release of Consilium", "update Consilium here") from error
        if self.postgres:
            self._listener = threading.Thread(target=self._listen, name="store-listen", daemon=True)
            self._listener.start()

    def _migrate(self) -> None:
        with self._engine.begin() as connection:
            if self.postgres:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    async def run(self, act: Callable[[Transaction], Result]) -> Result:
        """Run `act` in one transaction, in a thread. On SQLite, what comes while it writes shares the next one."""
        loop = asyncio.get_running_loop()
        if self.postgres:  # its connections write at the same time, and it gathers their commits itself
            return await loop.run_in_executor(self._threads, self._in_thread, act)
        future: asyncio.Future[Result] = loop.create_future()
        if self._queue.add(Asked(act, future)):
            self._threads.submit(self._work)
        return await future

    def _work(self) -> None:
        self._own.store = True
        while some := self._queue.take():
            told = self._together([one.act for one in some]) if len(some) > 1 else None
            answer(some, told or [self._alone(one.act) for one in some])

    def _alone(self, act: Callable[[Transaction], Any]) -> Told:
        try:
            return self.run_here(act), None
        except BaseException as error:
            return None, error

    def _together(self, acts: list[Callable[[Transaction], Any]]) -> list[Told] | None:
        """All of them in one transaction, each undone by itself if it is refused; None if the database refused any."""

        def each(tx: Transaction) -> list[Told]:
            return [tx.apart(act) for act in acts]

        try:
            return self._once(each)
        except DBAPIError:
            return None
        except BaseException as error:
            return [(None, error)] * len(acts)

    def posted(self, inbox: str, after: int) -> list[tuple[int, bytes]] | None:
        """Committed messages with the numbers that follow `after`, or None where memory cannot tell.

        Other processes post, too (PostgreSQL): that there are none, only the database knows then.
        """
        lately = self._posted.get(inbox, [])
        found = [one for one in lately if one[0] > after]
        if found:  # threads of one process may have ended their transactions in another order
            whole = [number for number, _ in found] == list(range(after + 1, after + 1 + len(found)))
            return found if whole else None
        return None if self.postgres or not lately or lately[-1][0] != after else []

    def _in_thread(self, act: Callable[[Transaction], Result]) -> Result:
        self._own.store = True  # a thread of ours: it may keep its connection
        return self.run_here(act)

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
        raise _away(last) from last

    def _once(self, act: Callable[[Transaction], Result]) -> Result:
        with self._begun() as connection:
            transaction = Transaction(connection)
            result = act(transaction)
            transaction.topics |= {FORGET + inbox for inbox in transaction.forget}
            if self.postgres and transaction.topics:
                connection.execute(_NOTIFY, {"channel": CHANNEL, "topics": sorted(transaction.topics)})
        for inbox in transaction.forget:
            self._posted.pop(inbox, None)
        for inbox, messages in transaction.posted.items():
            self._posted[inbox] = (self._posted.get(inbox, []) + messages)[-LATELY:]
        for then in transaction.after:
            then()
        self._ring(transaction.topics)
        return result

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        if self.postgres or not hasattr(self._own, "store"):
            with self._engine.begin() as connection:
                yield connection
            return
        if not hasattr(self._own, "connection"):  # SQLite's does not break, and to get one takes a while
            connection = self._engine.connect()
            connection.begin()  # for SQLAlchemy it goes on for ever; what it does at each takes longer than SQLite does
            _COMMIT.execute(connection, {})
            self._own.connection = connection
        connection = self._own.connection
        _BEGIN.execute(connection, {})
        try:
            yield connection
            _COMMIT.execute(connection, {})
        except BaseException:
            connection.connection.rollback()  # nothing, where SQLite has done it itself
            raise

    def _listen(self) -> None:
        while not self._closing.is_set():
            try:
                with _listening(self._engine) as raw:
                    self._posted.clear()  # and what was removed
                    self._ring(("*",))  # what was rung while nobody listened
                    while not self._closing.is_set():
                        if polling.select([raw.fileno()], [], [], 1.0)[0]:
                            for notice in raw.notifies(timeout=0):
                                if notice.payload.startswith(FORGET):
                                    self._posted.pop(notice.payload.removeprefix(FORGET), None)
                                self._ring((notice.payload,))
            except (DBAPIError, OSError, _psycopg_errors()):
                self._closing.wait(0.5)

    def close(self) -> None:
        """Let running transactions end, then close."""
        self._closing.set()
        self._threads.shutdown()
        if self._listener is not None:
            self._listener.join()
        self._engine.dispose()


def unreadable(error: DatabaseError) -> ConsiliumError:
    """What to say of a database that fails; of SQLAlchemy's words, which hold values, nothing."""
    if isinstance(error, OperationalError):
        return _away(error, "see that it runs, and that its disk is there and has room")
    return Invalid("the database cannot be read", "keep its file, and restore it from your backup, or name another")


def _away(error: DBAPIError, remedy: str = "check that it runs, then try again") -> Away:
    if _full(error):
        return Away("the disk of the database is full", "make room on it: what waits goes on by itself")
    return Away("the database does not answer", remedy)


def _full(error: DBAPIError) -> bool:
    name = getattr(error.orig, "sqlite_errorname", "")
    return name == "SQLITE_FULL" or getattr(error.orig, "sqlstate", None) == DISK_FULL


def _passes(error: DBAPIError, attempt: int) -> bool:
    """Whether trying again is right: the database is away or was busy, or now shows what another inserted before us."""
    state = getattr(error.orig, "sqlstate", None)
    if state in CONFLICTS:
        return True
    # Whoever asks is told soon, and asks again.
    away = isinstance(error, OperationalError) and attempt < AWAY and not _full(error)
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
    if url.startswith(("sqlite:", "postgresql+psycopg:")):
        return url
    raise _no_url()


def _no_url() -> Invalid:
    # Without its text, which may hold a password.
    return Invalid("the URL of the database is neither SQLite's nor PostgreSQL's", "postgresql://NAME@HOST/DATABASE")


def _engine(url: str, postgres: bool) -> Engine:
    try:
        return _made(url, postgres)
    except (ArgumentError, ValueError) as error:
        raise _no_url() from error
    except ModuleNotFoundError as error:
        raise Unavailable(f"PostgreSQL needs the module {error.name}", EXTRA.format("postgres")) from error


def _made(url: str, postgres: bool) -> Engine:
    if postgres:
        return create_engine(url, pool_size=8, pool_pre_ping=True, hide_parameters=True)
    waits = {"check_same_thread": False, "timeout": 30}
    engine = create_engine(url, connect_args=waits, pool_reset_on_return=None, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(raw: sqlite3.Connection, _: Any) -> None:
        raw.isolation_level = None  # SQLAlchemy's own BEGIN below
        for pragma in (*PRAGMAS, "busy_timeout=30000"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        _BEGIN.execute(connection, {})

    return engine
