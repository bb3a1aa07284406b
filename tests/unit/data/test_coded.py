"""Categories made of records: the same from FHIR, OMOP and plain records; what has no meaning is counted."""

import csv
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from consilium.core.contract import Contract
from consilium.core.study import Study
from consilium.data import coded, compiled, quality, systems
from consilium.data.contract import Column
from consilium.data.mapping import Mapping, _problems
from consilium.governance.words import explain
from consilium.site import tables
from unit.data.test_records import INDEX, LOINC, ONE, apply, labs, made, stays

SNOMED = "http://snomed.info/sct"
FEATURE: dict[str, Any] = {
    "id": "crea", "meaning": "smoking status", "type": "category", "unit": None, "range": None, "resolution": None,
    "analyte": None, "categories": {"never": "never smoked", "former": "smoked", "now": "smokes"},
    "codes": [{"system": LOINC, "code": "72166-2"}], "window": ["-30d", "0h"], "aggregate": "last",
    "values": {
        "never": [{"system": SNOMED, "code": "266919005"}, {"system": LOINC, "code": "LA18978-9"}],
        "former": [{"system": SNOMED, "code": "8517006"}], "now": [{"system": SNOMED, "code": "77176002"}],
    },
}  # fmt: skip
SMOKING = LOINC
"""The system of the code of the records."""
NAMES = ("former", "never", "now")
"""As a plan has them."""


def wanted(**changes: Any) -> Contract:
    return made({**FEATURE, **changes})


def part(**changes: Any) -> dict[str, Any]:
    return {"labs": {
        "source": {"type": "csv", "path": "labs.csv"}, "patient": "pid", "code": "code", "time": "when",
        "value": "value", **changes,
    }}  # fmt: skip


def column(*found: tuple[float, str], takes: str = "last", means: Any = None, **given: Any) -> tuple[str, Column]:
    """The category of one patient with these values, hours after the index, or ""; and the counts."""
    rows = labs(*((hours, "72166-2", value, "") for hours, value in found))
    features = {"crea": {"records": "labs", **given}}
    mapped = apply(wanted(aggregate=takes), stays(*ONE), rows, means, records=part(missing=["gone"]), features=features)
    (place,), told = mapped.table.columns["crea"].tolist(), mapped.features["crea"]
    counts = told.usable + told.missing + sum(told.unmapped.values())
    assert counts == 1 and told.usable == (not np.isnan(place))
    return "" if np.isnan(place) else list(FEATURE["categories"])[int(place)], told


@pytest.mark.parametrize(("found", "takes", "meant"), [
    ([(-5, "266919005"), (-2, "77176002"), (-9, "8517006")], "last", "now"),
    ([(-5, "266919005"), (-2, "77176002"), (-9, "8517006")], "first", "former"),
    ([(-721, "77176002"), (1, "77176002"), (-720, "8517006"), (0, "266919005")], "last", "never"),
    ([(-721, "77176002"), (1, "77176002"), (-720, "8517006"), (0, "266919005")], "first", "former"),
    ([(-1, "266919005"), (-1, "LA18978-9")], "last", "never"),
    ([(-1, "266919005"), (-1, "77176002"), (-2, "8517006")], "first", "former"),
])  # fmt: skip
def test_the_value_within_the_window_that_the_contract_takes(
    found: list[tuple[float, str]], takes: str, meant: str
) -> None:
    assert column(*found, takes=takes)[0] == column(*found[::-1], takes=takes)[0] == meant


@pytest.mark.parametrize(("found", "unmapped"), [
    ([(-1, "266919005"), (-1, "77176002")], coded.SEVERAL), ([(-1, "266919005"), (-9, "R-1")], "R-1"),
    ([(-1, "266919005"), (-9, "R-1"), (-8, "A-1")], "A-1"), ([], ""), ([(-1, "gone")], ""), ([(9, "R-1")], ""),
])  # fmt: skip
def test_what_means_nothing_or_two_things_is_counted_and_makes_no_category(
    found: list[tuple[float, str]], unmapped: str
) -> None:
    for several in (found, found[::-1]):
        meant, told = column(*several)
        assert meant == "" and dict(told.unmapped) == ({unmapped: 1} if unmapped else {}), several


