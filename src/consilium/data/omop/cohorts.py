"""Which persons, and their index day: the entries of a cohort, one for each person."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from consilium.core.errors import DataUnusable
from consilium.data.omop import circe, entering
from consilium.data.omop.database import Database
from consilium.data.omop.definition import CohortPart
from consilium.data.omop.entering import Persons
from consilium.data.selecting import one_select

WANTED = ("person_id", "cohort_start_date")
SAME = {"subject_id": "person_id"}
"""Names of the OHDSI table of cohorts that mean the same."""


@dataclass(frozen=True)
class Cohort:
    """A cohort as the mapping gives it: SQL, or a definition of ATLAS that was read and found to be supported."""

    query: str | None
    definition: circe.Expression | None
    entry: str | None
    what: str

    @classmethod
    def of(cls, given: CohortPart, folder: Path, what: str) -> "Cohort":
        """Read it. Raises: MappingInvalid."""
        query = one_select(given.query, f"{what}.query") if given.query is not None else None
        definition = circe.load(folder / given.circe, given.circe, f"{what}.circe") if given.circe else None
        return cls(query, definition, given.entry, what)

    def domains(self) -> set[str]:
        """Which tables it reads."""
        return self.definition.domains() if self.definition is not None else set()

    def days(self, database: Database, out: Persons = frozenset()) -> list[tuple[int, date]]:
        """Every entry of all persons but some: a person and a day. Raises: DataUnusable."""
        if self.definition is not None:
            return entering.entries(database, self.definition, f"{self.what}.circe", out)
        assert self.query is not None
        others = (
            f"SELECT * FROM {self._entries()} WHERE {entering.other(self._key(database), out)}" if out else self.query
        )
        names, rows = database.query(others, what=f"{self.what}.query")
        names = [SAME.get(name, name) for name in names]
        for name in WANTED:
            if names.count(name) + names.count(f"{name}_1") != 1:  # what DuckDB calls the second of two
                raise DataUnusable(
                    f"{self.what}.query gives no column {name}", f"select {' and '.join(WANTED)}, such as by AS"
                )
        person, start = (names.index(name) for name in WANTED)
        return [(self._person(row[person]), self._day(row[start])) for row in rows]

    def left_out(self, database: Database, out: Persons) -> int:
        """How many of these persons have an entry. Raises: DataUnusable."""
        if not out:
            return 0
        if self.definition is not None:
            return entering.persons(database, self.definition, f"{self.what}.circe", out)
        key = self._key(database)
        asked = f"SELECT DISTINCT {key} FROM {self._entries()} WHERE NOT ({entering.other(key, out)})"
        return sum(1 for _ in database.query(asked, what=f"{self.what}.query")[1])

    def _entries(self) -> str:
        return f"({self.query}\n) entries"  # a remark may end the query

    def _key(self, database: Database) -> str:
        """What the query calls the person."""
        names, rows = database.query(f"SELECT * FROM {self._entries()} WHERE false", what=f"{self.what}.query")
        assert not list(rows)
        return next((name for name in names if SAME.get(name, name) == WANTED[0]), WANTED[0])

    def index(self, database: Database, out: Persons = frozenset()) -> Mapping[int, date]:
        """The index day of each person but some, in the order of their keys.

        Raises: DataUnusable: a person has several entries, and the mapping does not say which one counts.
        """
        found: dict[int, set[date]] = {}
        for person, day in self.days(database, out):
            found.setdefault(person, set()).add(day)
        if self.entry is None and any(len(days) > 1 for days in found.values()):
            raise DataUnusable(
                f"{self.what}: some persons have several entries", f"write `entry: first` or `last` in {self.what}"
            )
        return {person: (max if self.entry == "last" else min)(found[person]) for person in sorted(found)}

    def _person(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise DataUnusable(
                f"{self.what}.query: some person_id is no whole number", "select the key of table person"
            )
        return value

    def _day(self, value: Any) -> date:
        if isinstance(value, datetime):
            return value.date()
        if not isinstance(value, date):
            raise DataUnusable(f"{self.what}.query: some cohort_start_date is no date", "cast it to DATE in the query")
        return value
