"""What speaks against a mapping whose values all fit is told, and an honest mapping is not doubted."""

import csv
import gzip
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consilium.core.contract import Feature, Label
from consilium.core.gate import Gate
from consilium.data import findings
from consilium.data.contract import Column
from consilium.data.doubts import Doubt, of_codes, of_number
from consilium.data.findings import Look
from consilium.data.mapping import FeatureMap
from consilium.data.proposal.words import PAIRS, SEXES, UNIT_WORDS, folded
from consilium.data.units import conversion, kin
from consilium.data.usual import UNITS

MASSES = ("mg/dL", "g/L", "mg/L", "g/dL")
SEX = {"female": "female", "male": "male"}
FACES = {"no": "not there", "yes": "there"}


def number(unit: str, low: float, high: float, typical: tuple[float, float] | None = None, **more: Any) -> Feature:
    return Feature(
        id="lab", meaning="a substance", type="number", unit=unit, range=(low, high), typical=typical, **more
    )  # fmt: skip


def doubted(feature: Feature, column: str, unit: str, true: np.ndarray[Any, Any], unit_of_table: str) -> list[Doubt]:
    """Doubts about values, in the contract's unit, that stand in a table in one unit and are mapped as of another."""
    factor, offset = conversion(unit_of_table, feature.unit or "", None)
    told = (true - offset) / factor
    factor, offset = conversion(unit, feature.unit or "", None)
    read = told * factor + offset
    low, high = feature.range or (0, 0)
    read[(read < low) | (read > high)] = np.nan
    return list(of_number(feature, FeatureMap(column=column, unit=unit), read))


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(MASSES), st.sampled_from(MASSES), st.floats(0.3, 0.5), st.booleans(), st.integers(0, 99))
def test_another_unit_in_which_all_values_fit_better_is_told_and_the_right_one_is_not_doubted(
    wanted: str, other: str, spread: float, typical: bool, seed: int
) -> None:
    """Of values around the middle of a range that is wide enough for both units."""
    middle = 100.0
    feature = number(wanted, middle / 1e5, middle * 1e5, (50.0, 200.0) if typical else None)
    true = middle * np.exp(np.random.default_rng(seed).normal(scale=spread, size=60))
    true *= middle / np.median(true)
    assert doubted(feature, "lab", wanted, true, wanted) == []
    assume(other != wanted)
    assert doubted(feature, "lab", other, true, other) == [], "whatever unit the table has, if the mapping says so"
    (doubt,) = doubted(feature, "lab", wanted, true, other)
    assert doubt.kind == "other-unit" and doubt.write == f'{{unit: "{other}"}}'
    (doubt,) = doubted(feature, "lab", other, true, wanted)
    assert doubt.write == f'{{unit: "{wanted}"}}'


MIXES = [("glucose", "mg/dL", "mmol/L", 100.0), ("creatinine", "mg/dL", "umol/L", 1.0), ("", "1", "%", 0.4),
         ("cholesterol", "mmol/L", "mg/dL", 5.0), ("calcium", "mmol/L", "mg/dL", 2.4)]  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(MIXES), st.floats(0.15, 0.85), st.floats(0.1, 0.2), st.integers(0, 99))
def test_a_column_of_which_some_values_are_in_another_unit_is_told_and_one_of_one_unit_is_not(
    mix: tuple[str, str, str, float], share: float, spread: float, seed: int
) -> None:
    substance, unit, other, middle = mix
    feature = Feature(
        id="lab", meaning=f"{substance} in blood", type="number", unit=unit, range=(middle / 1e4, middle * 1e4)
    )
    rng = np.random.default_rng(seed)
    true = middle * np.exp(rng.normal(scale=spread, size=200))
    factor, _ = conversion(unit, other, substance or None)
    table = FeatureMap(column="lab", unit=unit)
    assert list(of_number(feature, table, true)) == []
    (doubt,) = of_number(feature, table, np.where(np.arange(200) < share * 200, true, true * factor))
    assert doubt.kind == "other-unit" and f"if some were in {other}, and others in {unit}" in doubt.words
    assert not doubt.write, "nothing that is written in the mapping mends it"