@pytest.mark.parametrize(("found", "takes", "meant"), [
    ([("", SMOKING), (-5, SMOKING)], "last", ""), ([(-5, SMOKING), (-2, "")], "last", ""),
    ([(-5, SMOKING), (-2, "")], "first", "never"), ([(-5, ""), (-2, SMOKING)], "last", "never"),
    ([(-5, SMOKING), (-2, "urn:other")], "last", "never"), ([("", "urn:other"), (-5, SMOKING)], "last", "never"),
])  # fmt: skip
def test_a_record_without_a_moment_or_a_code_system_that_may_count_leaves_no_category(
    found: list[tuple[float | str, str]], takes: str, meant: str
) -> None:
    rows = labs(*((float(hours or 0), "72166-2", "266919005", "") for hours, _ in found))
    moments = [when if hours else "" for when, (hours, _) in zip(rows.columns["when"], found)]
    rows = type(rows)({**rows.columns, "when": moments, "of": [system for _, system in found]})
    mapped = apply(wanted(aggregate=takes), stays(*ONE), rows, records=part(system="of"), features={
        "crea": {"records": "labs"}})  # fmt: skip
    (place,), told = mapped.table.columns["crea"].tolist(), mapped.features["crea"]
    assert (told.usable, told.not_a_number, told.unread.total()) == ((1, 0, 0) if meant else (0, 1, 1))
    assert np.isnan(place) if not meant else list(FEATURE["categories"])[int(place)] == meant


def test_a_value_means_what_the_hospital_says_before_all_else(tmp_path: Path) -> None:
    assert column((-1, "R-1"), codes={"R-1": "now"})[0] == "now"
    assert column((-1, "266919005"), codes={"266919005": "now"})[0] == "now"
    assert column((-1, "gone"), codes={"gone": "former"})[0] == "former"
    assert column((-1, "266919005"), (-3, "8517006"), missing=["266919005"])[0] == "former"

    def element(code: str, target: str) -> dict[str, Any]:
        return {"code": code, "target": [{"code": target, "relationship": "equivalent"}]}

    def group(source: str, target: str, *elements: dict[str, Any]) -> dict[str, Any]:
        return {"source": source, "target": target, "element": list(elements)}

    path = tmp_path / "map.json"
    path.write_text(json.dumps({"resourceType": "ConceptMap", "group": [
        group("urn:smoking", SNOMED, element("1", "266919005"), element("2", "8517006"), element("3", "8517006")),
        group("urn:smoking", LOINC, element("1", "LA18978-9")),
        group("urn:drinking", SNOMED, element("1", "77176002")),
    ]}))  # fmt: skip
    means = systems.concepts(path, "records.labs.concept_map")
    assert column((-1, "2"), means=means)[0] == "former", "no other system has it"
    assert dict(column((-1, "1"), means=means)[1].unmapped) == {"1": 1}, "two systems have it for two things"
    for system, meant in (("urn:smoking", 0.0), ("urn:drinking", 2.0), ("urn:other", None)):
        rows = labs((-1, "72166-2", "1", ""))
        rows = type(rows)({**rows.columns, "of": [system]})
        found = apply(wanted(), stays(*ONE), rows, means, records=part(value_system="of"), features={
            "crea": {"records": "labs"}}).table.columns["crea"].tolist()  # fmt: skip
        assert found == [meant] if meant is not None else np.isnan(found[0])


@pytest.mark.parametrize(("changes", "words"), [
    ({"aggregate": "max"}, "first or last"), ({"aggregate": "count"}, "first or last"), ({"values": {}}, "needs"),
    ({"window": None, "aggregate": None}, "needs"), ({"codes": []}, "go together"),
    ({"values": {**FEATURE["values"], "x": []}}, "none of"),
    ({"values": {**FEATURE["values"], "now": FEATURE["values"]["never"]}}, "twice"),
    ({"values": {"now": FEATURE["values"]["now"]}}, "does not say by which codes former is recorded"),
    ({"type": "number", "unit": "1", "range": [0, 1], "categories": None}, "belong to a category"),
    ({"resolution": 1.0}, "belong to a number"),
])  # fmt: skip
def test_a_contract_whose_category_cannot_be_made_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        wanted(**changes)


def test_a_contract_without_such_categories_keeps_its_hash() -> None:
    assert "values" not in made().model_dump(mode="json")["features"][0]
    told = wanted().model_dump(mode="json")
    assert told["features"][0]["values"]["now"][0]["code"] == "77176002" and Contract.model_validate(told) == wanted()
    with pytest.raises(ValidationError, match="`version` 2 is needed"):
        Contract.model_validate({**told, "version": 1, "index": None})


