"""Cohort definitions of ATLAS on real tables: as many entries as OHDSI's circepy 0.3.0 gives, on both databases."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from consilium.data.omop import circe, entering
from consilium.data.omop.database import Database, Duck, Postgres
from e2e import omop
from e2e.omop import GIBLEED, SCHEMA
from e2e.postgres import missing

CELECOXIB, BLEEDING, COLD, ASPIRIN, DICLOFENAC = range(5)
CONCEPTS = {
    CELECOXIB: [1118084],
    BLEEDING: [192671],
    COLD: [4112343, 40481087],
    ASPIRIN: [1112807],
    DICLOFENAC: [1124300],
}
FIRST: Any = {"DrugEra": {"CodesetId": CELECOXIB, "First": True}}
DICLOFENACS: Any = {"DrugEra": {"CodesetId": DICLOFENAC}}
BLEEDS: Any = {"ConditionOccurrence": {"CodesetId": BLEEDING}}
COLDS: Any = {"ConditionOccurrence": {"CodesetId": COLD}}
ASPIRINS: Any = {"DrugEra": {"CodesetId": ASPIRIN}}
EVER_BEFORE, EVER_AFTER, TODAY = (None, -1), (None, 1), (0, 1)


def within(criteria: Any, start: tuple[int | None, int], end: tuple[int | None, int], kind: int = 2, n: int = 1,
           **window: Any) -> Any:  # fmt: skip
    bounds = {name: {"Days": days, "Coeff": sign} for name, (days, sign) in (("Start", start), ("End", end))}
    return {"Criteria": criteria, "StartWindow": {**bounds, **window}, "Occurrence": {"Type": kind, "Count": n}}


def group(kind: str, *criteria: Any, **more: Any) -> Any:
    return {"Type": kind, "CriteriaList": list(criteria), **more}


def definition(*criteria: Any, limit: str = "All", prior: int = 0, post: int = 0, **more: Any) -> Any:
    sets = [
        {"id": key, "name": "set", "expression": {"items": [
            {"concept": {"CONCEPT_ID": one}, "includeDescendants": True} for one in concepts
        ]}}
        for key, concepts in CONCEPTS.items()
    ]  # fmt: skip
    primary = {"CriteriaList": list(criteria), "ObservationWindow": {"PriorDays": prior, "PostDays": post},
               "PrimaryCriteriaLimit": {"Type": limit}}  # fmt: skip
    return {"ConceptSets": sets, "PrimaryCriteria": primary, "QualifiedLimit": {"Type": "First"},
            "ExpressionLimit": {"Type": "First"}, **more}  # fmt: skip


EVER = [within(ASPIRINS, (3650, -1), TODAY), within(BLEEDS, TODAY, EVER_AFTER), within(FIRST, EVER_BEFORE, EVER_AFTER)]
EVERY: Any = {"ExpressionLimit": {"Type": "All"}, "QualifiedLimit": {"Type": "All"},
              "CollapseSettings": {"CollapseType": "ERA", "EraPad": 0}}  # fmt: skip
LATE: Any = {"Start": {"Days": 400, "Coeff": -1}, "End": {"Days": 0, "Coeff": 1}, "UseEventEnd": True}
DEFINITIONS: dict[str, Any] = {
    "women": definition({"DrugEra": {"CodesetId": CELECOXIB, "First": True, "Gender": [{"CONCEPT_ID": 8532}]}}),
    "teens": definition({"ConditionOccurrence": {"CodesetId": COLD, "Age": {"Value": 10, "Extent": 20, "Op": "bt"}}}),
    "days": definition({"ConditionOccurrence": {"CodesetId": COLD, "OccurrenceStartDate": {
        "Value": "1990-01-01", "Extent": "2000-12-31", "Op": "bt"}}}, ExpressionLimit={"Type": "Last"}),
    "last": definition(COLDS, limit="Last"),
    "either": definition(FIRST, DICLOFENACS),
    "observed": definition(FIRST, prior=180, post=365),
    "bled": definition(FIRST, AdditionalCriteria=group("ALL", within(BLEEDS, TODAY, (365, 1)))),
    "twice": definition(COLDS, AdditionalCriteria=group("ALL", within(ASPIRINS, (3650, -1), (1, -1), n=2)),
                        QualifiedLimit={"Type": "Last"}),
    "never": definition(FIRST, AdditionalCriteria=group("ALL", within(ASPIRINS, EVER_BEFORE, (1, -1), 0, 0))),
    "any": definition(COLDS, AdditionalCriteria=group("ANY", within(ASPIRINS, (30, -1), (30, 1)), EVER[1])),
    "two": definition(COLDS, AdditionalCriteria=group("AT_LEAST", *EVER, Count=2)),
    "one": definition(COLDS, AdditionalCriteria=group("AT_MOST", *EVER, Count=1)),
    "adults": definition(COLDS, AdditionalCriteria=group("ALL", DemographicCriteriaList=[
        {"Age": {"Value": 18, "Op": "gte"}, "Gender": [{"CONCEPT_ID": 8507}]}])),
    "nested": definition(FIRST, AdditionalCriteria=group("ALL", within(COLDS, EVER_BEFORE, TODAY), Groups=[
        group("ANY", within(ASPIRINS, EVER_BEFORE, TODAY), within(DICLOFENACS, TODAY, EVER_AFTER))])),
    "rules": definition(FIRST, InclusionRules=[
        {"name": "a", "expression": group("ALL", within(ASPIRINS, EVER_BEFORE, TODAY))},
        {"name": "b", "expression": group("ALL", within(BLEEDS, TODAY, EVER_AFTER, 1, 0))}]),
    "ends": definition(COLDS, AdditionalCriteria=group(
        "ALL", {**within(COLDS, EVER_BEFORE, TODAY, n=3), "EndWindow": LATE})),
    "after": definition(COLDS, AdditionalCriteria=group("ALL", within(ASPIRINS, TODAY, (60, 1), UseIndexEnd=True))),
    "apart": definition(COLDS, **EVERY, EndStrategy={"DateOffset": {"DateField": "StartDate", "Offset": 30}}),
    "padded": definition(COLDS, **{**EVERY, "CollapseSettings": {"CollapseType": "ERA", "EraPad": 60}},
                         EndStrategy={"DateOffset": {"DateField": "EndDate", "Offset": 7}}),
    "whole": definition(COLDS, **EVERY),
}  # fmt: skip
KNOWN = {
    "women": 906, "teens": 2265, "days": 2265, "last": 2694, "either": 2630, "observed": 1745, "bled": 355,
    "twice": 745, "never": 521, "any": 568, "two": 1382, "one": 2629, "adults": 1316, "nested": 1278, "rules": 1040,
    "ends": 20, "after": 120, "apart": 27301, "padded": 26657, "whole": 2694,
}  # fmt: skip
URLS: dict[Path, str] = {}
"""Databases that a file was copied into."""


@pytest.fixture(scope="module", params=["duckdb", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not GIBLEED.is_dir():
        pytest.skip("the tables of GiBleed are not here")
    file = omop.gibleed(tmp_path_factory.mktemp("gibleed") / "cdm.duckdb")
    yield lambda: connected(request, file, omop.TABLES)


def connected(request: pytest.FixtureRequest, file: Path, tables: tuple[str, ...]) -> AbstractContextManager[Database]:
    if request.param == "duckdb":
        return Duck(file, file.name, (), 120.0)
    if why := missing():
        pytest.skip(why)
    if file not in URLS:
        URLS[file] = request.getfixturevalue("postgres")()
        omop.postgres(URLS[file], file, tables)
    return Postgres(URLS[file], (), 120.0)


def read(given: Any, folder: Path) -> circe.Expression:
    (folder / "c.json").write_text(json.dumps(given))
    return circe.load(folder / "c.json", "c.json", "circe")


@pytest.mark.parametrize("name", DEFINITIONS)
def test_entries_are_those_of_circe(opened: Any, tmp_path: Path, name: str) -> None:
    with opened() as database:
        assert len(entering.entries(database, read(DEFINITIONS[name], tmp_path), "circe")) == KNOWN[name]


EVERYTHING = definition(
    {"Measurement": {"First": True, "ValueAsNumber": {"Value": 0.5, "Op": "gt"}, "Unit": [{"CONCEPT_ID": 8840}]}},
    {"ConditionEra": {"EraLength": {"Value": 3, "Extent": 9.5, "Op": "!bt"}, "AgeAtStart": {"Value": 1, "Op": "gte"}}},
    {"Death": {"Age": {"Value": 18, "Op": "gte"}}},
    *({name: {"First": True}} for name in ("ProcedureOccurrence", "DrugExposure", "DeviceExposure", "Observation")),
    {"VisitOccurrence": {"Gender": [{"CONCEPT_ID": 8532}]}}, limit="Last", **EVERY,
)  # fmt: skip
ROWS: dict[str, list[tuple[Any, ...]]] = {
    "person": [(person, 8507 + person % 2 * 25, 1960, 0, 0) for person in range(1, 9)],
    "observation_period": [(person, "2010-01-01", "2022-12-31") for person in range(1, 9)],
    "measurement": [(1, 1, 30, "2020-01-01", None, 1.5, 0, 8840), (2, 2, 30, "2020-01-01", None, 1.5, 0, 0)],
    "condition_era": [(1, 2, 11, "2020-01-02", "2020-01-20"), (2, 3, 11, "2020-01-02", "2020-01-08")],
    "death": [(3, "2020-01-03", 0)],
    "procedure_occurrence": [(1, 4, 50, "2020-01-04")],
    "drug_exposure": [(1, 5, 20, "2020-01-05", None, 10)],
    "device_exposure": [(1, 6, 60, "2020-01-06", None)],
    "observation": [(1, 7, 70, "2020-01-07", None, None, 0, 0)],
    "visit_occurrence": [(1, 1, 9201, "2020-02-01", "2020-02-02"), (2, 8, 9201, "2020-02-01", "2020-02-02")],
}
MORE = {
    "procedure_occurrence": "procedure_occurrence_id, person_id, procedure_concept_id, procedure_date",
    "drug_exposure": "drug_exposure_id, person_id, drug_concept_id, drug_exposure_start_date, drug_exposure_end_date, "
    "days_supply",
    "device_exposure": "device_exposure_id, person_id, device_concept_id, device_exposure_start_date, "
    "device_exposure_end_date",
}


@pytest.mark.parametrize("kind", ["duckdb", "postgresql"])
def test_every_kind_of_criterion_finds_its_records(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """A criterion of each kind, each of which finds one other person, but for the last, a man."""
    request.param = kind
    file = omop.small(tmp_path / "cdm.duckdb", ROWS, MORE)
    with connected(request, file, (*SCHEMA, *MORE)) as database:
        found = entering.entries(database, read(EVERYTHING, tmp_path), "circe")
    assert [(person, day.isoformat()) for person, day in found] == [
        (1, "2020-02-01"), *((person, f"2020-01-0{person}") for person in range(2, 8))
    ]  # fmt: skip
