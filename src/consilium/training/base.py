"""What a trainer is: it makes an initial model, trains it on one site's matrix, and predicts."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from consilium.algorithms.base import Curvature, LocalObjective, Timed
from consilium.core.study import Study
from consilium.core.tensors import Tensors

Floats = npt.NDArray[np.float64]
Architecture = Callable[[int, dict[str, Any]], Any]
"""f(inputs, options) -> torch.nn.Module that maps (n, inputs) to one number per patient, (n,) or (n, 1)."""


class Trainer(Protocol):
    """One kind of model. Deterministic: the same inputs give the same bytes."""

    def initial(self, study: Study, names: list[str]) -> Tensors:
        """The initial model for the encoded columns `names`, from the plan's seed."""
        ...

    def train(
        self, study: Study, model: Tensors, x: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Tensors:
        """The model after local training in round `number`. x: (n, p), y: (n,). Raises: TrainingFailed."""
        ...

    def clipped(self, study: Study, model: Tensors, x: Floats, y: Floats, bound: float) -> tuple[Floats, Floats]:
        """Sum over patients of the loss's gradients at the model, each shortened to a Euclidean norm of at most
        `bound`; and the gradient of what depends on no patient. Both flat, (d,) float64. Raises: TrainingFailed;
        StudyInvalid: the loss compares patients with one another, so that no gradient is that of one.
        """
        ...

    def loss(self, study: Study, model: Tensors, x: Floats, y: Floats) -> float:
        """What `train` minimises, without any penalty: the mean over patients, shifted so that it is never negative."""
        ...

    def predict(self, study: Study, model: Tensors, x: Floats) -> Floats:
        """Probabilities, values, rates or hazards (n,)."""
        ...


@runtime_checkable
class Curved(Protocol):
    """A trainer whose loss has a Hessian that is never negative, so that Newton's method fits it exactly."""

    def loss(self, study: Study, model: Tensors, x: Floats, y: Floats) -> float:
        """As that of a `Trainer`."""
        ...

    def curvature(self, study: Study, model: Tensors, x: Floats, y: Floats, first: bool) -> Curvature:
        """Loss (of `loss`, with the plan's penalty), gradient and Hessian at the model, summed over patients.

        Args:    first: iterations begin here: gradient and Hessian may be those of another predictor, which lies near
                 the labels; the step that follows from them leads to the weighted least squares that fit it.
        """
        ...


@runtime_checkable
class Survival(Protocol):
    """A trainer of a model of times, whose sums by time give that of all hospitals' patients in one table."""

    def timed(self, study: Study, x: Floats, y: Floats) -> Timed:
        """What these patients add to such sums."""
        ...

    def compares(self, x: Floats, y: Floats) -> bool:
        """Whether any of these had the event while patients who differ were observed: else they tell of no model."""
        ...


@runtime_checkable
class Given(Protocol):
    """A trainer of models that were made elsewhere and are judged: it reads the files in which they come."""

    def read(self, study: Study, data: bytes) -> Tensors:
        """The model as named arrays. Raises: StudyInvalid: it is none, or not one of this study."""
        ...
