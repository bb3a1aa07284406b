"""One contract as an ODCS document, as Croissant, as a view and as a query. On real tables: test_three_ways.py."""

import json
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import jsonschema_rs
import pytest
import yaml

from consilium import studyfile
from consilium.console.cli import app
from consilium.core.contract import Contract
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.data import compiled, recorded
from consilium.data.fhir import definition
from consilium.data.fhir.views import compile_view
from unit.data.icu import CONTRACT, LOINC

SCHEMA = Path(__file__).parents[4] / "shared/suites/schemas/odcs/odcs-json-schema-v3.1.0.json"
MLCROISSANT = Path(__file__).parents[3] / ".venv-croissant/bin/python"
SHIPPED = Path(studyfile.__file__).parent / "examples"


def study(contract: dict[str, Any]) -> Study:
    return Study.model_validate({
        "consilium": 1, "name": "icu", "title": "ICU", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": contract, "model": {"kind": "logistic"}, "rounds": 3, "quorum": 3, "min_patients": 20,
    })  # fmt: skip


def every() -> list[Study]:
    image = {"meaning": "chest", "modality": ["CR"], "rows": 224, "columns": 200, "range": [0, 1]}
    pictured = {
        **{key: CONTRACT[key] for key in ("id", "label")},
        "version": 2,
        "index": CONTRACT["index"],
        "image": image,
    }
    return [study(CONTRACT), study(pictured), *(studyfile.read(path) for path in sorted(SHIPPED.glob("*/study.yaml")))]


@pytest.mark.skipif(not SCHEMA.is_file(), reason="the schema of ODCS 3.1 is not here")
def test_every_contract_is_an_odcs_document_by_the_official_schema() -> None:
    schema = json.loads(SCHEMA.read_text())
    for one in every():
        made = yaml.safe_load(yaml.safe_dump(compiled.odcs(one)))
        jsonschema_rs.validate(schema, made)
        names = [part["name"] for part in made["schema"][0]["properties"]]
        assert names == [*(feature.id for feature in one.contract.inputs), one.contract.label.id]
        assert {"property": "contractHash", "value": one.contract.digest} in made["customProperties"]
        del made["kind"]
        assert not jsonschema_rs.is_valid(schema, made)
    age, *_ = compiled.odcs(study(CONTRACT))["schema"][0]["properties"]
    assert age["logicalTypeOptions"] == {"minimum": 0, "maximum": 120}


def test_croissant_says_what_each_field_means_and_names_no_file_of_a_hospital() -> None:
    for one in every():
        made = compiled.croissant(one)
        assert made["conformsTo"] == "http://mlcommons.org/croissant/1.1" and made["isLiveDataset"] is True
        (records,), (table,) = made["recordSet"], made["distribution"]
        meanings = {feature.id: feature.meaning for feature in one.contract.inputs}
        meanings[one.contract.label.id] = one.contract.label.meaning
        fields = {field["source"]["extract"]["column"]: field for field in records["field"]}
        assert fields.keys() == meanings.keys() and "contentSize" not in table
        assert all(fields[name]["description"].startswith(meaning) for name, meaning in meanings.items())
        assert all(field["source"]["fileObject"] == {"@id": table["@id"]} for field in fields.values())


VALID = """
import json, sys
import mlcroissant
for made in json.load(sys.stdin):
    try:
        mlcroissant.Dataset(jsonld=made)
        print("valid")
    except mlcroissant.ValidationError as error:
        print("invalid", str(error).count("Field"))
"""


@pytest.mark.long
@pytest.mark.skipif(not MLCROISSANT.exists(), reason="make test-long sets mlcroissant up, in an environment of its own")
def test_mlcroissant_finds_the_metadata_valid() -> None:
    made = [compiled.croissant(one) for one in every()]
    broken = json.loads(json.dumps(made[0]))
    broken["recordSet"][0]["field"][0]["source"]["fileObject"] = {"@id": "another"}
    told = subprocess.run([MLCROISSANT, "-c", VALID], input=json.dumps([*made, broken]), text=True, check=True,
                          stdout=subprocess.PIPE)  # fmt: skip
    *valid, last = told.stdout.split("\n")[:-1]
    assert valid == ["valid"] * len(made) and last.startswith("invalid")


