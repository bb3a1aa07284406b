"""An OMOP hospital, on DuckDB and on PostgreSQL: known answers, and what goes wrong ends in a finding."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import pytest
import yaml

from consilium.api import freeze
from consilium.console.cli import app
from consilium.core.contract import Contract
from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.core.study import Study
from consilium.data import compiled, meeting, recorded
from consilium.data.base import Asked, Missed, Rows, Seen
from consilium.data.bounds import NO_MOMENT
from consilium.data.omop import charlson, database
from consilium.data.omop.database import Duck, Postgres
from consilium.data.omop.source import OmopSource
from consilium.data.source import TableSource
from consilium.data.tables import SqlSource
from consilium.simulation import local
from docs.pages import blocks
from e2e import omop
from e2e.omop import CIRCE, GIBLEED, SCHEMA, TABLES
from e2e.postgres import Postgres as Server
from e2e.postgres import missing
from unit.data import test_coded

Place = dict[str, str]
"""`path` or `url` of a database."""
DIABETES, TYPE_2, GESTATIONAL, ICD, METFORMIN, CREATININE, HIGH = 10, 11, 12, 13, 20, 30, 40
MG, UMOL, HOUR = 8840, 8749, 8505
LESS, MORE = 4171756, 4172704
INDEX = "SELECT person_id, visit_start_date AS cohort_start_date FROM visit_occurrence WHERE visit_concept_id = 9201"
SMALL: dict[str, list[tuple[Any, ...]]] = {
    "cdm_source": [("v5.4.1",)],
    "concept": [
        (DIABETES, "SNOMED", "d", "S", None), (TYPE_2, "SNOMED", "d2", "S", None),
        (GESTATIONAL, "SNOMED", "g", "S", ""), (ICD, "ICD10CM", "E11", None, None),
        (METFORMIN, "RxNorm", "m", "S", None), (CREATININE, "LOINC", "c", "S", None),
        (MG, "UCUM", "mg/dL", "S", None), (UMOL, "UCUM", "umol/L", "S", None), (HOUR, "UCUM", "h", "S", None),
        (HIGH, "LOINC", "high", "S", None), (9201, "Visit", "IP", "S", None), (9202, "Visit", "OP", "S", None),
        *((one, "SNOMED", str(one), "S", None) for _, of in charlson.WEIGHTS.values() for one in of),
    ],
    "concept_ancestor": [(DIABETES, DIABETES), (DIABETES, TYPE_2), (DIABETES, GESTATIONAL), (201820, TYPE_2)],
    "concept_relationship": [(ICD, TYPE_2, "Maps to", None)],
    "person": [(1, 8532, 1960, 0, 0), (2, 8507, 1970, 0, 0), (3, 8532, 1980, 0, 0), (4, 8507, None, 0, 0)],
    "observation_period": [
        (1, "2015-01-01", "2022-12-31"), (2, "2019-06-01", "2020-06-30"), (3, "2010-01-01", "2022-12-31"),
        (4, "2019-12-01", "2021-12-31"),
    ],
    "visit_occurrence": [
        (1, 1, 9201, "2020-01-01", "2020-01-05"), (2, 2, 9201, "2020-02-01", "2020-02-02"),
        (3, 3, 9201, "2020-03-01", "2020-03-03"), (4, 4, 9201, "2020-04-01", "2020-04-01"),
        (5, 1, 9202, "2019-05-05", "2019-05-05"),
    ],
    "condition_occurrence": [
        (1, 1, TYPE_2, "2019-06-01", None), (2, 2, GESTATIONAL, "2020-01-15", None), (3, 3, TYPE_2, "2018-01-01", None),
        (4, 1, DIABETES, "2020-03-01", None), (5, 1, DIABETES, "2020-04-01", None),
    ],
    "condition_era": [
        (1, 4, TYPE_2, "2019-01-01", "2020-03-30"), (2, 3, TYPE_2, "2018-01-01", "2020-01-30"),
        (3, 3, 443767, "2019-01-01", "2019-01-30"), (4, 3, 432851, "2021-01-01", "2021-01-30"),
    ],
    "drug_era": [(1, 2, METFORMIN, "2020-01-01", "2020-05-01"), (2, 3, METFORMIN, "2020-03-02", "2020-05-01")],
    "measurement": [
        (9, 1, CREATININE, "2019-12-31", "2019-12-31 08:00:00", 2.0, 0, MG),
        (1, 1, CREATININE, "2019-12-31", "2019-12-31 12:00:00", 88.4016973125884, HIGH, UMOL),
        (2, 1, CREATININE, "2019-12-01", None, 0.5, 0, MG), (3, 2, CREATININE, "2020-01-01", None, None, HIGH, MG),
        (4, 3, CREATININE, "2020-02-01", None, 0.1, 0, MG), (5, 3, CREATININE, "2020-02-02", None, 0.2, 0, MG),
        (6, 3, CREATININE, "2020-02-03", None, 0.3, 0, MG), (7, 4, CREATININE, "2020-03-01", None, 1.5, 0, 0),
        (10, 3, CREATININE, "2020-03-10", None, 0.2, 0, MG, LESS), (11, 3, CREATININE, "2020-03-11", None, 0.5, 0, MG),
        (12, 4, CREATININE, "2020-04-05", None, 9.0, 0, MG, MORE), (13, 4, CREATININE, "2020-04-06", None, 3, 0, MG),
        (14, 2, CREATININE, "2020-06-01", None, 1.5, 0, MG), (15, 2, CREATININE, "2020-06-02", None, None, 0, MG, LESS),
        (16, 2, CREATININE, "2020-06-03", None, 2.5, 0, MG), (17, 2, CREATININE, "2020-06-04", None, None, 0, MG),
        (18, 4, CREATININE, "2020-07-20", None, 1.5, HIGH, MG),
        (19, 4, CREATININE, "2020-07-21", None, None, 0, None, None, "see text"),
        (20, 3, CREATININE, "2020-06-20", None, None, None, None, None, " "),
        (31, 1, CREATININE, "2020-09-08", "2020-09-08 08:00:00", 1.0, HIGH, MG),
        (30, 1, CREATININE, "2020-09-08", None, 2.0, HIGH, MG), (33, 2, CREATININE, "2020-10-09", None, 1.0, HIGH, MG),
        (32, 2, CREATININE, "2020-10-09", None, 2.0, METFORMIN, MG),
        (35, 3, HIGH, "2020-11-07", "2020-11-07 00:00:00", 1.0, HIGH, MG),
        (34, 3, HIGH, "2020-11-07", None, 2.0, HIGH, MG),
    ],
    "observation": [
        (1, 1, HIGH, "2019-12-01", None, 2.0, None, MG, "2"), (2, 1, HIGH, "2019-12-02", None, None, 0, None, "lots"),
        (3, 2, HIGH, "2020-01-02", None, None, None, None, None, "trace"), (4, 3, HIGH, "2020-02-02", None, None, None),
        (5, 4, HIGH, "2020-03-02", None, 3.0, None, MG, None, "3"),
    ],
    "death": [(2, "2020-06-30", 0)],
}  # fmt: skip
LAB: dict[str, Any] = {"family": "measurement", "concepts": [CREATININE], "window": [-365, 0], "unit": "mg/dL",
                       "analyte": "creatinine", "units": {"0": "mg/dL"}}  # fmt: skip
BEFORE: dict[str, Any] = {"family": "condition", "concepts": [DIABETES], "window": [-365, -1]}
AFTER: dict[str, Any] = {"family": "condition", "concepts": [DIABETES], "window": [1, 365]}
KNOWN: list[tuple[dict[str, Any], list[str | None]]] = [
    ({"family": "age"}, ["60", "50", "40", None]),
    ({"family": "gender"}, ["8532", "8507", "8532", "8507"]),
    ({"family": "days_before"}, ["1826", "245", "3712", "122"]),
    ({"family": "days_after"}, ["1095", "150", "1035", "639"]),
    (BEFORE, ["1", "1", "0", "0"]),
    ({**BEFORE, "exclude": [GESTATIONAL]}, ["1", "0", "0", "0"]),
    ({**BEFORE, "descendants": False}, ["0", "0", "0", "0"]),
    ({**BEFORE, "concept_set": "set.json", "concepts": []}, ["1", "0", "0", "0"]),
    ({**BEFORE, "window": [None, -1]}, ["1", "1", "1", "0"]),
    (AFTER, ["1", "0", "0", "0"]),
    ({**AFTER, "take": "count"}, ["2", "0", "0", "0"]),
    ({**AFTER, "followed": True}, ["1", None, "0", "0"]),
    ({**BEFORE, "family": "condition_era", "window": [-30, 0]}, ["0", "0", "0", "1"]),
    ({**BEFORE, "family": "drug_era", "concepts": [METFORMIN], "window": [-30, 0]}, ["0", "1", "0", "0"]),
    ({**LAB, "take": "last"}, ["1.0", "no number", "0.3", "1.5"]),
    ({**LAB, "take": "first"}, ["0.5", "no number", "0.1", "1.5"]),
    ({**LAB, "take": "max"}, ["2.0", "no number", "0.3", "1.5"]),
    ({**LAB, "take": "min", "units": {"0": "missing"}}, ["0.5", "no number", "0.1", None]),
    ({**LAB, "take": "mean"}, [repr(3.5 / 3), "no number", repr(0.2), "1.5"]),
    ({"family": "measurement", "concepts": [CREATININE], "window": [-365, 0], "take": "last", "value": "concept"},
     ["40", "40", None, None]),
    ({"family": "measurement", "concepts": [CREATININE], "window": [-7, 0], "take": "count"}, ["2", "0", "0", "0"]),
    ({"family": "visit", "concepts": [9202], "window": [-365, -1], "take": "count"}, ["1", "0", "0", "0"]),
    ({"family": "visit", "window": [-365, 0], "take": "count"}, ["2", "1", "1", "1"]),
    ({"family": "death", "window": [0, 365]}, ["0", "1", "0", "0"]),
    ({"family": "charlson", "window": [None, 0]}, ["0", "0", "3", "1"]),
    ({"family": "cohort", "window": [1, 365], "cohort": {"query":
      "SELECT person_id, death_date AS cohort_start_date FROM death"}}, ["0", "1", "0", "0"]),
]  # fmt: skip
BOUNDED: dict[str, list[str | None]] = {
    "first": [None, None, "<0.2", ">9.0"], "max": [None, None, "0.5", ">9.0"], "min": [None, None, "<0.2", "3.0"],
    "mean": [None, None, "<0.2", ">9.0"], "last": [None, None, "0.5", "3.0"],
}  # fmt: skip
"""Creatinine in the month from the day after on, of which some values are only bounds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("omop")
    omop.small(made / "cdm.duckdb", SMALL)
    items = [{"concept": {"CONCEPT_ID": DIABETES}, "includeDescendants": True},
             {"concept": {"CONCEPT_ID": GESTATIONAL}, "isExcluded": True}]  # fmt: skip
    (made / "set.json").write_text(json.dumps({"items": items}))
    return made


