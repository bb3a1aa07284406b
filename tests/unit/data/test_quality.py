"""What the check advises: a column that failed for a reason is not called one that the hospital lacks, and so on."""

import json
from collections import Counter
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consilium.core.gate import TOLD, Gate
from consilium.core.study import Study
from consilium.data import choosing, contract, quality
from consilium.data.base import Lost, Seen, Table, Unnamed
from consilium.data.contract import Column, Mapped
from consilium.data.counts import hidden
from consilium.data.mapping import Mapping
from consilium.data.quality import Fit, Report
from consilium.data.traps import Looks
from unit.data.conftest import MAPPING, rows

LACKING = "this hospital has no value"


def fit(study: Study, told: Column, rows: int, **gate: Any) -> Fit:
    """What is said of the first feature, of which all is `told`."""
    whole = study.model_copy(update={"min_patients": 0, "gate": Gate(**gate)})
    columns = {feature.id: Column(usable=rows) for feature in study.contract.features}
    first = study.contract.features[1].id
    table = Table({}, np.arange(rows) % 2.0, np.arange(rows) % 3 == 0)
    found = quality.check(whole, Mapped(table, rows, 0, 0, {**columns, first: told}, Column(usable=rows)))
    return next(one for one in found.features if one.id == first)


@pytest.mark.parametrize(
    "told", [Column(unmapped=Counter({"no": 161, "yes": 79})), Column(not_a_number=240), Column(out_of_range=240)]
)
def test_a_column_that_only_needs_mending_is_not_called_absent(study: Study, told: Column) -> None:
    found = fit(study, told, 240)
    assert found.level == "problem" and len(found.findings) == 1 and LACKING not in found.findings[0].words


@pytest.mark.parametrize(
    "told", [Column(missing=240), Column(missing=40, not_a_number=200, placeholders=Counter({"?": 200})),
             Column(out_of_range=240, looks=Looks(outside={"0": 240}))]
)  # fmt: skip
def test_a_column_without_any_value_is(study: Study, told: Column) -> None:
    found = fit(study, told, 240)
    (only,) = found.findings
    assert (
        found.level == "note" and LACKING in only.words and (only.place, only.write) == ("features.glucose", "absent")
    )


def test_that_a_value_may_be_lost_by_the_query_is_told_before_absent(study: Study) -> None:
    (only,) = fit(study, Column(missing=240), 240).findings
    assert only.remedy.index("query lost it") < only.remedy.index("`absent`")


def test_that_most_patients_lack_what_must_not_be_missing_is_told_with_how_many(study: Study) -> None:
    features = tuple(one.model_copy(update={"missing": "forbidden"}) for one in study.contract.features)
    strict = study.model_copy(update={"contract": study.contract.model_copy(update={"features": features})})
    (only,) = fit(strict, Column(usable=50, missing=200), 250).findings
    assert only.kind == "sparse" and "of 250 patients 50 have a value, and no others can take part" in only.words
    assert fit(strict, Column(usable=4, missing=246), 250).findings[0].count == "<10"
    assert not fit(strict, Column(usable=150, missing=100), 250).findings
    assert not fit(study, Column(usable=50, missing=200), 250).findings


def test_commas_for_points_are_told_as_that(study: Study) -> None:
    (only,) = fit(study, Column(usable=100, not_a_number=140, commas=120), 240).findings
    assert only.kind == "not-a-number" and only.blocks and "such as 7,5" in only.words and "replace(" in only.remedy


def test_what_the_mapping_calls_absent_is_told_and_nothing_is_to_be_written(study: Study) -> None:
    (only,) = fit(study, Column(missing=240, absent=True), 240).findings
    assert "as its mapping says" in only.words and not only.write and "write" not in only.remedy


def test_the_study_says_what_blocks_and_from_which_share_on(study: Study) -> None:
    words = Column(usable=200, not_a_number=40)
    assert fit(study, words, 240).level == "problem"
    assert fit(study, words, 240, advisory=("not-a-number",)).level == "note"
    assert fit(study, words, 240, not_a_number_max=0.5).level == "note"
    assert fit(study, Column(missing=240), 240, advisory=()).level == "problem"
    assert fit(study, Column(usable=40, not_a_number=9), 49).level == "note", "that it blocks would give it away"


