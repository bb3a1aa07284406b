"""What a hospital counts of its held-out patients: headline sums in every round, and more in the last one.

The last round judges the final model for good, so its sums have all from which calibration, thresholds and groups of
patients follow: see `worth`. They are sums over patients and histograms, and they add up over hospitals.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from consilium.algorithms import (
    between,
    calibration,
    concordance,
    discrimination,
    groups,
    hazards,
    metrics,
    peto,
    residuals,
)
from consilium.algorithms.between import USUAL, Spans
from consilium.algorithms.figure import LEAST
from consilium.algorithms.groups import Members
from consilium.algorithms.metrics import Floats, Sums
from consilium.core.contract import Label
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import TIMED, tells_times

BINS = metrics.BINS
"""Bins of the histograms of groups: as fine as those of all patients, and no finer. With a fifth of them the AUROC of a
quarter of groups of a hundred patients was off by more than 0.001."""
GROUPS = "groups/"
STRATA = "strata"
"""What a hospital counts of pairs of its own patients, where single hospitals' sums are seen: see `with_strata`."""
COMMON = "common/"
"""Before headline sums of the common model, where hospitals use another one."""
HOSPITALS = "hospitals"
"""How many hospitals have ten patients or more of each group; behind these, of who is in no group of a feature."""
MOST = 1e12
"""A patient's deviance is squared as if it were no larger."""
LEAST_LIKELY = 1000.0
"""No event is less likely than by so much, on the logarithm's scale."""
MOVES = 1e4
"""So much of what a patient moves may be, squared: see `peto.MOST`."""
Bound = float | Floats


def full(study: Study) -> bool:
    """Whether the last round of a study has more than the headline."""
    return study.evaluation.figures == "full"


def both(study: Study, kind: str) -> bool:
    """Whether in a round of `kind` the common model is judged, too, beside the one that each hospital uses."""
    return kind == "EVALUATE" and study.personal and study.privacy.epsilon is None


def sums(
    study: Study, kind: str, predicted: Floats, label: Floats, members: Members, common: Floats | None = None,
    spans: Spans = USUAL,
) -> Sums:  # fmt: skip
    """What a hospital counts in a round of `kind`, of its held-out patients; it adds up over hospitals.

    Args:    predicted, label: (n,), see `metrics.sums`.   members: (n, groups), see `groups.members`.
             common: (n,) what the common model predicts, where hospitals use another one: see `both`.   spans: of
             hazards, see `between.sums`.
    Raises:  Invalid: as `metrics.sums`.
    """
    beside = _of_common(study, common, label) if both(study, kind) else {}
    if not (kind == "EVALUATE" and full(study)):
        return _told(study, {**_sums(study.contract.label, predicted, label, None, tells_times(study)), **beside})
    counted = _sums(study.contract.label, predicted, label, members, tells_times(study), spans)
    if with_strata(study):
        beside[STRATA] = discrimination.of_one(predicted, label == 1)
    return _told(study, {**counted, **_hospitals(study, members), **beside})


def _told(study: Study, counted: Sums) -> Sums:
    """What of these sums leaves: under `secure_sum` no number of pairs of one hospital, and none that is divided by a
    number of its patients.
    """
    if study.privacy.recipe != "secure_sum" or study.contract.label.type != TIMED:
        return counted
    found = dict(counted)
    for before in ("", GROUPS, COMMON):
        for name in (*concordance.SUMS, *BESIDE):
            if before + name in found:
                parts = peto.PARTS.get(name, concordance.PARTS)
                found[before + name] = concordance.rounded(np.asarray(found[before + name]), parts)
        if f"{before}by_cells" in found:
            pairs = found.pop(f"{before}by_cells"), found.pop(f"{before}exact")
            found[before + between.BY_PATIENT] = between.by_patient(*pairs, np.asarray(found[f"{before}n"]))
    return found


def among(total: Mapping[str, Array], hospitals: int) -> Sums:
    """Sums over so many hospitals, with the pairs of one hospital that they told by patient: `between.of_hospitals`."""
    found = {name: np.asarray(array) for name, array in total.items()}
    for before in ("", GROUPS):
        if (told := found.pop(before + between.BY_PATIENT, None)) is not None:
            found[before + between.OWN] = between.of_hospitals(told, found[f"{before}n"], hospitals)
    return found


def _of_common(study: Study, predicted: Floats | None, label: Floats) -> Sums:
    if predicted is None:
        raise Invalid("the common model was not judged beside the one that is used here", "update the agent")
    return {
        f"{COMMON}{name}": array for name, array in metrics.sums(study.contract.label.type, predicted, label).items()
    }