@pytest.fixture(scope="module", params=["duckdb", "postgresql"])
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """The small database, in each of the two kinds."""
    return placed(request, folder / "cdm.duckdb", tuple(SCHEMA))


@pytest.fixture(scope="module")
def gibleed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not GIBLEED.is_dir():
        pytest.skip("the tables of GiBleed are not here")
    return omop.gibleed(tmp_path_factory.mktemp("gibleed") / "cdm.duckdb")


@pytest.fixture(scope="module", params=["duckdb", "postgresql"])
def gibleed(request: pytest.FixtureRequest, gibleed_file: Path) -> Place:
    return placed(request, gibleed_file, TABLES)


def placed(request: pytest.FixtureRequest, file: Path, tables: tuple[str, ...]) -> Place:
    if request.param == "duckdb":
        return {"path": str(file)}
    if why := missing():
        pytest.skip(why)
    server: Server = request.getfixturevalue("postgres")
    url = server()
    omop.postgres(url, file, tables)
    return {"url": url.replace("postgresql://", "postgresql+psycopg://")}


def read(place: Place, columns: dict[str, Any], folder: Path, version: str = "5.4", **more: Any) -> Rows:
    given = {"version": version, "cohort": {"query": INDEX}, "columns": columns, **more}
    return OmopSource(TableSource.model_validate({"type": "omop", **place, "omop": given}), folder).rows()


def test_every_family_gives_the_known_answer(place: Place, folder: Path) -> None:
    columns = {f"c{number}": given for number, (given, _) in enumerate(KNOWN)}
    found = read(place, columns, folder)
    assert found.columns["person_id"] == ["1", "2", "3", "4"]
    for number, (given, wanted) in enumerate(KNOWN):
        texts = found.columns[f"c{number}"]
        if given.get("unit"):
            assert [one if one in (None, "no number") else pytest.approx(float(one), rel=1e-12) for one in texts] == [
                one if one in (None, "no number") else float(one) for one in wanted
            ], given
        else:
            assert texts == wanted, given


