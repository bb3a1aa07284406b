"""A mapping applied to a hospital's rows: every cell is usable, missing, out of range, unmapped or no number."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consilium import plugins
from consilium.core.errors import ConsiliumError, DataUnusable, MappingInvalid
from consilium.core.study import Study
from consilium.data import contract, quality
from consilium.data.base import Rows
from consilium.data.bounds import NO_TIME
from consilium.data.cohort import held_out
from consilium.data.contract import Mapped
from consilium.data.mapping import Mapping, load
from consilium.data.source import EXAMPLES, KEYS, TableSource
from unit.data.conftest import COLUMNS, MAPPING, rows

fixture = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=150
)


def apply(study: Study, given_: Rows, **changes: Any) -> Mapped:
    mapping = Mapping.model_validate({**MAPPING, **changes})
    return contract.apply(mapping, study.contract, study.evaluation, given_)


def test_units_are_converted_and_categories_become_their_index(study: Study) -> None:
    found = apply(study, rows(("p", "50", "5.5", "98.6", "1", "1"), ("q", "61", "10", "104", "2", "0")))
    columns = found.table.columns
    np.testing.assert_allclose(columns["glucose"], [5.5 * 18.016, 180.16])
    np.testing.assert_allclose(columns["temp"], [37.0, 40.0])
    assert columns["sex"].tolist() == [1.0, 0.0] and found.table.label.tolist() == [1.0, 0.0]
    assert found.features["glucose"].converted == "mmol/L to mg/dL" and found.features["age"].converted == ""


CELLS = {
    "usable": ("5.5", "usable"),
    "blanks around": (" 5.5 ", "usable"),
    "empty": ("", "missing"),
    "blank": ("  ", "missing"),
    "nothing": (None, "missing"),
    "everybody's code for missing": ("NA", "missing"),
    "the column's own code": ("-9", "missing"),
    "the code, written otherwise": ("-9.0", "missing"),
    "below the range, in the contract's unit": ("1", "out_of_range"),
    "above it": ("40", "out_of_range"),
    "a word": ("high", "not_a_number"),
    "no number": ("nan", "not_a_number"),
    "beyond all bounds": ("inf", "not_a_number"),
    "a decimal comma": ("5,5", "not_a_number"),
    "a bound": ("<5", "not_a_number"),
}


@pytest.mark.parametrize("name", CELLS)
def test_every_number_is_counted_as_what_it_is(study: Study, name: str) -> None:
    text, what = CELLS[name]
    told = apply(study, rows(("p", "50", text, "98.6", "1", "1"))).features["glucose"]
    counts = {kind: getattr(told, kind) for kind in ("usable", "missing", "out_of_range", "not_a_number")}
    assert counts == {kind: int(kind == what) for kind in counts}


@pytest.mark.parametrize(("code", "what"), [("1", 1.0), ("1.0", 1.0), ("01", 1.0), (" 2 ", 0.0), ("9", "missing"),
                                            ("3", "unmapped"), ("m", "unmapped"), (None, "missing")])  # fmt: skip
def test_every_code_is_counted_as_what_it_is(study: Study, code: str | None, what: float | str) -> None:
    found = apply(study, rows(("p", "50", "5", "98.6", code, "1")))
    told = found.features["sex"]
    if isinstance(what, float):
        assert found.table.columns["sex"].tolist() == [what]
    else:
        assert (told.usable, told.missing, sum(told.unmapped.values())) == (0, what == "missing", what == "unmapped")


def test_a_value_of_which_no_time_of_day_tells_which_it_is_is_counted_as_such(study: Study) -> None:
    """As a source of OMOP gives it."""
    found = apply(study, rows(("p", "50", NO_TIME, "98.6", NO_TIME, "1")))
    for name in ("glucose", "sex"):
        told = found.features[name]
        assert (dict(told.unread), told.not_a_number, told.usable) == ({"day": 1}, 1, 0)
        assert not told.unmapped and np.isnan(found.table.columns[name][0])
    (finding,) = [one for one in quality.check(study, found).findings if one.where == "sex" and one.kind == "unread"]
    assert "without a time of day" in finding.words


def test_rows_without_label_or_a_compulsory_value_are_left_out_and_counted(study: Study) -> None:
    good = ("50", "5", "98.6", "1")
    found = apply(
        study, rows(("a", *good, "1"), ("b", *good, ""), ("c", "", *good[1:], "0"), ("d", "", *good[1:], "NA"))
    )
    assert (found.read, found.without_label, found.incomplete, len(found.table.label)) == (4, 2, 1, 1)


texts = st.one_of(
    st.none(), st.sampled_from(["1", "2", "0", "-9", "NA", "", "5.5", "1e9", "x", "50", "98.6", "1_0", "٣", "nan"]),
    st.text(st.characters(codec="utf-8"), max_size=5),
)  # fmt: skip


@fixture
@given(cells=st.lists(st.tuples(texts, texts, texts, texts, st.sampled_from(["0", "1", "", None, "7"])), max_size=30))
def test_every_row_is_kept_or_left_out_for_one_reason(study: Study, cells: list[tuple[str | None, ...]]) -> None:
    found = apply(study, rows(*((f"p{number}", *row) for number, row in enumerate(cells))))
    table = found.table
    assert len(table.label) + found.without_label + found.incomplete == found.read == len(cells)
    for told in (*found.features.values(), found.label):
        cells_told = told.usable + told.missing + told.out_of_range + told.not_a_number + sum(told.unmapped.values())
        assert cells_told == found.read
    assert np.all(np.isin(table.label, (0.0, 1.0))) and not np.any(np.isnan(table.columns["age"]))
    for name, values in table.columns.items():
        known = values[~np.isnan(values)]
        feature = next(feature for feature in study.contract.features if feature.id == name)
        low, high = feature.range or (0, 1)
        assert np.all((known >= low) & (known <= high)), "nothing outside the contract goes to training"
    assert set(table.arrays()) == {
        "feature/age",
        "feature/glucose",
        "feature/temp",
        "feature/sex",
        "label",
        "test",
        "validation",
    }


def test_a_patient_twice_or_without_a_key_is_refused(study: Study) -> None:
    good = ("50", "5", "98.6", "1", "1")
    for keys in (("p", "p"), ("p", " p "), ("p", None), ("p", " ")):
        with pytest.raises(DataUnusable):
            apply(study, rows(*((key, *good) for key in keys)))


def test_held_out_patients_are_the_same_in_any_order_and_about_the_fraction(study: Study) -> None:
    good = ("50", "5", "98.6", "1", "1")
    keys = [f"p{number}" for number in range(300)]
    found = apply(study, rows(*((key, *good) for key in keys))).table.test
    again = apply(study, rows(*((key, *good) for key in reversed(keys)))).table.test
    assert found.tolist() == again.tolist()[::-1] and 60 < found.sum() < 120
    assert found.tolist() == [held_out(key, study.evaluation.split_seed, 0.3) for key in keys]
    assert held_out("p", 1, 0.999999) and not held_out("p", 1, 0.000001)


def test_a_label_that_does_not_fit_its_type_is_refused(study: Study) -> None:
    good = ("50", "5", "98.6", "1")
    with pytest.raises(MappingInvalid, match="0 or 1"):
        apply(study, rows(("p", *good, "1")), label={"column": "SICK", "codes": {"1": 2}})
    count = study.contract.label.model_copy(update={"type": "count"})
    counted = study.contract.model_copy(update={"label": count})
    mapping = Mapping.model_validate({**MAPPING, "label": {"column": "SICK"}})
    for bad in ("1.5", "-1"):
        with pytest.raises(MappingInvalid, match="whole number"):
            contract.apply(mapping, counted, study.evaluation, rows(("p", *good, bad)))


MARK = "MUSTERMANN-4711"


@fixture
@given(
    column=st.sampled_from(COLUMNS), row=st.integers(0, 2),
    marked=st.sampled_from([MARK, f"1{MARK}", f" {MARK}", "4711"]),
    broken=st.sampled_from(["none", "twice", "absent", "headerless", "key"]),
)  # fmt: skip
def test_no_error_holds_a_cell(study: Study, column: str, row: int, marked: str, broken: str) -> None:
    table = rows(*((f"{n}", "50", "5", "98.6", "1", "1") for n in range(3)))
    table.columns[column][row] = marked
    if broken == "twice":
        table.columns["id"] = [marked, marked, "x"]
    if broken == "key":
        table.columns["id"] = [marked, None, "x"]
    if broken == "absent":
        del table.columns[column]
    if broken == "headerless":  # the first patient was taken for the names of the columns
        table = Rows({f"{marked}{n}": values[1:] for n, values in enumerate(table.columns.values())})
    try:
        apply(study, table)
    except ConsiliumError as error:
        assert "4711" not in str(error), error
    else:
        assert broken == "none"


BAD: dict[str, tuple[list[str], Any, str]] = {
    "another contract": (["contract"], "other", "needs 'c'"),
    "a feature that is not there": (["features", "weight"], {"column": "W"}, "no such feature"),
    "a feature that is left out": (["features", "temp"], None, "features.temp: is missing"),
    "a compulsory feature that is absent": (["features", "age"], "absent", "does not allow"),
    "no unit": (["features", "age"], {"column": "AGE"}, "give the unit"),
    "an expression": (
        ["features", "age"],
        {"column": "AGE", "expression": "1"},
        r"yaml:\d+: features.age.expression: '1': unknown key",
    ),
    "no column": (["features", "age"], {"unit": "a"}, r"yaml:\d+: features.age.column: is missing"),
    "no codes": (["features", "sex"], {"column": "SEX"}, "say which code"),
    "a meaning that is none": (["features", "sex", "codes"], {"1": "man"}, "'man' is none of female, male"),
    "no codes of the label": (["label"], {"column": "SICK"}, "which code means 0"),
    "an unknown key": (["colour"], "red", "unknown key"),
    "a type of source that is none, and a key that none has": (
        ["source"],
        {"type": "sqlite", "file": "t.db"},
        r"mapping.yaml:\d+: source.type: 'sqlite': .*must be one of csv, .*type sql is written \{type: sql, url: .sqlite:///",
    ),
    "a key that this type has not": (
        ["source"],
        {"type": "sql", "path": "t.duckdb", "table": "visits"},
        r"mapping.yaml:\d+: source.table: .*it takes url, path, query, time_limit_s, zone, such as \{type: sql",
    ),
    "a query of a file": (
        ["source"],
        {"type": "csv", "path": "t.csv", "query": "SELECT 1"},
        "source.query: .*type csv",
    ),
    "both a key and none": (["patient"], {"column": "id", "row": True}, "give `column: NAME`, or"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mapping_that_does_not_fit_is_refused_with_what_to_do(study: Study, tmp_path: Path, name: str) -> None:
    path, value, words = BAD[name]
    values = deepcopy(MAPPING)
    inner = values
    for part in path[:-1]:
        inner = inner[part]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(MappingInvalid, match=words):
        load(tmp_path / "mapping.yaml", study.contract)


def test_a_column_that_is_misspelled_is_told_with_its_neighbours(study: Study) -> None:
    table = rows(("p", "50", "5", "98.6", "1", "1"))
    table.columns["TEMPS"] = table.columns.pop("TEMP")
    with pytest.raises(MappingInvalid, match="did you mean TEMPS"):
        apply(study, table)


@pytest.mark.parametrize("names", [("SECRET", "77", "1"), ("id", "77", "1", "AGES"), ("id", "AGE", "1", "SECRET")])
def test_of_a_first_line_that_may_be_a_patient_nothing_is_told(study: Study, names: tuple[str, ...]) -> None:
    """Values of a patient may be what a column is called, or nearly so; names are told where most are there."""
    with pytest.raises(MappingInvalid, match="header: false") as caught:
        apply(study, Rows({name: ["x"] for name in names}))
    assert not re.search(r"SECRET|77|AGES", str(caught.value))


@pytest.mark.parametrize(("text", "doubts"), [("55.{n:03}", ["other-unit"]), ("55.{n}", []), ("{n}", [])])
def test_points_that_may_separate_thousands_are_doubted(study: Study, text: str, doubts: list[str]) -> None:
    wide = study.contract.features[0].model_copy(update={"range": (10.0, 99_000.0)})
    told = study.contract.model_copy(update={"features": (wide, *study.contract.features[1:])})
    table = rows(*((f"p{n}", text.format(n=n + 20), "5", "98.6", "1", "1") for n in range(40)))
    found = apply(study.model_copy(update={"contract": told}), table)
    assert [one.kind for one in found.features["age"].doubts] == doubts


def test_a_unit_that_cannot_be_converted_is_told_with_its_feature(study: Study) -> None:
    features = deepcopy(MAPPING["features"])
    features["glucose"]["unit"] = "mm[Hg]"
    with pytest.raises(MappingInvalid, match=r"features\.glucose\.unit: 'mm\[Hg\]' cannot be converted"):
        apply(study, rows(("p", "50", "5", "98.6", "1", "1")), features=features)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_each_type_of_source_has_an_example_that_is_one(kind: str) -> None:
    example = yaml.safe_load(EXAMPLES[kind])
    assert TableSource.model_validate(example).type == kind and set(example) - {"type"} <= set(KEYS[kind])


def test_every_key_of_a_source_belongs_to_a_type() -> None:
    assert {key for keys in KEYS.values() for key in keys} == set(TableSource.model_fields) - {"type"}
    assert KEYS.keys() == EXAMPLES.keys() == plugins.names("consilium.sources").keys()


@pytest.mark.parametrize(("several", "told"), [(1, "<10 patients"), (9, "<10 patients"), (12, "12 patients")])
def test_how_many_patients_have_several_rows_is_told_and_few_are_hidden(study: Study, several: int, told: str) -> None:
    one = [(f"p{number}", "50", "5", "98.6", "1", "1") for number in range(20)]
    with pytest.raises(DataUnusable, match=f"^{told} have more than one row") as error:
        apply(study, rows(*one, *one[:several], *one[:several]))
    assert "GROUP BY" in error.value.remedy
