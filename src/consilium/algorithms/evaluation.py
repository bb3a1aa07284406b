"""What a hospital counts of its held-out patients: headline sums in every round, and more in the last one.

The last round judges the final model for good, so its sums have all from which calibration, thresholds and groups of
patients follow: see `worth`. They are sums over patients and histograms, and they add up over hospitals.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from consilium.algorithms import calibration, discrimination, groups, metrics
from consilium.algorithms.groups import Members
from consilium.algorithms.metrics import Floats, Sums
from consilium.core.errors import Invalid
from consilium.core.judging import EDGES
from consilium.core.study import Study
from consilium.core.tensors import Array

BINS = EDGES
"""Bins of the histograms of groups; those of all patients have `metrics.BINS`."""
GROUPS = "groups/"


def full(study: Study) -> bool:
    """Whether the last round of a study has more than the headline."""
    return study.evaluation.figures == "full" and study.contract.label.type == "binary"


def sums(study: Study, kind: str, predicted: Floats, label: Floats, members: Members) -> Sums:
    """What a hospital counts in a round of `kind`, of its held-out patients; it adds up over hospitals.

    Args:    predicted, label: (n,), see `metrics.sums`.   members: (n, groups), see `groups.members`.
    Raises:  Invalid: as `metrics.sums`.
    """
    more = kind == "EVALUATE" and full(study)
    return _sums(study.contract.label.type, predicted, label, members if more else None)


def _sums(of: str, predicted: Floats, label: Floats, members: Members | None) -> Sums:
    found = metrics.sums(of, predicted, label)
    if members is None:
        return found
    terms = _terms(predicted, label)
    found |= {name: np.sum(rows, axis=1) for name, rows in terms.items() if name not in found}
    if not members.shape[1]:
        return found
    inside = members.astype(np.float64)
    found |= {f"{GROUPS}{name}": np.ascontiguousarray((rows @ inside).T).ravel() for name, rows in terms.items()}
    place = discrimination.places(predicted, BINS)[:, None] + BINS * np.arange(members.shape[1])
    for name, outcome in (("positives", label == 1), ("negatives", label != 1)):
        chosen = place[members & outcome[:, None]]
        found[f"{GROUPS}{name}"] = np.bincount(chosen, minlength=BINS * members.shape[1]).astype(np.float64)
    return found


def _terms(score: Floats, label: Floats) -> dict[str, Floats]:
    """What is summed of each patient, (k, n) by name."""
    error, certain = (score - label) ** 2, np.clip(score, 1e-12, 1 - 1e-12)
    loss = -np.where(label == 1, np.log(certain), np.log1p(-certain))
    own = {
        "n": np.ones_like(score),
        "brier": error,
        "brier_squares": error**2,
        "logloss": loss,
        "logloss_squares": loss**2,
    }
    return {**{name: values[None] for name, values in own.items()}, **calibration.terms(score, label)}


def nothing(study: Study, kind: str) -> Sums:
    """The sums of a hospital without patients: their names, types and lengths are those of all."""
    more = kind == "EVALUATE" and full(study)
    return dict(_nothing(study.contract.label.type, len(groups.asked(study)) if more else None))


@lru_cache(maxsize=64)
def _nothing(label: str, count: int | None) -> Sums:
    return _sums(label, np.zeros(0), np.zeros(0), None if count is None else np.zeros((0, count), dtype=bool))


def check(study: Study, kind: str, given: Mapping[str, Array]) -> None:
    """Refuse sums that `sums` cannot have given; figures from what passes, and from sums of such, are numbers.

    Raises: Invalid.
    """
    like, base = nothing(study, kind), _nothing(study.contract.label.type, None)
    metrics.check(study.contract.label.type, {name: array for name, array in given.items() if name in base})
    fits = {name: (array.dtype, array.shape) for name, array in given.items()} == {
        name: (array.dtype, array.shape) for name, array in like.items()
    }
    if not fits or (len(like) > len(base) and not _possible(given, len(groups.asked(study)))):
        raise Invalid("the metrics of this contribution are not sums over patients", "update the agent")


def _possible(given: Mapping[str, Array], count: int) -> bool:
    """Whether some patients can have such sums, all of them and those of each of `count` groups."""
    everybody = float(given["n"][0])
    whole = {name: array for name, array in given.items() if not name.startswith(GROUPS)}
    return all(_of_patients(part, everybody) for part in (whole, *(part_of(given, at, count) for at in range(count))))


def _of_patients(part: Mapping[str, Array], most: float) -> bool:
    """Whether at most `most` patients have these sums: by the least and the most that one adds."""
    n, counts = float(part["n"][0]), [part[name] for name in ("n", "positives", "negatives")]
    if any(np.any(array < 0) or np.any(array != np.floor(array)) for array in counts):
        return False
    if n != float(part["positives"].sum()) + float(part["negatives"].sum()) or n > most:
        return False
    ends = {name: [end * n for end in _range(name)] for name in part if name not in ("positives", "negatives")}
    slack = 1e-6 * (1 + n)
    return all(np.all((part[name] >= low - slack) & (part[name] <= high + slack)) for name, (low, high) in ends.items())


def _range(name: str) -> tuple[float, float]:
    """The least and the most that one patient adds to a sum."""
    far = -float(np.log(calibration.LEAST_CHANCE))
    if name == "moments":
        return -1.0, 1.0
    if name.startswith("evidence"):
        return -far, far
    return 0.0, {"logloss": far, "logloss_squares": far**2}.get(name, 1.0)


def part_of(total: Mapping[str, Array], at: int, count: int) -> Sums:
    """The sums of one of `count` groups."""
    found = {}
    for name, array in total.items():
        if name.startswith(GROUPS):
            length = array.size // count
            found[name.removeprefix(GROUPS)] = array[at * length : (at + 1) * length]
    return found