@pytest.mark.parametrize(("unit", "other"), [("Cel", "[degF]"), ("[degF]", "Cel")])
def test_temperatures_in_two_units_are_told_and_those_in_one_are_not(unit: str, other: str) -> None:
    """Between them lies an offset, and no ratio."""
    feature = Feature(id="t", meaning="temperature", type="number", unit=unit, range=(10, 120))
    rng, table = np.random.default_rng(3), FeatureMap(column="t", unit=unit)
    true = rng.normal(37.0, 0.7, 200) if unit == "Cel" else rng.normal(98.6, 1.2, 200)
    factor, offset = conversion(unit, other, None)
    assert list(of_number(feature, table, true)) == []
    (doubt,) = of_number(feature, table, np.where(np.arange(200) % 5 == 0, true * factor + offset, true))
    assert doubt.kind == "other-unit" and f"if some were in {other}, and others in {unit}" in doubt.words


REAL = Path(__file__).parents[3] / "shared/data"
MIXED = {"ionized calcium": {"mg/dL", "mmol/L"}, "FiO2": {"1", "%"}, "Temperature": {"Cel", "[degF]"}}
"""What hospitals of the eICU demo have in two units, in truth, and in which."""


@pytest.mark.long
@pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")
def test_of_real_columns_those_alone_are_of_two_units_that_are_so() -> None:
    """Each column of three data sets as if it were in any unit of its table."""
    columns: dict[str, list[str]] = defaultdict(list)
    for file in sorted(REAL.glob("heart_disease/*.data")):
        for place, texts in enumerate(zip(*csv.reader(file.open()))):
            columns[f"{file.name} {place}"] += texts
    for file in sorted(REAL.glob("multicentre/*.csv")):
        for row in csv.DictReader(file.open()):
            for name, text in row.items():
                columns[f"{file.name} {name}"].append(text)
    for row in csv.DictReader((REAL / "eicu_demo/lab_subset_pyhealth.csv").open()):
        columns[row["labname"]].append(row["labresult"])
    with gzip.open(REAL / "eicu_demo/apacheApsVar.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            for name, text in row.items():
                columns[f"apache {name}"].append(text)
    found: dict[str, set[str]] = defaultdict(set)
    seen = 0
    for name, texts in columns.items():
        numbers = [float(text) for text in texts if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)]
        seen += len(numbers) > 20
        for unit in UNITS:
            feature = Feature(id="x", meaning=name, type="number", unit=unit, range=(-1e12, 1e12))
            told = of_number(feature, FeatureMap(column=name, unit=unit), np.array(numbers))
            if any("two groups" in one.words for one in told):
                found[name].add(unit)
    assert found.keys() == MIXED.keys() and seen > 100
    assert all(units <= found[name] for name, units in MIXED.items())


@pytest.mark.parametrize("word", sorted(UNIT_WORDS))
def test_a_unit_at_the_end_of_a_columns_name_is_compared_with_the_mappings(word: str) -> None:
    said = UNIT_WORDS[word]
    values = np.linspace(20.0, 30.0, 40)
    feature = Feature(id="x", meaning="x", type="number", unit=said, range=(-1e9, 1e9))
    assert list(of_number(feature, FeatureMap(column=f"x_{word}", unit=said), values)) == []
    kindred = [unit for unit in UNITS if kin(unit, said) == "same" and conversion(unit, said, None) != (1.0, 0.0)]
    for unit in kindred[:2]:
        (doubt,) = of_number(feature, FeatureMap(column=f"x_{word}", unit=unit), values)
        assert doubt.kind == "named-unit" and f"says {said}, and the mapping {unit}" in doubt.words
        assert doubt.write == f'{{unit: "{said}"}}'


def test_a_name_against_which_the_values_speak_is_not_believed_and_a_mass_needs_its_substance() -> None:
    """Cholesterol in mmol/L, whatever the column is called; where both fit, the name is told."""
    values = np.linspace(150.0, 260.0, 40)  # in the contract's mg/dL
    chol = FeatureMap(column="chol_mgdl", unit="mmol/L", analyte="cholesterol")
    assert list(of_number(number("mg/dL", 50, 700), chol, values)) == []
    wide = number("mg/dL", 1, 10_000)
    (doubt,) = of_number(wide, chol, values)
    assert doubt.kind == "named-unit" and doubt.write == '{unit: "mg/dL"}'
    given_ = FeatureMap(column="chol_mmoll", unit="mg/dL")
    (doubt,) = of_number(number("mg/dL", 1, 10_000, analyte=None), given_, values)
    assert "says mmol/L" in doubt.words
    few = np.full(40, np.nan)
    few[:9] = values[:9]
    assert list(of_number(wide, chol, few)) == []


def sexes(name: str, codes: dict[str, str]) -> list[Doubt]:
    of = Feature(id="sex", meaning="administrative sex", type="category", categories=SEX)
    return list(of_codes(of, name, codes))


