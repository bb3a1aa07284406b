"""The traps of raw tables are found, with what to write where; clean columns are left in peace.

What each raw file of UCI Heart Disease holds is counted here from its text, by other code than the product's.
"""

import json
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.study import Study
from consilium.data import contract, quality, traps
from consilium.data.base import Rows
from consilium.data.findings import Finding
from consilium.data.mapping import Mapping
from consilium.data.quality import Report
from consilium.data.tables import CsvSource
from consilium.data.units import conversion

DATA = Path(__file__).parents[4] / "shared/data/heart_disease"
raw = pytest.mark.skipif(not DATA.is_dir(), reason="the raw files of UCI Heart Disease are not here")
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
NUMBERS = {"age": "a", "trestbps": "mm[Hg]", "chol": "mg/dL", "thalach": "/min", "oldpeak": "mm"}
CODES = {"sex": "01", "cp": "1234", "fbs": "01", "restecg": "012", "exang": "01", "slope": "123", "thal": "367"}
COLUMNS = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca",
           "thal", "num")  # fmt: skip
PLAUSIBLE = {"age": (18, 110), "trestbps": (50, 250), "chol": (60, 700), "thalach": (40, 230), "oldpeak": (-5, 10)}
WIDE = {**PLAUSIBLE, "trestbps": (0, 300), "chol": (0, 800)}
"""A careless contract, in which a pressure of 0 is plausible: here the numbers alone must tell."""


def study(ranges: dict[str, tuple[float, float]]) -> Study:
    features: list[dict[str, Any]] = [
        {"id": name, "meaning": name, "type": "number", "unit": unit, "range": ranges[name]}
        for name, unit in NUMBERS.items()
    ]
    features.append({"id": "ca", "meaning": "vessels", "type": "number", "unit": "1", "range": [0, 3]})
    features += [
        {"id": name, "meaning": name, "type": "category", "categories": {f"c{code}": code for code in codes}}
        for name, codes in CODES.items()
    ]
    return Study.model_validate({
        "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": {"id": "c", "features": features, "label": {"id": "sick", "meaning": "sick", "type": "binary"}},
        "model": {"kind": "logistic"}, "rounds": 1, "quorum": 3, "min_patients": 20,
    })  # fmt: skip


def naive(hospital: str) -> dict[str, Any]:
    """What a newcomer writes who has not looked into the table."""
    features: dict[str, Any] = {name: {"column": name, "unit": unit} for name, unit in {**NUMBERS, "ca": "1"}.items()}
    features |= {name: {"column": name, "codes": {code: f"c{code}" for code in codes}} for name, codes in CODES.items()}
    source = {"type": "csv", "path": f"processed.{hospital}.data", "header": False, "columns": list(COLUMNS)}
    return {
        "mapping": 1, "contract": "c", "source": source, "patient": {"row": True}, "features": features,
        "label": {"column": "num", "codes": {"0": 0, "1": 1}},
    }  # fmt: skip


def check(wanted: Study, mapping: dict[str, Any]) -> Report:
    given_ = Mapping.model_validate(mapping)
    rows = CsvSource(given_.source, DATA).rows()
    return quality.check(wanted, contract.apply(given_, wanted.contract, wanted.evaluation, rows))


def mended(mapping: dict[str, Any], findings: Iterator[Finding] | tuple[Finding, ...]) -> dict[str, Any]:
    """The mapping with all that the findings say to write, where they say it."""
    changed = deepcopy(mapping)
    for finding in (one for one in findings if one.write):
        *above, last = finding.place.split(".")
        inner = changed
        for key in above:
            inner = inner[key]
        new = yaml.safe_load(finding.write)
        if isinstance(new, dict) and isinstance(inner.get(last), dict):
            inner[last] = {**inner[last], **new}
        else:
            inner[last] = new
    return changed


def cells(hospital: str) -> dict[str, list[str]]:
    lines = (DATA / f"processed.{hospital}.data").read_text().split()
    return dict(zip(COLUMNS, zip(*(line.split(",") for line in lines), strict=True), strict=True))  # type: ignore[arg-type]


def zero(cell: str) -> bool:
    return cell != "?" and float(cell) == 0


