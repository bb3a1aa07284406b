"""Concordance over hospitals is Harrell's of the pooled patients, within the bound that is told, and near it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms import between, concordance, evaluation, metrics
from consilium.algorithms.between import ALL, GROUP, Grid
from consilium.core import survival
from unit.simulation import multicentre

KNOWN = json.loads((Path(__file__).parents[2] / "vectors" / "cox.json").read_text())
Hospital = tuple[np.ndarray, np.ndarray]
"""Hazards and labels of its patients."""


def harrells(hospitals: list[Hospital]) -> float | None:
    """Of all patients in one table."""
    score, label = (np.concatenate([one[at] for one in hospitals]) for at in (0, 1))
    return concordance.stratified(concordance.sums(score, label), len(score), 0.95).value


def total(hospitals: list[Hospital], last: float, grid: Grid = ALL) -> dict[str, np.ndarray]:
    parts = [{**concordance.sums(*one), **between.sums(*one, (0.0, last), grid)} for one in hospitals]
    return {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}


def sealed(hospitals: list[Hospital], last: float, grid: Grid = ALL) -> dict[str, np.ndarray]:
    """The same as a secure sum has it: pairs of one hospital by patient."""
    found = dict[str, np.ndarray]()
    for score, label in hospitals:
        part, n = between.sums(score, label, (0.0, last), grid), np.array([float(len(score))])
        told = {
            "n": n, "cells": part["cells"],
            between.BY_PATIENT: between.by_patient(part["by_cells"], part["exact"], n),
        }  # fmt: skip
        found = {name: array + found.get(name, 0.0) for name, array in told.items()}
    return evaluation.among(found, len(hospitals))


def drawn(n: int, seed: int, hospitals: int, spread: float = 0.7, centre: float = 0.0) -> list[Hospital]:
    """Patients in hospitals of several sizes, that differ in how ill their patients are."""
    rng = np.random.default_rng(seed)
    where = np.sort(rng.choice(hospitals, n, p=np.arange(1, hospitals + 1) / np.sum(np.arange(hospitals + 1))))
    x = rng.normal(0.3 * where, spread)
    time, end = rng.exponential(400 * np.exp(-x)), rng.uniform(100, 1500, n)
    label = survival.joined(np.ceil(np.minimum(time, end)), time <= end)
    return [(np.exp(x + centre)[where == at], label[where == at]) for at in range(hospitals)]


TABLES = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.integers(-6, 6)), max_size=8), min_size=1, max_size=4
)
"""Times, events and log hazards of each hospital's patients."""


def lies_within_the_bound(given_: list[list[tuple[int, bool, int]]], last: float, spread: float, grid: Grid) -> None:
    hospitals = [
        (np.exp(spread * np.array([x for *_, x in one])),
         survival.joined(np.array([t for t, *_ in one], dtype=float), np.array([e for _, e, _ in one], dtype=bool)))
        for one in given_
    ]  # fmt: skip
    true = harrells(hospitals)
    for sums in (total(hospitals, last, grid), sealed(hospitals, last, grid)):
        value, bound = between.Told.of(sums).value, between.within(sums)
        if true is None or value is None or bound is None:
            assert true is None or value is not None, "pairs are not lost"
            return
        assert 0 <= value <= 1 and abs(value - true) <= bound + 1e-12
        assert bound < 1e-12 or len(hospitals) > 1 or "exact" not in sums


@settings(max_examples=25, deadline=None)
@given(TABLES, st.sampled_from([3.0, 20.0, 2000.0]), st.sampled_from([0.004, 0.3, 5.0]))
def test_the_concordance_of_the_pooled_patients_lies_within_the_bound(
    tables: list[list[tuple[int, bool, int]]], last: float, spread: float
) -> None:
    """Whatever ties there are, and also where all times or all hazards share a span."""
    lies_within_the_bound(tables, last, spread, GROUP)


@pytest.mark.long
@settings(max_examples=1000, deadline=None)
@given(TABLES, st.sampled_from([3.0, 20.0, 2000.0]), st.sampled_from([0.004, 0.3, 5.0]), st.sampled_from([ALL, GROUP]))
def test_it_lies_within_the_bound_of_very_many(
    tables: list[list[tuple[int, bool, int]]], last: float, spread: float, grid: Grid
) -> None:
    lies_within_the_bound(tables, last, spread, grid)