def test_bounds_are_a_finding_of_their_own_that_names_what_ten_patients_have(study: Study) -> None:
    bounds = Counter({"<5": 31, ">90": 5})
    first, second = fit(study, Column(usable=200, not_a_number=50, bounds=bounds), 250).findings
    assert (first.kind, first.count, first.blocks) == ("bound", 36, True)
    assert '"<5"' in first.words and "90" not in first.words and "`missing`" in first.remedy
    assert (second.kind, second.count) == ("not-a-number", 14)
    few, rest = fit(study, Column(usable=200, not_a_number=50, bounds=Counter({"<5": 5})), 250).findings
    assert (few.count, few.blocks, rest.count) == ("<10", False, "hidden") and "5" not in few.words
    assert fit(study, Column(usable=200, not_a_number=40, bounds=Counter({"<5": 40})), 240).level == "problem"


def test_records_that_cannot_be_read_are_told_by_what_they_lack(study: Study) -> None:
    unread = Counter({"moment": 30, "system": 5})
    told = Column(usable=200, not_a_number=50, unread=unread, recorded=True)
    moment, system, rest = fit(study, told, 250).findings
    assert (moment.kind, moment.count, moment.blocks) == ("unread", 30, True) and "no moment" in moment.words
    assert (system.kind, system.count, system.blocks) == ("unread", "<10", False) and "`local`" in system.remedy
    assert (rest.kind, rest.count) == ("not-a-number", "hidden")
    assert all("no value until then" in one.remedy for one in (moment, system, rest))


JUDGED, LEARNS = "no model, be it common or local, can be judged here", "trained here alone learns nothing"
CASES: dict[str, tuple[list[int], list[int], tuple[str, ...]]] = {  # classes in training, held out: what is said
    "both in both": ([0, 1], [0, 1], ()),
    "one class": ([1, 1], [1, 1], ("all patients have one class only", JUDGED, LEARNS)),
    "the other class": ([0, 0], [0, 0], ("all patients have one class only", JUDGED, LEARNS)),
    "held out": ([0, 1], [1, 1], ("the held-out patients have one class only", JUDGED)),
    "training": ([0, 0], [0, 1], ("the training patients have one class only", LEARNS)),
    "nobody": ([], [], ()),
}


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("name", CASES)
def test_where_a_class_is_lacking_it_is_said_with_what_follows_and_nothing_is_in_the_way(
    study: Study, name: str, count: int
) -> None:
    training, held, words = CASES[name]
    label = np.array([*training, *held] * count, dtype=float)
    test = np.array([*([False] * len(training)), *([True] * len(held))] * count, dtype=bool)
    told = Column(usable=len(label))
    columns = {feature.id: Column(usable=len(label)) for feature in study.contract.features}
    mapped = Mapped(Table({}, label, test), len(label), 0, 0, columns, told)
    found = quality.check(study.model_copy(update={"min_patients": 0}), mapped)
    (advice,) = found.label.advice or ("",)
    if not words:
        assert "class" not in advice and found.prevalence != "one class only"
        return
    assert all(part in advice for part in words) and ((JUDGED in advice) + (LEARNS in advice)) == len(words) - 1
    assert found.label.level == "note" and found.usable, "it takes part all the same"
    assert (found.prevalence == "one class only") == words[0].startswith("all")


def test_a_label_that_is_no_class_has_none_to_lack(study: Study) -> None:
    label = study.contract.label.model_copy(update={"type": "count"})
    counted = study.model_copy(update={"contract": study.contract.model_copy(update={"label": label})})
    columns = {feature.id: Column(usable=40) for feature in study.contract.features}
    mapped = Mapped(Table({}, np.ones(40), np.arange(40) < 10), 40, 0, 0, columns, Column(usable=40))
    assert quality.check(counted, mapped).label.advice == ()


def sexes(study: Study, given: dict[str, int], codes: dict[str, str], **gate: Any) -> Report:
    """The check of a table in which so many patients have each code."""
    mapping = deepcopy(MAPPING)
    mapping["features"]["sex"]["codes"] = codes
    cells = [code for code, count in given.items() for _ in range(count)]
    each = (
        (f"p{n}", str(20 + n % 60), f"{5 + n % 7}", f"{97 + n % 5}", code, str(n % 2)) for n, code in enumerate(cells)
    )
    table = rows(*each)
    made = contract.apply(Mapping.model_validate(mapping), study.contract, study.evaluation, table)
    return quality.check(study.model_copy(update={"min_patients": 1, "gate": Gate(**gate)}), made)


