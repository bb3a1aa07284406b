"""Intervals of figures hold the true values of a population as often as they say, over 1,000 simulated studies."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from consilium.algorithms import calibration, discrimination, groups, worth
from consilium.algorithms.calibration import expit
from unit.algorithms.judging import Patients, study
from unit.algorithms.test_worth_of_numbers import counts, numbers, times

STUDIES = 1000
MANY = 2_000_000
STUDY = study(threshold=0.3, groups=[{"feature": "sex"}])
POPULATION = {"intercept": 0.3, "slope": 0.75, "centre": -0.8, "spread": 1.2}
GAP = ("auroc", "sensitivity", "specificity", "ppv")


def truth() -> dict[str, float]:
    """The figures of the population, by 2,000,000 patients of whom the chance is known and no outcome is drawn."""
    x = np.random.default_rng(0).normal(POPULATION["centre"], POPULATION["spread"], MANY)
    score, chance = expit(x), expit(POPULATION["intercept"] + POPULATION["slope"] * x)
    place = discrimination.places(score, 2000)
    sick, well = (np.bincount(place, weights=mass, minlength=2000) for mass in (chance, 1 - chance))
    total = {"positives": sick, "negatives": well, "n": np.array([float(MANY)])}
    terms = calibration.terms(score, chance)  # linear in the outcome
    total |= {name: rows.sum(axis=1) for name, rows in terms.items()}
    loss = -(chance * np.log(score) + (1 - chance) * np.log1p(-score))
    flagged, share = score >= 0.3, chance.mean()
    hits, alarms = (chance * flagged).mean(), ((1 - chance) * flagged).mean()
    bins = np.clip((score * 10).astype(int), 0, 9)
    return {
        "auroc": float(discrimination.auroc(sick, well, 0.95).value or 0),
        "auprc": float(discrimination.auprc(sick, well, 0.95).value or 0),
        "brier": float((chance * (score - 1) ** 2 + (1 - chance) * score**2).mean()),
        "logloss": float(loss.mean()),
        "observed_to_expected": float(chance.sum() / score.sum()),
        "calibration_intercept": POPULATION["intercept"], "calibration_slope": POPULATION["slope"],
        "calibration_in_the_large": float(calibration.fit(total, 0.95)["calibration_in_the_large"].value or 0),
        "calibration_error": float(np.abs(np.bincount(bins, chance - score)).sum() / MANY),
        "prevalence": float(share), "sensitivity": float(hits / share), "specificity": float(1 - alarms / (1 - share)),
        "ppv": float(hits / (hits + alarms)), "npv": float(1 - (share - hits) / (1 - hits - alarms)),
        "flagged": float(flagged.mean()), "accuracy": float(hits + 1 - share - alarms),
        "net_benefit": float(hits - alarms * 0.3 / 0.7),
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("n", [600, 2000])
def test_intervals_hold_the_truth_in_93_to_97_of_100_studies(n: int) -> None:
    true, held, gaps = truth(), dict[str, int](), dict.fromkeys(GAP, 0)
    drawn = partial(Patients.drawn, n, **POPULATION)
    for seed in range(STUDIES):
        total = drawn(seed + 1).sums(STUDY)
        for name, figure in worth.worth(total, STUDY).figures.items():
            assert figure.low is not None and figure.high is not None, name
            held[name] = held.get(name, 0) + (figure.low <= true[name] <= figure.high)
        for gap in worth.judged(STUDY, total, {})["gaps"]:
            if gap["name"] in gaps:
                gaps[gap["name"]] += gap["low"] <= 0 <= gap["high"]  # sex has no bearing on anything
    assert held.keys() == true.keys() and len(groups.asked(STUDY)) == 2
    shares = {**held, **{f"gap of {name}": count for name, count in gaps.items()}}
    outside = {name: count / STUDIES for name, count in shares.items() if not 0.93 <= count / STUDIES <= 0.97}
    assert not outside, shares


@pytest.mark.long
def test_where_chances_are_right_the_error_of_calibration_reaches_to_zero_in_95_of_100_studies_or_more() -> None:
    drawn = partial(Patients.drawn, 1000, intercept=0.0, slope=1.0)
    found = [calibration.distance(drawn(seed).sums(STUDY), 0.95).low == 0 for seed in range(STUDIES)]
    assert np.mean(found) >= 0.95


def truth_of_numbers(kind: str, drawn: Callable[[int, int], Patients]) -> dict[str, float]:
    """Figures of a population, by very many patients; of times by a census of pairs, and by how they are drawn."""
    if kind == "time-to-event":
        found = worth.worth(drawn(200_000, 99).sums(study(kind, groups=[])), study(kind, groups=[]))
        value = found.figures["concordance"].value
        return {"concordance": float(value or 0), "calibration_slope": 0.8}
    many = drawn(MANY, 99)
    found = worth.worth(many.sums(study(kind, groups=[])), study(kind, groups=[]))
    return {name: float(one.value or 0) for name, one in found.figures.items()}


@pytest.mark.long
@pytest.mark.parametrize(("kind", "drawn"), [("number", numbers), ("count", counts), ("time-to-event", times)])
@pytest.mark.parametrize("n", [1000])
def test_intervals_of_numbers_counts_and_times_hold_the_truth_in_93_to_97_of_100_studies(
    n: int, kind: str, drawn: Callable[[int, int], Patients]
) -> None:
    asked, true = study(kind, groups=[{"feature": "sex"}]), truth_of_numbers(kind, drawn)
    held: dict[str, int] = {}
    for seed in range(STUDIES):
        total = drawn(n, seed + 1000).sums(asked)
        for name, figure in worth.worth(total, asked).figures.items():
            assert figure.low is not None and figure.high is not None, name
            held[name] = held.get(name, 0) + (figure.low <= true[name] <= figure.high)
        for gap in worth.judged(asked, total, {})["gaps"]:
            name = f"gap of {gap['name']}"
            held[name] = held.get(name, 0) + (gap["low"] <= 0 <= gap["high"])  # sex has no bearing on anything
    wide = ("rmse", "r2", "gap of deviance") if kind == "count" else ()  # few large counts carry most of the squares
    shares = {name: count / STUDIES for name, count in held.items()}
    outside = {name: one for name, one in shares.items() if not (0.90 if name in wide else 0.93) <= one <= 0.97}
    assert not outside, shares
