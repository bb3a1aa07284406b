"""Newton's method between sites: one step by hand, halving, other hospitals, what has no sum, and what cannot be."""

from typing import Any

import numpy as np
import pytest

from consilium.algorithms.base import Curvature, Here, Local
from consilium.algorithms.newton import LEFT_OUT, LOST, MOST, Newton, largest, limits
from consilium.core.errors import Invalid, StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.testing.trainers import a_study

START = np.array([1.0, -2.0])
HESSIAN = np.array([4.0, 1.0, 2.0])
"""[[4, 1], [1, 2]], whose determinant is 7."""
STUDY = a_study("binary", {"kind": "logistic"})


def sums(gradient: Any, loss: float, hessian: Any = HESSIAN, beyond: float = 0.0) -> Tensors:
    told = {"update": gradient, "hessian": hessian, "loss": [loss], "beyond": [beyond]}
    return {name: np.array(value, dtype=np.float64) for name, value in told.items()}


def after(*rounds: tuple[Tensors, float]) -> Tensors:
    state = Newton({}).init(START)
    for summed, weight in rounds:
        state = Newton({}).apply_chunk(state, summed, weight)
    return state


def test_a_step_by_hand() -> None:
    """step = -H^-1 g = -[[2, -1], [-1, 4]] [7, 14] / 7 = [0, -7]."""
    state = after((sums([7, 14], 5.0), 10.0))
    np.testing.assert_allclose(state["model"], START - np.array([0, 7]), rtol=1e-15)
    assert np.array_equal(state["at"], START) and state["taken"] == 1 and state["loss"] == 5 and state["patients"] == 10


def test_a_step_after_which_the_loss_is_larger_is_halved_until_it_is_not() -> None:
    three = [(sums([7, 14], 5.0), 10.0), (sums([7, 0], 4.0), 10.0), (sums([9, 9], 4.5), 10.0)]
    best, once = after(*three[:2]), after(*three)
    np.testing.assert_allclose(once["model"], best["at"] + best["step"] / 2, rtol=1e-15)
    again = after(*three, (sums([9, 9], 4.1), 10.0))
    np.testing.assert_allclose(again["model"], best["at"] + best["step"] / 4, rtol=1e-15)
    assert again["taken"] == 2 and np.array_equal(again["hessian"], HESSIAN) and again["loss"] == 4.0
    assert after(*three, (sums([0, 0], 3.9), 10.0))["taken"] == 3
    assert after(*three[:2], (sums([0, 0], 4.0 + 1e-8), 10.0))["taken"] == 3, "rounding is no growth"


def test_a_loss_that_grew_by_no_more_than_rounding_may_halves_nothing() -> None:
    """Sums of losses are multiples of 2^-13 here: so coarse is a wide range of counts, with many patients allowed."""
    unit = 2.0**-13
    two = [(sums([7, 14], 5.0), 10.0), (sums([7, 0], 4.0 + unit), 10.0)]
    assert after(*two, (sums([0, 0], 4.0 + 4 * unit + unit / 2), 10.0))["taken"] == 3
    assert after(*two, (sums([0, 0], 4.0 + 64 * unit + unit / 2), 10.0))["taken"] == 2, "which is more"
    told = sums([0, 0], 4.5) | {"off": np.array([0.1])}
    assert after(*two, (told, 10.0))["taken"] == 3, "where it was told how far the loss is off"


def test_with_other_patients_losses_are_not_compared() -> None:
    state = after((sums([7, 14], 5.0), 10.0), (sums([7, 0], 4.0), 10.0), (sums([0, 0], 40.0), 30.0))
    assert state["taken"] == 3 and state["loss"] == 40.0 and state["patients"] == 30


def logistic(model: Any, hospitals: tuple[int, ...], flagged: int) -> Tensors:
    """Sums over hospitals of a hundred patients each, who differ; the third column is of one hospital alone."""
    w, added = np.asarray(model), [np.zeros(3), np.zeros((3, 3)), 0.0]
    for hospital in hospitals:
        rng = np.random.default_rng(hospital)
        flag = (rng.random(100) < 0.5) * float(hospital == flagged)
        x = np.column_stack([np.ones(100), rng.uniform(-1, 1, 100), flag])
        y = (rng.random(100) < 1 / (1 + np.exp(-(2.0 * hospital - 2) * x[:, 1] - flag))).astype(float)
        score = x @ w
        chance = 1 / (1 + np.exp(-score))
        added[0] += x.T @ (chance - y)
        added[1] += (x * (chance * (1 - chance))[:, None]).T @ x
        added[2] += float(np.sum(np.logaddexp(0, score) - y * score))
    return sums(added[0], added[2], added[1][np.tril_indices(3)])


