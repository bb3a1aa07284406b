"""Where a model ranks patients the wrong way round, most often because a label is so; or ranks them not at all."""

from collections.abc import Collection, Iterator, Mapping

from consilium.documents.estimate import Estimate, Figures
from consilium.documents.facts import Facts
from consilium.documents.finding import EVERYWHERE, Finding, enough, error, listed
from consilium.documents.terms import Metric, plain

COMMON = "federated"
RARE = 0.3
"""A share of patients with the outcome, or without, up to which its mirror image at one hospital is no case mix."""


def findings(
    facts: Facts, metric: Metric, drawn: Mapping[str, Estimate], limit: float, over: Mapping[str, Estimate]
) -> Iterator[Finding]:
    """Args:    drawn: figures of hospitals that may be compared, or of all together.   limit: in standard errors.
    over: of all together, if there is one.
    """
    if not metric.share:  # R² is below 0 where predictions are far off, in whichever order they put patients
        yield from _useless(metric, {**over, **drawn}, ())
        return
    chance, hidden = metric.chance or 0.0, unsaid(facts) if drawn else {}
    turned = _mirrored(facts, metric)
    below = {
        site for site, one in drawn.items() if (one.value or 0) - chance < -limit * error(one, facts.confidence, True)
    } | (turned & drawn.keys())
    secret = {
        site for site, figures in hidden.items()
        if site in turned or _below(figures.get(metric.id), chance, limit, facts.confidence)
    }  # fmt: skip
    if below or secret:
        yield _swapped(facts, metric, drawn, sorted(below), sorted(secret), turned)
    yield from _useless(metric, {**over, **drawn}, below | (over.keys() if below else frozenset()))


def _useless(metric: Metric, drawn: Mapping[str, Estimate], but: Collection[str]) -> Iterator[Finding]:
    """Where the figure may be that of a model that knows nothing. Args: but: hospitals of which more is known."""
    chance = metric.chance or 0.0
    found = [site for site, one in sorted(drawn.items()) if site not in but and (one.low or 0) <= chance]
    if not found:
        return
    gives = "guessing" if metric.share else "predicting their mean for everybody"
    yield Finding(
        "warning-no-better-than-chance", "warning",
        ("It" if EVERYWHERE in found else "At some hospitals it") + " may be no better than chance",
        f"{listed(metric, drawn, found)}: not surely above {chance:g}, which is what {gives} gives.",
    )  # fmt: skip


def unsaid(facts: Facts) -> dict[str, Figures]:
    """Figures that are not told, for what is too small elsewhere would follow, and that have enough patients."""
    return {one.name: one.unsaid for one in facts.hospitals if one.unsaid and enough(one.unsaid)}


def _below(one: Estimate | None, chance: float, limit: float, confidence: float) -> bool:
    if one is None or one.value is None or one.low is None or one.high is None:
        return False
    return one.value - chance < -limit * error(one, confidence, True)


def _mirrored(facts: Facts, metric: Metric) -> set[str]:
    """Hospitals that are below chance, and of whose patients as many have the outcome as lack it elsewhere.

    With the few patients of a class that a rare outcome has, a figure alone is seldom below chance beyond doubt.
    """
    whole = facts.everyone.get(COMMON, {}).get("prevalence")
    if metric.id != "auroc" or whole is None or whole.value is None:
        return set()
    found = set()
    for site, figures in ({one.name: one.figures.get(COMMON, {}) for one in facts.hospitals} | unsaid(facts)).items():
        here, score = figures.get("prevalence"), figures.get(metric.id)
        if here is None or here.value is None or score is None or score.value is None or not enough(figures):
            continue
        others = whole.n - here.n
        share = (whole.value * whole.n - here.value * here.n) / others if others > 0 else 0.5
        rare = max(min(share, 1 - share), min(here.value, 1 - here.value)) <= RARE
        if rare and (here.value - 0.5) * (share - 0.5) < 0 and score.value < (metric.chance or 0.0):
            found.add(site)
    return found


def _swapped(
    facts: Facts, metric: Metric, drawn: Mapping[str, Estimate], below: list[str], secret: list[str], turned: set[str]
) -> Finding:
    """Args: secret: whose figures are not told.   turned: where the share with the outcome is turned, too.

    How many have the outcome there is not told, nor elsewhere: what is withheld would follow.
    """
    wrong = "without" if metric.id == "auroc" else "in whom it comes later"
    whole = EVERYWHERE in below or (len(below) > 1 and drawn.keys() <= set(below))
    where = "at hospitals, or in the model" if whole else "at a hospital"
    look = (
        "which class the model calls 1 (of an ONNX model `positive`), and at the codes of the label in the mappings, "
        "before anything else: the one or the others may be the wrong way round"
        if whole
        else "the codes of the label in the mapping before anything else: the model may be right, and the label the "
        "wrong way round"
    )
    named = secret if facts.origin != "federation" else []
    told = [listed(metric, drawn, below)] if below else []
    if secret:
        who = plain(named) if named else f"{len(secret)} of the hospitals that are not told"
        more = "more is withheld, for figures of others would follow"
        told.append(f"{who}: {metric.word} below {metric.chance:g}; {more}")
    seen = sorted(turned & {*below, *named})
    share = f" At {plain(seen)} about as many have the outcome as lack it elsewhere." if seen else ""
    return Finding(
        "warning-swapped-classes", "warning", f"Classes may be swapped {where}",
        f"{'. '.join(told)}. Patients with the outcome get lower scores there than those {wrong}.{share} Look at "
        f"{look}. If it was trained on them, what else is warned of may come of it.",
    )  # fmt: skip
