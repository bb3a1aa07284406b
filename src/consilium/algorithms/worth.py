"""What the final model is worth: for all held-out patients, for groups of them, and for hospitals, from sums of sums.

Small cells are hidden:

- ten positives and ten negatives or more stand behind a figure (of numbers and counts ten patients, of times ten
  events), and so do they behind what all that is left unsaid has together;
- counts of one to nine patients are not shown, nor what they follow from by subtraction;
- gaps between groups are counted, and those are `clear` that stand when all of them are looked at (Bonferroni).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from consilium.algorithms import (
    between,
    calibration,
    decisions,
    discrimination,
    edges,
    figure,
    groups,
    hazards,
    headline,
    peto,
    residuals,
)
from consilium.algorithms.decisions import Confusion, Counts, Row
from consilium.algorithms.evaluation import HOSPITALS, STRATA, common_of, part_of
from consilium.algorithms.figure import FEW, FEW_PATIENTS, FOLLOWS, LEAST, Figure
from consilium.algorithms.groups import Spread
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import TIMED, tells_times

FEW_HOSPITALS = "withheld: fewer than {} hospitals have ten of these patients or more"
FEW_OF = {
    "binary": FEW, "number": FEW_PATIENTS, "count": FEW_PATIENTS,
    TIMED: "too few: fewer than ten with the event",
}  # fmt: skip
LARGE = "calibration_in_the_large"
EXPECTED = "observed_to_expected"
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
HOSPITAL = "hospital"
Json = dict[str, Any]
Kinds = Mapping[str, Mapping[str, Mapping[str, Array]]]
"""Sums of groups, by what sets them apart and by name."""


@dataclass(frozen=True)
class Worth:
    """What the model is worth for some patients. `note` says why there is nothing; counts are None where hidden.

    Of times `positives` are those with the event, and `negatives` those without; numbers and counts have neither.

    Args:    figures: by name.   confusion: at the study's threshold.   curve, thresholds, cuts: of calibration, the
             table and decision curve, and the points of the ROC and precision-recall curves; of all patients alone.
    """

    n: int | None
    positives: int | None
    negatives: int | None
    note: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    confusion: Confusion | None = None
    curve: tuple[calibration.Point, ...] = ()
    thresholds: tuple[Row, ...] = ()
    cuts: tuple[discrimination.Cut, ...] = ()


@dataclass(frozen=True)
class Gap:
    """How far a group is from the others of its kind. `clear`: it stands when all gaps are looked at together."""

    feature: str
    group: str
    name: str
    figure: Figure
    clear: bool = False


def worth(
    total: Mapping[str, Array], study: Study, hide: tuple[bool, bool] = (False, False), whole: bool = False
) -> Worth:
    """What these patients' sums say.

    Args:    hide: see `decisions.confusion`; of times, what is True hides how many had the event.   whole: whether
             tables and curves are wanted, too.
    """
    if study.contract.label.type != "binary":
        return _of_numbers(total, study, any(hide))
    asked, n = study.evaluation, float(total["n"][0])
    positives, negatives = total["positives"], total["negatives"]
    sick, well = float(positives.sum()), float(negatives.sum())
    if min(sick, well) < LEAST:
        return Worth(round(n) if n >= LEAST else None, None, None, FEW)
    at, sure = asked.threshold, asked.confidence
    confusion = decisions.confusion(Counts.at(total, at), at, sure, hide)
    found = {
        "auroc": discrimination.auroc(positives, negatives, sure),
        "auprc": discrimination.auprc(positives, negatives, sure),
        "brier": _mean(total, "brier", sure),
        "logloss": _mean(total, "logloss", sure),
        "observed_to_expected": calibration.observed_to_expected(total, sure),
        **calibration.fit(total, sure),
        "calibration_error": calibration.distance(total, sure),
        "prevalence": figure.proportion(sick, n, sure),
        **confusion.figures,
    }
    if not whole:
        return Worth(round(n), round(sick), round(well), "", found, confusion)
    told = edges.common(total, at, asked.thresholds)
    return Worth(
        round(n), round(sick), round(well), "", found, confusion, calibration.curve(total, sure, told),
        decisions.table(total, asked.thresholds, told, sure), discrimination.curve(positives, negatives, told),
    )  # fmt: skip


def _of_numbers(total: Mapping[str, Array], study: Study, hide: bool) -> Worth:
    """The same of outcomes that are numbers, counts or times."""
    n, few = round(float(total["n"][0])), FEW_OF[study.contract.label.type]
    if min(_cells(study, total)) < LEAST:
        return Worth(n if n >= LEAST else None, None, None, few)
    had = lacked = None
    if study.contract.label.type == TIMED:
        events = round(float(total["events"][0]))
        if not hide and not decisions.small(n - events):
            had, lacked = events, n - events
    found = _figures(study, total, study.evaluation.confidence)
    if study.contract.label.type == TIMED and had is None and EXPECTED in found:
        found[EXPECTED] = figure.hidden(n, FOLLOWS)  # with its interval it tells how many had the event
    return Worth(n, had, lacked, "", found)


def _figures(study: Study, total: Mapping[str, Array], confidence: float) -> dict[str, Figure]:
    """Figures of some patients whose outcomes are numbers, counts or times."""
    label = study.contract.label
    if label.type == TIMED:
        found = {
            **between.figures(total, round(float(total["n"][0])), confidence),
            "calibration_slope": hazards.slope(total, confidence),
        }
        return found | ({EXPECTED: peto.observed_to_expected(total, confidence)} if "expected" in total else {})
    found = residuals.figures(label, total, confidence)
    if label.type == "count":
        found["deviance"] = _mean(total, "deviance", confidence)
        found["observed_to_expected"] = residuals.observed_to_expected(label, total, confidence)
    return found


def _cells(study: Study, of: Mapping[str, Array]) -> tuple[float, ...]:
    """Numbers of patients, each of which is ten or more where a figure is shown."""
    if study.contract.label.type == "binary":
        return float(of["positives"].sum()), float(of["negatives"].sum())
    n = float(of["n"][0])
    return (float(of["events"][0]), n) if study.contract.label.type == TIMED else (n,)


def _mean(total: Mapping[str, Array], name: str, confidence: float) -> Figure:
    """A mean over patients, with the interval that follows from its standard error."""
    n, value = float(total["n"][0]), float(total[name][0]) / float(total["n"][0])
    variance = max(float(total[f"{name}_squares"][0]) / n - value**2, 0.0)
    return figure.average(value, (variance / max(n - 1, 1)) ** 0.5, round(n), confidence)


def judged(
    study: Study,
    total: Mapping[str, Array],
    sites: Mapping[str, Mapping[str, Array]],
    withheld: str = "",
    least: int = 0,
) -> Json:
    """Everything that may be shown, as plain values; `docs/explanation/figures.md` says what stands where.

    Args:    total: sums over all hospitals.   sites: of single ones; empty where nobody has them, and `withheld` says
             why.   least: at so many hospitals a group must be, where figures of single ones are not shown; 0: at any.
    """
    binary = study.contract.label.type == "binary"
    count, kinds = len(groups.asked(study)), dict[str, dict[str, Mapping[str, Array]]]()
    for at, part in enumerate(groups.asked(study)):
        kinds.setdefault(part.feature, {})[part.name] = part_of(total, at, count)
    spread = _spread(kinds, total, least) if least else {}
    told = {feature: _apart(study, parts, total, spread.get(feature)) for feature, parts in kinds.items()}
    alone = _apart(study, sites, total)
    if sites:
        kinds[HOSPITAL], told[HOSPITAL] = dict(sites), alone
    found = _gaps(study, kinds, told, total, spread)
    sure, made = study.evaluation.confidence, sum(gap.figure.low is not None for gap in found)
    told.pop(HOSPITAL, None)
    return {
        "version": 1,
        "confidence": sure,
        "threshold": study.evaluation.threshold,
        "smallest_cell": LEAST,
        "all": told_of(_everybody(study, total, least)),
        "common": _common(study, total, sites),
        "auroc_within": discrimination.within(total["positives"], total["negatives"]) if binary else None,
        "auprc_within": discrimination.order_within(total["positives"], total["negatives"]) if binary else None,
        "concordance_within": between.within(total),
        "groups": {feature: {name: told_of(one) for name, one in parts.items()} for feature, parts in told.items()},
        "sites": {site: told_of(one) for site, one in alone.items()},
        "sites_withheld": withheld,
        "gaps": [
            {
                "feature": gap.feature,
                "group": gap.group,
                "name": gap.name,
                **figure.told(gap.figure),
                "clear": gap.clear,
            }
            for gap in found
        ],
        "comparisons": {
            "made": made,
            "by_chance": made * (1 - sure),
            "clear": sum(gap.clear for gap in found),
            "confidence_of_each": _each(sure, made),
        },
    }


def _everybody(study: Study, total: Mapping[str, Array], least: int) -> Worth:
    """What the model is worth for all; and within hospitals, where two or more, and `least`, have ten of each class."""
    found, strata = worth(total, study, whole=True), total.get(STRATA)
    if not found.figures or strata is None or strata[3] < max(least, 2):
        return found
    within = discrimination.within_hospitals(strata, round(float(total["n"][0])), study.evaluation.confidence)
    return replace(found, figures={**found.figures, "stratified_auroc": within})


def _common(study: Study, total: Mapping[str, Array], sites: Mapping[str, Mapping[str, Array]]) -> Json | None:
    """Headline figures of the common model where hospitals use another one: `all`, and `sites` by name; else None."""
    whole = common_of(total)
    return headline.figures(study, whole, {site: common_of(sums) for site, sums in sites.items()}) if whole else None


def _each(confidence: float, made: int) -> float:
    """The confidence of each of so many intervals with which all hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(made, 1)


