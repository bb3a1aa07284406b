"""A DuckDB in memory that can open no file and no network: the hospital's SELECT over tables that were read before.

Its clock is that of Greenwich, whatever the machine's is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from consilium.data import ages, hanging, headers, meeting, memory, ordering, zoning
from consilium.data.anew import Anew
from consilium.data.asking import Answer, rows_of
from consilium.data.base import Note
from consilium.data.clock import Clock

CLOSED = {"enable_external_access": "false", "threads": "1"}
"""With one thread the same query takes the same of several values, where it leaves that open."""
EMPTY: Mapping[str, str] = {}
DAYS = replace(
    zoning.DAYS,
    words="makes days or hours of instants (TIMESTAMPTZ), or instants of days, by a time zone that it does not say",
    remedy="of the day as it is written take substr(..., 1, 10); or write AT TIME ZONE 'Europe/Berlin', or the "
    "hospital's other one, behind the instant",
    doubt="whether source.query makes days of instants (TIMESTAMPTZ), without AT TIME ZONE, could not be found out",
)


@dataclass(frozen=True)
class Closed:
    """The tables; and the same by the clocks of other zones."""

    tables: Any
    zones: Mapping[str, Any]

    def interrupt(self) -> None:
        """End what is asked."""
        for one in (self.tables, *self.zones.values()):
            one.interrupt()

    def answered(self, query: str, clock: Clock, text: ordering.Slip, meant: Mapping[str, str] = EMPTY
                 ) -> tuple[Answer, tuple[Note, ...]]:  # fmt: skip
        """The answer to a query, and what is not known of it.

        Args:    clock: of the reading.   text: what is said where it compares numbers or days as text.   meant: as
                 `Asked` has it.
        Raises:  DataUnusable; and what DuckDB raises.
        """
        before_s = clock.left_s
        answer = clock.within(lambda: self._asked(query), self.interrupt)
        anew, ask = Anew(clock, before_s - clock.left_s, self.interrupt), partial(_answer, self.tables)
        doubts: tuple[Note, ...] = ordering.checked(
            lambda: ordering.others(self.tables, query, answer, ask), anew, text,
            lambda: ordering.place(self.tables, query, answer, ask),
        )  # fmt: skip
        if zoning.SPOKEN.search(query):
            doubts += ordering.checked(lambda: self._by_zone(query, answer), anew, DAYS)
        if ages.YEARS.search(query):
            doubts += ordering.checked(lambda: ages.others(query, answer, ask), anew, ages.CALENDAR)
        doubts += hanging.checked(self.tables, query, answer, ask, meant, anew)
        return answer, doubts + clock.within(lambda: meeting.check(self.tables, query), self.interrupt)

    def _by_zone(self, query: str, answer: Answer) -> list[str]:
        asked = {**self.zones, "UTC": self.tables}
        return zoning.others(rows_of(*answer), lambda zone: rows_of(*_answer(asked[zone], query)), "UTC")

    def _asked(self, query: str) -> Answer:
        """The answer. Raises: DataUnusable: two columns have one name."""
        described = self.tables.execute(f"DESCRIBE {query}").fetchall()
        headers.once((row[0] for row in described), "source.query")
        return _answer(self.tables, query)


@contextmanager
def opened() -> Iterator[Closed]:
    """Without tables yet. Raises: duckdb.Error."""
    with memory.opened(more={**CLOSED, "TimeZone": "UTC"}) as tables:
        zones = {zone: tables.cursor() for zone in (zoning.WEST, zoning.EAST)}
        for zone, one in zones.items():
            one.execute(f"SET TimeZone = '{zone}'")
        tables.execute("SET lock_configuration = true")
        yield Closed(tables, zones)


def _answer(tables: Any, query: str) -> Answer:
    # By all columns: which of DuckDB's threads ends first must not decide the order of patients.
    answer = tables.execute(f"SELECT * FROM ({query}\n) AS asked ORDER BY ALL")  # noqa: S608  the hospital's own query
    return [column[0] for column in answer.description], answer.fetchall()
