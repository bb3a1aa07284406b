"""Linear, logistic and Poisson regression in numpy: gradient descent on the mean loss, and sums for Newton's method."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from consilium.algorithms.base import Curvature, LocalObjective
from consilium.core.errors import TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Tensors, Vector, flatten, unflatten
from consilium.privacy import clip
from consilium.training import drawn
from consilium.training.base import Floats

CACHED = 2 << 20
"""Bytes of patients' inputs at once, where many sites are trained: a cache holds them from step to step."""
Mean = Callable[[Floats], Floats]
Loss = Callable[[Floats, Floats], Floats]
"""Of each patient, from the linear predictor and the label."""


def _logistic(z: Floats) -> Floats:
    # Not by the hyperbolic tangent, which takes numpy more than twice the time of an exponential.
    found: Floats = np.negative(z)
    np.minimum(found, 700.0, out=found)  # its exponential is a number still
    np.exp(found, out=found)
    found += 1.0
    return np.divide(1.0, found, out=found)


def _rate(z: Floats) -> Floats:
    return np.exp(np.minimum(z, 50.0))


def _half_deviance(z: Floats, y: Floats) -> Floats:
    return _rate(z) - y * z - least_poisson(y)


def least_poisson(y: Floats) -> Floats:
    """The least that rate - y log(rate) can be, patient by patient."""
    return y - y * np.log(np.where(y > 0, y, 1.0))


