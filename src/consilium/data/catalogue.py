"""Which tables and columns a database has, and how it is asked: DuckDB, SQLite or PostgreSQL."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from consilium.data.asking import named, plain

Column = tuple[str, str]
"""A table and its column."""
Ask = Callable[[str], list[Any]]
COLUMNS = {
    "duckdb": "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal",
    "sqlite": "SELECT t.name, c.name, 'text' FROM sqlite_master t JOIN pragma_table_info(t.name) c "
    "WHERE t.type IN ('table', 'view')",
    "postgresql": "SELECT table_name, column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = ANY(current_schemas(false))",
}
"""By database: all tables, their columns, and of which type these are; SQLite's may hold text whatever it is."""
TEXT = frozenset(("VARCHAR", "text", "character varying", "character"))
VALUES = {
    "duckdb": "SELECT DISTINCT {column} FROM {table}",
    "sqlite": "SELECT DISTINCT {column} FROM {table} WHERE typeof({column}) = 'text'",
    "postgresql": "SELECT DISTINCT CAST({column} AS text) FROM {table}",  # CHAR has no blanks at its end as a text
}


@dataclass(frozen=True)
class Catalogue:
    """Of one database. columns: as they are called, by their names in small letters.   texts: those that hold text."""

    database: str
    ask: Ask
    columns: Mapping[Column, Column]
    texts: frozenset[Column]

    def values(self, column: Column) -> list[Any]:
        """Values of a column of text, each once."""
        table, name = map(named, column)
        return [row[0] for row in self.ask(VALUES[self.database].format(table=table, column=name))]


def of_duckdb(tables: Any) -> Catalogue:
    """Of a connection of DuckDB."""
    return _catalogue("duckdb", lambda query: list(tables.execute(query).fetchall()))


def of_url(connection: Any) -> Catalogue:
    """Of SQLAlchemy's; of a database that is none of `COLUMNS`, of nothing."""
    database = connection.dialect.name

    def ask(query: str) -> list[Any]:
        # after what fails PostgreSQL answers nothing, unless it goes back to before
        with connection.begin_nested() if database == "postgresql" else nullcontext():
            return list(connection.execute(plain(query)))

    return _catalogue(database, ask)


def _catalogue(database: str, ask: Ask) -> Catalogue:
    found = ask(COLUMNS[database]) if database in COLUMNS else []
    columns = {(table.casefold(), name.casefold()): (table, name) for table, name, _ in found}
    return Catalogue(database, ask, columns, frozenset((table, name) for table, name, kind in found if kind in TEXT))