@pytest.mark.parametrize("women", [1, 6, 9, 40])
def test_a_category_that_nobody_has_beside_codes_without_meaning_blocks(study: Study, women: int) -> None:
    """All women were unmapped, and fewer than ten of them blocked nothing."""
    found = sexes(study, {"m": 160, "w": women}, {"f": "female", "m": "male"})
    (told,) = (one for one in found.findings if one.where == "sex")
    assert told.kind == "unmapped-codes" and told.blocks and not found.usable
    assert "no patient is `female`" in told.words and "means `female`" in told.remedy
    if women < 10:
        assert (told.count, found.features[3].unmapped) == ("<10", {"(rare codes)": "<10"}), "how many is not told"
    assert sexes(study, {"m": 160, "w": women}, {"f": "female", "m": "male"}, advisory=(*TOLD, "unmapped-codes")).usable
    assert sexes(study, {"m": 160, "w": women}, {"w": "female", "m": "male"}).usable


def test_of_codes_that_few_have_beside_a_category_that_few_have_no_number_is_told(study: Study) -> None:
    """Whether it blocks says whether nobody has the category, and no more."""
    codes = {"f": "female", "m": "male"}
    for there in ((0,), range(1, 10)):
        told = {
            one
            for f in there
            for w in (1, 5, 9)
            for one in sexes(study, {"m": 160 - w - f, "f": f, "w": w}, codes).findings
            if one.where == "sex"
        }
        assert len(told) == 1 and told.pop().blocks is (there == (0,))


def test_a_category_that_almost_nobody_has_blocks_beside_many_codes_without_meaning(study: Study) -> None:
    many = sexes(study, {"m": 560, "w": 20, "f": 3}, {"f": "female", "m": "male"})
    few = sexes(study, {"m": 560, "w": 4, "f": 3}, {"f": "female", "m": "male"})
    for found, usable in ((many, False), (few, True)):
        (told,) = (one for one in found.findings if one.where == "sex")
        assert "fewer than 10 patients are `female`" in told.words and found.usable is usable


def test_a_category_that_nobody_has_is_told_where_every_code_has_a_meaning(study: Study) -> None:
    found = sexes(study, {"m": 160}, {"f": "female", "m": "male"})
    (told,) = (one for one in found.findings if one.where == "sex")
    assert (told.kind, told.blocks, told.words) == ("empty-category", False, "no patient is `female`") and found.usable
    assert not sexes(study, {"m": 160}, {"f": "female", "m": "male"}, blocking=["empty-category"]).usable
    assert not [one for one in sexes(study, {"m": 160, "f": 1}, {"f": "female", "m": "male"}).findings if one.where]


def test_what_is_to_be_written_at_missing_keeps_what_stands_there(study: Study) -> None:
    """Pasted in the place of what the mapping had, the code for missing that it knew was lost."""
    cells = [*("0" for _ in range(15)), *("?" for _ in range(15)), *(str(5 + n % 40 / 10) for n in range(120)), "-9"]
    mapping = deepcopy(MAPPING)
    mapping["features"]["temp"]["missing"] = ["7"]
    table = rows(*((f"p{n}", str(20 + n % 60), cell, "98.6", "12"[n % 2], str(n % 2)) for n, cell in enumerate(cells)))
    made = contract.apply(Mapping.model_validate(mapping), study.contract, study.evaluation, table)
    findings = quality.check(study.model_copy(update={"min_patients": 1}), made).findings
    written = [json.loads(one.write) for one in findings if one.place == "features.glucose.missing"]
    assert written == [["-9", "?"], ["-9", "?", "0"]], "and each next one what those before it said"


@pytest.mark.parametrize("form", ["19{:02}-07-14", "14.07.19{:02}"])
def test_dates_of_birth_are_told_with_what_to_do(study: Study, form: str) -> None:
    table = rows(*((f"p{n}", form.format(30 + n % 50), "5", "98", "12"[n % 2], str(n % 2)) for n in range(40)))
    made = contract.apply(Mapping.model_validate(MAPPING), study.contract, study.evaluation, table)
    (told,) = (one for one in quality.check(study, made).findings if one.where == "age")
    assert (told.kind, told.count, told.blocks) == ("not-a-number", 40, True)
    assert "dates of birth" in told.words and told.remedy.startswith("compute age")


