"""Median, trimmed mean and Krum: what they choose, by hand and beside scipy, and what a mean does not survive."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from consilium.algorithms.base import Single, Strategy, weighted
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.krum import Krum
from consilium.algorithms.robust import Median, TrimmedMean
from consilium.core import state as chain
from consilium.core.errors import Invalid, StudyInvalid

EVERY: dict[str, Any] = {"median": Median({}), "trimmed-mean": TrimmedMean({"liars": 1}), "krum": Krum({"liars": 1})}
SEVERAL = {**EVERY, "multi-krum": Krum({"liars": 1, "keep": 4})}
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


@pytest.mark.parametrize("name", SEVERAL)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_where_all_agree_it_is_fedavg(name: str, change: list[float]) -> None:
    np.testing.assert_allclose(step(SEVERAL[name], [change] * 7), step(FedAvg({}), [change] * 7), atol=1e-12)


def test_the_trimmed_mean_of_nobody_is_the_mean_over_sites() -> None:
    changes = [[0.0], [1.0], [5.0]]
    assert np.isclose(step(TrimmedMean({"liars": 0}), changes)[0], 2.0)


def test_a_site_counts_once_however_many_patients_it_claims() -> None:
    changes = [[0.0], [1.0], [5.0], [1.2], [0.9]]
    for strategy in EVERY.values():
        np.testing.assert_allclose(step(strategy, changes), step(strategy, changes, (1e6, 1.0, 3.0, 9.0, 2.0)))


@pytest.mark.parametrize("name", SEVERAL)
def test_chunks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = np.random.default_rng(4).normal(size=(7, 50)).tolist()
    whole = step(SEVERAL[name], changes)
    monkeypatch.setattr(chain, "CHUNK", 7)
    assert np.array_equal(step(SEVERAL[name], changes), whole)


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
