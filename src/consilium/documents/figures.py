"""What the model is worth: per hospital, beside what each could have had alone, and over the rounds."""

from collections.abc import Mapping, Sequence

from consilium.documents import plots
from consilium.documents.estimate import Estimate, Figures, Json
from consilium.documents.facts import FEW, SHARED, WITHOUT, Facts, Hospital
from consilium.documents.finding import enough
from consilium.documents.findings import leading
from consilium.documents.markup import Tag, prose, tag
from consilium.documents.parts import figure, folded, section, table
from consilium.documents.terms import METRICS, Metric, fine, interval, number, percent, plain, ratio, shrunk

COMMON = "federated"
"""Among the models of a report, the one that hospitals use: the common one, unless they have personal ones."""


def known(groups: Sequence[Figures], table: str) -> list[Metric]:
    """The metrics of a table that any of these have, in its order."""
    return [m for name, m in METRICS.items() if m.table == table and any(name in one for one in groups)]


def cells(figures: Figures, metrics: Sequence[Metric]) -> list[object]:
    """A row of figures."""
    return [shown(figures.get(metric.id)) for metric in metrics]


def brief(note: str) -> Tag:
    """Why there is no figure, in the word that `How to read the figures` explains."""
    return tag("span", note.partition(":")[0] or "not known", class_="quiet small")


def shown(one: Estimate | None) -> object:
    """One figure in a table, with its interval below it, and what is to be known of it."""
    if one is None:
        return tag("span", "–", class_="quiet")
    if one.value is None:
        ends = f"({number(one.low)} to {number(one.high)})" if one.low is not None and one.high is not None else None
        return [brief(one.note), tag("small", ends) if ends else None]
    value, _, ends = interval(one).partition(" (")
    note = tag("span", f" {one.note}", class_="quiet small") if one.note else None
    return [value, tag("small", f" ({ends}") if ends else None, note]


def count(figures: Figures) -> int | str:
    """How many patients stand behind figures."""
    return max((one.n for one in figures.values()), default=0) or ""


def _patients(one: Hospital) -> int | str:
    """How many patients its models are judged on: those of the common one, and where that is not told, of others."""
    return count(one.figures[COMMON] if COMMON in one.figures else next(iter(one.figures.values()), {}))


def _drawn(one: Hospital, model: str, metric: Metric) -> Estimate | None:
    figures = one.figures.get(model, {})
    found = figures.get(metric.id)
    return found if found is not None and found.value is not None and enough(figures) else None


def by_hospital(facts: Facts) -> Tag:
    """The model that is used, at each hospital."""
    metric, everyone = leading(facts), facts.everyone.get(COMMON, {})
    singles = [one for one in facts.hospitals if one.figures.get(COMMON)]
    told = f"On {facts.whom}. Figures of single hospitals come from {facts.judged_by}."
    if any(one.told for one in singles):
        told += (
            " Patients of those that tell theirs are counted in tens of each class, rounded down, and intervals follow "
            "from what is told."
        )
    if not singles:
        told = f"On all {facts.whom} together. Figures of single hospitals are withheld."
    if facts.crossed and facts.about is not None:
        folds = facts.about.evaluation.folds
        told += (
            f" Cross-validation: each patient is judged by one of {folds} models, one that was trained without this "
            f"patient and others, one in {folds}; the model of the study is that of all. Intervals are as if one model "
            "had judged all: they do not tell how models of other folds would differ."
        )
    threshold = 0.5 if facts.about is None else facts.about.evaluation.threshold
    threshold = threshold if facts.last is None else facts.last.threshold
    return section(
        "worth", "What the model is worth at each hospital",
        _forest(facts, metric, singles) if metric is not None and singles else None,
        of_hospitals("figures", told, "worth", singles, everyone),
        of_hospitals("at-threshold", f"At a threshold of {threshold:g}, by the plan.", "threshold", singles,
                     everyone),
    )  # fmt: skip


def of_hospitals(ident: str, caption: str, which: str, singles: Sequence[Hospital], everyone: Figures) -> object:
    """A table of figures of the model that is used, one row per hospital, and what they mean; None without figures."""
    metrics = known([everyone, *(one.figures[COMMON] for one in singles)], which)
    if not metrics:
        return None
    body = [(one.name, count(one.figures[COMMON]), *cells(one.figures[COMMON], metrics)) for one in singles]
    last = ("all hospitals", count(everyone), *cells(everyone, metrics))
    columns = ("hospital", "n", *(one.word for one in metrics))
    meanings = "; ".join(f"{one.word}: {one.meaning}" for one in metrics)
    return [table(ident, caption, columns, body, (1,), last), tag("p", f"{meanings}.", class_="quiet small")]


