"""Dense layers one after the other, clipped by patient in numpy: small ones wait for torch's bookkeeping."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from consilium.privacy import clip
from consilium.training.slopes import each


@dataclass(frozen=True)
class Link:
    """A dense layer of a chain: names of its parameters, where these lie, and whether a rectifier stands before it."""

    names: tuple[str, str]
    weight: NDArray[Any]
    bias: NDArray[Any]
    cut: bool


def links(module: Any) -> list[Link]:
    """Dense layers one after the other; none, if there is more than that.

    A rectifier works in place on what a layer gave, so that none may stand before the first.
    """
    found: list[Link] = []
    cut = False
    if type(module) is not nn.Sequential:
        return []
    for name, layer in module.named_children():
        if type(layer) is nn.Linear and layer.bias is not None and layer.weight.requires_grad:
            weight, bias = (part.detach().numpy() for part in (layer.weight, layer.bias))
            found.append(Link((f"{name}.weight", f"{name}.bias"), weight, bias, cut))
            cut = False
        elif type(layer) is nn.ReLU and found:
            cut = True
        elif type(layer) is not nn.Dropout:  # one that leaves nothing out: others are not known here
            return []
    return [] if cut else found


def summed(
    chain: list[Link], given: NDArray[Any], slopes: Callable[[NDArray[Any]], Any], bound: float
) -> dict[str, NDArray[Any]]:
    """The sum over patients of gradients clipped to `bound` in Euclidean norm, by name of the parameter.

    Args:    given: (n, width).   slopes: of scores (n,), derivatives of each patient's loss by its own score, (n,).
    Raises:  TrainingFailed: scores or slopes are not one per patient.
    """
    inside, deltas = [], []
    for one in chain:
        if one.cut:
            np.maximum(given, 0, out=given)
        inside.append(given)
        given = given @ one.weight.T
        given += one.bias
    delta = each(slopes, given, len(inside[0]))
    for given, one in zip(reversed(inside), reversed(chain), strict=True):
        deltas.append(delta)
        if given is not inside[0]:
            delta = delta * one.weight if delta.shape[1] == 1 else delta @ one.weight
            if one.cut:
                delta *= given > 0
    found = clip.dense_sum(inside, deltas[::-1], bound)
    made = {}
    for one, (weight, bias) in zip(chain, found, strict=True):
        made[one.names[0]], made[one.names[1]] = weight.T, bias
    return made
