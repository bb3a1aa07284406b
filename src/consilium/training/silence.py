"""Who would add nothing to a secure sum: it refuses, for the sum would be that of the others alone, and maybe of one.

Whoever takes its own part off a sum over three hospitals has the sum of two others left, and that of one of them where
the other adds zeros. So who adds nothing is not counted: `quorum` and `min_sites` say whether a sum over the rest is
opened. Under an epsilon there is noise in its place; and that somebody refuses would tell of a patient, without noise.
"""

from collections.abc import Mapping

import numpy as np

from consilium.algorithms.segments import tells
from consilium.core.errors import Refused
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import COMMON
from consilium.training.base import Floats, Survival, Trainer


def heard(study: Study, told: Mapping[str, Array]) -> None:
    """Whether what a hospital adds in a round of training tells something, beside numbers of patients.

    Raises: Refused: `nothing`.
    """
    if asked(study) and not any(np.any(array) for name, array in told.items() if tells(study, name)):
        raise nothing()


def compared(study: Study, trainer: Trainer, x: Floats, y: Floats) -> None:
    """Whether a model whose patients are compared at each hospital has some to compare among these.

    Where it has none, all that a hospital adds follows from the model and its number of patients: nothing, or of a
    penalty its share.

    Raises: Refused: `nothing`.
    """
    alone = isinstance(trainer, Survival) and not trainer.compares(x, y)
    if alone and asked(study):
        raise nothing()


def asked(study: Study) -> bool:
    """Whether who adds nothing to a round of training refuses."""
    # With a common baseline patients of all hospitals are compared, and each is in the sums; but in the first round,
    # in which there is a yes or no of each hospital, and nothing else.
    common = study.strategy.name == COMMON
    return study.privacy.recipe == "secure_sum" and study.privacy.epsilon is None and not common


def nothing() -> Refused:
    """What the owner hears, and the hospital's own people."""
    return Refused(
        "this hospital's training patients add nothing to the sum, which would be that of the others alone (of a Cox "
        "regression: none had the event while others who differ from it were observed)",
        "check the codes of the label with `consilium site check`; where that is how patients are, the study goes on "
        "without this hospital, as far as its `quorum` allows",
        reason="nothing",
    )
