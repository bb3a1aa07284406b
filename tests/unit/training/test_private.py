"""One step under an epsilon: no patient moves it by more than the bound, and nothing else of the patients shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten, unflatten
from consilium.privacy import noise
from consilium.testing.trainers import a_study
from consilium.training import private
from consilium.training.linear import Linear, Logistic, Poisson, Regression

KINDS = {"linear": (Linear, "number"), "logistic": (Logistic, "binary"), "poisson": (Poisson, "count")}
PRIVACY = {
    "recipe": "secure_sum", "epsilon": 3.0, "delta": 1e-6, "expected_patients": 50, "noise_multiplier": 2.0,
    "all_honest": 3.0,
}  # fmt: skip
values = st.floats(allow_nan=False, allow_infinity=False, width=64)
labels = st.floats(-1e9, 1e9)


def made(kind: str, l2: float = 0.0, **privacy: Any) -> tuple[Regression, Study]:
    make, label = KINDS[kind]
    wanted = a_study(label, {"kind": kind, "l2": l2}, epochs=1).model_dump()
    study = Study.model_validate({**wanted, "quorum": 3, "privacy": {**PRIVACY, **privacy}})
    return make(), study


def model(w: list[float]) -> Tensors:
    return {"intercept": np.array(w[:1]), "weights": np.array(w[1:])}


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)), st.lists(values, min_size=3, max_size=3), st.lists(values, min_size=4, max_size=4),
    labels, st.floats(1e-3, 1e6),
)  # fmt: skip
def test_one_patient_adds_at_most_the_bound_whatever_the_values(
    kind: str, x: list[float], w: list[float], y: float, bound: float
) -> None:
    trainer, study = made(kind)
    with np.errstate(all="ignore"):
        total, _ = trainer.clipped(study, model(w), np.array([x]), np.array([y]), bound)
    assert np.linalg.norm(total) <= bound


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**31), st.floats(0.05, 3), st.floats(0, 1))
def test_the_step_is_the_sum_of_single_gradients_each_clipped(kind: str, seed: int, bound: float, l2: float) -> None:
    """Gradients by differences of the loss, one patient after the other."""
    trainer, study = made(kind, l2, clip_norm=bound)
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(-1, 1, (7, 3)), rng.normal(size=4)
    y = {"linear": rng.normal(size=7), "logistic": rng.integers(0, 2, 7), "poisson": rng.poisson(1, 7)}[kind] * 1.0

    def loss(v: np.ndarray, one: int) -> float:
        z = float(v[0] + x[one] @ v[1:])
        return {"linear": (z - y[one]) ** 2 / 2, "logistic": np.logaddexp(0, z) - y[one] * z,
                "poisson": np.exp(z) - y[one] * z}[kind]  # fmt: skip

    wanted = np.zeros(4)
    for one in range(7):
        steps = np.eye(4) * 1e-6
        gradient = np.array([(loss(w + step, one) - loss(w - step, one)) / 2e-6 for step in steps])
        wanted += gradient * min(1.0, bound / np.linalg.norm(gradient))
    found = private.step(study, trainer, model(w.tolist()), x, y, bytes(32))
    assert found.keys() == {"update", "weight"} and found["weight"] == 50.0
    pull = 50.0 * l2 * np.array([0.0, *w[1:]])
    assert np.allclose(found["update"], -study.training.learning_rate * (wanted + pull), atol=1e-6)


def test_patients_are_drawn_by_the_key_and_by_nothing_else() -> None:
    """Each label is of another size, so that the sum tells who was drawn; the plan's seed changes nothing."""
    trainer, study = made("linear", sampling=0.3, clip_norm=1e6)
    n = 12
    x, y = np.zeros((n, 3)), -(2.0 ** np.arange(n))
    seen = set()
    for number in range(300):
        key = number.to_bytes(32, "big")
        update = private.step(study, trainer, model([0.0] * 4), x, y, key)["update"]
        drawn = noise.drawn(key, n, 0.3)
        assert round(update[0] / -study.training.learning_rate) == 2.0 ** np.arange(n) @ drawn
        seen.add(int(2 ** np.arange(n) @ drawn))
        other = study.model_copy(update={"training": study.training.model_copy(update={"seed": number + 10})})
        again = private.step(other, trainer, model([0.0] * 4), x, y, key)["update"]
        assert np.array_equal(update, again)
    sizes = [bin(one).count("1") for one in seen]
    assert 2.5 < np.mean(sizes) < 4.7 and min(sizes) <= 1 and max(sizes) >= 7, "the number drawn is itself chance"


def test_the_weight_says_nothing_of_how_many_there_are() -> None:
    trainer, study = made("logistic", sampling=0.5)
    for n in (0, 1, 400):
        found = private.step(study, trainer, model([0.0] * 4), np.zeros((n, 3)), np.zeros(n), bytes(32))
        assert found["weight"].tolist() == [25.0] == private.weight(study).tolist()
    with pytest.raises(Invalid, match="no key"):
        private.step(study, trainer, model([0.0] * 4), np.zeros((1, 3)), np.zeros(1), b"")


def test_a_runaway_penalty_stays_within_what_the_sum_has_room_for() -> None:
    trainer, study = made("linear", l2=10.0)
    w = [0.0, 1e9, -1e9, 1e9]
    update = private.step(study, trainer, model(w), np.zeros((0, 3)), np.zeros(0), bytes(32))["update"]
    assert np.abs(update).max() == pytest.approx(study.privacy.clip * 50.0)
    assert flatten(unflatten(update, model(w)))[0] == 0, "the intercept is spared"


def test_nothing_of_the_trainer_is_of_numpys_chance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a generator that is not for secrets was asked")

    monkeypatch.setattr(np.random, "default_rng", never)
    trainer, study = made("logistic", sampling=0.5)
    private.step(study, trainer, model([0.0] * 4), np.zeros((9, 3)), np.zeros(9), bytes(32))