@dataclass(frozen=True)
class Regression:
    """A generalised linear model with its canonical link: the gradient of its loss is x' (mean(x w) - y) / n."""

    mean: Mean
    each: Loss
    variance: Mean
    """Of the label, as a function of its mean: the derivative of `mean`."""
    begin: Mean | None = None
    """Predictors near given labels, at which iterations begin; None: at the model."""

    def initial(self, study: Study, names: list[str]) -> Tensors:
        """All zeros, unless the study draws them."""
        found = drawn.first(study, names, 1 + len(names))
        return {"weights": found[1:], "intercept": found[:1]}

    def train(
        self, study: Study, model: Tensors, x: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Tensors:
        """Gradient steps of the plan's rate over the plan's batches; the L2 penalty spares the intercept.

        Raises: TrainingFailed: the parameters ran away.
        """
        w = flatten(model)  # by sorted name: intercept first, then weights
        design = np.column_stack([np.ones(len(x)), x])
        penalty = np.full(w.size, study.model.l2)
        penalty[0] = 0.0
        for batch in batches(study, len(y), number):
            part = design if batch is None else design[batch]
            label = y if batch is None else y[batch]
            gradient = part.T @ (self.mean(part @ w) - label) / len(label) + penalty * w
            w = w - objective.step(study.training.learning_rate * (gradient + objective.gradient(w)))
        if not np.all(np.isfinite(w)):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
        return unflatten(w, model)

    def train_many(
        self, study: Study, start: Vector, design: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Floats:
        """The same at many sites of equally many patients at once, each from `start` (d,): (sites, d), flat.

        Args:    design: (d, sites, n), with ones first: feature by feature, so that products run along patients.
                 y: (sites, n).
        Raises:  TrainingFailed: the parameters of a site ran away.
        """
        w: Floats = np.tile(start.astype(np.float64), (len(y), 1))
        some = max(1, CACHED // design[:, 0].nbytes) if len(y) else 1
        for at in range(0, len(y), some):
            here = slice(at, at + some)
            w[here] = self._train_some(study, w[here], design[:, here], y[here], objective, number)
        if not np.all(np.isfinite(w)):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
        return w

    def _train_some(
        self, study: Study, w: Floats, design: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Floats:
        penalty = np.full(w.shape[1], study.model.l2)
        penalty[0] = 0.0
        for batch in batches(study, y.shape[1], number):
            part, label = (design, y) if batch is None else (design[:, :, batch], y[:, batch])
            each = part.transpose(1, 0, 2)  # (sites, d, n)
            residuals = self.mean(np.matmul(w[:, None, :], each)[:, 0, :])
            residuals -= label
            gradient = np.matmul(each, residuals[:, :, None])[:, :, 0] / label.shape[1] + penalty * w
            w = w - objective.step(study.training.learning_rate * (gradient + objective.gradient(w)))
        return w

    def clipped(self, study: Study, model: Tensors, x: Floats, y: Floats, bound: float) -> tuple[Floats, Floats]:
        """Sum over patients of gradients, each of a norm of at most `bound`; and the gradient of the penalty; flat.

        Raises: TrainingFailed: the parameters ran away, whoever the patients are.
        """
        w = flatten(model)
        if not np.all(np.isfinite(w)):
            raise TrainingFailed("the parameters grew without bound", "lower training.learning_rate in the study")
        design = np.column_stack([np.ones(len(x)), x])
        residuals = self.mean(design @ w) - y
        penalty = np.array(study.model.l2 * w)
        penalty[0] = 0.0
        return clip.linear_sum(design, residuals, bound), penalty

    def loss(self, study: Study, model: Tensors, x: Floats, y: Floats) -> float:
        """Mean of half the deviance over patients."""
        return float(np.mean(self.each(x @ model["weights"] + model["intercept"][0], y)))

    def curvature(self, study: Study, model: Tensors, x: Floats, y: Floats, first: bool) -> Curvature:
        """Loss, gradient and Hessian, summed over patients, each of whom brings a share of the penalty."""
        w: Floats = flatten(model).astype(np.float64)
        design: Floats = np.column_stack([np.ones(len(x)), x])
        penalty = np.full(w.size, study.model.l2 * len(y))
        penalty[0] = 0.0
        predictor: Floats = design @ w
        working = self.begin(y) if first and self.begin is not None else predictor
        mean = self.mean(working)
        weight = self.variance(mean)
        gradient = design.T @ (weight * (predictor - working) + mean - y) + penalty * w
        hessian = (design * weight[:, None]).T @ design + np.diag(penalty)
        loss = float(np.sum(self.each(predictor, y)) + 0.5 * np.sum(penalty * np.square(w)))
        return Curvature(loss, gradient, hessian[np.tril_indices(w.size)])

    def predict(self, study: Study, model: Tensors, x: Floats) -> Floats:
        """The mean of the label given x."""
        return self.mean(x @ model["weights"] + model["intercept"][0])


def steps(study: Study, n: int) -> int:
    """How many `batches` a round has."""
    size = study.training.batch_size
    return study.training.epochs * (1 if size == 0 else len(_ends(study, n)))


def _ends(study: Study, n: int) -> list[int]:
    """Where the batches of an epoch end.

    One patient who would be left over for a batch alone joins the one before where a wheel brings the layers: such as
    normalise over a batch, of which one patient has nothing, fail of it. Who uses PyTorch leaves such a batch out
    (`drop_last`); here every patient counts once in an epoch.
    """
    size = study.training.batch_size
    ends = [*range(size, n, size), n]
    alone = study.model.wheel is not None and 1 < size < n and n % size == 1
    return [*ends[:-2], n] if alone else ends


def fewest(study: Study) -> int:
    """Patients of the smallest batch that any hospital of a study may train on."""
    size = study.training.batch_size
    return min(study.min_patients, 2 if size > 1 else size or study.min_patients)


def batches(study: Study, n: int, number: int) -> "Iterator[np.ndarray | None]":
    """Index arrays, or None for all patients; the order follows from the plan's seed and the round alone."""
    size = study.training.batch_size
    if size == 0 or size >= n:
        yield from itertools.repeat(None, study.training.epochs)
        return
    rng = np.random.default_rng([study.training.seed, number])
    for _ in range(study.training.epochs):
        order = rng.permutation(n)
        start = 0
        for end in _ends(study, n):
            yield order[start:end]
            start = end


def Linear() -> Regression:
    """Least squares."""
    return Regression(lambda z: z, lambda z, y: 0.5 * (z - y) ** 2, np.ones_like)


def Logistic() -> Regression:
    """Logistic regression."""
    return Regression(_logistic, lambda z, y: np.logaddexp(0.0, z) - y * z, lambda mean: mean * (1.0 - mean))


def Poisson() -> Regression:
    """Poisson regression with log link."""
    return Regression(_rate, _half_deviance, lambda mean: mean, lambda y: np.log(y + 0.1))
