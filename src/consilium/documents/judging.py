"""Whether scores come true, what a threshold brings, and for which groups of patients it is worth less."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from consilium.documents import curves, plots
from consilium.documents.curves import Curve
from consilium.documents.estimate import Estimate, Figures
from consilium.documents.facts import Facts
from consilium.documents.figures import COMMON, brief, cells, known, of_hospitals, shown
from consilium.documents.judged import HOSPITAL, Gap, Judged, Row, Worth
from consilium.documents.markup import Tag, name, tag
from consilium.documents.parts import figure, folded, section, table
from consilium.documents.terms import METRICS, Metric, interval, number, percent, plain

LARGE, SLOPE = "calibration_in_the_large", "calibration_slope"
BENEFIT, BENEFIT_OF_ALL = "net_benefit", "net_benefit_of_all"


def calibration(facts: Facts) -> Tag | None:
    """Whether predicted chances come true, for all and at each hospital."""
    last = facts.last
    if last is None or SLOPE not in last.everyone.figures:
        return None
    singles = [one for one in facts.hospitals if SLOPE in one.figures.get(COMMON, {})]
    chances = LARGE in last.everyone.figures
    rows = [
        (f"{one.low:.2f} to {one.high:.2f}", one.n, number(one.predicted), interval(one.observed))
        for one in last.everyone.curve
    ]
    return section(
        "calibration", "Whether its chances come true" if chances else "Whether its predictions come true",
        _calibration_plot(last.everyone, facts) if last.everyone.curve else None,
        table("calibration-curve", f"{facts.whom.capitalize()} by their scores.",
              ("score", "n", "mean score", "with the outcome"), rows, (1, 2)) if rows else None,
        _calibration_forest(facts) if singles and chances else None,
        of_hospitals("calibration-table", _ideals(last.everyone.figures), "calibration", singles,
                     last.everyone.figures),
    )  # fmt: skip


def _ideals(figures: Figures) -> str:
    """What figures of calibration are where a model is calibrated."""
    ideals = [(METRICS[name].word, METRICS[name].ideal) for name in METRICS if name in figures]
    told = plain([f"{word} is {ideal:g}" for word, ideal in ideals if ideal is not None])
    return f"Calibration; of a model that is calibrated, {told}."


def _calibration_plot(everyone: Worth, facts: Facts) -> Tag:
    bars = tuple((one.predicted, one.observed) for one in everyone.curve)
    points = tuple((x, float(one.value)) for x, one in bars if one.value is not None)
    told = "; ".join(f"of a score of {x:.2f}, {interval(one)} have the outcome" for x, one in bars)
    plot = curves.plane(
        [Curve(facts.whom, points, bars)], "mean score", "share with the outcome", "Calibration curve",
        f"{told}.", xs=(0, 1), ys=(0, 1), diagonal="as predicted",
    )  # fmt: skip
    return figure(plot, f"Calibration of {facts.which} on all {facts.whom}, in groups of about as many each.")


def _calibration_forest(facts: Facts) -> Tag | None:
    rows = [
        plots.Line(one.name, f"n = {found.n}", (found,))
        for one in facts.hospitals
        if (found := one.figures.get(COMMON, {}).get(LARGE)) is not None and found.value is not None
    ]
    if not rows:
        return None
    title = "Calibration in the large at each hospital"
    plot = plots.forest(
        rows, [facts.used], "log odds of observed against expected", title, plots.summary(rows, [facts.used]),
        (0.0, "calibrated"),
    )  # fmt: skip
    return figure(plot, f"{title}: above 0 more patients have the outcome than it expects, below 0 fewer.")


def discrimination(facts: Facts) -> Tag | None:
    """The ROC curve of all held-out patients."""
    last = facts.last
    if last is None or len(last.everyone.cuts) < 3:
        return None
    cuts = last.everyone.cuts
    points = tuple((one.false_positive_rate, one.sensitivity) for one in cuts)
    area = last.everyone.figures.get("auroc", Estimate(None))
    plot = curves.plane(
        [Curve(facts.used, points)], "1 − specificity", "sensitivity", "ROC curve",
        f"The area below it is {interval(area)}.", xs=(0, 1), ys=(0, 1), diagonal="by chance",
    )  # fmt: skip
    rows = [(f"{one.threshold:g}", number(one.sensitivity), number(1 - one.false_positive_rate)) for one in cuts]
    return section(
        "roc", "Whom it tells apart",
        figure(plot, f"ROC curve of {facts.which} on all {facts.whom}; AUROC {interval(area)}."),
        folded("All points of the curve", table("roc-table", "Points of the ROC curve.",
               ("threshold", "sensitivity", "specificity"), rows, (1, 2))),
    )  # fmt: skip


def decisions(facts: Facts) -> Tag | None:
    """What thresholds bring: the decision curve, the table, and the four counts at the plan's threshold."""
    last = facts.last
    if last is None or not last.everyone.thresholds:
        return None
    rows, metrics = last.everyone.thresholds, known([one.figures for one in last.everyone.thresholds], "threshold")
    metrics = [one for one in metrics if one.id != "accuracy"]
    body = [
        (f"{one.threshold:g}", *cells(one.figures, metrics), shown(one.figures.get(BENEFIT_OF_ALL))) for one in rows
    ]
    return section(
        "decisions", "What a threshold brings",
        _confusion(last.everyone.confusion, facts) if last.everyone.confusion is not None else None,
        _decision_plot(rows, facts),
        folded("Every threshold", table("thresholds", f"Thresholds of the plan, on all {facts.whom}.",
               ("threshold", *(one.word for one in metrics), "net benefit of flagging all"), body)),
    )  # fmt: skip


