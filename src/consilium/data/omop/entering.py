"""Who enters a cohort of ATLAS, and when: a definition as one SELECT, as OHDSI circe-be means it."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from consilium.data.omop.circe import (
    Bound,
    Criterion,
    DateRange,
    Demographic,
    Expression,
    Group,
    Limit,
    Primary,
    Range,
    Records,
    Related,
    Window,
)
from consilium.data.omop.database import Database
from consilium.data.omop.tables import DOMAINS
from consilium.data.omop.vocabulary import numbers, resolve

SIGNS = {"lt": "<", "lte": "<=", "eq": "=", "gt": ">", "gte": ">="}
TIMES = ("=", "<=", ">=")
Sets = Mapping[int, frozenset[int]]
"""Concepts by the id of their set."""
Persons = frozenset[str]
"""Keys of persons, as `choosing.key` gives them; what is no whole number is none."""


def other(key: str, persons: Persons) -> str:
    """SQL: that a person is none of these, by its key, which may be of any type."""
    known = sorted(person for person in persons if person.isascii() and person.isdecimal()) or [""]
    return f"({key} IS NULL OR CAST({key} AS VARCHAR) NOT IN ({', '.join(map(repr, known))}))"


def persons(database: Database, definition: Expression, what: str, those: Persons) -> int:
    """How many of those have an entry. Raises: DataUnusable."""
    entered = sql(definition, _sets(database, definition, what))
    asked = f"SELECT DISTINCT person_id FROM ({entered}) entered WHERE NOT {other('person_id', those)}"
    return sum(1 for _ in database.query(asked, what=what)[1])


def entries(
    database: Database, definition: Expression, what: str, without: Persons = frozenset()
) -> list[tuple[int, date]]:
    """Every entry of every person, but of some: the person's key and the day. Raises: DataUnusable."""
    entered = sql(definition, _sets(database, definition, what))
    if without:
        entered = f"SELECT * FROM ({entered}) entered WHERE {other('person_id', without)}"
    _, rows = database.query(entered, what=what)
    spans: dict[int, list[tuple[date, date]]] = {}
    for person, start, end in rows:
        spans.setdefault(int(person), []).append((start, end))
    pad = timedelta(definition.CollapseSettings.EraPad if definition.CollapseSettings is not None else 0)
    return [(person, day) for person, of in sorted(spans.items()) for day in collapsed(of, pad)]


def _sets(database: Database, definition: Expression, what: str) -> Sets:
    used = {criterion.asked[1].CodesetId for criterion in definition.criteria()}
    return {
        one.id: resolve(database, [item.item() for item in one.expression.items], f"{what}: {one.name!r}", each=False)
        for one in definition.ConceptSets
        if one.id in used
    }


def collapsed(spans: list[tuple[date, date]], pad: timedelta) -> list[date]:
    """The days on which spans begin, those that touch taken as one.

    >>> from datetime import date, timedelta
    >>> days = [date(2020, 1, n) for n in range(1, 32)]
    >>> collapsed([(days[9], days[11]), (days[0], days[4]), (days[3], days[6])], timedelta(2))
    [datetime.date(2020, 1, 1), datetime.date(2020, 1, 10)]
    """
    found: list[date] = []
    until: date | None = None
    for start, end in sorted(spans):
        if until is None or start > until + pad:
            found.append(start)
            until = end
        else:
            until = max(until, end)
    return found


def sql(definition: Expression, sets: Sets) -> str:
    """One SELECT of person_id, start_date and end_date. Everything in it is a number, a date or ours."""
    more = definition.AdditionalCriteria
    qualified = _limited("events", definition.QualifiedLimit if more is not None else Limit(Type="All"))
    holds = _group(more, "events", sets) if more is not None else "TRUE"
    rules = [_group(rule.expression, "qualified", sets) for rule in definition.InclusionRules]
    return f"""
        WITH events AS ({_primary(definition.PrimaryCriteria, sets)}),
        qualified AS ({qualified.format(holds=holds)}),
        included AS ({_limited("qualified", definition.ExpressionLimit).format(holds=" AND ".join(rules) or "TRUE")})
        SELECT person_id, start_date, {_end(definition)} FROM included"""


