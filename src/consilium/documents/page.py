"""The report as one page: sections in the order in which a sceptical reader asks."""

import math
from collections.abc import Sequence
from datetime import datetime

from consilium.documents import figures, judging, markup, people, style, untold
from consilium.documents.facts import Facts
from consilium.documents.finding import Finding
from consilium.documents.findings import Findings, leading
from consilium.documents.markup import Tag, name, prose, tag
from consilium.documents.parts import section
from consilium.documents.terms import METRICS, interval, percent, plain
from consilium.documents.tripod import Item

ORIGIN = {
    "federation": "Report of a federated study",
    "demo": "Report of a demonstration on one machine",
    "simulation": "Report of a simulation: no study of hospitals",
}


def sections(facts: Facts, found: Findings, items: Sequence[Item]) -> list[Tag]:
    """The sections that the facts have something for."""
    return [
        one
        for one in (
            figures.by_hospital(facts),
            figures.compared(facts),
            judging.groups(facts),
            judging.calibration(facts),
            judging.decisions(facts),
            judging.discrimination(facts),
            figures.over_rounds(facts),
            figures.coefficients(facts),
            people.flow(facts),
            people.attendance(facts),
            people.predictors(facts),
            people.privacy(facts),
            untold.withheld(facts),
            people.audit(facts),
            _reading(facts, found),
            people.tripod(items),
        )
        if one is not None
    ]


def html(facts: Facts, found: Findings, items: Sequence[Item], made: datetime) -> str:
    """The whole document."""
    title = facts.about.title if facts.about is not None else facts.study
    parts = sections(facts, found, items)
    return markup.page(
        f"{title}: report of {facts.run}", "en", style.SHEET,
        tag("a", "Skip to the results", class_="skip", href="#content"),
        _head(facts, title, made),
        tag("main", warnings(found), _cards(facts, found), _contents(parts), parts, id="content"),
        tag("footer", tag("p", f"Made by Consilium on {made:%Y-%m-%d %H:%M} UTC from the facts of {facts.run}; nothing "
            "in it was written by hand. This page loads nothing and runs nothing.")),
    )  # fmt: skip


def _head(facts: Facts, title: str, made: datetime) -> Tag:
    about = facts.about
    return tag(
        "header",
        tag("span", ORIGIN[facts.origin], class_="kind"),
        tag("h1", name(title)),
        tag("p", name(about.purpose.text), class_="purpose") if about is not None else None,
        tag("p", _told(facts), class_="quiet"),
    )


def _told(facts: Facts) -> list[object]:
    """In one line: which run, what it predicts, who asked."""
    told: list[object] = ["Run ", name(facts.run), f", {facts.status}"]
    if facts.about is not None:
        told += [" · predicts ", name(facts.about.contract.label.meaning)]
        told += [" · asked by ", name(facts.about.purpose.requester)]
    return told


def warnings(found: Findings) -> Tag:
    """What must be seen first. Each element's id is that of its finding."""
    listed = tag("ul", (_finding(one) for one in found.found), class_="findings")
    calm = tag("p", f"No warning: {found.calm}", class_="good", id="no-warnings")
    return tag(
        "section", tag("h2", "Read this first", id="warnings-title"),
        calm if not found.warnings else None, listed if found.found else None,
        id="warnings", aria_labelledby="warnings-title",
    )  # fmt: skip


def _finding(one: Finding) -> Tag:
    return tag(
        "li",
        tag("span", "Warning" if one.level == "warning" else "Note", class_="level"), " ",
        tag("strong", one.title), tag("p", prose(one.text)), id=one.id, data_level=one.level,
    )  # fmt: skip


def _cards(facts: Facts, found: Findings) -> Tag:
    metric, everyone = leading(facts), facts.everyone.get("federated", {})
    cards: list[tuple[str, str, str]] = []
    if metric is not None and metric.id in everyone:
        one = everyone[metric.id]
        value, _, ends = interval(one).partition(" (")
        cards.append(
            (
                f"{metric.word}, all {facts.whom}",
                value,
                f"{ends.rstrip(')')}, n = {one.n}" if ends else f"n = {one.n}",
            )
        )
    there = [one for one in facts.hospitals if not one.out]
    out = len(facts.hospitals) - len(there)
    cards.append(("Hospitals", str(len(there)), f"{out} more took no part" if out else "all of those that there are"))
    done = sum(one.kind == "TRAIN" for one in facts.rounds)
    if facts.judged_only:
        cards.append(("Model", "given", "judged, and not trained"))
    else:
        cards.append(("Rounds of training", str(done), f"of {facts.planned} planned"))
    cards.append(("Protection", *_protection(facts)))
    if facts.audit:
        whole = all(log.get("intact") for log in facts.audit)
        cards.append(("Audit logs", "intact" if whole else "altered", f"{len(facts.audit)} checked"))
    return tag(
        "dl", (tag("div", tag("dt", label), tag("dd", value, tag("small", more))) for label, value, more in cards),
        class_="cards", id="headline",
    )  # fmt: skip


