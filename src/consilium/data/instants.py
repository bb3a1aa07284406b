"""Instants (TIMESTAMPTZ): moments that are of no calendar day before somebody says a time zone."""

from consilium.core.errors import DataUnusable

DUCKDB, POSTGRESQL = "TIMESTAMP WITH TIME ZONE", 1184
"""The type, as DuckDB calls it, and by its number in PostgreSQL."""
REMEDY = "write the hospital's as source.zone, such as Europe/Berlin"


def refused(name: str) -> DataUnusable:
    """That nobody knows of which day the instants of a column are."""
    return DataUnusable(f"column {name!r} holds instants ({DUCKDB}), of which the day hangs on a time zone", REMEDY)