def _end(definition: Expression) -> str:
    offset = definition.EndStrategy.DateOffset
    if offset is None:
        return "op_end"
    field = "start_date" if offset.DateField == "StartDate" else "end_date"
    return f"LEAST(op_end, {field} + ({offset.Offset}))"


def _primary(primary: Primary, sets: Sets) -> str:
    """Events of all criteria, each with the period of observation in which it starts."""
    asked = " UNION ALL ".join(
        f"SELECT {number} AS criterion, r.* FROM ({_records(criterion, sets)}) r"
        for number, criterion in enumerate(primary.CriteriaList)
    )
    around = primary.ObservationWindow
    last = "DESC" if primary.PrimaryCriteriaLimit.Type == "Last" else "ASC"
    one = "" if primary.PrimaryCriteriaLimit.Type == "All" else "WHERE ordinal = 1"
    return f"""
        SELECT *, row_number() OVER (ORDER BY person_id, start_date, criterion, record, op_start) AS event FROM (
            SELECT x.*, o.op_start, o.op_end, row_number() OVER (
                PARTITION BY x.person_id ORDER BY x.start_date {last}, x.criterion, x.record, o.op_start) AS ordinal
            FROM ({asked}) x JOIN (
                SELECT person_id, CAST(observation_period_start_date AS DATE) AS op_start,
                       CAST(observation_period_end_date AS DATE) AS op_end FROM observation_period
            ) o ON o.person_id = x.person_id AND x.start_date >= o.op_start AND x.start_date <= o.op_end
            WHERE o.op_start + ({around.PriorDays}) <= x.start_date AND x.start_date + ({around.PostDays}) <= o.op_end
        ) ordered {one}"""


def _limited(base: str, limit: Limit) -> str:
    """Events of which `{holds}`, and of these the first or the last of a person, or all."""
    direction = "DESC" if limit.Type == "Last" else "ASC"
    one = "" if limit.Type == "All" else "WHERE n = 1"
    columns = "criterion, person_id, record, start_date, end_date, year_of_birth, gender, op_start, op_end, event"
    order = f"ORDER BY q.start_date {direction}, q.event"
    return f"""
        SELECT {columns} FROM (
            SELECT q.*, row_number() OVER (PARTITION BY q.person_id {order}) AS n FROM {base} q WHERE {{holds}}
        ) ordered {one}"""


def _records(criterion: Criterion, sets: Sets) -> str:
    """The records that a criterion asks for; the first of a person is found before age and dates are asked for."""
    name, asked = criterion.asked
    domain = DOMAINS[name]
    start = f"CAST(e.{domain.start} AS DATE)"
    of = f" AND e.{domain.concept} IN ({numbers(sets[asked.CodesetId])})" if asked.CodesetId is not None else ""
    table = f"(SELECT * FROM {domain.table} e WHERE e.{domain.start} IS NOT NULL{of})"
    if asked.first:
        ordinal = f"row_number() OVER (PARTITION BY e.person_id ORDER BY e.{domain.start}, e.{domain.key}) AS ordinal"
        table = f"(SELECT * FROM (SELECT e.*, {ordinal} FROM {table} e) o WHERE ordinal = 1)"
    conditions = [part for key, part in _asked(asked, start, domain.end) if key in asked.model_fields_set]
    return f"""
        SELECT e.person_id, e.{domain.key} AS record, {start} AS start_date, {domain.end} AS end_date,
               p.year_of_birth, p.gender_concept_id AS gender
        FROM {table} e JOIN person p ON p.person_id = e.person_id WHERE {" AND ".join(conditions) or "TRUE"}"""


