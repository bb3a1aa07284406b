"""The tables of the CDM that are read, by domain, and whether the hospital's database has them.

Source: https://ohdsi.github.io/CommonDataModel/cdm53.html and cdm54.html. What is read here is alike in both,
but for what a domain calls `newer`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from consilium.core.errors import DataUnusable
from consilium.data.omop.database import Database


@dataclass(frozen=True)
class Domain:
    """A table of events. `end` is an SQL expression, as Circe has it: an event without an end lasts a day."""

    table: str
    key: str
    concept: str
    start: str
    end: str
    columns: tuple[str, ...] = ()
    lasts: bool = False
    """Whether its records are spans of time, and count if they overlap a window."""
    texts: tuple[str, ...] = ()
    """Columns that hold a value as it was entered."""
    newer: tuple[str, ...] = ()
    """More of them, which came with CDM 5.4."""

    @property
    def moment(self) -> str:
        """SQL: the moment of a record; NULL where its time of day is not known, and it has a day alone.

        By convention midnight stands where a source has no time, so that it says nothing where no record of the concept
        has another one (https://github.com/OHDSI/Themis/issues/147).
        """
        (exact,) = (f"CAST(e.{column} AS TIMESTAMP)" for column in self.columns if column.endswith("_datetime"))
        known = f"bool_or(CAST({exact} AS TIME) <> TIME '00:00:00') OVER (PARTITION BY e.{self.concept})"
        return f"CASE WHEN {known} THEN {exact} END"

    def said(self, version: str) -> tuple[str, ...]:
        """Columns that hold a value as it was entered, in this version of the CDM."""
        return (*self.texts, *(() if version == "5.3" else self.newer))

    def read(self, version: str) -> tuple[str, ...]:
        """Every column that is read, in this version of the CDM."""
        return ("person_id", self.key, self.concept, self.start, *self.columns, *self.said(version))


DOMAINS: dict[str, Domain] = {
    "condition": Domain(
        "condition_occurrence", "condition_occurrence_id", "condition_concept_id", "condition_start_date",
        "COALESCE(CAST(e.condition_end_date AS DATE), CAST(e.condition_start_date AS DATE) + 1)",
        ("condition_end_date",),
    ),
    "condition_era": Domain(
        "condition_era", "condition_era_id", "condition_concept_id", "condition_era_start_date",
        "CAST(e.condition_era_end_date AS DATE)", ("condition_era_end_date",), lasts=True,
    ),
    "drug": Domain(
        "drug_exposure", "drug_exposure_id", "drug_concept_id", "drug_exposure_start_date",
        "COALESCE(CAST(e.drug_exposure_end_date AS DATE), CAST(e.drug_exposure_start_date AS DATE)"
        " + CAST(e.days_supply AS INTEGER), CAST(e.drug_exposure_start_date AS DATE) + 1)",
        ("drug_exposure_end_date", "days_supply"),
    ),
    "drug_era": Domain(
        "drug_era", "drug_era_id", "drug_concept_id", "drug_era_start_date", "CAST(e.drug_era_end_date AS DATE)",
        ("drug_era_end_date",), lasts=True,
    ),
    "procedure": Domain(
        "procedure_occurrence", "procedure_occurrence_id", "procedure_concept_id", "procedure_date",
        "CAST(e.procedure_date AS DATE) + 1",
    ),
    "device": Domain(
        "device_exposure", "device_exposure_id", "device_concept_id", "device_exposure_start_date",
        "COALESCE(CAST(e.device_exposure_end_date AS DATE), CAST(e.device_exposure_start_date AS DATE) + 1)",
        ("device_exposure_end_date",),
    ),
    "measurement": Domain(
        "measurement", "measurement_id", "measurement_concept_id", "measurement_date",
        "CAST(e.measurement_date AS DATE) + 1",
        ("value_as_number", "value_as_concept_id", "unit_concept_id", "measurement_datetime", "operator_concept_id"),
        texts=("value_source_value",),
    ),
    "observation": Domain(
        "observation", "observation_id", "observation_concept_id", "observation_date",
        "CAST(e.observation_date AS DATE) + 1",
        ("value_as_number", "value_as_concept_id", "unit_concept_id", "observation_datetime"),
        texts=("value_as_string",), newer=("value_source_value",),
    ),
    "visit": Domain(
        "visit_occurrence", "visit_occurrence_id", "visit_concept_id", "visit_start_date",
        "CAST(e.visit_end_date AS DATE)", ("visit_end_date",),
    ),
    "death": Domain("death", "person_id", "cause_concept_id", "death_date", "CAST(e.death_date AS DATE) + 1"),
}  # fmt: skip
FACTS = {
    "person": ("person_id", "gender_concept_id", "year_of_birth", "race_concept_id", "ethnicity_concept_id"),
    "observation_period": ("person_id", "observation_period_start_date", "observation_period_end_date"),
    "concept": ("concept_id", "vocabulary_id", "concept_code", "standard_concept", "invalid_reason"),
    "concept_ancestor": ("ancestor_concept_id", "descendant_concept_id"),
}
"""Tables that are read for every mapping."""


def check(database: Database, version: str, domains: set[str]) -> None:
    """That the database has what is read of it. Raises: DataUnusable: a table or column is not there."""
    schemas = ", ".join(f"'{name}'" for name in database.schemas)  # names of letters, digits and _
    _, rows = database.query(
        f"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema IN ({schemas})",
        what="source.omop",
    )
    there: dict[str, set[str]] = {}
    for table, column in rows:
        there.setdefault(str(table), set()).add(str(column))
    wanted = {**FACTS, **{DOMAINS[name].table: DOMAINS[name].read(version) for name in sorted(domains)}}
    for table, columns in wanted.items():
        _columns(there, table, columns, database.schemas)
    if "cdm_source" in there:
        _version(database, version)


def _columns(there: Mapping[str, set[str]], table: str, columns: tuple[str, ...], schemas: tuple[str, ...]) -> None:
    if table not in there:
        near = difflib.get_close_matches(table, [name.lower() for name in there], n=1, cutoff=0.8)
        named = next((name for name in there if near and name.lower() == near[0]), None)
        hint = f"; there is {named!r}, and names are to be in lower case" if named and named.lower() == table else ""
        raise DataUnusable(
            f"the database has no table {table} in {' and '.join(schemas)}",
            f"name the schema as source.omop.cdm_schema or vocabulary_schema, or load the table{hint}",
        )
    missing = [column for column in columns if column not in there[table]]
    if missing:
        raise DataUnusable(
            f"table {table} has no column {missing[0]}", "bring the table to OMOP CDM 5.3 or 5.4, names in lower case"
        )


def _version(database: Database, version: str) -> None:
    _, rows = database.query("SELECT cdm_version FROM cdm_source", what="source.omop.version")
    for (told,) in rows:
        known = re.search(r"\d+\.\d+", str(told or ""))
        if known and known[0] != version:
            raise DataUnusable(
                f"source.omop.version says {version}, and cdm_source says {known[0]}", "correct the one that is wrong"
            )
