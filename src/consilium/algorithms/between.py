"""The concordance of all patients of all hospitals: pairs of one hospital exactly, pairs of two from a histogram.

A hospital compares its own patients with one another. Of two patients of two hospitals nobody has both; but how many
patients have a time and a score in each cell adds up, and where two cells differ in both, it says which of two patients
had the event first, and who has the higher score. So all pairs are counted by cells, those of one hospital are taken
off, as it counted them by its own cells, and are added as they are (`concordance`).

Pairs that share a span of times or of scores are not told apart. Of these, so many count, and so many are in order, as
of the pairs of one hospital that share one; the fewer these are, the nearer to what is to be expected of two that are
so near: the farther two are apart, the more often they are in order; so in a span that has a share s of all pairs they
are in 1/2 + s (C - 1/2), where C is that of pairs of two spans. `within` says how far the figure may be from Harrell's
of the pooled patients, whatever the order within spans is.
Under `secure_sum` a hospital does not tell how many pairs it has, which are a square of how many patients it has: it
tells the same twelve numbers by patient (`by_patient`). What shares a span follows from them as before. Of hospitals of
one size, times how many patients another one of them has they are the pairs of one hospital (`of_hospitals`); where
sizes differ that is the multiple by which their sum tells most of those pairs. So all pairs are counted by cells, and
by so much more or fewer are in order.

Times: equal parts of the root of the contract's range. Hazards: quantiles of Student's distribution with two degrees of
freedom on the scale of logarithms, about the middle that the model's hazards have, and as wide as they are: by patients
who never were (`training/spans.py`), so that it is the same at all hospitals.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from consilium.algorithms import concordance
from consilium.algorithms.figure import Figure, around, hidden
from consilium.core import survival
from consilium.core.judging import SPANS, SPANS_OF_GROUPS
from consilium.core.survival import Floats
from consilium.core.tensors import Array

Spans = tuple[float, float]
"""Middle and spread of log hazards: seven of ten spans lie within one spread of the middle."""
USUAL: Spans = (0.0, 2.0)
"""Where nothing else is known."""
FEW = 6.0
"""So many pairs, of which what is expected are in order, are added to those that share a span, by the square of their
share of all pairs: the smaller spans are, the less their pairs can differ from a half; by a fifth of that share, about.
"""
Ends = tuple[float, float]
SMALLEST = 1e-300
"""A hazard is none below this."""


@dataclass(frozen=True)
class Grid:
    """So many spans of times and of scores. A cell has a number for patients with the event, and one for those without.

    >>> ALL.size, GROUP.size
    (51200, 12800)
    """

    times: int
    scores: int

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return 2 * self.times * self.scores


ALL, GROUP = Grid(*SPANS), Grid(*SPANS_OF_GROUPS)
"""Of all patients, and of a group of them."""
_BY_SIZE = {grid.size: grid for grid in (ALL, GROUP)}


def sums(score: Floats, label: Floats, ends: Ends, grid: Grid, spans: Spans = USUAL) -> dict[str, Floats]:
    """What a hospital counts of some of its patients.

    Args:    score: hazards (n,).   label: (n,), as `core.survival` joins them.   ends: the contract's range of times.
             spans: of hazards, the same at all hospitals.
    Returns: `cells` (grid.size,); pairs of these patients, as `counted` has them from these cells, `by_cells` (7,); and
             as they are, of those that share a span, `exact` (5,).
    """
    time, event = survival.times(label), survival.events(label)
    span = np.searchsorted(_times(ends, grid.times), time, side="right")
    place = span * grid.scores + np.searchsorted(_hazards(grid.scores, spans), _logarithm(score), side="right")
    cells = np.bincount(place + ~event * (grid.size // 2), minlength=grid.size).astype(np.float64)
    by_cells = counted(cells)

    def shared(of: survival.Flags) -> tuple[float, float]:
        """Pairs of these that share a span of times, and how many of them are in order."""
        some = (score[of], event[of])
        every = concordance.compared(some[0], concordance.ranks(label[of]), some[1])
        apart = concordance.compared(some[0], span[of], some[1])
        pairs, ordered = (float(np.sum(a - b)) / 2 for a, b in zip(every, apart, strict=True))
        return pairs, ordered

    level = float(np.sum(concordance.compared(score, span, event)[1])) / 2 - by_cells[1]
    events, both = shared(event), shared(np.ones_like(event))
    exact = np.array([level, *events, both[0] - events[0], both[1] - events[1]])
    return {"cells": cells, "by_cells": by_cells, "exact": exact}


BY_PATIENT = "by_patient"
BOTH = (7, 5)
"""Lengths of `by_cells` and `exact`, of which this is made."""


def by_patient(by_cells: Array, exact: Array, n: Array) -> Floats:
    """Both by the number of other patients, rounded (12,); of several sets of patients, one after the other.

    Args:    n: (sets,) how many patients there are of each.
    """
    both = [np.reshape(of, (-1, length)) for of, length in zip((by_cells, exact), BOTH, strict=True)]
    return concordance.rounded(np.ravel(np.hstack(both) / np.maximum(n - 1, 1)[:, None]))


OWN = "of_hospitals"


def of_hospitals(by_patient: Array, n: Array, hospitals: int) -> Floats:
    """Pairs of one hospital (12,), as their sum by patient has them of hospitals of one size; of several sets as above.

    What a hospital has of unsure pairs is off by chance, and by as much as its square root, which is as n. Therefore no
    multiple of the sum by patient leaves less to chance than by n / hospitals, whatever their sizes are.

    Args:    by_patient: summed.   n: (sets,) how many patients there are of each, in so many `hospitals`.
    """
    others = np.maximum(n / hospitals - 1, 0.0)
    return np.ravel(np.reshape(by_patient, (-1, sum(BOTH))) * others[:, None])


@lru_cache(16)
def _times(ends: Ends, spans: int) -> Floats:
    """Where spans of times begin, but for the first (spans - 1,)."""
    return np.asarray(ends[0] + (ends[1] - ends[0]) * (np.arange(1, spans) / spans) ** 2)


@lru_cache(16)
def _hazards(count: int, spans: Spans) -> Floats:
    """The same of the logarithms of hazards."""
    at, (middle, spread) = 2 * np.arange(1, count) / count - 1, spans
    return np.asarray(middle + spread * at / np.sqrt(1 - at**2))


def _logarithm(score: Floats) -> Floats:
    return np.log(np.maximum(score, SMALLEST))


def counted(cells: Array) -> Floats:
    """Pairs by cells (7,): those of two spans of times whose earlier one is an event; of these, those in order, and
    those that share a span of scores; of one span of times, those of two events, those of an event and none, and of
    these those in order, were the event the first, and those that share a span of scores, too.
    """
    event, none = _laid(cells)
    later = _after(event + none)
    events, nones = event.sum(axis=1), none.sum(axis=1)
    return np.array([
        events @ later.sum(axis=1), np.sum(event * _below(later)), np.sum(event * later),
        np.sum(events * (events - 1)) / 2, events @ nones, np.sum(event * _below(none)), np.sum(event * none),
    ])  # fmt: skip


def _laid(cells: Array) -> tuple[Floats, Floats]:
    """Patients with the event, and those without, (times, scores) each."""
    grid = _BY_SIZE[cells.size]
    found = np.asarray(cells, dtype=np.float64).reshape(2, grid.times, grid.scores)
    return found[0], found[1]


def _after(cells: Floats) -> Floats:
    """How many are later, by span of scores."""
    return np.cumsum(cells[::-1], axis=0)[::-1] - cells


def _below(cells: Floats) -> Floats:
    """How many have a lower score, by span of times."""
    return np.cumsum(cells, axis=1) - cells


@dataclass(frozen=True)
class Told:
    """What the sums of hospitals say of pairs.

    Args:    apart: as `counted` has them, of patients of two hospitals; where pairs are told by patient, of all.
             own: pairs of one hospital beside these, and those in order.   events, nones: shares of the pairs that
             share a span of times that count, by `counted`.   excess: by how much a pair is more often in order than by
             cells: of pairs that share a span of scores, and of both kinds that share one of times.   more: by so many
             more are in order than follows from these, as pairs of one hospital say.
    """

    apart: Floats
    own: tuple[float, float]
    events: float
    nones: float
    excess: tuple[float, float, float]
    more: float = 0.0

    @classmethod
    def of(cls, total: Mapping[str, Array]) -> "Told":
        """From sums over hospitals."""
        certain = "exact" in total
        mine, exact = (total["by_cells"], total["exact"]) if certain else np.split(total[OWN], BOTH[:1])
        level, two, two_ordered, one, one_ordered = (float(each) for each in exact)
        apart, own = counted(total["cells"]), (0.0, 0.0)
        if certain:
            apart = np.maximum(apart - mine, 0.0)
            own = (float(mine[0]) + two + one, float(mine[1]) + level + two_ordered + one_ordered)
        events, nones = (two + 1) / (float(mine[3]) + 1), (one + 0.5) / (float(mine[4]) + 1)
        every = float(apart[0] + events * apart[3] + nones * apart[4])
        beyond = float(apart[1] + apart[2] / 2) / float(apart[0]) - 0.5 if apart[0] > 0 else 0.0  # of those apart
        guessed = one * float(mine[5] + mine[6] / 2) / max(float(mine[4]), 1.0)
        # Of pairs that share a span: those of one hospital, by how many more are in order than by cells; and all.
        unsure = (
            (float(mine[2]), level - float(mine[2]) / 2, float(apart[2])),
            (two, two_ordered - two / 2, events * float(apart[3])),
            (one, one_ordered - guessed, nones * float(apart[4])),
        )

        def excess(pairs: float, ordered: float, alike: float) -> float:
            share = alike / max(every, 1.0)
            return (ordered + beyond * FEW / share) / (pairs + FEW / share**2) if share > 1e-9 else 0.0

        first, second, third = (excess(*each) for each in unsure)
        more = sum(each[1] - each[0] * of for each, of in zip(unsure, (first, second, third), strict=True))
        return cls(apart, own, events, nones, (first, second, third), 0.0 if certain else more)

    @property
    def value(self) -> float | None:
        """The concordance; None without pairs."""
        apart, (level, two, one) = self.apart, self.excess
        pairs = self.own[0] + float(apart[0] + self.events * apart[3] + self.nones * apart[4])
        if not pairs > 0:
            return None
        ordered = self.own[1] + float(apart[1] + apart[2] * (0.5 + level) + self.events * apart[3] * (0.5 + two))
        ordered += self.nones * float(apart[5] + apart[6] / 2 + apart[4] * one) + self.more
        least, most = self.ends
        return min(max(ordered / pairs, least), most)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most that it can be, whatever the order within spans is."""
        apart, (pairs, ordered) = self.apart, (self.own[0] + self.apart[0], self.own[1] + self.apart[1])
        more, less = apart[3] + apart[5] + apart[6], apart[3] + apart[4] - apart[5]
        if not pairs + min(more, less) > 0:
            return 0.0, 1.0
        return float(ordered / (pairs + less)), float(min((ordered + apart[2] + more) / (pairs + more), 1.0))

    def error(self, cells: Array) -> float:
        """The standard error, by the infinitesimal jackknife, where all pairs are counted by cells."""
        event, none = _laid(cells)
        level, two, one = self.excess
        events, nones = event.sum(axis=1, keepdims=True), none.sum(axis=1, keepdims=True)
        later, before = _after(event + none), np.cumsum(event, axis=0) - event
        as_later = _above(before) + before * (0.5 + level)
        counts = before.sum(axis=1, keepdims=True)
        # (times, scores): pairs of a patient of a cell, and those in order, of who had the event and of who had not
        pairs = (
            later.sum(axis=1, keepdims=True) + counts + self.events * (events - 1) + self.nones * nones + 0 * event,
            counts + self.nones * events + 0 * none,
        )
        ordered = (
            _below(later) + later * (0.5 + level) + as_later + self.events * (events - 1) * (0.5 + two)
            + self.nones * (_below(none) + none / 2 + nones * one),
            as_later + self.nones * (_above(event) + event / 2 + events * one),
        )  # fmt: skip
        size = sum(float(np.sum(n * p)) for n, p in zip((event, none), pairs, strict=True))
        if not size > 0:
            return 0.0
        value = sum(float(np.sum(n * o)) for n, o in zip((event, none), ordered, strict=True)) / size
        moved = zip((event, none), pairs, ordered, strict=True)
        spread = sum(float(np.sum(n * (o - value * p) ** 2)) for n, p, o in moved)
        return math.sqrt(max(spread, 0.0)) / (size / 2)


