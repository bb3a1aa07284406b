"""How far a group's events exceed what is expected is as uncertain as it is, whatever the model's hazards are worth."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from consilium.algorithms import peto
from consilium.algorithms.figure import Figure
from consilium.core import survival
from unit.algorithms.judging import Patients
from unit.algorithms.test_worth_of_numbers import times

FIGURES = (peto.excess, peto.observed_to_expected)


def total(one: Patients, member: np.ndarray) -> dict[str, np.ndarray]:
    """What a hospital counts of one group, as far as these figures need it."""
    had = survival.events(one.label)[member].sum()
    return {
        "n": np.array([float(member.sum())]), "events": np.array([float(had)]),
        **peto.sums(one.score, one.label, member[:, None]),
    }  # fmt: skip


def error(found: Figure, told: Callable[[float], float] = float) -> float:
    assert found.low is not None and found.high is not None
    return (told(found.high) - told(found.low)) / 2 / 1.959964


@pytest.mark.parametrize("seed", range(10))
def test_where_hazards_are_equal_the_variance_is_that_of_log_ranks_in_the_mean_over_all_groups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, size = 8, int(rng.integers(2, 7))
    label = survival.joined(rng.integers(1, 6, n).astype(float), rng.random(n) < 0.8)  # most of them tied
    groups = np.array([np.isin(np.arange(n), chosen) for chosen in itertools.combinations(range(n), size)])
    found = peto.sums(np.ones(n), label, groups.T)
    wanted = found["variance"].mean()
    assert found["moved"][:: peto.MOVED].mean() == pytest.approx(wanted, abs=1e-12)
    spread = np.var(survival.events(label).astype(float) @ groups.T - found["expected"])
    assert wanted == pytest.approx(spread, abs=1e-12), "and this is what it is over all groups"


@pytest.mark.parametrize("seed", range(10))
def test_intervals_are_those_of_a_jackknife_that_leaves_each_patient_out(seed: int) -> None:
    """Of models that say too much or too little, of groups with an excess, and of those that hazards go with."""
    slope, more, tie = (0.4, 1.0, 1.6)[seed % 3], 0.8 * (seed % 2), 1 + 60 * (seed % 4 == 3)
    one = times(250, seed, slope=slope)
    member = np.log(one.score) + np.random.default_rng(seed).normal(size=250) > 0.3 * (seed % 5)
    time = np.ceil(survival.times(one.label) / np.exp(more * member) / tie)
    one = Patients(one.score, survival.joined(time, survival.events(one.label)), one.columns)
    found, scales = total(one, member), (float, np.log)
    others = [total(one.of(rest), member[rest]) for rest in np.arange(250) != np.arange(250)[:, None]]
    for of, scale in zip(FIGURES, scales, strict=True):
        without = np.array([scale(of(each, 0.95).value or 0) for each in others])
        jackknife = (249 / 250 * np.sum((without - without.mean()) ** 2)) ** 0.5
        assert error(of(found, 0.95), scale) == pytest.approx(jackknife, rel=0.05), of.__name__


def test_a_group_of_everybody_or_of_nobody_tells_nothing_but_how_many_had_the_event() -> None:
    one = times(200, 3)
    found = peto.sums(one.score, one.label, np.stack([np.ones(200, bool), np.zeros(200, bool)], axis=1))
    had = float(survival.events(one.label).sum())
    assert found["expected"] == pytest.approx([had, 0.0], abs=1e-9)
    assert found["moved"] == pytest.approx([0, 0, had, 0, 0, 0, 0, 0, 0, 0], abs=1e-9)


@pytest.mark.parametrize("farthest", [1e3, 1e200])
def test_no_patient_moves_more_than_travels_however_far_apart_hazards_are(farthest: float) -> None:
    rng, n = np.random.default_rng(1), 300
    score = np.where(rng.random(n) < 0.5, 1.0, farthest)
    label = survival.joined(np.ceil(np.where(score > 1, 5000, 1000) * rng.random(n)), rng.random(n) < 0.9)
    score[0] = farthest**1.5  # who is expected to have all of the events, and has none
    label[:1] = survival.joined(np.array([1e5]), np.array([False]))
    moved = peto.sums(score, label, rng.random((n, 4)) < 0.3)["moved"]
    assert np.all(np.isfinite(moved)) and np.max(np.abs(moved)) < 1e4 * n


def test_where_a_model_says_nothing_the_gap_still_holds_the_truth() -> None:
    """By the variance of the test of log ranks it does so in 75 of 100 studies."""
    kept, by_ranks = 0, 0
    for seed in range(300):
        one = times(100, seed, slope=0.0)
        found = total(one, one.columns["sex"] == 0)
        gap = peto.excess(found, 0.95)
        assert gap.low is not None and gap.high is not None and gap.value is not None
        kept += gap.low <= 0 <= gap.high
        by_ranks += abs(gap.value) < 1.96 / found["variance"][0] ** 0.5
    assert kept >= 0.9 * 300 and by_ranks < 0.83 * 300
