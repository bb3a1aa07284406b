"""First steps of every strategy by hand from its paper, and the plain case to which each reduces."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms.base import Here, LocalObjective, Strategy
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from consilium.algorithms.fedprox import FedProx
from consilium.core.errors import StudyInvalid

Make = Callable[[dict[str, Any]], Strategy]
EVERY: dict[str, Make] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}
MODEL = np.array([1.0, -2.0, 0.0])
MEANS = [np.array([0.5, -0.25, 0.0]), np.array([-0.1, 0.2, 0.3])]
WEIGHT = 40.0


def steps(strategy: Strategy, dtype: type = np.float64) -> list[dict[str, np.ndarray]]:
    """The states after each of two rounds whose mean differences are MEANS."""
    state, found = strategy.init(MODEL.astype(dtype)), []
    for mean in MEANS:
        state = strategy.apply_chunk(state, {"update": (WEIGHT * mean).astype(dtype)}, WEIGHT)
        found.append(state)
    return found


def test_fedavg_adds_the_mean_difference() -> None:
    first, second = steps(FedAvg({}))
    np.testing.assert_allclose(first["model"], [1.5, -2.25, 0.0], rtol=1e-15)
    np.testing.assert_allclose(second["model"], [1.4, -2.05, 0.3], rtol=1e-15)


def test_fedavgm_by_hand() -> None:
    """Hsu et al. 2019: v <- beta v + mean; w <- w + rate v."""
    first, second = steps(FedAvgM({"momentum": 0.9, "server_learning_rate": 0.5}))
    np.testing.assert_allclose(first["model"], [1.25, -2.125, 0.0], rtol=1e-15)
    # v2 = 0.9 * [0.5, -0.25, 0] + [-0.1, 0.2, 0.3] = [0.35, -0.025, 0.3]
    np.testing.assert_allclose(second["momentum"], [0.35, -0.025, 0.3], rtol=1e-14)
    np.testing.assert_allclose(second["model"], [1.425, -2.1375, 0.15], rtol=1e-14)


# Reddi et al. 2021, algorithm 2, with the defaults: eta .01, beta1 .9, beta2 .99, tau .001, and v_0 = tau^2 = 1e-6.
# m_1 = 0.1 * [.5, -.25, 0] = [.05, -.025, 0];  m_2 = .9 m_1 + .1 * [-.1, .2, .3] = [.035, -.0025, .03].
# Squares: [.25, .0625, 0] and [.01, .04, .09].
SECONDS: dict[str, tuple[list[float], list[float]]] = {
    # v + d^2
    "fedadagrad": ([0.250001, 0.062501, 1e-6], [0.260001, 0.102501, 0.090001]),
    # .99 v + .01 d^2
    "fedadam": ([0.00250099, 0.00062599, 9.9e-7], [0.0025759801, 0.0010197301, 0.0009009801]),
    # v - .01 d^2 sign(v - d^2): v is below d^2 at first, so it grows by .01 d^2; at d = 0 it stays
    "fedyogi": ([0.002501, 0.000626, 1e-6], [0.002601, 0.001026, 0.000901]),
}


@pytest.mark.parametrize("name", SECONDS)
def test_the_adaptive_family_by_hand_with_the_defaults(name: str) -> None:
    moments, model = ([0.05, -0.025, 0.0], [0.035, -0.0025, 0.03]), MODEL
    for state, first, second in zip(steps(EVERY[name]({})), moments, SECONDS[name], strict=True):
        np.testing.assert_allclose(state["first"], first, rtol=1e-12, atol=1e-18)
        np.testing.assert_allclose(state["second"], second, rtol=1e-9)
        model = model + 0.01 * np.array(first) / (np.sqrt(second) + 0.001)
        np.testing.assert_allclose(state["model"], model, rtol=1e-9)


def test_fedadam_first_step_as_one_number() -> None:
    """w = 1 + .01 * .05 / (sqrt(.00250099) + .001) = 1.009802... ; no bias correction, as in the paper."""
    first, _ = steps(FedAdam({}))
    assert first["model"][0] == pytest.approx(1 + 0.0005 / (0.05000989902 + 0.001), rel=1e-10)


def test_yogi_lowers_its_second_moment_where_it_is_above_the_square() -> None:
    state = FedYogi({"tau": 1.0}).init(np.zeros(1))
    after = FedYogi({"tau": 1.0}).apply_chunk(state, {"update": np.array([0.5])}, 1.0)
    assert after["second"][0] == pytest.approx(1 - 0.01 * 0.25)


vectors = st.lists(st.floats(-100, 100), min_size=3, max_size=3).map(np.array)


@settings(max_examples=100, deadline=None)
@given(vectors, vectors, st.floats(1, 1e6))
def test_momentum_0_and_rate_1_are_fedavg(model: np.ndarray, update: np.ndarray, weight: float) -> None:
    plain = FedAvgM({"momentum": 0.0, "server_learning_rate": 1.0})
    found = plain.apply_chunk(plain.init(model), {"update": update}, weight)["model"]
    assert np.array_equal(found, FedAvg({}).apply_chunk({"model": model}, {"update": update}, weight)["model"])


@settings(max_examples=100, deadline=None)
@given(vectors, vectors)
def test_fedprox_with_mu_0_is_fedavg_and_else_pulls_back(model: np.ndarray, at: np.ndarray) -> None:
    here = Here({"model": model})

    def pull(strategy: Strategy) -> Any:
        (one,) = strategy.passes(here)
        assert np.array_equal(one.start, model)
        return one.objective.gradient(at)

    assert np.all(pull(FedProx({"mu": 0})) == pull(FedAvg({})) == 0.0)
    np.testing.assert_allclose(pull(FedProx({"mu": 0.3})), 0.3 * (at - model))


@settings(max_examples=100, deadline=None)
@given(vectors, vectors, vectors, st.floats(0.1, 10))
def test_the_gradient_of_the_local_objective_is_its_derivative(
    anchor: np.ndarray, linear: np.ndarray, at: np.ndarray, mu: float
) -> None:
    objective = LocalObjective(anchor=anchor, mu=mu, linear=linear)

    def value(w: np.ndarray) -> float:
        return float(linear @ w + mu / 2 * np.sum((w - anchor) ** 2))

    for index in range(3):
        nudge = np.eye(3)[index] * 1e-3
        slope = (value(at + nudge) - value(at - nudge)) / 2e-3  # exact for a quadratic, but for rounding
        assert objective.gradient(at)[index] == pytest.approx(slope, rel=1e-5, abs=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [{"colour": 1}, {"server_learning_rate": "fast"}, {"mu": -1}, {"beta1": 1.0}])
def test_an_option_that_is_unknown_or_out_of_bounds_is_refused_by_name(name: str, bad: dict[str, Any]) -> None:
    with pytest.raises(StudyInvalid, match=rf"strategy\.options\.{next(iter(bad))}.*options of {name} are"):
        EVERY[name](bad)


@pytest.mark.parametrize("name", EVERY)
def test_a_float32_model_stays_float32(name: str) -> None:
    assert {array.dtype for state in steps(EVERY[name]({}), np.float32) for array in state.values()} == {
        np.dtype(np.float32)
    }