def _spread(kinds: Kinds, total: Mapping[str, Array], least: int) -> dict[str, Spread]:
    """At how many hospitals the groups of each feature are; at none, where hospitals have not said so."""
    told = iter(total.get(HOSPITALS, np.zeros(sum(map(len, kinds.values())) + len(kinds))))
    there = {feature: {name: float(next(told)) for name in parts} for feature, parts in kinds.items()}
    found = {}
    for feature, parts in kinds.items():
        n = {name: float(part["n"][0]) for name, part in parts.items()}
        found[feature] = Spread(least, there[feature], n, (float(next(told)), float(total["n"][0]) - sum(n.values())))
    return found


def _apart(
    study: Study, parts: Mapping[str, Mapping[str, Array]], total: Mapping[str, Array], spread: Spread | None = None
) -> dict[str, Worth]:
    """What may be shown of disjoint groups, beside the whole."""

    def why(name: str) -> str:
        if min(_cells(study, parts[name])) < LEAST:
            return FEW_OF[study.contract.label.type]
        return FOLLOWS if spread is None or spread.of(name) else FEW_HOSPITALS.format(spread.least)

    cells = {name: _cells(study, part) for name, part in parts.items()}
    shown = groups.apart(cells, _cells(study, total), LEAST, spread)
    sick, well = _counted(study, parts, total)
    return {
        name: worth(part, study, (name not in sick, name not in well))
        if name in shown
        else Worth(None, None, None, why(name))
        for name, part in parts.items()
    }


