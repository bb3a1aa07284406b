"""Units: known conversions of the laboratory, spellings of real tables, and refusals that say what to do."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import MappingInvalid
from consilium.data import units, usual
from consilium.data.units import ALIASES, ARBITRARY, SPECIAL, UNLIKE, computed, conversion, fault, kin
from consilium.data.usual import UNITS, lines

# What laboratories use: value in the second unit for 1 (or for the given value) in the first.
KNOWN: list[tuple[float, str, str, str | None, float]] = [
    (1, "mmol/L", "mg/dL", "glucose", 18.016),
    (100, "mg/dL", "mmol/L", "glucose", 5.5506),
    (1, "mg/dL", "umol/L", "creatinine", 88.40),
    (1, "mg/dL", "umol/L", "bilirubin", 17.104),
    (1, "mmol/L", "mg/dL", "cholesterol", 38.665),
    (1, "mmol/L", "mg/dL", "triglycerides", 88.54),
    (1, "mmol/L", "mg/dL", "bun", 2.801),
    (1, "mmol/L", "mg/dL", "calcium", 4.008),
    (1, "mmol/L", "mg/dL", "lactate", 9.008),
    (98.6, "[degF]", "Cel", None, 37.0),
    (37, "Cel", "[degF]", None, 98.6),
    (310.15, "K", "Cel", None, 37.0),
    (120, "mm[Hg]", "kPa", None, 15.9987),
    (1, "g/L", "mg/dL", None, 100.0),
    (1, "[lb_av]", "kg", None, 0.45359237),
    (1, "[in_i]", "cm", None, 2.54),
    (24, "mo", "a", None, 2.0),
    (50, "%", "1", None, 0.5),
    (1, "mg/(24.h)", "mg/d", None, 1.0),
    (3, "/100{WBC}", "%{WBC}", None, 3.0),
    (1, "1000/uL", "/uL", None, 1000.0),
    (1, "10*3/uL", "1000/uL", None, 1.0),
    (4.3, "meq/L", "mg/dL", "calcium", 8.617),
    (4.3, "meq/L", "mmol/L", "calcium", 2.15),
    (1.7, "mEq/L", "mg/dL", "magnesium", 2.066),
    (140, "meq/L", "mmol/L", "sodium", 140.0),
    (2, "L/eq", "L/mol", "calcium", 4.0),
    (30, "mg/mmol", "mg/g", "creatinine", 265.2),
    (54, "mmol/mol", "%", "hba1c", 7.092),
    (0.06, "1", "mmol/mol", "hba1c", 42.064),
    (0.042, "mol/mol", "1", "hba1c", 0.05994),
    (1, "k[iU]/L", "[IU]/mL", None, 1.0),
    (20, "dB", "B", None, 2.0),
    (500, "ng/mL{FEU}", "ug/L{FEU}", None, 500.0),
]


@pytest.mark.parametrize(("value", "unit", "wanted", "analyte", "known"), KNOWN)
def test_known_conversions(value: float, unit: str, wanted: str, analyte: str | None, known: float) -> None:
    factor, offset = conversion(unit, wanted, analyte)
    assert value * factor + offset == pytest.approx(known, rel=2e-4)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KNOWN), st.floats(-1e3, 1e3))
def test_there_and_back_is_the_same_value(case: tuple[float, str, str, str | None, float], value: float) -> None:
    _, unit, wanted, analyte, _ = case
    (there, start), (back, end) = conversion(unit, wanted, analyte), conversion(wanted, unit, analyte)
    assert (value * there + start) * back + end == pytest.approx(value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("sloppy", sorted(ALIASES))
def test_spellings_of_real_tables_mean_their_ucum_unit(sloppy: str) -> None:
    assert conversion(sloppy, ALIASES[sloppy], None) == (1.0, 0.0)
    assert conversion(ALIASES[sloppy], sloppy, None) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("unit", "wanted", "analyte", "words"),
    [
        ("mmol/L", "mg/dL", None, "name the `analyte`"),
        ("mmol/L", "mg/dL", "unobtainium", "one of glucose"),
        ("mg/dL", "mm[Hg]", None, "cannot be converted"),
        ("mg/dL", "Cel", "glucose", "cannot be converted"),
        ("furlong-ish", "mg/dL", None, "not a UCUM unit"),
        ("", "mg/dL", None, "not a UCUM unit"),
        ("mmol/mol", "%", None, "name the `analyte`, one of hba1c"),
        ("mmol/mol", "1", "glucose", "one of hba1c"),
        ("mg/g", "mmol/mol", None, "one of hba1c"),
        ("meq/L", "mmol/L", None, "name the `analyte`, one of calcium"),
        ("meq/L", "mg/dL", "glucose", "name the `analyte`, one of calcium"),
        ("mg/dL", "mmol/L", "hba1c", "one of glucose"),
        ("ng/mL{DDU}", "ng/mL{FEU}", None, r"\{DDU\} and \{FEU\} may be another quantity"),
        ("mL/min", "mL/min/{1.73_m2}", None, r"\{1.73_m2\} may be another quantity"),
        ("{beats}/min", "/min", None, "write the unit as the contract has it"),
        ("10*3/uL{cells}", "10*3/uL", None, r"of records, as `units: \{"),
        ("{score}", "1", None, r"\{score\} may be another quantity"),
        ("dB", "1", None, "cannot be converted"),
        ("B[V]", "V", None, "cannot be converted"),
        ("[iU]/mL", "[CFU]/mL", None, "cannot be converted"),
        ("[Cal]", "J", None, "in the source's query"),
        ("J", "k[Cal]", None, "not a UCUM unit"),
        ("'", "min", None, "in the source's query"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_what_to_do(
    unit: str, wanted: str, analyte: str | None, words: str
) -> None:
    with pytest.raises(MappingInvalid, match=words):
        conversion(unit, wanted, analyte)


def test_a_scale_that_is_bent_is_found_though_nobody_has_named_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two points are on a line, whatever they are of: a third one tells."""
    monkeypatch.setattr(units, "SPECIAL", frozenset())
    units._parse.cache_clear()
    for unit, wanted in (("dB", "1"), ("B[V]", "V"), ("Np", "%")):
        with pytest.raises(MappingInvalid, match="no multiple of the other"):
            conversion.__wrapped__(unit, wanted, None)
    units._parse.cache_clear()


