"""The figures of every round: those of each hospital beside those of all tell no count of one to nine patients."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.algorithms import headline, metrics
from consilium.algorithms.figure import FEW, FOLLOWS
from unit.algorithms.judging import Patients, added, study

STUDY = study(threshold=0.3)
CELL = st.sampled_from([0, 0, 3, 9, 10, 12, 25])
HOSPITAL = st.tuples(CELL, CELL, CELL, CELL)
"""Patients with the outcome at and above the threshold and below it, and without it likewise."""


def counted(cells: tuple[int, ...]) -> dict[str, np.ndarray]:
    score, label = np.repeat([0.7, 0.1, 0.6, 0.2], cells), np.repeat([1.0, 1.0, 0.0, 0.0], cells)
    return metrics.sums("binary", score, label)


def counts(told: dict[str, Any]) -> dict[str, int]:
    """What these figures tell, in patients."""
    found = {}
    for name, of, rest in (
        ("prevalence", "positives", "negatives"), ("sensitivity", "hits", "misses"),
        ("specificity", "rejections", "alarms"), ("accuracy", "right", "wrong"),
    ):  # fmt: skip
        if (one := told.get(name)) is not None and one["value"] is not None:
            found[of] = round(one["value"] * one["n"])
            found[rest] = one["n"] - found[of]
    return found | {f"n of {name}": one["n"] for name, one in told.items() if one["n"]}


@settings(max_examples=100, deadline=None)
@given(st.lists(HOSPITAL, min_size=2, max_size=4))
@example([(30, 30, 30, 30), (30, 30, 30, 30), (12, 3, 30, 30)])
@example([(30, 30, 30, 30), (3, 3, 30, 30)])
def test_no_count_of_one_to_nine_stands_there_nor_follows(hospitals: list[tuple[int, ...]]) -> None:
    sites = {f"site-{at}": counted(cells) for at, cells in enumerate(hospitals)}
    found = headline.figures(STUDY, added(list(sites.values())), sites)
    over, alone = counts(found["all"]), [counts(one) for one in found["sites"].values()]
    for told in (over, *alone):
        assert not [count for count in told.values() if 0 < count < 10]
    for name, count in over.items():
        rest = count - sum(one.get(name, 0) for one in alone)
        assert rest == 0 or rest >= 10, name


def test_what_is_hidden_says_why_and_the_rest_is_told() -> None:
    sites = {"large": (30, 30, 30, 30), "also": (30, 30, 30, 30), "few": (3, 3, 30, 30), "other": (12, 12, 12, 12)}
    sums = {site: counted(cells) for site, cells in sites.items()}
    told = headline.figures(STUDY, added(list(sums.values())), sums)
    assert {one["note"] for one in told["sites"]["few"].values()} == {FEW}
    assert {one["note"] for one in told["sites"]["other"].values()} == {FOLLOWS}, "the whole less all others is the few"
    assert told["sites"]["large"]["sensitivity"]["value"] == 0.5 and told["all"]["accuracy"]["value"] is not None
    assert told["sites"]["large"].keys() == told["sites"]["few"].keys()


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_shares_are_those_at_the_threshold_of_the_plan(threshold: float) -> None:
    patients = Patients.drawn(400, 3)
    sums = metrics.sums("binary", patients.score, patients.label)
    told = headline.alone(study(threshold=threshold, figures="headline"), sums)
    above = patients.score >= threshold
    assert told["sensitivity"]["value"] in (None, pytest.approx(above[patients.label == 1].mean()))
    assert told["accuracy"]["value"] in (None, pytest.approx((above == patients.label).mean()))
    assert threshold == 0.1 or told["accuracy"]["value"] is not None


def test_of_whom_there_are_no_sums_there_are_no_figures() -> None:
    """As of a strategy whose rounds judge nobody, and where single hospitals are not seen."""
    assert headline.figures(STUDY, {}, {"north": {}}) == {"all": {}, "sites": {"north": {}}}
    told = headline.figures(STUDY, counted((20, 20, 20, 20)))
    assert told["all"]["auroc"]["n"] == 80 and told["sites"] == {}


@pytest.mark.parametrize("kind", ["binary", "number", "count", "time-to-event"])
@pytest.mark.parametrize("sizes", [(5, 40, 50), (5, 6, 7), (2, 2, 3)])
def test_what_is_hidden_of_a_hospital_has_the_names_of_what_would_be_told(kind: str, sizes: tuple[int, ...]) -> None:
    rng, of = np.random.default_rng(1), study(kind)
    labels = {"binary": lambda n: np.arange(n) % 2.0, "time-to-event": lambda n: rng.normal(0, 900, n).round()}
    sites = {
        f"site-{n}": metrics.sums(
            kind, rng.uniform(0.1, 0.9, n), labels.get(kind, lambda n: rng.poisson(3, n) * 1.0)(n)
        )
        for n in sizes
    }
    told = headline.figures(of, added(list(sites.values())), sites)["sites"]
    for site, sums in sites.items():
        assert told[site].keys() == headline.alone(of, sums).keys()