def _decision_plot(rows: Sequence[Row], facts: Facts) -> Tag | None:
    """The curve, with gaps where nothing is told: what lies between two thresholds follows from neither."""
    model = _through(rows, BENEFIT)
    if all(y is None for _, y in model):
        return None
    everybody = [(x, y) for x, y in _through(rows, BENEFIT_OF_ALL) if y is not None]
    prevalence = facts.everyone.get(COMMON, {}).get("prevalence")
    if prevalence is not None and prevalence.value is not None and everybody and everybody[0][0] > 0:
        everybody = [(0.0, prevalence.value), *everybody]  # at a threshold of 0 nobody is flagged in vain
    low = -0.1 * max(y for _, y in (*model, *everybody) if y is not None)
    told, last = _worthwhile(model, dict(everybody)), max(x for x, _ in model)
    plot = curves.plane(
        [Curve(facts.used, model, marks=True), Curve("flag everybody", _down_to(everybody, low)),
         Curve("flag nobody", ((0.0, 0.0), (last, 0.0)))],
        "threshold", "net benefit per patient", "Decision curve", told, xs=(0, 1), ys=None,
    )  # fmt: skip
    return figure(plot, f"Decision curve on all {facts.whom}, beside flagging all or none. {told}")


def _through(rows: Sequence[Row], key: str) -> tuple[tuple[float, float | None], ...]:
    return tuple((one.threshold, one.figures.get(key, Estimate(None)).value) for one in rows)


def _down_to(points: Sequence[tuple[float, float]], low: float) -> tuple[tuple[float, float], ...]:
    """A falling line as far as `low`: below it nothing is drawn."""
    shown = tuple((x, y) for x, y in points if y >= low)
    if not shown or len(shown) == len(points):
        return shown
    (x, y), (after, under) = shown[-1], points[len(shown)]
    return (*shown, (x + (after - x) * (y - low) / (y - under), low))


def _worthwhile(model: Sequence[tuple[float, float | None]], everybody: Mapping[float, float]) -> str:
    """At which thresholds it is better to act on it than to flag all or nobody, of those at which that is known."""
    known = sum(y is not None for _, y in model)
    rows = groupby(model, lambda one: one[1] is not None and one[1] > max(0.0, everybody.get(one[0], 0.0)) + 1e-9)
    places = [place for better, row in rows if better for place in _span([x for x, _ in row])]
    told = f"Above both at {plain(places)}." if places else "Nowhere above both."
    if known == len(model):
        return told
    return (
        f"It is known at {known} of the plan’s {len(model)} thresholds, which have marks; where too few patients are "
        f"on one side the line has gaps. {told}"
    )


