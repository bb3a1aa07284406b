"""Small cells of what was judged where records lay together: such a command hides nothing, and its report does.

What the last round tells is hidden where it is made (`algorithms/appraisal.py`). Figures of a hospital's own model, of
the pooled one, or of one that was trained without a hospital come from `baseline` and `simulate` as they are.
"""

from collections.abc import Mapping
from dataclasses import replace

from consilium.documents.estimate import Estimate, Figures
from consilium.documents.facts import FEW, SHARED, Facts

CELL = "too few: between one and nine patients in a cell"
CLASS = "too few: fewer than ten positives or negatives"
PATIENTS = "too few: fewer than ten patients"
FOLLOWS = "withheld: what is too small to be shown would follow from it"
SPLIT = ("sensitivity", "specificity")
COMMON = "federated"
TOLD = (COMMON, SHARED, "own")
"""Of whom a hospital tells figures itself, rounded."""


def hidden(facts: Facts) -> Facts:
    """The same, where no figure of a model tells of one to nine patients of a hospital, nor does it follow."""
    kept = (COMMON,) if facts.last is not None else ()  # hidden already, with intervals that say what is safe to say
    mine = tuple(
        replace(
            one,
            figures={
                model: f if model in (TOLD if one.told else kept) else _of_one(f) for model, f in one.figures.items()
            },
        )
        for one in facts.hospitals
    )
    everyone = {
        model: figures if model in kept else _whole(_of_one(figures), [one.figures.get(model, {}) for one in mine])
        for model, figures in facts.everyone.items()
    }
    return replace(facts, hospitals=mine, everyone=everyone)


def _of_one(figures: Figures) -> dict[str, Estimate]:
    """The figures of some patients."""
    few = _few(figures)
    if few:
        return {name: replace(one, value=None, low=None, high=None, n=0, note=few) for name, one in figures.items()}
    small = [name for name in SPLIT if name in figures and _small(figures[name])]
    hides = {*small, *(("accuracy",) if small else ())}
    if not small and "accuracy" in figures and not any(name in figures for name in SPLIT):
        hides = {"accuracy"} if _small(figures["accuracy"]) else set()
    return {name: _without(one, CELL) if name in hides else one for name, one in figures.items()}


def _few(figures: Figures) -> str:
    """Why nothing is told; empty where there are enough patients."""
    n = max((one.n for one in figures.values()), default=0)
    share = figures.get("prevalence")
    if share is not None and share.value is not None:
        sick = round(share.value * share.n)
        return CLASS if min(sick, share.n - sick) < FEW else ""
    return PATIENTS if 0 < n < FEW else ""


def _small(one: Estimate) -> bool:
    """Whether one to nine patients are on either side of a share."""
    if one.value is None:
        return False
    there = round(one.value * one.n)
    return 0 < there < FEW or 0 < one.n - there < FEW


def _without(one: Estimate, note: str) -> Estimate:
    return replace(one, value=None, low=None, high=None, note=note)


def _whole(figures: Mapping[str, Estimate], apart: list[Figures]) -> dict[str, Estimate]:
    """The figures of all, less what would tell that of the only hospital whose is hidden."""
    found = dict(figures)
    for name in (*SPLIT, "accuracy", "prevalence"):
        told = [one[name] for one in apart if name in one]
        gone = [one for one in told if one.value is None and one.note.startswith(("too few", "withheld"))]
        if name in found and len(gone) == 1 and len(told) > 1 and found[name].value is not None:
            found[name] = _without(found[name], FOLLOWS)
    return found
