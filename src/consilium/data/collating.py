"""Whether the answer of a database of SQLite hangs on numbers, or days as 31.03.2024, that its query compares as text.

SQLite compares texts by a collation, BINARY where none is named, and on one connection another function may be that:
the query is asked with one that notes what is compared, and, where numbers or days were, with one by which they are in
order. Indexes keep the order of the file: where the query may take it from one, nothing is known.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from consilium.data.base import Rows
from consilium.data.mapping import normal
from consilium.data.ordering import MONTH_FIRST, rank
from consilium.data.tree import Undecided

INDEX = re.compile(r"USING (?:COVERING )?INDEX (\S+)(?: \((.*)\))?")
"""An index, in a plan of SQLite, and what is looked up in it."""
PLAIN = frozenset((
    "Init", "Transaction", "Goto", "OpenRead", "Rewind", "Column", "Rowid", "ResultRow", "Next", "Halt", "Noop",
    "Explain", "Ne", "Eq", "String8", "Integer", "Real", "RealAffinity", "Null", "Copy", "SCopy", "Close", "NotNull",
    "IsNull",
))  # fmt: skip
"""Steps of a query that compares nothing but for equality."""
NO_NUMBERS = """
    SELECT count(*) FROM sqlite_master AS m, pragma_index_info(m.name) AS i, pragma_table_info(m.tbl_name) AS t
    WHERE m.type = 'index' AND m.name = ? AND t.cid = i.cid AND i.seqno >= ?
    AND NOT (t.type LIKE '%INT%' OR t.type LIKE '%REAL%' OR t.type LIKE '%FLOA%' OR t.type LIKE '%DOUB%')
"""


class Compared:
    """What a query compares. turned: whether some texts are in another order than the numbers or days that they are.

    A query without an index compares millions of times, most of them for equality, and SQLite does not say which: so
    each text is read once, and a comparison looks at what was read.
    """

    def __init__(self) -> None:
        self.turned = self._month_first = False

    def as_text(self, one: str, other: str) -> int:
        """The order of the database itself."""
        if one == other:
            self._month_first = self._month_first or _read(one)[2]
            return 0
        less = one < other
        if not (self.turned and self._month_first):
            here, here_us, shows = _read(one)
            there, there_us, also = _read(other)
            self._month_first = self._month_first or shows or also
            turned = (here > there or here_us > there_us) if less else (here < there or here_us < there_us)
            self.turned = self.turned or turned
        return -1 if less else 1

    def in_order(self, one: str, other: str) -> int:
        """That of numbers and days."""
        at = int(self._month_first)
        here, there = (_read(one)[at], one), (_read(other)[at], other)
        return (here > there) - (here < there)


@lru_cache(maxsize=65536)
def _read(text: str) -> tuple[float, float, bool]:
    """Its rank, that with the month first, and whether it shows that months stand first."""
    return rank(text), rank(text, True), bool(re.fullmatch(MONTH_FIRST, text, re.ASCII))


def others(connection: Any, query: str, ask: Callable[[], Rows]) -> list[str]:
    """Columns of the answer that would be others if numbers and days were compared as such; `the rows`: there would
    be another number of them.

    Args:    connection: of SQLAlchemy, of nobody else's, and closed afterwards.   ask: answers the query by it.
    Raises:  Undecided; and what the database raises.
    """
    if {str(step[1]) for step in connection.exec_driver_sql(f"EXPLAIN {query}").all()} <= PLAIN:
        return []
    compared, database = Compared(), connection.connection.driver_connection
    database.create_collation("BINARY", compared.as_text)
    text = ask()
    if compared.turned:
        database.create_collation("BINARY", compared.in_order)
        right = ask()
        if len(text) != len(right):
            return ["the rows"]
        pairs = ((name, values, right.columns[name]) for name, values in text.columns.items())
        if found := [name for name, here, there in pairs if _sorted(here) != _sorted(there)]:
            return found
    if _by_index(connection, query):
        raise Undecided
    return []


def _by_index(connection: Any, query: str) -> bool:
    """Whether the query reads a column of text in the order of an index."""
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()
    for found in filter(None, (INDEX.search(str(step[-1])) for step in plan)):
        known = (found[2] or "").count("=?")
        if connection.exec_driver_sql(NO_NUMBERS, (found[1], known)).scalar_one():
            return True
    return False


def _sorted(values: list[str | None]) -> list[str]:
    return sorted("" if value is None else normal(value) for value in values)
