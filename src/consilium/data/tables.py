"""CSV, Parquet and SQL tables, read as text through DuckDB or SQLAlchemy. Read-only: one SELECT, nothing else."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data import (
    ages,
    casting,
    catalogue,
    collating,
    databases,
    durations,
    elsewhere,
    hanging,
    headers,
    instants,
    keying,
    meeting,
    memory,
    missed,
    opening,
    ordering,
    recoding,
    unused,
    whole,
    zoning,
)
from consilium.data.anew import Anew
from consilium.data.asking import Ask, answer_of, named, of_duckdb, of_url, quoted
from consilium.data.base import Asked, Missed, Note, Rows
from consilium.data.clock import Clock
from consilium.data.flaws import ENCODINGS, flaw
from consilium.data.selecting import one_select
from consilium.data.source import EXAMPLES, TableSource

NAMED = re.compile(
    r"(?i)(?:\b(?:read|scan)\w*\s*\(\s*\[?|_scan\s*\(|\b(?:from|join)\s)\s*'(?!/|\w+://)([^']+\.[a-z]{2,7})'"
)
"""A file in a query of DuckDB, by a path that does not begin at the root: looked for where the agent was started."""
GRACE_S = 5.0
"""After its time, how long a database may take to notice that nobody waits for it."""
COMPARED = replace(
    ordering.TEXT,
    remedy="within max, min, ORDER BY, < and such write CAST(replace(..., ',', '.') AS REAL), which makes 0 of `<0,5`: "
    "leave such rows out first; and of days as 31.03.2024 "
    "substr(..., 7)||'-'||substr(..., 4, 2)||'-'||substr(..., 1, 2)",
)
ON_POSTGRESQL = replace(
    ordering.TEXT,
    remedy="within max, min, ORDER BY, < and such write CAST(NULLIF(replace(..., ',', '.'), '') AS numeric), and of "
    "days as 31.03.2024 to_date(..., 'DD.MM.YYYY')",
)


def _nothing() -> None:
    """Where a driver cannot be interrupted."""


def file_of(source: TableSource, folder: Path) -> Path:
    """The file beside the mapping. Raises: MappingInvalid, DataUnusable."""
    if source.path is None:
        raise MappingInvalid(f"source.path: a source of type {source.type} needs the path of its file")
    path = (folder / source.path).resolve()
    if not path.is_file():
        raise DataUnusable(f"there is no file {source.path} beside the mapping", "correct source.path")
    if databases.is_sqlite(path):
        raise MappingInvalid(
            f"source.path: {source.path} is a file of SQLite",
            f'write `source: {{type: sql, url: "sqlite:///{source.path}", query: "SELECT ..."}}`',
        )
    return path


class CsvSource:
    """A CSV file, with or without a header line."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        self._path, self._source, self._asked = file_of(source, folder), source, Asked()
        if not source.header and not source.columns:
            raise MappingInvalid("source.columns: name the columns of a file without header")
        if source.encoding.lower() not in ENCODINGS:
            raise MappingInvalid(
                f"source.encoding: {source.encoding!r} is none of {', '.join(ENCODINGS)}",
                "name the file's encoding, or convert the file to utf-8, such as by `iconv`",
            )

    def told(self, asked: Asked) -> None:
        """Which columns are used, and who opted out."""
        self._asked = asked

    def _table(self, place: str, encoding: str, packed: str) -> str:
        """SQL: the table, from where its text is."""
        given = self._source
        options = "all_varchar=true, nullstr='', strict_mode=true, sample_size=-1"
        # Said, lest they be guessed: what does not fit a guess is skipped in silence, and a skipped line is a patient.
        options += """, quote='"', escape='"', comment='', skip=0, null_padding=false, ignore_errors=false"""
        options += f", hive_partitioning=false, compression={packed!r}"
        options += f", delim={quoted(given.delimiter)}, header={given.header}, encoding={quoted(encoding)}"
        if given.columns:
            options += f", names=[{', '.join(quoted(name) for name in given.columns)}]"
        return f"read_csv({quoted(place)}, {options})"

    @contextmanager
    def _opened(self) -> Iterator[tuple[Ask, str]]:
        given = self._source
        try:
            with recoding.readable(self._path, given.encoding) as text, opening.reading(given.path) as ask:
                yield ask, self._table(*text)
        except DataUnusable as error:
            found = flaw(self._path, given)
            if found is None:
                raise
            raise DataUnusable(f"{given.path}: {found[0]}", found[1]) from error
        self._check()

    def _check(self) -> None:
        """That the file came whole, and that its columns have names of their own: DuckDB would rename the second."""
        given, name = self._source, str(self._source.path)
        whole.check(self._path, name, given.encoding)
        first, second = [*whole.begins(self._path, given.encoding, given.delimiter, 2), [], []][:2]
        named = given.columns or first
        if given.header or given.columns:
            headers.once(named, name)
        if named and len(named) < len(second if given.header else first):  # DuckDB drops one that is always empty
            raise DataUnusable(
                f"{name}: lines have {len(named) + 1} fields where {len(named)} columns are named",
                "end the first line as the others end, or give a name to the column that has none, which may be the "
                "first: nobody knows which names are of which values",
            )

    def count(self) -> int:
        """Number of rows."""
        return len(self.rows())

    def rows(self) -> Rows:
        """All rows, as text; of columns that are not used no value is read."""
        with self._opened() as (ask, table):
            _, described = ask(f"DESCRIBE FROM {table}")
            found = of_duckdb(ask, table, [str(row[0]) for row in described], self._asked)
            return unused.noted(ask, table, found, self._asked)