def _forest(facts: Facts, metric: Metric, singles: Sequence[Hospital]) -> Tag | None:
    drawn = sorted((one for one in singles if _drawn(one, COMMON, metric)), key=lambda one: _order(one, metric))
    if not drawn:
        return None
    rows = [plots.Line(one.name, f"n = {count(one.figures[COMMON])}", (_drawn(one, COMMON, metric),)) for one in drawn]
    over = facts.everyone.get(COMMON, {}).get(metric.id)
    reference = (over.value, f"all: {number(over.value)}") if over and over.value is not None else None
    title = f"{metric.word} of {facts.which if facts.personal else 'the common model at each hospital'}"
    plot = plots.forest(
        rows, [facts.used], f"{metric.word} (interval at {percent(facts.confidence)})", title,
        plots.summary(rows, [facts.used]), reference, (0, 1) if metric.share else None,
    )  # fmt: skip
    left = len(singles) - len(drawn)
    words = f" {left} with fewer than {FEW} patients of a class, or withheld, are not drawn." if left else ""
    return figure(plot, f"{title}, best first; the dashed line is that of all {facts.whom} together.{words}")


def _order(one: Hospital, metric: Metric) -> tuple[bool, float, str]:
    """Best first; those that are not drawn at the end."""
    figure = _drawn(one, "federated", metric)
    if figure is None or figure.value is None:
        return True, 0.0, one.name
    return False, -figure.value if metric.more_is_better else figure.value, one.name


BESIDE = "Beside what each hospital could have had alone"
AT_WHICH = "At hospitals that did not train it"
PERSONAL = "Personal beside common"
TRAINED = {
    SHARED: "The personal model is the one that a hospital uses: it is trained there, or parts of it are, and stays. "
    "The common one is what the run’s file of a model holds, and what a hospital gets that did not take part.",
    "own": "A hospital’s own model was trained on its own training patients alone.",
    "pooled": "The pooled one was trained on everybody’s, outside of the federation, from records that lay together.",
    "ensemble": "The ensemble is the mean of what all hospitals’ own models predict, each by its training patients.",
    WITHOUT: "Leave one hospital out: for each hospital the study was run anew without it, so that a model is judged "
    "where nobody trained it.",
}


def compared(facts: Facts) -> Tag | None:
    """Beside each hospital's own model and the pooled one, where they are known."""
    metric, models = leading(facts), list(facts.models)
    singles = [one for one in facts.hospitals if one.figures.keys() - {COMMON}]
    if metric is None or not (singles or SHARED in facts.everyone):
        return None
    body = [(one.name, _patients(one), *_beside(one.figures, models, metric)) for one in singles]
    everyone = _beside(facts.everyone, models, metric)
    trained = [TRAINED[model] for model in models if model in TRAINED]
    told = f"All models are judged on the same {facts.whom} of a hospital. {' '.join(trained)}"
    columns = ("hospital", "n", *facts.models.values())
    return section(
        "compared", BESIDE if {"own", "pooled"} & {*models} else PERSONAL if SHARED in models else AT_WHICH,
        tag("p", told), _side_by_side(facts, metric, singles),
        table("baselines", f"{metric.word} by model.", columns, body, (1,),
              ("all hospitals", count(facts.everyone.get(COMMON, {})), *everyone)),
    )  # fmt: skip


def _beside(figures: Mapping[str, Figures], models: Sequence[str], metric: Metric) -> list[object]:
    return [shown(figures[key].get(metric.id)) if key in figures else "" for key in models]


def _side_by_side(facts: Facts, metric: Metric, singles: Sequence[Hospital]) -> Tag | None:
    drawn = list(facts.models.items())[: len(plots.SERIES)]
    models, headings = [key for key, _ in drawn], [heading for _, heading in drawn]
    rows = [
        plots.Line(one.name, f"n = {_patients(one)}", marks)
        for one in singles
        if any(marks := tuple(_drawn(one, key, metric) for key in models))
    ]
    if not rows:
        return None
    title = f"{metric.word} of {plain(headings)} at each hospital"
    plot = plots.forest(
        rows, headings, f"{metric.word} (interval at {percent(facts.confidence)})", title,
        plots.summary(rows, headings),
        None, (0, 1) if metric.share else None,
    )  # fmt: skip
    more = " The others stand in the table." if len(facts.models) > len(drawn) else ""
    return figure(plot, f"{title}. A hospital with fewer than {FEW} patients of a class is not drawn.{more}")


def _told_again(facts: Facts) -> Metric | None:
    """The first by which hospitals may be compared and that several rounds tell: some are of the last one alone."""
    rounds = [one.figures for one in facts.rounds]
    return next((m for name, m in METRICS.items() if m.leads and sum(name in one for one in rounds) > 1), None)