@pytest.mark.parametrize(("grid", "off"), [(ALL, 2e-4), (GROUP, 5e-4)])
def test_of_some_thousand_patients_it_is_that_of_the_pooled_ones(grid: Grid, off: float) -> None:
    """Pairs of one hospital alone have another one, for hospitals differ."""
    hospitals = drawn(3000, 3, 5)
    sums, true = total(hospitals, 1500.0, grid), harrells(hospitals)
    found = between.figures(sums, 3000, 0.95)
    assert found["concordance"].value == pytest.approx(true, abs=off)
    assert abs((found["stratified_concordance"].value or 0) - (true or 0)) > 3 * off
    assert (between.within(sums) or 0) < 0.05


def test_of_three_hundred_patients_it_is_within_a_thousandth_in_nearly_all_studies() -> None:
    """And by no more one way than the other."""
    off = []
    for seed in range(40):
        hospitals = drawn(300, seed, 3)
        off.append((between.Told.of(total(hospitals, 4000.0)).value or 0) - (harrells(hospitals) or 0))
    assert np.mean(np.abs(off) <= 1e-3) >= 0.95 and np.max(np.abs(off)) < 2e-3
    assert abs(np.mean(off)) < 3 * np.std(off) / len(off) ** 0.5


def test_pairs_of_hospitals_of_one_size_are_known_under_a_secure_sum_as_if_each_had_told_them() -> None:
    """Whatever the grid, to what rounding leaves; and of one alone the concordance is that of its patients."""
    for seed, count in enumerate((1, 1, 2, 3, 5, 10, 1, 3, 4, 8)):
        hospitals = [drawn(30, 10 * seed + at, 1, centre=-3.0 * (seed > 5))[0] for at in range(count)]
        one, other = (sums(hospitals, 4000.0, ALL if seed % 2 else GROUP) for sums in (total, sealed))
        n, every = 30 * count, np.concatenate([one["by_cells"], one["exact"]])
        assert np.max(np.abs(other[between.OWN] - every)) <= n / 2 / concordance.PARTS + 1e-9
        told, known = between.Told.of(other), between.Told.of(one)
        assert told.value == pytest.approx(known.value, abs=2e-3 / count**0.5)
        if count == 1:
            assert known.value == pytest.approx(harrells(hospitals), abs=1e-12)


def test_what_hospitals_know_of_their_own_pairs_brings_the_concordance_nearer_whatever_their_sizes_are() -> None:
    """Of 1 to 3 times as many patients, and of one size; beside that of pairs that are counted by cells alone."""
    for sizes in ((50, 100, 150), (100, 100, 100), (230, 40, 30)):
        off = []
        for seed in range(40):
            hospitals = [drawn(n, 100 * seed + at, 1)[0] for at, n in enumerate(sizes)]
            told, true = between.Told.of(sealed(hospitals, 4000.0, GROUP)), harrells(hospitals)
            off.append([(each.value or 0) - (true or 0) for each in (told, replace(told, more=0.0))])
        now, by_cells = np.mean(np.square(off), axis=0) ** 0.5
        assert now < 0.92 * by_cells, sizes


def test_cells_of_a_group_say_nothing_finer_than_those_of_all_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """With spans that do not lie within one another, two patients whom a cell of all holds stood in two of a group."""
    other = Grid(48, 128)
    monkeypatch.setitem(between._BY_SIZE, other.size, other)
    for seed, middle in enumerate((0.0, 0.0, -1.0, 2.5, 0.0, 1.0, -4.0, 0.0, 0.3, 0.0)):
        (only,), spans = drawn(200, seed, 1), (middle, 0.5 + seed)
        ends = (10.0 * seed, 900.0 + 77.7 * seed)
        cells = {grid: between.sums(*only, ends, grid, spans)["cells"] for grid in (ALL, GROUP, other)}
        halves = cells[ALL].reshape(2, GROUP.times, 2, GROUP.scores, 2)
        assert np.array_equal(halves.sum(axis=(2, 4)).ravel(), cells[GROUP])
    label = survival.joined(np.array([440.0, 448.0]), np.ones(2, dtype=bool))
    found = {grid: np.max(between.sums(np.ones(2), label, (0.0, 4000.0), grid)["cells"]) for grid in cells}
    assert found[ALL] == found[GROUP] == 2 and found[other] == 1, "the leak"


