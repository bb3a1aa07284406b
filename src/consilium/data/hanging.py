"""What of DuckDB's answer hangs on texts that its query passes over: TRY_CAST, CASE, or one way of writing."""

from collections.abc import Callable
from typing import Any

from consilium.data import catalogue, dropping, falling, lookalikes
from consilium.data.asking import Answer
from consilium.data.base import Note
from consilium.data.clock import Clock


def checked(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer], cut: Callable[[], None],
            clock: Clock, took_s: float) -> tuple[Note, ...]:  # fmt: skip
    """What is lost so, or nearly named; or that nobody knows.

    Args:    tables: a connection of DuckDB, on which macros are made.   ask: answers a query.   cut: ends that.
             clock: of the reading, of which answering took `took_s`.
    """
    more = (cut, clock, took_s)
    return (
        *dropping.checked(tables, query, answer, ask, *more),
        *falling.checked(tables, query, answer, ask, *more),
        *lookalikes.checked(tables, query, answer, ask, lambda: catalogue.of_duckdb(tables), *more),
    )
