"""Approvals: what people at a site decided on a plan, and what stands now. Signed, bound to its hash, revocable."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from consilium.core.errors import Refused
from consilium.core.ids import Digest
from consilium.core.study import GROUPED, Plan, Study
from consilium.core.timed import CELL

WEAKER: dict[str, str] = {
    "plain": (
        "The recipe `plain` protects nothing: the coordinator sees this hospital's update and its figures on its own, "
        "and may be able to reconstruct something of its patients from them."
    ),
    "given-model": (
        "The study starts from a model that was made elsewhere, and nobody here can tell how. One made to keep "
        "patients apart shows single ones even in sums over many hospitals, unless noise is added (an epsilon). Nor is "
        "who gives it bound to ask one set of hospitals: the same function may be written as two models, and sums at "
        "both, over hospitals that differ by this one, show its part."
    ),
    "small-groups": (
        "The strategy adds up groups of hospitals apart, and a group may be smaller than `min_sites`: that of one "
        "hospital is its own update. Nobody is told which hospital it is of, but its number of patients may tell."
    ),
    "hospital-numbers": (
        "Some of what hospitals add up is of a hospital as a whole: powers of its loss, or squares of differences from "
        "its own means. Of a sum over few hospitals, one of them that is curious can compute for each other how well "
        "the model fits there, or how many patients it has and how many of them have a code that is kept; and where "
        "another one adds nothing, for few there have such a code, all that a single one adds."
    ),
    "small-cells": (
        "Sums by times of events are opened also where fewer than five patients are behind them: the time of a single "
        "patient's event, or of the end of observation, and that patient's features follow from them."
    ),
}
"""Modes that a hospital must accept by name, and what it accepts with them."""
_PLAIN_NOISED = (
    "The recipe `plain` hides nothing that this hospital's own noise does not hide: the coordinator sees its update, "
    "with that noise, and its figures on held-out patients on their own, without noise."
)


@dataclass(frozen=True)
class Said:
    """One decision, its signature checked."""

    plan: Digest
    decision: Literal["approve", "decline", "revoke"]
    person: str
    accepts: tuple[str, ...]
    expires: datetime | None
    at: datetime


def standing(plan: Plan, said: Iterable[Said], now: datetime) -> Said:
    """The approval that stands for a plan; `said` are the site's decisions on this study, oldest first.

    Raises: Refused: `reason` is one of not-approved, plan-changed, declined, revoked, approval-expired, recipe.
    """
    ask = "a person at the hospital decides with `consilium site review` and `consilium site approve`"
    newest: Said | None = None
    for one in said:
        newest = one
    if newest is None:
        raise Refused("no person at this hospital has approved the study", ask, reason="not-approved")
    if newest.plan != plan.digest:
        raise Refused("what was approved is another plan than this one", ask, reason="plan-changed")
    if newest.decision != "approve":
        word = {"decline": "declined", "revoke": "revoked"}[newest.decision]
        raise Refused(f"the study was {word} at this hospital", ask, reason=word)
    if newest.expires is not None and now >= newest.expires:
        raise Refused(f"the approval ended at {newest.expires:%Y-%m-%d %H:%M} UTC", ask, reason="approval-expired")
    missing = [mode for mode in weaker(plan) if mode not in newest.accepts]
    if missing:
        raise Refused(f"the hospital has not accepted {', '.join(missing)}", ask, reason="recipe")
    return newest


def weaker(plan: Plan) -> tuple[str, ...]:
    """The modes of a plan that each hospital must accept by name."""
    recipe = plan.study.privacy.recipe
    modes = {
        recipe: recipe in WEAKER,
        "given-model": plan.study.model.start == "given",
        "small-groups": recipe == "secure_sum" and plan.study.strategy.name in GROUPED,
        "hospital-numbers": recipe == "secure_sum" and plan.study.of_hospitals,
        "small-cells": small_cells(plan.study),
    }
    return tuple(mode for mode, there in modes.items() if there)


def small_cells(study: Study) -> bool:
    """Whether sums are opened of times at which fewer patients had the event than are hidden without a word."""
    return study.cell is not None and study.cell < CELL


def meant(plan: Plan, mode: str) -> str:
    """What a hospital accepts with a mode of a plan."""
    return _PLAIN_NOISED if mode == "plain" and plan.study.privacy.local else WEAKER[mode]
