"""ComBat: shifts and scales between hospitals are taken out of numbers, but for what goes with features that are kept.

Johnson, Li and Rabinovic, Biostatistics 2007, 8:118; of images in hospitals Fortin et al., NeuroImage 2018, 167:104; by
sums over hospitals Chen et al., NeuroImage 2022, 248:118822. A number of a patient of hospital i is

    y = alpha + x beta + sigma (gamma_i + delta_i e)

with x what is kept, such as age and sex. alpha, beta and sigma are those of all hospitals' patients in one table. They
follow from sums of what differs within each hospital, which are added up once, before any training. gamma_i and delta_i
are a hospital's own: they follow from its training patients and alpha, beta, sigma, and stay there. They are shrunk
over the numbers towards what these have in common (empirical Bayes), which takes nothing of other hospitals.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consilium.algorithms import cholesky
from consilium.core.contract import Feature
from consilium.core.errors import Invalid
from consilium.core.preparing import Harmonise
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors
from consilium.core.unlearned import HARMONISED

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
SLOPES = "prepare/slopes"
"""What of a state is learned beside centre and spread: of each kept column, for each number, in spreads."""
VARIES = "prepare/varies"
"""And of each number 1, if it varies within hospitals; 0: it is left as it is."""
ROOM = 4.0
"""A product of two differences from means is at most this, for values in [-1, 1]."""
CONSTANT = 1e-9
"""A variance, in units of half the range squared, from which on a number counts as one that varies."""
NEAR, TRIES = 1e-10, 1000
"""Shrinking ends where nothing moves by a larger share."""


@dataclass(frozen=True)
class Harmony:
    """What one hospital keeps (numbers,): by how many spreads each number is shifted there, and how wide it is, in
    spreads.
    """

    shift: Floats
    scale: Floats

    def to_json(self) -> dict[str, list[float]]:
        """Plain values."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def load(cls, data: bytes) -> "Harmony":
        """The same, from a file's bytes. Raises: Invalid: they are none of a hospital."""
        try:
            told = json.loads(data)
            shift, scale = (np.array(told[name], dtype=np.float64) for name in ("shift", "scale"))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise Invalid("this is not what a hospital keeps", "give models/RUN.harmony.json of its folder") from error
        if shift.ndim != 1 or shift.shape != scale.shape or not np.all(np.isfinite(shift)) or not np.all(scale > 0):
            raise Invalid("this is not what a hospital keeps", "give models/RUN.harmony.json of its folder")
        return cls(shift, scale)


def length(study: Study) -> int:
    """Numbers of `statistics`; 0 where nothing is harmonised."""
    asked = asked_of(study)
    if asked is None:
        return 0
    numbers, kept = len(asked.numbers), _width(study, asked)
    return 1 + numbers + kept + numbers + kept * numbers + kept * (kept + 1) // 2


def statistics(study: Study, columns: Mapping[str, Floats], least: int) -> Floats:
    """Sums over a hospital's training patients: of whom each adds at most 1 to each number.

    How many they are, and sums, of numbers and of what is kept; sums of squares and products of differences from the
    hospital's own means. A hospital adds nothing where it has fewer than `least` patients, or where so few have a code
    of what is kept, or have it not.
    """
    asked = asked_of(study)
    if asked is None:
        return np.zeros(0)
    y, x = _numbers(study, asked, columns), _kept(study, asked, columns)
    if len(y) < least or any(_few(study, name, columns, least) for name in asked.keep):
        return np.zeros(length(study))
    there, beside = y - y.mean(axis=0), x - x.mean(axis=0)
    within = [
        np.sum(there * there, axis=0),
        np.ravel(beside.T @ there),
        (beside.T @ beside)[np.tril_indices(x.shape[1])],
    ]
    parts = [np.array([float(len(y))]), y.sum(axis=0), x.sum(axis=0), *(part / ROOM for part in within)]
    return np.concatenate(parts)