def _asked(asked: Records, start: str, end: str) -> list[tuple[str, str]]:
    """What of a record is asked, by the key that asks it."""
    age = f"EXTRACT(YEAR FROM {start}) - p.year_of_birth"
    sources = {
        "Age": age, "AgeAtStart": age, "Gender": "p.gender_concept_id", "OccurrenceStartDate": start,
        "EraStartDate": start, "EraLength": f"{end} - {start}", "ValueAsNumber": "e.value_as_number",
        "Unit": "e.unit_concept_id",
    }  # fmt: skip
    return [(key, _holds(source, getattr(asked, key))) for key, source in sources.items() if hasattr(asked, key)]


def _holds(what: str, wanted: Any) -> str:
    if isinstance(wanted, list):
        return f"{what} IN ({numbers(concept.id for concept in wanted)})"
    if isinstance(wanted, Range | DateRange):
        first, last = _value(wanted.Value), _value(wanted.Extent)
        if wanted.Op.endswith("bt"):
            return f"{'NOT ' if wanted.Op == '!bt' else ''}({what} BETWEEN {first} AND {last})"
        return f"{what} {SIGNS[wanted.Op]} {first}"
    return "TRUE"


def _value(value: float | str | None) -> str:
    if isinstance(value, str):
        return f"DATE '{date.fromisoformat(value).isoformat()}'"
    return "NULL" if value is None else str(int(value)) if value == int(value) else repr(value)


def _group(group: Group, base: str, sets: Sets) -> str:
    parts = [_related(one, base, sets) for one in group.CriteriaList]
    parts += [_demographic(one) for one in group.DemographicCriteriaList]
    parts += [_group(one, base, sets) for one in group.Groups]
    if not parts:
        return "TRUE"
    if group.Type in ("ALL", "ANY"):
        return f"({(' AND ' if group.Type == 'ALL' else ' OR ').join(parts)})"
    count = " + ".join(f"CASE WHEN {part} THEN 1 ELSE 0 END" for part in parts)
    return f"(({count}) {'>=' if group.Type == 'AT_LEAST' else '<='} {group.Count})"


def _demographic(asked: Demographic) -> str:
    parts = [
        ("EXTRACT(YEAR FROM q.start_date) - q.year_of_birth", asked.Age), ("q.gender", asked.Gender),
        ("q.start_date", asked.OccurrenceStartDate),
    ]  # fmt: skip
    return f"({' AND '.join(_holds(what, wanted) for what, wanted in parts)})"


def _related(related: Related, base: str, sets: Sets) -> str:
    observed = not related.IgnoreObservationPeriod
    on = ["a.person_id = i.person_id"]
    if observed:
        on.append("a.start_date >= i.op_start AND a.start_date <= i.op_end")
    if related.StartWindow is not None:
        on += _within(related.StartWindow, bool(related.StartWindow.UseEventEnd), observed)
    if related.EndWindow is not None:
        on += _within(related.EndWindow, related.EndWindow.UseEventEnd is not False, observed)
    times = related.Occurrence
    return f"""q.event IN (
        SELECT i.event FROM {base} i LEFT JOIN ({_records(related.Criteria, sets)}) a ON {" AND ".join(on)}
        GROUP BY i.event HAVING count(a.record) {TIMES[times.Type]} {times.Count})"""


def _within(window: Window, of_end: bool, observed: bool) -> list[str]:
    index = "i.end_date" if window.UseIndexEnd else "i.start_date"
    event = "a.end_date" if of_end else "a.start_date"
    bounds = [(">=", _bound(window.Start, index, observed)), ("<=", _bound(window.End, index, observed))]
    return [f"{event} {sign} {bound}" for sign, bound in bounds if bound is not None]


def _bound(bound: Bound, index: str, observed: bool) -> str | None:
    if bound.Days is not None:
        return f"{index} + ({bound.Coeff * bound.Days})"
    return ("i.op_start" if bound.Coeff == -1 else "i.op_end") if observed else None
