"""What a study of times may ask for: a label that is a time and an event, a Cox regression, and sums by time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consilium.core.study import Study

TIMED = "time-to-event"
"""The type of a label that is a time, and whether it ended with the event; see `core.survival`."""
COX = "cox"
"""The kind of model that such a label needs."""
TIES = ("efron", "breslow")
COMMON = "webdisco"
"""The strategy by which hospitals add up sums by times of events."""
CELL = 5
"""Fewest patients of a cell of times that is opened, unless a plan says otherwise, which hospitals accept by name."""


def tells_times(study: "Study") -> bool:
    """Whether the last round tells when held-out patients had the event, or left, in spans of few of them.

    Pairs of patients of two hospitals follow from it. Where a plan hides small cells of times, it does not.
    """
    timed = study.contract.label.type == TIMED and study.evaluation.figures == "full"
    return timed and (study.cell is None or study.cell == 1)


def unfit(study: "Study") -> str | None:
    """Why label, model and strategy of a study of times do not fit; None: they do, or it is none.

    The words begin with the key that is to be corrected.
    """
    model, strategy = study.model.kind, study.strategy.name
    if study.contract.label.type == TIMED and model == "torch":
        return f"`model.kind` torch has no loss for a {TIMED} label; choose {COX}"
    if model == COX and study.training.batch_size != 0:
        return (
            f"`training.batch_size` must be 0 with `model.kind` {COX}: each patient is compared with all who are still "
            "observed"
        )
    if strategy != COMMON:
        return None
    if model != COX:
        return f"`strategy.name` {COMMON} fits a Cox regression: write `model.kind` {COX}"
    if study.cell == 1:
        return None
    if study.rounds == 1:
        return f"`rounds` must be 2 or more with {COMMON}: the first one finds groups of times, and fits nothing"
    if study.privacy.recipe == "plain":
        return (
            f"`privacy.recipe` plain shows cells of single hospitals, whatever the groups of {COMMON}: choose "
            "secure_sum, or write `least: 1` in `strategy.options`, which each hospital must accept by name"
        )
    if not study.sites or study.quorum < len(study.sites):
        return (
            f"`quorum` must be all of the invited `sites`, by name, with {COMMON}: cells that are large enough with "
            "all hospitals may not be without one"
        )
    return None