def test_what_is_not_known_of_the_rows_is_told_and_stands_in_nobodys_way(study: Study) -> None:
    """Of rows that were chosen among others, too."""
    table = rows(
        *((f"p{n}", str(20 + n % 60), f"{5 + n % 7}", f"{97 + n % 5}", "12"[n % 2], str(n % 2)) for n in range(40))
    )
    doubted = choosing.at(replace(table, doubts=("nobody knows",)), list(range(30)))
    made = contract.apply(Mapping.model_validate(MAPPING), study.contract, study.evaluation, doubted)
    report = quality.check(study, made)
    (told,) = (one for one in report.findings if not one.where and one.kind != "few-patients")
    assert (told.kind, told.words, told.blocks, told.undone) == ("text-order", "nobody knows", False, True)
    assert report.undone == report.to_json()["undone"] == 1
    beside = Unnamed("lab.test", ("HB",), (("CRP", 12),))
    made = contract.apply(
        Mapping.model_validate(MAPPING), study.contract, study.evaluation, replace(table, doubts=(beside,))
    )
    shown = quality.check(study, made)
    assert shown.unnamed == (beside,) and "unnamed" not in shown.to_json() and not shown.undone
    for asked, blocks in (({}, False), ({"blocking": ("text-order",)}, True)):
        unknown = Seen("text-order", "nobody knows of keys", "count them", unknown=True)
        made = contract.apply(
            Mapping.model_validate(MAPPING), study.contract, study.evaluation, replace(table, doubts=(unknown,))
        )
        found = quality.check(study.model_copy(update={"gate": Gate(**asked)}), made).findings
        said = [(one.remedy, one.blocks, one.undone) for one in found if "of keys" in one.words]
        assert said == [("count them", blocks, True)]
    for lost, blocks in ((1, False), (12, True)):
        query_lost = replace(table, doubts=(Lost(("krea",), lost, 40),))
        made = contract.apply(Mapping.model_validate(MAPPING), study.contract, study.evaluation, query_lost)
        (told,) = (one for one in quality.check(study, made).findings if "TRY_CAST" in one.words)
        assert (told.kind, told.count, told.blocks) == ("not-a-number", hidden(lost), blocks) and "krea" in told.words
        assert not told.undone


def test_nothing_is_proposed_by_what_is_left_of_a_column_that_is_not_read(study: Study) -> None:
    """Of a column of which much has a comma, or that hangs on what the query made of it, 0 is no guess."""
    cells = [("0" if n < 12 else f"{5 + n % 40 / 10}") for n in range(120)]
    commas = [cell.replace(".", ",") if n > 60 else cell for n, cell in enumerate(cells)]
    lost = (Seen("text-order", "divides", "mend it", 12, 120, ("GLU",)), Lost(("GLU",), 12, 120))
    for given, doubts, written in ((cells, (), True), (commas, (), False), *((cells, (one,), False) for one in lost)):
        table = rows(*((f"p{n}", "50", cell, "98", "12"[n % 2], str(n % 2)) for n, cell in enumerate(given)))
        mapping = Mapping.model_validate(MAPPING)
        column = mapping.features["glucose"].column  # type: ignore[union-attr]
        doubts = tuple(replace(one, columns=(column,)) for one in doubts)
        made = contract.apply(mapping, study.contract, study.evaluation, replace(table, doubts=doubts))
        found = [one for one in quality.check(study, made).findings if one.kind == "code-for-missing"]
        assert [bool(one.write) for one in found if one.where == "glucose"] == [written]
        assert written or "first mend what else is told" in found[0].remedy


@pytest.mark.parametrize(("listed", "out", "told"), [
    (45, 43, "<10 of the opt-out list of 45 are in none"), (60, 43, "17 of the opt-out list of 60"), (43, 43, ""),
    (5, 0, ""), (None, 0, ""),
])  # fmt: skip
def test_who_of_the_list_is_nowhere_is_told(study: Study, listed: int | None, out: int, told: str) -> None:
    table = rows(*((f"p{n}", str(20 + n % 60), f"{5 + n % 7}", f"{97 + n % 5}", "12"[n % 2], str(n % 2))
                   for n in range(40)))  # fmt: skip
    made = contract.apply(Mapping.model_validate(MAPPING), study.contract, study.evaluation, table, None, out, listed)
    found = [one for one in quality.check(study, made).findings if one.kind == "of-nobody"]
    assert [told in one.words and "merged" in one.remedy and not one.blocks for one in found] == [True] * bool(told)
