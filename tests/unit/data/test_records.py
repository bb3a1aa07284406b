"""Contract version 2: records in a window around the index moment become one value; who is left out is counted."""

import json
import os
import random
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from consilium.core.contract import Contract
from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.core.ids import canonical, digest
from consilium.core.study import Evaluation, Study
from consilium.data import belonging, choosing, contract, moments, quality, records, systems
from consilium.data.base import Rows
from consilium.data.contract import Column, Mapped
from consilium.data.mapping import Mapping, _problems
from consilium.data.records import Records
from consilium.site import showing, tables

LOINC = "http://loinc.org"
INDEX = datetime(2030, 5, 1, 12)
FEATURE = {
    "id": "crea", "meaning": "creatinine", "type": "number", "unit": "mg/dL", "range": [0.1, 25], "resolution": 0.01,
    "analyte": "creatinine", "codes": [{"system": LOINC, "code": "2160-0"}], "window": ["-6h", "24h"],
    "aggregate": "max",
}  # fmt: skip
MAPPING: dict[str, Any] = {
    "mapping": 1, "contract": "c", "source": {"type": "csv", "path": "stays.csv"}, "patient": {"column": "pid"},
    "index": {"column": "at"}, "as_of": "2031-01-01",
    "records": {"labs": {
        "source": {"type": "csv", "path": "labs.csv"}, "patient": "pid", "code": "code", "time": "when",
        "value": "value", "unit": "unit", "units": {"µmol/l": "umol/L"},
    }},
    "features": {"crea": {"records": "labs", "local": ["KREA"]}},
    "label": {"column": "died", "codes": {"0": 0, "1": 1}},
}  # fmt: skip
COUNTED: dict[str, Any] = {"unit": "1", "analyte": None, "resolution": None}
Lab = tuple[float, str, str, str]
"""Hours after the index, code, value, unit."""


def made(feature: dict[str, Any] | None = None, **changes: Any) -> Contract:
    return Contract.model_validate({
        "id": "c", "version": 2, "index": {"meaning": "admission"}, "features": [{**FEATURE, **(feature or {})}],
        "label": {"id": "died", "meaning": "died", "type": "binary"}, **changes,
    })  # fmt: skip


def labs(*found: Lab, patient: str = "p") -> Rows:
    moments = [(INDEX + timedelta(hours=hours)).isoformat() for hours, *_ in found]
    code, value, unit = ([one[place] for one in found] for place in (1, 2, 3))
    return Rows({"pid": [patient] * len(found), "when": moments, "code": code, "value": value, "unit": unit})  # type: ignore[dict-item]


def stays(*rows: tuple[str, str, str]) -> Rows:
    return Rows({name: [row[place] for row in rows] for place, name in enumerate(("pid", "at", "died"))})


ONE = (("p", INDEX.isoformat(), "1"),)


def apply(wanted: Contract, main: Rows, found: Rows, means: Any = None, **changes: Any) -> Mapped:
    mapping = Mapping.model_validate({**MAPPING, **changes})
    assert not list(_problems(mapping, wanted))
    table = Records(mapping.records["labs"], found, "records.labs", means or {})
    return contract.apply(mapping, wanted, Evaluation(), main, {"labs": table})


def value(feature: dict[str, Any], *found: Lab, means: Any = None) -> float:
    return float(apply(made(feature), stays(*ONE), labs(*found), means).table.columns["crea"][0])


def test_version_1_is_written_as_ever_and_keeps_its_hash() -> None:
    feature = {"id": "x", "meaning": "x", "type": "number", "unit": "1", "range": [0.0, 1.0], "typical": None,
               "categories": None, "missing": "allowed"}  # fmt: skip
    label = {"id": "y", "meaning": "y", "type": "binary", "unit": None, "range": None}
    before = {"id": "c", "version": 1, "features": [feature], "label": label}
    assert Contract.model_validate(before).digest == digest(canonical(before))
    again = made().model_dump(mode="json")
    assert Contract.model_validate(again) == made() and again["features"][0]["window"] == ["-6h", "24h"]


@pytest.mark.parametrize(("changes", "words"), [
    ({"version": 1}, "`version` 2 is needed"), ({"index": None}, "`index` is needed"),
    ({"features": [{**FEATURE, "codes": []}]}, "go together"),
    ({"features": [{**FEATURE, "window": ["6h", "-6h"]}]}, "ends before it begins"),
    ({"features": [{**FEATURE, "aggregate": "count"}]}, "'1'"),
    ({"features": [{**FEATURE, "recorded": "condition"}]}, "recorded as condition is any"),
    ({"exclude": [{"feature": "y", "below": 3}]}, "no feature"), ({"exclude": [{"feature": "crea"}]}, "needs"),
    ({"exclude": [{"feature": "crea", "among": ["a"]}]}, "categories"),
])  # fmt: skip
def test_a_contract_that_does_not_fit_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Contract.model_validate({**made().model_dump(mode="json"), **changes})


@pytest.mark.parametrize(("take", "found"), [
    ("first", 1.5), ("last", 1.0), ("min", 0.9), ("max", 2.0), ("mean", 1.35), ("count", 4.0), ("any", 1.0),
])  # fmt: skip
def test_what_is_made_of_records_within_the_window(take: str, found: float) -> None:
    """-6 h and 24 h are within it; codes and units of the hospital's own are those of the contract."""
    counted = {"unit": "1", "range": [0, 100], "resolution": None, "analyte": None} if take in ("count", "any") else {}
    several = (
        (-6, "2160-0", "1.5", "mg/dL"), (3, "KREA", "176.804", "µmol/l"), (23, "2160-0", "0.9", "mg/dL"),
        (24, "2160-0", "1.0", "mg/dL"), (24.1, "2160-0", "9", "mg/dL"), (-6.1, "2160-0", "9", "mg/dL"),
        (5, "2345-7", "9", "mg/dL"),
    )  # fmt: skip
    assert value({"aggregate": take, **counted}, *several) == found
    assert value({"aggregate": take, **counted}, *reversed(several)) == found


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 2, 5, 30]), st.floats(0.2, 20)), min_size=1, max_size=12),
    st.sampled_from(["first", "last", "min", "max", "mean"]), st.integers(0, 99),
)  # fmt: skip
def test_the_same_records_give_the_same_bits_in_any_order_and_after_a_conversion(
    found: list[tuple[int, float]], take: str, seed: int
) -> None:
    plain = [(float(hours), "2160-0", repr(round(number, 2)), "mg/dL") for hours, number in found]
    molar = [(hours, code, repr(round(float(text) * 1e4 / 113.12, 2)), "umol/L") for hours, code, text, _ in plain]
    random.Random(seed).shuffle(molar)
    wanted, other = value({"aggregate": take}, *plain), value({"aggregate": take}, *molar)
    assert wanted == other or (np.isnan(wanted) and np.isnan(other))