def parts(study: Study) -> Iterator[tuple[str, Places, Places]]:
    """Parts of these sums by name, with the places by which one sees that there is something, and all that it is.

    Where a kept feature does not vary at a hospital, as all its patients are women, sums of products with it are of the
    others alone; and so are squares of a number that does not vary. Of single codes of several it is not looked for.
    """
    asked = asked_of(study)
    if asked is None:
        return
    numbers, kept = len(asked.numbers), _width(study, asked)
    ends = np.cumsum([1, numbers, kept, numbers, kept * numbers])
    squares, products, own = ends[2] + np.arange(numbers), ends[3] + np.arange(kept * numbers), ends[4]
    row, column = np.tril_indices(kept)
    yield HARMONISED, np.arange(1), np.arange(length(study))
    for at, name in enumerate(asked.numbers):
        yield f"{HARMONISED}-{name}", squares[at : at + 1], np.append(squares[at], products[at::numbers])
    start = 0
    for name in asked.keep:
        mine = np.arange(start, start := start + _columns(_feature(study, name)))
        if not mine.size:
            continue
        within = own + np.flatnonzero(np.isin(row, mine) | np.isin(column, mine))
        beside = products.reshape(kept, numbers)[mine].ravel()
        varies = own + np.flatnonzero((row == column) & np.isin(row, mine))
        yield f"{HARMONISED}-{name}", varies, np.concatenate([ends[1] + mine, beside, within])


def learned(study: Study, total: Array) -> tuple[Floats, Floats, Tensors]:
    """Centre and spread (numbers,) of each number, in its unit, and the arrays of the state that are learned beside.

    The centre is that of a patient with 0 in each kept column, and the spread is what nothing kept explains, within
    hospitals. Everything is computed in fixed order, so that everybody gets the same bits.
    """
    asked = asked_of(study)
    assert asked is not None
    features = [_feature(study, name) for name in asked.numbers]
    sizes = (1, len(features), kept := _width(study, asked), len(features), kept * len(features))
    count, y, x, squares, cross, own = np.split(np.asarray(total, np.float64), np.cumsum(sizes))
    centre, spread = (np.array(ends) for ends in zip(*map(_usual, features), strict=True))
    slopes, varies = np.zeros((kept, len(features))), np.zeros(len(features))
    if count[0] > 0.5:
        matrix, products = ROOM * cholesky.square(own, kept), ROOM * cross.reshape(kept, len(features))
        lower, passed = cholesky.factor(matrix, np.diag(matrix) <= CONSTANT * count[0])
        for place, feature in enumerate(features):
            low, half = _range(feature)
            beta = cholesky.solve(lower, passed, products[:, place])
            explained = float(np.add.accumulate(np.append(beta * products[:, place], 0.0))[-1])
            variance = (ROOM * float(squares[place]) - explained) / float(count[0])
            known = float(np.add.accumulate(np.append(beta * x, 0.0))[-1])
            centre[place] = low + half * ((float(y[place]) - known) / float(count[0]) + 1.0)
            if variance > CONSTANT:
                spread[place], varies[place] = half * np.sqrt(variance), 1.0
            slopes[:, place] = beta * (half / spread[place])
    return centre, spread, {SLOPES: np.ravel(slopes), VARIES: varies}


def at_site(study: Study, columns: Mapping[str, Floats], state: Mapping[str, Array]) -> Harmony:
    """What a hospital keeps, by its training patients, and by the arrays of a state.

    A number that varies nowhere has no shift, and is none of those by which the others are shrunk.
    """
    asked = asked_of(study)
    assert asked is not None
    rest, _ = _standardised(study, asked, columns, state)
    found = Harmony(np.zeros(rest.shape[1]), np.ones(rest.shape[1]))
    if len(rest) < 2:
        return found
    varies = state[VARIES] > 0
    rest = rest[:, varies]
    shift, variance = rest.mean(axis=0), rest.var(axis=0, ddof=1)
    variance = np.where(variance > CONSTANT, variance, 1.0)
    if asked.empirical_bayes and rest.shape[1] > 1:
        shift, variance = _shrunk(rest, shift, variance)
    found.shift[varies], found.scale[varies] = shift, np.sqrt(variance)
    return found


def harmonised(
    study: Study, columns: Mapping[str, Floats], state: Mapping[str, Array], harmony: Harmony
) -> dict[str, Floats]:
    """Columns of a hospital's patients, of whom the numbers are as if they were of the mean hospital."""
    asked = asked_of(study)
    assert asked is not None
    rest, kept = _standardised(study, asked, columns, state)
    centre, spread = _learned(study, asked, state)
    found = centre + spread * ((rest - harmony.shift) / harmony.scale + kept)
    varies = np.flatnonzero(state[VARIES] > 0)
    return {**columns, **{asked.numbers[place]: found[:, place] for place in varies}}