ESSENCE = Path(__file__).parents[4] / "shared/suites/ucum_tests/ucum-essence.xml"


@pytest.mark.skipif(not ESSENCE.exists(), reason="the UCUM suite is not here")
def test_metric_prefixes_of_the_ucum_essence() -> None:
    name = "{http://unitsofmeasure.org/ucum-essence}"
    for prefix in ElementTree.parse(ESSENCE).getroot().iter(f"{name}prefix"):
        code, value = prefix.attrib["Code"], prefix.find(f"{name}value")
        assert value is not None
        if code in ("Ki", "Mi", "Gi", "Ti", "d", "da", "h"):
            continue
        assert conversion(f"{code}g", "g", None)[0] == pytest.approx(float(value.attrib["value"]), rel=1e-12), code


@pytest.mark.skipif(not ESSENCE.exists(), reason="the UCUM suite is not here")
def test_a_contract_may_have_every_unit_of_the_ucum_essence_but_those_that_tables_mean_otherwise() -> None:
    root, name = ElementTree.parse(ESSENCE).getroot(), "{http://unitsofmeasure.org/ucum-essence}"
    codes = [unit.attrib["Code"] for kind in ("base-unit", "unit") for unit in root.iter(f"{name}{kind}")]
    assert len(codes) > 250
    assert {code for code in codes if fault(code)} == {"C", "F"}


