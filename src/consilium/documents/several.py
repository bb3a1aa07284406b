"""What must be seen where there are several models, or where figures compare patients of several hospitals."""

from collections.abc import Iterator, Mapping

from consilium.documents.estimate import Estimate, Figures
from consilium.documents.facts import SHARED, Facts
from consilium.documents.finding import Finding, Level, enough
from consilium.documents.terms import Metric, interval, number

COMMON = "federated"
EVERYWHERE = "all hospitals"
APART = 0.02
"""An AUROC within hospitals that is as near to that of all is not told apart."""


def findings(facts: Facts, metric: Metric | None) -> Iterator[Finding]:
    """Of the hospitals' own models, of personal ones, and of pairs of patients of two hospitals."""
    if metric is not None:
        titles = "Some hospitals’ own models are ahead", "{} is ahead with its own model"
        yield from _ahead(facts, metric, "own", "{level}-own-model-better", titles, ("alone", "together"))
    if metric is not None and facts.personal:
        yield _personal(facts, metric)
        titles = "At some hospitals the common model is ahead", "At {} the common model is ahead of the personal one"
        words = "by the common model", "by the personal one"
        yield from _ahead(facts, metric, SHARED, "{level}-common-model-better", titles, words)
    yield from _between(facts)


def _personal(facts: Facts, metric: Metric) -> Finding:
    """Which model these figures are of, and what the other one is worth."""
    mine, common = (facts.everyone.get(model, {}).get(metric.id) for model in (COMMON, SHARED))
    told = "was not judged"
    if mine is not None and common is not None:
        told = f"has {metric.word} {interval(common)} over all hospitals, where personal ones have {interval(mine)}"
    return Finding(
        "note-personal-models", "note", "Figures are of each hospital’s personal model",
        f"Hospitals use models of their own, or parts of one, which stay there. The common model, which the run’s file "
        f"holds and which a hospital gets that took no part, {told}.",
    )  # fmt: skip


def _ahead(
    facts: Facts, metric: Metric, model: str, ident: str, titles: tuple[str, str], words: tuple[str, str]
) -> Iterator[Finding]:
    """Where another model is ahead: on the same patients, so that overlapping intervals do not settle it."""
    places = {one.name: one.figures for one in facts.hospitals if {model, COMMON} <= one.figures.keys()}
    ahead = []
    for where, figures in (places or {EVERYWHERE: facts.everyone}).items():
        other, mine = (figures.get(key, {}).get(metric.id) for key in (model, COMMON))
        if other is None or mine is None or other.value is None or mine.value is None or not _both(figures, model):
            continue
        if number(other.value) == number(mine.value):
            continue  # as they are printed, nobody is ahead
        if other.value > mine.value if metric.more_is_better else other.value < mine.value:
            ahead.append((where, other, mine))
    if ahead:
        sure = any(_beyond(other, mine, metric) for _, other, mine in ahead)
        told = "; ".join(f"{n}: {interval(o)} {words[0]}, {interval(m)} {words[1]}" for n, o, m in ahead)
        level: Level = "warning" if sure else "note"
        yield Finding(
            ident.format(level=level), level, titles[0] if len(ahead) > 1 else titles[1].format(ahead[0][0]),
            f"{metric.word} by hospital: {told}. " + ("" if sure else "The intervals overlap."),
        )  # fmt: skip


def _both(figures: Mapping[str, Figures], model: str) -> bool:
    return all(enough(figures.get(key, {})) for key in (model, COMMON))


def _beyond(other: Estimate, mine: Estimate, metric: Metric) -> bool:
    if metric.more_is_better:
        return other.low is not None and mine.high is not None and other.low > mine.high
    return other.high is not None and mine.low is not None and other.high < mine.low


def _between(facts: Facts) -> Iterator[Finding]:
    """Where it tells hospitals apart better, or worse, than patients of one hospital."""
    figures = facts.everyone.get(COMMON, {})
    every, within = (figures.get(name) for name in ("auroc", "stratified_auroc"))
    if every is None or within is None or every.value is None or within.value is None:
        return
    if abs(every.value - within.value) < APART:
        return
    more = every.value > within.value
    scores = " Their scores are of different models, too." if facts.personal else ""
    yield Finding(
        "note-between-hospitals", "note",
        "Part of its AUROC is knowing the hospital" if more else "Scores of different hospitals do not compare well",
        f"AUROC {interval(every)} compares each patient with the outcome with each without, of whichever hospital; of "
        f"two patients of one hospital it is {interval(within)}. "
        + ("At a bedside the second one counts." if more else "One threshold for all hospitals may serve none well.")
        + scores,
    )  # fmt: skip