def coded(system: str, code: str) -> Contract:
    features = [one for one in CONTRACT["features"] if one["id"] == "creatinine"]
    changed = {**features[0], "codes": [{"system": system, "code": code}]}
    return Contract.model_validate({**CONTRACT, "features": [changed], "exclude": []})


def test_a_contract_of_hundreds_of_codes_has_a_view() -> None:
    codes = [{"system": LOINC if n % 2 else "urn:ours", "code": f"{n}-0"} for n in range(300)]
    features = [{**one, "codes": codes} for one in CONTRACT["features"] if one["id"] == "creatinine"]
    many = Contract.model_validate({**CONTRACT, "features": features, "exclude": []})
    made = compile_view(definition.check(compiled.view(many)))
    for n, system, rows in ((299, LOINC, 1), (299, "urn:ours", 0), (298, "urn:ours", 1), (301, LOINC, 0)):
        resource = observation({"valueInteger": 1}, code={"coding": [{"system": system, "code": f"{n}-0"}]})
        assert len(made.rows(resource)) == rows


OBSERVATIONS = (
    "CREATE TABLE observation (person_id INT, observation_concept_id INT, observation_date DATE, observation_datetime"
    " TIMESTAMP, value_as_number DOUBLE, value_as_concept_id INT, value_as_string TEXT, unit_concept_id INT,"
    " unit_source_value TEXT, observation_source_value TEXT)"
)


def test_a_code_with_quotes_is_a_code_and_no_path_or_statement() -> None:
    odd = "a' or true or 'b\\"
    compile_view(definition.check(compiled.view(coded(LOINC, odd))))
    with duckdb.connect() as database:
        database.execute("CREATE TABLE concept (concept_id INT, vocabulary_id TEXT, concept_code TEXT)")
        database.execute("CREATE TABLE measurement (person_id INT, measurement_concept_id INT, measurement_date DATE,"
                         " measurement_datetime TIMESTAMP, value_as_number DOUBLE, unit_concept_id INT,"
                         " operator_concept_id INT, value_as_concept_id INT, value_source_value TEXT,"
                         " unit_source_value TEXT, measurement_source_value TEXT)")  # fmt: skip
        database.execute(OBSERVATIONS)
        database.execute("INSERT INTO concept VALUES (1, 'LOINC', ?), (2, 'LOINC', 'x')", [odd])
        database.execute("INSERT INTO measurement VALUES (7, 1, '2030-01-01', NULL, 1.5, NULL, NULL, NULL, '1,5',"
                         " NULL, NULL), (8, 2, '2030-01-01', NULL, 1.5, NULL, NULL, NULL, NULL, NULL,"
                         " 'x')")  # fmt: skip
        found = database.execute(compiled.omop(coded(LOINC, odd)))
        assert tuple(column[0] for column in found.description) == recorded.COLUMNS
        assert [row[0] for row in found.fetchall()] == [7]
        operators = {None: "", 0: "", 4172703: "", 4171756: "<", 4171754: "<=", 4172704: ">", 4171755: ">=", 1: "?"}
        for operator, sign in operators.items():
            database.execute("UPDATE measurement SET operator_concept_id = ?", [operator])
            ((value,),) = database.execute(f"SELECT value FROM ({compiled.omop(coded(LOINC, odd))})").fetchall()
            assert value == f"{sign}1.5", operator
        for concept, said, value in ((None, ">15", "no number"), (9, None, "no number"), (0, " ", None)):
            changed = "UPDATE measurement SET value_as_number = NULL, value_as_concept_id = ?, value_source_value = ?"
            database.execute(changed, [concept, said])
            found = database.execute(f"SELECT value FROM ({compiled.omop(coded(LOINC, odd))})")
            assert found.fetchall() == [(value,)]
        database.execute("INSERT INTO concept VALUES (3, 'UCUM', 'mg/dL'), (4, 'Nebraska', 'g/L')")
        units = {(3, "x"): "mg/dL", (4, "mg/dL"): "Nebraska|g/L", (5, None): "concept|5", (0, " U/l "): "U/l",
                 (None, ""): None, (None, "g"): "g"}  # fmt: skip
        for (concept, said), unit in units.items():
            database.execute("UPDATE measurement SET unit_concept_id = ?, unit_source_value = ?", [concept, said])
            found = database.execute(f"SELECT unit FROM ({compiled.omop(coded(LOINC, odd))})")
            assert found.fetchall() == [(unit,)], (concept, said)
        for moment, day in (("2030-01-01", "2030-01-01"), ("2030-01-01 08:00", "2030-01-01 00:00:00")):
            database.execute("UPDATE measurement SET measurement_datetime = '2030-01-01 00:00:00'")
            database.execute(
                "INSERT INTO measurement VALUES (9, 1, '2030-01-01', ?, 2, NULL, NULL, NULL, NULL, NULL, NULL)",
                [moment],
            )
            found = database.execute(f"SELECT patient, taken FROM ({compiled.omop(coded(LOINC, odd))})")
            assert dict(found.fetchall())[7] == day, "midnight is a time where others have one"
        for said, code in ((odd, odd), (f" {odd}^LN ", f"{odd}^LN"), ("x", None), (f"{odd}1^LN", None)):
            database.execute(
                "UPDATE measurement SET measurement_concept_id = 0, measurement_source_value = ? WHERE person_id = 8",
                [said],
            )
            found = database.execute(f"SELECT code, system FROM ({compiled.omop(coded(LOINC, odd))}) WHERE patient = 8")
            assert found.fetchall() == ([] if code is None else [(code, None)]), "mapped to no concept"