@pytest.mark.parametrize(("take", "hours", "found", "wanted"), [
    ("max", (1, 2), ("<5", "20"), 20.0), ("max", (1, 2), ("<5", "4"), None), ("max", (1, 2), ("> 5", "20"), None),
    ("min", (1, 2), ("<=5", "20"), None), ("min", (1, 2), (">5", "4"), 4.0), ("mean", (1, 2), ("<5", "20"), None),
    ("first", (1, 2), ("<5", "20"), None), ("first", (2, 1), ("<5", "20"), 20.0), ("first", (1, 1), ("<5", "20"), None),
    ("last", (1, 2), ("≥5", "20"), 20.0), ("last", (2, 1), ("<5", "20"), None), ("max", (1, 99), ("<5", "20"), None),
    ("max", (1, 99), ("4", "<5"), 4.0), ("max", (1, 2), ("<5", ""), None), ("max", (1, 2), ("<5", "<6"), None),
])  # fmt: skip
def test_a_bound_is_never_taken_for_its_number_nor_passed_over_where_it_would_have_counted(
    take: str, hours: tuple[int, int], found: tuple[str, str], wanted: float | None
) -> None:
    several = [(hour, "2160-0", text, "mg/dL") for hour, text in zip(hours, found)]
    for records_ in (several, several[::-1]):
        mapped = apply(made({"aggregate": take}), stays(*ONE), labs(*records_))
        told, (number,) = mapped.features["crea"], mapped.table.columns["crea"].tolist()
        assert number == wanted if wanted is not None else np.isnan(number)
        assert (told.usable, told.not_a_number, told.bounds.total()) == ((1, 0, 0) if wanted is not None else (0, 1, 1))
    molar = value({}, (1, "KREA", "<100", "µmol/l"), (2, "2160-0", "1.13", "mg/dL"))
    assert molar == 1.13, "100 umol/L are 1.1312 mg/dL, and to the resolution no more than 1.13"
    assert np.isnan(value({}, (1, "KREA", "<100", "µmol/l"), (2, "2160-0", "1.12", "mg/dL")))


Found = tuple[float | None, str, str]
"""Hours after the index, or no moment; a value, and a code system."""
READ: Found = (5, "2", LOINC)
COMMA: Found = (4, "7,5", LOINC)
NO_MOMENT: Found = (None, "3", LOINC)
NO_SYSTEM: Found = (6, "3", "")


def doubtful(take: str, *found: Found, **given_: Any) -> tuple[float, Column]:
    """What is made of such records, and the counts."""
    rows = labs(*((hours or 0, "2160-0", text, "mg/dL") for hours, text, _ in found))
    moments = [when if hours is not None else "" for when, (hours, _, _) in zip(rows.columns["when"], found)]
    made_of = Rows({**rows.columns, "when": moments, "system": [system for *_, system in found]})
    counted = {"unit": "1", "range": [0, 100], "resolution": None, "analyte": None} if take in ("count", "any") else {}
    part = {**MAPPING["records"]["labs"], "system": "system"}
    mapped = apply(made({"aggregate": take, **counted}), stays(*ONE), made_of, records={"labs": part}, **given_)
    return float(mapped.table.columns["crea"][0]), mapped.features["crea"]


@pytest.mark.parametrize(("take", "beside", "wanted"), [
    *((take, bad, None) for take in ("min", "max", "mean") for bad in (COMMA, NO_MOMENT, NO_SYSTEM)),
    ("first", COMMA, None), ("first", NO_MOMENT, None), ("first", NO_SYSTEM, 2.0),
    ("last", COMMA, 2.0), ("last", NO_MOMENT, None), ("last", NO_SYSTEM, None), ("last", (5, "x", LOINC), None),
    ("count", COMMA, 2.0), ("count", NO_MOMENT, None), ("count", NO_SYSTEM, None),
    *(("any", bad, 1.0) for bad in (COMMA, NO_MOMENT, NO_SYSTEM)),
    ("max", (99, "x", LOINC), 2.0), ("max", (99, "3", ""), 2.0), ("max", (None, "3", "urn:ours"), 2.0),
    ("max", (None, "", LOINC), 2.0), ("count", (4, "3", "urn:ours"), 1.0),
])  # fmt: skip
def test_a_record_that_cannot_be_read_and_may_be_the_one_that_counts_leaves_no_value(
    take: str, beside: Found, wanted: float | None
) -> None:
    for found in ((READ, beside), (beside, READ)):
        number, told = doubtful(take, *found)
        assert number == wanted if wanted is not None else np.isnan(number)
        assert (told.usable, told.not_a_number) == ((1, 0) if wanted is not None else (0, 1))
        if wanted is None:
            why = {"3": "moment" if beside[0] is None else "system"}.get(beside[1])
            assert dict(told.unread) == ({why: 1} if why else {})


CLEAN = [str(round(0.7 + n % 13 / 20, 2)) for n in range(40)]
"""Of each patient one value of creatinine, in mg/dL."""
MOLAR = [str(round(88.4 * float(text))) for text in CLEAN]
"""The same in umol/L, whatever is said of them."""


@pytest.mark.parametrize(
    ("feature", "found", "wanted"),
    [
        ({}, [CLEAN], []),
        ({"range": [0, 25], "aggregate": "min"}, [["0"] * 20 + CLEAN[20:]], [("code-for-missing", 20)]),
        ({"range": [0, 25], "aggregate": "max"}, [["0"] * 40, CLEAN], []),
        ({"range": [0, 2000]}, [["999"] * 20 + CLEAN[20:]], [("code-for-missing", 20)]),
        ({}, [["999"] * 20 + CLEAN[20:]], [("code-for-missing", 20)]),
        ({}, [MOLAR], [("unit", 40)]),
        ({"range": [0.1, 300]}, [MOLAR], [("other-unit", 40)]),
        ({"range": [0.1, 300]}, [MOLAR[:20] + CLEAN[20:]], [("other-unit", 40)]),
        ({"range": [0.1, 300], "aggregate": "mean"}, [CLEAN, MOLAR], [("other-unit", 40)]),
        ({"aggregate": "last"}, [CLEAN, ["97"] * 40], [("out-of-range", 40)]),
        ({"aggregate": "mean"}, [CLEAN, ["97"] * 4 + [""] * 36], [("out-of-range", "<10")]),
    ],
)  # fmt: skip
def test_records_are_looked_at_as_columns_are(
    feature: dict[str, Any], found: list[list[str]], wanted: list[tuple[str, int | str]]
) -> None:
    """Each list of `found` is one record of every patient, at the next hour."""
    names = [str(n) for n in range(40)]
    main = stays(*((name, INDEX.isoformat(), str(int(name) % 2)) for name in names))
    rows = [labs(*((hour, "KREA", each[n], "mg/dL") for hour, each in enumerate(found)), patient=name)
            for n, name in enumerate(names)]  # fmt: skip
    together = Rows({name: [text for one in rows for text in one.columns[name]] for name in rows[0].columns})
    contract_ = made({"resolution": 0.01, **feature})
    study = Study.model_validate({
        "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": contract_.model_dump(mode="json"), "model": {"kind": "logistic"}, "rounds": 1, "quorum": 3,
    })  # fmt: skip
    fit = quality.check(study, apply(contract_, main, together)).features[0]
    assert [(one.kind, one.count) for one in fit.findings] == wanted
    blocking = {"code-for-missing", "unit", "out-of-range"} & {kind for kind, count in wanted if count != "<10"}
    assert fit.level == ("problem" if blocking else "note" if wanted else "ok")
    assert all(one.place in ("", "features.crea.missing") for one in fit.findings), "a unit is not the mapping's to say"


def test_of_records_without_a_header_nothing_is_told() -> None:
    table = Rows({name: ["x"] for name in ("p0", "2160-0", "value", "SECRET")})
    with pytest.raises(
        MappingInvalid, match=r"records\.labs: the table has no column '\w+'; .*header: false"
    ) as caught:
        apply(made(), stays(*ONE), table)
    assert "p0" not in str(caught.value) and "SECRET" not in str(caught.value)
    near = Rows({name: ["x"] for name in ("pid", "when", "code", "value", "units")})
    with pytest.raises(MappingInvalid, match="no column 'unit'; did you mean units"):
        apply(made(), stays(*ONE), near)


