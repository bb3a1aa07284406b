"""Preparation in the federation: means, deviations, most frequent categories and quantiles, from sums over hospitals.

Before any training there is one round of kind PREPARE. Each hospital adds up counts, sums and histograms over its
training patients (`statistics`); everybody computes from the sums of all the same few numbers (`learned`), which stand
in the state from then on, under names that begin with `prepare/`; `encode` scales, fills in and cuts by them. Means and
variances are those of scikit-learn's SimpleImputer and StandardScaler on the pooled patients (after imputation, where
that is asked for); quantiles come from a histogram of `GRID` cells over the contract's range, and lie within one cell
of the true ones, or as far to the right as small cells are gathered.

Small counts are hidden where they arise: a hospital tells none of fewer than `hide_below` patients, whatever is added
to it elsewhere. What is below is added to its largest count or left out; sums over patients go with their counts.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from consilium.algorithms import combat
from consilium.core import state as chain
from consilium.core.contract import Feature
from consilium.core.errors import Invalid
from consilium.core.ids import Digest
from consilium.core.preparing import Prepare
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors
from consilium.core.update import Sum

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
SUMS = "prepare"
"""The segment of a round of kind PREPARE."""
GRID = 200
"""Cells of a histogram over the contract's range."""
CONSTANT = 1e-9
"""A variance, in units of half the range squared, from which on a number counts as one that varies."""


def sums(study: Study) -> Mapping[str, Sum]:
    """What is summed in a round of kind PREPARE, beside `weight`: each patient adds at most 1 to each number of it."""
    most, single = float(study.privacy.most_patients), sum(_length(study, feature) for feature in _each(study))
    return {SUMS: Sum(most, each=False, length=single + combat.length(study))}


def statistics(study: Study, columns: Mapping[str, Floats]) -> Floats:
    """Sums over a hospital's training patients, (length,), without small counts.

    Args:    columns: per feature (n,): numbers in the contract's unit, or the index of the category; NaN is missing.
    """
    asked = _asked(study)
    parts = [_of_feature(asked, feature, columns[feature.id]) for feature in study.contract.features]
    if (image := study.contract.image) is not None:
        parts += [_of_feature(asked, image.feature, values) for values in columns[image.id].T]
    return np.concatenate([np.zeros(0), *parts, combat.statistics(study, columns, asked.hide_below)])


def lacking(study: Study, segment: Array) -> tuple[str, ...]:
    """Of which parts these sums (length,) have nothing: ids of features, of which fewer than `hide_below` patients have
    a value; and what of `combat.parts` they lack.
    """
    return tuple(sorted({name for name, seen, _ in parts(study) if not np.any(segment[seen] > CONSTANT)}))


def without(study: Study, segment: Array, names: Collection[str]) -> Array:
    """Sums (..., length) with zeros where these parts are. Of none of them is anything learned then."""
    found: Array = np.array(segment)
    for name, _, places in parts(study):
        if name in names:
            found[..., places] = 0
    return found


def parts(study: Study) -> Iterator[tuple[str, Places, Places]]:
    """What of the segment a hospital may lack, as `combat.parts` has it: each feature of which anything is summed by
    itself; one of an image has several places, each by itself.
    """
    at = 0
    for feature in _each(study):
        if length := _length(study, feature):
            places = np.arange(at, at + length)
            yield feature.id, places, places
        at += length
    for name, seen, places in combat.parts(study):
        yield name, at + seen, at + places


