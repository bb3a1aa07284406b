"""A federation of quadratics, F_i(w) = sum of curve/2 (w - at)^2, whose joint optimum is known; training is exact."""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from consilium.algorithms.base import Here, Local, LocalObjective, Single, Strategy, run
from consilium.core import state as chain
from consilium.core.tensors import Tensors

Floats = np.ndarray


@dataclass
class Site:
    """One site: its loss, its patients, its local steps, and what the strategy keeps here."""

    curve: Floats
    at: Floats
    patients: float = 10.0
    steps: int = 5
    memory: Tensors = field(default_factory=dict)

    def loss(self, w: Floats) -> float:
        return float(np.sum(self.curve / 2 * (w - self.at) ** 2))

    def trained(self, start: Floats, objective: LocalObjective, rate: float) -> Floats:
        w = start
        for _ in range(self.steps):
            w = w - objective.step(rate * (self.curve * (w - self.at) + objective.gradient(w)))
        return w


def unequal() -> list[Site]:
    """Three sites of other curvature, other optima, other numbers of patients."""
    rng = np.random.default_rng(3)
    curves, ats = rng.uniform(0.2, 2.0, size=(3, 4)), rng.normal(scale=3, size=(3, 4))
    return [Site(*one) for one in zip(curves, ats, (10.0, 30.0, 20.0), strict=True)]


def optimum(sites: Sequence[Site]) -> Floats:
    """Where the loss of all patients together is least."""
    total = sum(site.patients * site.curve for site in sites)
    found: Floats = sum(site.patients * site.curve * site.at for site in sites) / total
    return found


def federate(
    strategy: Strategy, sites: Sequence[Site], rounds: int, rate: float = 0.1,
    counted: Callable[[int], Collection[int]] | None = None, parts: Mapping[str, slice] | None = None,
) -> Tensors:  # fmt: skip
    """The state after so many rounds from zero; `counted` says which sites' answers arrive in a round."""
    state = strategy.init(np.zeros(sites[0].at.size))
    for number in range(rounds):
        told: list[Tensors] = []
        for index, site in enumerate(sites):
            here = Here(state, site.memory, parts or {"all": slice(0, site.at.size)}, site.loss)
            after = run(strategy.passes(here), partial(site.trained, rate=rate))
            segments, kept = strategy.contribution(here, Local(after, site.patients, site.steps, rate))
            if counted is None or index in counted(number):
                site.memory = kept
                told.append(segments)
        total = folded(told, strategy)
        state = strategy.apply_chunk(state, total, float(total["weight"][0]))
    return state


def folded(told: Sequence[Tensors], strategy: Strategy) -> Tensors:
    """The sums of what sites told; of a strategy that looks at single updates, what stands in the place of the mean."""
    if not isinstance(strategy, Single):
        return {name: sum((one[name] for one in told[1:]), told[0][name]) for name in told[0]}
    files, sums = [], io.BytesIO()
    for one in told:
        chain.write(one, {}, out := io.BytesIO())
        files.append(out.getvalue())
    chain.fold(files, {}, sums, strategy)
    return dict(chain.read(sums.getvalue()).arrays)


def distance(state: Tensors, sites: Sequence[Site]) -> float:
    """How far a state's model is from the joint optimum."""
    return float(np.linalg.norm(state["model"] - optimum(sites)))