@pytest.mark.parametrize(("feature", "place", "words"), [
    ({"codes": {"1": "maybe"}}, {}, "'maybe' is none of never, former, now"), ({"unit": "1"}, {}, "has none"),
    ({}, {"value": None}, "records.labs.value"),
])  # fmt: skip
def test_a_mapping_that_does_not_fit_is_told_so(feature: dict[str, Any], place: dict[str, Any], words: str) -> None:
    base = {
        "mapping": 1, "contract": "c", "source": {"type": "csv", "path": "a.csv"}, "patient": {"column": "pid"},
        "index": {"column": "at"}, "label": {"column": "died", "codes": {"0": 0, "1": 1}},
    }  # fmt: skip
    found = Mapping.model_validate(
        {**base, "records": part(**place), "features": {"crea": {"records": "labs"} | feature}}
    )
    assert any(words in one for one in _problems(found, wanted()))
    number = Mapping.model_validate(
        {**base, "records": part(), "features": {"crea": {"records": "labs", "codes": {"1": "now"}}}}
    )
    assert any("belong to a category" in one for one in _problems(number, made()))


def study(contract: Contract) -> Study:
    return Study.model_validate({
        "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": contract.model_dump(mode="json"), "model": {"kind": "logistic"}, "rounds": 1, "quorum": 3,
    })  # fmt: skip


# the same patients, at hospitals of three kinds

CODES = {"266919005": "never", "LA18978-9": "never", "8517006": "former", "77176002": "now", "R-1": "now"}
"""What values mean; R-1 is the hospital's own, with a concept map."""
OTHERS = ("160573003", "hookah", "")
"""One that means none, a text without a code, and no value at all."""
MOMENTS = (-31 * 24.0, -48.0, -24.0, -1.0, 0.0, 5.0)
Value = tuple[float, str]
one_patient = st.lists(st.tuples(st.sampled_from(MOMENTS), st.sampled_from([*CODES, *CODES, *OTHERS])), max_size=4)


def direct(found: list[Value]) -> tuple[float | None, str]:
    """The place of the category, or None; and what is counted as unmapped."""
    within = [(hours, value) for hours, value in found if -30 * 24 <= hours <= 0 and value]
    if strange := sorted(value for _, value in within if value not in CODES):
        return None, strange[0]
    last = {CODES[value] for hours, value in within if hours == max(one for one, _ in within)}
    return (None, coded.SEVERAL) if len(last) > 1 else (NAMES.index(*last) if last else None, "")


def system_of(value: str) -> str:
    return {"LA18978-9": LOINC, "R-1": "urn:ours"}.get(value, SNOMED)


def hospital(folder: Path, source: dict[str, Any], **columns: str) -> Path:
    target = {"code": "77176002", "equivalence": "equal"}
    group = {"source": "urn:ours", "target": SNOMED, "element": [{"code": "R-1", "target": [target]}]}
    (folder / "map.json").write_text(json.dumps({"resourceType": "ConceptMap", "group": [group]}))
    mapping = {
        "mapping": 1, "contract": "c", "source": {"type": "csv", "path": "stays.csv"}, "patient": {"column": "pid"},
        "index": {"column": "at"}, "features": {"crea": {"records": "labs"}},
        "records": {"labs": {
            "source": source, "patient": "patient", "code": "code", "system": "system", "time": "taken",
            "value": "value", "unit": "unit", "value_code": "value_code", "value_system": "value_system",
            "concept_map": "map.json", **columns,
        }},
        "label": {"column": "died", "codes": {"0": 0, "1": 1}},
    }  # fmt: skip
    (folder / "mapping.yaml").write_text(json.dumps(mapping))
    return folder / "mapping.yaml"


def people(folder: Path, every: dict[int, list[Value]], zone: str) -> None:
    lines = [f"{patient},{INDEX.isoformat()}{zone},{patient % 2}\n" for patient in every]
    (folder / "stays.csv").write_text("pid,at,died\n" + "".join(lines))


def moments(every: dict[int, list[Value]]) -> list[tuple[int, datetime, str]]:
    return [(patient, INDEX + timedelta(hours=hours), value) for patient, of in every.items() for hours, value in of]


def as_fhir(folder: Path, every: dict[int, list[Value]], contract: Contract) -> Path:
    """Of several codings the contract's counts, wherever it stands; a text without a code is what was entered."""
    people(folder, every, "Z")
    (folder / "export").mkdir()
    with (folder / "export" / "Observation.ndjson").open("w") as file:
        for number, (patient, when, value) in enumerate(moments(every)):
            own = [{"system": "urn:national", "code": f"{number}"}] if value in FEATURE_CODES else []
            coding = {"coding": [*own, {"system": system_of(value), "code": value}], "text": "as entered"}
            told: dict[str, Any] = {"valueCodeableConcept": coding} if value else {}
            told = {"valueString": value} if value == "hookah" else told
            file.write(json.dumps({
                "resourceType": "Observation", "id": f"o{number}", "status": "final", "effectiveDateTime":
                f"{when.isoformat()}Z", "subject": {"reference": f"Patient/{patient}"},
                "code": {"coding": [{"system": LOINC, "code": "72166-2"}]}, **told,
            }) + "\n")  # fmt: skip
    (folder / "view.json").write_text(json.dumps(compiled.views(contract)))
    return hospital(folder, {"type": "fhir", "path": "export", "views": {"records": "view.json"}})