@raw
@pytest.mark.parametrize("ranges", [PLAUSIBLE, WIDE], ids=["plausible", "wide"])
@pytest.mark.parametrize("hospital", HOSPITALS)
def test_every_known_trap_is_found_with_its_remedy_and_no_other(
    hospital: str, ranges: dict[str, tuple[float, float]]
) -> None:
    found, truth = check(study(ranges), naive(hospital)), cells(hospital)
    zeros, marks, absent = set(), set(), set()
    for finding in found.findings:
        if finding.kind == "code-for-missing":
            assert "0" in json.loads(finding.write) and finding.place == f"features.{finding.where}.missing"
            assert set(json.loads(finding.write)) <= {"0", "?"}
            zeros.add(finding.where)
        if '"?"' in finding.words and finding.write != "absent":
            assert json.loads(finding.write) == ["?"] and finding.place == f"features.{finding.where}.missing"
            marks.add(finding.where)
        if finding.kind == "no-values":
            assert (finding.place, finding.write) == (f"features.{finding.where}", "absent")
            absent.add(finding.where)
    empty = {
        name for name in COLUMNS[:-1]
        if all(cell == "?" or (name == "chol" and zero(cell) and ranges is PLAUSIBLE) for cell in truth[name])
    }  # fmt: skip
    assert absent == empty
    assert zeros == {name for name in ("trestbps", "chol") if any(map(zero, truth[name]))} - empty
    assert marks == {name for name in COLUMNS[:-1] if "?" in truth[name]} - empty
    grades = Counter(truth["num"])
    labels = [finding for finding in found.findings if finding.kind == "label-codes"]
    assert bool(labels) == any(grades[code] for code in "234")
    for finding in labels:
        assert finding.place == "label.codes" and finding.blocks and not found.usable
        assert json.loads(finding.write) == {"0": 0, **dict.fromkeys("123456789", 1)}, "whichever there are"
    mended_kinds = {"code-for-missing", "not-a-number", "unmapped-codes", "label-codes", "no-values"}
    others = {(one.kind, one.where) for one in found.findings if one.kind not in mended_kinds}
    assert not {kind for kind, _ in others} - {"sparse", "one-class", "empty-category"}, (
        "a clean column is left in peace"
    )


