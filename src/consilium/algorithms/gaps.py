"""How far groups of patients, or hospitals, are from the others of their kind, from sums of sums.

Gaps are counted, and those are `clear` that stand when all of them are looked at (Bonferroni). What one to nine
patients outside of all groups are like does not follow from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from consilium.algorithms import calibration, decisions, discrimination, figure, peto
from consilium.algorithms.decisions import Counts
from consilium.algorithms.figure import FOLLOWS, LEAST, Figure
from consilium.algorithms.groups import Spread
from consilium.algorithms.worth import FEW_OF, LARGE, Worth, cells, figures
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import TIMED, tells_times

AT_THRESHOLD = ("sensitivity", "specificity", "ppv")
GAPS = {
    "binary": ("auroc", "sensitivity", "specificity", "ppv", LARGE),
    "number": ("mean_error", "mae", "calibration_slope"),
    "count": ("mean_error", "deviance", "calibration_slope"),
    TIMED: ("concordance", "calibration_slope"),
}
"""Figures that are compared between groups, by type of label; of times there is one more, see `peto.excess`."""
NEEDED = {
    "binary": ("n", "positives", "negatives", "expected", "evidence_of_positives", "evidence_expected", "moments"),
    "number": ("n", "sae", "powers"),
    "count": ("n", "sae", "powers", "deviance", "deviance_squares"),
    TIMED: (
        "n",
        "events",
        "pairs",
        "concordant",
        "squares",
        "products",
        "both",
        "cells",
        "by_cells",
        "exact",
        "of_hospitals",
        "likelihood",
    ),
}
"""Sums that these need."""
Kinds = Mapping[str, Mapping[str, Mapping[str, Array]]]
"""Sums of groups, by what sets them apart and by name."""


@dataclass(frozen=True)
class Gap:
    """How far a group is from the others of its kind. `clear`: it stands when all gaps are looked at together."""

    feature: str
    group: str
    name: str
    figure: Figure
    clear: bool = False


def all_of(
    study: Study,
    kinds: Kinds,
    told: Mapping[str, Mapping[str, Worth]],
    total: Mapping[str, Array],
    spread: Mapping[str, Spread],
) -> list[Gap]:
    """Each group that is shown against the others of its kind; of two groups, the first against the second."""
    sure, at = study.evaluation.confidence, partial(_compared, study, kinds, told, total, spread)
    found = at(sure)
    made = sum(gap.figure.low is not None for gap in found)
    strict = at(of_each(sure, made))
    return [replace(gap, clear=_beyond(other.figure)) for gap, other in zip(found, strict, strict=True)]


def _beyond(gap: Figure) -> bool:
    return gap.low is not None and gap.high is not None and not gap.low <= 0 <= gap.high


def _compared(
    study: Study,
    kinds: Kinds,
    told: Mapping[str, Mapping[str, Worth]],
    total: Mapping[str, Array],
    spread: Mapping[str, Spread],
    confidence: float,
) -> list[Gap]:
    found, needed = list[Gap](), NEEDED[study.contract.label.type]
    for feature, parts in kinds.items():
        some = [name for name, part in parts.items() if float(part["n"][0])]
        if len(some) < 2:
            continue
        whole = {key: np.sum([parts[name][key] for name in some], axis=0) for key in needed if key in parts[some[0]]}
        unsaid = _unsaid(study, whole, total)
        if feature in spread and not spread[feature].compared([name for name in some if told[feature][name].figures]):
            unsaid = frozenset(GAPS[study.contract.label.type])
        for name in some[:1] if len(some) == 2 else some:
            known = told[feature][name].figures
            if not known:
                continue
            rest = {key: array - parts[name][key] for key, array in whole.items()}
            mine, theirs = (_told_apart(study, part, confidence) for part in (parts[name], rest))
            for key, one in mine.items():
                here = known[key] if key in known and known[key].value is None else one
                gap = figure.hidden(0, FOLLOWS) if key in unsaid else figure.difference(here, theirs[key], confidence)
                found.append(Gap(feature, name, key, gap))
            if "variance" in parts[name]:  # of times: a group beside all others of its hospitals, and none at another
                hides = told[feature][name].positives is None  # how many had the event would follow, as above
                gap = figure.hidden(0, FOLLOWS) if hides else peto.excess(parts[name], confidence)
                found.append(Gap(feature, name, LARGE, gap))
    return found


def _unsaid(study: Study, whole: Mapping[str, Array], total: Mapping[str, Array]) -> frozenset[str]:
    """Gaps that are not told, for what one to nine patients outside of all groups are like follows from them.

    A gap gives the figure of the others of a kind, and the figure of all less the group's gives that of everybody else.

    Args:    whole: sums over the groups of a kind.   total: over all patients.
    """
    label, at = study.contract.label.type, study.evaluation.threshold
    counts = zip(_counts(study, total), _counts(study, whole), strict=True)
    if any(decisions.small(round(every - inside)) for every, inside in counts):
        return frozenset(_compared_by(study))
    if label != "binary":
        return frozenset()
    of, among = vars(Counts.at(total, at)), vars(Counts.at(whole, at))
    return frozenset(AT_THRESHOLD if any(decisions.small(round(of[cell] - among[cell])) for cell in of) else ())


def _counts(study: Study, of: Mapping[str, Array]) -> tuple[float, ...]:
    """Numbers of patients, none of which is told where it is one to nine."""
    n = float(of["n"][0])
    without = n - float(of["events"][0]) if study.contract.label.type == TIMED else n
    return (*cells(study, of), n, without)


def _told_apart(study: Study, total: Mapping[str, Array], confidence: float) -> dict[str, Figure]:
    """The figures that are compared with those of others, of some patients."""
    label, at = study.contract.label.type, study.evaluation.threshold
    if min(cells(study, total)) < LEAST:
        return dict.fromkeys(_compared_by(study), figure.hidden(0, FEW_OF[label]))
    if label != "binary":
        found = figures(study, total, confidence)
    else:
        found = {
            "auroc": discrimination.auroc(total["positives"], total["negatives"], confidence),
            **calibration.fit(total, confidence, [calibration.LARGE]),
        }
        found |= decisions.confusion(Counts.at(total, at), at, confidence).figures
    return {name: found[name] for name in _compared_by(study)}


def _compared_by(study: Study) -> tuple[str, ...]:
    """`GAPS` of a study; where no times are told, pairs of one hospital are known and no others."""
    names = GAPS[study.contract.label.type]
    if study.contract.label.type != TIMED or tells_times(study):
        return names
    return tuple("stratified_concordance" if name == "concordance" else name for name in names)


def of_each(confidence: float, made: int) -> float:
    """The confidence of each of so many intervals with which all hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(made, 1)
