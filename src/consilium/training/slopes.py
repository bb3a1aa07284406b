"""Derivatives of losses by scores, one per patient: so a loss enters clipping, and none over several patients can."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.core.errors import StudyInvalid, TrainingFailed

MAX_RATE = 50.0
"""Scores of a count are held below this: the exponential of more is no rate."""
Slopes = Callable[[NDArray[Any], Any], Any]
"""Of scores (n,) of the patients of a slice, or of some places: derivatives of each one's loss by its own score, (n,).
"""


def slope(kind: str, score: NDArray[Any], label: NDArray[Any]) -> Any:
    """The derivative of the loss of a label's type by the score; all (n,). Losses are those of `training/torch.py`."""
    match kind:
        case "binary":
            return 1 / (1 + np.exp(-score)) - label
        case "number":
            return 2 * (score - label)
        case "count":
            return (np.exp(score) - label) * (score <= MAX_RATE)
    raise StudyInvalid(f"a label of type {kind} has no loss that can be clipped", "use binary, number or count")


def each(slopes: Callable[[NDArray[Any]], Any], score: NDArray[Any], patients: int) -> NDArray[Any]:
    """Slopes in the shape of the module's output."""
    fits = score.shape in ((patients,), (patients, 1))
    told = slopes(score.reshape(-1)) if fits else score
    if not fits or told.shape != (patients,):
        raise TrainingFailed(
            f"{patients} patients have scores of shape {score.shape} and slopes of shape {told.shape}",
            "give one number per patient: what depends on several of them cannot be clipped",
        )
    return told.astype(score.dtype, copy=False).reshape(score.shape)
