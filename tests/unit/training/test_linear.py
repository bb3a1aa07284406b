"""Linear, logistic and Poisson regression: one step by hand, the optimum of scikit-learn, and the order of patients."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor

from consilium.algorithms.base import Curvature, LocalObjective
from consilium.core.errors import TrainingFailed
from consilium.testing.trainers import a_study
from consilium.training.linear import Linear, Logistic, Poisson, Regression, batches, fewest, steps

KINDS: dict[str, tuple[Callable[[], Regression], str]] = {
    "linear": (Linear, "number"),
    "logistic": (Logistic, "binary"),
    "poisson": (Poisson, "count"),
}


def patients(label: str, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, size=(n, 3))
    score = x @ [1.0, -0.5, 0.25] + 0.3
    drawn: dict[str, Any] = {
        "number": score + rng.normal(scale=0.1, size=n),
        "binary": (rng.random(n) < 1 / (1 + np.exp(-2 * score))).astype(float),
        "count": rng.poisson(np.exp(score)).astype(float),
    }
    return x, drawn[label]


def trained(kind: str, objective: LocalObjective | None = None, l2: float = 0.0, **training: Any) -> dict[str, Any]:
    make, label = KINDS[kind]
    study = a_study(label, {"kind": kind, "l2": l2}, **training)
    x, y = patients(label)
    model = make().initial(study, ["a", "b", "c"])
    return make().train(study, model, x, y, objective or LocalObjective(), 1)


@pytest.mark.parametrize(("kind", "mean"), [("linear", 0.0), ("logistic", 0.5), ("poisson", 1.0)])
def test_the_first_step_by_hand(kind: str, mean: float) -> None:
    """From w = 0 the step is -rate * x'(mean(0) - y) / n."""
    x, y = patients(KINDS[kind][1])
    after = trained(kind, epochs=1, learning_rate=0.5)
    np.testing.assert_allclose(after["weights"], -0.5 * x.T @ (mean - y) / len(y), rtol=1e-12)
    np.testing.assert_allclose(after["intercept"], [-0.5 * np.mean(mean - y)], rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("linear", LinearRegression()),
        ("logistic", LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000)),
        ("poisson", PoissonRegressor(alpha=0, tol=1e-10, max_iter=5000)),
    ],
)
def test_many_steps_end_where_scikit_learn_ends(kind: str, theirs: Any) -> None:
    after = trained(kind, epochs=6000, learning_rate=0.4)
    theirs.fit(*patients(KINDS[kind][1]))
    np.testing.assert_allclose(after["weights"], np.ravel(theirs.coef_), atol=2e-4)
    np.testing.assert_allclose(after["intercept"][0], np.ravel(theirs.intercept_)[0], atol=2e-4)


def test_the_penalty_shrinks_the_weights_and_spares_the_intercept() -> None:
    """Ridge in closed form: (X'X/n + l2 I) w = X'y/n, the intercept unpenalised."""
    x, y = patients("number")
    design = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([0.0, 0.3, 0.3, 0.3])
    wanted = np.linalg.solve(design.T @ design / len(y) + penalty, design.T @ y / len(y))
    after = trained("linear", l2=0.3, epochs=4000, learning_rate=0.4)
    np.testing.assert_allclose([after["intercept"][0], *after["weights"]], wanted, atol=1e-8)


def test_the_terms_of_the_strategy_are_minimised_too() -> None:
    """F + <h, w> + mu/2 |w - anchor|^2 for least squares in closed form."""
    x, y = patients("number")
    design = np.column_stack([np.ones(len(x)), x])
    anchor, linear, mu = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0.1, -0.2, 0.3, 0.0]), 0.7
    wanted = np.linalg.solve(design.T @ design / len(y) + mu * np.eye(4), design.T @ y / len(y) - linear + mu * anchor)
    after = trained("linear", LocalObjective(anchor, mu, linear), epochs=3000, learning_rate=0.4)
    np.testing.assert_allclose([after["intercept"][0], *after["weights"]], wanted, atol=1e-8)


def test_parameters_that_run_away_are_told_and_not_sent() -> None:
    with np.errstate(all="ignore"), pytest.raises(TrainingFailed, match="learning_rate"):
        trained("linear", epochs=10_000, learning_rate=1e6)