@pytest.mark.parametrize("begins", [(0, 1, 2), (1, 2, 3)])
def test_other_hospitals_with_as_many_patients_are_no_longer_step(begins: tuple[int, ...]) -> None:
    """Of whom the loss is larger, or smaller: it comes to rest at their optimum, with the columns that they have."""
    ends, state = (0, 1, 2) if begins[0] else (1, 2, 3), Newton({}).init(np.zeros(3))
    (new,) = set(ends) - set(begins)
    for number in range(20):
        here = begins if number < 8 else ends
        state = Newton({}).apply_chunk(state, logistic(state["model"], here, new), 300.0)
        assert bool(state["left_out"][2]) is (number < 8)
    assert np.max(np.abs(state["step"])) < 1e-9
    assert np.max(np.abs(logistic(state["model"], ends, new)["update"])) < 1e-9, "its slope is zero there"
    assert state["loss"] == pytest.approx(logistic(state["model"], ends, new)["loss"][0])


def test_a_column_without_patients_stays_where_it_is() -> None:
    state = after((sums([8, 0], 5.0, hessian=[4, 0, 0]), 10.0))
    assert state["model"].tolist() == [-1.0, -2.0] and state["left_out"].tolist() == [0, LEFT_OUT]
    later = Newton({}).apply_chunk(state, sums([0, 3], 4.0), 10.0)
    assert later["left_out"].tolist() == [0, LEFT_OUT] and later["step"][1] == 0, (
        "it stays out while patients are the same"
    )
    others = Newton({}).apply_chunk(state, sums([0, 3], 4.0), 14.0)
    assert others["left_out"].tolist() == [0, 0], "other hospitals may have such patients"
    lost = Newton({}).apply_chunk(after((sums([8, 0], 5.0), 10.0)), sums([0, 3], 4.0, hessian=[4, 0, 0]), 10.0)
    assert lost["left_out"].tolist() == [0, LOST], "it was determined before"


def curved(loss: float, gradient: Any) -> Local:
    def at(of: Any, first: bool) -> Curvature:
        return Curvature(loss, np.array(gradient, dtype=np.float64), HESSIAN)

    return Local((START,), 10.0, 1, 0.1, at, Newton({}).sums(STUDY, 2))


def test_sums_that_do_not_fit_are_told_and_of_no_use_and_the_step_is_halved() -> None:
    here = Here(Newton({}).init(START))
    fine, kept = Newton({}).contribution(here, curved(3.0, [1, 2]))
    assert fine["update"].tolist() == [1, 2] and fine["beyond"] == 0 and fine["weight"] == 10 and kept == {}
    for local in (curved(float("inf"), [1, 2]), curved(3.0, [1, float("nan")])):
        with pytest.raises(TrainingFailed, match="grew beyond all numbers"):
            Newton({}).contribution(here, local)
    told, _ = Newton({}).contribution(here, curved(3.0, [1, 1e9]))
    limit = Newton({}).sums(STUDY, 2)["update"].limit
    assert told["beyond"] == 1 and told["loss"] == 3 and told["update"][0] == 1
    assert limit is not None and limit / 2 <= told["update"][1] < limit and 1e9 / told["update"][1] % 2 == 0
    with pytest.raises(Invalid, match="2 hospitals have sums beyond what privacy"):
        after((sums([0, 0], 0.0, beyond=2.0), 10.0))
    one = after((sums([7, 14], 5.0), 10.0))
    halved = Newton({}).apply_chunk(one, sums([0, 0], 0.0, beyond=1.0), 10.0)
    assert np.array_equal(halved["step"], one["step"] / 2) and halved["taken"] == 1


def test_models_that_are_too_large_or_have_no_hessian_are_refused() -> None:
    with pytest.raises(StudyInvalid, match=f"at most {MOST} parameters, and the model has {MOST + 1}"):
        Newton({}).init(np.zeros(MOST + 1))
    with pytest.raises(StudyInvalid, match="newton needs a model whose Hessian"):
        Newton({}).contribution(Here(Newton({}).init(START)), Local((START,), 1.0, 1, 0.1))
    told = STUDY.model_dump() | {"strategy": {"name": "newton"}}
    with pytest.raises(ValueError, match=r"`strategy\.name` newton needs a model whose Hessian"):
        Study.model_validate(told | {"model": {"kind": "torch", "architecture": "mlp"}})


def test_limits_follow_from_the_contract() -> None:
    told = STUDY.model_dump()
    assert largest(STUDY) == 1 and limits(STUDY) == (1e5, 0.25e5, 64e5)
    told["contract"]["features"][0]["typical"] = (0, 1)  # of a range from -3 to 3: -3 is encoded as -7
    wide = Study.model_validate(told)
    assert largest(wide) == 7 and limits(wide) == (7e5, 0.25e5 * 49, 64e5)