def observation(value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "status": "final", "subject": {"reference": "Patient/p"},
        "effectiveDateTime": "2030-05-01T08:00:00Z", "code": {"coding": [{"system": LOINC, "code": "2160-0"}]},
        **value, **more,
    }  # fmt: skip


def seen(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that the view gives of one resource, by column."""
    made = compile_view(compiled.view(coded(LOINC, "2160-0")))
    return [dict(zip([one.name for one in made.columns], row)) for row in made.rows(resource)]


@pytest.mark.parametrize(("comparator", "text"), [
    ({}, "5.5"), ({"comparator": "<"}, "<5.5"), ({"comparator": ">="}, ">=5.5"), ({"comparator": "ad"}, "ad5.5"),
])  # fmt: skip
def test_a_quantity_that_is_only_a_bound_is_none_in_the_view(comparator: dict[str, str], text: str) -> None:
    (row,) = seen(observation({"valueQuantity": {"value": 5.5, "code": "mg/dL", **comparator}}))
    assert (row["value"], row["unit"]) == (text, "mg/dL")
    (nothing,) = seen(observation({"valueQuantity": {"code": "mg/dL", **comparator}}))
    assert nothing["value"] is None


@pytest.mark.parametrize(("told", "unit"), [
    ({"unit": "umol/L"}, "umol/L"), ({"unit": "per mL", "code": "/mL"}, "/mL"), ({}, None),
    ({"system": "http://unitsofmeasure.org", "code": "g", "unit": "grams"}, "g"),
    ({"system": "urn:oid:2.16.840.1.113883.6.8", "code": "g"}, "g"),
    ({"system": "urn:ours", "code": "g/L", "unit": "mg/dL"}, "urn:ours|g/L"),
    ({"system": "urn:ours", "unit": "mg/dL"}, "mg/dL"),
])  # fmt: skip
def test_the_unit_of_a_quantity_is_of_ucum_or_says_of_what(told: dict[str, str], unit: str | None) -> None:
    """What has any unit is never taken for what names none, for which the mapping may have one."""
    (row,) = seen(observation({"valueQuantity": {"value": 97, **told}}))
    assert row["unit"] == unit


FIVE = {"valueQuantity": {"value": 5, "code": "mg/dL"}}
CODE = {"coding": [{"system": LOINC, "code": "2160-0"}]}
PANEL = {"code": {"text": "a panel"}}


@pytest.mark.parametrize(("value", "more", "told"), [
    ({"valueInteger": 5}, {}, {"value": "5", "unit": None}), ({"valueString": ">15"}, {}, {"value": ">15"}),
    ({"valueRange": {"low": {"value": 5}}}, {}, {"value": "no number"}), ({}, {}, {"value": None}),
    ({"valueCodeableConcept": {"text": "haemolysed"}}, {}, {"value": "no number"}),
    (FIVE, {"effectiveDateTime": None, "effectiveInstant": "2030-05-02T00:00:00Z"}, {"taken": "2030-05-02T00:00:00Z"}),
    (FIVE, {"effectiveDateTime": None, "effectivePeriod": {"start": "2030-05-02"}}, {"taken": "2030-05-02"}),
    (FIVE, {"effectiveDateTime": None}, {"taken": None, "value": "5"}),
    (FIVE, {"code": {"coding": [{"code": "2160-0"}]}}, {"system": None, "code": "2160-0", "value": "5"}),
    (FIVE, {"code": {"coding": [{"code": "2160-0"}, *CODE["coding"]]}}, {"system": LOINC, "code": "2160-0"}),
    (FIVE, {"code": {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.1", "code": "2160-0"}]}},
     {"system": "urn:oid:2.16.840.1.113883.6.1", "code": "2160-0"}),
    (FIVE, {"code": {"coding": [{"system": "urn:ours", "code": "2160-0"}]}}, None),
    (FIVE, {"code": {"coding": [{"system": "https://loinc.org/", "code": "2160-0"}]}}, {"system": "https://loinc.org/"}),
    ({}, {**PANEL, "component": [{"code": CODE, **FIVE}, {"code": {"text": "x"}, "valueInteger": 9}]},
     {"patient": "p", "taken": "2030-05-01T08:00:00Z", "system": LOINC, "code": "2160-0", "value": "5",
      "unit": "mg/dL"}),
    (FIVE, {"code": {"coding": [{"system": LOINC, "code": "2160-0^LN"}]}}, {"code": "2160-0^LN", "value": "5"}),
    (FIVE, {"code": {"coding": [{"code": "2160-0^Crea^LN"}, *CODE["coding"]]}}, {"system": LOINC, "code": "2160-0"}),
    (FIVE, {"code": {"coding": [{"system": "urn:ours", "code": "2160-0^LN"}]}}, None),
    (FIVE, {"status": "entered-in-error"}, None),
])  # fmt: skip
def test_the_view_gives_every_record_of_the_contracts_codes_also_one_that_cannot_be_read(
    value: dict[str, Any], more: dict[str, Any], told: dict[str, Any] | None
) -> None:
    resource = {key: one for key, one in observation(value, **more).items() if one is not None}
    rows = seen(resource)
    assert [{name: row[name] for name in told or ()} for row in rows] == ([] if told is None else [told])
    twice = seen({**resource, "component": [{"code": CODE, "valueInteger": 7}]})
    assert [row["value"] for row in twice][-1:] == (["7"] if more.get("status") is None else [])


def test_what_has_no_records_or_an_unknown_vocabulary_is_refused() -> None:
    with pytest.raises(StudyInvalid, match="urn:ours"):
        compiled.omop(coded("urn:ours", "1"))
    assert compiled.omop(coded("https://loinc.org/", "1")) == compiled.omop(coded(LOINC, "1"))
    plain = {**CONTRACT, "features": CONTRACT["features"][:1]}
    for make in (compiled.views, compiled.omop):
        with pytest.raises(StudyInvalid, match="made of records"):
            make(Contract.model_validate(plain))


def test_the_command_writes_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study(CONTRACT).model_dump(mode="json", exclude_none=True)))
    for form in compiled.FORMATS:
        assert app.run(["study", "contract", str(path), "--format", form, "-o", str(tmp_path / form)]) == 0
        assert app.run(["study", "contract", str(path), "--format", form]) == 0
        said = capsys.readouterr().out
        assert said.endswith((tmp_path / form).read_text())
    assert json.loads((tmp_path / "fhir").read_text())["resource"] == "Observation"