@raw
@pytest.mark.parametrize("hospital", ["switzerland", "va"])  # which have all of the traps
def test_a_mapping_that_is_mended_as_it_is_told_passes(hospital: str) -> None:
    wanted, mapping, truth = study(WIDE), naive(hospital), cells(hospital)
    seen = []
    for _ in range(4):
        report = check(wanted, mapping)
        seen.append(sum(finding.blocks for finding in report.findings))
        mapping = mended(mapping, report.findings)
    assert check(wanted, mapping).usable and seen == sorted(seen, reverse=True), "each check is better than the last"
    chol, pressure = (mapping["features"][name] for name in ("chol", "trestbps"))
    if any(map(zero, truth["chol"])):
        assert chol == "absent" or "0" in chol["missing"]
    assert ("0" in pressure.get("missing", [])) == any(map(zero, truth["trestbps"]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["normal", "lognormal", "gamma", "poisson", "half", "uniform"]),
    st.integers(20, 400), st.floats(0.2, 50),
)  # fmt: skip
def test_zeros_of_an_even_distribution_are_no_code_and_a_far_code_is(
    seed: int, kind: str, count: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    values = {
        "normal": lambda: np.round(rng.normal(0, scale, count), 1),
        "lognormal": lambda: np.round(rng.lognormal(1, 0.5, count), 1),
        "gamma": lambda: np.round(rng.gamma(2, scale, count), 1),
        "poisson": lambda: rng.poisson(min(scale, 8), count).astype(float),
        "half": lambda: np.round(np.maximum(rng.normal(0, 1, count), 0), 1),
        "uniform": lambda: np.round(rng.uniform(0, scale, count), 1),
    }[kind]()
    assert 0.0 not in traps.apart(values) or kind == "lognormal"
    far = np.concatenate([values, [9999.0] * 5])
    others = values[values != 0]
    if len(others) >= traps.LEAST and len(np.unique(others)) > 8:
        assert 9999.0 in traps.apart(far)


@pytest.mark.parametrize(("unit", "given_", "wanted", "allowed", "about", "found"), [
    ("mg/dL", np.linspace(4.5, 15, 40), "mg/dL", (40, 800), "glucose in serum", ("mmol/L", "glucose")),
    ("mg/dL", np.linspace(50, 400, 40), "mg/dL", (0.2, 20), "creatinine", ("umol/L", "creatinine")),
    ("Cel", np.linspace(96, 104, 40), "Cel", (30, 44), "temperature", ("[degF]", "")),
    ("g/dL", np.linspace(90, 160, 40), "g/dL", (3, 25), "haemoglobin", ("g/L", "")),
    ("mg/dL", np.linspace(70, 300, 40), "mg/dL", (40, 800), "glucose", ("", "")),
    ("m", np.linspace(150, 190, 40), "m", (0.4, 2.5), "height", ("cm", "")),
    ("a", np.linspace(250, 1000, 40), "a", (18, 110), "age", ("mo", "")),
    ("a", np.linspace(8000, 33000, 40), "a", (18, 110), "age", ("d", "")),
    ("a", np.linspace(1000, 4500, 40) + 0.5, "a", (18, 110), "age", ("", "")),
    ("mo", np.linspace(5, 100, 40), "mo", (1, 24), "age of the infant", ("wk", "")),
    ("mmol/L", np.linspace(5.4, 5.7, 40), "mg/dL", (40, 800), "glucose in serum", ("", "")),
])  # fmt: skip
def test_another_unit_is_named_where_it_alone_makes_sense(
    unit: str, given_: Any, wanted: str, allowed: tuple[float, float], about: str, found: tuple[str, str]
) -> None:
    looks = traps.look(given_, given_, allowed, (unit, wanted, None), about)
    assert (looks.unit, looks.analyte) == found


def test_only_what_looks_like_a_code_is_ever_named() -> None:
    """A single far value is a patient's, unless it is one of the numbers that people write for nothing known."""
    body = np.linspace(60, 140, 60)
    assert traps.apart(np.append(body, 0.0)) == [0.0] and traps.apart(np.append(body, 999.0)) == [999.0]
    assert traps.apart(np.append(body, 412.0)) == [] and traps.apart(np.append(body, 0.5)) == []
    looks = traps.look(
        np.append(body, [412.0, 999.0]), np.append(body, [412.0, 999.0]), (50, 300), ("1", "1", None), ""
    )
    assert looks.outside == {"999": 1} and looks.inside == {}


def test_measurements_that_lie_outside_because_of_the_unit_alone_are_no_codes() -> None:
    """77 and 88 micromoles per litre of creatinine, in a contract of milligrams per decilitre."""
    values = np.array([*range(60, 130), *[-9.0] * 5, *[88.0] * 5])
    looks = traps.look(values, values, (0.1, 25), ("mg/dL", "mg/dL", None), "creatinine")
    assert (looks.unit, looks.analyte, looks.outside, looks.inside) == ("umol/L", "creatinine", {"-9": 5}, {})


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["a", "mo", "wk", "d"]), st.sampled_from(["a", "mo", "d"]))
def test_years_of_birth_are_no_ages_in_whichever_unit(seed: int, unit: str, wanted: str) -> None:
    """In weeks, years of birth are ages from 36 to 39, well within the range of grown-ups: no unit is proposed."""
    rng = np.random.default_rng(seed)
    years = 2020 - np.clip(np.round(rng.normal(rng.uniform(35, 75), rng.uniform(5, 15), 80)), 18, 100)
    allowed = tuple(float(end * conversion("a", wanted, None)[0]) for end in (18, 110))
    values = years * conversion(unit, wanted, None)[0]
    given_ = np.append(years, [9999.0, 9999.0])
    looks = traps.look(
        given_, np.append(values, [1e9, 1e9]), (allowed[0], allowed[1]), (unit, wanted, None), "age at visit"
    )
    assert looks.years and not looks.unit


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([("a", 1.0), ("mo", 12.0), ("d", 365.25)]))
def test_ages_are_no_years_of_birth(seed: int, told: tuple[str, float]) -> None:
    rng = np.random.default_rng(seed)
    ages = np.clip(np.round(rng.normal(rng.uniform(35, 75), 15, 80)), 18, 100)
    looks = traps.look(np.round(ages * told[1]), ages, (18, 110), (told[0], "a", None), "age at visit")
    assert not looks.years


def test_a_contract_that_wants_years_gets_years() -> None:
    years = np.arange(1990.0, 2020.0)
    assert not traps.look(years, years, (1980, 2030), ("a", "a", None), "year of diagnosis").years