FEATURE_CODES = {one["code"] for several in FEATURE["values"].values() for one in several}


def as_omop(folder: Path, every: dict[int, list[Value]], contract: Contract) -> Path:
    """Half of the values in `measurement`, half in `observation`."""
    people(folder, every, "")
    concepts = [(1, "LOINC", "72166-2"), (2, "SNOMED", "266919005"), (3, "LOINC", "LA18978-9"),
                (4, "SNOMED", "8517006"), (5, "SNOMED", "77176002"), (6, "urn:ours", "R-1"),
                (7, "SNOMED", "160573003")]  # fmt: skip
    known = {code: number for number, _, code in concepts}
    with duckdb.connect(str(folder / "cdm.duckdb")) as database:
        database.execute("CREATE TABLE concept (concept_id INT, vocabulary_id TEXT, concept_code TEXT)")
        database.executemany("INSERT INTO concept VALUES (?, ?, ?)", concepts)
        for at, (table, text) in enumerate((("measurement", "value_source_value"), ("observation", "value_as_string"))):
            database.execute(
                f"CREATE TABLE {table} (person_id INT, {table}_concept_id INT, {table}_date DATE, {table}_datetime"
                f" TIMESTAMP, value_as_number DOUBLE, value_as_concept_id INT, {text} TEXT, unit_concept_id INT)"
            )
            rows = [
                (patient, 1, when.date(), when, None, known.get(value, 0), value or None, None)
                for patient, when, value in moments(every)[at::2]
            ]
            if table == "measurement":
                database.execute("ALTER TABLE measurement ADD COLUMN operator_concept_id INT")
                rows = [(*row, None) for row in rows]
            if rows:
                database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            for name in ("unit_source_value", f"{table}_source_value"):
                database.execute(f"ALTER TABLE {table} ADD COLUMN {name} TEXT")
    return hospital(folder, {"type": "sql", "path": "cdm.duckdb", "query": compiled.omop(contract)})


def as_csv(folder: Path, every: dict[int, list[Value]], contract: Contract) -> Path:
    people(folder, every, "")
    with (folder / "values.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "taken", "code", "system", "value", "unit", "value_code", "value_system"])
        for patient, when, value in reversed(moments(every)):
            writer.writerow([patient, when.isoformat(), "72166-2", "LOINC", "", "", value, system_of(value)])
    return hospital(folder, {"type": "csv", "path": "values.csv"})


@settings(max_examples=2, deadline=None)
@given(st.lists(one_patient, min_size=8, max_size=16))
def test_the_same_patients_have_the_same_categories_from_fhir_omop_and_plain_records(found: list[list[Value]]) -> None:
    every = {10: [(-1.0, "8517006")], **dict(enumerate(found, 11))}
    wants = [direct(of) for of in every.values()]
    asked = study(Contract.model_validate(json.loads(json.dumps(wanted().model_dump(mode="json"), sort_keys=True))))
    for make in (as_fhir, as_omop, as_csv):
        with TemporaryDirectory() as name:
            mapped = tables.mapped(asked, make(Path(name), every, asked.contract))
        told = mapped.features["crea"]
        places = [np.nan if place is None else place for place, _ in wants]
        np.testing.assert_array_equal(mapped.table.columns["crea"], places, err_msg=make.__name__)
        assert told.unmapped == Counter(filter(None, (strange for _, strange in wants))), make.__name__


def test_a_value_that_is_not_mapped_is_a_finding_and_the_review_says_what_is_read(tmp_path: Path) -> None:
    every = {patient: [(-1.0, "77176002" if patient % 3 else "160573003")] for patient in range(60)}
    asked = study(wanted())
    report = quality.check(asked, tables.mapped(asked, as_csv(tmp_path, every, asked.contract)))
    (finding,) = [one for one in report.findings if one.where == "crea"]
    assert (finding.kind, finding.count) == ("unmapped-codes", 20) and "`concept_map`" in finding.remedy
    assert report.features[0].unmapped == {"160573003": 20} and not report.usable
    from consilium.core.study import Plan

    assert "smokes; last of records 72166-2 (http://loinc.org), from -30d to 0h" in explain(Plan.of(asked))
