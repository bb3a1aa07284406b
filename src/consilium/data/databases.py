"""Databases by their URL: secrets from the environment, files from the mapping's folder, all of it opened for reading.

A driver's own words may hold values of rows; told of them is what a table or a column is called that is not there.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from consilium.core.errors import DataUnusable, MappingInvalid

FILES = ("sqlite", "duckdb")
"""Databases that are a file."""
SQLITE = b"SQLite format 3\x00"
"""With which a file of SQLite begins."""
LACKING = re.compile(
    r"""no\ such\ (?P<sqlite>table|column):\ (?P<of_sqlite>[\w.$]+)$
      | (?P<postgresql>relation|column)\ "?(?P<of_postgresql>[\w.$]+)"?\ does\ not\ exist
      | Catalog\ Error:\ (?P<duckdb>Table)\ with\ name\ (?P<of_duckdb>[\w.$]+)\ does\ not\ exist
      | Binder\ Error:\ Referenced\ (?P<bound>column)\ "(?P<of_bound>[\w.$]+)"\ not\ found
      | \(\d+,\ "(?P<mysql>Table|Unknown\ column)\ '(?P<of_mysql>[\w.$]+)'\ (?:doesn't\ exist|in)""",
    re.VERBOSE,
)
"""How drivers begin to say that a name of the query is not there."""

TWICE = re.compile(r"\(1060, ")
"""What MySQL says of a query as a table where two of its columns have one name."""


def before(dialect: str, mariadb: bool, limit_s: float) -> tuple[str, ...]:
    """What is said to a database before the query: that it reads alone, for WITH may begin a DELETE, which SQLite's
    driver would commit by itself, and a function may write; that what is asked twice is seen at one moment; and that it
    ends by itself what nobody waits for.

    >>> before("mysql", True, 65.0)[0], before("mysql", False, 65.0)[0]
    ('SET SESSION max_statement_time = 65', 'SET SESSION max_execution_time = 65000')
    """
    seen, ms = "ISOLATION LEVEL REPEATABLE READ, READ ONLY", int(limit_s * 1000)
    match dialect:
        case "sqlite":
            return ("PRAGMA query_only = ON",)
        case "postgresql":
            return (f"SET TRANSACTION {seen}", f"SET statement_timeout = {ms}")
        case "mysql" | "mariadb":
            ends = f"max_statement_time = {limit_s:g}" if mariadb else f"max_execution_time = {ms}"
            return (f"SET SESSION {ends}", f"SET SESSION TRANSACTION {seen}")
    return ()


def twice(error: BaseException) -> bool:
    """Whether a driver says that two columns of the query have one name."""
    return TWICE.match(str(getattr(error, "orig", None) or error)) is not None


def expanded(url: str) -> str:
    """A URL with what the environment has for each ${NAME}. Raises: MappingInvalid."""

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in os.environ:
            raise MappingInvalid(f"source.url: the environment has no {name}", "set it for the agent")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, url)


def place(url: str, folder: Path) -> Path | None:
    """The file of a database that is one, from `folder` where the URL does not begin at the root; else None.

    >>> place("sqlite:///registry.db", Path("/srv/mappings"))
    PosixPath('/srv/mappings/registry.db')
    >>> place("sqlite:////srv/registry.db", Path("/")), place("postgresql://host/research", Path("/"))
    (PosixPath('/srv/registry.db'), None)
    """
    kind, _, rest = url.partition("://")
    named = rest.removeprefix("/").partition("?")[0]
    if kind.partition("+")[0] not in FILES or not rest.startswith("/") or named in ("", ":memory:"):
        return None
    return folder / (unquote(named.removeprefix("file:")) if named.startswith("file:") else named)


def found(url: str, folder: Path, begins: str = "the folder of the mapping") -> Path | None:
    """The same, where the file is there. Raises: DataUnusable: it is not, and none is made."""
    path = place(url, folder)
    if path is None:
        return None
    if "\0" in str(path):
        raise DataUnusable("the database cannot be read: no file can be called so", "correct source.url")
    if path.is_file():
        return path
    raise DataUnusable(
        f"there is no database {path.resolve()}",
        f"correct the URL: after `sqlite:///` a path begins at {begins}, after `sqlite:////` at the root",
    )


def engine(url: str, path: Path | None = None) -> Any:
    """SQLAlchemy's engine; SQLite opens the file at `path` for reading alone. Raises: what SQLAlchemy does."""
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool

    made = make_url(url)
    if path is not None and made.get_backend_name() == "sqlite":
        options = {**made.query, "mode": "ro", "uri": "true"}
        made = made.set(database=f"file:{quote(str(path.resolve()))}", query=options)
    return create_engine(made, poolclass=NullPool)  # the hospital's database keeps no connection that nobody uses


def is_sqlite(path: Path) -> bool:
    """Whether a file is one of SQLite; of one that cannot be read, its reader says why."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def lacking(error: BaseException) -> str:
    """Which table or column a query names that is not there, in words; empty where the driver says something else.

    >>> lacking(ValueError("no such table: patients"))
    'no table patients'
    """
    match = LACKING.match(str(getattr(error, "orig", None) or error).split("\n")[0])
    if match is None:
        return ""
    what, name = (part for part in match.groups() if part)
    return f"no {'column' if 'column' in what else 'table'} {name}"