@pytest.mark.skipif(not ESSENCE.exists(), reason="the UCUM suite is not here")
def test_every_unit_of_the_ucum_essence_has_the_value_that_it_has_there_or_is_refused() -> None:
    """Constants of physics were measured anew since; what is refused is of another kind, or pint has another value."""
    name, apart, kinds = "{http://unitsofmeasure.org/ucum-essence}", set[str](), dict[str, set[str]]()
    for unit in ElementTree.parse(ESSENCE).getroot().iter(f"{name}unit"):
        code, value = unit.attrib["Code"], unit.find(f"{name}value")
        assert value is not None
        for kind in ("isSpecial", "isArbitrary"):
            if unit.attrib.get(kind) == "yes":
                kinds.setdefault(kind, set()).add(code)
        if unit.attrib.get("isSpecial") == "yes":
            continue
        try:
            factor, offset = conversion(code, value.attrib["Unit"], None)
        except MappingInvalid:
            apart.add(code)
            continue
        assert (factor, offset) == pytest.approx((float(value.attrib["value"]), 0.0), rel=1e-4), code
    assert kinds == {"isSpecial": {*SPECIAL, "Cel", "[degF]", "[degRe]"}, "isArbitrary": ARBITRARY}
    beside = ("F", "[e]", "[ch_br]")  # of C, which tables mean otherwise, and of another one that is refused
    assert apart == {*UNLIKE, *ARBITRARY, "mol", "eq", "Mx", "G", "Oe", "Gb", *beside} - {"[IU]"}


@given(st.sampled_from(("g", "mg/dL", "mm[Hg]", "mmol/L")), st.integers(1, 10**9 - 1))
@settings(max_examples=40, deadline=None)
def test_a_number_of_a_unit_multiplies(unit: str, number: int) -> None:
    assert conversion(f"{number}.{unit}", unit, None)[0] == pytest.approx(number, rel=1e-12)
    assert conversion(unit, f"{number}.{unit}", None)[0] == pytest.approx(1 / number, rel=1e-12)


@pytest.mark.parametrize("huge", ["10*999999999", "10^999999999", "m999999999", "m-999", "1234567890123/L", "m." * 99])
def test_a_unit_that_would_never_be_read_is_none(huge: str) -> None:
    with pytest.raises(MappingInvalid, match="not a UCUM unit"):
        conversion(huge, "1", None)
    assert "must be a UCUM unit" in fault(huge)


@pytest.mark.parametrize("sloppy", sorted(ALIASES))
def test_a_contract_has_no_spelling_of_a_table_and_is_told_the_ucum_one(sloppy: str) -> None:
    assert fault(sloppy) == f"must be a UCUM unit; write {ALIASES[sloppy]}" and fault(ALIASES[sloppy]) == ""


@pytest.mark.parametrize("unit", ["", "banana", "mg / dL", "kg/m^2", "mg/", "[pH", "5,0", "mg/dL\n"])
def test_what_is_no_unit_at_all_is_refused_with_examples(unit: str) -> None:
    assert "must be a UCUM unit; write it as in UCUM, such as mg/dL" in fault(unit)


def test_what_is_written_down_of_usual_units_is_what_is_computed() -> None:
    told = {(unit, other): lines(unit, other) for unit in UNITS for other in UNITS}
    assert told == {pair: computed(*pair) for pair in told}, "run `python -m consilium.data.usual`"


def test_usual_units_belong_together_as_their_dimensions_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(unit, other) for unit in UNITS for other in UNITS]
    told = [kin.__wrapped__(*pair) for pair in pairs]
    monkeypatch.setattr(usual, "lines", lambda unit, wanted: None)
    assert told == [kin.__wrapped__(*pair) for pair in pairs]


SAYS = """
import sys
from consilium.core.errors import MappingInvalid
from consilium.data.units import conversion, fault, kin
assert conversion("mg/dL", "mmol/L", "glucose")[0] and kin("mm", "Cel") == "none" and not fault("mm[Hg]")
try:
    conversion("mg/dL", "mmol/L", None)
except MappingInvalid:
    sys.exit("pint" in sys.modules or "lark" in sys.modules)
"""


def test_usual_units_need_no_grammar_of_units() -> None:
    """It costs two seconds in each process that reads a table."""
    assert subprocess.run([sys.executable, "-c", SAYS]).returncode == 0
