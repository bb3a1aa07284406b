"""Median, trimmed mean and Krum: what they choose, by hand and beside scipy, and what a mean does not survive."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import trim_mean

from consilium.algorithms.base import Single, Strategy, weighted
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.geometric import GeometricMedian
from consilium.algorithms.krum import Krum
from consilium.algorithms.robust import Median, TrimmedMean
from consilium.core import state as chain
from consilium.core.errors import Invalid, StudyInvalid

EVERY: dict[str, Any] = {"median": Median({}), "trimmed-mean": TrimmedMean({"liars": 1}), "krum": Krum({"liars": 1})}
SEVERAL = {**EVERY, "multi-krum": Krum({"liars": 1, "keep": 4})}
WHOLE = {**SEVERAL, "geometric-median": GeometricMedian({})}
WEIGHTS = (10.0, 40.0, 25.0, 8.0, 17.0, 30.0, 12.0)


def step(strategy: Strategy, changes: list[list[float]], weights: tuple[float, ...] = WEIGHTS) -> np.ndarray:
    """By how much the model moves when sites change it by these: through files, as at the coordinator."""
    files, size = [], len(changes[0])
    for change, weight in zip(changes, weights, strict=False):
        out = io.BytesIO()
        chain.write(weighted(np.zeros(size), np.array(change), weight), {}, out)
        files.append(out.getvalue())
    sums, after, state = io.BytesIO(), io.BytesIO(), io.BytesIO()
    chain.fold(files, {}, sums, strategy if isinstance(strategy, Single) else None)
    chain.write(strategy.init(np.zeros(size)), {}, state)
    parent, _ = chain.write(strategy.init(np.zeros(size)), {}, io.BytesIO())
    chain.advance(strategy, state.getvalue(), parent, sums.getvalue(), "r", 1, after)
    return np.array(chain.read(after.getvalue()).arrays["model"])


honest = st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=6, max_size=7)


@given(honest)
def test_the_median_is_numpys_and_the_trimmed_mean_scipys(changes: list[list[float]]) -> None:
    np.testing.assert_allclose(step(Median({}), changes), np.median(changes, axis=0), atol=1e-12)
    wanted = trim_mean(changes, 1.01 / len(changes), axis=0)
    np.testing.assert_allclose(step(TrimmedMean({"liars": 1}), changes), wanted, atol=1e-12)


def test_krum_by_hand() -> None:
    """n = 5, f = 1: two nearest each. On a line at 0, 1, 1.5, 3, 50: scores 1 + 2.25, 0.25 + 1, 0.25 + 2.25, ..."""
    changes = [[0.0], [1.0], [1.5], [3.0], [50.0]]
    assert step(Krum({"liars": 1}), changes) == 1.0
    assert np.isclose(step(Krum({"liars": 1, "keep": 2}), changes)[0], 1.25)
    far = [[0.0], [10.0], [10.1], [2.0], [3.0]]
    assert step(Krum({"liars": 1}), far) == 2.0, "by the nearest alone, two who say nearly the same would be chosen"


@pytest.mark.parametrize("name", SEVERAL)
@settings(max_examples=40)
@given(honest, st.sampled_from([1e3, -1e9, 1e200]), st.integers(0, 7))
def test_what_one_liar_sends_is_bounded_by_what_the_others_say(
    name: str, changes: list[list[float]], lie: float, place: int
) -> None:
    told = [*changes[:place], [lie] * 3, *changes[place:]]
    found = step(SEVERAL[name], told, (*WEIGHTS, 20.0))
    assert np.all(found <= np.max(changes, axis=0) + 1e-9) and np.all(found >= np.min(changes, axis=0) - 1e-9)
    assert np.max(np.abs(step(FedAvg({}), told, (*WEIGHTS, 20.0)))) > 5, "which the mean is not"


def test_the_geometric_median_is_the_point_of_least_distances() -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        changes = rng.normal(size=(7, 4)) * rng.uniform(0.1, 10, size=(7, 1))
        found = step(GeometricMedian({}), changes.tolist())

        def total(z: np.ndarray, of: np.ndarray = changes) -> float:
            return float(np.sum(np.linalg.norm(of - z, axis=1)))

        best = minimize(total, np.mean(changes, axis=0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        assert total(found) <= best.fun + 1e-9


def test_a_change_beyond_all_bounds_takes_no_digit_from_the_others_wherever_it_stands() -> None:
    """It is the same median, to 1e-9, as with a liar who is a thousand times as far as they are."""
    changes = np.random.default_rng(7).normal(size=(6, 4)).tolist()
    wanted = step(GeometricMedian({}), [*changes, [1e9] * 4])
    for lie, place in ((1e9, 0), (1e100, 0), (1e100, 3), (1e300, 6)):
        found = step(GeometricMedian({}), [*changes[:place], [lie] * 4, *changes[place:]])
        np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_the_geometric_median_of_a_triangle_by_hand() -> None:
    """Fermat's point: all angles there are 120 degrees. Of an equilateral triangle it is the middle."""
    found = step(GeometricMedian({}), [[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    np.testing.assert_allclose(found, [0.5, 3**0.5 / 6], atol=1e-9)


@settings(max_examples=40)
@given(honest, st.sampled_from([1e3, -1e9, 1e100, 1e300]), st.integers(0, 7))
def test_the_geometric_median_stays_near_the_others_whatever_one_liar_sends(
    changes: list[list[float]], lie: float, place: int
) -> None:
    """By the triangle inequality (n - f) (D - r) - f D <= (n - f) r, where the others are within r of a point, and it
    is D away from that.
    """
    told = [*changes[:place], [lie, -lie, lie], *changes[place:]]
    middle, sites = np.mean(changes, axis=0), len(told)
    reach = max(np.linalg.norm(np.array(one) - middle) for one in changes)
    found = step(GeometricMedian({}), told, (*WEIGHTS, 20.0))
    assert np.linalg.norm(found - middle) <= 2 * (sites - 1) / (sites - 2) * reach + 1e-6


@pytest.mark.parametrize("name", WHOLE)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_where_all_agree_it_is_fedavg(name: str, change: list[float]) -> None:
    np.testing.assert_allclose(step(WHOLE[name], [change] * 7), step(FedAvg({}), [change] * 7), atol=1e-12)


def test_the_trimmed_mean_of_nobody_is_the_mean_over_sites() -> None:
    changes = [[0.0], [1.0], [5.0]]
    assert np.isclose(step(TrimmedMean({"liars": 0}), changes)[0], 2.0)


def test_a_site_counts_once_however_many_patients_it_claims() -> None:
    changes = [[0.0], [1.0], [5.0], [1.2], [0.9]]
    for strategy in (*EVERY.values(), WHOLE["geometric-median"]):
        np.testing.assert_allclose(step(strategy, changes), step(strategy, changes, (1e6, 1.0, 3.0, 9.0, 2.0)))


@pytest.mark.parametrize("name", WHOLE)
def test_chunks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = np.random.default_rng(4).normal(size=(7, 50)).tolist()
    whole = step(WHOLE[name], changes)
    monkeypatch.setattr(chain, "CHUNK", 7)
    np.testing.assert_allclose(step(WHOLE[name], changes), whole, rtol=1e-12)


@pytest.mark.parametrize(("strategy", "least"), [(Krum({"liars": 1}), 5), (Krum({"liars": 1, "keep": 3}), 6),
                                                 (TrimmedMean({"liars": 2}), 5), (Median({}), 3)])  # fmt: skip
def test_too_few_answers_are_refused_and_not_combined_in_a_weaker_way(strategy: Any, least: int) -> None:
    changes = [[float(site)] for site in range(least)]
    step(strategy, changes)
    with pytest.raises(Invalid, match=f"the strategy needs {least}"):
        step(strategy, changes[1:])


def test_options_out_of_bounds_are_refused_by_name() -> None:
    with pytest.raises(StudyInvalid, match=r"strategy\.options\.liars"):
        Krum({"liars": -1})