def learned(study: Study, total: Array, patients: float) -> Tensors:
    """What follows from the sums over all hospitals, as arrays of the state.

    Per feature, in the contract's order: `prepare/centre` and `prepare/spread`, by which a number is scaled, in its
    unit; `prepare/fill`, which stands for a missing value (a number, or the index of a category). With `bins`:
    `prepare/edges`, the inner edges of each binned number, one after the other. With `rare_below`: `prepare/kept`, 1
    for each category of the contract that counts as itself. With `harmonise`: `prepare/slopes` and `prepare/varies`;
    see `combat`.

    Args:    total: (length,).   patients: the sum of the weights.
    """
    asked, at = _asked(study), 0
    scales: list[tuple[float, float, float]] = []
    edges, kept = list[float](), list[float]()
    for feature in _each(study):
        length = _length(study, feature)
        part, at = np.asarray(total[at : at + length], np.float64), at + length
        if feature.type == "category":
            counts = part if length else np.zeros(len(feature.categories or {}))
            scales.append((0.0, 1.0, float(np.argmax(counts))))
            kept += [1.0 if count >= asked.rare_below else 0.0 for count in counts]  # of none known: none, as rare ones
            continue
        moments = part[:3] if _has_moments(asked, feature) else np.zeros(3)
        scales.append(_scale(asked, feature, moments, patients))
        if feature.id in asked.bins:
            edges += _quantiles(feature, part[-GRID:], asked.bins[feature.id])
    columns = zip(*scales, strict=True)
    found = {
        f"prepare/{name}": np.array(values) for name, values in zip(("centre", "spread", "fill"), columns, strict=True)
    }
    if asked.harmonise is not None:
        places = [[one.id for one in study.contract.features].index(name) for name in asked.harmonise.numbers]
        found["prepare/centre"][places], found["prepare/spread"][places], more = combat.learned(study, total[at:])
        found |= more
    found |= {"prepare/edges": np.array(edges)} if edges else {}
    return found | ({"prepare/kept": np.array(kept)} if asked.rare_below and kept else {})


def advance(
    study: Study,
    strategy: chain.Advances,
    before: chain.Source | chain.Vectors,
    parent: Digest,
    aggregate: chain.Source | chain.Vectors,
    run: str,
    number: int,
    out: IO[bytes],
) -> tuple[Digest, int]:
    """Write the state that follows `before` in round `number` of a study: of preparation, or of training.

    Raises: Invalid: the sums do not fit.
    """
    if number > study.prepares:
        return chain.advance(strategy, before, parent, aggregate, run, number, out)
    given = (aggregate if isinstance(aggregate, chain.Vectors) else chain.read(aggregate)).arrays
    total, weight = given.get(SUMS), given.get("weight")
    if total is None or weight is None or total.size != sums(study)[SUMS].length or not float(weight[0]) > 0:
        raise Invalid("the sums are not those of a round of preparation", "check that every site runs one release")
    found = learned(study, total, float(weight[0]))
    return chain.extend(before, found, {"run": run, "round": str(number), "parent": parent}, out)


def check(segment: Array, weight: float) -> None:
    """Refuse sums of one hospital to which a patient would have added more than 1. Raises: Invalid."""
    if segment.size and not float(np.max(np.abs(segment))) <= weight * (1 + 1e-9):
        raise Invalid("the contribution's sums are more than its patients can add up to", "update the agent")


def _asked(study: Study) -> Prepare:
    return study.prepare or Prepare.model_validate({})


def _each(study: Study) -> list[Feature]:
    """The features, and for each value of an image what it is."""
    image = study.contract.image
    return [*study.contract.features, *([] if image is None else [image.feature] * image.size)]


def _imputes(asked: Prepare, feature: Feature) -> bool:
    return asked.missing == "impute" and feature.missing == "allowed"


def _has_moments(asked: Prepare, feature: Feature) -> bool:
    scaled = asked.numbers == "standardise" and feature.id not in asked.bins
    return feature.type == "number" and (scaled or _imputes(asked, feature))


def _length(study: Study, feature: Feature) -> int:
    """How many numbers of the segment are of a feature: nothing is summed that is not asked for."""
    asked = _asked(study)
    if feature.type == "category":
        return len(feature.categories or {}) if asked.rare_below or _imputes(asked, feature) else 0
    return (3 if _has_moments(asked, feature) else 0) + (GRID if feature.id in asked.bins else 0)