def test_what_keeps_a_record_from_being_read_can_be_mended_in_the_mapping() -> None:
    assert doubtful("max", READ, NO_SYSTEM, features={"crea": {"records": "labs", "local": ["2160-0"]}})[0] == 3.0
    assert doubtful("max", READ, COMMA, features={"crea": {"records": "labs", "missing": ["7,5"]}})[0] == 2.0
    number, told = doubtful("max", READ, (1, "?", LOINC))
    assert np.isnan(number) and dict(told.placeholders) == {"?": 1}


def test_a_code_of_the_hospitals_own_that_no_record_has_is_told() -> None:
    """As behind a view that was compiled from the contract, which gives records of its codes alone."""
    study = _study(made())
    for code, told in (("KREA", ("CREA-2",)), ("2160-0", ("CREA-2", "KREA"))):
        features = {"crea": {"records": "labs", "local": ["KREA", "CREA-2"]}}
        mapped = apply(made(), stays(*ONE), labs((1, code, "1", "mg/dL")), features=features)
        assert mapped.features["crea"].unused == told
        (finding,) = [one for one in quality.check(study, mapped).findings if one.kind == "unread"]
        assert all(f'"{one}"' in finding.words for one in told) and not finding.blocks


def test_a_patient_without_an_index_moment_has_no_count_of_records() -> None:
    counted = made({"aggregate": "count", "range": [0, 25], **COUNTED})
    mapped = apply(counted, stays(("p", "", "1"), ("q", INDEX.isoformat(), "0")), labs((1, "2160-0", "1", "mg/dL")))
    assert mapped.features["crea"].missing == 1 and mapped.features["crea"].usable == 1
    np.testing.assert_array_equal(mapped.table.columns["crea"], [np.nan, 0.0])


CELLS: dict[str, tuple[list[Lab], str]] = {
    "usable": ([(1, "2160-0", "1.0", "mg/dL")], "usable"),
    "none in the window": ([(99, "2160-0", "1.0", "mg/dL")], "missing"),
    "an unknown code": ([(1, "CREATININ", "1.0", "mg/dL")], "missing"),
    "an empty value": ([(1, "2160-0", "", "mg/dL")], "missing"),
    "out of range": ([(1, "2160-0", "90", "mg/dL")], "out_of_range"),
    "a word": ([(1, "2160-0", "haemolysed", "mg/dL")], "not_a_number"),
    "a word beside a value": ([(1, "2160-0", "haemolysed", "mg/dL"), (2, "2160-0", "1", "mg/dL")], "not_a_number"),
    "a word beside what is out of range": (
        [(1, "2160-0", "haemolysed", "mg/dL"), (2, "2160-0", "90", "mg/dL")],
        "not_a_number",
    ),
    "a word outside of the window": ([(99, "2160-0", "haemolysed", "mg/dL"), (2, "2160-0", "1", "mg/dL")], "usable"),
    "a word without a unit": ([(1, "2160-0", "haemolysed", ""), (2, "2160-0", "1", "mg/dL")], "not_a_number"),
    "an unknown unit beside a known one": ([(1, "2160-0", "1", "mg%"), (2, "2160-0", "1", "mg/dL")], "unit mg%"),
    "no unit": ([(1, "2160-0", "1", "")], "no unit"),
    "a unit of another kind": ([(1, "2160-0", "1", "mm[Hg]")], "unit mm[Hg]"),
}


@pytest.mark.parametrize("name", CELLS)
def test_every_patient_is_counted_once_and_no_wrong_number_is_made(name: str) -> None:
    found, what = CELLS[name]
    mapped = apply(made(), stays(*ONE), labs(*found))
    told = mapped.features["crea"]
    counts = {kind: getattr(told, kind) for kind in ("usable", "missing", "out_of_range", "not_a_number")}
    assert counts == {kind: int(kind == what) for kind in counts}
    assert dict(told.unmapped) == ({} if what in counts else {what: 1})
    assert np.isnan(mapped.table.columns["crea"][0]) == (what != "usable")


