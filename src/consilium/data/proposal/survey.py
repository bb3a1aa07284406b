"""The tables of a source: a file, a folder, a database. Read here, by the same readers as for training."""

import csv
import gzip
import io
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilium.core.errors import DataUnusable, MappingInvalid, NotFound
from consilium.data import databases, memory
from consilium.data.mapping import normal
from consilium.data.proposal.profile import LOOKED, MOMENT
from consilium.data.selecting import one_select
from consilium.data.source import EXAMPLES, TableSource
from consilium.data.traps import placeholder

TEXT = (".csv", ".tsv", ".txt", ".data", ".dat", ".csv.gz", ".tsv.gz", ".txt.gz")
BOOKS = (".xlsx", ".xlsm")
DUCKDB = (".duckdb", ".ddb")
DELIMITERS = (",", ";", "\t", "|")
HERE = "the folder in which this is typed"
HEAD = 64 << 20
"""Bytes of a file that are looked at to tell how it is written."""
FIRST = 200
"""Records that are looked at to tell whether the first one names the columns."""


@dataclass(frozen=True)
class Found:
    """A table. look: how it is read to be looked at.   kept: the source of a mapping that uses these columns."""

    title: str
    look: TableSource
    kept: Callable[[Sequence[str]], TableSource]


def tables(where: str, columns: Sequence[str] = (), query: str = "") -> list[Found]:
    """All tables at a path or a URL, by title; or the one that a query makes of a database.

    Args:    columns: names for those of a text file without a header.
    Raises:  NotFound: nothing is there.   MappingInvalid: a driver or a reader is missing.   DataUnusable.
    """
    if "://" in where and not where.startswith("duckdb"):
        url = _rooted(where)
        return [_asked(TableSource(type="sql", url=url, query=one_select(query, "--query")))] if query else _of_url(url)
    at = databases.found(databases.expanded(where), Path.cwd(), HERE) if "://" in where else None
    path = (at or Path(where).expanduser()).absolute()
    if not path.exists():
        raise NotFound(f"there is nothing at {where}", "give a file, a folder, or the URL of a database")
    if query:
        return [_asked(_database(path, one_select(query, "--query")))]
    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    found = [one for file in files for one in _of_file(file, columns, alone=not path.is_dir())]
    if not found:
        raise NotFound(f"{where} holds no table", f"tables are files such as {', '.join(TEXT[:3])}, .parquet and .xlsx")
    return found


def _of_file(path: Path, columns: Sequence[str], *, alone: bool) -> list[Found]:
    name = path.name.casefold()
    if name.endswith(".parquet"):
        return [_file(path.name, TableSource(type="parquet", path=str(path)))]
    if name.endswith(BOOKS):
        return _sheets(path)
    if databases.is_sqlite(path):
        return _of_url(f"sqlite:///{path}")
    if _is_duckdb(path):
        return _of_duckdb(path)
    if name.endswith(TEXT) or alone:
        return [_file(path.name, text_source(path, columns))]
    return []


