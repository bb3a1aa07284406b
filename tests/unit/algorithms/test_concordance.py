"""Concordance of scores and times: by hand, pair by pair, its variance by weights, and as sums that a site may send."""

import numpy as np
import pytest

from consilium.algorithms import concordance, metrics
from consilium.core import survival
from consilium.core.errors import Invalid

TIMED = "time-to-event"


def patients(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels with many ties of either."""
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=n), 1)
    time = np.floor(20 * rng.exponential(np.exp(-0.7 * score)))
    return score, survival.joined(time, rng.random(n) < 0.6)


def weighed(score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> float:
    """Harrell's concordance with case weights, pair by pair."""
    time, event = survival.times(label), survival.events(label)
    pairs = concordant = 0.0
    for i in np.flatnonzero(event):
        for j in range(len(label)):
            if time[i] < time[j] or (time[i] == time[j] and not event[j]):
                both = weight[i] * weight[j]
                pairs += both
                concordant += both * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
    return concordant / pairs


def test_by_hand() -> None:
    """Of the events at 1 and 2 and who was censored at 2: three pairs, one of equal scores and one the wrong way."""
    label = survival.joined(np.array([1.0, 2.0, 2.0]), np.array([True, True, False]))
    found = metrics.figures(TIMED, metrics.sums(TIMED, np.array([0.5, 0.5, 0.1]), label), 0.95, single=True)[
        "concordance"
    ]
    assert found.value == pytest.approx(2.5 / 3) and found.n == 3
    turned = metrics.figures(TIMED, metrics.sums(TIMED, np.array([0.5, 0.1, 0.4]), label), 0.95, single=True)[
        "concordance"
    ]
    assert turned.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("n", [40, 700])
def test_it_is_that_of_all_pairs_and_its_variance_follows_from_weights(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concordance, "SMALL", 16)  # the halves are put together, again and again
    score, label = patients(n, 3)
    found = metrics.figures(TIMED, metrics.sums(TIMED, score, label), 0.6827, True)["concordance"]
    if n > 100:
        monkeypatch.setattr(concordance, "SMALL", n)
        assert metrics.figures(TIMED, metrics.sums(TIMED, score, label), 0.6827, True)["concordance"] == found
        return
    ones = np.ones(n)
    assert found.value == pytest.approx(weighed(score, label, ones), rel=1e-12)
    slopes = [(weighed(score, label, ones + h) - weighed(score, label, ones - h)) / 2e-5 for h in 1e-5 * np.eye(n)]
    assert found.high - found.value == pytest.approx(np.sqrt(np.sum(np.square(slopes))), rel=1e-4)


def test_hospitals_add_up_each_by_the_number_of_its_patients_and_none_says_more_than_it_has() -> None:
    one, other = patients(50, 1), patients(120, 2)
    parts = [metrics.sums(TIMED, *each) for each in (one, other)]
    total = {name: parts[0][name] + parts[1][name] for name in parts[0]}
    value = metrics.figures(TIMED, total, 0.95)["stratified_concordance"].value
    shares = [(part["pairs"][0], part["concordant"][0] / part["pairs"][0]) for part in parts]
    assert value == pytest.approx(np.average([c for _, c in shares], weights=[w for w, _ in shares]))
    for part, n in zip(parts, (50, 120)):
        metrics.check(TIMED, part)
        assert all(0 <= array[0] <= n for array in part.values())


@pytest.mark.parametrize("label", [[], [5.0], [-5.0, -7.0], [5.0, 5.0]])
def test_without_a_pair_there_is_no_figure(label: list[float]) -> None:
    found = metrics.figures(TIMED, metrics.sums(TIMED, np.zeros(len(label)), np.array(label)), 0.95)
    assert all(figure.value is None or figure.n == 0 for figure in found.values())


def test_sums_below_zero_are_refused() -> None:
    sums = metrics.sums(TIMED, *patients(30, 1))
    with pytest.raises(Invalid):
        metrics.check(TIMED, sums | {"pairs": np.array([-1.0])})
