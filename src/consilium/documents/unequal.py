"""Groups of patients for which a model is worth less, and what is a difference that matters."""

from collections.abc import Iterator, Sequence

from consilium.documents.estimate import Figures
from consilium.documents.finding import Finding
from consilium.documents.judged import HOSPITAL, Gap, Judged
from consilium.documents.terms import METRICS, interval, percent, plain

OFF = 0.2
"""Calibration in the large, or a slope, off by less than this is not warned of, however sure: it changes little."""
APART = 0.05
"""Nor is a gap between groups by less than this share."""
TYPICAL = {"mean_error": "rmse", "mae": "mae", "deviance": "deviance"}
"""A figure in the label's unit is off, or apart, by much where it is so by `OFF` times this one."""
CALIBRATION = ("calibration_in_the_large", "calibration_slope", "mean_error")


def much(name: str, figures: Figures) -> float | None:
    """By how much a figure must be off, or apart, to be warned of; None where that is not known."""
    if name in TYPICAL:
        usual = figures.get(TYPICAL[name])
        return None if usual is None or usual.value is None else OFF * abs(usual.value)
    return OFF if name in CALIBRATION else APART


def findings(last: Judged, confidence: float) -> Iterator[Finding]:
    """Groups for which it is worth less; and those that one threshold treats otherwise, as it does of any model.

    Where fewer of a group have the outcome, one threshold has less sensitivity and more specificity there even if each
    predicted risk is right: Chouldechova 2017 (Big Data 5:153), Kleinberg et al. 2016 (arXiv 1609.05807). That the
    model itself is worse there, its discrimination or calibration says.
    """
    found = [
        (abs(one.estimate.value) / least, one) for one in last.gaps
        if one.clear and one.feature != HOSPITAL and one.estimate.value is not None
        and (least := much(one.name, last.everyone.figures)) and abs(one.estimate.value) > least
    ]  # fmt: skip
    ranked = [one for _, one in sorted(found, key=lambda pair: -pair[0])]
    worse = [one for one in ranked if not _at_threshold(one)]
    other = [one for one in ranked if _at_threshold(one)]
    sure = (
        f"Intervals are at {percent(confidence)} each; these differences are clear also at the {percent(last.each)} of "
        f"each at which all {last.made} that were looked at hold together."
    )
    if worse:
        yield Finding(
            "warning-unfair-groups", "warning",
            f"It does not serve all groups of patients alike: {plain(sorted({one.feature for one in worse}))}",
            f"Against others, {_listed(worse)}. {sure}",
        )  # fmt: skip
    if other:
        yield Finding(
            "note-groups-at-threshold", "note",
            f"At one threshold groups of patients differ: {plain(sorted({one.feature for one in other}))}",
            f"At {last.threshold:g}, against others, {_listed(other)}. {sure} Any model does that where more patients "
            "of one group have the outcome than of another, even if each risk is right: whether the model is worse for "
            "a group, its AUROC and calibration say. Whether one threshold is right for all is for who uses it.",
        )  # fmt: skip


def _at_threshold(one: Gap) -> bool:
    return one.name in METRICS and METRICS[one.name].table == "threshold"


def _listed(gaps: Sequence[Gap]) -> str:
    told = [
        f"{one.feature} {one.group}: {METRICS[one.name].word if one.name in METRICS else one.name} differs by "
        f"{interval(one.estimate)}"
        for one in gaps
    ]
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")
