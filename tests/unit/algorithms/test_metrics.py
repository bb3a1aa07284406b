"""Metrics from sums: equal to pooled figures, additive over sites, and numbers whatever a site sends."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as judge

from consilium.algorithms import figure, metrics
from consilium.core.errors import Invalid

KINDS = ("binary", "number", "count")


def patients(kind: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind == "binary":
        label = (rng.random(n) < 0.4).astype(float)
        return np.clip(0.25 * label + 0.75 * rng.random(n), 0, 1), label
    if kind == "count":
        return rng.gamma(2.0, size=n) + 0.1, rng.poisson(2.0, size=n).astype(float)
    label = rng.normal(50, 10, n)
    return label + rng.normal(0, 5, n), label


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 999))
def test_sums_of_the_sites_are_the_sums_of_the_whole(kind: str, sizes: list[int], seed: int) -> None:
    predicted, label = patients(kind, sum(sizes), seed)
    cuts = np.cumsum(sizes)[:-1]
    parts = [metrics.sums(kind, p, y) for p, y in zip(np.split(predicted, cuts), np.split(label, cuts), strict=True)]
    whole = metrics.sums(kind, predicted, label)
    for part in parts:
        metrics.check(kind, part)
    for name, array in whole.items():
        assert np.allclose(sum(part[name] for part in parts), array, rtol=1e-12), name


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_exact_one_on_the_bins_and_ties_count_one_half(seed: int) -> None:
    score, label = patients("binary", 300, seed)
    score = np.floor(score * 40) / 40 + 1e-9  # many ties, none across a bin's edge
    found = metrics.figures("binary", metrics.sums("binary", score, label), 0.95)["auroc"]
    assert found.value == pytest.approx(judge.roc_auc_score(label, score), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_of_any_scores_is_exact_to_the_fourth_decimal(seed: int) -> None:
    score, label = patients("binary", 2000, seed)
    found = metrics.figures("binary", metrics.sums("binary", score, label), 0.95)["auroc"]
    assert found.value == pytest.approx(judge.roc_auc_score(label, score), abs=2e-4)


def test_auroc_by_hand() -> None:
    score, label = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])
    found = metrics.figures("binary", metrics.sums("binary", score, label), 0.95)["auroc"]
    assert found.value == 0.75, "three of the four pairs are in order"
    tied = metrics.figures("binary", metrics.sums("binary", np.full(4, 0.5), label), 0.95)["auroc"]
    assert tied.value == 0.5


def delong(score: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """AUROC and its variance by the definition of DeLong et al. 1988: placements of every pair, one by one."""
    good, bad = score[label == 1], score[label == 0]
    psi = (good[:, None] > bad[None, :]) + 0.5 * (good[:, None] == bad[None, :])
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    return float(psi.mean()), float(v10.var(ddof=1) / len(good) + v01.var(ddof=1) / len(bad))


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_the_auroc_is_that_of_delong(seed: int, confidence: float) -> None:
    score, label = patients("binary", 200, seed)
    score = np.floor(score * 100) / 100 + 1e-9
    value, variance = delong(score, label)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    found = metrics.figures("binary", metrics.sums("binary", score, label), confidence)["auroc"]
    assert found.low == pytest.approx(max(value - z * variance**0.5, 0), abs=1e-12)
    assert found.high == pytest.approx(min(value + z * variance**0.5, 1), abs=1e-12)


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (1, 10), (7, 10), (300, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_a_proportion_has_the_interval_of_wilson(count: int, n: int, confidence: float) -> None:
    found = figure.proportion(float(count), float(n), confidence)
    theirs = stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    assert (found.value, found.n) == (count / n, n)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_binary_figures_are_those_of_the_pooled_patients() -> None:
    score, label = patients("binary", 500, 1)
    found = metrics.figures("binary", metrics.sums("binary", score, label), 0.95)
    decided = (score >= 0.5).astype(float)
    assert found["accuracy"].value == pytest.approx(judge.accuracy_score(label, decided))
    assert found["sensitivity"].value == pytest.approx(judge.recall_score(label, decided))
    assert found["specificity"].value == pytest.approx(judge.recall_score(1 - label, 1 - decided))
    assert found["brier"].value == pytest.approx(judge.brier_score_loss(label, score))
    assert found["logloss"].value == pytest.approx(judge.log_loss(label, np.clip(score, 1e-12, 1 - 1e-12)))
    assert found["prevalence"].value == pytest.approx(label.mean())


def test_figures_of_numbers_and_counts_are_those_of_the_pooled_patients() -> None:
    for kind in ("number", "count"):
        predicted, label = patients(kind, 400, 2)
        found = metrics.figures(kind, metrics.sums(kind, predicted, label), 0.95)
        assert found["rmse"].value == pytest.approx(judge.root_mean_squared_error(label, predicted))
        assert found["mae"].value == pytest.approx(judge.mean_absolute_error(label, predicted))
        assert found["r2"].value == pytest.approx(judge.r2_score(label, predicted))
    assert found["deviance"].value == pytest.approx(judge.mean_poisson_deviance(label, predicted))


def test_one_class_only_is_said_and_not_judged() -> None:
    found = metrics.figures("binary", metrics.sums("binary", np.array([0.2, 0.9]), np.ones(2)), 0.95)
    assert found["auroc"].value is None and found["auroc"].note == "one class only"
    assert found["specificity"].value is None and found["sensitivity"].value == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_no_patients_give_no_figures(kind: str) -> None:
    found = metrics.figures(kind, metrics.sums(kind, np.zeros(0), np.zeros(0)), 0.95)
    assert found["n"].note == "no patients" and "auroc" not in found


def test_labels_of_an_unknown_type_and_unequal_shapes_are_refused() -> None:
    with pytest.raises(Invalid):
        metrics.sums("survival", np.zeros(1), np.zeros(1))
    with pytest.raises(Invalid):
        metrics.sums("binary", np.zeros(2), np.zeros(1))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 30), st.data())
def test_whatever_a_site_sends_is_refused_or_gives_figures(kind: str, n: int, data: st.DataObject) -> None:
    sent = metrics.sums(kind, *patients(kind, n, 1))
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(sent)))
        odd = st.sampled_from([0.0, -1.0, 0.5, 1e300, -1e300, math.inf, math.nan, 3.0, 1e99])
        changed = sent[name].copy()
        changed[data.draw(st.integers(0, changed.size - 1))] = data.draw(odd)
        sent = {**sent, name: changed}
    try:
        metrics.check(kind, sent)
    except Invalid:
        return
    total = {name: array + metrics.sums(kind, *patients(kind, 9, 2))[name] for name, array in sent.items()}
    for found in metrics.figures(kind, total, 0.95).values():
        for value in (found.value, found.low, found.high):
            assert value is None or math.isfinite(value)


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_of_another_layout_are_refused(kind: str) -> None:
    good = metrics.sums(kind, *patients(kind, 20, 1))
    metrics.check(kind, good)
    bad = [
        {},
        {name: array for name, array in good.items() if name != "n"},
        {**good, "extra": np.zeros(1)},
        {**good, "n": good["n"].astype(np.float32)},
        {**good, "n": np.zeros(2)},
        metrics.sums("number" if kind == "count" else "count", *patients("count", 20, 1)),
    ]
    for sent in bad:
        with pytest.raises(Invalid):
            metrics.check(kind, sent)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.505])
def test_shares_are_those_at_the_threshold_that_is_given(threshold: float) -> None:
    score, label = patients("binary", 500, 1)
    found = metrics.figures("binary", metrics.sums("binary", score, label), 0.95, threshold=threshold)
    decided = (score >= threshold).astype(float)
    assert found["accuracy"].value == pytest.approx(judge.accuracy_score(label, decided))
    assert found["sensitivity"].value == pytest.approx(judge.recall_score(label, decided))
