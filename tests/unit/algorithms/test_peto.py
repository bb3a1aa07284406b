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
    assert found["variance"] == pytest.approx([0, 0], abs=1e-9) == found["of_many"]


def jackknifed(score: np.ndarray, label: np.ndarray, member: np.ndarray) -> float:
    """Sum over events, none of which is tied, of s less the jackknife's bias of s - s (1 - s), where s is the share."""
    found, time = 0.0, survival.times(label)
    for at in time[survival.events(label)]:
        h, m = score[time >= at], member[time >= at].astype(float)
        if h.size > 1:
            share, squared = h @ m / h.sum(), [np.delete(h * m, i).sum() ** 2 / (h.sum() - h[i]) for i in range(h.size)]
            found += share - (h.size * share**2 - sum(squared) / h.sum())
    return found


@pytest.mark.parametrize("seed", range(10))
def test_what_few_patients_hide_is_what_a_jackknife_says_or_somewhat_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, spread = int(rng.integers(5, 40)), 1.5 * (seed % 2)
    score, member = np.exp(spread * rng.normal(size=n)), rng.random(n) < rng.uniform(0.2, 0.8)
    label = survival.joined(rng.permutation(n) + 1.0, (rng.random(n) < 0.7) & (np.arange(n) < n - 1))
    label = label[np.argsort(survival.times(label))]
    label[-1] = survival.joined(np.array([float(n)]), np.array([False]))[0]
    found, wanted = peto.sums(score, label, member[:, None])["of_many"][0], jackknifed(score, label, member)
    assert wanted - 1e-9 <= found <= wanted * (1.3 if spread else 1) + 1e-9
    last = survival.joined(np.array([float(n)]), np.array([True]))
    also, events = peto.sums(score, np.append(label[:-1], last), member[:, None]), float(survival.events(label).sum())
    if events:
        assert also["of_many"][0] == pytest.approx(found * (events + 1) / events), "the last is compared with nobody"


def test_of_very_many_patients_nothing_is_hidden() -> None:
    one = times(200, 3)
    member = one.columns["sex"] == 0
    few, many = (total(one.of(np.repeat(np.arange(200), times)), np.repeat(member, times)) for times in (1, 100))
    assert few["of_many"][0] > 1.005 * few["variance"][0]
    assert many["of_many"][0] / many["variance"][0] == pytest.approx(1, abs=5e-4)
    assert peto.observed_to_expected(many, 0.95).value == pytest.approx(
        many["events"][0] / many["expected"][0], rel=2e-4
    )


def test_an_excess_that_so_few_patients_cannot_show_is_not_told() -> None:
    sums = {"n": 60.0, "events": 40.0, "expected": 10.0, "variance": 8.0, "of_many": 9.0}
    told = {name: np.array([each]) for name, each in sums.items()} | {"moved": np.array([8.0, 0.0, 10.0, 0.0, 0.0])}
    found = peto.observed_to_expected(told, 0.95)
    assert found.value == pytest.approx(4 / (1 - 3 / 8)) and found.low is not None, "an eighth of 30 is not expected"
    found = peto.observed_to_expected(told | {"of_many": np.array([10.1])}, 0.95)
    assert (found.value, found.low, found.note) == (None, None, peto.FEW)


@pytest.mark.parametrize("farthest", [1e3, 1e200])
def test_no_patient_moves_more_than_travels_however_far_apart_hazards_are(farthest: float) -> None:
    rng, n = np.random.default_rng(1), 300
    score = np.where(rng.random(n) < 0.5, 1.0, farthest)
    label = survival.joined(np.ceil(np.where(score > 1, 5000, 1000) * rng.random(n)), rng.random(n) < 0.9)
    score[0] = farthest**1.5  # who is expected to have all of the events, and has none
    label[:1] = survival.joined(np.array([1e5]), np.array([False]))
    found = peto.sums(score, label, rng.random((n, 4)) < 0.3)
    assert np.all(np.isfinite(found["moved"])) and np.max(np.abs(found["moved"])) < 1e4 * n
    assert np.all((found["variance"] <= found["of_many"]) & (found["of_many"] <= n / 2)), "nor is more hidden"


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
