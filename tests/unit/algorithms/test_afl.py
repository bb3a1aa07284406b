"""AFL: by hand, the least of the highest losses, and a hospital that comes late."""

from collections.abc import Sequence
from math import exp

import numpy as np
import pytest

from consilium.algorithms.afl import AFL
from consilium.algorithms.base import Here, Local
from consilium.algorithms.fedavg import FedAvg
from unit.algorithms.quadratics import Site, federate, unequal

OPTIONS = {"mixture_rate": 1.0, "largest_loss": 100.0, "largest_weight": 1000.0}


def one_step() -> list[Site]:
    return [Site(one.curve, one.at, one.patients, steps=1) for one in unequal()]


def worst(sites: Sequence[Site]) -> float:
    """The least that the highest loss can be: the largest, over mixtures, of the least loss of a mixture."""

    steps = np.linspace(0, 1, 201)
    mixtures = np.array([(a, b, max(1 - a - b, 0.0)) for a in steps for b in steps if a + b <= 1 + 1e-9])
    curves, ats = (np.array([getattr(one, name) for one in sites]) for name in ("curve", "at"))
    w = (mixtures @ (curves * ats)) / (mixtures @ curves)
    losses = np.sum(curves / 2 * (w[:, None, :] - ats) ** 2, axis=2)
    return float(np.max(np.sum(mixtures * losses, axis=1)))


def test_two_rounds_by_hand() -> None:
    """Losses of 1 and 3 of at most 4, 10 and 30 patients: a mixture's loss of (10 * .25 + 30 * .75) / 40 = .625; then
    the first counts exp(2 * (.25 - .625)) times as much, and the second exp(2 * (.75 - .625)) times."""
    strategy = AFL({"mixture_rate": 2.0, "largest_loss": 4.0})
    state, kept = strategy.init(np.zeros(1)), [{}, {}]
    moved = Local((np.array([1.0]),), 10.0, 1, 0.1), Local((np.array([-1.0]),), 30.0, 1, 0.1)
    counted = (1.0, 1.0), (exp(-0.75), exp(0.25))
    for first, second in counted:
        found = []
        for at, loss in enumerate((1.0, 3.0)):
            here = Here({**state, "model": np.zeros(1)}, kept[at], loss=lambda of, loss=loss: loss)
            sent, kept[at] = strategy.contribution(here, moved[at])
            found.append(sent)
        total = {name: found[0][name] + found[1][name] for name in ("update", "counts", "loss")}
        state = strategy.apply_chunk({**state, "model": np.zeros(1)}, total, 40.0)
        a, b = 10 * first, 30 * second
        wanted = ((a - b) / (a + b), (a * 0.25 + b * 0.75) / (a + b), (a + b) / 40)
        np.testing.assert_allclose([state[name][0] for name in ("model", "loss", "counts")], wanted)


def test_the_highest_loss_is_the_least_that_it_can_be() -> None:
    """The paper's point: whichever mixture of hospitals the model meets, its loss is at most that."""
    sites = one_step()
    w = federate(AFL(OPTIONS), sites, 1000)["model"]
    assert max(one.loss(w) for one in sites) == pytest.approx(worst(sites), rel=1e-3)
    common = federate(FedAvg({}), one_step(), 1000)["model"]
    assert max(one.loss(common) for one in sites) > 1.1 * worst(sites)


def test_no_patient_counts_for_more_or_less_than_the_study_says() -> None:
    sites = one_step()
    federate(AFL({**OPTIONS, "largest_weight": 1.5}), sites, 500)
    kept = [float(one.memory["counts"][0]) for one in sites]
    assert max(kept) == 1.5 and min(kept) == pytest.approx(1 / 1.5)


def test_a_hospital_that_comes_late_counts_as_one_on_average_and_the_end_is_the_same() -> None:
    sites = one_step()
    w = federate(AFL(OPTIONS), sites, 1000, counted=lambda number: (0, 1, 2) if number >= 50 else (0, 1))["model"]
    assert max(one.loss(w) for one in sites) == pytest.approx(worst(sites), rel=1e-3)
