"""Training under an epsilon: clipped gradients of patients who are drawn by chance.

With shared noise a round is one `step`, to which noise is added later, in a secure sum. With noise at each hospital
`train` makes several steps, each with all its noise: DP-SGD, Abadi et al., CCS 2016, algorithm 1, with sums divided by
the plan's expected batch. Nothing here depends on how many patients there are, or on who, but the sums themselves: the
weight is the plan's constant.
"""

from dataclasses import replace
from hashlib import sha256

import numpy as np

from consilium.algorithms.base import Here, Local, LocalObjective, Pass, Strategy, parts_of, used
from consilium.core.errors import Invalid, StudyInvalid, TrainingFailed
from consilium.core.ids import canonical
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector, flatten, unflatten
from consilium.privacy import noise
from consilium.privacy.masks import expand
from consilium.privacy.mechanism import Mechanism
from consilium.privacy.quantize import Noised
from consilium.training.base import Floats, Trainer


def step(study: Study, trainer: Trainer, model: Tensors, x: Floats, y: Floats, sample: bytes) -> Tensors:
    """Segments of a round: `update`, of which one patient makes at most `clip_norm` times the learning rate; `weight`.

    Args:    x: (n, p), y: (n,): all training patients.   sample: 32 bytes that nobody else knows: who is drawn.
    Raises:  Invalid: there is no key.   TrainingFailed.
    """
    total, rest = _summed(study, trainer, model, x, y, _key(sample))
    batch, most = study.privacy.expected_batch, study.privacy.clip / study.training.learning_rate
    pull = batch * np.clip(rest, -most, most)
    return {"update": -study.training.learning_rate * (total + pull), "weight": weight(study)}


def train(
    study: Study, trainer: Trainer, model: Tensors, x: Floats, y: Floats, objective: LocalObjective, chance: bytes
) -> Tensors:
    """The model after a round's steps, each with all its noise: what is said of a patient is bounded, whoever sees it.

    Noise is added to integers, as in a secure sum: the last bits of a sum of floats would say more than its noise lets.

    Args:    x: (n, p), y: (n,): all training patients.   chance: 32 bytes that nobody else knows, and that serve one
             round: of each step, who is drawn, and its noise.
    Raises:  Invalid: there is no key.   TrainingFailed: the parameters ran away.
    """
    w = flatten(model).astype(np.float64)
    grid, rate = _grid(study, w.size), study.training.learning_rate
    for number in range(study.noised_steps):
        drawing = expand(_key(chance), canonical(["local 1", "sample", number]))
        total, rest = _summed(study, trainer, unflatten(w, model), x, y, drawing)
        whole, _ = grid.encode(total)
        hidden = sha256(whole.data).hexdigest()  # another machine may sum to other last bits
        hiding = expand(chance, canonical(["local 1", "noise", number, hidden]))
        whole += noise.integers(hiding, w.size, grid.deviation).view(whole.dtype)
        mean = grid.decode(whole) / study.privacy.expected_batch
        w = w - objective.step(rate * (mean + rest + objective.gradient(w)))
        if not np.all(np.isfinite(w)):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
    return unflatten(w, model)


def several(
    study: Study, trainer: Trainer, strategy: Strategy, here: Here, like: Tensors, x: Floats, y: Floats, chance: bytes
) -> tuple[Tensors, Tensors]:
    """What a strategy makes of the round's steps: segments, and what is kept here. It sees the noised model alone.

    Args:    like: the model's shape.   Others as in `train`.
    Raises:  StudyInvalid: the strategy trains more than once, or asks for a loss, which has no noise.   Others as
             `train`.
    """
    here = _unseen(study, here)
    one = _pass(study, strategy, here)
    after = flatten(train(study, trainer, unflatten(used([one]), like), x, y, one.objective, chance))
    return strategy.contribution(here, _local(study, after))


def check(study: Study, strategy: Strategy, model: Tensors) -> None:
    """Whether a strategy can have its noise at each hospital: asked of its first round, without a patient.

    Raises: StudyInvalid: as `several`.
    """
    if study.privacy.local:
        here = _unseen(study, Here(strategy.init(flatten(model)), parts=parts_of(model)))
        _pass(study, strategy, here)
        strategy.contribution(here, _local(study, here.model))


def _pass(study: Study, strategy: Strategy, here: Here) -> Pass:
    passes = strategy.passes(here)
    if len(passes) != 1:
        raise _unfit(study, f"trains {len(passes)} times in a round, and noise is accounted for once")
    if not passes[0].trained:
        raise _unfit(study, "asks for the curvature of the loss, to which no noise is added")
    return passes[0]


def _unseen(study: Study, here: Here) -> Here:
    """What a strategy may know as a round begins: nothing of the patients."""

    def loss(of: Vector) -> float:
        raise _unfit(study, "asks for the loss of patients, to which no noise is added")

    return replace(here, loss=loss)


def _local(study: Study, after: Vector) -> Local:
    """What a strategy may know of a round: nothing of it depends on the patients, but the noised model."""
    assert study.privacy.weight is not None
    return Local((after,), study.privacy.weight, study.noised_steps, study.training.learning_rate)


def _unfit(study: Study, why: str) -> StudyInvalid:
    return StudyInvalid(
        f"strategy.name: {study.strategy.name} {why}", "choose another strategy under privacy.noise, such as fedavg"
    )


def weight(study: Study) -> Floats:
    """By what sums are divided, from the plan."""
    return np.array([study.privacy.weight])


def _key(chance: bytes) -> bytes:
    if len(chance) != 32:
        raise Invalid("patients are to be drawn, and there is no key for it", "update the agent")
    return chance


def _summed(
    study: Study, trainer: Trainer, model: Tensors, x: Floats, y: Floats, sample: bytes
) -> tuple[Floats, Floats]:
    """The sum of clipped gradients over whom the key draws, and the gradient of what depends on no patient; (d,)."""
    who = np.flatnonzero(noise.drawn(sample, len(y), study.privacy.sampling))  # places: `take` reads a mask as 0 and 1
    total, rest = trainer.clipped(study, model, x.take(who, axis=0), y.take(who), study.privacy.clip_norm)
    assert total.shape == rest.shape == (sum(values.size for values in model.values()),)
    return total.astype(np.float64), rest.astype(np.float64)


def _grid(study: Study, size: int) -> Noised:
    """How a sum of so many values becomes integers, for this hospital alone."""
    mechanism = Mechanism.of(study)
    assert mechanism is not None and not mechanism.shared
    return Noised(64, mechanism.bound * study.privacy.most_patients, 1, size, mechanism.bound, mechanism.noise)