def _protection(facts: Facts) -> tuple[str, str]:
    """What protects patients, and the small words below it."""
    recipe, noise = facts.privacy.partition(":")[0], facts.noise
    bound = f"epsilon {noise.epsilon:g}, delta {noise.delta:g}" if noise else ""
    if facts.origin == "simulation":
        return ("noise", f"{bound}; simulated: {recipe}") if noise else ("none", f"simulated: {recipe}")
    known = "" if "differential privacy" in facts.privacy else "no noise added"  # if only the run's words are at hand
    return recipe.replace("_", " "), f"noise added: {bound}" if noise else known


def _contents(sections: Sequence[Tag]) -> Tag:
    links = []
    for one in sections:
        heading = next(child for child in one.children if isinstance(child, Tag) and child.name == "h2")
        target = dict(one.attributes)["id"]
        links.append(tag("li", tag("a", heading.children, href=f"#{target}")))
    return tag("nav", tag("h2", "Contents", id="contents-title"), tag("ol", links), aria_labelledby="contents-title")


def _reading(facts: Facts, found: Findings) -> Tag:
    """How intervals, comparisons and what is not drawn are to be read."""
    scores = "auroc" in facts.everyone.get("federated", {})
    whose = ": DeLong’s for AUROC, Wilson’s for shares" if scores else ""
    told = (
        f"Intervals are at {percent(facts.confidence)}, each by itself{whose}. They say how sure a figure is of these "
        "patients, and not how it would be at another hospital."
        + (" Log odds and log loss take a score as no nearer to 0 or 1 than 1e-12." if scores else "")
    )
    compared = plain([of for of, count in found.made.items() if count])
    many = (
        f"{found.comparisons} comparisons were made, with {compared}. A warning needs a difference beyond the "
        f"{percent(facts.confidence)} limit of Bonferroni’s correction for that many."
        if found.comparisons
        else "No comparisons were made."
    )
    return section(
        "reading", "How to read the figures",
        tag("p", told),
        _pairs(facts),
        _bounds(facts),
        tag("p", many, id="comparisons"),
        tag("p", "“too few”: fewer than ten of these patients; of an outcome that is yes or no, with it or "
            "without; of times, with the event; or one to nine in a cell: the interval, if there is one, holds "
            "whatever the cell may be. “withheld”: what is too few would follow from it. Such figures are neither "
            "drawn nor compared."),
    )  # fmt: skip


def _pairs(facts: Facts) -> Tag | None:
    """Which patients are compared with which."""
    figures = facts.everyone.get("federated", {})
    if "auroc" not in figures:
        return None
    models = " Under personal models their scores come of different ones." if facts.personal else ""
    within = (
        " “AUROC within hospitals” compares two patients of one hospital alone, each hospital by the number of such "
        "pairs over that of its patients."
        if "stratified_auroc" in figures
        else ""
    )
    return tag(
        "p", "AUROC over all hospitals compares each patient with the outcome with each without, of whichever "
        f"hospital.{models}{within}", id="pairs",
    )  # fmt: skip


def _bounds(facts: Facts) -> Tag | None:
    """How far figures over all hospitals may be off, for they follow from histograms."""
    figures = facts.everyone.get("federated", {})
    off = facts.last.off if facts.last is not None else {}
    told = [f"{METRICS[name].word} by {_rounded_up(one)}" for name, one in off.items() if name in figures]
    if not told:
        return None
    return tag(
        "p", f"Figures over all hospitals follow from histograms. From those of one table with all these patients they "
        f"may differ by what lies within one part of a histogram, and at most: {plain(told)}. As a rule it is far "
        "less.", id="bounds",
    )  # fmt: skip


def _rounded_up(value: float) -> str:
    """Two digits that are not below it.

    >>> _rounded_up(0.00123), _rounded_up(0.0361), _rounded_up(0.0)
    ('0.0013', '0.037', '0')
    """
    if value <= 0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.2g}"