def test_codes_are_those_of_their_system_or_mean_it_by_a_concept_map(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    element = {"code": "0042", "target": [{"code": "2160-0", "equivalence": "equivalent"}]}
    wider = {"code": "0043", "target": [{"code": "2160-0", "equivalence": "wider"}]}
    group = {"source": "urn:lab", "target": LOINC, "element": [element, wider]}
    path.write_text(json.dumps({"resourceType": "ConceptMap", "group": [group]}))
    means = systems.concepts(path, "records.labs.concept_map")
    assert value({}, (1, "0042", "1.5", "mg/dL"), means=means) == 1.5
    assert np.isnan(value({}, (1, "0043", "1.5", "mg/dL"), means=means)), "a wider concept is another one"
    part = {**MAPPING["records"]["labs"], "system": "system"}
    oid = "2.16.840.1.113883.6.1"
    others = (("urn:lab", False), ("SNOMED", False), (f"{oid}9", False), ("urn:oid:1.2", False))
    others += (("https://loinc.org", True), ("http://loinc.org/", True), ("http://loinc.org/x", False))
    for system, fits in ((LOINC, True), ("LOINC", True), (oid, True), (f"urn:oid:{oid}", True), *others):
        found = labs((1, "2160-0", "1.5", "mg/dL"))
        rows = Rows({**found.columns, "system": [system]})
        told = apply(made(), stays(*ONE), rows, records={"labs": part}).features["crea"]
        assert told.usable == fits, system
    path.write_text("{}")
    with pytest.raises(MappingInvalid, match=r"map\.json"):
        systems.concepts(path, "records.labs.concept_map")


@pytest.mark.parametrize("system", ["https://loinc.org/", "urn:oid:2.16.840.1.113883.6.1"])
def test_a_system_of_the_contract_or_of_a_concept_map_may_be_spelt_otherwise_too(system: str, tmp_path: Path) -> None:
    wanted = {"codes": [{"system": system, "code": "2160-0"}]}
    part = {**MAPPING["records"]["labs"], "system": "system"}
    element = {"code": "0042", "target": [{"code": "2160-0", "equivalence": "equal"}]}
    group = [{"source": "https://ours.org/lab/", "target": f"{LOINC}/", "element": [element]}]
    (tmp_path / "map.json").write_text(json.dumps({"resourceType": "ConceptMap", "group": group}))
    means = systems.concepts(tmp_path / "map.json", "records.labs.concept_map")
    for code, own in (("2160-0", LOINC), ("0042", "http://ours.org/lab")):
        rows = Rows({**labs((1, code, "1.5", "mg/dL")).columns, "system": [own]})
        assert apply(made(wanted), stays(*ONE), rows, means, records={"labs": part}).features["crea"].usable == 1


@pytest.mark.parametrize(("gone", "kind", "blocks", "words"), [
    ({"pid": None}, "unread", True, "no key of a patient"), ({"pid": " "}, "unread", True, "no key of a patient"),
    ({"code": ""}, "unread", True, "no code"), ({"pid": "P1"}, "of-nobody", False, "50% of the records are of nobody"),
])  # fmt: skip
@pytest.mark.parametrize("take", ["any", "count"])
def test_records_of_which_nobody_knows_whose_or_of_what_they_are_are_told(
    take: str, gone: dict[str, str | None], kind: str, blocks: bool, words: str
) -> None:
    """Half of the patients have a 0 for it."""
    features = {"crea": {"records": "labs"}}
    wanted = made({**COUNTED, "aggregate": take, "range": [0, 9]})
    main = stays(*((f"p{n}", INDEX.isoformat(), str(n % 2)) for n in range(40)))
    columns = {"pid": [f"p{n}" for n in range(40)], "when": [INDEX.isoformat()] * 40, "code": ["2160-0"] * 40,
               "value": ["1"] * 40, "unit": ["mg/dL"] * 40}  # fmt: skip
    whole = quality.check(_study(wanted), apply(wanted, main, Rows(dict(columns)), features=features))
    assert not [one for one in whole.findings if one.kind in ("unread", "of-nobody")]
    for name, text in gone.items():
        columns[name] = [*([text] * 20), *columns[name][20:]]
    mapped = apply(wanted, main, Rows(dict(columns)), features=features)
    assert mapped.table.columns["crea"].mean() == 0.5
    (finding,) = [one for one in quality.check(_study(wanted), mapped).findings if one.kind in ("unread", "of-nobody")]
    assert (finding.kind, finding.count, finding.blocks, finding.where) == (kind, 20, blocks, "")
    assert words in finding.words and "records.labs" in finding.words and "P1" not in str(finding)


def test_one_entry_of_each_patient_counts_whose_label_is_old_enough_and_who_is_not_excluded() -> None:
    wanted = made(
        label={"id": "died", "meaning": "died", "type": "binary", "maturity_days": 30},
        exclude=[{"feature": "crea", "above": 5}],
    )
    rows = stays(
        ("b", "2030-05-01T12:00:00", "1"), ("b", "2030-04-01T12:00:00", "0"), ("a", "2030-05-01T12:00:00", "0"),
        ("young", "2030-12-03T00:00:00", "1"), ("old", "2030-12-01T23:00:00", "1"), ("none", "2030-05-01", ""),
    )  # fmt: skip
    sick = labs((1, "2160-0", "7.5", "mg/dL"), patient="a")
    found = apply(wanted, rows, sick)
    left = {"opted_out": 0, "other_entries": 1, "immature": 1, "excluded": 1, "unordered": 0, "unsolved": 0}
    assert vars(found.left) == left
    assert (found.read, found.without_label, found.table.label.tolist()) == (5, 1, [0.0, 1.0]), "b's first, and old"
    last = made(index={"meaning": "admission", "entry": "last"})
    assert (
        apply(last, stays(*(("b", *row) for row in (("2030-05-01", "1"), ("2030-04-01", "0")))), labs()).table.label
        == 1
    )
    for bad in (("p", "2030-05-01T12:00:00", "1"), ("p", "2030-05-01", "1")):
        with pytest.raises(DataUnusable, match="without a moment each of its own"):
            apply(wanted, stays(*ONE, bad), sick)


def hospital(folder: Path, out: str | None) -> Path:
    (folder / "stays.csv").write_text("pid,at,died\n" + "".join(f"p{n},2030-05-01T00:00,{n % 2}\n" for n in range(40)))
    (folder / "labs.csv").write_text("pid,when,code,value,unit\n" + "p3,2030-05-01T01:00,KREA,1.5,mg/dL\n")
    (folder / "out.txt").write_text(out or "")
    mapping = {**MAPPING, **({} if out is None else {"opt_out": {"path": "out.txt"}})}
    (folder / "mapping.yaml").write_text(json.dumps(mapping))
    return folder / "mapping.yaml"


def _study(wanted: Contract) -> Study:
    return Study.model_validate({
        "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": wanted.model_dump(mode="json"), "model": {"kind": "logistic"}, "rounds": 1, "quorum": 3,
    })  # fmt: skip


@pytest.mark.parametrize(("told", "wanted"), [
    (("2030-05-01T08:00", "2030-05-01", "2030-04-30"), {"first": "2030-04-30", "last": None}),
    (("2030-05-01T08:00", "2030-05-01T08:00", "2030-05-01T09:00"), {"first": None, "last": "2030-05-01T09:00"}),
    (("2030-05-01T09:00", "2030-05-02", "2030-05-01T08:00"), {"first": "2030-05-01T08:00", "last": "2030-05-02"}),
])  # fmt: skip
def test_which_entry_counts_hangs_on_no_order_of_the_rows(told: tuple[str, ...], wanted: dict[str, str | None]) -> None:
    """What is refused is that two may be the one that counts, and not that two others are of one day."""
    for entry, text in wanted.items():
        for several in permutations(told):
            if text is None:
                with pytest.raises(DataUnusable, match="several rows without a moment each of its own"):
                    choosing.entries(["p"] * 3, list(several), entry)
            else:
                assert [several[row] for row in choosing.entries(["p"] * 3, list(several), entry).rows] == [text]


def test_who_opted_out_is_in_nothing_and_the_list_counts_anew_before_every_round(tmp_path: Path) -> None:
    study = _study(made())
    path = hospital(tmp_path, "# who asked us\np3\n\n p39 \nelsewhere\n")
    found = tables.mapped(study, path)
    assert (found.read, found.left.opted_out, found.features["crea"].usable) == (38, 2, 0)
    before = tables.stamp(path)
    (tmp_path / "out.txt").write_text("p1\n")
    os.utime(tmp_path / "out.txt", ns=(1, 1))
    assert tables.stamp(path) != before and tables.mapped(study, path).left.opted_out == 1
    (tmp_path / "out.txt").unlink()
    with pytest.raises(DataUnusable, match="opt-out"):
        tables.mapped(study, path)
    with pytest.raises(DataUnusable, match="opt-out"):
        tables.stamp(path)


def numbered(folder: Path, kind: str) -> Path:
    """Forty patients whose keys are the numbers from 0 on, in a column of doubles."""
    path = hospital(folder, "00001\n2\n 3.0 \n1234567890123456789012\n")
    (folder / "labs.csv").write_text("pid,when,code,value,unit\n4.0,2030-05-01T01:00,KREA,1.5,mg/dL\n")
    if kind == "parquet":
        picked = "CAST(n AS DOUBLE) AS pid, '2030-05-01' AS at, n % 2 AS died FROM range(40) AS r(n)"
        with duckdb.connect() as database:
            database.execute(f"COPY (SELECT {picked}) TO '{folder / 'stays.parquet'}' (FORMAT parquet)")
        source = {"type": "parquet", "path": "stays.parquet"}
    else:
        with closing(sqlite3.connect(folder / "stays.db")) as database:
            database.execute("CREATE TABLE stays (pid REAL, at TEXT, died INTEGER)")
            rows = [(float(n), "2030-05-01", n % 2) for n in range(40)]
            database.executemany("INSERT INTO stays VALUES (?, ?, ?)", rows)
            database.commit()
        source = {"type": "sql", "url": "sqlite:///stays.db", "query": "SELECT * FROM stays"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "source": source}))
    return path


@pytest.mark.parametrize("kind", ["parquet", "sql"])
def test_a_number_in_the_list_is_the_patient_whose_key_is_that_number_in_a_column_of_doubles(
    kind: str, tmp_path: Path
) -> None:
    found = tables.mapped(_study(made()), numbered(tmp_path, kind))
    assert (found.read, found.left.opted_out, found.listed) == (37, 3, 4)