def _counted(
    study: Study, parts: Mapping[str, Mapping[str, Array]], total: Mapping[str, Array]
) -> tuple[frozenset[str], frozenset[str]]:
    """Of which groups counts may be told: of patients with the outcome, and of those without; at the threshold."""
    if study.contract.label.type == TIMED:

        def had(of: Mapping[str, Array]) -> tuple[float, float]:
            return float(of["events"][0]), float(of["n"][0]) - float(of["events"][0])

        told = groups.apart({name: had(part) for name, part in parts.items()}, had(total))
        return told, told
    if study.contract.label.type != "binary":
        return frozenset(), frozenset()
    return decisions.counted(parts, total, study.evaluation.threshold)


def _gaps(
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
    strict = at(_each(sure, made))
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
    cells = zip(_counts(study, total), _counts(study, whole), strict=True)
    if any(decisions.small(round(every - inside)) for every, inside in cells):
        return frozenset(_compared_by(study))
    if label != "binary":
        return frozenset()
    of, among = vars(Counts.at(total, at)), vars(Counts.at(whole, at))
    return frozenset(AT_THRESHOLD if any(decisions.small(round(of[cell] - among[cell])) for cell in of) else ())


def _counts(study: Study, of: Mapping[str, Array]) -> tuple[float, ...]:
    """Numbers of patients, none of which is told where it is one to nine."""
    n = float(of["n"][0])
    without = n - float(of["events"][0]) if study.contract.label.type == TIMED else n
    return (*_cells(study, of), n, without)


def _told_apart(study: Study, total: Mapping[str, Array], confidence: float) -> dict[str, Figure]:
    """The figures that are compared with those of others, of some patients."""
    label, at = study.contract.label.type, study.evaluation.threshold
    if min(_cells(study, total)) < LEAST:
        return dict.fromkeys(_compared_by(study), figure.hidden(0, FEW_OF[label]))
    if label != "binary":
        found = _figures(study, total, confidence)
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


def told_of(one: Worth) -> Json:
    """Plain values of what the model is worth for some patients."""
    found: Json = {name: getattr(one, name) for name in ("n", "positives", "negatives", "note")}
    found["figures"] = figure.to_json(one.figures)
    found["confusion"] = one.confusion and _matrix(one.confusion)
    found["calibration_curve"] = [{**vars(point), "observed": figure.told(point.observed)} for point in one.curve]
    found["thresholds"] = [
        {**_matrix(row.confusion), **figure.to_json({**row.confusion.figures, "net_benefit_of_all": row.everybody})}
        for row in one.thresholds
    ]
    return {**found, "cuts": [dict(vars(cut)) for cut in one.cuts]}


def _matrix(one: Confusion) -> Json:
    return {name: getattr(one, name) for name in ("threshold", "hits", "misses", "alarms", "rejections")}