@pytest.mark.parametrize("size", [1, 7, 30, 31, 100])
def test_every_epoch_sees_every_patient_once(size: int) -> None:
    study = a_study("binary", {"kind": "logistic"}, epochs=3, batch_size=size)
    told = list(batches(study, 30, number=2))
    if size >= 30:
        assert told == [None] * 3
        return
    seen = Counter(int(patient) for batch in told if batch is not None for patient in batch)
    assert seen == Counter(dict.fromkeys(range(30), 3)) and max(len(b) for b in told if b is not None) == size


@pytest.mark.parametrize("n", range(1, 14))
def test_no_batch_of_a_wheel_is_one_patient_who_was_left_over(n: int) -> None:
    """And as many steps are made as are told, whoever trains."""
    for size in (1, 2, 3, 5, 12):
        wheel = {"kind": "torch", "architecture": "net", "wheel": "sha256:" + "ab" * 32}
        for model in ({"kind": "logistic"}, wheel):
            study = a_study("binary", model, epochs=2, batch_size=size)
            told = [n if batch is None else len(batch) for batch in batches(study, n, number=1)]
            assert sum(told) == 2 * n and len(told) == steps(study, n)
            assert max(told) <= size + (model is wheel and size > 1)
            if model is wheel:
                assert min(told) >= min(n, fewest(study))


def test_the_order_follows_from_seed_and_round_alone() -> None:
    def order(seed: int, number: int) -> list[int]:
        study = a_study("binary", {"kind": "logistic"}, epochs=1, batch_size=5, seed=seed)
        return [int(patient) for batch in batches(study, 40, number) if batch is not None for patient in batch]

    assert order(1, 1) == order(1, 1) and len({tuple(order(1, 1)), tuple(order(1, 2)), tuple(order(2, 1))}) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_hessian_are_the_derivatives_of_the_loss(kind: str) -> None:
    make, label = KINDS[kind]
    study, (x, y) = a_study(label, {"kind": kind, "l2": 0.3}), patients(label)

    def at(flat: np.ndarray) -> Curvature:
        return make().curvature(study, {"intercept": flat[:1], "weights": flat[1:]}, x, y, first=False)

    point, step = np.array([0.2, -0.4, 0.3, 0.1]), 1e-5
    found, hessian = at(point), np.zeros((4, 4))
    hessian[np.tril_indices(4)] = found.hessian
    for index, axis in enumerate(step * np.eye(4)):
        ahead, behind = at(point + axis), at(point - axis)
        assert (ahead.loss - behind.loss) / (2 * step) == pytest.approx(found.gradient[index], rel=1e-5, abs=1e-5)
        column = (ahead.gradient - behind.gradient) / (2 * step)
        np.testing.assert_allclose(column[index:], hessian[index:, index], rtol=1e-5, atol=1e-5)
    penalty = 0.5 * 0.3 * len(y) * np.sum(point[1:] ** 2)
    mean = make().loss(study, {"intercept": point[:1], "weights": point[1:]}, x, y)
    assert found.loss == pytest.approx(len(y) * mean + penalty, rel=1e-12)


def test_iterations_of_a_count_begin_near_the_labels() -> None:
    """From zero the first step would lead to a rate of exp(1000): it solves the weighted least squares of log(y)."""
    study, (x, _) = a_study("count", {"kind": "poisson"}), patients("count")
    y = np.random.default_rng(4).poisson(1000 * np.exp(x @ [0.3, 0, 0])).astype(float)
    model = {"intercept": np.zeros(1), "weights": np.zeros(3)}
    found, hessian = Poisson().curvature(study, model, x, y, first=True), np.zeros((4, 4))
    hessian[np.tril_indices(4)] = found.hessian
    step = -np.linalg.solve(hessian + np.tril(hessian, -1).T, found.gradient)
    design, rate = np.column_stack([np.ones(len(x)), x]), y + 0.1
    root, working = np.sqrt(rate), np.log(rate) + (y - rate) / rate
    np.testing.assert_allclose(step, np.linalg.lstsq(root[:, None] * design, root * working)[0], rtol=1e-9)
    np.testing.assert_allclose(step, [np.log(1000), 0.3, 0, 0], atol=0.02)
