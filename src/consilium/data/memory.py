"""DuckDB keeps what it reads of patients in memory: where that lacks, the reading ends, and nothing goes to disk."""

from collections.abc import Mapping
from typing import Any

import duckdb

from consilium.core.errors import DataUnusable

ALONE = {"temp_directory": "", "autoinstall_known_extensions": "false"}
"""Else values go to `.tmp` where the agent was started, or beside the database. The network is asked for nothing."""


def opened(database: str = ":memory:", more: Mapping[str, str] | None = None, read_only: bool = False) -> Any:
    """A connection that writes nothing.

    Args:    more: settings, in the order in which they are made: with `enable_external_access` off, the folder of
             what has no room could no more be named, and DuckDB makes those it is given at once in no order.
    Raises:  duckdb.Error.
    """
    connection = duckdb.connect(database, read_only=read_only, config=dict(ALONE))
    try:
        for name, value in (more or {}).items():
            connection.execute(f"SET {name} = '{value}'")
    except BaseException:
        connection.close()
        raise
    return connection


def check(error: Exception, what: str) -> None:
    """Raises: DataUnusable: what went wrong is that memory lacked, while `what` of the mapping was read."""
    if isinstance(error, duckdb.OutOfMemoryException):
        raise DataUnusable(
            f"{what} takes more memory than there is ({type(error).__name__}), and values of patients are not put on "
            "disk for it",
            "ask for less at once: only the columns and rows that are needed, and no join or ORDER BY that is not; or "
            "give the machine that reads more memory",
        ) from error
