"""Between what mapped values lie: no value of few patients is shown, and another unit shows as another number."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.contract import Feature
from consilium.core.study import Study
from consilium.data import contract, quality
from consilium.data.base import Table
from consilium.data.contract import Column
from consilium.data.mapping import Mapping
from consilium.data.spread import of_column
from unit.data.conftest import MAPPING, rows

CRP = Feature(id="crp", meaning="CRP", type="number", unit="mg/L", range=(0, 600), typical=(5, 100))
SEX = Feature(id="sex", meaning="sex", type="category", categories={"a": "a", "b": "b", "c": "c"})


def of(values: list[float], feature: Feature = CRP) -> quality.Spread:
    column = np.array([*values, np.nan], dtype=np.float64)
    table = Table({feature.id: column}, np.zeros(len(column)), np.zeros(len(column), dtype=bool))
    return of_column(feature, Column(usable=len(values)), len(values), table)


@given(st.integers(0, 150), st.integers(1, 601), st.integers(0, 99))
def test_ten_patients_lie_at_or_beyond_all_that_is_shown(patients: int, most: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, most, patients).astype(float).tolist()
    found = of(values)
    assert (found.median is None) == (len(values) < 20) and (found.low is None) == (len(values) < 40)
    assert found.hidden == (0 < len(values) < 20)
    if found.low is not None and found.high is not None and found.median is not None:
        assert sum(value <= found.low for value in values) >= max(10, len(values) // 10)
        assert sum(value >= found.high for value in values) >= max(10, len(values) // 10)
        assert found.low <= found.median <= found.high


def test_a_tenth_of_the_true_values_is_seen_beside_what_is_typical() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 300).clip(0, 600)
    right, wrong = of(values.tolist()), of((values / 10).tolist())
    assert right.median and wrong.median == pytest.approx(right.median / 10, rel=0.01)
    assert (right.against, wrong.against) == ("typical 5 to 100", "typical 5 to 100: the median is below")
    assert right.words == f"{right.median:g} mg/L ({right.low:g} to {right.high:g})"


@pytest.mark.parametrize(
    ("counts", "told"),
    [((60, 30, 0), "a 67%, b 33%, c 0%"), ((60, 30, 4), "a 64%, b hidden, c <10"), ((3, 2, 0), "a <10, b <10, c 0%")],
)
def test_of_a_category_no_small_count_follows_from_shares(counts: tuple[int, ...], told: str) -> None:
    column = Column(usable=sum(counts), categories=dict(zip("abc", counts, strict=True)))
    table = Table({}, np.zeros(1), np.zeros(1, dtype=bool))
    assert of_column(SEX, column, sum(counts) if sum(counts) >= 10 else "<10", table).words == told


def test_a_report_has_it_in_the_contracts_unit(study: Study) -> None:
    patients = [(f"k{n}", "50", str(5 + n / 100), "98.6", "1" if n % 3 else "2", str(n % 2)) for n in range(100)]
    found = quality.check(
        study, contract.apply(Mapping.model_validate(MAPPING), study.contract, study.evaluation, rows(*patients))
    )
    words = {one.id: one.spread.words for one in found.features}
    assert words == {
        "age": "50 a (50 to 50)", "glucose": "99 mg/dL (91.7 to 106)", "temp": "37 Cel (37 to 37)",
        "sex": "female 34%, male 66%",
    }  # fmt: skip
    assert Counter(one.spread.against for one in found.features)["range 18 to 110"] == 1
