"""q-FedAvg: by hand from its paper, the stationary point of its objective, and fairer losses."""

from dataclasses import replace

import numpy as np
import pytest

from consilium.algorithms.base import Here, Local
from consilium.algorithms.qfedavg import QFedAvg
from unit.algorithms.quadratics import Site, federate, unequal


@pytest.mark.parametrize("largest", [4.0, 8.0])
def test_one_round_by_hand(largest: float) -> None:
    """Algorithm 2 with q = 2, L = 1 / 0.5, one site of each kind, as if each had one patient:

    F = 2, 1; L dw = 2 * -[1, 0], 2 * -[0, 2]; h = q F^(q-1) |L dw|^2 + L F^q = 2*2*4 + 2*4 = 24, 2*1*16 + 2*1 = 34;
    D = F^q L dw = -[8, 0], -[0, 4]; the step is -(D1 + D2) / (h1 + h2) = [8, 4] / 58.
    """
    here, fair = Here({"model": np.zeros(2)}), QFedAvg({"q": 2, "largest_loss": largest})
    worse, better = replace(here, loss=lambda of: 2.0), replace(here, loss=lambda of: 1.0)
    first, _ = fair.contribution(worse, Local((np.array([1.0, 0.0]),), 1.0, 3, 0.5))
    second, _ = fair.contribution(better, Local((np.array([0.0, 2.0]),), 1.0, 3, 0.5))
    total = {name: first[name] + second[name] for name in ("update", "curvature")}
    np.testing.assert_allclose(fair.apply_chunk(here.state, total, 2.0)["model"], np.array([8.0, 4.0]) / 58)


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