def with_strata(study: Study) -> bool:
    """Whether pairs of patients of one hospital are summed, each hospital's by the number of its patients.

    Not under `secure_sum`: these are fractions, and of a few hospitals a sum of fractions has but one set of
    denominators; so it would tell how many patients each has, and then what each adds.
    """
    return study.contract.label.type == "binary" and study.privacy.recipe != "secure_sum"


def common_of(total: Mapping[str, Array]) -> Sums:
    """The headline sums of the common model, under their own names; empty where it is the one that is used."""
    return {name.removeprefix(COMMON): np.array(array) for name, array in total.items() if name.startswith(COMMON)}


def _hospitals(study: Study, members: Members) -> Sums:
    """Under `secure_sum`: of which groups this hospital has ten patients or more, to tell at how many they are."""
    if study.privacy.recipe != "secure_sum" or not members.shape[1]:
        return {}
    here = np.concatenate([np.sum(members, axis=0), groups.outside(study, members)])
    return {HOSPITALS: (here >= LEAST).astype(np.float64)}


def _sums(
    of: Label, predicted: Floats, label: Floats, members: Members | None, with_times: bool, spans: Spans = USUAL
) -> Sums:
    found = metrics.sums(of.type, predicted, label)
    if members is None:
        return found
    if of.type == TIMED:
        ends = of.range if with_times else None
        apart = hazards.sums(predicted, label, members, ends, spans) if members.shape[1] else {}
        whole = {**hazards.alone(predicted, label, ends, spans=spans), **found}
        return {**whole, **{f"{GROUPS}{name}": rows for name, rows in apart.items()}}
    terms = _terms(of, predicted, label)
    found |= {name: np.sum(rows, axis=1) for name, rows in terms.items() if name not in found}
    if not members.shape[1]:
        return found
    inside = members.astype(np.float64)
    found |= {f"{GROUPS}{name}": np.ascontiguousarray((rows @ inside).T).ravel() for name, rows in terms.items()}
    return found if of.type != "binary" else {**found, **_histograms(predicted, label, members)}


def _histograms(score: Floats, label: Floats, members: Members) -> Sums:
    """Of each group, how many patients of either outcome have a score in each bin."""
    place, found = discrimination.places(score, BINS)[:, None] + BINS * np.arange(members.shape[1]), {}
    for name, outcome in (("positives", label == 1), ("negatives", label != 1)):
        chosen = place[members & outcome[:, None]]
        found[f"{GROUPS}{name}"] = np.bincount(chosen, minlength=BINS * members.shape[1]).astype(np.float64)
    return found


def _terms(of: Label, predicted: Floats, label: Floats) -> dict[str, Floats]:
    """What is summed of each patient, (k, n) by name."""
    one = np.ones_like(predicted)[None]
    if of.type == "binary":
        return {"n": one, **_of_scores(predicted, label)}
    found = {"n": one, **residuals.terms(of, predicted, label)}
    if of.type == "count":
        deviance = metrics.deviance(predicted, label)
        found |= {"deviance": deviance[None], "deviance_squares": np.minimum(deviance, MOST)[None] ** 2}
    return found


def _of_scores(score: Floats, label: Floats) -> dict[str, Floats]:
    error, certain = (score - label) ** 2, np.clip(score, 1e-12, 1 - 1e-12)
    loss = -np.where(label == 1, np.log(certain), np.log1p(-certain))
    own = {"brier": error, "brier_squares": error**2, "logloss": loss, "logloss_squares": loss**2}
    return {**{name: values[None] for name, values in own.items()}, **calibration.terms(score, label)}


def nothing(study: Study, kind: str) -> Sums:
    """The sums of a hospital without patients: their names, types and lengths are those of all."""
    beside = _of_common(study, np.zeros(0), np.zeros(0)) if both(study, kind) else {}
    if not (kind == "EVALUATE" and full(study)):
        return _told(study, {**_nothing(study.contract.label, None, tells_times(study)), **beside})
    nobody = np.zeros((0, len(groups.asked(study))), dtype=bool)
    counted = _nothing(study.contract.label, nobody.shape[1], tells_times(study))
    if with_strata(study):
        beside[STRATA] = np.zeros(4)
    return _told(study, {**counted, **_hospitals(study, nobody), **beside})


@lru_cache(maxsize=64)
def _nothing(label: Label, count: int | None, with_times: bool) -> Sums:
    members = None if count is None else np.zeros((0, count), dtype=bool)
    return _sums(label, np.zeros(0), np.zeros(0), members, with_times)