@pytest.mark.parametrize("line", [
    "p1;opted out 2024", "p1,yes", "p1\tyes", '"p1"', "p1 # asked by phone", "p1#", "'p1'", "\u201ep1\u201c",
    "p1\u200b", "p\u00ad1", "p\x0b1", "p1\u2028p2", "p1\x00",
])  # fmt: skip
def test_a_list_that_is_a_table_is_refused_by_its_line_and_without_its_words(line: str, tmp_path: Path) -> None:
    path = hospital(tmp_path, f"# asked\np3\n{line}\n")
    with pytest.raises(DataUnusable, match="line 3 of the opt-out list") as told:
        tables.mapped(_study(made()), path)
    assert "p1" not in str(told.value) and "one key on each line" in told.value.remedy


@pytest.mark.parametrize(
    "line", ["P4", "p-4", "p04", "p4.", "\uff504", "p\u20114", "p4 asked by phone", "(p4)", "P 004"]
)
def test_a_key_that_is_almost_one_of_the_list_stops_everything_unless_a_person_says_that_it_is_another(
    line: str, tmp_path: Path
) -> None:
    """One good key in the list says nothing of how the others are spelt."""
    path = hospital(tmp_path, f"# asked\np3\n{line}\n")
    with pytest.raises(DataUnusable, match=r"<10 keys of the list, .* in column 'pid'.* on line 3;") as told:
        tables.mapped(_study(made()), path)
    assert "others_alike" in told.value.remedy and "4" not in told.value.message.removeprefix("opt_out")
    mapping = json.loads(path.read_text())
    path.write_text(json.dumps({**mapping, "opt_out": {"path": "out.txt", "others_alike": True}}))
    assert tables.mapped(_study(made()), path).left.opted_out == 1


def test_keys_that_are_no_patients_of_this_table_and_like_none_of_it_are_no_fault(tmp_path: Path) -> None:
    path = hospital(tmp_path, "p3\np44\nq4\n4p\np\n-\np4444\n")
    assert tables.mapped(_study(made()), path).left.opted_out == 1


def test_of_two_patients_with_keys_that_are_almost_one_the_other_is_no_fault(tmp_path: Path) -> None:
    path = hospital(tmp_path, "p3\n")
    stays = (tmp_path / "stays.csv").read_text()
    (tmp_path / "stays.csv").write_text(stays.replace("p39", "P3"))
    assert tables.mapped(_study(made()), path).left.opted_out == 1


def test_a_list_of_which_nobody_is_found_stops_everything_unless_a_person_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hospital(tmp_path, "P3\n")
    with pytest.raises(DataUnusable, match=r"none of the <10 keys of the list is in column 'pid'") as told:
        tables.mapped(_study(made()), path)
    assert "nobody_here" in told.value.remedy and "P3" not in str(told.value)
    mapping = json.loads(path.read_text())
    path.write_text(json.dumps({**mapping, "opt_out": {"path": "out.txt", "nobody_here": True}}))
    for out, line in (("P3\n", "opted out: 0 patients of this table, by a list of <10"),
                      ("".join(f"p{n}\n" for n in range(12)), "opted out: 12 patients of this table, by a list of 12"),
                      ("", "opted out: 0 patients of this table, by a list of 0")):  # fmt: skip
        (tmp_path / "out.txt").write_text(out)
        showing.report(tables.check(_study(made()), path))
        assert line in capsys.readouterr().out
    showing.report(tables.check(_study(made()), hospital(tmp_path, None)))
    assert "opted out" not in capsys.readouterr().out


@pytest.mark.parametrize(("changes", "words"), [
    ({"index": None}, "index: say"), ({"features": {"crea": {"records": "lab"}}}, "'lab' is none of"),
    ({"patient": {"row": True}}, "patient.column"),
    ({"records": {"labs": {**MAPPING["records"]["labs"], "value": None}}}, "records.labs.value"),
])  # fmt: skip
def test_a_mapping_that_lacks_what_version_2_needs_is_told_so(changes: dict[str, Any], words: str) -> None:
    told = _problems(Mapping.model_validate({**MAPPING, **changes}), made())
    assert any(one.startswith(words) or words in one for one in told)
    mature = made(label={"id": "died", "meaning": "died", "type": "binary", "maturity_days": 30})
    assert any(one.startswith("as_of") for one in _problems(Mapping.model_validate({**MAPPING, "as_of": None}), mature))


def test_offsets_in_minutes_need_no_index_moment() -> None:
    part = {**MAPPING["records"]["labs"], "time": None, "offset": "when"}
    rows = Rows({**labs((0, "2160-0", "1.5", "mg/dL"), (0, "2160-0", "3", "mg/dL")).columns, "when": ["1440", "1441"]})
    assert apply(made(), stays(*ONE), rows, records={"labs": part}).table.columns["crea"][0] == 1.5


