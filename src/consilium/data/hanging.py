"""What of DuckDB's answer hangs on texts that its query passes over: TRY_CAST, CASE, or one way of writing.

And which of several rows it takes by chance, and at which columns of its tables it never looks.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from consilium.data import (
    cancelled,
    catalogue,
    dividing,
    dropping,
    falling,
    lookalikes,
    renumbered,
    spans,
    ties,
    unitless,
    unmatched,
    unnamed,
    unused,
    windows,
)
from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Note
from consilium.data.tree import Undecided


def checked(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer],
            meant: Mapping[str, str], anew: Anew) -> tuple[Note, ...]:  # fmt: skip
    """What is lost so, or nearly named; or that nobody knows.

    Args:    tables: a connection of DuckDB, on which macros are made.   ask: answers a query.   meant: as `Asked` has
             it.
    """
    return (
        *dropping.checked(tables, query, answer, ask, anew),
        *unmatched.checked(tables, query, answer, ask, anew),
        *falling.checked(tables, query, answer, ask, anew),
        *ties.checked(tables, query, answer, ask, anew),
        *lookalikes.checked(tables, query, ask, lambda: catalogue.of_duckdb(tables), anew),
        *unitless.checked(tables, query, answer[0], lambda: catalogue.of_duckdb(tables), anew),
        *renumbered.checked(tables, query, lambda: catalogue.of_duckdb(tables), anew),
        *cancelled.checked(tables, query, ask, lambda: catalogue.of_duckdb(tables), anew),
        *windows.checked(tables, query, ask, lambda: catalogue.of_duckdb(tables), anew),
        *spans.checked(tables, query, lambda: catalogue.of_duckdb(tables), meant, anew),
        *(unnamed.checked(tables, query, lambda: catalogue.of_duckdb(tables), anew) if meant else ()),
        *unused.idle(tables, query, anew),
        *unused.checked(tables, query, answer[0], lambda: catalogue.of_duckdb(tables), anew),
    )


def of_url(parser: Any, connection: Any, query: str, answer: Answer, ask: Callable[[str], Answer],
           meant: Mapping[str, str], anew: Anew) -> tuple[Note, ...]:  # fmt: skip
    """The same of a connection of SQLAlchemy, as far as it understands the query as DuckDB writes it.

    Args:    parser: a connection of DuckDB.
    """
    from sqlalchemy.exc import SQLAlchemyError

    def or_nobody_knows(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def tried(given: Any) -> Any:
            try:
                return act(given)
            except SQLAlchemyError as error:
                raise Undecided from error

        return tried

    def known() -> catalogue.Catalogue:
        found: catalogue.Catalogue = or_nobody_knows(catalogue.of_url)(connection)
        return replace(found, ask=or_nobody_knows(found.ask))

    def again(asked: str) -> Answer:
        # after what fails PostgreSQL answers nothing, unless it goes back to before
        with connection.begin_nested() if connection.dialect.name == "postgresql" else nullcontext():
            return ask(asked)

    given = (parser, query, or_nobody_knows(again), known, anew)
    return (
        *lookalikes.checked(*given),
        *dividing.checked(*given),
        *unitless.checked(parser, query, answer[0], known, anew),
        *renumbered.checked(parser, query, known, anew),
        *ties.of_url(parser, query, answer, *given[2:]),
        *cancelled.checked(*given),
        *windows.checked(*given),
        *spans.checked(parser, query, known, meant, anew),
        *(unnamed.checked(parser, query, known, anew) if meant else ()),
        *unused.idle(parser, query, anew),
        *unused.checked(parser, query, answer[0], known, anew),
    )
