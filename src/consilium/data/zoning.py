"""Whether an answer hangs on a time zone that nobody has said, as where a query makes days of instants.

It is asked in two other zones, between which each instant is of another day.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from consilium.data.asking import answer_of, named, plain, quoted
from consilium.data.base import Rows
from consilium.data.instants import POSTGRESQL, REMEDY
from consilium.data.ordering import Slip, differing
from consilium.data.tree import Undecided

ZONED = [POSTGRESQL, 1185, 1266, 1270]
"""Types of PostgreSQL, by their numbers: instants, times of day with a zone, and arrays of them."""
WEST, EAST = "Etc/GMT+12", "Pacific/Kiritimati"
"""Twelve hours behind Greenwich, and fourteen before it."""
SPOKEN = re.compile(r"time ?zone|timestamptz|to_timestamp|\bnow\(|current_|local_?time|clock_timestamp", re.IGNORECASE)
"""What a plan of PostgreSQL says where instants are made, or turned into something else."""
DAYS = Slip(
    "makes days or hours of instants (timestamptz), by whatever time zone the database's session has",
    f"{REMEDY}; or write AT TIME ZONE in the query",
    "whether source.query makes days of instants (timestamptz), which want a time zone (source.zone), could not be "
    "found out",
)


def others(found: Rows, ask: Callable[[str], Rows], own: str) -> list[str]:
    """Columns of an answer that would be others in another time zone; `the rows`: their number would be.

    Args:    found: the answer.   ask: answers the query in a zone.   own: the one in which it was answered.
    Raises:  Undecided; and what the database raises.
    """
    for zone in (WEST, EAST):
        if differ := differing(answer_of(found), answer_of(ask(zone))):
            if differing(answer_of(found), answer_of(ask(own))):
                raise Undecided  # it leaves open which of several it takes
            return differ
    return []


def of_url(connection: Any, query: str, found: Rows, ask: Callable[[], Rows]) -> list[str]:
    """The same of PostgreSQL, where instants are in a table of the query's plan, or are made in it.

    Args:    connection: of SQLAlchemy, of nobody else's, and closed afterwards.   ask: answers the query by it.
    """
    from sqlalchemy import text

    (told,) = connection.execute(plain(f"EXPLAIN (VERBOSE, FORMAT JSON) {query}")).one()
    plan = json.loads(told) if isinstance(told, str) else told
    tables = sorted({f"{named(schema)}.{named(name)}" for schema, name in _tables(plan)})
    asked = text("SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:name) AND atttypid = ANY(:kinds)")
    there = (connection.execute(asked, {"name": name, "kinds": ZONED}).scalar_one() for name in tables)
    if not SPOKEN.search(json.dumps(plan)) and not any(there):
        return []

    def within(zone: str) -> Rows:
        connection.execute(text("SELECT set_config('TimeZone', :zone, true)"), {"zone": zone})
        return ask()

    return others(found, within, connection.execute(text("SELECT current_setting('TimeZone')")).scalar_one())


def of_duckdb(tables: Any, query: str, found: Rows, ask: Callable[[], Rows]) -> list[str]:
    """The same of a file of DuckDB, where instants are in some table of it, or are made in the query or in a view.

    Args:    tables: a connection, of nobody else's.   ask: answers the query by it.
    """
    columns = "SELECT count(*) FROM duckdb_columns() WHERE data_type LIKE '%TIME ZONE%' AND NOT internal"
    (there,), views = tables.execute(columns).fetchone(), tables.execute("SELECT sql FROM duckdb_views()").fetchall()
    if not there and not any(SPOKEN.search(one) for one in (query, *(str(view[0]) for view in views))):
        return []

    def within(zone: str) -> Rows:
        tables.execute(f"SET TimeZone = {quoted(zone)}")
        return ask()

    return others(found, within, "UTC")


def _tables(plan: Any) -> Iterator[tuple[str, str]]:
    if isinstance(plan, dict):
        if "Relation Name" in plan:
            yield str(plan.get("Schema", "public")), str(plan["Relation Name"])
        plan = list(plan.values())
    for inner in plan if isinstance(plan, list) else ():
        yield from _tables(inner)
