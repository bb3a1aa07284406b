"""What a reader must see first: where a model is worth little, where figures contradict, and what is not known.

Hospitals are compared one against all others together (their mean, each weighted by its precision), by the normal
approximation and with Bonferroni's correction for as many comparisons as were made (Dunn 1961, JASA 56:52).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from consilium.core.unlearned import HARMONISED, sentences
from consilium.documents import chance, several, unequal
from consilium.documents.estimate import Estimate, Figures
from consilium.documents.facts import FEW, Facts, Hospital
from consilium.documents.finding import EVERYWHERE, Finding, Level, enough, error, listed
from consilium.documents.terms import METRICS, Metric, interval, number, plain
from consilium.documents.unequal import CALIBRATION, much

SUSPICIOUS = 0.05
"""A hospital that is better than the others by more than this, and not by chance, is one to look into."""


ALIKE = 3.0
"""Patients of one hospital are alike this many times as often as those of two, at most, without being the same."""
COMMON = "federated"
DISTANCE = "calibration_error"
OTHERS, COPIES = "other hospitals", "copies"
"""What hospitals, and their patients, are compared with: see `Findings.made`."""
Score = tuple[str, Metric, Estimate, float]
"""Where, what, how much, and by how much it may be off without a warning."""


@dataclass(frozen=True)
class Findings:
    """All of them, warnings first; and how many comparisons were made, by what was compared with what."""

    found: tuple[Finding, ...]
    made: Mapping[str, int]

    @property
    def comparisons(self) -> int:
        """How many in all."""
        return sum(self.made.values())

    @property
    def calm(self) -> str:
        """What it means that there is no warning: where hospitals were not compared, it says nothing of any of them."""
        if self.made.get(OTHERS):
            return (
                "nothing in these figures contradicts, and no hospital that is compared lies apart by more than chance."
            )
        return (
            "nothing in these figures contradicts. Hospitals were not compared with one another: whether the model is "
            "worth less at one of them is not known here."
        )

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Those that are no mere notes."""
        return tuple(one for one in self.found if one.level == "warning")


def findings(facts: Facts) -> Findings:
    """What there is to be seen in these facts."""
    metric = leading(facts)
    drawn = comparable(facts, metric) if metric else {}
    compared = len(drawn) if len(drawn) > 1 else 0
    ranks = metric is not None and metric.chance is not None
    over = _together(facts, metric) if metric is not None and ranks else {}
    ranked = (drawn or over) if ranks else {}
    scores = _calibrations(facts)
    made = {
        OTHERS: compared, "chance": len(ranked) + len(chance.unsaid(facts)), "what calibration should be": len(scores),
        COPIES: sum(one.flow.copies is not None for one in facts.hospitals),
    }  # fmt: skip
    limit = beyond_chance(facts.confidence, sum(made.values()))
    found = [
        *_of_the_run(facts),
        *(_unjudged(facts, metric) if metric and not facts.judged else ()),
        *_noised(facts),
        *_unlearned(facts),
        *(chance.findings(facts, metric, ranked, limit, over) if metric else ()),
        *(_apart(metric, drawn, facts.confidence, limit, _among(facts, drawn)) if metric and compared else ()),
        *_leaked(facts.hospitals, limit),
        *_miscalibrated(scores, facts.confidence, limit),
        *(unequal.findings(facts.last, facts.confidence) if facts.last is not None else ()),
        *several.findings(facts, metric),
        *_participation(facts),
        *_unknown(facts, drawn, metric),
    ]
    warnings = [one for one in found if one.level == "warning"]
    return Findings((*warnings, *(one for one in found if one.level == "note")), made)


def _together(facts: Facts, metric: Metric) -> dict[str, Estimate]:
    """The figure over all hospitals, where none can be looked at by itself."""
    figures = facts.everyone.get(COMMON, {})
    one = figures.get(metric.id)
    known = one is not None and None not in (one.value, one.low, one.high) and enough(figures)
    return {EVERYWHERE: one} if one is not None and known else {}


def beyond_chance(confidence: float, comparisons: int) -> float:
    """Standard errors from which on a difference is none by chance, with so many comparisons (two-sided).

    >>> round(beyond_chance(0.95, 1), 2), round(beyond_chance(0.95, 20), 2)
    (1.96, 3.02)
    """
    return NormalDist().inv_cdf(1 - (1 - confidence) / 2 / max(comparisons, 1))


