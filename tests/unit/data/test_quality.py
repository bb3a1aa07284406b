"""What the check advises: a column that failed for a reason is not called one that the hospital lacks, and so on."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from consilium.core.gate import Gate
from consilium.core.study import Study
from consilium.data import quality
from consilium.data.base import Table
from consilium.data.contract import Column, Mapped
from consilium.data.quality import Fit
from consilium.data.traps import Looks

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


def test_the_study_says_what_blocks_and_from_which_share_on(study: Study) -> None:
    words = Column(usable=200, not_a_number=40)
    assert fit(study, words, 240).level == "problem"
    assert fit(study, words, 240, advisory=("not-a-number",)).level == "note"
    assert fit(study, words, 240, not_a_number_max=0.5).level == "note"
    assert fit(study, Column(missing=240), 240, advisory=()).level == "problem"
    assert fit(study, Column(usable=40, not_a_number=9), 49).level == "note", "that it blocks would give it away"


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
