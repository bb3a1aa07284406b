"""Figures of one hospital alone, beside secure sums: of which studies they may be told, and what the review says."""

from consilium.core.study import GROUPED, Study
from consilium.governance.policy import Policy

_TOLD = (
    "When a run is finished, what its final model is worth for this hospital's held-out patients is told, once, as "
    "the hospital's policy says (`release_figures: {most}`; it was said for {done} other plans so far): its "
    "AUROC in hundredths{own}, and of how many patients with the outcome and without, in tens, rounded down; with "
    "fewer than ten of either, the words `too few`. People with an account see it. It is told only if all hospitals "
    "in the sums of the run mean to tell theirs: from a sum and what is told the figures of others would follow, "
    "nearly. Who says so when the run begins counts as one who tells. With each further plan of nearly the same "
    "model, a little more can be told of the same patients."
)
_WITHHELD = "No figure of this hospital alone is told: {why}. When a run is finished, the word `withheld` says so."
_PERSONAL = ", of this hospital's personal model and of the common one"
_OWN = ", and that of a model that is trained on this hospital's patients alone"


def declarable(study: Study) -> bool:
    """Whether of a study of this kind figures of one hospital may ever be told beside the sum; see `objection`."""
    return not objection(study)


def objection(study: Study) -> str:
    """Why figures of one hospital may never be told of a study of this kind; empty where they may."""
    asked = study.privacy
    reasons = {
        "the recipe shows each hospital's sums to the coordinator": asked.recipe != "secure_sum",
        "it would leave without the noise that `epsilon` promises": asked.epsilon is not None,
        "the label has no two classes": study.contract.label.type != "binary",
        "code or a graph from elsewhere could write anything into it": study.model.foreign,
        "groups of hospitals are summed apart": study.strategy.name in GROUPED,
        "patients are judged by models of folds": study.evaluation.folds is not None,
    }
    return next((why for why, holds in reasons.items() if holds), "")


def words(study: Study, policy: Policy, done: int | None) -> str:
    """What the review says of it.

    Args:    done: for how many other plans this hospital said before that it tells; None: that was lost.
    """
    if study.privacy.recipe != "secure_sum":
        return ""
    why = objection(study)
    if not why and not policy.release_figures:
        why = "the hospital's policy says `release_figures: 0`"
    if not why and done is None:
        why = "its journal was restored from an older copy, and nobody said yet of how many plans it was promised since"
    if not why and done is not None and done >= policy.release_figures:
        most = policy.release_figures
        why = f"it was said for {done} other plans before, and the policy says `release_figures: {most}`"
    if why:
        return _WITHHELD.format(why=why)
    own = _PERSONAL if study.personal else ""
    own += _OWN if policy.own_model and not study.judged_only else ""
    return _TOLD.format(most=policy.release_figures, done=done, own=own)