def leading(facts: Facts) -> Metric | None:
    """The metric by which hospitals are compared: the first that such a label has, with an interval if any has."""
    every = [*facts.everyone.values(), *(figures for one in facts.hospitals for figures in one.figures.values())]
    known = {name for figures in every for name in figures}
    sure = {name for figures in every for name, one in figures.items() if one.low is not None}
    leads = [metric for name, metric in METRICS.items() if metric.leads and name in known]
    return next((metric for metric in leads if metric.id in sure), leads[0] if leads else None)


def comparable(facts: Facts, metric: Metric, model: str = "federated") -> dict[str, Estimate]:
    """Figures of hospitals that may be compared: with an interval, and with ten of each class or more."""
    found = {}
    for one in facts.hospitals:
        figures = one.figures.get(model, {})
        estimate = figures.get(metric.id)
        if estimate is not None and estimate.low is not None and estimate.high is not None and enough(figures):
            found[one.name] = estimate
    return found


def apart(one: Estimate, others: tuple[Estimate, ...], metric: Metric, confidence: float) -> tuple[float, float]:
    """By how much a figure differs from the others' mean, and by how many standard errors."""
    weights = [1 / max(error(other, confidence, metric.share), 1e-9) ** 2 for other in others]
    mean = sum(w * float(o.value or 0) for w, o in zip(weights, others, strict=True)) / sum(weights)
    spread = (error(one, confidence, metric.share) ** 2 + 1 / sum(weights)) ** 0.5
    difference = float(one.value or 0) - mean
    return difference, difference / max(spread, 1e-9)


def _of_the_run(facts: Facts) -> Iterator[Finding]:
    if facts.judged:
        yield Finding("warning-not-judged", "warning", "The final model was not judged", facts.judged)
    if facts.status not in ("finished",):
        text = f"The run is {facts.status}. {facts.setting.get('reason') or ''}".strip()
        yield Finding("warning-unfinished", "warning", "The run did not come to its end", text)
    if facts.about is not None and facts.about.model.untied:
        yield Finding(
            "warning-untied", "warning", "Nothing ties the model to the contract",
            "The file that was given does not say by which plan it was trained. That it takes these inputs, in this "
            "order, in these units and on these scales, and predicts this label, is the word of who gave it: figures "
            "are of the model only if that is so.",
        )  # fmt: skip
    if facts.regression is not None and (told := str(facts.regression.get("problem") or "")):
        rests = bool(facts.regression.get("converged"))
        title = "Some coefficients have few sure digits" if rests else "Coefficients of the regression are not final"
        yield Finding("note-regression" if rests else "warning-regression", "note" if rests else "warning", title, told)
    broken = [str(log.get("log")) for log in facts.audit if not log.get("intact")]
    if broken:
        text = f"The audit log of {plain(broken)} does not hold together: what it says of this run may be untrue."
        yield Finding("warning-audit", "warning", "An audit log was altered", text)


def _unjudged(facts: Facts, metric: Metric) -> Iterator[Finding]:
    """That there is no figure of what it is worth: then nothing can contradict, and no warning would mislead."""
    one = facts.everyone.get(COMMON, {}).get(metric.id)
    if one is None or one.value is None:
        why = one.note.partition(": ")[2] or one.note if one is not None else ""
        look = (
            "If all patients seem to have the outcome, or none, look at the codes of the label in each mapping"
            if metric.share
            else "If all patients seem to have one outcome, look at the column of the label in each mapping"
        )
        yield Finding(
            "warning-nothing-judged", "warning", "Nothing can be judged: whether the model is any good is not known",
            f"There is no {metric.word} over all hospitals: {why or 'it is not told'}. {look} (`consilium "
            "site check`) before anything else; else more patients have to be held out.",
        )  # fmt: skip


def _among(facts: Facts, drawn: Mapping[str, Estimate]) -> str:
    """Among which hospitals one is the worst."""
    there = sum(not one.out for one in facts.hospitals)
    return (
        f"all {there} hospitals" if len(drawn) == there else f"the {len(drawn)} of {there} hospitals that are compared"
    )