def test_a_value_that_is_only_a_bound_has_its_sign_where_it_counts(place: Place, folder: Path) -> None:
    found = read(place, {take: {**LAB, "window": [1, 30], "take": take} for take in BOUNDED}, folder)
    assert {take: found.columns[take] for take in BOUNDED} == BOUNDED


WORDED = {"first": "1.5", "last": "2.5", "max": "no number", "min": "no number", "mean": "no number"}
"""Of person 2 in June: 1.5, one with an operator and no number, 2.5, and one that says nothing."""


def test_a_measurement_that_says_something_and_no_number_is_not_passed_over(place: Place, folder: Path) -> None:
    columns = {take: {**LAB, "window": [121, 160], "take": take} for take in WORDED}
    found = read(place, {**columns, "one": {**LAB, "window": [122, 122], "take": "last"}}, folder)
    assert {name: texts[1] for name, texts in found.columns.items() if name in (*WORDED, "one")} == {
        **WORDED, "one": "no number",
    }  # fmt: skip


SEEN: dict[str, tuple[dict[str, Any], list[str | None]]] = {
    "first": ({"take": "first"}, [None, None, None, "1.5"]),
    "last": ({"take": "last"}, [None, None, None, "no number"]),
    "max": ({"take": "max"}, [None, None, None, "no number"]),
    "code": ({"take": "last", "value": "concept"}, [None, None, None, "see text"]),
    "seen": ({"take": "last", "family": "observation", "concepts": [HIGH], "window": [-365, 0]},
             ["no number", "no number", None, "3.0"]),
    "coded": ({"take": "last", "value": "concept", "family": "observation", "concepts": [HIGH], "window": [-365, 0]},
              ["lots", "trace", None, None]),
}  # fmt: skip
"""Of person 4 in July: 1.5 and a concept, and a day later a text alone; in observations texts of both kinds."""


def test_a_value_of_which_there_is_only_the_text_that_was_entered_is_not_passed_over(
    place: Place, folder: Path
) -> None:
    plain = {**LAB, "window": [110, 111]}
    numeric = ("unit", "units", "analyte")
    columns = {
        name: {key: one for key, one in {**plain, **given}.items() if "value" not in given or key not in numeric}
        for name, (given, _) in SEEN.items()
    }
    found = read(place, columns, folder)
    assert {name: found.columns[name] for name in SEEN} == {name: wanted for name, (_, wanted) in SEEN.items()}


ONE_DAY: dict[str, tuple[dict[str, Any], list[str | None]]] = {
    "first": ({"take": "first"}, ["no time of day", "1.0", "1.0", None]),
    "last": ({"take": "last"}, ["no time of day", "2.0", "2.0", None]),
    "max": ({"take": "max"}, ["2.0", "2.0", "2.0", None]),
    "code": ({"take": "last", "value": "concept"}, ["no time of day", "(several at one moment)", "40", None]),
}  # fmt: skip
"""Of the 251st day: one record with a time and one without; two without; one at midnight, where none has a time."""


def test_a_day_without_a_time_is_no_midnight(place: Place, folder: Path) -> None:
    plain = {**LAB, "concepts": [CREATININE, HIGH], "window": [251, 251]}
    numeric = ("unit", "units", "analyte")
    columns = {
        name: {key: one for key, one in {**plain, **given}.items() if "value" not in given or key not in numeric}
        for name, (given, _) in ONE_DAY.items()
    }
    found = read(place, columns, folder)
    assert {name: found.columns[name] for name in ONE_DAY} == {name: wanted for name, (_, wanted) in ONE_DAY.items()}


def test_persons_who_opted_out_are_left_out_by_the_database(place: Place, folder: Path) -> None:
    columns = {"age": {"family": "age"}, "bleed": {"family": "visit", "window": [None, 0], "take": "count"}}
    given = {"version": "5.4", "cohort": {"query": f"{INDEX} -- all"}, "columns": columns}
    made = OmopSource(TableSource.model_validate({"type": "omop", **place, "omop": given}), folder)
    made.told(Asked(without=("person_id", frozenset(["1", "4", "77", "x%s"]))))
    found = made.rows()
    assert (found.columns["person_id"], found.columns["age"], found.left_out) == (["2", "3"], ["50", "40"], 2)
    query = "SELECT person_id, 60 / NULLIF(person_id - 1, 0) AS n, '100% ? :b'::text said FROM person ORDER BY 1 -- all"
    plain = SqlSource(TableSource.model_validate({"type": "sql", **place, "query": query}), folder)
    plain.told(Asked(without=("person_id", frozenset(["2", "x%s"]))))
    of = {"person_id": ["1", "3", "4"], "said": ["100% ? :b"] * 3}
    assert {name: plain.rows().columns[name] for name in of} == of and plain.rows().left_out == 1


def drug(concept: int) -> str:
    return (
        "SELECT person_id, drug_era_start_date AS cohort_start_date FROM drug_era JOIN concept_ancestor"
        f" ON drug_concept_id = descendant_concept_id WHERE ancestor_concept_id = {concept}"
    )


BLEED = (
    "SELECT person_id AS subject_id, condition_start_date AS cohort_start_date FROM condition_occurrence"
    " JOIN concept_ancestor ON condition_concept_id = descendant_concept_id WHERE ancestor_concept_id = 192671"
)
COUNTS: list[tuple[dict[str, Any], int]] = [
    ({"query": "SELECT person_id, CAST(birth_datetime AS DATE) AS cohort_start_date FROM person"}, 2694),
    ({"query": drug(1118084), "entry": "first"}, 1844),
    ({"query": drug(1124300), "entry": "first"}, 850),
    ({"query": BLEED, "entry": "last"}, 479),
    ({"circe": "bleed.json"}, 479),
    ({"circe": "atlas_demo_new_users_diclofenac.json"}, 830),
]


def counted(place: Place, cohort: dict[str, Any], folder: Path) -> int:
    given = {"version": "5.3", "cohort": cohort, "columns": {"age": {"family": "age"}}}
    return OmopSource(TableSource.model_validate({"type": "omop", **place, "omop": given}), folder).count()