def test_where_no_hospital_has_a_pair_those_that_share_a_span_are_in_order_as_others_say_that_are_as_near() -> None:
    """Each patient is a hospital. The more pairs a span has of all there are, the farther apart its patients are."""
    for spread in (0.0, 1.0, 2.0):
        (only,) = drawn(300, 8, 1, spread=spread)
        each = [(only[0][at : at + 1], only[1][at : at + 1]) for at in range(300)]
        told = between.Told.of(total(each, 4000.0, GROUP))
        apart, every = told.apart, told.apart[0] + told.events * told.apart[3] + told.nones * told.apart[4]
        more = (apart[1] + apart[2] / 2) / apart[0] - 0.5
        shares = np.array([apart[2], told.events * apart[3], told.nones * apart[4]]) / every
        assert told.excess == pytest.approx(shares * more, abs=1e-12) and (spread > 0 or abs(more) < 1e-12)


def test_where_all_hazards_share_a_few_spans_it_is_nearly_that_of_pairs_of_one_hospital() -> None:
    """Rates per day: a half for each pair that shares a span would be off by 0.1."""
    hospitals = drawn(1500, 4, 3, centre=-9.0)
    sums, true = total(hospitals, 1500.0), harrells(hospitals)
    assert between.Told.of(sums).value == pytest.approx(true, abs=0.01) and (between.within(sums) or 0) > 0.15


def test_times_that_are_whole_numbers_are_tied_as_often_as_within_hospitals() -> None:
    """Of years, each in a span of its own, no two events of one year are a pair."""
    hospitals = [
        (score, survival.joined(np.ceil(survival.times(label) / 365), survival.events(label)))
        for score, label in drawn(2000, 5, 4)
    ]
    sums, true = total(hospitals, 5.0), harrells(hospitals)
    told = between.Told.of(sums)
    assert told.events < 0.01 and told.nones > 0.99
    assert told.value == pytest.approx(true, abs=3e-4)


def test_its_standard_error_is_that_of_the_pooled_patients() -> None:
    hospitals = drawn(600, 6, 4)
    sums, pooled = total(hospitals, 1500.0), concordance.sums(*(np.concatenate(each) for each in zip(*hospitals)))
    theirs = concordance.stratified(pooled, 600, 0.6827)
    found = between.figures(sums, 600, 0.6827)["concordance"]
    assert (found.high or 0) - (found.value or 0) == pytest.approx((theirs.high or 0) - (theirs.value or 0), rel=0.02)


def test_of_one_hospital_there_is_one_concordance_and_it_is_exact() -> None:
    (only,) = drawn(200, 7, 1)
    found = between.figures(total([only], 1500.0), 200, 0.95)
    assert found == metrics.figures("time-to-event", concordance.sums(*only) | {"n": np.array([200.0])}, 0.95, True)
    assert found.keys() == {"concordance"}


@pytest.mark.parametrize("name", ["lung", "breast"])
def test_it_is_that_of_lifelines_on_real_patients_by_institution(name: str) -> None:
    if not multicentre.FOLDER.is_dir():
        pytest.skip("the multicentre data are not here")
    read, features, last = {
        "lung": (multicentre.lung, multicentre.LUNG, multicentre.LUNG_LAST),
        "breast": (multicentre.breast, multicentre.BREAST, multicentre.LAST),
    }[name]
    hospitals, middle = [], np.array([sum(ends) / 2 for ends in features.values()])
    for patients in read().values():
        x = np.array([[row[feature] for feature in features] for row in patients]) - middle
        time, event = (np.array([row[of] for row in patients]) for of in ("time", "event"))
        hospitals.append((np.exp(x @ KNOWN[name]["stratified"]["coefficients"]), survival.joined(time, event == 1)))
    theirs = KNOWN[name]["concordance"]
    assert harrells(hospitals) == pytest.approx(theirs, abs=1e-12)
    assert between.Told.of(total(hospitals, last)).value == pytest.approx(theirs, abs=1e-3)