def test_the_list_of_who_opted_out_is_read_as_people_write_it(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes("a\r\n # no\n\n ä b \n".encode())
    assert choosing.opted_out(tmp_path / "out") == {"a": 1, "ä b": 4}
    (tmp_path / "out").write_bytes(b"\xef\xbb\xbfa\nb\n# no")  # as Excel writes it
    assert choosing.opted_out(tmp_path / "out") == {"a": 1, "b": 2}
    for cut in (b"\xff\xfe\xff", b"p1\np1"):  # p1, or the half of p10
        (tmp_path / "out").write_bytes(cut)
        with pytest.raises(DataUnusable, match="nothing is read without it"):
            choosing.opted_out(tmp_path / "out")
    (tmp_path / "out").write_bytes(b"")
    assert choosing.opted_out(tmp_path / "out") == {}


MIXED = ["2030-05-01T12:00:00", "2030-05-01T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]


@pytest.mark.parametrize("entry", ["first", "last"])
def test_of_entries_that_cannot_be_compared_none_counts_and_the_others_are_read(entry: str) -> None:
    """Of which some have a zone, or which are in no year of UTC; a day apart they can be."""
    wanted = made(
        index={"meaning": "admission", "entry": entry},
        label={"id": "died", "meaning": "died", "type": "binary", "maturity_days": 30},
    )
    others = [(f"r{n}", INDEX.isoformat(), "1") for n in range(12)]
    for one, other in permutations(MIXED, 2):
        mapped = apply(wanted, stays(("p", one, "0"), ("p", other, "0"), *others), labs())
        assert (mapped.left.unordered, mapped.read) == (1, 12)
    for order in permutations(("2030-05-02T12:00:00", "2030-05-01T12:00:00Z", "2030-05-04T00:00:00+02:00")):
        mapped = apply(wanted, stays(*(("p", one, "0") for one in order), *others), labs())
        assert (mapped.left.unordered, mapped.read, mapped.left.other_entries) == (0, 13, 2)


@pytest.mark.parametrize(("index", "take", "found", "wanted"), [
    ("2030-05-01T12:00Z", "max", ("2030-05-01T12:00", "2030-05-01T12:00Z"), None),
    ("2030-05-01T12:00", "max", ("2030-05-01T12:00Z",), None),
    ("2030-05-01T12:00Z", "max", ("2030-05-05T12:00", "2030-05-01T13:00Z"), 2.0),
    ("2030-05-01T12:00Z", "any", ("2030-05-02T12:00", "2030-05-01T12:00+02:00"), 1.0),
    ("2030-05-01T12:00Z", "last", ("2030-05-01T22:00", "2030-05-02T14:00Z"), 2.0),
    ("2030-05-01T12:00Z", "last", ("2030-05-01T22:00", "2030-05-02T09:00Z"), None),
    ("2030-05-01", "last", ("2030-05-01T10:00", "2030-05-01T09:00Z"), None),
    ("2030-05-01", "first", ("2030-05-01T10:00+02:00", "2030-05-01T09:00Z"), None),
    ("2030-05-01", "last", ("2030-05-01T10:00+02:00", "2030-05-01T10:00Z"), None),
    ("2030-05-01", "first", ("2030-05-01T10:00+02:00", "2030-05-01T11:00Z"), 1.0),
    ("2030-05-01", "max", ("2030-05-01T10:00", "2030-05-01T09:00Z"), 2.0),
])  # fmt: skip
def test_moments_with_and_without_a_time_zone_give_no_wrong_number_and_end_no_reading(
    index: str, take: str, found: tuple[str, ...], wanted: float | None
) -> None:
    """Values are 1, 2 and so on; of others all have their zone, and are read."""
    rows = labs(*((0, "2160-0", str(number), "mg/dL") for number in range(1, len(found) + 1)))
    fine = [labs((0, "2160-0", "1", "mg/dL"), patient=f"q{n}") for n in range(12)]
    both = {name: rows.columns[name] + [one.columns[name][0] for one in fine] for name in rows.columns}
    both["when"] = [*found, *["2030-05-01T12:00Z"] * len(fine)]
    counted = COUNTED if take == "any" else {}
    window = ["0d", "1d"] if index == "2030-05-01" else ["-6h", "30h"]
    of = made({"window": window, "aggregate": take, "range": [0, 25], **counted})
    whole = stays(("p", index, "1"), *((f"q{n}", "2030-05-01T12:00Z", "0") for n in range(12)))
    mapped = apply(of, whole, Rows(both))
    told, (number, *others) = mapped.features["crea"], mapped.table.columns["crea"].tolist()
    assert others == [1.0] * 12 and (number == wanted if wanted is not None else np.isnan(number))
    why = "day" if all("Z" in one or "+" in one for one in found) and index == "2030-05-01" else "zone"
    assert dict(told.unread) == ({} if wanted is not None else {why: 1})
    shown = [one for one in quality.check(_study(of), mapped).findings if one.kind == "unread" and one.count]
    assert [one.count for one in shown] == (["<10"] if wanted is None else [])
    assert why == "day" or all("time zone" in one.words and "zone" in one.remedy for one in shown)


CLOCKS = st.datetimes(datetime(2030, 5, 1), datetime(2030, 5, 3)).map(lambda when: when.replace(microsecond=0))
OFFSETS = st.integers(-12 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


@settings(max_examples=60, deadline=None)
@given(CLOCKS, OFFSETS, CLOCKS, OFFSETS, st.integers(-30, 30), st.integers(0, 40), st.booleans())
def test_what_is_said_of_moments_without_their_zone_is_so_in_whatever_zone(
    here: datetime, one: timezone, there: datetime, other: timezone, since: int, lasts: int, first: bool
) -> None:
    when, index = here.replace(tzinfo=one), there.replace(tzinfo=other)
    bare = (here, index) if first else (when, there)
    window = (f"{since}h", f"{since + lasts}h")
    assert moments.inside(window, *bare) in (None, moments.inside(window, when, index))
    assert moments.sooner(*bare) in (None, when < index)
    place, true = moments.placed(*bare), moments.between(when, index)
    assert place.after <= true <= place.until and place.day == here.date()


@pytest.mark.parametrize("when", ["nan", "inf", "-inf", "1_0", "1e999", "x"])
def test_offsets_that_are_no_numbers_are_a_finding(when: str) -> None:
    part = {**MAPPING["records"]["labs"], "time": None, "offset": "when"}
    rows = Rows({**labs((0, "2160-0", "1.5", "mg/dL")).columns, "when": [when]})
    with pytest.raises(DataUnusable, match="some are no numbers"):
        apply(made({"window": [None, None]}), stays(*ONE), rows, records={"labs": part})


def test_keys_that_match_nobody_are_found_beside_a_list_of_who_opted_out() -> None:
    """One who opted out and is in the records says nothing of how the others' keys are spelt."""
    of = lambda *keys, left: SimpleNamespace(  # noqa: E731
        rows=Rows({"pid": list(keys)}, left_out=left),
        part=SimpleNamespace(patient="pid", keys=None),
        where="records.labs",
    )
    with pytest.raises(DataUnusable, match="none of its records is of a patient"):
        belonging.of_patients(cast(Any, of("8", "9", left=1)), {"1", "2"})
    belonging.of_patients(cast(Any, of(left=1)), {"1", "2"})
    belonging.of_patients(cast(Any, of("2", "9.0", left=1)), {"1", "2"})


def test_a_letter_with_an_accent_is_one_however_it_is_written() -> None:
    """As one sign, or as a letter and an accent, which files from macOS have."""
    one, two = "Zo\u00eb", "Zoe\u0308"
    mapped = apply(made(), stays((one, INDEX.isoformat(), "1")), labs((1, "2160-0", "2", "mg/dL"), patient=two))
    assert mapped.table.columns["crea"].tolist() == [2.0]
    assert choosing.key(one) == choosing.key(two)
    with pytest.raises(DataUnusable, match="without a moment each of its own"):
        apply(made(), stays(*((patient, INDEX.isoformat(), "1") for patient in (one, two))), labs())


def test_a_mean_of_large_numbers_is_one() -> None:
    found = apply(
        made({"aggregate": "mean", "range": [0, 1.7e308], "resolution": None}), stays(*ONE),
        labs((0, "2160-0", "1e308", "mg/dL"), (1, "2160-0", "1.5e308", "mg/dL")),
    )  # fmt: skip
    assert found.table.columns["crea"].tolist() == [1.25e308]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "records.labs: there is no record in it"),
        ("3,2030-05-01T01:00,KREA,1,mg/dL\n", "none of its records is of"),
    ],
)
def test_records_of_nobody_are_a_finding_and_no_count_of_0(tmp_path: Path, lines: str, said: str) -> None:
    """As when the table came without its rows, or keys are spelt in another way since last night."""
    study = _study(made({"aggregate": "count", "range": [0, 25], **COUNTED}))
    path = hospital(tmp_path, None)
    assert tables.mapped(study, path).table.columns["crea"].sum() == 1
    (tmp_path / "labs.csv").write_text("pid,when,code,value,unit\n" + lines)
    with pytest.raises(DataUnusable, match=said):
        tables.mapped(study, path)


def keyed(written: list[str], **more: str) -> Records:
    part = Mapping.model_validate(MAPPING).records["labs"].model_copy(update=more)
    several = [labs((1, "2160-0", "1", "mg/dL"), patient=key) for key in written]
    rows = Rows({name: [one.columns[name][0] for one in several] for name in several[0].columns})
    return Records(part, rows, "records.labs")


PATIENTS = frozenset((*(str(n) for n in range(40)), "K-77", "\u00c4-1"))


