"""DuckDB keeps what it reads of patients in memory: where that lacks, the reading ends, and nothing goes to disk."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import duckdb

from consilium.core.errors import DataUnusable

ALONE = {"temp_directory": "", "autoinstall_known_extensions": "false"}
"""Else values go to `.tmp` where the agent was started, or beside the database. The network is asked for nothing."""
UNSOUND = "top_n_window_elimination"
"""An optimizer of DuckDB 1.5: a range of two ends beside `QUALIFY row_number() ... = 1` makes it fail by itself."""


def _settings() -> dict[str, str]:
    return {**ALONE, **_sound()}


@cache
def _sound() -> dict[str, str]:
    """What leaves that optimizer out, where this release of DuckDB has it."""
    with duckdb.connect(config=dict(ALONE)) as connection:
        known = {row[0] for row in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()}
    return {"disabled_optimizers": UNSOUND} if UNSOUND in known else {}


@cache
def _instance() -> Any:
    """The DuckDB of this process that has no file and no settings but these; it remembers nothing of a file it read.

    To begin one takes 20 ms of processor time, and a hospital's tables are read one by one. It ends before a fork: its
    threads do not live on in a child, which would end by SIGABRT.
    """
    return duckdb.connect(config={**_settings(), "enable_external_file_cache": "false"})


os.register_at_fork(before=_instance.cache_clear)


def opened(database: str = ":memory:", more: Mapping[str, str] | None = None, read_only: bool = False) -> Any:
    """A connection that writes nothing.

    Args:    more: settings, in the order in which they are made: with `enable_external_access` off, the folder of
             what has no room could no more be named, and DuckDB makes those it is given at once in no order.
    Raises:  duckdb.Error.
    """
    if database == ":memory:" and not more:
        return _instance().cursor()
    connection = duckdb.connect(database, read_only=read_only, config=_settings())
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


def failed(error: Exception) -> None:
    """Raises: DataUnusable: it was DuckDB that failed by itself, over tables in memory."""
    if isinstance(error, duckdb.InternalException | duckdb.FatalException):
        _instance.cache_clear()  # after that it answers nobody
        raise DataUnusable(
            f"DuckDB failed by itself where it answers source.query ({type(error).__name__})",
            "the query may well be right: write it in another way, such as with fewer conditions in one SELECT, and "
            "the others in a second one around it; or try another release of DuckDB",
        ) from error
