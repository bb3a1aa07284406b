"""One step under an epsilon: clipped gradients of patients who are drawn by chance. What noise is added to, later.

Nothing here depends on how many patients there are, or on who, but the sum itself: the weight is the plan's constant.
"""

import numpy as np

from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten
from consilium.privacy import noise
from consilium.training.base import Floats, Trainer


def step(study: Study, trainer: Trainer, model: Tensors, x: Floats, y: Floats, sample: bytes) -> Tensors:
    """Segments of a round: `update`, of which one patient makes at most `clip_norm` times the learning rate; `weight`.

    Args:    x: (n, p), y: (n,): all training patients.   sample: 32 bytes that nobody else knows: who is drawn.
    Raises:  Invalid: there is no key.   TrainingFailed.
    """
    privacy, size = study.privacy, flatten(model).size
    if len(sample) != 32:
        raise Invalid("patients are to be drawn, and there is no key for it", "update the agent")
    drawn = noise.drawn(sample, len(y), privacy.sampling)
    total, rest = trainer.clipped(study, model, x[drawn], y[drawn], privacy.clip_norm)
    assert total.shape == rest.shape == (size,)
    most = privacy.clip / study.training.learning_rate
    pull = privacy.expected_batch * np.clip(rest.astype(np.float64), -most, most)
    return {"update": -study.training.learning_rate * (total.astype(np.float64) + pull), "weight": weight(study)}


def weight(study: Study) -> Floats:
    """By what sums are divided: the expected batch, from the plan."""
    return np.array([study.privacy.expected_batch])