def _apart(
    metric: Metric, drawn: Mapping[str, Estimate], confidence: float, limit: float, among: str
) -> Iterator[Finding]:
    """The hospital with the least, if that is no chance; and those far above all others."""
    others = {site: tuple(one for name, one in drawn.items() if name != site) for site in drawn}
    sign = 1 if metric.more_is_better else -1
    apart_by = {site: apart(drawn[site], rest, metric, confidence) for site, rest in others.items()}
    worst = min(drawn, key=lambda site: (sign * float(drawn[site].value or 0), site))
    told = listed(metric, drawn, [worst])
    if sign * apart_by[worst][1] < -limit:
        also = [site for site, (_, z) in sorted(apart_by.items()) if site != worst and sign * z < -limit]
        more = f" Below the others are also {plain(also)}." if also else ""
        yield Finding(
            "warning-worst-hospital", "warning", f"Of {among} the model is worth less at {worst}",
            f"{told}; that is {number(abs(apart_by[worst][0]))} from the other hospitals, and not by chance.{more} "
            "An average over hospitals hides that.",
        )  # fmt: skip
    else:
        yield Finding(
            "note-worst-hospital", "note", f"Of {among} it is worth least at {worst}",
            f"{told}. No hospital lies below the others by more than chance may explain.",
        )  # fmt: skip
    # Beside a hospital where it is worth little any other one is far better: that one is told of, and is left out here.
    less = {site for site, (_, z) in apart_by.items() if sign * z < -limit}
    usual = {site: tuple(one for name, one in drawn.items() if name not in less | {site}) for site in drawn}
    above = {site: apart(drawn[site], usual[site] or others[site], metric, confidence) for site in drawn}
    better = sorted(s for s, (by, z) in above.items() if sign * z > limit and sign * by > SUSPICIOUS)
    if better and metric.share:
        yield Finding(
            "warning-too-good", "warning", "A hospital is too good to be believed unseen",
            f"{listed(metric, drawn, better)}; the others are {metric.word} {_range(drawn, set(better))}. These "
            "patients may have been among those on whom it was trained, under another key or as copies, or an input "
            "may hold the outcome. See that this is not so before it is told.",
        )  # fmt: skip


def _range(drawn: Mapping[str, Estimate], without: set[str]) -> str:
    values = sorted(float(one.value or 0) for site, one in drawn.items() if site not in without)
    ends = dict.fromkeys(number(value) for value in (values[0], values[-1])) if values else {"none": None}
    return " to ".join(ends)


def _leaked(hospitals: Sequence[Hospital], limit: float) -> Iterator[Finding]:
    """Held-out patients who equal a training patient of their hospital far more often than one of the others."""
    found, total = [], sum(one.flow.training or 0 for one in hospitals)
    for one in hospitals:
        flow = one.flow
        if not flow.copies or not flow.training:
            continue
        usual = ALIKE * (flow.elsewhere or 0) * flow.training / max(total - flow.training, 1)
        if flow.copies - usual > limit * (usual + 1) ** 0.5:
            found.append(f"{one.name}: {flow.copies} of {flow.held_out} held-out patients")
    if found:
        yield Finding(
            "warning-leak", "warning", "Held-out patients may have been trained on",
            f"{'; '.join(found)} have the very inputs and outcome of a training patient of their hospital, more than "
            "patients who are alike would explain. They may stand in its table under two keys: figures are too good.",
        )  # fmt: skip


def _calibrations(facts: Facts) -> list[Score]:
    """Figures of calibration that can be compared with what they should be, of all patients and of each hospital.

    Where log odds have no end, as of a model that says 0 or 1, it is the mean distance that tells, if not by chance.
    """
    places = [(EVERYWHERE, facts.everyone.get(COMMON, {}))]
    places += [(one.name, one.figures.get(COMMON, {})) for one in facts.hospitals]
    return [
        (where, METRICS[name], found, least)
        for where, figures in places
        for name in _told_by(figures)
        if (found := figures.get(name)) is not None
        and found.value is not None and found.low is not None and found.high is not None
        and (least := much(name, figures)) is not None
    ]  # fmt: skip


def _told_by(figures: Figures) -> Sequence[str]:
    """By which figures it is told whether predictions come true."""
    large, distance = figures.get(CALIBRATION[0]), figures.get(DISTANCE)
    lost = large is not None and large.value is None and distance is not None and (distance.low or 0) > 0
    return (*CALIBRATION, DISTANCE) if lost else CALIBRATION


def _miscalibrated(scores: Sequence[Score], confidence: float, limit: float) -> Iterator[Finding]:
    off: dict[str, list[str]] = {}
    for where, metric, one, least in scores:
        by = float(one.value or 0) - float(metric.ideal or 0)
        if abs(by) > least and abs(by) / max(error(one, confidence, False), 1e-9) > limit:
            off.setdefault(where, []).append(f"{metric.word} {interval(one)} instead of {metric.ideal:g}")
    if off:
        told = "; ".join(f"{where}: {plain(found)}" for where, found in list(off.items())[:6])
        more = f"; and {len(off) - 6} more" if len(off) > 6 else ""
        chances = any(metric.id in (CALIBRATION[0], DISTANCE) for _, metric, *_ in scores)
        what = "predicted risks" if chances else "predictions"
        acts = "Who acts on a risk of 20 % there acts on another one; it" if chances else "It"
        yield Finding(
            "warning-miscalibrated", "warning", f"{_where(off)} its {what} are off",
            f"Calibration: {told}{more}. {acts} can be recalibrated at the hospital, on patients of its own.",
        )  # fmt: skip


