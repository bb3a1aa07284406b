"""FedOpt: FedAvgM (Hsu et al. 2019, https://arxiv.org/abs/1909.06335), FedAdagrad, FedAdam, FedYogi
(Reddi et al., ICLR 2021, https://arxiv.org/abs/2003.00295, algorithm 2; no bias correction, as there).

The mean difference of the sites is a pseudo-gradient for an optimiser of the common model.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import parsed
from consilium.core.tensors import Array, Tensors, Vector


class Momentum(base.Options):
    """`server_learning_rate` and `momentum`."""

    server_learning_rate: float = Field(1.0, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)


class FedAvgM(fedavg.FedAvg):
    """FedAvg with momentum at the coordinator; momentum 0 and rate 1 is FedAvg."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options: Momentum = parsed(Momentum, options, "fedavgm")

    def init(self, model: Vector) -> Tensors:
        """Model, and momentum at zero."""
        return {"model": model, "momentum": np.zeros_like(model)}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """m = momentum * m + mean; model + rate * m."""
        number = state["model"].dtype.type
        momentum = number(self._options.momentum) * state["momentum"] + sums["update"] / number(weight)
        return {"model": state["model"] + number(self._options.server_learning_rate) * momentum, "momentum": momentum}


class Adaptive(base.Options):
    """Rates and decays as in the paper; `tau` bounds the adaptivity."""

    server_learning_rate: float = Field(0.01, gt=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    tau: float = Field(1e-3, gt=0)


Second = Callable[[Array, Array, float], Array]


class FedOpt(fedavg.FedAvg):
    """The adaptive family: first and second moments, and one step; `second` says how the second moment moves."""

    def __init__(self, name: str, second: Second, options: Mapping[str, Any]) -> None:
        self._second = second
        self._options: Adaptive = parsed(Adaptive, options, name)

    def init(self, model: Vector) -> Tensors:
        """Model; first moment at zero; second moment at tau squared."""
        square = np.full_like(model, self._options.tau**2)
        return {"model": model, "first": np.zeros_like(model), "second": square}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Algorithm 2 of the paper, element by element."""
        number, chosen = state["model"].dtype.type, self._options
        mean = sums["update"] / number(weight)
        first = number(chosen.beta1) * state["first"] + number(1 - chosen.beta1) * mean
        second = self._second(state["second"], mean * mean, chosen.beta2)
        step = number(chosen.server_learning_rate) * first / (np.sqrt(second) + number(chosen.tau))
        return {"model": state["model"] + step, "first": first, "second": second}


def _sum(before: Array, square: Array, beta2: float) -> Array:
    return before + square


def _decay(before: Array, square: Array, beta2: float) -> Array:
    number = before.dtype.type
    after: Array = number(beta2) * before + number(1 - beta2) * square
    return after


def _controlled(before: Array, square: Array, beta2: float) -> Array:
    after: Array = before - before.dtype.type(1 - beta2) * square * np.sign(before - square)
    return after


FedAdagrad = partial(FedOpt, "fedadagrad", _sum)
FedAdam = partial(FedOpt, "fedadam", _decay)
FedYogi = partial(FedOpt, "fedyogi", _controlled)
