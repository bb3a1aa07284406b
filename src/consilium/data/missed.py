"""How many patients of a query's table are in no row of its answer: a condition or a join leaves them out in silence.

`consent <> 'no'` leaves out who has an empty cell there, and JOIN who has no row in the other table. Whether that is
meant nobody but a person knows, so it is told. The table is the one from which the query takes the patient's key.
"""

from collections.abc import Callable, Iterator
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.asking import named, plain
from consilium.data.base import Missed, Rows
from consilium.data.clock import Clock
from consilium.data.meeting import Column
from consilium.data.tree import Node, Undecided, meanings, parsed, parts

COLUMNS = {
    "duckdb": "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal",
    "sqlite": "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c "
    "WHERE t.type IN ('table', 'view')",
    "postgresql": "SELECT table_name, column_name FROM information_schema.columns"
    " WHERE table_schema = ANY(current_schemas(false))",
}
"""By database: all tables and their columns."""
Ask = Callable[[str], list[Any]]


def of_duckdb(tables: Any) -> Ask:
    """How a connection of DuckDB is asked."""
    return lambda query: list(tables.execute(query).fetchall())


def of_url(connection: Any) -> Ask:
    """The same of SQLAlchemy's."""
    return lambda query: list(connection.execute(plain(query)))


def missed(parser: Any, query: str, found: Rows, key: str, database: str, ask: Ask) -> Missed | None:
    """Who is in no row of an answer; None: nobody, or nobody knows.

    Args:    parser: a connection of DuckDB.   key: the answer's column of the patients' keys.   database: of `COLUMNS`.
             ask: answers a query of that database.
    Raises:  Undecided; and what the database raises.
    """
    if key not in found.columns or database not in COLUMNS:
        return None
    columns = {(table.casefold(), name.casefold()): (table, name) for table, name in ask(COLUMNS[database])}
    column = _column(parsed(parser, query), key, columns)
    if column is None:
        return None
    table, name = map(named, column)
    there = int(ask(f"SELECT count(DISTINCT {name}) FROM {table}")[0][0])  # noqa: S608  as the database names them
    here = len({text for text in found.columns[key] if text is not None and text.strip()}) + found.left_out
    return Missed(".".join(column), there - here, there) if there > here else None


def checked(find: Callable[[], Missed | None], cut: Callable[[], None], clock: Clock, took_s: float
            ) -> tuple[Missed, ...]:  # fmt: skip
    """What `find` finds, if it does so soon: nothing hangs on it.

    Args:    cut: ends that.   clock: of the reading, of which answering took `took_s`.
    """
    import duckdb  # not with the module, which the agent has before it forks

    from consilium.data.ordering import AGAIN, AGAIN_S  # which has duckdb, too

    again = Clock(min(AGAIN_S + AGAIN * took_s, clock.left_s), "source.time_limit_s")
    try:
        found = again.within(find, cut)
    except (Undecided, duckdb.Error, DataUnusable, KeyError, TypeError, ValueError, RecursionError):
        return ()
    return () if found is None else (found,)


def _column(tree: Node, key: str, columns: dict[Column, Column]) -> Column | None:
    """Table and column from which a query takes the patient's key."""
    tables, meant = meanings(parts(tree))
    for table, name in _names(tree, key):
        if (exact := (tables.get(table, ""), name)) in columns:
            return columns[exact]
        for one in tables.values():
            for other in (name, *sorted(meant.get(name, ()))):
                if (one, other) in columns:
                    return columns[one, other]
    return None


def _names(tree: Node, key: str) -> Iterator[tuple[str, str]]:
    """Alias of the table, or "", and column, in small letters, of what stands in the answer as the key."""
    answer = tree["statements"][0]["node"]
    for one in answer.get("select_list", ()):
        used = [node["column_names"] for node in parts(one) if node.get("class") == "COLUMN_REF"]
        if (one.get("alias") or (used[0][-1] if len(used) == 1 else "")).casefold() == key.casefold():
            yield from ((path[-2].casefold() if len(path) > 1 else "", path[-1].casefold()) for path in used)
        elif one.get("class") == "STAR":
            yield "", key.casefold()