def _where(places: Iterable[str]) -> str:
    """The beginning of a sentence. Over all together is not at each of them.

    >>> _where([EVERYWHERE, "north", "south"]), _where(["north"])
    ('Over all hospitals together, and at north and south,', 'At north')
    """
    named = [one for one in places if one != EVERYWHERE]
    at = f"at {plain([*named[:4], *(['others'] if len(named) > 4 else [])])}" if named else ""
    if EVERYWHERE not in places:
        return f"A{at[1:]}"
    return f"Over {EVERYWHERE}{f', and {at},' if at else ''}"


def _noised(facts: Facts) -> Iterator[Finding]:
    if facts.noise is not None:
        yield Finding("note-noise", "note", "Noise was added to the model on purpose", facts.noise.words)


def _unlearned(facts: Facts) -> Iterator[Finding]:
    if told := sentences(facts.unlearned):
        level: Level = "warning" if any(name.startswith(HARMONISED) for name in facts.unlearned) else "note"
        title = "Hospitals have too little of a feature for anything to be learned of it"
        yield Finding(f"{level}-not-learned", level, title, " ".join(told))


def _participation(facts: Facts) -> Iterator[Finding]:
    there = [one for one in facts.hospitals if not one.out and one.flow.rounds is not None]
    total = len({one.number for one in facts.rounds})
    missed = {one.name: total - (one.flow.rounds or 0) for one in there if (one.flow.rounds or 0) < total}
    out = [one.name for one in facts.hospitals if one.out]
    if missed:
        told = "; ".join(f"{site} {count}" for site, count in sorted(missed.items())[:20])
        level: Level = "warning" if total in missed.values() else "note"
        yield Finding(
            f"{level}-participation", level, "Not every hospital was in every round",
            f"Of {total} rounds missed: {told}{' and others' if len(missed) > 20 else ''}.",
        )  # fmt: skip
    if facts.left_out:
        told = "; ".join(f"{one['site']}, {_from(int(one['since']))}: {one['why']}" for one in facts.left_out[:20])
        few = len(facts.left_out) == 1
        yield Finding(
            "warning-left-out", "warning",
            f"{'A hospital' if few else 'Hospitals'} that approved {'was' if few else 'were'} left out",
            f"{told}{'; and others' if len(facts.left_out) > 20 else ''}. Patients there are in no sum from then on. "
            f"What helps: {facts.left_out[0]['next']}.",
        )  # fmt: skip
    if out:
        yield Finding(
            "note-left-out", "note", f"{len(out)} of {len(facts.hospitals)} hospitals took no part",
            f"{plain(out[:20])}{' and others' if len(out) > 20 else ''}; the reasons stand in the flow of patients.",
        )  # fmt: skip


def _from(since: int) -> str:
    return f"from round {since} on" if since else "from the first round on"


def _unknown(facts: Facts, drawn: Mapping[str, Estimate], metric: Metric | None) -> Iterator[Finding]:
    if facts.withheld and not any(COMMON in one.figures for one in facts.hospitals):
        yield Finding(
            "note-withheld", "note", "What it is worth at single hospitals is not in this report",
            "The recipe secure_sum shows sums over hospitals alone: a hospital for which the model is useless cannot "
            "be seen here. Each hospital sees what it is worth there with `consilium site figures`.",
        )  # fmt: skip
        return
    few = [
        one.name for one in facts.hospitals
        if metric and metric.id in one.figures.get("federated", {}) and one.name not in drawn
    ]  # fmt: skip
    if few and metric:
        least = {"auroc": " with, or without, the outcome", "r2": "", "deviance": ""}.get(metric.id, " with the event")
        yield Finding(
            "note-few-patients", "note", "Some hospitals are not compared",
            f"{plain(few[:20])}{' and others' if len(few) > 20 else ''}: fewer than {FEW} {facts.whom}{least}; or no "
            "interval; or withheld, so that figures of such a hospital do not follow. "
            "Their figures are not drawn.",
        )  # fmt: skip
