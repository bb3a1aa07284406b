"""Preparation: sums over hospitals give what scikit-learn gives on the pooled patients; and small counts are hidden."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms import preparation
from consilium.algorithms.encode import encode, names
from consilium.core.errors import Invalid
from consilium.core.study import Study

NUMBER = {"type": "number", "unit": "1", "missing": "allowed"}
LOW, HIGH = -50.0, 450.0
CELL = (HIGH - LOW) / preparation.GRID


def study(**prepare: Any) -> Study:
    """A number that may be missing, one that may not, and a category that may."""
    return Study.model_validate({
        "consilium": 1, "name": "prepared", "title": "Prepared",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "c",
            "features": [
                {"id": "crp", "meaning": "crp", **NUMBER, "range": [LOW, HIGH]},
                {"id": "age", "meaning": "age", **NUMBER, "range": [0, 120], "missing": "forbidden"},
                {"id": "ward", "meaning": "ward", "type": "category", "categories": {"a": "a", "b": "b", "c": "c"}},
            ],
            "label": {"id": "y", "meaning": "y", "type": "binary"},
        },
        "model": {"kind": "logistic"}, "rounds": 1, "quorum": 3, "prepare": prepare,
    })  # fmt: skip


def patients(seed: int, n: int, missing: float = 0.3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    crp, ward = rng.normal(30 + 5 * seed, 20, n).clip(LOW, HIGH), rng.choice(3, n, p=[0.2, 0.5, 0.3]).astype(float)
    crp[rng.random(n) < missing], ward[rng.random(n) < missing / 2] = np.nan, np.nan
    return {"crp": crp, "age": rng.uniform(20, 90, n), "ward": ward}


HOSPITALS = [patients(1, 90), patients(2, 60), patients(3, 200)]
POOLED = {name: np.concatenate([one[name] for one in HOSPITALS]) for name in HOSPITALS[0]}


def of_all(asked: Study, hospitals: list[dict[str, np.ndarray]] = HOSPITALS) -> dict[str, np.ndarray]:
    total = np.sum([preparation.statistics(asked, one) for one in hospitals], axis=0)
    assert total.size == preparation.sums(asked)[preparation.SUMS].length
    return preparation.learned(asked, total, float(sum(len(one["age"]) for one in hospitals)))


def test_standardised_is_what_standard_scaler_makes_of_the_pooled_patients() -> None:
    sklearn = pytest.importorskip("sklearn.preprocessing")
    asked = study(numbers="standardise", hide_below=1)
    found = encode(asked.contract, POOLED, asked.prepare, of_all(asked))
    theirs = sklearn.StandardScaler().fit_transform(np.column_stack([POOLED["crp"], POOLED["age"]]))
    assert names(asked.contract, asked.prepare) == ["crp", "crp?", "age", "ward=b", "ward=c", "ward?"]
    there = ~np.isnan(POOLED["crp"])
    np.testing.assert_allclose(found[there, 0], theirs[there, 0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found[:, 2], theirs[:, 1], rtol=1e-6, atol=1e-9)
    assert np.all(found[~there, 0] == 0) and np.array_equal(found[:, 1], ~there)


def test_imputed_and_standardised_is_what_a_pipeline_of_theirs_makes() -> None:
    pipeline = pytest.importorskip("sklearn.pipeline")
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    asked = study(numbers="standardise", missing="impute", hide_below=1)
    found = encode(asked.contract, POOLED, asked.prepare, of_all(asked))
    theirs = pipeline.make_pipeline(SimpleImputer(strategy="mean"), StandardScaler())
    numbers = theirs.fit_transform(np.column_stack([POOLED["crp"], POOLED["age"]]))
    ward = SimpleImputer(strategy="most_frequent").fit_transform(POOLED["ward"][:, None])[:, 0]
    assert names(asked.contract, asked.prepare) == ["crp", "age", "ward=b", "ward=c"]
    np.testing.assert_allclose(found[:, :2], numbers, rtol=1e-6, atol=1e-9)
    assert np.array_equal(found[:, 2:], np.column_stack([ward == 1, ward == 2]))


@pytest.mark.parametrize("bins", [2, 4, 10])
def test_bins_are_cut_within_one_cell_of_the_true_quantiles(bins: int) -> None:
    asked = study(bins={"crp": bins}, hide_below=1)
    learned = of_all(asked)
    true = np.nanquantile(POOLED["crp"], np.arange(1, bins) / bins, method="inverted_cdf")
    assert np.max(np.abs(learned["prepare/edges"] - true)) <= CELL
    found = encode(asked.contract, POOLED, asked.prepare, learned)
    assert [name for name in names(asked.contract, asked.prepare) if name.startswith("crp")] == [
        *(f"crp#{number}" for number in range(2, bins + 1)), "crp?",
    ]  # fmt: skip
    there = ~np.isnan(POOLED["crp"])
    which = np.searchsorted(learned["prepare/edges"], POOLED["crp"][there], side="right")
    assert np.array_equal(found[there, : bins - 1], np.arange(1, bins) == which[:, None])
    assert not np.any(found[~there, : bins - 1]) and np.array_equal(found[:, bins - 1], ~there)


def test_rare_categories_count_as_the_first_one() -> None:
    counts = np.bincount(POOLED["ward"][~np.isnan(POOLED["ward"])].astype(int))
    asked = study(rare_below=int(counts[2]) + 1)
    found = encode(asked.contract, POOLED, asked.prepare, of_all(asked))
    assert counts[1] > counts[2] and not np.any(found[:, 4]) and np.array_equal(found[:, 3], POOLED["ward"] == 1)
    asked = study(rare_below=int(counts[2]))
    kept = encode(asked.contract, POOLED, asked.prepare, of_all(asked))
    assert np.array_equal(kept[:, 4], POOLED["ward"] == 2), "with as many patients as that it is none of them"


def test_what_is_not_asked_for_is_not_summed() -> None:
    assert preparation.sums(study(rare_below=2))[preparation.SUMS].length == 3
    assert preparation.sums(study(numbers="standardise"))[preparation.SUMS].length == 6
    assert preparation.sums(study(missing="impute"))[preparation.SUMS].length == 6
    assert preparation.sums(study(bins={"age": 4}))[preparation.SUMS].length == preparation.GRID
    with pytest.raises(ValueError, match="asks for nothing"):
        study()
    with pytest.raises(ValueError, match="no number of the contract"):
        study(bins={"ward": 4})
    told = study(numbers="standardise").model_dump()
    epsilon = {"epsilon": 3, "expected_patients": 50, "delta": 1e-5}
    with pytest.raises(ValueError, match="no noise"):
        Study.model_validate({**told, "privacy": epsilon})


small = st.integers(0, 12)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), small, small, st.lists(small, min_size=3, max_size=3), st.integers(0, 2**31))
def test_no_count_of_few_patients_leaves_a_hospital(
    least: int, there: int, lacking: int, wards: list[int], seed: int
) -> None:
    """Neither as a number that is told, nor as a difference to the number of patients."""
    rng, total = np.random.default_rng(seed), there + lacking
    crp = np.concatenate([rng.uniform(LOW, HIGH, there), np.full(lacking, np.nan)])
    ward = np.concatenate([np.full(count, float(code)) for code, count in enumerate(wards)])[:total]
    ward = np.concatenate([ward, np.full(total - ward.size, np.nan)])
    columns = {"crp": crp, "age": rng.uniform(0, 120, total), "ward": ward}
    asked = study(missing="impute", rare_below=3, bins={"crp": 4}, hide_below=least)
    told = preparation.statistics(asked, columns)
    (count, sum_, squares), cells, codes = told[:3], told[3 : 3 + preparation.GRID], told[3 + preparation.GRID :]
    for counts in ([count], cells, codes):
        for one in [*counts, total - sum(counts)]:
            assert one == 0 or one >= min(least, max(total, 1)), (least, one)
        assert sum(counts) in (0, total) or sum(counts) == np.sum(~np.isnan(crp if len(counts) != 3 else ward))
    assert abs(sum_) <= count + 1e-9 and squares <= count + 1e-9
    preparation.check(told, float(total))


@pytest.mark.parametrize("few", [1, 3, 4])
def test_few_missing_values_are_told_as_numbers_that_patients_have(few: int) -> None:
    """Mean and variance nearly stay; who tells that nothing is missing tells sums that fit."""
    values = {**patients(1, 60, missing=0), "ward": np.zeros(60)}
    values["crp"][:few] = np.nan
    count, sum_, squares, *_ = preparation.statistics(study(numbers="standardise"), values)
    scaled = (values["crp"][few:] - LOW) / ((HIGH - LOW) / 2) - 1
    assert count == 60 and sum_ / count == pytest.approx(scaled.mean(), abs=0.02 * scaled.std())
    assert squares / count - (sum_ / count) ** 2 == pytest.approx(scaled.var(), rel=few / 60)
    added = np.array([sum_ - scaled.sum(), squares - np.sum(scaled**2)])
    assert few > 1 or (np.isclose(scaled, added[0]).any() and added[1] == pytest.approx(added[0] ** 2))


def test_a_constant_and_a_number_that_nobody_has_are_scaled_by_the_range() -> None:
    values = {"crp": np.full(30, np.nan), "age": np.full(30, 40.0), "ward": np.full(30, np.nan)}
    asked = study(numbers="standardise", missing="impute")
    learned = of_all(asked, [values])
    assert learned["prepare/centre"].tolist() == pytest.approx([200.0, 40.0, 0.0])
    assert learned["prepare/spread"].tolist() == [250.0, 60.0, 1.0]
    found = encode(asked.contract, values, asked.prepare, learned)
    assert np.allclose(found, 0)


def test_sums_of_more_patients_than_there_are_are_refused() -> None:
    told = preparation.statistics(study(numbers="standardise"), POOLED)
    preparation.check(told, float(len(POOLED["age"])))
    with pytest.raises(Invalid, match="more than its patients"):
        preparation.check(told, float(len(POOLED["age"]) - 60))


def test_without_what_was_learned_nothing_is_encoded() -> None:
    asked = study(numbers="standardise")
    with pytest.raises(Invalid, match="after the round of preparation"):
        encode(asked.contract, POOLED, asked.prepare, {})