def check(study: Study, kind: str, given: Mapping[str, Array]) -> None:
    """Refuse sums that `sums` cannot have given; figures from what passes, and from sums of such, are numbers.

    Raises: Invalid.
    """
    of = study.contract.label
    like, base = nothing(study, kind), _nothing(of, None, False)
    metrics.check(of.type, {name: array for name, array in given.items() if name in base})
    fits = {name: (array.dtype, array.shape) for name, array in given.items()} == {
        name: (array.dtype, array.shape) for name, array in like.items()
    }
    if not fits or (len(like) > len(base) and not _possible(of, given, len(groups.asked(study)))):
        raise Invalid("the metrics of this contribution are not sums over patients", "update the agent")
    if both(study, kind):
        _check_common(of, given)


def _check_common(of: Label, given: Mapping[str, Array]) -> None:
    """Refuse sums of the common model that are of other patients. Raises: Invalid."""
    mine = common_of(given)
    metrics.check(of.type, mine)
    sizes = [name for name in ("n", "positives", "negatives", "sy", "syy", "pairs") if name in mine]
    if any(float(mine[name].sum()) != float(given[name].sum()) for name in sizes):
        raise Invalid("the two models of this contribution were judged on other patients", "update the agent")


def _possible(of: Label, given: Mapping[str, Array], count: int) -> bool:
    """Whether some patients can have such sums, all of them and those of each of `count` groups."""
    everybody = float(given["n"][0])
    aside = (GROUPS, COMMON)
    whole = {name: array for name, array in given.items() if not name.startswith(aside) and name != HOSPITALS}
    parts = (whole, *(part_of(given, at, count) for at in range(count)))
    return all(_of_patients(of, part, everybody) for part in parts) and _of_one(given, count)


def _of_one(given: Mapping[str, Array], count: int) -> bool:
    """Whether one hospital says so of itself, by its patients of each class and of each of `count` groups."""
    if (strata := given.get(STRATA)) is not None:
        sick, well = (float(given[name].sum()) for name in ("positives", "negatives"))
        pairs, there = sick * well / max(sick + well, 1), min(sick, well) >= LEAST
        if strata[3] != there or abs(strata[0] - pairs * there) > 1e-9 * (1 + pairs) or strata[1] > strata[0] + 1e-9:
            return False
    if (here := given.get(HOSPITALS)) is None:
        return True
    enough = given[f"{GROUPS}n"] >= LEAST
    return bool(np.all(here[:count] == enough) and np.all((here == 0) | (here == 1)))


COUNTS = ("n", "positives", "negatives", "events", "cells")


def _of_patients(of: Label, part: Mapping[str, Array], most: float) -> bool:
    """Whether at most `most` patients have these sums: by the least and the most that one adds."""
    n, counts = float(part["n"][0]), [part[name] for name in COUNTS if name in part]
    if any(np.any(array < 0) or np.any(array != np.floor(array)) for array in counts) or n > most:
        return False
    if of.type == "binary" and n != float(part["positives"].sum()) + float(part["negatives"].sum()):
        return False
    if "cells" in part and not between.possible(part):
        return False
    slack = 1e-6 * (1 + n)
    for name in part.keys() - {"n", "positives", "negatives", "cells", "by_cells", "exact", between.BY_PATIENT}:
        low, high = _range(of, name)
        size = most if name in BESIDE else n
        if not np.all((part[name] >= low * size - slack) & (part[name] <= high * size + slack)):
            return False
    return True


BESIDE = tuple(peto.PARTS)
"""Of times, what hangs on patients who are not of the group."""


def _range(of: Label, name: str) -> tuple[Bound, Bound]:
    """The least and the most that one patient adds to a sum."""
    if of.type == "binary":
        far = -float(
            np.log1p(-(1 - calibration.LEAST_CHANCE))
        )  # a little more than of LEAST_CHANCE: 1 has fewer digits
        if name == "moments":
            return -1.0, 1.0
        if name.startswith("evidence"):
            return -far, far
        return 0.0, {"logloss": far, "logloss_squares": far**2}.get(name, 1.0)
    if of.type == TIMED:
        signed = {"likelihood": LEAST_LIKELY, "moved": MOVES}.get(name)
        return (0.0, 1.0) if signed is None else (-signed, signed)
    if name == "powers":
        return residuals.ends(of)
    largest = metrics.LARGEST
    return (-largest if name in ("sy", "deviance") else 0.0), MOST**2 if name == "deviance_squares" else largest


def part_of(total: Mapping[str, Array], at: int, count: int) -> Sums:
    """The sums of one of `count` groups."""
    found = {}
    for name, array in total.items():
        if name.startswith(GROUPS):
            length = array.size // count
            found[name.removeprefix(GROUPS)] = array[at * length : (at + 1) * length]
    return found