@pytest.mark.parametrize(("cohort", "wanted"), COUNTS)
def test_counts_of_gibleed(gibleed: Place, cohort: dict[str, Any], wanted: int, tmp_path: Path) -> None:
    for file in CIRCE.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    bleed = json.loads((CIRCE / "pycdmconnector_gibleed_simple.json").read_text())
    asked = bleed["PrimaryCriteria"]["CriteriaList"][0]["ConditionOccurrence"]
    del asked["Occurrence"], asked["Era"]  # no part of Circe, which passes over them; here they are refused
    (tmp_path / "bleed.json").write_text(json.dumps(bleed))
    assert counted(gibleed, cohort, tmp_path) == wanted


STUDY = """
consilium: 1
name: bleeding
title: Bleeding
purpose: {code: research, text: t, requester: r}
contract:
  id: bleeding
  features:
    - {id: age, meaning: age, type: number, unit: a, range: [18, 110], missing: forbidden}
    - {id: sex, meaning: sex, type: category, categories: {female: female, male: male}}
    - {id: creatinine, meaning: creatinine, type: number, unit: umol/L, range: [10, 2000]}
  label: {id: bled, meaning: bled within a year, type: binary}
model: {kind: logistic}
training: {epochs: 5, learning_rate: 0.5, seed: 1}
rounds: 2
quorum: 2
min_patients: 20
privacy: {recipe: plain}
"""


def hospital(folder: Path, place: Place, limit_s: float = 60.0) -> Path:
    folder.mkdir()
    source = {"type": "omop", **place, "omop": {
        "version": "5.4", "cohort": {"query": INDEX}, "time_limit_s": limit_s,
        "columns": {"age": {"family": "age"}, "gender": {"family": "gender"}, "creatinine": {**LAB, "take": "mean"},
                    "bled": AFTER},
    }}  # fmt: skip
    mapping = {
        "mapping": 1, "contract": "bleeding", "source": source, "patient": {"column": "person_id"},
        "features": {
            "age": {"column": "age", "unit": "a"},
            "sex": {"column": "gender", "codes": {"8532": "female", "8507": "male"}},
            "creatinine": {"column": "creatinine", "unit": "mg/dL", "analyte": "creatinine"},
        },
        "label": {"column": "bled", "codes": {"0": 0, "1": 1}},
    }  # fmt: skip
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping, sort_keys=False))
    return folder / "mapping.yaml"