def _is_duckdb(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[8:] == b"DUCK" or path.name.casefold().endswith(DUCKDB)


def _rooted(url: str) -> str:
    """The URL of a database; of one that is a file, which is typed from where one is, from the root on."""
    full = databases.expanded(url)
    at = databases.found(full, Path.cwd(), HERE)
    if at is None or databases.place(full, Path("/")) == at:
        return url
    return f"{url.partition('://')[0]}:///{at.absolute()}"


def _database(path: Path, query: str) -> TableSource:
    """A query of a file. Raises: MappingInvalid: it is no database."""
    if path.is_file() and databases.is_sqlite(path):
        return TableSource(type="sql", url=f"sqlite:///{path}", query=query)
    if path.is_file() and _is_duckdb(path):
        return TableSource(type="sql", path=str(path), query=query)
    raise MappingInvalid("--query is for a database", f"a source with a query is written {EXAMPLES['sql']}")


def _asked(source: TableSource) -> Found:
    """What a query gives, of which no more is asked than is looked at."""
    first = f"SELECT * FROM ({source.query}) AS asked LIMIT {LOOKED}"  # noqa: S608  the hospital's own query
    return Found("the answer to the query", source.model_copy(update={"query": first}), lambda used: source)


def _file(title: str, source: TableSource) -> Found:
    return Found(title, source, lambda used: source)


def _sheets(path: Path) -> list[Found]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        return [_file(path.name, TableSource(type="excel", path=str(path)))]  # whose reader says what is missing
    try:
        book = load_workbook(path, read_only=True)
        names = [sheet.title for sheet in book.worksheets]
        book.close()
    except Exception:  # of a damaged file: whatever its parsers raise; its reader says it
        names = []
    several = names if len(names) > 1 else [None]
    return [
        _file(f"{path.name}, {name}" if name else path.name, TableSource(type="excel", path=str(path), sheet=name))
        for name in several
    ]


def text_source(path: Path, columns: Sequence[str] = ()) -> TableSource:
    """How a text file is written: encoding, delimiter, and whether its first line names the columns.

    A first line that could be a patient is none: its values would be shown as names.
    """
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rb") as file:
        data = bytes(file.read(HEAD))
    encoding = _encoding(data)
    text = data.decode(encoding, "ignore").removeprefix("\ufeff")
    delimiter = max(DELIMITERS, key=lambda one: _fields(text, one))
    records = _records(text, delimiter, FIRST)
    if not records:
        raise DataUnusable(f"{path.name} is empty", "choose another file")
    header = not columns and _names(records)
    names: tuple[str, ...] = tuple(columns)
    if not header and not names:
        width = len(str(len(records[0])))
        names = tuple(f"column_{number + 1:0{width}}" for number in range(len(records[0])))
    return TableSource(
        type="csv", path=str(path), header=header, columns=names, delimiter=delimiter, encoding=encoding
    )  # fmt: skip


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        data[: len(data) - 4 if len(data) == HEAD else len(data)].decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252" if re.search(rb"[\x80-\x9f]", data) else "latin-1"
    return "utf-8"


def _records(text: str, delimiter: str, most: int) -> list[list[str]]:
    found: list[list[str]] = []
    with suppress(csv.Error):
        for record in csv.reader(io.StringIO(text[: 4 << 20], newline=""), delimiter=delimiter):
            if record:
                found.append(record)
            if len(found) == most:
                break
    return found


def _fields(text: str, delimiter: str) -> int:
    """Fields of each record, where all have as many; 1 where they do not."""
    counts = {len(record) for record in _records(text, delimiter, 50)}
    return counts.pop() if len(counts) == 1 else 1


def _names(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names columns: words, each once, of which none is a value further down."""
    first = [field.strip() for field in records[0]]
    if len(set(first)) < len(first) or any(not field or placeholder(field) for field in first):
        return False
    if any(_is_value(field) for field in first):
        return False
    return not any(
        field == record[at].strip() for record in records[1:] for at, field in enumerate(first[: len(record)])
    )


def _is_value(field: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d.,]*\d[\d.,]*%?", normal(field))) or bool(MOMENT.fullmatch(field))


def _of_duckdb(path: Path) -> list[Found]:
    import duckdb

    try:
        with memory.opened(str(path), read_only=True) as connection:
            named = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
            ).fetchall()
    except duckdb.Error as error:
        raise DataUnusable(f"{path.name} cannot be read ({type(error).__name__})", "check the file") from error

    def made(schema: str, name: str) -> Found:
        of = f"{_quoted(name)}" if schema == "main" else f"{_quoted(schema)}.{_quoted(name)}"

        def kept(used: Sequence[str]) -> TableSource:
            what = ", ".join(_quoted(one) for one in used)
            return TableSource(type="sql", path=str(path), query=f"SELECT {what or '*'} FROM {of}")  # noqa: S608

        look = TableSource(type="sql", path=str(path), query=f"SELECT * FROM {of} LIMIT {LOOKED}")  # noqa: S608
        return Found(name, look, kept)

    return [made(*one) for one in named]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _of_url(url: str) -> list[Found]:
    """Tables and views of a database, of which no more is asked than is looked at."""
    from sqlalchemy import column, inspect, literal_column, select, table
    from sqlalchemy.exc import SQLAlchemyError

    if (secret := re.search(r"://[^/@]*:([^@]*)@", url)) and not re.fullmatch(r"\$\{\w+\}", secret[1]):
        raise MappingInvalid(
            "the URL holds a password, which would stand in the mapping",
            "put it into the environment, and write ${NAME} in its place, within single quotes",
        )
    try:
        full = databases.expanded(url)
        engine = databases.engine(full, databases.found(full, Path("/")))
        inspector = inspect(engine)
        names = sorted({*inspector.get_table_names(), *inspector.get_view_names()})
    except (SQLAlchemyError, ImportError) as error:
        kind = type(error).__name__
        raise DataUnusable(f"the database cannot be read ({kind})", "check the URL and its driver") from error

    def said(statement: Any) -> str:
        return str(statement.compile(engine, compile_kwargs={"literal_binds": True})).replace(" \n", " ")

    def made(name: str) -> Found:
        def kept(used: Sequence[str]) -> TableSource:
            what: list[Any] = [column(one) for one in used] or [literal_column("*")]
            return TableSource(type="sql", url=url, query=said(select(*what).select_from(table(name))))

        look = said(select(literal_column("*")).select_from(table(name)).limit(LOOKED))
        return Found(name, TableSource(type="sql", url=url, query=look), kept)

    return [made(name) for name in names]