def test_years_of_birth_are_told_with_what_to_do_and_nothing_to_paste(tmp_path: Path) -> None:
    wanted = study(PLAUSIBLE).model_copy(update={"min_patients": 1})
    features = {one.id: "absent" for one in wanted.contract.features} | {"age": {"column": "born", "unit": "wk"}}
    lines = [f"{1925 + n % 60},{n % 2}" for n in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["born,sick", *lines, ""]))
    given_ = Mapping.model_validate(
        {**naive("va"), "source": {"type": "csv", "path": "t.csv"}, "features": features,
         "label": {"column": "sick", "codes": {"0": 0, "1": 1}}}
    )  # fmt: skip
    rows = CsvSource(given_.source, tmp_path).rows()
    report = quality.check(wanted, contract.apply(given_, wanted.contract, wanted.evaluation, rows))
    (told,) = (one for one in report.findings if one.where == "age")
    assert (told.kind, told.count, told.blocks, told.write) == ("unit", 80, True, "")
    assert "years of birth" in told.words and "AS age" in told.remedy and not report.usable


def test_measurements_amid_others_of_another_unit_are_no_codes() -> None:
    """Half of the patients have mg/dL, half mmol/L, which the mapping says; a code beyond all of them still is one."""
    mass, amount = np.arange(60.0, 130.0), np.arange(60.0, 135.0) / 18
    given_ = np.concatenate([mass, amount, [999.0]])
    seen = traps.look(given_, given_ * 18, (20.0, 1000.0), ("mmol/L", "mg/dL", "glucose"), "glucose")
    assert seen.outside == {"999": 1} and not seen.inside


@pytest.mark.parametrize(
    ("label", "mapped", "values", "found"),
    [
        ({"type": "number", "unit": "mg/dL", "range": [0.1, 20], "meaning": "creatinine"}, {"unit": "mg/dL"},
         [70 + n % 50 for n in range(80)], ("unit", "label", '{unit: "umol/L", analyte: creatinine}')),
        ({"type": "number", "unit": "mg/dL", "range": [0.1, 300], "meaning": "creatinine"}, {"unit": "mg/dL"},
         [70 + n % 50 for n in range(80)], ("other-unit", "label", '{unit: "mg/L"}')),
        ({"type": "number", "unit": "d", "range": [0, 1000]}, {"unit": "d"},
         [999 if n % 4 == 0 else 60 + n % 50 for n in range(80)], ("code-for-missing", "label.missing", '["999"]')),
        ({"type": "count"}, {}, [99 if n % 4 == 0 else n % 4 for n in range(80)],
         ("code-for-missing", "label.missing", '["99"]')),
        ({"type": "count"}, {}, [n % 4 for n in range(80)], None),
        ({"type": "count"}, {}, [0] * 80, ("constant", "", "")),
    ],
    ids=["unit", "other-unit", "code", "code-in-count", "count", "nothing-happened"],
)  # fmt: skip
def test_a_label_is_looked_at_as_a_feature_is(
    label: dict[str, Any], mapped: dict[str, Any], values: list[int], found: tuple[str, str, str] | None
) -> None:
    told = {
        "consilium": 1, "name": "s", "title": "s", "purpose": {"code": "research", "text": "t", "requester": "r"},
        "contract": {"id": "c", "label": {"id": "y", "meaning": "y", **label}, "features": [
            {"id": "sex", "meaning": "sex", "type": "category", "categories": {"f": "f", "m": "m"}},
        ]},
        "model": {"kind": "poisson" if label["type"] == "count" else "linear"}, "rounds": 1, "quorum": 3,
        "min_patients": 20,
    }  # fmt: skip
    wanted = Study.model_validate(told)
    given_ = Mapping.model_validate({
        "mapping": 1, "contract": "c", "source": {"type": "csv", "path": "t"}, "patient": {"row": True},
        "features": {"sex": {"column": "sex", "codes": {"f": "f", "m": "m"}}}, "label": {"column": "y", **mapped},
    })  # fmt: skip
    rows = Rows({"sex": ["f", "m"] * 40, "y": [str(value) for value in values]})
    seen = quality.check(wanted, contract.apply(given_, wanted.contract, wanted.evaluation, rows)).label.findings
    assert [(one.kind, one.place, one.write) for one in seen] == ([found] if found else [])
