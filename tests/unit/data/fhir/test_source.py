"""A FHIR hospital: the same contract gives the same table as from CSV, value by value, in R4 and in R5."""

import gzip
import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium.console.cli import app
from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.core.study import Study
from consilium.data import compiled, contract
from consilium.data.fhir.source import FhirSource
from consilium.data.mapping import Mapping
from consilium.data.source import TableSource
from consilium.data.tables import CsvSource
from consilium.site import tables
from unit.data.conftest import MAPPING, STUDY
from unit.data.test_records import MAPPING as RECORDED
from unit.data.test_records import _study, made

DATA = Path(__file__).parents[5] / "shared/data"
STAYS: list[tuple[str, Any, Any, Any, str, int]] = [
    ("p1", 64, 5.5, 98.6, "female", 1),
    ("p2", 50, 7.25, None, "male", 0),
    ("p3", 71, None, 101.3, "male", 1),
    ("p4", 19, 31.0, 97.0, "unknown", 0),
]
GLUCOSE, TEMPERATURE = "15074-8", "8310-5"
PATIENTS = {
    "resource": "Patient",
    "select": [{"column": [
        {"name": "patient", "path": "getResourceKey()"}, {"name": "sex", "path": "gender", "type": "code"},
    ]}],
}  # fmt: skip
LABS = {
    "resource": "Observation",
    "constant": [{"name": "glucose", "valueCode": GLUCOSE}, {"name": "temperature", "valueCode": TEMPERATURE}],
    "where": [{"path": "status in ('final' | 'amended' | 'corrected')"}],
    "select": [{"column": [
        {"name": "patient", "path": "subject.getReferenceKey(Patient)"},
        {"name": "glucose", "type": "decimal", "path":
         "where(code.coding.where(code = %glucose).exists()).value.ofType(Quantity).value"},
        {"name": "temperature", "type": "decimal", "path":
         "where(code.coding.where(code = %temperature).exists()).value.ofType(Quantity).value"},
    ]}],
}  # fmt: skip
STAY = {
    "resource": "Encounter",
    "select": [{"column": [
        {"name": "patient", "path": "subject.getReferenceKey(Patient)"},
        {"name": "age", "type": "integer", "path": "extension('urn:age').value.ofType(integer)"},
        {"name": "died", "type": "boolean", "path": "hospitalization.dischargeDisposition.coding.exists(code = 'exp')"},
    ]}],
}  # fmt: skip
QUERY = """
    SELECT patient, any_value(age) AS AGE, max(glucose) AS GLUC, max(temperature) AS TEMP, any_value(sex) AS SEX,
           any_value(died) AS SICK
    FROM patients JOIN stays USING (patient) LEFT JOIN labs USING (patient) GROUP BY patient
"""


def observation(patient: str, code: str, value: float, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "status": "final", "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "valueQuantity": {"value": value}, **more,
    }  # fmt: skip


def encounter(release: str, patient: str, age: int, died: int) -> dict[str, Any]:
    end = {"dischargeDisposition": {"coding": [{"code": "exp" if died else "home"}]}}
    kind = {"code": "IMP"} if release == "R4" else [{"coding": [{"code": "IMP"}]}]
    return {
        "resourceType": "Encounter", "class": kind, "subject": {"reference": f"http://h/fhir/Patient/{patient}"},
        "extension": [{"url": "urn:age", "valueInteger": age}],
        "hospitalization" if release == "R4" else "admission": end,
    }  # fmt: skip


def hospital(folder: Path, release: str = "R4") -> TableSource:
    """A folder of NDJSON with what stands in STAYS, and with what must not count."""
    (folder / "export").mkdir()
    resources: list[dict[str, Any]] = []
    for patient, age, glucose, temperature, sex, died in STAYS:
        resources.append({"resourceType": "Patient", "id": patient, "gender": sex})
        resources.append(encounter(release, patient, age, died))
        if glucose is not None:
            resources.append(observation(patient, GLUCOSE, glucose))
            resources.append(observation(patient, GLUCOSE, 99.0, status="entered-in-error"))
        if temperature is not None:
            resources.append(observation(patient, TEMPERATURE, temperature))
    for kind in ("Patient", "Encounter", "Observation"):
        lines = [json.dumps(one) + "\n" for one in resources if one["resourceType"] == kind]
        (folder / "export" / f"{kind}.000.ndjson").write_text("".join(lines))
    stay = json.dumps(STAY) if release == "R4" else json.dumps(STAY).replace("hospitalization", "admission")
    for name, view in {"patients": json.dumps(PATIENTS), "labs": json.dumps(LABS), "stays": stay}.items():
        (folder / f"{name}.json").write_text(view)
    views = {name: f"{name}.json" for name in ("patients", "labs", "stays")}
    return TableSource(type="fhir", path="export", views=views, query=QUERY)


