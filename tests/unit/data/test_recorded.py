"""Conditions, procedures and drugs of one contract, at a FHIR and at an OMOP hospital: who has one, and who none."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from consilium.core.contract import Contract
from consilium.core.errors import MappingInvalid, ViewInvalid
from consilium.data import compiled
from consilium.data.base import Asked
from consilium.data.fhir import definition
from consilium.data.fhir.source import FhirSource
from consilium.data.source import TableSource
from consilium.site import tables
from unit.data.test_compiled import OBSERVATIONS
from unit.data.test_records import COUNTED, FEATURE, LOINC, MAPPING, _study, made

SNOMED, ICD = "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
KINDS: dict[str, tuple[str | None, list[dict[str, str]]]] = {
    "diabetes": ("condition", [{"system": SNOMED, "code": "44054006"}, {"system": ICD, "code": "E11.9"}]),
    "dialysis": ("procedure", [{"system": SNOMED, "code": "108241001"}]),
    "metformin": ("drug", [{"system": RXNORM, "code": "860975"}]),
    "smoker": (None, [{"system": LOINC, "code": "72166-2"}]),
}  # fmt: skip
DIRECT = {"diabetes": [1, 1, 0, 0], "dialysis": [0, 1, 0, 0], "metformin": [1, 1, 1, np.nan], "smoker": [1, 0, 0, 0]}
"""Of patients 1 to 4; the last has a drug that is only referred to, which OMOP does not know."""


def contract() -> Contract:
    features = [
        {**FEATURE, **COUNTED, "id": name, "aggregate": "any", "recorded": recorded, "codes": codes,
         "window": ["-365d", "0d"], "range": [0, 1]}
        for name, (recorded, codes) in KINDS.items()
    ]  # fmt: skip
    return made(features=features)


def mapping(folder: Path, source: dict[str, Any]) -> Path:
    (folder / "stays.csv").write_text(
        "pid,at,died\n" + "".join(f"{n},2030-05-01T12:00:00Z,{n % 2}\n" for n in range(1, 5))
    )
    part = {**MAPPING["records"]["labs"], "source": source, "patient": "patient", "time": "taken", "system": "system"}
    given = {**MAPPING, "records": {"labs": part}, "features": {name: {"records": "labs"} for name in KINDS}}
    (folder / "mapping.yaml").write_text(json.dumps(given))
    return folder / "mapping.yaml"


def coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": "urn:ours", "code": "x"}, {"system": system, "code": code}]}


def resource(kind: str, patient: int, **more: Any) -> dict[str, Any]:
    return {"resourceType": kind, "subject": {"reference": f"Patient/{patient}"}, **more}


DAY = "2030-04-01T08:00:00Z"
ORDER = {"status": "active", "intent": "order", "authoredOn": DAY}
METFORMIN = coded(RXNORM, "860975")
RESOURCES = [
    resource("Condition", 1, code=coded(SNOMED, "44054006"), onsetDateTime=DAY),
    resource("Condition", 2, code=coded(ICD, "E11.9"), recordedDate=DAY),
    resource("Condition", 3, code=coded(ICD, "E11.9"), onsetPeriod={"start": "2030-06-01T00:00:00Z"}),
    resource("Condition", 3, code=coded(SNOMED, "44054006"), onsetDateTime=DAY,
             verificationStatus={"coding": [{"code": "refuted"}]}),
    resource("Condition", 4, code=coded(ICD, "I10"), onsetDateTime=DAY),
    resource("Procedure", 2, code=coded(SNOMED, "108241001"), status="completed", performedPeriod={"start": DAY}),
    resource("Procedure", 3, code=coded(SNOMED, "108241001"), status="not-done", performedDateTime=DAY),
    resource("MedicationRequest", 1, medicationCodeableConcept=METFORMIN, **ORDER),
    resource("MedicationRequest", 4, medicationCodeableConcept=METFORMIN, **{**ORDER, "status": "draft"}),
    resource("MedicationAdministration", 2, medicationCodeableConcept=METFORMIN, status="completed",
             effectiveDateTime=DAY),
    resource("MedicationStatement", 3, medication={"concept": METFORMIN}, status="recorded",
             effectivePeriod={"start": DAY}),
    resource("MedicationRequest", 4, medicationReference={"reference": "Medication/9"}, **ORDER),
    resource("MedicationRequest", 1, medicationReference={"reference": "Medication/9"}, **ORDER),
    resource("Observation", 1, code=coded(LOINC, "72166-2"), status="final", effectiveDateTime=DAY),
]  # fmt: skip


def as_fhir(folder: Path, resources: list[dict[str, Any]] = RESOURCES) -> Path:
    (folder / "export").mkdir()
    lines = [json.dumps({**one, "id": f"r{number}"}) + "\n" for number, one in enumerate(resources)]
    (folder / "export" / "all.ndjson").write_text("".join(lines))
    (folder / "views.json").write_text(json.dumps(compiled.views(contract())))
    return mapping(folder, {"type": "fhir", "path": "export", "views": {"records": "views.json"}})


def as_omop(folder: Path) -> Path:
    concepts = [(1, "SNOMED", "44054006"), (2, "ICD10CM", "E11.9"), (3, "SNOMED", "108241001"), (4, "RxNorm", "860975"),
                (5, "LOINC", "72166-2"), (6, "ICD10CM", "I10")]  # fmt: skip
    with duckdb.connect(str(folder / "cdm.duckdb")) as database:
        database.execute("CREATE TABLE concept (concept_id INT, vocabulary_id TEXT, concept_code TEXT)")
        database.executemany("INSERT INTO concept VALUES (?, ?, ?)", concepts)
        database.execute("CREATE TABLE measurement (person_id INT, measurement_concept_id INT, measurement_date DATE,"
                         " measurement_datetime TIMESTAMP, value_as_number DOUBLE, unit_concept_id INT,"
                         " operator_concept_id INT, value_as_concept_id INT, value_source_value TEXT,"
                         " unit_source_value TEXT, measurement_source_value TEXT)")  # fmt: skip
        database.execute(OBSERVATIONS)
        database.execute(
            "INSERT INTO observation VALUES (1, 5, '2030-04-01', NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
        )
        rows = {
            ("condition_occurrence", "condition", "condition_start"): [(1, 1, 0), (2, 7, 2), (4, 7, 6)],
            ("procedure_occurrence", "procedure", "procedure"): [(2, 3, 0)],
            ("drug_exposure", "drug", "drug_exposure_start"): [(1, 4, 0), (2, 4, 0), (3, 4, 0)],
        }
        for (table, prefix, start), of in rows.items():
            database.execute(f"CREATE TABLE {table} (person_id INT, {prefix}_concept_id INT, {prefix}_source_concept_id"
                             f" INT, {start}_date DATE, {start}_datetime TIMESTAMP,"
                             f" {prefix}_source_value TEXT)")  # fmt: skip
            for person, concept, source in of:
                database.execute(
                    f"INSERT INTO {table} VALUES ({person}, {concept}, {source}, '2030-04-01', NULL, NULL)"
                )
    return mapping(folder, {"type": "sql", "path": "cdm.duckdb", "query": compiled.omop(contract())})


def test_who_has_a_condition_a_procedure_or_a_drug_has_it_from_fhir_and_from_omop(tmp_path: Path) -> None:
    """By each of its codes, where it stands; who has none of what the hospital records has 0."""
    for make in (as_fhir, as_omop):
        folder = tmp_path / make.__name__
        folder.mkdir()
        path = make(folder)
        if make is as_omop:  # whose moments have no zone
            (folder / "stays.csv").write_text((folder / "stays.csv").read_text().replace("Z", ""))
        mapped = tables.mapped(_study(contract()), path)
        wanted = {**DIRECT, **({"metformin": [1, 1, 1, 0]} if make is as_omop else {})}
        for name, values in wanted.items():
            np.testing.assert_array_equal(mapped.table.columns[name], values, err_msg=f"{make.__name__} {name}")
    assert compiled.views(contract())[0]["resource"] == "Observation"


def test_a_drug_that_must_not_be_given_is_none_and_of_one_without_a_code_nobody_knows(tmp_path: Path) -> None:
    """Of R5 a drug that is only referred to, and one that is told in words."""
    given = {"status": "recorded", "effectivePeriod": {"start": DAY}}
    told = [
        resource("MedicationRequest", 1, medicationCodeableConcept=METFORMIN, doNotPerform=True, **ORDER),
        resource("MedicationStatement", 2, medication={"reference": {"reference": "Medication/9"}}, **given),
        resource("MedicationStatement", 3, medicationCodeableConcept={"text": "Metformin 500"}, **given),
        resource("MedicationRequest", 4, medication={"concept": METFORMIN}, doNotPerform=False,
                 **{**ORDER, "status": "ended"}),
    ]  # fmt: skip
    found = tables.mapped(_study(contract()), as_fhir(tmp_path, told)).table.columns["metformin"]
    np.testing.assert_array_equal(found, [0, np.nan, np.nan, 1])


def test_views_of_one_file_have_the_same_columns_and_who_opted_out_is_in_none(tmp_path: Path) -> None:
    as_fhir(tmp_path)
    given = TableSource(type="fhir", path="export", views={"records": "views.json"})
    found = FhirSource(given, tmp_path)
    found.told(Asked(without=("patient", frozenset("13"))))
    rows = found.rows()
    assert set(rows.columns["patient"]) == {"2", "4"} and rows.left_out == 2
    views = json.loads((tmp_path / "views.json").read_text())
    views[1]["select"][1]["column"].pop()
    (tmp_path / "views.json").write_text(json.dumps(views))
    with pytest.raises(MappingInvalid, match="those of records differ in their columns"):
        FhirSource(given, tmp_path)
    with pytest.raises(ViewInvalid, match="holds several definitions"):
        definition.load(tmp_path / "views.json")


def test_a_contract_says_as_what_its_records_are_recorded_and_else_keeps_its_hash() -> None:
    told = [one.model_dump(mode="json") for one in (made(), contract())]
    assert "recorded" not in made().model_dump(mode="json")["features"][0]
    assert [one.get("recorded") for one in told[1]["features"]] == ["condition", "procedure", "drug", None]
