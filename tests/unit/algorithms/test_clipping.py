"""Changes of hospitals clipped as a whole: the bound that one never exceeds, and the law by which it moves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.algorithms.base import Here, Local
from consilium.algorithms.clipping import RATE, Clipped, moved
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.fedopt import FedAvgM
from consilium.algorithms.fedprox import FedProx
from consilium.algorithms.qfedavg import QFedAvg
from consilium.core.errors import StudyInvalid
from consilium.core.tensors import Tensors
from consilium.testing.trainers import a_study

STUDY = a_study("binary", {"kind": "logistic"})


def sent(strategy: Clipped, state: Tensors, change: np.ndarray) -> Tensors:
    def loss(of: np.ndarray) -> float:
        raise AssertionError("nobody asks")

    local = Local((state["model"] + change,), 1234.0, 5, 0.1)
    return strategy.contribution(Here(state, loss=loss), local)[0]


@given(st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4), st.floats(1e-3, 1e3))
def test_no_change_is_longer_than_the_bound_and_none_within_it_is_altered(change: list[float], bound: float) -> None:
    strategy = Clipped(FedAvg({}), bound, 0.5)
    found = sent(strategy, strategy.init(np.zeros(4)), np.array(change))
    norm = float(np.linalg.norm(found["update"]))
    assert norm <= 1 and found["weight"].tolist() == [1.0], "each hospital counts as one, of how many patients ever"
    within = np.linalg.norm(change) <= bound
    if abs(np.linalg.norm(change) / bound - 1) > 1e-6:
        assert found["within"].tolist() == [0.5 if within else -0.5]
        wanted = np.array(change) / (bound if within else np.linalg.norm(change))
        np.testing.assert_allclose(found["update"], wanted, rtol=1e-6, atol=1e-12)


def test_where_nobody_is_clipped_it_is_the_strategy_itself_with_hospitals_alike() -> None:
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(5, 4))
    for inner in (FedAvg({}), FedProx({"mu": 0.1}), FedAvgM({"momentum": 0.5})):
        strategy = Clipped(inner, 100.0, None)
        state, own = strategy.init(np.zeros(4)), inner.init(np.zeros(4))
        for _ in range(2):
            parts = [sent(strategy, state, change) for change in changes]
            assert all(part.keys() == {"update", "weight"} for part in parts)
            assert strategy.sums(STUDY, 4).keys() == {"update"}
            state = strategy.apply_chunk(state, {"update": sum(part["update"] for part in parts)}, 5.0)
            own = inner.apply_chunk(own, {"update": changes.sum(axis=0)}, 5.0)
        np.testing.assert_allclose(state["model"], own["model"], rtol=1e-9)
        assert state["bound"].tolist() == [100.0], "without a quantile it stays"


@given(st.floats(1e-6, 1e6), st.floats(0, 1), st.floats(0.05, 0.95))
def test_the_bound_moves_by_the_papers_law(bound: float, below: float, quantile: float) -> None:
    """Andrew et al. 2021, algorithm 1: C exp(-eta (b - gamma)); and for noise beyond all sense, no further than e."""
    assert moved(bound, below, quantile) == pytest.approx(bound * math.exp(-RATE * (below - quantile)), rel=1e-6)
    for far in (-1e9, 1e9):
        assert moved(1.0, far, quantile) == pytest.approx(math.exp(-math.copysign(1, far)), rel=2e-3)


def test_known_steps_of_the_bound() -> None:
    """By hand: x = 0.1 and -0.1; (12.01 -+ 0.6) / (12.01 +- 0.6)."""
    assert moved(1.0, 1.0, 0.5) == 11.41 / 12.61 and moved(1.0, 0.0, 0.5) == pytest.approx(12.61 / 11.41, rel=1e-15)
    assert moved(3.0, 0.25, 0.25) == 3.0


@pytest.mark.parametrize("first", [0.01, 100.0])
@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
def test_the_bound_reaches_the_quantile_of_the_norms_from_far_and_under_noise(first: float, quantile: float) -> None:
    """A hundred hospitals with norms of a wide distribution; noise of a twentieth of their number, as in the paper."""
    rng = np.random.default_rng(7)
    sites = 100
    norms = np.exp(rng.normal(size=sites))
    strategy = Clipped(FedAvg({}), first, quantile)
    state, seen = strategy.init(np.zeros(1)), []
    for _ in range(400):
        parts = [sent(strategy, state, np.array([norm])) for norm in norms]
        sums = {name: sum(part[name] for part in parts) for name in ("update", "within")}
        sums["within"] = sums["within"] + rng.normal(scale=sites / 20)
        state = strategy.apply_chunk({**state, "model": np.zeros(1)}, sums, float(sites))
        seen.append(float(state["bound"][0]))
    assert np.mean(norms <= np.median(seen[200:])) == pytest.approx(quantile, abs=0.05)


def test_a_strategy_that_adds_up_more_is_refused() -> None:
    with pytest.raises(StudyInvalid, match="more than changes"):
        Clipped(QFedAvg({}), 1.0, None).sums(STUDY, 4)