def mapping(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    sex = {"column": "SEX", "codes": {"female": "female", "male": "male"}, "missing": ["unknown"]}
    made = {**MAPPING, "source": source, "features": {**MAPPING["features"], "sex": sex}, **more}
    made["features"]["glucose"] = {"column": "GLUC", "unit": "mmol/L", "analyte": "glucose"}
    return made


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_the_table_is_that_of_csv_value_by_value(tmp_path: Path, study: Study, release: str) -> None:
    source = hospital(tmp_path, release)
    lines = ["id,AGE,GLUC,TEMP,SEX,SICK"]
    lines += [",".join("" if value is None else str(value) for value in stay) for stay in STAYS]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    label = {"column": "SICK", "codes": {"True": 1, "False": 0, "0": 0, "1": 1}}
    fhir = Mapping.model_validate(mapping(source.model_dump(), patient={"column": "patient"}, label=label))
    csv = Mapping.model_validate(mapping({"type": "csv", "path": "t.csv"}, label=label))
    found, wanted = (
        contract.apply(one, study.contract, study.evaluation, kind(one.source, tmp_path).rows())
        for one, kind in ((fhir, FhirSource), (csv, CsvSource))
    )
    assert found.read == len(STAYS) and found.features == wanted.features
    for name, values in wanted.table.arrays().items():
        np.testing.assert_array_equal(found.table.arrays()[name], values, name)


def test_site_check_works_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = hospital(tmp_path)
    label = {"column": "SICK", "codes": {"True": 1, "False": 0}}
    made = mapping(source.model_dump(exclude_defaults=True), patient={"column": "patient"}, label=label)
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(made))))
    home = ["--home", str(tmp_path / "site")]
    assert app.run(["site", "init", *home]) == 0
    files = ["--study-file", str(tmp_path / "study.yaml"), "--mapping", str(tmp_path / "mapping.yaml")]
    asked = ["site", "check", *files, *home]
    capsys.readouterr()
    app.run([*asked, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (said["read"], said["contract"]) == ("<10", "c")
    file = tmp_path / "export" / "Observation.000.ndjson"
    file.write_text(file.read_text()[:-20])
    assert app.run(asked) != 0
    told = capsys.readouterr()
    assert "Observation.000.ndjson line 9: is no JSON" in told.out + told.err


def test_a_date_of_a_month_in_one_resource_ends_no_reading(tmp_path: Path) -> None:
    """The patient whose value it may be has none and is counted; all others have theirs."""
    wanted = made()
    (tmp_path / "stays.csv").write_text(
        "pid,at,died\n" + "".join(f"p{n},2030-05-01T12:00:00Z,{n % 2}\n" for n in range(4))
    )
    of = [observation(f"p{n}", "2160-0", n + 1, effectiveDateTime=when) for n, when in
          enumerate(("2030-05-01T13:00:00Z", "2030-05", "2029", "2030-05-01T12:00:00Z"))]  # fmt: skip
    for one in of:
        one["valueQuantity"] |= {"code": "mg/dL"}
    (tmp_path / "labs.ndjson").write_text("".join(json.dumps(one) + "\n" for one in of))
    (tmp_path / "view.json").write_text(json.dumps(compiled.views(wanted)))
    given_ = {"type": "fhir", "path": "labs.ndjson", "views": {"labs": "view.json"}}
    labs = {"source": given_, "patient": "patient", "code": "code", "system": "system", "time": "taken",
            "value": "value", "unit": "unit"}  # fmt: skip
    (tmp_path / "mapping.yaml").write_text(json.dumps({**RECORDED, "records": {"labs": labs}}))
    told = tables.mapped(_study(wanted), tmp_path / "mapping.yaml")
    np.testing.assert_array_equal(told.table.columns["crea"], [1.0, np.nan, np.nan, 4.0])
    assert dict(told.features["crea"].unread) == {"month": 1} and told.features["crea"].missing == 1
    query = "SELECT patient, CAST(taken AS DATE) AS taken FROM labs"
    with pytest.raises(DataUnusable, match="ConversionException") as raised:
        FhirSource(TableSource.model_validate({**given_, "query": query}), tmp_path).rows()
    assert "TRY_CAST" in raised.value.remedy and "2030-05" not in str(raised.value)


FAULTS: list[tuple[dict[str, Any], type[ConsiliumError], str]] = [
    ({"views": {}}, MappingInvalid, "ViewDefinition"),
    ({"query": None}, MappingInvalid, "several views"),
    ({"path": None}, MappingInvalid, "source.path"),
    ({"path": "none"}, DataUnusable, "there is no none"),
    ({"query": "DROP TABLE labs"}, MappingInvalid, "one SELECT"),
    ({"query": "SELECT agee FROM stays"}, DataUnusable, "agee"),
    ({"query": "SELECT * FROM read_csv('/etc/passwd')"}, DataUnusable, "does not fit"),
    ({"query": "SELECT * FROM read_text('study.yaml')"}, DataUnusable, "does not fit"),
]


@pytest.mark.parametrize(("change", "kind", "said"), FAULTS)
def test_what_is_wrong_is_said(tmp_path: Path, change: dict[str, Any], kind: type[ConsiliumError], said: str) -> None:
    source = hospital(tmp_path).model_copy(update=change)
    with pytest.raises(kind, match=said):
        FhirSource(source, tmp_path).rows()


def test_a_schema_that_changed_overnight_is_a_finding(tmp_path: Path) -> None:
    source = hospital(tmp_path)
    file = tmp_path / "export" / "Observation.000.ndjson"
    file.write_text(file.read_text().replace('"value": 5.5', '"value": "5.5 SECRET"'))
    with pytest.raises(DataUnusable, match=r"Observation.000.ndjson line 1: column glucose") as raised:
        FhirSource(source, tmp_path).rows()
    assert "SECRET" not in str(raised.value)


def test_lines_of_other_types_do_not_hide_one_that_was_cut(tmp_path: Path) -> None:
    source = hospital(tmp_path)
    with (tmp_path / "export" / "Patient.000.ndjson").open("a") as file:
        file.write('{"id":"x","resourceType":"Pat')
    with pytest.raises(DataUnusable, match=r"Patient.000.ndjson line 5: is no JSON"):
        FhirSource(source, tmp_path).rows()


@pytest.mark.skipif(not DATA.is_dir(), reason="the bundles of Synthea are not here")
def test_real_shapes_of_synthea(tmp_path: Path) -> None:
    """14 patients; each one's last body weight, beside what a plain reading of the same lines gives."""
    shutil.copytree(DATA / "fhir_synthea_pathling/ndjson", tmp_path / "export")
    column = [
        {"name": "patient", "path": "subject.getReferenceKey(Patient)"},
        {"name": "taken", "path": "effective.ofType(dateTime)"},
        {"name": "kg", "path": "value.ofType(Quantity).value", "type": "decimal"},
    ]
    where = [{"path": "code.coding.where(system = 'http://loinc.org' and code = '29463-7').exists()"}]
    (tmp_path / "weights.json").write_text(
        json.dumps({"resource": "Observation", "where": where, "select": [{"column": column}]})
    )
    query = "SELECT patient, arg_max(kg, taken::TIMESTAMPTZ) AS kg FROM weights GROUP BY patient"
    source = TableSource(type="fhir", path="export", views={"weights": "weights.json"}, query=query)
    rows = FhirSource(source, tmp_path).rows()
    assert dict(zip(rows.columns["patient"], map(float, rows.columns["kg"]))) == _last_weights(tmp_path)


@pytest.mark.parametrize(("query", "differs"), [
    ("SELECT patient, max(said) AS most FROM words GROUP BY patient", "most"),
    ("SELECT patient, max(number) AS most, min(CAST(said AS DOUBLE)) AS least FROM words GROUP BY patient -- all", ""),
])  # fmt: skip
def test_a_query_over_views_that_compares_numbers_as_text_is_refused(tmp_path: Path, query: str, differs: str) -> None:
    paths = {"patient": "subject.getReferenceKey(Patient)", "said": "value.ofType(Quantity).value.toString()",
             "number": "value.ofType(Quantity).value"}  # fmt: skip
    kinds = {"number": {"type": "decimal"}}
    column = [{"name": name, "path": path, **kinds.get(name, {"type": "string"})} for name, path in paths.items()]
    (tmp_path / "words.json").write_text(json.dumps({"resource": "Observation", "select": [{"column": column}]}))
    (tmp_path / "all.ndjson").write_text("\n".join(json.dumps(observation("p", GLUCOSE, one)) for one in (9.5, 10.5)))
    made = FhirSource(TableSource(type="fhir", path="all.ndjson", views={"words": "words.json"}, query=query), tmp_path)
    if not differs:
        found = made.rows()
        assert float(str(found.columns["most"][0])) == 10.5 and not found.doubts
        return
    with pytest.raises(
        DataUnusable, match=rf"as text, by which 9 is more than 10.*: other values would stand in {differs}"
    ):
        made.rows()


def _last_weights(folder: Path) -> dict[str, float]:
    found: dict[str, tuple[datetime, float]] = {}
    for line in gzip.decompress((folder / "export/Observation.ndjson.gz").read_bytes()).splitlines():
        one = json.loads(line)
        if any(coding["code"] == "29463-7" for coding in one["code"]["coding"]):
            at, patient = datetime.fromisoformat(one["effectiveDateTime"]), one["subject"]["reference"].split("/")[1]
            found[patient] = max(found.get(patient, (at, 0.0)), (at, one["valueQuantity"]["value"]))
    assert len(found) == 14
    return {patient: value for patient, (_, value) in found.items()}


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["", "<", "<=", ">", ">=", "ad"]), st.integers(1, 99)), min_size=1, max_size=6)
)
def test_of_a_view_of_ones_own_no_bound_becomes_a_number(tmp_path: Path, made: list[tuple[str, int]]) -> None:
    """As text it has its sign; as a number it is a finding with its line; who reads or asks for the sign says so."""
    with (tmp_path / "own.ndjson").open("w") as file:
        for row, (sign, value) in enumerate(made):
            one = observation(f"p{row}", GLUCOSE, value)
            one["valueQuantity"] |= {"comparator": sign} if sign else {}
            file.write(json.dumps(one) + "\n")

    def read(path: str, *where: str, kind: str | None = None) -> list[str | None]:
        columns = [{"name": "patient", "path": "subject.getReferenceKey(Patient)"}, {"name": "v", "path": path}]
        columns[1] |= {"type": kind} if kind else {}
        view = {"resource": "Observation", "select": [{"column": columns}], "where": [{"path": one} for one in where]}
        (tmp_path / "own.json").write_text(json.dumps(view))
        given_ = {"type": "fhir", "path": "own.ndjson", "views": {"own": "own.json"}}
        return FhirSource(TableSource.model_validate(given_), tmp_path).rows().columns["v"]

    value, texts = "value.ofType(Quantity).value", [f"{sign}{value}" for sign, value in made]
    exact = [str(float(value)) for sign, value in made if not sign]
    assert read(f"{value}.toString()") == texts
    assert read(f"value.ofType(Quantity).comparator & {value}.toString()") == texts
    assert read(value, "value.ofType(Quantity).comparator.empty()", kind="decimal") == exact
    signed = next((row for row, (sign, _) in enumerate(made, 1) if sign), None)
    if signed is None:
        assert read(value, kind="decimal") == exact
    else:
        told = "a value that is only a bound" if made[signed - 1][0] != "ad" else "a value that is no decimal"
        with pytest.raises(DataUnusable, match=rf"line {signed}: column v has {told}"):
            read(value, kind="decimal")
        with pytest.raises(DataUnusable, match="where it calculates"):
            read(f"{value} * 2", kind="decimal")
