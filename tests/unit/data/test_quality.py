"""What the check advises: a column that failed for a reason is not called one that the hospital lacks."""

from collections import Counter

import pytest

from consilium.data import quality
from consilium.data.contract import Column

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