@pytest.mark.parametrize(("keys", "told"), [
    ([*"12", "99.0"], ""), (["1", *(f"{n}.0" for n in range(2, 16))], "14"), (["1", "02"], "<10"),
    (["1", " 12 "], ""), (["1", "12", "012"], "<10"), (["1", "k77"], "<10"), (["1", "K-077"], "<10"),
    (["1", "k-77 "], "<10"), (["1", "\u00e41"], "<10"), (["1", "K-78"], ""), (["1", "-", ""], ""),
])  # fmt: skip
def test_keys_that_are_a_patients_but_for_how_they_are_written_end_the_reading_or_join(
    keys: list[str], told: str
) -> None:
    """As where one table is of numbers and the other of text; keys that nobody of the table has are others."""
    exact = belonging.of_patients(keyed(keys, keys="exact"), PATIENTS)
    assert exact.rows.columns["pid"] == keys
    joined = belonging.of_patients(keyed(keys, keys="alike"), PATIENTS).rows.columns["pid"]
    mended = [one for one, before in zip(joined, keys, strict=True) if choosing.spelt(before) not in PATIENTS]
    assert {choosing.folded(choosing.key(one)) for one in joined} == {
        choosing.folded(choosing.key(one)) for one in keys
    }
    if not told:
        assert belonging.of_patients(keyed(keys), PATIENTS).rows.columns["pid"] == keys == joined
        return
    assert mended and PATIENTS.issuperset(mended)
    with pytest.raises(DataUnusable, match=f"records.labs: {told} keys of its column 'pid' .* do not meet") as error:
        belonging.of_patients(keyed(keys), PATIENTS)
    assert "77" not in str(error.value)


def test_a_key_that_is_alike_to_those_of_two_patients_is_joined_to_neither() -> None:
    with pytest.raises(DataUnusable, match="several patients"):
        belonging.of_patients(keyed(["A1", "a-1"], keys="alike"), frozenset(("A1", "a1")))
    with pytest.raises(DataUnusable, match="several patients"):  # the other one opted out
        belonging.of_patients(keyed(["A1", "a-1"], keys="alike"), frozenset(("A1",)), frozenset(("a1",)))


@pytest.mark.parametrize(("code", "system", "why"), [
    ("2160-0^LN", "", "beside"), ("2160-0^Creatinine^LN", LOINC, "beside"), ("LN:2160-0", "", "beside"),
    ("loinc|2160-0", "", "beside"), ("2160-0 ", LOINC, ""), ("2160-0", "", "system"), ("2160-0", "urn:ours", None),
    ("2160-0^LN", "urn:ours", None), ("12160-0^LN", "", None), ("2160-0.1", "", None),
])  # fmt: skip
@pytest.mark.parametrize("part", [{}, {"system": "system"}])
def test_a_code_of_the_contract_with_more_beside_it_is_a_finding_and_no_other_code(
    code: str, system: str, why: str | None, part: dict[str, str]
) -> None:
    """As HL7 v2 writes it. Another record has the code alone: the patient would have its value, and no other."""
    if not part and (system or why == "system"):
        return
    found = labs((1, "2160-0", "1.0", "mg/dL"), (2, code, "9.0", "mg/dL"))
    rows = Rows({**found.columns, "system": [LOINC, system]})
    wanted, changed = made(), {"records": {"labs": {**MAPPING["records"]["labs"], **part}}}
    features = {"crea": {"records": "labs"}}
    mapped = apply(wanted, stays(*ONE), rows, **changed, features=features)
    value, told = mapped.table.columns["crea"][0], mapped.features["crea"]
    if why:
        assert np.isnan(value) and told.unread == {why: 1} and told.not_a_number == 1
        (finding,) = [one for one in quality.check(_study(wanted), mapped).findings if one.kind == "unread"]
        assert "`local`" in finding.remedy and ("beside" in finding.words) == (why == "beside")
    else:
        assert value == (1.0 if why is None else 9.0) and not told.unread
    known = apply(wanted, stays(*ONE), rows, **changed, features={"crea": {"records": "labs", "local": [code.strip()]}})
    assert known.table.columns["crea"][0] == 9.0


HOURS, DAYS = ("-6h", "24h"), ("-1d", "0d")


@pytest.mark.parametrize(("window", "take", "found", "wanted"), [
    (("-1d", "1d"), "max", ("2030-04-30", "2030-05-02", "2030-05-03"), 2.0), (HOURS, "max", ("2030-05-01",), None),
    (HOURS, "max", ("2030-05-02", "2030-05-01T13:00"), None), (HOURS, "any", ("2030-05-02",), None),
    (HOURS, "any", ("2030-05-02", "2030-05-01T13:00"), 1.0), (HOURS, "max", ("2030-04-29",), None),
    (("-36h", "36h"), "max", ("2030-05-01",), 1.0), (DAYS, "last", ("2030-05-01", "2030-05-01"), 2.0),
    (DAYS, "last", ("2030-05-01", "2030-05-01T08:00"), None), (DAYS, "last", ("2030-04-30T14:00", "2030-05-01"), 2.0),
    (DAYS, "first", ("2030-04-30", "2030-05-01T08:00"), 1.0), (DAYS, "max", ("2030-05-01", "2030-05-01T13:00"), 1.0),
])  # fmt: skip
def test_a_date_is_a_day_and_no_midnight(
    window: tuple[str, str], take: str, found: tuple[str, ...], wanted: float | None
) -> None:
    """The index is at noon; values are 1, 2 and so on."""
    rows = labs(*((0, "2160-0", str(number), "mg/dL") for number in range(1, len(found) + 1)))
    counted = {"unit": "1", "resolution": None, "analyte": None} if take == "any" else {}
    of = made({"window": window, "aggregate": take, **counted})
    mapped = apply(of, stays(*ONE), Rows({**rows.columns, "when": list(found)}))
    told, (number,) = mapped.features["crea"], mapped.table.columns["crea"].tolist()
    assert number == wanted if wanted is not None else np.isnan(number)
    away = found == ("2030-04-29",)
    assert dict(told.unread) == ({} if wanted is not None or away else {"day": 1}) and told.missing == away


@pytest.mark.parametrize("text", ["<5", "5,5"])
@pytest.mark.parametrize(("take", "good", "bad", "wanted"), [
    ("last", "2030-05-01T08:00", "2030-05-01", None), ("first", "2030-05-01", "2030-05-01T08:00", None),
    ("first", "2030-05-01T08:00", "2030-05-01", None), ("last", "2030-05-01", "2030-05-01T08:00", None),
    ("last", "2030-05-01", "2030-04-30T23:00", 2.0), ("first", "2030-04-30T23:00", "2030-05-01", 2.0),
])  # fmt: skip
def test_of_a_day_without_a_time_what_cannot_be_read_may_be_the_first_or_the_last(
    take: str, good: str, bad: str, wanted: float | None, text: str
) -> None:
    rows = labs(*((0, "2160-0", value, "mg/dL") for value in ("2", text)))
    mapped = apply(made({"aggregate": take, "window": DAYS}), stays(*ONE), Rows({**rows.columns, "when": [good, bad]}))
    told, (number,) = mapped.features["crea"], mapped.table.columns["crea"].tolist()
    assert number == wanted if wanted is not None else np.isnan(number)
    assert (told.usable, told.not_a_number) == ((1, 0) if wanted is not None else (0, 1))


def test_an_index_without_a_time_of_day_has_windows_of_days_alone() -> None:
    found = labs((1, "2160-0", "1.5", "mg/dL"))
    for window, wanted in ((["0d", "0d"], 1.5), (["-6h", "24h"], np.nan)):
        mapped = apply(made({"window": window}), stays(("p", "2030-05-01", "1")), found)
        np.testing.assert_equal(mapped.table.columns["crea"], [wanted])
    same_day = stays(("p", "2030-05-01", "1"), ("p", "2030-05-01T13:00:00", "0"))
    with pytest.raises(DataUnusable, match="without a moment each of its own"):
        apply(made(), same_day, found)
    zoned = stays(("p", "2030-05-01T12:00:00+02:00", "1"))
    dated = Rows({**found.columns, "when": ["2030-05-01"]})
    assert apply(made({"window": ["0d", "0d"]}), zoned, dated).table.columns["crea"] == [1.5], (
        "in the zone of the index"
    )