def asked_of(study: Study) -> Harmonise | None:
    """What a study harmonises, if anything."""
    return None if study.prepare is None else study.prepare.harmonise


def _standardised(
    study: Study, asked: Harmonise, columns: Mapping[str, Floats], state: Mapping[str, Array]
) -> tuple[Floats, Floats]:
    """In spreads (n, numbers): what is left of numbers without what is kept; and what is kept of them."""
    centre, spread = _learned(study, asked, state)
    slopes = np.asarray(state[SLOPES]).reshape(-1, len(asked.numbers))
    kept = _kept(study, asked, columns) @ slopes
    values = np.column_stack([columns[name] for name in asked.numbers])
    return (values - centre) / spread - kept, kept


def _shrunk(rest: Floats, shift: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Shifts and variances (numbers,), shrunk by normal and inverse gamma priors with their moments over numbers."""
    n, mean, spread = len(rest), float(shift.mean()), float(shift.var(ddof=1))
    middle, wide = float(variance.mean()), float(variance.var(ddof=1))
    if not spread > 0 or not wide > 0:
        return shift, variance
    a, b = (2 * wide + middle**2) / wide, (middle * wide + middle**3) / wide
    now, among = shift, variance
    for _ in range(TRIES):
        new = (spread * n * shift + among * mean) / (spread * n + among)
        around = (0.5 * np.sum((rest - new) ** 2, axis=0) + b) / (n / 2 + a - 1)
        moved = max(float(np.max(np.abs(new - now) / np.abs(now))), float(np.max(np.abs(around - among) / among)))
        now, among = new, around
        if moved <= NEAR:
            break
    return now, among


def _learned(study: Study, asked: Harmonise, state: Mapping[str, Array]) -> tuple[Array, Array]:
    places = [[feature.id for feature in study.contract.features].index(name) for name in asked.numbers]
    return state["prepare/centre"][places], state["prepare/spread"][places]


def _numbers(study: Study, asked: Harmonise, columns: Mapping[str, Floats]) -> Floats:
    """(n, numbers), in [-1, 1] over the range."""
    return np.column_stack([_scaled(_feature(study, name), columns[name]) for name in asked.numbers])


def _kept(study: Study, asked: Harmonise, columns: Mapping[str, Floats]) -> Floats:
    """(n, columns): numbers in [-1, 1] over the range, and a column for each code but the first."""
    parts = []
    for name in asked.keep:
        feature, values = _feature(study, name), columns[name]
        if feature.type == "number":
            parts.append(_scaled(feature, values))
        else:
            parts += [(values == code).astype(np.float64) for code in range(1, len(feature.categories or {}))]
    return np.column_stack(parts) if parts else np.zeros((len(columns[asked.numbers[0]]), 0))


def _width(study: Study, asked: Harmonise) -> int:
    return sum(_columns(_feature(study, name)) for name in asked.keep)


def _columns(feature: Feature) -> int:
    """Columns of what is kept by a feature: one for each code but the first."""
    return 1 if feature.type == "number" else len(feature.categories or {}) - 1


def _few(study: Study, name: str, columns: Mapping[str, Floats], least: int) -> bool:
    """Whether few patients have one of a feature's codes, or few have it not."""
    feature = _feature(study, name)
    if feature.type == "number":
        return False
    counts = np.bincount(columns[name].astype(np.int64), minlength=len(feature.categories or {}))
    others = len(columns[name]) - counts
    return bool(np.any((counts > 0) & (counts < least)) or np.any((others > 0) & (others < least)))


def _feature(study: Study, name: str) -> Feature:
    return next(feature for feature in study.contract.features if feature.id == name)


def _scaled(feature: Feature, values: Floats) -> Floats:
    low, half = _range(feature)
    return (values - low) / half - 1.0


def _range(feature: Feature) -> tuple[float, float]:
    """The lower end of a number's range, and half of its width."""
    assert feature.range is not None
    low, high = feature.range
    return low, (high - low) / 2


def _usual(feature: Feature) -> tuple[float, float]:
    """Centre and spread where nothing is known."""
    low, high = feature.typical or feature.range or (0.0, 1.0)
    return (low + high) / 2, (high - low) / 2