def crowd(seed: int) -> dict[str, list[tuple[Any, ...]]]:
    """Persons by chance, of whom the old ones with much creatinine bleed."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[tuple[Any, ...]]] = {
        name: list(SMALL[name]) for name in ("cdm_source", "concept", "concept_ancestor")
    }
    for name in ("person", "observation_period", "visit_occurrence", "condition_occurrence", "measurement"):
        rows[name] = []
    for person in range(1, 121):
        born, values = int(rng.integers(1930, 2000)), rng.gamma(4.0, 0.3, size=3)
        rows["person"].append((person, int(rng.choice([8507, 8532])), born, 0, 0))
        rows["observation_period"].append((person, "2010-01-01", "2022-12-31"))
        rows["visit_occurrence"].append((person, person, 9201, "2020-01-01", "2020-01-02"))
        for number, value in enumerate(values):
            unit = (MG, UMOL)[number % 2]
            shown = value * (88.4 if unit == UMOL else 1.0)
            key = 3 * person + number
            rows["measurement"].append((key, person, CREATININE, f"2019-12-0{number + 1}", None, shown, 0, unit))
        if values.mean() + (1960 - born) / 40 + rng.normal() > 1.2:
            rows["condition_occurrence"].append((person, person, TYPE_2, "2020-05-01", None))
    return rows


def test_a_run_gives_the_same_bytes_from_duckdb_and_from_postgresql(
    tmp_path: Path, postgres: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study.model_validate(yaml.safe_load(STUDY))
    ducks, servers = {}, {}
    for seed, name in enumerate(("north", "south")):
        file = omop.small(tmp_path / f"{name}.duckdb", crowd(seed))
        url = postgres()
        omop.postgres(url, file, tuple(SCHEMA))
        ducks[name] = hospital(tmp_path / f"{name}-duck", {"path": str(file)})
        servers[name] = hospital(tmp_path / f"{name}-server", {"url": url})
    outcomes = []
    for number, hospitals in enumerate((ducks, servers)):
        into = tmp_path / f"run-{number}"
        into.mkdir()
        plan, weights = freeze(study)
        outcomes.append(local.run(plan, weights, local.tables(plan.study, hospitals, into), into, "bleeding-1"))
    assert outcomes[0].took_part == ("north", "south")
    assert outcomes[0].state.read_bytes() == outcomes[1].state.read_bytes()
    (tmp_path / "study.yaml").write_text(STUDY)
    home = ["--home", str(tmp_path / "site")]
    assert app.run(["site", "init", *home]) == 0
    capsys.readouterr()
    for mapping in (ducks["north"], servers["north"]):
        files = ["--study-file", str(tmp_path / "study.yaml"), "--mapping", str(mapping)]
        assert app.run(["site", "check", *files, *home, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["read"] == 120 and said["usable"] is True
        assert [one["usable"] for one in said["features"]] == [120, 120, 120]


UNIT: list[tuple[Any, ...]] = [(1, 1, CREATININE, "2019-12-31", None, 3.0, 0, HOUR)]
BROKEN: list[tuple[dict[str, Any], dict[str, Any], type[ConsiliumError], str]] = [
    ({"concepts": [999]}, {}, DataUnusable, "has no concept 999"),
    ({"concepts": [ICD]}, {}, DataUnusable, rf"ICD10CM E11\) is no standard concept.*maps to: {TYPE_2}"),
    ({"concepts": [DIABETES], "exclude": [DIABETES]}, {}, DataUnusable, "all concepts are excluded"),
    ({"family": "device"}, {}, DataUnusable, "no table device_exposure in (main|public)"),
    ({**LAB, "take": "last", "units": {}}, {}, DataUnusable, "c: <10 values have unit_concept_id 0, which is no unit"),
    ({**LAB, "take": "last", "units": {"0": "h"}}, {}, DataUnusable, "unit_concept_id 0: 'h' cannot be converted"),
    ({**LAB, "take": "mean", "analyte": None}, {}, DataUnusable, f"unit_concept_id {UMOL}: 'umol/L' cannot be"),
    ({}, {"version": "5.3"}, DataUnusable, r"version says 5\.3, and cdm_source says 5\.4"),
    ({}, {"cdm_schema": "cdm"}, DataUnusable, "no schema 'cdm'"),
    ({}, {"cohort": {"query": "SELECT person_id FROM person"}}, DataUnusable, "no column cohort_start_date"),
    ({}, {"cohort": {"query": "SELECT 1 AS person_id, 'x' AS cohort_start_date"}}, DataUnusable, "is no date"),
    ({}, {"cohort": {"query": "SELECT person_idd FROM person"}}, DataUnusable, "cohort.query: .*person_idd"),
    ({}, {"cohort": {"query": "DROP TABLE person"}}, MappingInvalid, "cohort.query: only one SELECT"),
    ({}, {"cohort": {"query": "SELECT 77 AS person_id, DATE '2020-01-01' AS cohort_start_date"}}, DataUnusable,
     "has persons whom table person does not have"),
    ({}, {"cohort": {"query": INDEX.split(" WHERE")[0]}}, DataUnusable, "several entries; write `entry: first`"),
    ({}, {"cohort": {"circe": "none.json"}}, MappingInvalid, "none.json cannot be read"),
    ({}, {"cohort": {"query": INDEX + " AND visit_start_date < visit_start_date"}}, DataUnusable, "nobody"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "more", "kind", "said"), BROKEN)
def test_what_is_wrong_is_said(
    place: Place, folder: Path, column: dict[str, Any], more: dict[str, Any], kind: type[ConsiliumError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        read(place, {"c": {**BEFORE, **column}}, folder, **more)


def test_a_query_that_hangs_is_given_up(place: Place, folder: Path) -> None:
    slow = "SELECT count(*) AS person_id FROM range(10000000) a(x), range(10000000) b(x) WHERE hash(a.x + b.x) = 7"
    query = slow if "path" in place else "SELECT 1 AS person_id FROM pg_sleep(60)"
    query = query.replace("AS person_id", "AS person_id, DATE '2020-01-01' AS cohort_start_date")
    began = time.monotonic()
    with pytest.raises(DataUnusable, match=r"cohort.query: the database took longer than the 0.5 s"):
        read(place, {"age": {"family": "age"}}, folder, cohort={"query": query}, time_limit_s=0.5)
    assert time.monotonic() - began < 20


def test_nothing_is_written(place: Place, folder: Path) -> None:
    """Whatever a query is: DuckDB opens the file for reading, and PostgreSQL the transaction."""
    query = "WITH gone AS (DELETE FROM person RETURNING person_id) SELECT person_id FROM gone"
    with pytest.raises(MappingInvalid, match="only one SELECT"):
        read(place, {"age": {"family": "age"}}, folder, cohort={"query": query})
    duck = "path" in place
    opened = Duck(Path(place["path"]), "x", (), 60.0) if duck else Postgres(place["url"], (), 60.0)
    with opened as asked, pytest.raises(DataUnusable, match=r"it wants to write|InvalidInputException"):
        list(asked.query("DELETE FROM person" if duck else "SELECT person_id FROM person FOR UPDATE", what="x")[1])
    assert len(read(place, {"age": {"family": "age"}}, folder)) == 4


def test_a_mapping_reads_no_other_file_of_the_hospital(folder: Path) -> None:
    query = "SELECT content AS person_id FROM read_text('/etc/hostname')"
    with pytest.raises(DataUnusable, match="PermissionException"):
        read({"path": str(folder / "cdm.duckdb")}, {"age": {"family": "age"}}, folder, cohort={"query": query})


def test_a_server_that_no_longer_answers_is_given_up(
    postgres: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's process is stopped while it computes: it cannot keep its own limit, and its line stays open."""
    import psycopg

    monkeypatch.setattr(database, "GRACE_S", 0.5)
    url = postgres()
    omop.postgres(url, folder / "cdm.duckdb", tuple(SCHEMA))
    stopped: list[int] = []

    def stop() -> None:
        with psycopg.connect(url, autocommit=True) as watching:
            while not stopped:
                row = watching.execute(
                    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
                ).fetchone()
                if row:
                    os.kill(row[0], signal.SIGSTOP)
                    stopped.append(row[0])

    thread = threading.Thread(target=stop)
    thread.start()
    began = time.monotonic()
    try:
        query = "SELECT 1 AS person_id, DATE '2020-01-01' AS cohort_start_date FROM pg_sleep(2)"
        with pytest.raises(DataUnusable, match="took longer than the 3 s"):
            read({"url": url}, {"age": {"family": "age"}}, folder, cohort={"query": query}, time_limit_s=3)
    finally:
        thread.join()
        os.kill(stopped[0], signal.SIGCONT)
    assert time.monotonic() - began < 20


def test_a_server_that_says_nothing_is_given_up(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://reader@127.0.0.1:{server.getsockname()[1]}/x"
        with pytest.raises(DataUnusable, match="cannot be reached"):
            read({"url": url}, {"age": {"family": "age"}}, folder, time_limit_s=1)


Change = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE person RENAME COLUMN year_of_birth TO birth_year", "table person has no column year_of_birth"),
        ("DROP TABLE concept_ancestor", "no table concept_ancestor"),
        ("ALTER TABLE person RENAME COLUMN person_id TO PERSON_ID", "names in lower case"),
        ("ALTER TABLE person ALTER year_of_birth TYPE VARCHAR; UPDATE person SET year_of_birth = 'SECRET'",
         "columns.age: some record has a value of a wrong type"),
        ("ALTER TABLE visit_occurrence ALTER visit_start_date TYPE VARCHAR", "cohort_start_date is no date"),
    ],
)  # fmt: skip
def test_a_schema_that_changed_overnight_is_a_finding(tmp_path: Path, change: str, said: str) -> None:
    file = omop.small(tmp_path / "cdm.duckdb", SMALL)
    with duckdb.connect(str(file)) as changing:
        changing.execute(change)
    with pytest.raises(DataUnusable, match=said) as raised:
        read({"path": str(file)}, {"age": {"family": "age"}}, tmp_path)
    assert "SECRET" not in str(raised.value)


EMPTY = [
    ("DELETE FROM condition_occurrence", BEFORE),
    ("DELETE FROM condition_era", {"family": "charlson", "window": [None, 0]}),
    ("UPDATE condition_occurrence SET condition_concept_id = 0", {**BEFORE, "take": "count"}),
    ("DELETE FROM death", {"family": "death", "window": [0, 365]}),
]


