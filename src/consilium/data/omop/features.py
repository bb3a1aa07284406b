"""Columns of persons, made of their records around the index day.

The database chooses the records; what is made of them is computed here, so that the same records give the same bits
whatever the database, its threads and the order in which it answers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data.bounds import EXACT, NO_MOMENT, NO_NUMBER, OPERATORS, STRANGE
from consilium.data.omop import charlson
from consilium.data.omop.cohorts import Cohort
from consilium.data.omop.database import Database
from consilium.data.omop.definition import ColumnPart
from consilium.data.omop.events import Event, Texts, coded, taken
from consilium.data.omop.tables import DOMAINS
from consilium.data.omop.vocabulary import Item, numbers, resolve, units
from consilium.data.units import conversion

MIN_CELL = 10
Index = Mapping[int, date]
PERSONS = """
    WITH cohort AS (
        SELECT unnest(CAST(string_to_array(?, ',') AS BIGINT[])) AS person_id,
               unnest(CAST(string_to_array(?, ',') AS DATE[])) AS index_date
    )
"""
FACT = {"gender": "gender_concept_id", "race": "race_concept_id", "ethnicity": "ethnicity_concept_id"}


@dataclass(frozen=True)
class Column:
    """A column of the mapping, with what its files say."""

    name: str
    given: ColumnPart
    items: tuple[Item, ...]
    cohort: Cohort | None
    version: str

    @property
    def what(self) -> str:
        """Its place in the mapping."""
        return f"source.omop.columns.{self.name}"

    def domains(self) -> set[str]:
        """Which tables it reads, beside those of persons and vocabulary."""
        if self.cohort is not None:
            return self.cohort.domains()
        return {"condition_era"} if self.given.family == "charlson" else DOMAINS.keys() & {self.given.family}


def texts(database: Database, column: Column, index: Index) -> Texts:
    """The column. Raises: DataUnusable, MappingInvalid."""
    try:
        return _texts(database, column, index)
    except (ValueError, TypeError, ArithmeticError) as error:  # its words may hold a value
        raise DataUnusable(
            f"{column.what}: some record has a value of a wrong type ({type(error).__name__})",
            "bring the types of the table's columns to those of the CDM",
        ) from None


def _texts(database: Database, column: Column, index: Index) -> Texts:
    given = column.given
    if given.family in FACT or given.family == "age":
        return _facts(database, column, index)
    if given.family in ("days_before", "days_after"):
        return _observed(database, column, index)
    if given.family == "charlson":
        return _charlson(database, column, index)
    if column.cohort is not None:
        return _counted(database, column, index, _entries(database, column.cohort, given, index))
    concepts = resolve(database, column.items, column.what, each=not given.concept_set) if column.items else None
    undated = dict.fromkeys(_undated(database, column, index, concepts, given.family), NO_MOMENT)
    if given.take in ("any", "count"):
        _recorded(database, column, concepts, given.family)
        found = _there(database, column, index, concepts, given.family)
        counted = _counted(database, column, index, (person for person, _ in found))
        some = {person for person in undated if given.take == "any" and counted.get(person) == "1"}
        return counted | {person: told for person, told in undated.items() if person not in some}
    if given.value == "concept":
        return coded(_valued(database, column, index, concepts), given.take) | undated
    converted = _converter(database, column, index, concepts)
    away = {int(unit) for unit, means in given.units.items() if means == "missing"}
    valued = (event for event in _valued(database, column, index, concepts) if event.unit not in away)
    return taken(valued, given.take, converted) | undated


def _cohort(index: Index) -> tuple[str, str]:
    """The persons as the two values that PERSONS wants."""
    return ",".join(map(str, index)), ",".join(day.isoformat() for day in index.values())


def known(database: Database, index: Index, what: str) -> set[int]:
    """Which of the persons stand in table person. Raises: DataUnusable: one stands there twice."""
    sql = f"{PERSONS} SELECT p.person_id FROM cohort c JOIN person p ON p.person_id = c.person_id"
    _, rows = database.query(sql, _cohort(index), what)
    every = [int(row[0]) for row in rows]
    if len(set(every)) < len(every):
        raise DataUnusable(
            "table person has some persons twice", "load the table anew: which of the rows counts nobody could tell"
        )
    return set(every)


def _facts(database: Database, column: Column, index: Index) -> Texts:
    wanted = "year_of_birth" if column.given.family == "age" else FACT[column.given.family]
    sql = f"{PERSONS} SELECT p.person_id, p.{wanted} FROM cohort c JOIN person p ON p.person_id = c.person_id"
    _, rows = database.query(sql, _cohort(index), column.what)
    found = {int(person): int(value) for person, value in rows if value is not None}
    if column.given.family == "age":
        return {person: str(index[person].year - year) for person, year in found.items()}
    return {person: str(value) for person, value in found.items()}


def _periods(database: Database, column: Column, index: Index) -> Iterator[tuple[int, date, date]]:
    sql = f"""{PERSONS}
        SELECT o.person_id, CAST(o.observation_period_start_date AS DATE), CAST(o.observation_period_end_date AS DATE)
        FROM cohort c JOIN observation_period o ON o.person_id = c.person_id"""
    _, rows = database.query(sql, _cohort(index), column.what)
    yield from rows


def _observed(database: Database, column: Column, index: Index) -> Texts:
    found: dict[int, int] = {}
    for person, start, end in _periods(database, column, index):
        day = index[person]
        if start <= day <= end:
            days = (day - start if column.given.family == "days_before" else end - day).days
            found[person] = max(days, found.get(person, 0))
    return {person: str(days) for person, days in found.items()}


def _window(given: ColumnPart, first: str, last: str) -> str:
    """SQL: what lasts from `first` to `last` has a day in the window."""
    assert given.window is not None
    since, until = given.window
    parts = [] if since is None else [f"{last} >= c.index_date + ({since})"]
    parts += [] if until is None else [f"{first} <= c.index_date + ({until})"]
    return "".join(f" AND {part}" for part in parts)


def _records(column: Column, family: str, concepts: Iterable[int] | None) -> str:
    """SQL: the records of the persons that count, from FROM on."""
    domain = DOMAINS[family]
    start = f"CAST(e.{domain.start} AS DATE)"
    window = _window(column.given, start, domain.end if domain.lasts else start)
    joined = f"FROM cohort c JOIN {domain.table} e ON e.person_id = c.person_id"
    return f"{joined} WHERE e.{domain.start} IS NOT NULL{_of(family, concepts)}{window}"


def _of(family: str, concepts: Iterable[int] | None) -> str:
    """SQL: which records are of these concepts."""
    return f" AND e.{DOMAINS[family].concept} IN ({numbers(concepts)})" if concepts is not None else ""


def _recorded(database: Database, column: Column, concepts: Iterable[int] | None, family: str) -> None:
    """Raises: DataUnusable: of no person there is such a record, so that nobody knows whether 0 is true."""
    table = DOMAINS[family].table
    sql = f"SELECT 1 FROM {table} e WHERE true{_of(family, concepts)} LIMIT 1"
    if not column.given.none_here and not list(database.query(sql, what=column.what)[1]):
        raise DataUnusable(
            f"{column.what}: no record of table {table} is of it, so that nobody knows whether 0 is true",
            "see whether the table was loaded, and its codes mapped to standard concepts; write `none_here: true` if "
            "such records would be there, and nobody has one",
        )


def _undated(database: Database, column: Column, index: Index, concepts: Iterable[int] | None, family: str) -> set[int]:
    """Persons with a record that says something and has no date, so that it may lie within the window."""
    domain = DOMAINS[family]
    says = ""
    if column.given.take not in ("any", "count"):
        said = (f"NULLIF(TRIM(CAST(e.{name} AS VARCHAR)), '')" for name in domain.said(column.version))
        some = f"COALESCE(CAST(e.value_as_number AS VARCHAR), {', '.join(said)}) IS NOT NULL"
        says = f" AND (e.value_as_concept_id > 0 OR {some})"
    sql = f"""{PERSONS} SELECT DISTINCT e.person_id
        FROM cohort c JOIN {domain.table} e ON e.person_id = c.person_id
        WHERE e.{domain.start} IS NULL{_of(family, concepts)}{says}"""
    return {int(row[0]) for row in database.query(sql, _cohort(index), column.what)[1]}


def _there(
    database: Database, column: Column, index: Index, concepts: Iterable[int] | None, family: str
) -> Iterator[tuple[int, int]]:
    """The person and the concept of each record."""
    sql = f"{PERSONS} SELECT e.person_id, e.{DOMAINS[family].concept} {_records(column, family, concepts)}"
    _, rows = database.query(sql, _cohort(index), column.what)
    return ((int(person), int(concept or 0)) for person, concept in rows)


def _valued(database: Database, column: Column, index: Index, concepts: Iterable[int] | None) -> Iterator[Event]:
    """Records that say something, if only by a text that was entered: which of them counts is not known without it."""
    domain = DOMAINS[column.given.family]
    unit, operator, meant = (
        f"COALESCE(e.{name}, 0)" if name in domain.columns else "0"
        for name in ("unit_concept_id", "operator_concept_id", "value_as_concept_id")
    )
    said = (f"NULLIF(TRIM(CAST(e.{name} AS VARCHAR)), '')" for name in domain.said(column.version))
    sql = f"""{PERSONS}
        SELECT e.person_id, CAST(e.{domain.start} AS DATE), {domain.moment}, e.value_as_number, {meant}, {unit},
               {operator}, COALESCE({", ".join(said)})
        {_records(column, column.given.family, concepts)}"""
    _, rows = database.query(sql, _cohort(index), column.what)
    for person, day, moment, number, concept, of, by, text in rows:
        sign = "" if int(by) in EXACT else OPERATORS.get(int(by), STRANGE)
        if number is None and not (sign or int(concept) or text):
            continue
        sign = sign if number is not None else NO_NUMBER
        alone = text if number is None and not int(concept) else None
        yield Event(int(person), moment or day, number, int(concept), int(of), sign, alone or "")


def _converter(
    database: Database, column: Column, index: Index, concepts: Iterable[int] | None
) -> Callable[[Event], float]:
    """From a record to its number in the column's unit.

    Raises: DataUnusable: some records have a unit that is unknown, or that cannot be converted.
    """
    given = column.given
    assert given.unit is not None
    records = _records(column, given.family, concepts)
    sql = f"""{PERSONS}
        SELECT COALESCE(e.unit_concept_id, 0), count(*) {records} AND e.value_as_number IS NOT NULL
        GROUP BY 1 ORDER BY 1"""
    _, rows = database.query(sql, _cohort(index), column.what)
    counts = {int(unit): int(count) for unit, count in rows}
    named = {int(unit): means for unit, means in given.units.items()}
    known = {**units(database, counts.keys() - named.keys(), column.what), **named}
    factors: dict[int, tuple[float, float]] = {}
    for unit, count in counts.items():
        of = known.get(unit)
        if of == "missing":
            continue
        shown = f"{count}" if count >= MIN_CELL else f"<{MIN_CELL}"
        if of is None:
            raise DataUnusable(
                f"{column.what}: {shown} values have unit_concept_id {unit}, which is no unit of the vocabulary",
                f'name its UCUM unit as `units: {{"{unit}": {given.unit}}}`, or `missing`',
            )
        try:
            factors[unit] = conversion(of, given.unit, given.analyte)
        except MappingInvalid as error:
            raise DataUnusable(
                f"{column.what}: {shown} values have unit_concept_id {unit}: {error.message}",
                f'{error.remedy}; or write `units: {{"{unit}": missing}}`',
            ) from error
    return lambda event: float(event.number) * factors[event.unit][0] + factors[event.unit][1]


def _charlson(database: Database, column: Column, index: Index) -> Texts:
    diseases: dict[int, set[str]] = {}
    for name, (_, concepts) in charlson.WEIGHTS.items():
        items = [Item(concept) for concept in concepts]
        for concept in resolve(database, items, f"{column.what} ({name})", each=True):
            diseases.setdefault(concept, set()).add(name)
    _recorded(database, column, diseases, "condition_era")
    found: dict[int, set[str]] = {person: set() for person in index}
    for person, concept in _there(database, column, index, diseases, "condition_era"):
        found[person] |= diseases[concept]
    made = {person: str(sum(charlson.WEIGHTS[name][0] for name in of)) for person, of in found.items()}
    return made | dict.fromkeys(_undated(database, column, index, diseases, "condition_era"), NO_MOMENT)


def _entries(database: Database, cohort: Cohort, given: ColumnPart, index: Index) -> Iterator[int]:
    """The person of each entry within its window."""
    assert given.window is not None
    since, until = given.window
    for person, day in cohort.days(database):
        if person in index:
            after = (day - index[person]).days
            if (since is None or since <= after) and (until is None or after <= until):
                yield person


def _counted(database: Database, column: Column, index: Index, persons: Iterable[int]) -> Texts:
    counts = dict.fromkeys(index, 0)
    for person in persons:
        counts[person] += 1
    if column.given.take == "count":
        return {person: str(count) for person, count in counts.items()}
    known = _followed(database, column, index) if column.given.followed else index.keys()
    return {person: "1" if count else "0" for person, count in counts.items() if count or person in known}


def _followed(database: Database, column: Column, index: Index) -> set[int]:
    """Persons of whom a period of observation covers the window; one without first day begins on the index day."""
    assert column.given.window is not None and column.given.window[1] is not None
    since, until = column.given.window[0] or 0, column.given.window[1]
    return {
        person
        for person, start, end in _periods(database, column, index)
        if start <= index[person] + timedelta(min(since, 0)) and index[person] + timedelta(until) <= end
    }