def _above(cells: Floats) -> Floats:
    """How many have a higher score, by span of times."""
    return np.asarray(cells.sum(axis=1, keepdims=True) - np.cumsum(cells, axis=1))


def figures(total: Mapping[str, Array], n: int, confidence: float, single: bool = False) -> dict[str, Figure]:
    """The concordance of n patients; and where they are of several hospitals, that of pairs of one hospital.

    Args:    total: sums over hospitals; without cells nothing is known of pairs of two.   single: they are of one.
    """
    alone = concordance.stratified(total, n, confidence)
    if single:
        return {"concordance": alone}
    if "cells" not in total:
        return {"stratified_concordance": alone}
    told = Told.of(total)
    if float(told.apart[0] + told.apart[3] + told.apart[4]) < 0.5:
        return {"concordance": alone}
    value = told.value
    if value is None:
        return {"concordance": hidden(n, "no two patients can be compared"), "stratified_concordance": alone}
    return {
        "concordance": around(value, told.error(total["cells"]), n, confidence, 0.0, 1.0),
        "stratified_concordance": alone,
    }


def within(total: Mapping[str, Array]) -> float | None:
    """How far the concordance may be from that of the pooled patients, at most; None where nothing tells it."""
    if "cells" not in total:
        return None
    told = Told.of(total)
    value, (least, most) = told.value, told.ends
    return None if value is None else max(most - value, value - least)


def possible(part: Mapping[str, Array]) -> bool:
    """Whether one hospital's patients can have these sums. Args: part: with `n` and `events`; cells are counts."""
    event, none = _laid(part["cells"])
    had, n = float(part["events"][0]), float(part["n"][0])
    wanted, slack = counted(part["cells"]), 1e-9 * (1 + n**2)
    if BY_PATIENT in part:
        others = max(n - 1, 1)
        wanted, slack = wanted / others, 1 / concordance.PARTS
        by_cells, exact = np.split(part[BY_PATIENT], BOTH[:1])
    else:
        by_cells, exact = part["by_cells"], part["exact"]
    level, two, two_ordered, one, one_ordered = (float(each) for each in exact)
    most = (wanted[2], wanted[3], two, wanted[4], one)
    return (
        (float(event.sum()), float(none.sum())) == (had, n - had)
        and bool(np.all(np.abs(by_cells - wanted) <= slack))
        and all(-slack <= each <= end + slack for each, end in zip(
            (level, two, two_ordered, one, one_ordered), most, strict=True))
    )  # fmt: skip
