"""OMOP databases: GiBleed from ../shared/data, and small ones; in DuckDB, and copied into PostgreSQL."""

import csv
import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb

GIBLEED = Path(__file__).parents[3] / "shared/data/omop/gibleed"
CIRCE = GIBLEED.parent / "circe_cohorts"
WHOLE = re.compile(
    r"_id(_\d)?$|^(year|month|day)_of_birth$|^(quantity|days_supply|refills|gap_days)$|_count$|levels_of"
)
TABLES = (
    "person", "observation_period", "concept", "concept_ancestor", "cdm_source", "condition_occurrence", "drug_era",
    "visit_occurrence",
)  # fmt: skip
"""Those of GiBleed that are read."""


def types(header: list[str]) -> dict[str, str]:
    """Columns of a table in lower case, and their SQL types. Some headers are expressions of what made them."""
    found = {}
    for raw in header:
        name = re.sub(r"^date\((\w+),.*\)$", r"\1", raw.strip()).lower()
        if name.endswith(("_date", "_datetime")):
            kind = "DATE" if name.endswith("_date") else "TIMESTAMP"
        elif WHOLE.search(name) and name not in ("vocabulary_id", "domain_id", "concept_class_id", "relationship_id"):
            kind = "BIGINT"
        else:
            kind = "DOUBLE" if name in ("value_as_number", "range_low", "range_high") else "VARCHAR"
        found[name] = kind
    return found


def gibleed(path: Path) -> Path:
    """Write a DuckDB file of GiBleed."""
    with duckdb.connect(str(path)) as database:
        for table in TABLES:
            file = str(GIBLEED / f"{table}.csv.gz")
            with gzip.open(file, "rt", newline="") as lines:
                header = next(csv.reader(lines))
            kinds = types(header)
            columns = ", ".join(f"'{name}': 'VARCHAR'" for name in kinds)
            picked = ", ".join(f"CAST(NULLIF({name}, '') AS {kind}) AS {name}" for name, kind in kinds.items())
            read = f"read_csv('{file}', auto_detect=false, header=true, delim=',', quote='\"', escape='\"'"
            database.execute(f"CREATE TABLE {table} AS SELECT {picked} FROM {read}, columns={{{columns}}})")
    return path


def postgres(url: str, source: Path, tables: tuple[str, ...] = TABLES) -> None:
    """Copy the tables of a DuckDB file into a database."""
    import psycopg

    with duckdb.connect(str(source), read_only=True) as duck, psycopg.connect(url) as connection:
        for table in tables:
            described: list[Any] = duck.execute(f"DESCRIBE {table}").fetchall()
            columns = [(row[0], str(row[1]).replace("DOUBLE", "NUMERIC")) for row in described]
            connection.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns)})")
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for row in duck.execute(f"SELECT * FROM {table}").fetchall():
                    copy.write_row(row)


SCHEMA = {
    "person": "person_id, gender_concept_id, year_of_birth, race_concept_id, ethnicity_concept_id",
    "observation_period": "person_id, observation_period_start_date, observation_period_end_date",
    "concept": "concept_id, vocabulary_id, concept_code, standard_concept, invalid_reason",
    "concept_ancestor": "ancestor_concept_id, descendant_concept_id",
    "concept_relationship": "concept_id_1, concept_id_2, relationship_id, invalid_reason",
    "cdm_source": "cdm_version",
    "death": "person_id, death_date, cause_concept_id",
    "condition_occurrence": "condition_occurrence_id, person_id, condition_concept_id, condition_start_date, "
    "condition_end_date",
    "condition_era": "condition_era_id, person_id, condition_concept_id, condition_era_start_date, "
    "condition_era_end_date",
    "drug_era": "drug_era_id, person_id, drug_concept_id, drug_era_start_date, drug_era_end_date",
    "measurement": "measurement_id, person_id, measurement_concept_id, measurement_date, measurement_datetime, "
    "value_as_number, value_as_concept_id, unit_concept_id, operator_concept_id, value_source_value",
    "observation": "observation_id, person_id, observation_concept_id, observation_date, observation_datetime, "
    "value_as_number, value_as_concept_id, unit_concept_id, value_as_string, value_source_value",
    "visit_occurrence": "visit_occurrence_id, person_id, visit_concept_id, visit_start_date, visit_end_date",
}
"""Columns that are read, of the tables that the small databases have."""


def small(path: Path, rows: dict[str, list[tuple[Any, ...]]], more: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write a DuckDB file of these rows, in the order of the columns in SCHEMA and `more`; short ones end in NULL.

    Each standard concept is a descendant of its own, as vocabularies have it.
    """
    own = {(row[0], row[0]) for row in rows.get("concept", []) if "S" in row[3:4]}
    below = rows.get("concept_ancestor", [])
    rows = {**rows, "concept_ancestor": [*below, *sorted(own - set(below))]}
    with duckdb.connect(str(path)) as database:
        for table, names in {**SCHEMA, **more}.items():
            kinds = types(names.split(", "))
            database.execute(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in kinds.items())})")
            if table in rows:
                with path.with_suffix(".csv").open("w", newline="") as file:
                    csv.writer(file).writerows((*row, *[None] * (len(kinds) - len(row))) for row in rows[table])
                database.execute(f"COPY {table} FROM '{file.name}' (AUTO_DETECT false, DELIM ',', NULLSTR '')")
    return path