def _of_feature(asked: Prepare, feature: Feature, values: Floats) -> Floats:
    """A feature's part of the segment: count, sum and sum of squares, in [-1, 1] over the range; counts of cells."""
    there, least = values[~np.isnan(values)], asked.hide_below
    hidden = (
        values.size - there.size if values.size - there.size < least else 0
    )  # missing, and told as if they were not
    few = there.size < least
    if feature.type == "category":
        if not asked.rare_below and not _imputes(asked, feature):
            return np.zeros(0)
        counts = np.bincount(there.astype(np.int64), minlength=len(feature.categories or {})).astype(np.float64)
        return np.zeros_like(counts) if few else _joined(counts, hidden, least)
    parts = []
    low, half = _range(feature)
    if _has_moments(asked, feature):
        scaled = (there - low) / half - 1.0
        # Who is hidden counts as one of those who are there, at equal distances in their order. All of them together in
        # their place multiply sums by a fraction, whose denominator tells how many there are, and that some are hidden.
        places = (2 * np.arange(hidden) + 1) * scaled.size // max(2 * hidden, 1)
        scaled = np.append(scaled, np.sort(scaled)[places[: scaled.size]])
        sums_ = np.array([float(scaled.size), float(np.sum(scaled)), float(np.sum(scaled * scaled))])
        parts.append(np.zeros(3) if few else sums_)
    if feature.id in asked.bins:
        cells = np.clip(((there - low) / (2 * half) * GRID).astype(np.int64), 0, GRID - 1)
        counts = np.bincount(cells, minlength=GRID).astype(np.float64)
        parts.append(np.zeros(GRID) if few else _gathered(counts, hidden, least))
    return np.concatenate([np.zeros(0), *parts])


def _joined(counts: Floats, more: int, least: int) -> Floats:
    """Counts of which the small ones, and `more`, are added to the largest."""
    small = (counts > 0) & (counts < least)
    largest = int(np.argmax(counts))
    small[largest] = False
    found = np.where(small, 0.0, counts)
    found[largest] += float(np.sum(counts[small])) + more
    return found


def _gathered(counts: Floats, more: int, least: int) -> Floats:
    """Counts of neighbouring cells of which the small ones are gathered, from the left, where enough are together."""
    found, held = np.zeros_like(counts), 0.0
    last = 0
    for at in np.flatnonzero(counts):
        held += float(counts[at])
        if held >= least:
            found[at], held, last = held, 0.0, int(at)
    found[last] += held
    found[int(np.argmax(found))] += more
    return found


def _range(feature: Feature) -> tuple[float, float]:
    """The lower end of a number's range, and half of its width."""
    assert feature.range is not None
    low, high = feature.range
    return low, (high - low) / 2


def _scale(asked: Prepare, feature: Feature, moments: Array, patients: float) -> tuple[float, float, float]:
    """Centre, spread and fill of a number."""
    assert feature.range is not None
    low, half = _range(feature)
    bottom, top = feature.typical or feature.range
    centre, spread = (bottom + top) / 2, (top - bottom) / 2
    count, total, squares = (float(value) for value in moments)
    if count < 0.5:
        return centre, spread, centre
    mean = total / count
    middle = low + half * (mean + 1.0)
    if asked.numbers == "by_range" or feature.id in asked.bins:
        return centre, spread, middle
    all_ = patients if _imputes(asked, feature) else count  # a value that is filled in lies at the mean
    variance = (squares - total * mean) / max(all_, count)
    return middle, half * float(np.sqrt(variance)) if variance > CONSTANT else spread, middle


def _quantiles(feature: Feature, counts: Array, bins: int) -> list[float]:
    """Inner edges of so many bins, by interpolation within the cells of a histogram."""
    low, half = _range(feature)
    upto, total = np.cumsum(counts), float(np.sum(counts))
    if total < 0.5:
        return [low + 2 * half * one / bins for one in range(1, bins)]
    found = []
    for one in range(1, bins):
        wanted = total * one / bins
        cell = int(np.searchsorted(upto, wanted))
        before = float(upto[cell - 1]) if cell else 0.0
        within = (wanted - before) / float(counts[cell]) if counts[cell] > 0 else 0.0
        found.append(low + 2 * half * (cell + within) / GRID)
    return found


def described(study: Study, arrays: Mapping[str, Any]) -> dict[str, list[float]]:
    """What a state holds of preparation, as plain values: name without `prepare/`, values."""
    named = {
        name.removeprefix(chain.CARRIED): array for name, array in arrays.items() if name.startswith(chain.CARRIED)
    }
    return {name: [float(value) for value in array] for name, array in sorted(named.items())}
