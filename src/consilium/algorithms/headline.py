"""The figures that every round tells, over all hospitals and, where their sums are there, of each; small cells hidden.

What is hidden of one hospital does not follow from the others and from all of them. In the last round `worth` tells
more of the same patients, by the same rules and at the same threshold.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from consilium.algorithms import decisions, figure, groups, metrics
from consilium.algorithms.figure import FEW, FEW_PATIENTS, FOLLOWS, LEAST
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import TIMED

Sums = Mapping[str, Array]
Json = dict[str, Any]


def figures(study: Study, total: Sums, sites: Mapping[Any, Sums] | None = None) -> Json:
    """`all`, and `sites` by name, as plain values; of whom there are no sums there are no figures.

    Args:    total: sums over all hospitals.   sites: of each, as far as anybody has them.
    """
    everybody = alone(study, total, False)
    names = ("concordance",) if study.contract.label.type == TIMED else tuple(everybody)  # of one hospital that is all
    return {"all": everybody, "sites": by_site(study, total, dict(sites or {}), names)}


def alone(study: Study, sums: Sums, single: bool = True, hide: tuple[bool, bool] = (False, False)) -> Json:
    """The figures of some patients. Args: single: of one hospital.   hide: see `decisions.confusion`."""
    if not sums:
        return {}
    asked, kind, n = study.evaluation, study.contract.label.type, round(float(sums["n"][0]))
    found = metrics.figures(kind, sums, asked.confidence, single, asked.threshold)
    if n and min(_cells(sums)) < LEAST:
        found = dict.fromkeys(found, figure.hidden(n if n >= LEAST else 0, FEW if kind == "binary" else FEW_PATIENTS))
    elif n and kind == "binary":
        decided = decisions.confusion(
            decisions.Counts.at(sums, asked.threshold), asked.threshold, asked.confidence, hide
        )
        found |= {name: decided.figures[name] for name in ("accuracy", "sensitivity", "specificity")}
    return figure.to_json(found)


def by_site(study: Study, total: Sums, sites: Mapping[Any, Sums], names: Iterable[str]) -> Json:
    """The figures of each hospital: of some none, lest those of others follow from the whole.

    Args:    names: of its figures.
    """
    binary, counted = study.contract.label.type == "binary", {site: sums for site, sums in sites.items() if sums}
    if not counted or not total:
        return {site: {} for site in sites}
    cells = {site: _cells(sums) for site, sums in counted.items()}
    shown = groups.apart(cells, _cells(total), LEAST)
    sick, well = decisions.counted(counted, total, study.evaluation.threshold) if binary and shown else (shown, shown)
    found: Json = {site: {} for site in sites}
    for site, sums in counted.items():
        if site in shown or not float(sums["n"][0]):
            hide = (site not in sick, site not in well) if binary and site in shown else (False, False)
            found[site] = alone(study, sums, hide=hide)
            continue
        note = FOLLOWS if min(cells[site]) >= LEAST else FEW if binary else FEW_PATIENTS
        found[site] = figure.to_json(dict.fromkeys(names, figure.hidden(0, note)))
    return found


def _cells(of: Sums) -> tuple[float, ...]:
    """Numbers of patients, each of which is ten or more where a figure is shown."""
    if "positives" in of:
        return float(of["positives"].sum()), float(of["negatives"].sum())
    return (float(of["n"][0]),)