def _span(run: Sequence[float]) -> list[str]:
    return [f"{x:g}" for x in run] if len(run) < 3 else [f"{run[0]:g} to {run[-1]:g}"]


def _confusion(one: Row, facts: Facts) -> Tag:
    hits, misses, alarms, rejections = ("fewer than 10" if count is None else str(count) for count in one.counts)
    return table(
        "confusion", f"{facts.whom.capitalize()} at threshold {one.threshold:g}.",
        ("score", "with the outcome", "without"),
        [("at or above", hits, alarms), ("below", misses, rejections)], (1, 2),
    )  # fmt: skip


def groups(facts: Facts) -> Tag | None:
    """Groups of patients beside each other, and the gaps between them."""
    last = facts.last
    if last is None or not last.groups:
        return None
    parts, metrics = list[object](), _of_groups(last)
    for at, (feature, found) in enumerate(last.groups.items()):
        parts += [tag("h3", "By ", name(feature)), _group_forest(feature, found, metrics[0], facts)]
        parts.append(_group_table(at, feature, found, metrics))
    gaps = [one for one in last.gaps if one.feature != HOSPITAL]
    parts.append(_gaps(last, gaps) if gaps else None)
    return section("groups", "For which groups of patients", parts)


WANTED = (
    ("auroc", "sensitivity", "specificity", "ppv", "observed_to_expected", LARGE, "prevalence"),
    ("concordance", "observed_to_expected", SLOPE),
    ("stratified_concordance", "observed_to_expected", SLOPE),
    ("deviance", "observed_to_expected", "mean_error", "mae", SLOPE),
    ("mae", "rmse", "r2", "mean_error", SLOPE),
)
"""What tables of groups have, by the kind of outcome, each of which has the first of its figures."""


def _of_groups(last: Judged) -> list[Metric]:
    known = (last.everyone, *(worth for parts in last.groups.values() for worth in parts.values()))
    names = next((row for row in WANTED if any(row[0] in worth.figures for worth in known)), WANTED[0])
    return [METRICS[key] for key in names]


def _group_forest(feature: str, found: Mapping[str, Worth], metric: Metric, facts: Facts) -> Tag | None:
    rows = [
        plots.Line(group, f"n = {worth.n}", (one,))
        for group, worth in found.items()
        if (one := worth.figures.get(metric.id)) is not None and one.value is not None
    ]
    if not rows:
        return None
    title, limits = f"{metric.word} by {feature}", (0, 1) if metric.share else None
    told = plots.summary(rows, [facts.used])
    plot = plots.forest(rows, [facts.used], metric.word, title, told, None, limits)
    return figure(plot, f"{title}, on all {facts.whom}.")


def _group_table(at: int, feature: str, found: Mapping[str, Worth], metrics: Sequence[Metric]) -> Tag:
    rows = [
        (group, "–" if worth.n is None else worth.n, *(cells(worth.figures, metrics) if worth.figures else
         [brief(worth.note), *[""] * (len(metrics) - 1)]))
        for group, worth in found.items()
    ]  # fmt: skip
    return table(f"groups-{at}", f"By {feature}.", ("group", "n", *(one.word for one in metrics)), rows, (1,))


def _clear(one: Gap) -> str:
    """Whether it is no chance; of what is not told nobody knows."""
    return "yes" if one.clear else "no" if one.estimate.value is not None else "not known"


def _gaps(last: Judged, gaps: Sequence[Gap]) -> list[object]:
    def word(one: Gap) -> str:
        return METRICS[one.name].word if one.name in METRICS else one.name

    rows = [(f"{one.feature} {one.group}", word(one), interval(one.estimate), _clear(one)) for one in gaps]
    told = (
        f"{last.made} differences were looked at, those between hospitals among them. A difference is clear if its "
        f"interval leaves out 0 at {percent(last.each)} each, at which all hold together."
    )
    body = table("gaps", "Each group against the others of its kind.", ("group", "figure", "difference", "clear"), rows)
    return [
        tag("h3", "Differences between groups"),
        tag("p", told),
        body if len(rows) <= 12 else folded("All of them", body),
    ]