@pytest.mark.parametrize(("change", "column"), EMPTY)
def test_a_0_wants_a_source_that_would_know(tmp_path: Path, change: str, column: dict[str, Any]) -> None:
    file = {"path": str(omop.small(tmp_path / "cdm.duckdb", SMALL))}
    with duckdb.connect(file["path"]) as changing:
        changing.execute(change)
    with pytest.raises(DataUnusable, match=r"nobody knows whether 0 is true; .*none_here: true"):
        read(file, {"c": column}, tmp_path)
    assert read(file, {"c": {**column, "none_here": True}}, tmp_path).columns["c"] == ["0"] * 4


def test_a_vocabulary_without_descendants_is_told_and_a_record_without_a_date_is_no_0(tmp_path: Path) -> None:
    file = {"path": str(omop.small(tmp_path / "cdm.duckdb", SMALL))}
    with duckdb.connect(file["path"]) as changing:
        changing.execute("UPDATE condition_occurrence SET condition_start_date = NULL WHERE person_id IN (1, 3)")
        changing.execute("INSERT INTO condition_occurrence VALUES (9, 2, 10, NULL, NULL)")
        changing.execute("UPDATE condition_era SET condition_era_start_date = NULL WHERE person_id = 4")
        changing.execute("UPDATE measurement SET measurement_date = NULL WHERE measurement_id IN (1, 20)")
    columns = {
        "any": BEFORE, "count": {**BEFORE, "take": "count"}, "index": {"family": "charlson", "window": [None, 0]},
        "min": {**LAB, "take": "min"}, "code": {key: LAB[key] for key in ("family", "concepts", "window")} | {
            "take": "last", "value": "concept"},
    }  # fmt: skip
    found = read(file, columns, tmp_path).columns
    assert {name: found[name] for name in columns} == {
        "any": [NO_MOMENT, "1", NO_MOMENT, "0"], "count": [NO_MOMENT, NO_MOMENT, NO_MOMENT, "0"],
        "index": ["0", "0", "3", NO_MOMENT], "min": [NO_MOMENT, "no number", "0.1", "1.5"],
        "code": [NO_MOMENT, "40", None, None],
    }  # fmt: skip
    with duckdb.connect(file["path"]) as changing:
        changing.execute("DELETE FROM concept_ancestor")
    with pytest.raises(DataUnusable, match="concept_ancestor has no concept 10"):
        read(file, {"c": BEFORE}, tmp_path)
    assert read(file, {"c": {**BEFORE, "descendants": False}}, tmp_path).columns["c"][3] == "0"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Path]:
    """A file that another program writes to."""
    file = tmp_path / "busy.duckdb"
    file.write_bytes(b"no database")
    yield file


def test_a_file_that_is_no_database_is_said(busy: Path, folder: Path) -> None:
    with pytest.raises(DataUnusable, match="cannot be opened"):
        read({"path": str(busy)}, {"age": {"family": "age"}}, folder)


WANTED = """
    WITH first AS (SELECT person_id, min(drug_era_start_date) AS day FROM drug_era WHERE drug_concept_id = 1124300
                   GROUP BY 1),
    users AS (SELECT f.*, o.observation_period_end_date AS until
              FROM first f JOIN observation_period o USING (person_id) JOIN person p USING (person_id)
              WHERE day BETWEEN o.observation_period_start_date + 365 AND o.observation_period_end_date
              AND year(day) - p.year_of_birth >= 16),
    bleeding AS (SELECT c.* FROM condition_occurrence c JOIN concept_ancestor
                 ON condition_concept_id = descendant_concept_id WHERE ancestor_concept_id = 192671),
    told AS (SELECT *, EXISTS (FROM bleeding b WHERE b.person_id = users.person_id
                               AND condition_start_date BETWEEN day + 1 AND day + 365) AS bled FROM users)
    SELECT count(*), count(*) FILTER (NOT bled AND until < day + 365),
           round(100.0 * count(*) FILTER (bled) / count(*) FILTER (bled OR until >= day + 365), 1) || '%' FROM told
"""
"""The same cohort and outcome, written by hand: patients, those without a label, and how many of the others bled."""
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "omop.md"


