"""q-FedAvg: by hand from its paper, the stationary point of its objective, and fairer losses."""

from dataclasses import replace

import numpy as np
import pytest

from consilium.algorithms.base import Here, Local
from consilium.algorithms.qfedavg import QFedAvg
from consilium.core.tensors import Tensors
from consilium.privacy.layout import _encoding
from consilium.testing.trainers import a_study
from unit.algorithms.quadratics import Site, federate, unequal

STUDY = a_study("binary", {"kind": "logistic"}, learning_rate=0.1)


@pytest.mark.parametrize(("largest", "before"), [(4.0, 1.0), (8.0, 1.0), (8.0, 0.2)])
def test_one_round_by_hand(largest: float, before: float) -> None:
    """Algorithm 2 with q = 2, L = 1 / 0.5, one site of each kind, as if each had one patient:

    F = 2, 1; L dw = 2 * -[1, 0], 2 * -[0, 2]; h = q F^(q-1) |L dw|^2 + L F^q = 2*2*4 + 2*4 = 24, 2*1*16 + 2*1 = 34;
    D = F^q L dw = -[8, 0], -[0, 4]; the step is -(D1 + D2) / (h1 + h2) = [8, 4] / 58.
    """
    here, fair = Here({"model": np.zeros(2), "loss": np.array([before])}), QFedAvg({"q": 2, "largest_loss": largest})
    worse, better = replace(here, loss=lambda of: 2.0), replace(here, loss=lambda of: 1.0)
    first, _ = fair.contribution(worse, Local((np.array([1.0, 0.0]),), 1.0, 3, 0.5))
    second, _ = fair.contribution(better, Local((np.array([0.0, 2.0]),), 1.0, 3, 0.5))
    total = {name: first[name] + second[name] for name in ("update", "counts", "curvature", "loss")}
    after = fair.apply_chunk(here.state, total, 2.0)
    np.testing.assert_allclose(after["model"], np.array([8.0, 4.0]) / 58)
    assert after["loss"] == pytest.approx(1.5 / largest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("q", [1.0, 3.0, 10.0])
def test_rounding_in_a_secure_sum_leaves_its_steps_however_small_losses_are(q: float, dtype: type) -> None:
    """By the limits of the study, 100 000 patients at most, for hospitals of 40: losses fall from 0.7 to 0.005."""
    fair, rng = QFedAvg({"q": q}), np.random.default_rng(1)
    state, still = fair.init(np.zeros(50, dtype)), np.zeros(50, dtype)
    kind = "F32" if dtype is np.float32 else "F64"
    encodings = {name: _encoding(STUDY, of, kind, 4) for name, of in fair.sums(STUDY, 50).items()}
    for mean in 0.7 ** np.arange(1, 16):
        told: list[Tensors] = []
        for site in range(4):
            local = Local((rng.normal(scale=0.01, size=50).astype(dtype),), 40.0, 1, STUDY.training.learning_rate)
            here = Here({**state, "model": still}, loss=lambda of, loss=mean * (0.8 + 0.1 * site): loss)
            told.append(fair.contribution(here, local)[0])
        exact = {name: np.sum([one[name] for one in told], axis=0) for name in encodings}
        rounded = {}
        for name, encoding in encodings.items():
            coded = [encoding.encode(one[name])[0] for one in told]
            rounded[name] = encoding.decode(np.sum(coded, axis=0, dtype=coded[0].dtype)).astype(exact[name].dtype)
        after = [fair.apply_chunk({**state, "model": still}, sums, 160.0) for sums in (exact, rounded)]
        largest = np.max(np.abs(after[0]["model"]))
        assert largest > 0 and np.max(np.abs(after[0]["model"] - after[1]["model"])) < 0.01 * largest
        state = after[0]


def test_it_stays_where_nothing_is_left_of_the_losses_and_goes_on_from_there() -> None:
    fair, nothing = QFedAvg({"q": 10}), {"update": np.zeros(2), "counts": np.zeros(1), "curvature": np.zeros(1)}
    state = {"model": np.ones(2), "loss": np.array([0.5])}
    after = fair.apply_chunk(state, {**nothing, "loss": np.array([0.4])}, 40.0)
    assert np.array_equal(after["model"], np.ones(2)) and after["loss"] == 0.01


def one_step() -> list[Site]:
    return [Site(one.curve, one.at, one.patients, steps=1) for one in unequal()]


@pytest.mark.parametrize("q", [0.5, 1.0, 3.0])
def test_with_one_local_step_it_ends_where_the_fair_objective_has_no_slope(q: float) -> None:
    sites = one_step()
    w = federate(QFedAvg({"q": q, "largest_loss": 100.0}), sites, 1000, 0.3)["model"]
    slopes = [one.patients * one.loss(w) ** q * one.curve * (w - one.at) for one in sites]
    assert np.linalg.norm(np.sum(slopes, axis=0)) < 1e-4 * max(np.linalg.norm(one) for one in slopes)


def test_the_more_q_the_lower_the_highest_loss() -> None:
    """The paper's table 1: the worst gain, the best lose, and losses are less unequal."""
    losses = []
    for q in (0.0, 1.0, 4.0):
        sites = one_step()
        w = federate(QFedAvg({"q": q, "largest_loss": 100.0}), sites, 1000, 0.3)["model"]
        losses.append([one.loss(w) for one in sites])
    highest, spread = [max(of) for of in losses], [float(np.std(of)) for of in losses]
    assert highest == sorted(highest, reverse=True) and highest[2] < 0.8 * highest[0]
    assert spread == sorted(spread, reverse=True)