@pytest.mark.parametrize(("window", "take", "found", "wanted"), [
    (("-40d", "40d"), "max", ("2030-05", "2030-05-01"), 2.0), (("-40d", "0d"), "max", ("2030-04", "2030-06"), 1.0),
    (("-40d", "0d"), "max", ("2030-05", "2030-05-01"), None), ((None, None), "max", ("2030", "2030-05"), 2.0),
    ((None, None), "any", ("2030-05",), 1.0), (DAYS, "max", ("2030-04-30", "2029", "2031"), 1.0),
    (DAYS, "any", ("2030-05", "2030-05-01"), 1.0), (DAYS, "max", ("2030-05-01T13:00", "2030-05-01", "soon"), None),
    ((None, None), "last", ("2030-06-01", "2030-05"), 1.0), ((None, None), "last", ("2030-05-31", "2030-05"), None),
    ((None, None), "first", ("2030-05-01", "2030-05"), None), ((None, None), "first", ("2030-04-30", "2030-05"), 1.0),
    ((None, None), "first", ("2030-04-30", "2030-05-01T25:00"), None), (DAYS, "count", ("2030-05-01", "2030"), None),
])  # fmt: skip
def test_a_month_is_its_days_and_what_cannot_be_read_may_be_any(
    window: Any, take: str, found: tuple[str, ...], wanted: float | None
) -> None:
    """The index is on the first of May; of another patient all can be read, and is."""
    rows = labs(*((0, "2160-0", str(number), "mg/dL") for number in range(1, len(found) + 1)))
    others = labs((0, "2160-0", "1", "mg/dL"), patient="q")
    both = {name: rows.columns[name] + others.columns[name] for name in rows.columns}
    both["when"] = [*found, "2030-05-01T12:00"]
    counted = {"unit": "1", "resolution": None, "analyte": None} if take in ("any", "count") else {}
    of = made({"window": list(window), "aggregate": take, "range": [0, 25], **counted})
    mapped = apply(of, stays(*ONE, ("q", INDEX.isoformat(), "0")), Rows(both))
    told, (number, other) = mapped.features["crea"], mapped.table.columns["crea"].tolist()
    assert other == 1.0 and (number == wanted if wanted is not None else np.isnan(number))
    assert told.not_a_number == told.unread.total() == (wanted is None)
    assert set(told.unread) <= {"date" if {"soon", "2030-05-01T25:00"} & set(found) else "month"}


def test_index_moments_of_which_the_day_is_not_known_have_no_window_and_are_counted() -> None:
    study = _study(made(label={"id": "died", "meaning": "died", "type": "binary", "maturity_days": 30}))
    vague = [(f"v{n}", ("2030-05", "2030", "01.05.2030")[n % 3], "1") for n in range(30)]
    rows = stays(*ONE, *vague, ("young", "2030-12", "1"))
    found = [labs((1, "2160-0", "1.5", "mg/dL"), patient=patient) for patient in ("p", "v0", "young")]
    both = Rows({name: [one for each in found for one in each.columns[name]] for name in found[0].columns})
    mapped = apply(study.contract, rows, both)
    told = mapped.features["crea"]
    assert (told.usable, told.missing, told.not_a_number, dict(told.unread)) == (1, 0, 31, {"index": 31})
    assert mapped.left.immature == 21, "so may a year be that ended a day before, and what cannot be read"
    (finding,) = [one for one in quality.check(study, mapped).findings if one.kind == "unread" and one.count]
    assert finding.blocks and finding.count == "hidden", "for fewer than ten are left who have a value"
    assert "month or a year" in finding.words
    with pytest.raises(DataUnusable, match="index moments are not ISO 8601"):
        apply(study.contract, stays(*(("p", f"0{n}.05.2030", "1") for n in range(1, 9))), both)


@pytest.mark.parametrize("entry", ["first", "last"])
def test_of_several_entries_one_counts_where_it_is_the_one_whatever_the_others_are(entry: str) -> None:
    """And in whatever order they stand; else the patient is left out, and counted."""
    study = _study(made(index={"meaning": "admission", "entry": entry}))
    sure = {"first": ("2030-03", "2030-05-02", "2031"), "last": ("2029", "2030-03-31", "2030-04")}[entry]
    open_ = {"first": ("2030-05", "2030-05-02"), "last": ("2030-05", "2030-05-01")}[entry]
    others = [(f"r{n}", INDEX.isoformat(), "1") for n in range(12)]
    for several, left in ((sure, 0), (open_, 1), (("", "2030-01-01"), 1), (("soon", "2030-01-01"), 1)):
        for order in (several, several[::-1]):
            mapped = apply(study.contract, stays(*(("q", when, "0") for when in order), *ONE, *others), labs())
            assert (mapped.left.unordered, mapped.read) == (left, 14 - left)
            assert mapped.left.other_entries == (0 if left else len(several) - 1)
            told = [one for one in quality.check(study, mapped).findings if one.kind == "unread" and not one.where]
            assert [one.count for one in told] == ["<10"] * left and not any(one.blocks for one in told)


def test_a_code_that_changed_overnight_is_told() -> None:
    """Of a count nothing else tells that no record has the code any more: it is 0 for everybody."""
    wanted = made({"aggregate": "any", **COUNTED})
    rows = stays(*((f"p{n}", "2030-05-01T12:00:00", "1") for n in range(20)))
    for code, usable in (("2160-0", 20), ("9999-9", 0)):
        mapped = apply(wanted, rows, labs((1, code, "1", "mg/dL"), patient="p3"))
        told = mapped.features["crea"]
        assert (told.usable, told.missing, told.nowhere) == (usable, 20 - usable, not usable)
        found = [one for one in quality.check(_study(wanted), mapped).findings if one.where == "crea"]
        assert [one.kind for one in found].count("no-values") == (not usable)
    assert "no record of the table has a code of it" in found[-1].words and "none_here" in found[-1].remedy
    looked = {"crea": {"records": "labs", "none_here": True}}
    told = apply(wanted, rows, labs((1, "9999-9", "1", "mg/dL"), patient="p3"), features=looked).features["crea"]
    assert (told.usable, told.looks.same) == (20, True), "a person has looked"


def test_a_drug_that_is_only_referred_to_may_be_the_one_and_is_no_0() -> None:
    """A laboratory value in the same table is not."""
    codes = [{"system": LOINC, "code": "2160-0"}]
    for recorded, usable in (("drug", 1), ("condition", 2), (None, 2)):
        wanted = made({"aggregate": "any", "recorded": recorded, "codes": codes, **COUNTED})
        rows = [
            labs((1, records.UNCODED, "", ""), patient="q"),
            labs((1, "2160-0", "", ""), (2, records.UNCODED, "", "")),
        ]
        both = Rows({name: rows[0].columns[name] + rows[1].columns[name] for name in rows[0].columns})
        mapped = apply(wanted, stays(*ONE, ("q", INDEX.isoformat(), "0")), both)
        assert mapped.features["crea"].usable == usable
        assert dict(mapped.features["crea"].unread) == ({"code": 1} if recorded == "drug" else {})


def test_a_concept_map_that_nests_without_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text("[" * 100_000)
    with pytest.raises(MappingInvalid, match=r"map.json is no FHIR ConceptMap"):
        systems.concepts(tmp_path / "map.json", "records.labs.concept_map")
