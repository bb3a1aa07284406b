"""Per-patient clipping: no patient adds more than a bound to a sum, in Euclidean norm.

A gradient of a linear model is residual times input, and one of a dense layer is delta times activation (Goodfellow,
arXiv 1510.01799): norms of single patients follow without their gradients, and the clipped sum is one product.

Whose gradient is not finite adds nothing. To refuse would say, without noise, that there is such a patient.
"""

import math

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Invalid

Floats = npt.NDArray[np.float64]
SLACK = 1e-9
"""By so much more is clipped than it should be: more than the rounding of a norm over a million values."""


def factors(norms: Floats, bound: float) -> Floats:
    """By how much each patient's gradient is multiplied: (n,) in (0, 1]. Raises: Invalid: no bound, or not finite."""
    if not 0 < bound < math.inf:
        raise Invalid(f"{bound} is no bound", "choose a positive one")
    if not math.isfinite(norms.max(initial=0.0)):
        raise Invalid("a gradient is not finite", "lower the learning rate of the study")
    most = bound * (1 - SLACK)
    return most / np.maximum(norms, most)


@np.errstate(over="ignore", invalid="ignore")  # whose values are beyond all numbers is left out
def linear_sum(inputs: Floats, residuals: Floats, bound: float) -> Floats:
    """Sum over patients of clipped gradients (d,) of a linear model. inputs: (n, d), with the intercept's ones.

    Args:    residuals: the loss's derivative by each patient's score, (n,).
    """
    norms = np.abs(residuals) * np.sqrt(np.vecdot(inputs, inputs))
    if not math.isfinite(norms.max(initial=0.0)):
        told = np.isfinite(norms)
        return linear_sum(inputs[told], residuals[told], bound)
    return inputs.T @ (residuals * factors(norms, bound))


def dense_norms(inputs: list[Floats], deltas: list[Floats]) -> Floats:
    """Norms of each patient's gradient over all layers, weights and biases together.

    Args:    inputs: of each layer, (n, in).   deltas: the loss's derivative by each layer's output, (n, out).
    """
    squares = np.zeros(len(inputs[0]))
    for given, delta in zip(inputs, deltas, strict=True):
        squares += np.vecdot(delta, delta) * (1.0 + np.vecdot(given, given))
    return np.sqrt(squares)


def dense_sum(inputs: list[Floats], deltas: list[Floats], bound: float) -> list[tuple[Floats, Floats]]:
    """Sums over patients of clipped gradients, per layer: weights (in, out) and biases (out,)."""
    norms = dense_norms(inputs, deltas)
    if not math.isfinite(norms.max(initial=0.0)):
        told = np.isfinite(norms)
        return dense_sum([one[told] for one in inputs], [one[told] for one in deltas], bound)
    scale = factors(norms, bound).astype(deltas[0].dtype)
    return [
        (((delta * scale[:, None]).T @ given).T, scale @ delta) for given, delta in zip(inputs, deltas, strict=True)
    ]
