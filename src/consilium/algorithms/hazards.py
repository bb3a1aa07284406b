"""How far apart the hazards of patients are, and what a hospital counts of times until an event.

Whether hazards are as far apart as a model says is the slope of a Cox regression on their logarithm. How often groups
of patients have events beside the others of their hospital: `peto`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.polynomial import chebyshev

from consilium.algorithms import between, concordance, peto
from consilium.algorithms.between import SMALLEST, USUAL, Ends, Grid, Spans
from consilium.algorithms.figure import Figure, around, hidden
from consilium.core import survival
from consilium.core.survival import Flags, Floats
from consilium.core.tensors import Array

NODES = 48
"""Values of the likelihood that travel."""
ENDS = (-1.0, 3.0)
"""Slopes between which it is told."""
TOGETHER = 6
"""Values are computed in so many parts: memory is that of a few numbers per patient."""
STEPS = 200
FARTHEST = 200.0
"""Log hazards lie no farther below the highest."""


def alone(
    score: Floats, label: Floats, ends: Ends | None, grid: Grid = between.ALL, spans: Spans = USUAL
) -> dict[str, Floats]:
    """What of patients of one hospital says how they compare: pairs, events (1,), the likelihood, and cells of times.

    Args:    ends: the contract's range of times; None: no cells are asked for.   spans: see `between.sums`.
    """
    had = np.array([float(np.sum(survival.events(label)))])
    cells = {} if ends is None else between.sums(score, label, ends, grid, spans)
    return {**concordance.sums(score, label), **cells, "events": had, "likelihood": likelihood(score, label)}


def sums(score: Floats, label: Floats, members: Flags, ends: Ends | None, spans: Spans = USUAL) -> dict[str, Floats]:
    """What a hospital counts of each group.

    Args:    score: hazards (n,).   label: (n,), as `core.survival` joins them.   members: (n, groups).
             ends, spans: as `alone` has them.
    Returns: `n`; what `peto.sums` gives; and of each group what `alone` gives, one after the other.
    """
    within = [alone(score[inside], label[inside], ends, between.GROUP, spans) for inside in members.T]
    names = alone(score[:0], label[:0], ends, between.GROUP)
    found = {name: np.concatenate([one[name] for one in within]) if within else np.zeros(0) for name in names}
    return {"n": np.sum(members, axis=0).astype(np.float64), **peto.sums(score, label, members), **found}


def likelihood(score: Floats, label: Floats) -> Floats:
    """The log partial likelihood (NODES,) of a hospital's patients, where log hazards are multiplied by each node, less
    that where all hazards are alike: this says how many patients are observed, and no slope hangs on it.

    Its sum over hospitals is that of a Cox regression, stratified by hospital, on the log hazard, with ties as Efron
    counts them (JASA 1977, 72:557). It is an analytic function of the slope, which the polynomial through `NODES`
    values follows to rounding.
    """
    time, had = survival.times(label), survival.events(label)
    when, deaths = np.unique(time[had], return_counts=True)
    if not when.size:
        return np.zeros(NODES)
    x = np.log(np.maximum(score, SMALLEST))
    x = np.maximum(x - np.max(x), -FARTHEST)
    latest, own = np.argsort(-time, kind="stable"), float(np.sum(x[had]))
    observed = np.searchsorted(-time[latest], -when, side="right") - 1  # the last of those observed, from the end on
    first = np.cumsum(deaths) - deaths
    gone = (np.arange(deaths.sum()) - np.repeat(first, deaths)) / np.repeat(deaths, deaths)  # of those tied, the share
    alike = float(np.sum(np.log(np.repeat(observed + 1, deaths) - gone * np.repeat(deaths, deaths))))
    events, found = x[had][np.argsort(time[had], kind="stable")], np.empty(NODES)
    for part in np.array_split(np.arange(NODES), TOGETHER):
        slopes = _nodes()[part]
        totals = np.cumsum(np.exp(np.outer(slopes, x[latest])), axis=1)[:, observed]
        tied = np.add.reduceat(np.exp(np.outer(slopes, events)), first, axis=1)
        each = np.repeat(totals, deaths, axis=1) - gone * np.repeat(tied, deaths, axis=1)
        found[part] = slopes * own - np.sum(np.log(each), axis=1) + alike
    return found


def _nodes() -> Floats:
    middle, half = (ENDS[0] + ENDS[1]) / 2, (ENDS[1] - ENDS[0]) / 2
    return np.asarray(middle + half * np.cos((np.arange(NODES) + 0.5) * np.pi / NODES))


def slope(total: Mapping[str, Array], confidence: float) -> Figure:
    """The slope of the log hazard, with Wald's interval: 1 of a model that says right how far patients are apart."""
    n = round(float(total["n"][0]))
    value = _coefficients(total["likelihood"])
    first, second = chebyshev.chebder(value), chebyshev.chebder(value, 2)
    low, high, at, curved = -1.0, 1.0, 0.0, 0.0  # on the polynomials' own scale
    if not chebyshev.chebval(low, first) > 0 > chebyshev.chebval(high, first):
        return hidden(
            n,
            f"beyond {ENDS[0]:g} to {ENDS[1]:g}: log hazards say nothing, are far too close, or part who has the event",
        )
    for _ in range(STEPS):
        rising, curved = float(chebyshev.chebval(at, first)), -float(chebyshev.chebval(at, second))
        low, high = (at, high) if rising > 0 else (low, at)
        step = rising / curved if curved > 0 else high - low
        if not low <= at + step <= high:
            step = (low + high) / 2 - at
        at += step
        if abs(step) < 1e-13:
            break
    if not curved > 1e-9:
        return hidden(n, "there is no fit")
    half = (ENDS[1] - ENDS[0]) / 2
    return around((ENDS[0] + ENDS[1]) / 2 + half * at, half * curved**-0.5, n, confidence)


def _coefficients(values: Array) -> Floats:
    """Of Chebyshev's polynomials, from values at the nodes."""
    angle = (np.arange(NODES) + 0.5) * np.pi / NODES
    found: Floats = 2 / NODES * np.cos(np.outer(np.arange(NODES), angle)) @ values
    found[0] /= 2
    return found