class ParquetSource:
    """A Parquet file."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        self._path, self._name, self._asked = file_of(source, folder), source.path, Asked()
        self._zone = source.zone

    def told(self, asked: Asked) -> None:
        """Which columns are used, and who opted out."""
        self._asked = asked

    def count(self) -> int:
        """Number of rows."""
        return len(self.rows())

    def rows(self) -> Rows:
        """All rows, as text; of columns that are not used no value is read."""
        path = quoted(recoding.literal(self._path))
        table = f"read_parquet({path}, hive_partitioning=false)"
        with opening.reading(self._name, zone=self._zone) as ask:
            _, stored = ask(f"SELECT name, num_children FROM parquet_schema({path})")  # noqa: S608  ours
            headers.once(_outer(stored), str(self._name))
            _, described = ask(f"DESCRIBE FROM {table}")
            kinds = {str(row[0]): str(row[1]) for row in described}
            known = self._zone is not None or self._asked.every
            spans = durations.of(ask, path) if "BIGINT" in kinds.values() else {}

            def picked(name: str) -> str:
                if name in spans:
                    return durations.picked(name, spans[name], self._asked.every)
                return _picked(name, kinds[name], known)

            found = of_duckdb(ask, table, list(kinds), self._asked, picked)
            vague = (name for name, kind in kinds.items() if kind == instants.DUCKDB and self._zone is None)
            found = unused.noted(ask, table, found, self._asked)
            return replace(found, instants=tuple(vague))


def _outer(stored: list[tuple[Any, ...]]) -> list[Any]:
    """Names of the columns themselves, of a schema that lists each before what is nested in it."""
    found, at = [], 1
    while at < len(stored):
        found.append(stored[at][0])
        inside = 1
        while inside and at < len(stored):
            inside, at = inside - 1 + int(stored[at][1] or 0), at + 1
    return found


def _picked(name: str, kind: str, zone: bool) -> str:
    """SQL of a column; instants as text, by the clock of the hospital, and numbers of single precision.

    Raises: DataUnusable: the zone of this clock is not known, so that nobody knows of which day an instant is.
    """
    said = named(name)
    if kind == "FLOAT":  # as it is written in single precision: of 6.9 Python would make 6.900000095367432
        return f"CAST({said} AS VARCHAR) AS {said}"
    if kind != instants.DUCKDB:
        return said
    if not zone:
        raise instants.refused(name)
    return f"CAST({said} AS VARCHAR) AS {said}"


class SqlSource:
    """One SELECT on a DuckDB file (`path`) or on a database (`url`, SQLAlchemy)."""

    def __init__(self, source: TableSource, folder: Path) -> None:
        if (source.path is None) == (source.url is None):
            raise MappingInvalid(
                "source.url: a source of type sql needs the path of a DuckDB file (`path`), or the `url` of a database",
                f"name one of both, such as {EXAMPLES['sql']}",
            )
        if not source.query:
            raise MappingInvalid(
                "source.query: a source of type sql needs one SELECT statement", f"such as {EXAMPLES['sql']}"
            )
        self._query = one_select(source.query)
        self._file = str(file_of(source, folder)) if source.path is not None else None
        self._url = databases.expanded(source.url) if source.url is not None else ""
        self._at = databases.found(self._url, folder)
        if self._at is not None and self._url.startswith("duckdb"):
            self._file, self._at = str(self._at.resolve()), None
        self._name = f"{source.path or Path(str(self._file)).name}, by source.query,"
        self._limit_s, self._given, self._zone = source.time_limit_s, Asked(), source.zone
        if self._zone is not None and self._file is None and not self._url.startswith("postgresql"):
            raise MappingInvalid(
                f"source.zone: {re.split('[+:]', self._url)[0]} is not told a time zone",
                "leave it out, and give the day by the clock of the hospital in the query",
            )
        if self._file is not None and (named := NAMED.search(self._query)):
            where = "would be looked for where the agent was started, and not beside the mapping"
            raise MappingInvalid(f"source.query: {named[1]} {where}", opening.BESIDE)

    def told(self, asked: Asked) -> None:
        """Which columns are used, and who opted out."""
        self._given = asked

    def count(self) -> int:
        """Number of rows."""
        return len(self.rows())

    def rows(self) -> Rows:
        """All rows, as text, of columns that are used. Raises: DataUnusable: the database gives nothing in its time."""
        cuts: list[Callable[[], None]] = []

        def cut() -> None:
            for one in cuts:
                with suppress(Exception):  # the reading may end at this moment
                    one()

        clock = Clock(self._limit_s, "source.time_limit_s")
        before_s = clock.left_s
        found = clock.within(lambda: self._asked(cuts.append), cut)
        if self._at is None and self._file is None and not self._url.startswith("postgresql"):
            return replace(found, doubts=elsewhere.doubts(self._query, re.split(r"[+:]", self._url)[0]))
        anew = Anew(clock, before_s - clock.left_s, cut, here=self._file is not None or self._at is not None)
        slip = ordering.TEXT if self._file is not None else COMPARED if self._at is not None else ON_POSTGRESQL
        where = (lambda: self._place(found, cuts.append)) if self._file is not None else str
        doubts: tuple[Note, ...] = ordering.checked(lambda: self._others(found, cuts.append), anew, slip, where)
        doubts += self._lost(found, cuts.append, anew)
        if self._file is not None and ages.YEARS.search(self._query):
            doubts += ordering.checked(lambda: self._years(found, cuts.append), anew, ages.CALENDAR)
        if self._at is not None:
            doubts += ordering.checked(lambda: self._lenient(cuts.append), anew, casting.LENIENT)
        elif self._zone is None:
            doubts += ordering.checked(lambda: self._by_zone(found, cuts.append), anew, zoning.DAYS)
        doubts += meeting.checked(lambda: self._unmet(cuts.append), self._query, anew)
        doubts += missed.checked(lambda: self._missed(found, cuts.append), anew)
        return replace(found, doubts=(*found.doubts, *doubts))

    def _unmet(self, begun: opening.Begun) -> list[meeting.Apart]:
        """Columns that the query joins and whose keys do not meet. Raises: Undecided."""
        if self._file is not None:
            with opening.opened(self._file, begun, self._zone) as tables:
                return meeting.unmet(tables, self._query, catalogue.of_duckdb(tables))
        with memory.opened() as parser, self._connected(begun) as connection:
            return meeting.unmet(parser, self._query, catalogue.of_url(connection))

    def _missed(self, found: Rows, begun: opening.Begun) -> Missed | None:
        """Who is in the table of the query's patients, and in no row. Raises: Undecided."""
        key = self._given.without[0]
        if self._file is not None:
            with opening.opened(self._file, begun, self._zone) as tables:
                return missed.missed(tables, self._query, found, key, catalogue.of_duckdb(tables))
        with memory.opened() as parser, self._connected(begun) as connection:
            return missed.missed(parser, self._query, found, key, catalogue.of_url(connection))

    def _asked(self, begun: opening.Begun) -> Rows:
        if self._file is not None:
            with opening.reading(self._name, self._file, begun, self._zone) as ask:
                return self._of_file(ask, self._query)
        with self._connected(begun) as connection:
            return of_url(connection, self._query, self._given, self._zone is not None)

    def _of_file(self, ask: Ask, query: str) -> Rows:
        _, described = ask(f"DESCRIBE {query}")
        names, kinds = [str(row[0]) for row in described], {str(row[0]): str(row[1]) for row in described}
        headers.once(names, "the answer to the query")
        known = self._zone is not None
        return of_duckdb(ask, f"({query}\n) AS asked", names, self._given,
                         lambda name: _picked(name, kinds[name], known))  # fmt: skip

    def _others(self, found: Rows, begun: opening.Begun) -> list[str]:
        """Columns that would be others if numbers and days were compared as such. Raises: Undecided."""
        if self._file is not None:
            with opening.opened(self._file, begun, self._zone) as tables:
                tables.execute("SET threads TO 1")  # the same query takes the same of several values
                ask = opening.asker(tables)
                return ordering.others(tables, self._query, answer_of(found),
                                       lambda query: answer_of(self._of_file(ask, query)))  # fmt: skip
        with self._connected(begun) as connection:
            if self._at is None:
                return keying.others(connection, self._query, list(found.columns),
                                     lambda query: of_url(connection, query, self._given))  # fmt: skip
            return collating.others(connection, self._query, lambda: of_url(connection, self._query, self._given))

    def _place(self, found: Rows, begun: opening.Begun) -> str:
        """Of DuckDB, a place of the query at which it does so. Raises: Undecided."""
        with opening.opened(str(self._file), begun, self._zone) as tables:
            tables.execute("SET threads TO 1")
            ask = opening.asker(tables)
            return ordering.place(tables, self._query, answer_of(found),
                                   lambda query: answer_of(self._of_file(ask, query)))  # fmt: skip

    def _lost(self, found: Rows, begun: opening.Begun, anew: Anew) -> tuple[Note, ...]:
        """Of DuckDB, what TRY_CAST and CASE of the query make nothing of; of all, what it names in one of its ways."""
        answer = answer_of(found)
        if self._file is not None:
            with opening.opened(self._file, begun, self._zone) as tables:
                tables.execute("SET threads TO 1")
                file = opening.asker(tables)
                ask = lambda query: answer_of(self._of_file(file, query))  # noqa: E731
                return hanging.checked(tables, self._query, answer, ask, self._given.meant, anew)
        with memory.opened() as parser, self._connected(begun) as connection:
            ask = lambda query: answer_of(of_url(connection, query, self._given))  # noqa: E731
            return hanging.of_url(parser, connection, self._query, answer, ask, self._given.meant, anew)

    def _years(self, found: Rows, begun: opening.Begun) -> list[str]:
        """Of DuckDB, columns that would be others if whole years were counted. Raises: Undecided."""
        with opening.opened(str(self._file), begun, self._zone) as tables:
            ask = opening.asker(tables)
            return ages.others(self._query, answer_of(found), lambda query: answer_of(self._of_file(ask, query)))

    def _by_zone(self, found: Rows, begun: opening.Begun) -> list[str]:
        """Of PostgreSQL and DuckDB, columns that would be others in another time zone. Raises: Undecided."""
        if self._file is not None:
            with opening.opened(self._file, begun, None) as tables:
                ask = opening.asker(tables)
                return zoning.of_duckdb(tables, self._query, found, lambda: self._of_file(ask, self._query))
        with self._connected(begun) as connection:
            return zoning.of_url(connection, self._query, found, lambda: of_url(connection, self._query, self._given))

    def _lenient(self, begun: opening.Begun) -> list[str]:
        """Of SQLite, columns that would be others if texts that are no numbers were none. Raises: Undecided."""
        with self._connected(begun) as connection:
            return casting.others(connection, self._query, lambda query: of_url(connection, query, self._given))

    @contextmanager
    def _connected(self, begun: opening.Begun) -> Iterator[Any]:
        """A connection of its own, for reading alone. Raises: DataUnusable."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        try:
            engine = databases.engine(self._url, self._at)
            with engine.connect() as connection:  # closed without commit: whatever it was, it is rolled back
                if self._at is not None:
                    _pages(connection.exec_driver_sql("PRAGMA page_size").scalar_one(), self._at)
                mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
                for said in databases.before(connection.dialect.name, mariadb, self._limit_s + GRACE_S):
                    connection.execute(text(said))
                if connection.dialect.name == "postgresql" and self._zone is not None:
                    connection.execute(text("SELECT set_config('TimeZone', :zone, true)"), {"zone": self._zone})
                driver = connection.connection.driver_connection
                begun(getattr(driver, "interrupt", getattr(driver, "cancel", _nothing)))
                yield connection
        except (
            SQLAlchemyError,
            ImportError,
            ValueError,
            OverflowError,
            TypeError,
        ) as error:  # a port that is no number
            if lacks := databases.lacking(error):
                raise opening.lacking(lacks) from error
            if databases.twice(error):
                raise DataUnusable(
                    "the answer to the query has two columns of one name", "give one of them another name, by AS"
                ) from error
            kind = type(error).__name__
            raise DataUnusable(
                f"the database cannot be read ({kind})", "check source.url, its driver and the query"
            ) from error


def _pages(size: int, path: Path) -> None:
    """That a file of SQLite ends where a page does: of one that was cut, the rest of the last page reads as NULL."""
    if path.stat().st_size % size:
        raise DataUnusable("the database's file was cut", whole.ANEW)
