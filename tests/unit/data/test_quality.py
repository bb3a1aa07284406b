"""What the check advises: a column that failed for a reason is not called one that the hospital lacks, and so on."""

from collections import Counter

import numpy as np
import pytest

from consilium.core.study import Study
from consilium.data import quality
from consilium.data.base import Table
from consilium.data.contract import Column, Mapped

LACKING = "this hospital has no value"


@pytest.mark.parametrize(
    "told", [Column(unmapped=Counter({"no": 161, "yes": 79})), Column(not_a_number=240), Column(out_of_range=240)]
)
def test_a_column_that_only_needs_mending_is_not_called_absent(told: Column) -> None:
    advice, level = quality._advice(told, 240)
    assert level == "problem" and len(advice) == 1 and LACKING not in advice[0]


def test_a_column_without_any_value_is() -> None:
    advice, level = quality._advice(Column(missing=240), 240)
    assert level == "note" and LACKING in advice[0]


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