OTHERS = (
    "Figures after {} rounds of training are not told: the round{} over other hospitals than the last one. Of two sums "
    "over different hospitals the difference is of those that are in one of them alone: how many patients "
    "they hold out, and what is counted of them. The coordinator has both sums, and can subtract."
)


NONE = "After {} rounds of training there are no figures, {}."


def _without(facts: Facts, before: int) -> Tag | None:
    """Why rounds have no figures, or why these are not told; the number of each is `before` that of its training."""
    by = dict[str, list[str]]()
    for one in facts.rounds:
        if one.withheld:
            by.setdefault(one.withheld, []).append(str(one.number - before))
    told = [
        OTHERS.format(plain(rounds), "s were" if len(rounds) > 1 else " was")
        if "over other hospitals" in why
        else NONE.format(plain(rounds), why)
        for why, rounds in by.items()
    ]
    return tag("p", " ".join(told)) if told else None


def over_rounds(facts: Facts) -> Tag | None:
    """How the model came about."""
    metric = _told_again(facts)
    told = [one for one in facts.rounds if metric is not None and metric.id in one.figures]
    before = 1 + any(one.kind == "PREPARE" for one in facts.rounds)
    points = [(float(one.number - before), one.figures[metric.id]) for one in told] if metric else []
    words = _without(facts, before)
    if metric is None or sum(one.value is not None for _, one in points) < 2:
        return section("rounds", "How it came about", words) if words else None
    first, last = points[0][1], points[-1][1]
    plot = plots.course(
        points, "rounds of training before", metric.word, f"{metric.word} over the rounds",
        f"From {interval(first)} before training to {interval(last)} at the end.", (0, 1) if metric.share else None,
    )  # fmt: skip
    metrics = known([one.figures for one in told], "worth")
    rows = [(str(one.number - before), one.count, count(one.figures), *cells(one.figures, metrics)) for one in told]
    columns = ("rounds before", "hospitals", "n", *(one.word for one in metrics))
    return section(
        "rounds", "How it came about",
        figure(plot, f"{metric.word} on all held-out patients after so many rounds; the band is its interval."),
        folded("Figures of every round",
               table("rounds-table", "Figures on all held-out patients.", columns, rows, (1, 2))),
        words,
    )  # fmt: skip


def coefficients(facts: Facts) -> Tag | None:
    """The table of an exact regression."""
    fit = facts.regression
    if fit is None:
        return None
    named = str(fit.get("ratio") or "")
    rows = [_term(term, named) for term in fit["terms"]]
    told = f"{str(fit['kind']).capitalize()} regression of {fit['patients']} patients, exact: as if in one table"
    told += f", {fit['baseline']}." if fit.get("baseline") else "."
    tried, sure = fit.get("path") or (), percent(float(fit.get("confidence") or facts.confidence))
    told += shrunk(float(fit.get("l1") or 0), float(fit.get("l2") or 0), len(tried))
    return section(
        "coefficients", "Coefficients",
        table("coefficients-table", told,
              ("term", f"{named or 'coefficient'} ({sure} interval)", "p", "coefficient", "standard error"),
              rows, (3, 4)),
        table("path-table",
              f"Penalties, by the loss on {fit.get('judged')} validation patients, who are none of the held-out ones.",
              ("L1", "L2", "loss", "coefficients that are not 0", "note"), [_tried(one) for one in tried], (2, 3))
        if tried else None,
        tag("p", prose(str(fit["problem"]))) if fit.get("problem") else None,
    )  # fmt: skip


def _tried(one: Json) -> tuple[object, ...]:
    """A row: a penalty, what it came to, and whether it is the one."""
    rest = "" if one.get("converged") else "did not come to rest"
    said = ", ".join(filter(None, ("chosen" if one.get("chosen") else "", rest)))
    return f"{one['l1']:g}", f"{one['l2']:g}", fine(one.get("loss")), int(one["coefficients"]), said


def _term(term: Json, named: str) -> tuple[object, ...]:
    """A row: the ratio, or the coefficient where that has no ratio of a name; p; the coefficient and its error."""
    first = (term.get("ratio") or {}) if named else {**term, "value": term.get("estimate")}
    shown, p = Estimate.of({**first, "note": term.get("note") or "–"}), term.get("p")
    return (
        str(term["words"]), interval(shown, ratio if named else fine),
        "" if p is None else "below 0.001" if p < 0.001 else f"{p:.3f}",
        fine(term.get("estimate")), fine(term.get("error")),
    )  # fmt: skip
