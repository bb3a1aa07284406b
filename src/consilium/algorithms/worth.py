"""What the final model is worth for some patients, all or a group of them, from sums over them.

Where fewer than ten positives or ten negatives stand behind figures (of numbers and counts fewer than ten patients, of
times fewer than ten events) there are none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consilium.algorithms import (
    between,
    calibration,
    coarse,
    decisions,
    discrimination,
    edges,
    figure,
    hazards,
    peto,
    residuals,
)
from consilium.algorithms.decisions import Confusion, Counts, Row
from consilium.algorithms.figure import FEW, FEW_PATIENTS, FOLLOWS, LEAST, Figure
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import TIMED

FEW_OF = {
    "binary": FEW, "number": FEW_PATIENTS, "count": FEW_PATIENTS,
    TIMED: "too few: fewer than ten with the event",
}  # fmt: skip
LARGE = "calibration_in_the_large"
EXPECTED = "observed_to_expected"
Json = dict[str, Any]


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
    if min(cells(study, total)) < LEAST:
        return Worth(n if n >= LEAST else None, None, None, few)
    had = lacked = None
    if study.contract.label.type == TIMED:
        events = round(float(total["events"][0]))
        if not hide and not decisions.small(n - events):
            had, lacked = events, n - events
    found = figures(study, total, study.evaluation.confidence)
    if study.contract.label.type == TIMED and had is None and EXPECTED in found:
        found[EXPECTED] = figure.hidden(n, FOLLOWS)  # with its interval it tells how many had the event
    return Worth(n, had, lacked, "", found)


def figures(study: Study, total: Mapping[str, Array], confidence: float) -> dict[str, Figure]:
    """Figures of some patients whose outcomes are numbers, counts or times."""
    label = study.contract.label
    if label.type == TIMED:
        found = {
            **between.figures(total, round(float(total["n"][0])), confidence),
            "calibration_slope": hazards.slope(total, confidence),
        }
        return found | ({EXPECTED: peto.observed_to_expected(total, confidence)} if "expected" in total else {})
    off = coarse.of_powers(study)
    found = residuals.figures(label, total, confidence, off)
    if label.type == "count":
        found["deviance"] = coarse.of_mean(study, total, _mean(total, "deviance", confidence))
        found["observed_to_expected"] = residuals.observed_to_expected(label, total, confidence, off)
    return found


def cells(study: Study, of: Mapping[str, Array]) -> tuple[float, ...]:
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
