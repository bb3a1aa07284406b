"""What is not in a report, and why."""

from consilium.documents.facts import WITHOUT, Facts, Hospital
from consilium.documents.findings import comparable, leading
from consilium.documents.judged import Judged
from consilium.documents.markup import Tag, prose, tag
from consilium.documents.parts import section, table
from consilium.documents.terms import METRICS, plain

BETWEEN = "one to nine patients are in a cell there, or between it and another threshold"
WITHOUT_ONE = {
    True: "the difference of two sums that differ by one hospital is that hospital’s part",
    False: "it takes a run without each hospital; a study whose `sites` leave one out, and one of no rounds that "
    "judges its model there, do it where hospitals allow both",
}
"""Why no model was judged at a hospital that did not train it, by whether sums are secure."""
POLICY = "it stays at each hospital whose policy does not say `tell_flow`; those told are in tens, and none below ten"
WORDS = {
    "withheld": "its policy, the kind of study, or that those of others would follow, does not let it tell them",
    "too few": "it has fewer than ten such patients of a class",
}
"""Why a hospital tells no figures of itself."""
TWICE = (
    "not looked for: hospitals do not tell who their patients are. One may be trained on at one hospital and held out "
    "at another"
)
ENSEMBLE = (
    "not done: each model would have to leave its hospital by itself, which no recipe lets it. Where records may lie "
    "together, `consilium baseline --ensemble` does it"
)
ASKED = "it was not asked for; `consilium simulate --leave-one-out` trains anew without each hospital"


def _kept(facts: Facts) -> str:
    """What becomes of models that hospitals' policies have trained beside the common one, and that are not told."""
    if facts.privacy.startswith("secure_sum"):
        return ", or told where policies say both `own_model` and `release_figures`"
    return "; what a policy has trained (`own_model`) stays at its hospital: `consilium site figures`"


def withheld(facts: Facts) -> Tag:
    """What is not in the report, and why."""
    told: list[tuple[str, str]] = []
    if facts.origin != "simulation" and facts.privacy.startswith("secure_sum"):
        why = "the recipe secure_sum opens sums over at least three hospitals; a single hospital’s figures stay there"
        if any(one.figures for one in facts.hospitals):
            why = f"the recipe secure_sum; those that stand here are told by {facts.judged_by}"
        told += [("figures of single hospitals, by the federation", why)]
        told += [
            (f"figures of {one.name} alone", f"{one.word}: {WORDS[one.word]}") for one in facts.hospitals if one.word
        ]
    if facts.origin == "federation" and any(one.flow.read is None for one in facts.hospitals if not one.out):
        told.append(("how many patients hospitals left out, and why", POLICY))
    if facts.origin == "federation" and not any("own" in one.figures for one in facts.hospitals):
        told.append(
            (
                "each hospital’s own model",
                f"computed where records may lie together (`consilium baseline`){_kept(facts)}",
            )
        )
    if facts.origin != "simulation":
        told.append(("patients who are at two hospitals", TWICE))
        if "ensemble" not in facts.models:
            told.append(("an ensemble of hospitals’ own models", ENSEMBLE))
    if not facts.audit:
        told.append(("the audit logs", "none was checked for this report"))
    if facts.about is None:
        told.append(("purpose, contract and methods", "the study file was not at hand"))
    told += [(f"{one.name} in plots", _why(facts, one)) for one in _undrawn(facts)]
    told += _of_last(facts.last) if facts.last is not None else []
    if not facts.judged_only and WITHOUT not in facts.models:
        why = ASKED if facts.origin == "simulation" else WITHOUT_ONE[facts.privacy.startswith("secure_sum")]
        told.append(("leave-one-hospital-out", f"not done: {why}"))
    rows = [(what, prose(why)) for what, why in told]
    return section(
        "withheld", "What was withheld, and why",
        table("withheld-table", "Not in this report.", ("what", "why"), rows) if rows else
        tag("p", "Nothing that is known of this run was withheld."),
    )  # fmt: skip


def _undrawn(facts: Facts) -> list[Hospital]:
    metric = leading(facts)
    if metric is None:
        return []
    drawn = comparable(facts, metric)
    return [one for one in facts.hospitals if one.figures.get("federated") and one.name not in drawn]


def _why(facts: Facts, one: Hospital) -> str:
    """Why a hospital is not drawn."""
    last = facts.last.sites.get(one.name) if facts.last is not None else None
    return last.note if last is not None and last.note else "its figures have too few patients, or no interval"


def _of_last(last: Judged) -> list[tuple[str, str]]:
    """Of the last round what is not told of groups of patients, and at thresholds."""
    told = []
    for feature, parts in last.groups.items():
        for group, worth in parts.items():
            if worth.note:
                told.append((f"{feature} {group}", worth.note))
                continue
            by: dict[str, list[str]] = {}
            for name, one in worth.figures.items():
                if name in METRICS and one.value is None and one.note:
                    by.setdefault(one.note, []).append(METRICS[name].word)
            told += [(f"{feature} {group}: {plain(words)}", why) for why, words in by.items()]
    hidden = [row for row in last.everyone.thresholds if row.figures and None in row.counts]
    if hidden:
        at = plain([f"{row.threshold:g}" for row in hidden])
        told.append((f"counts at {at} in the table of thresholds, and figures that tell them", BETWEEN))
    return told