def test_the_mapping_of_the_page_passes_the_check_on_gibleed(
    gibleed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = (block.text for block in blocks(PAGE) if block.title == "mapping.yaml")
    study = yaml.safe_load(STUDY)
    number, words = {"type": "number", "unit": "1"}, {"type": "category", "categories": {"no": "no", "yes": "yes"}}
    features = [one for one in study["contract"]["features"] if one["id"] != "creatinine"]
    features += [{"id": name, "meaning": name, **words} for name in ("ulcer", "aspirin")]
    features += [{"id": "visits", "meaning": "visits", "range": [0, 100], **number}]
    study["contract"] = {**study["contract"], "id": "gi-bleed", "features": features}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "mapping.yaml").write_text(text)
    (tmp_path / "cdm.duckdb").write_bytes(gibleed_file.read_bytes())
    (tmp_path / "new-users.json").write_bytes((CIRCE / "atlas_demo_new_users_diclofenac.json").read_bytes())
    home = ["--home", str(tmp_path / "site")]
    assert app.run(["site", "init", *home]) == 0
    capsys.readouterr()
    files = ["--study-file", str(tmp_path / "study.yaml"), "--mapping", str(tmp_path / "mapping.yaml")]
    assert app.run(["site", "check", *files, *home, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["usable"] is True
    with duckdb.connect(str(gibleed_file), read_only=True) as asked:
        wanted = asked.execute(WANTED).fetchone()
    assert (said["read"], said["without_label"], said["prevalence"]) == wanted


COMPARED = [
    ("SELECT nr, max(v) AS v FROM lab GROUP BY nr", "v"),
    ("SELECT nr, min(day) FILTER (WHERE v <> '7') AS d FROM lab GROUP BY nr", "d"),
    ("SELECT DISTINCT ON (nr) nr, v FROM lab ORDER BY nr, day DESC NULLS LAST", "v"),
    ("SELECT l.nr, l.v FROM lab AS l WHERE l.day = (SELECT k.day FROM lab k WHERE k.nr = l.nr ORDER BY k.day LIMIT 1)",
     "v"),
    ("SELECT nr, v FROM lab WHERE v::varchar(9) > '10' -- as text", "the rows"),
    ("SELECT nr, v FROM lab WHERE replace(v, '.', ',') BETWEEN '7' AND '90'", "the rows"),
    ("SELECT nr, v FROM (SELECT *, row_number() OVER (PARTITION BY nr ORDER BY day) AS m FROM lab) AS k WHERE m = 1",
     "v"),
    ("SELECT nr, (array_agg(v ORDER BY day))[1] AS v FROM lab GROUP BY nr", "v"),
    ("SELECT nr, max(v::numeric) AS v, min(to_date(day, 'DD.MM.YYYY')) AS d FROM lab GROUP BY nr ORDER BY nr", ""),
    ("SELECT DISTINCT ON (nr) nr, v FROM lab WHERE iso >= '2024-01-01' AND n < 9.5 * 3 ORDER BY nr, iso, n", ""),
    ("SELECT nr, max(iso) AS iso, max(n) AS n, count(*) AS m FROM lab WHERE taken < now() GROUP BY nr"
     " HAVING min(n) > 1", ""),
    ("SELECT nr, v FROM lab AS k WHERE taken = (SELECT max(taken) FROM lab WHERE nr = k.nr AND n BETWEEN 1 AND 99)",
     ""),
]  # fmt: skip
"""Queries of PostgreSQL, and the columns that would be others."""


def test_a_query_of_postgresql_that_compares_numbers_or_days_as_text_is_refused(
    postgres: Server, tmp_path: Path
) -> None:
    url = postgres()
    with psycopg.connect(url) as server:
        server.execute("CREATE TABLE lab (nr int, v text, day varchar(10), iso text, n numeric, taken timestamp)")
        for row in ((1, "9.5", "02.01.2024", "2024-01-02"), (1, "10.5", "01.02.2024", "2024-02-01"),
                    (2, "7", "05.01.2024", "2024-01-05"), (2, "7", None, "2024-01-06")):  # fmt: skip
            server.execute("INSERT INTO lab VALUES (%s, %s, %s, %s, %s, %s)", [*row, float(row[1]), row[3]])
    place = {"type": "sql", "url": url.replace("postgresql://", "postgresql+psycopg://")}
    for query, differs in COMPARED:
        made = SqlSource(TableSource.model_validate({**place, "query": query}), tmp_path)
        if not differs:
            assert not made.rows().doubts, query
            continue
        with pytest.raises(
            DataUnusable, match=f"as text, by which 9 is more than 10.*: other values would stand in {differs}; within"
        ):
            made.rows()
    for query in ("SELECT nr, greatest(v, '8') AS v FROM lab", "SELECT nr, max(v) OVER (PARTITION BY nr) AS v FROM lab",
                  "SELECT nr, v FROM lab WHERE v || '' > '10'"):  # fmt: skip
        made = SqlSource(TableSource.model_validate({**place, "query": query}), tmp_path)
        assert len(made.rows().doubts) == 1, query
    with psycopg.connect(url) as server:  # CHAR(6) has no blanks at its end where it is compared, VARCHAR has
        server.execute("CREATE TABLE chars AS SELECT CAST('K' || nr AS char(6)) AS nr, v FROM lab")
        server.execute("CREATE TABLE padded AS SELECT CAST('K' || nr || '  ' AS varchar(6)) AS nr, v FROM lab")
        server.execute("CREATE TABLE persons AS SELECT CAST('K' || nr AS varchar(6)) AS nr FROM lab")
    query = "SELECT p.nr, v FROM persons AS p LEFT JOIN chars AS c ON c.nr = p.nr"
    assert not SqlSource(TableSource.model_validate({**place, "query": query}), tmp_path).rows().doubts
    made = SqlSource(TableSource.model_validate({**place, "query": query.replace("chars", "padded")}), tmp_path)
    with pytest.raises(DataUnusable, match=r"compares padded.nr and persons.nr, in which <10 keys"):
        made.rows()
    other = "WITH k AS (SELECT CASE WHEN v > '0' THEN nr ELSE nr END AS nr, v FROM chars) SELECT p.nr, v FROM persons p"
    for query in (
        "SELECT p.nr, v FROM persons AS p LEFT JOIN chars AS c ON coalesce(c.nr, 'x') = p.nr",
        f"{other} LEFT JOIN k ON k.nr = p.nr",
        "SELECT p.nr, c.v FROM padded AS p JOIN chars AS c ON p.nr = ANY(ARRAY[c.nr || '  ', c.nr])",
    ):
        made = SqlSource(TableSource.model_validate({**place, "query": query}), tmp_path)
        assert not [one for one in made.rows().doubts if one == meeting.DOUBT], query
    with psycopg.connect(url) as server:  # of which a cast fails that the query does not come to
        server.execute("CREATE TABLE said (nr text, src text)")
        server.execute("INSERT INTO said VALUES ('01', 'x'), ('2', 'x'), ('none', 'y')")
    cast = "WITH k AS (SELECT CAST(CAST(nr AS integer) AS text) AS nr FROM said WHERE src = 'x')"
    made = SqlSource(
        TableSource.model_validate({**place, "query": f"{cast} SELECT k.nr FROM k LEFT JOIN persons p ON p.nr = k.nr"}),
        tmp_path,
    )
    made.told(Asked(frozenset(("nr",)), without=("nr", frozenset())))
    assert made.rows().doubts == (Missed("said.nr", 1, 3),)
    with psycopg.connect(url) as server:
        server.execute("CREATE TABLE took (nr int, day date, v int, status text)")
        server.execute("INSERT INTO took VALUES (1, '2024-01-01', 1, 'final'), (1, '2024-01-01', 2, 'cancelled'), "
                       "(2, '2024-01-02', 3, 'final'), (2, '2024-02-02', 4, 'final')")  # fmt: skip
    beside = "SELECT a.nr, sum(b.v) AS v FROM took AS a JOIN took AS b ON b.nr = a.nr AND b.status = 'final' AND "
    for query, kinds in (
        (
            "SELECT DISTINCT ON (nr) nr, v FROM took WHERE status IN ('final', 'cancelled') ORDER BY nr, day",
            "text-order",
        ),
        (
            "SELECT nr, v FROM (SELECT *, row_number() OVER (PARTITION BY nr ORDER BY day) AS k FROM took "
            "WHERE status <> 'cancelled') AS s WHERE k = 1",
            "",
        ),
        ("SELECT nr, sum(v) AS v FROM took GROUP BY nr", "unread"),
        (f"{beside} b.day >= a.day - INTERVAL '9 days' WHERE a.status <> 'cancelled' GROUP BY a.nr", "window"),
        (f"{beside} b.day BETWEEN a.day - INTERVAL '9 days' AND a.day WHERE a.status <> 'cancelled' GROUP BY a.nr", ""),
    ):
        made = SqlSource(TableSource.model_validate({**place, "query": query}), tmp_path)
        assert [one.kind for one in made.rows().doubts if isinstance(one, Seen)] == kinds.split(), query
    for query in (other.replace("chars", "padded"), "SELECT p.nr FROM persons AS p LEFT JOIN padded AS c ON "):
        end = "LEFT JOIN k ON k.nr = p.nr" if query.startswith("WITH") else "coalesce(c.nr, c.v) = p.nr"
        made = SqlSource(TableSource.model_validate({**place, "query": f"{query} {end}"}), tmp_path)
        with pytest.raises(DataUnusable, match=r"compares padded.nr and persons.nr, in which <10 keys"):
            made.rows()


def test_of_instants_of_postgresql_nobody_knows_the_day_before_the_hospital_says_its_zone(
    postgres: Server, tmp_path: Path
) -> None:
    """As of Parquet and DuckDB: in columns of the answer, and where the query, or a view, makes days of them."""
    url = postgres()
    with psycopg.connect(url) as server:
        server.execute("CREATE TABLE lab (nr int, taken timestamptz, seen timestamp)")
        server.execute("INSERT INTO lab VALUES (1, '2024-03-31 23:30-04', '2024-03-31'), (2, NULL, NULL)")
        server.execute("CREATE VIEW days AS SELECT nr, taken::date AS day, seen FROM lab")
    place = {"type": "sql", "url": url.replace("postgresql://", "postgresql+psycopg://")}

    def read(query: str, columns: str, zone: str | None = None) -> Rows:
        made = SqlSource(TableSource.model_validate({**place, "query": query, "zone": zone}), tmp_path)
        made.told(Asked(frozenset(columns.split())))
        return made.rows()

    for columns in ("nr taken", ""):
        with pytest.raises(DataUnusable, match=r"column 'taken' holds instants.*source\.zone"):
            read("SELECT nr, taken FROM lab", columns)
    for query in ("SELECT * FROM days", "SELECT nr, to_char(taken, 'YYYY-MM-DD') AS day FROM lab"):
        with pytest.raises(
            DataUnusable, match=r"makes days .* of instants.*other values would stand in day; write .*source\.zone"
        ):
            read(query, "nr day")
        found = read(query, "nr day", "America/New_York")
        assert sorted(map(str, found.columns["day"])) == ["2024-03-31", "None"] and not found.doubts
        assert not read(query, "nr").doubts, "nobody asks for it"
    for query in ("SELECT nr, seen AS day FROM days",
                  "SELECT nr, (taken AT TIME ZONE 'America/New_York')::date AS day FROM lab",
                  "SELECT nr, seen AS day FROM lab WHERE coalesce(taken, now()) <= now()"):  # fmt: skip
        found = read(query, "nr day")
        assert [str(one)[:10] for one in found.columns["day"]] == ["2024-03-31", "None"] and not found.doubts


def test_the_compiled_query_of_coded_values_gives_on_postgresql_what_it_gives_on_duckdb(postgres: Server) -> None:
    """A concept, one that the vocabulary lacks, a text, a number, and nothing; in both tables."""
    query = compiled.omop(Contract.model_validate(test_coded.wanted().model_dump(mode="json")))
    made = [
        "CREATE TABLE concept (concept_id INT, vocabulary_id TEXT, concept_code TEXT)",
        "INSERT INTO concept VALUES (1, 'LOINC', '72166-2'), (2, 'SNOMED', '8517006')",
    ]
    for table, text in (("measurement", "value_source_value"), ("observation", "value_as_string")):
        made.append(
            f"CREATE TABLE {table} (person_id INT, {table}_concept_id INT, {table}_date DATE,"
            f" {table}_datetime TIMESTAMP, value_as_number NUMERIC, value_as_concept_id INT, {text} VARCHAR(50),"
            f" unit_concept_id INT, unit_source_value VARCHAR(50)"
            f"{', operator_concept_id INT' if table == 'measurement' else ''}, {table}_source_value VARCHAR(50))"
        )
        operator = ", NULL" if table == "measurement" else ""
        rows = ("2, 'x'", "99, 'x'", "0, 'ex-smoker'", "NULL, NULL")
        made += [
            f"INSERT INTO {table} VALUES ({at}, 1, '2030-01-01', NULL, NULL, {row}, NULL, NULL{operator}, NULL)"
            for at, row in enumerate(rows)
        ]
        made.append(
            f"INSERT INTO {table} VALUES (8, 0, '2030-01-01', NULL, 20, 0, NULL, NULL, NULL{operator}, '72166-2^LN')"
        )
    made += [
        "INSERT INTO measurement VALUES (9, 1, '2030-01-01', '2030-01-01 08:00:00', 20, 0, '20', NULL, NULL,"
        f" {operator}, NULL)"
        for operator in ("NULL", 0, 4172703, 4171756, 4171754, 4172704, 4171755, 4171757)
    ]
    url = postgres()
    with psycopg.connect(url) as server, duckdb.connect() as plain:
        for statement in made:
            server.execute(statement)
            plain.execute(statement)
        found, other = server.execute(query), plain.execute(query)
        assert tuple(one[0] for one in found.description or ()) == recorded.CODED
        rows_ = sorted(found.fetchall(), key=str)
        assert [tuple(map(_text, row)) for row in rows_] == [
            tuple(map(_text, row)) for row in sorted(other.fetchall(), key=str)
        ]
        values = Counter((row[-2], row[-1]) for row in rows_)
        assert values == {("SNOMED", "8517006"): 2, (None, "99"): 2, (None, "ex-smoker"): 2, (None, None): 12}
        signs = Counter(re.sub(r"20(\.0+)?$", "", row[4]) for row in rows_ if row[4] is not None)
        assert Counter(row[2] for row in rows_ if row[1] is None) == {"72166-2^LN": 2}, "mapped to no concept"
        assert signs == {"": 5, "<": 1, "<=": 1, ">": 1, ">=": 1, "?": 1, "no number": 6}


def _text(value: Any) -> str:
    """As PostgreSQL writes a number: DuckDB gives it the places of its type."""
    plain = f"{float(value):g}" if isinstance(value, int | float | Decimal) else str(value)
    return re.sub(r"(?<=\d)\.0+$", "", plain)
