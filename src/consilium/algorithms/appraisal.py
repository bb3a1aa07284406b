"""Everything that may be shown of the final model: for all held-out patients, for groups, and for hospitals, from sums.

Small cells are hidden:

- ten positives and ten negatives or more stand behind a figure (of numbers and counts ten patients, of times ten
  events), and so do they behind what all that is left unsaid has together;
- counts of one to nine patients are not shown, nor what they follow from by subtraction.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from consilium.algorithms import between, decisions, discrimination, figure, gaps, groups, headline
from consilium.algorithms.evaluation import HOSPITALS, STRATA, common_of, part_of
from consilium.algorithms.figure import FOLLOWS, LEAST
from consilium.algorithms.gaps import Kinds
from consilium.algorithms.groups import Spread
from consilium.algorithms.worth import FEW_OF, Worth, cells, told_of, worth
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import TIMED

FEW_HOSPITALS = "withheld: fewer than {} hospitals have ten of these patients or more"
HOSPITAL = "hospital"
Json = dict[str, Any]


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
    found = gaps.all_of(study, kinds, told, total, spread)
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
            "confidence_of_each": gaps.of_each(sure, made),
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
        if min(cells(study, parts[name])) < LEAST:
            return FEW_OF[study.contract.label.type]
        return FOLLOWS if spread is None or spread.of(name) else FEW_HOSPITALS.format(spread.least)

    each = {name: cells(study, part) for name, part in parts.items()}
    shown = groups.apart(each, cells(study, total), LEAST, spread)
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