WORDS = [pair for pair in SEXES if not pair[0].isdecimal()]
BOTH = {folded(word) for word, _ in SEXES} & {folded(word) for _, word in SEXES}
"""What means woman in one language, or begins it, and man in another."""


@pytest.mark.parametrize("pair", WORDS, ids="-".join)
def test_codes_of_the_sexes_that_are_swapped_are_told_in_every_language(pair: tuple[str, str]) -> None:
    woman, man = pair
    assert sexes("sex", {woman: "female", man: "male"}) == []
    told = sexes("sex", {woman: "male", man: "female", "9": "male"})
    assert bool(told) or {folded(woman), folded(man)} <= BOTH or folded(woman) == "m" or folded(man) in ("f", "v")
    for one in told:
        assert one.kind == "swapped-codes" and f'"{woman}" looks like female and is male' in one.words


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair != ("0", "1")], ids="-".join)
def test_so_are_yes_and_no_of_a_category_and_of_the_label(pair: tuple[str, str]) -> None:
    no, yes = pair
    of = Feature(id="there", meaning="whether it is there", type="category", categories=FACES)
    label = Label(id="ill", meaning="is ill", type="binary")
    for one, (negative, positive) in ((of, ("no", "yes")), (label, ("0", "1"))):
        assert list(of_codes(one, "c", {no: negative, yes: positive})) == []
        (doubt,) = of_codes(one, "c", {no: positive, yes: negative})
        assert f'"{yes}" looks like {positive} and is {negative}' in doubt.words


def test_what_numbers_mean_is_nobodys_doubt_unless_the_column_says_it() -> None:
    for codes in ({"1": "female", "2": "male"}, {"2": "female", "1": "male"}, {"0": "male", "1": "female"}):
        assert sexes("sex", codes) == []
    assert sexes("female", {"1": "female", "0": "male"}) == [] and sexes("female", {"0": "female", "1": "male"}) != []
    of = Feature(id="smoking", meaning="smoking", type="category", categories={"never": "n", "former": "f"})
    assert list(of_codes(of, "s", {"NEVER": "never", "former": "former", "stopped": "former"})) == []
    assert [one.kind for one in of_codes(of, "s", {"NEVER": "former", "x": "former"})] == ["swapped-codes"]


def test_a_doubt_is_told_and_blocks_only_where_a_study_says_so() -> None:
    """And nothing is doubted of a unit that is known to be wrong."""
    doubt = Doubt("other-unit", "in g/L, too", "look", '{unit: "g/L"}')
    feature, told = number("mg/dL", 1, 1000), Column(usable=50, doubts=(doubt,))

    def found(told: Column, gate: Gate) -> list[findings.Finding]:
        return list(findings.of_column(Look(feature, told, 50, gate, 0, 0, 0, told.usable)))

    (one,) = found(told, Gate())
    assert (one.kind, one.blocks, one.count, one.place) == ("other-unit", False, 50, "features.lab")
    assert [one.blocks for one in found(told, Gate(blocking=(one.kind,)))] == [True]
    assert [one.kind for one in found(Column(missing=50, doubts=(doubt,)), Gate())] == ["no-values"]


@pytest.mark.parametrize(
    ("about", "analyte", "unit", "told"),
    [
        ({"id": "creatinine"}, "glucose", "umol/L", "creatinine"),
        ({"meaning": "Glucose in plasma"}, "creatinine", "mmol/L", "glucose"),
        ({"analyte": "glucose"}, "urea", "mmol/L", "glucose"),
        ({"id": "creatinine"}, "creatinine", "umol/L", ""),
        ({"id": "creatinine"}, "glucose", "mg/L", ""),
        ({"meaning": "blood urea nitrogen"}, "bun", "mmol/L", ""),
        ({"meaning": "a substance"}, "glucose", "mmol/L", ""),
        ({"meaning": "ratio of urea to creatinine"}, "glucose", "mmol/L", ""),
    ],
)
def test_an_analyte_of_which_the_contract_does_not_speak_is_told(
    about: dict[str, str], analyte: str, unit: str, told: str
) -> None:
    of = number("mg/dL", 1e-9, 1e9).model_copy(update=about)
    doubts = list(of_number(of, FeatureMap(column="c", unit=unit, analyte=analyte), np.linspace(1.0, 2.0, 40)))
    assert [one.kind for one in doubts] == (["named-unit"] if told else [])
    if told:
        assert f"the contract speaks of {told}" in doubts[0].words
        assert doubts[0].write == f'{{unit: "{unit}", analyte: {told}}}'
