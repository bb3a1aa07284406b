"""What a federated algorithm is: passes of training at the site, segments that can be summed, an element-wise step.

A strategy owns no loop. Its state, which everybody computes, is a set of 1-D arrays: `model` and others of its length,
and single numbers. Its memory is what one site keeps for itself; nobody else sees it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from consilium.core.errors import StudyInvalid
from consilium.core.state import Spread
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors, Vector, flatten
from consilium.core.update import Sum

COUNTED = ("running_mean", "running_var")
"""Ends of names of what a layer counts as patients pass, and no gradient moves."""


@dataclass(frozen=True)
class LocalObjective:
    """What a site minimises: F(w) + <linear, w> + mu/2 |w - anchor|^2, over flat parameters w (d,).

    Args:    trains: (d,) 1 for the parameters over which it is minimised, 0 for those that stay; None: over all.
    """

    anchor: Vector | None = None
    mu: float = 0.0
    linear: Vector | None = None
    trains: Vector | None = None

    def gradient(self, at: Vector) -> Vector | float:
        """Gradient (d,) of the terms beside F; 0.0 when there are none."""
        found: Vector | float = 0.0
        if self.linear is not None:
            found = found + self.linear
        if self.mu and self.anchor is not None:
            found = found + self.mu * (at - self.anchor)
        return found

    def step(self, of: Vector) -> Vector:
        """What a step of the local training moves, of a step (d,) that all parameters would make."""
        return of if self.trains is None else of * self.trains


@dataclass(frozen=True)
class Here:
    """What a strategy works with at a site when a round begins.

    Args:    state: arrays of the common state.   memory: what this strategy kept here after the last round in which
             this site was counted; empty before its first.   parts: where each named part lies in the flat model.
             loss: mean loss of a flat model over the site's training patients, never negative: F without any penalty.
             Where there are no patients, all models are alike.   number: of the round.   late: what was kept with the
             newest answer of this site that came too late to be counted; empty where the newest was in time.
    """

    state: Mapping[str, Array]
    memory: Mapping[str, Array] = field(default_factory=dict)
    parts: Mapping[str, slice] = field(default_factory=dict)
    loss: Callable[[Vector], float] = lambda of: 0.0
    number: int = 0
    late: Mapping[str, Array] = field(default_factory=dict)

    @property
    def model(self) -> Vector:
        """The common model, flat (d,)."""
        return self.state["model"]

    @property
    def moves(self) -> Vector:
        """(d,) 1 where gradients move the model, 0 at what layers count."""
        found = np.ones_like(self.model)
        for name, part in self.parts.items():
            if name.endswith(COUNTED):
                found[part] = 0
        return found


@dataclass(frozen=True)
class Pass:
    """One local training: from `start` (d,), or None: from where the pass before it ended; of F and the terms of
    `objective`.
    """

    start: Vector | None
    objective: LocalObjective = LocalObjective()
    trained: bool = True
    """Whether it is trained at all: a strategy may only ask for the curvature of the loss at `start`."""


@dataclass(frozen=True)
class Curvature:
    """A loss and its derivatives, summed over a site's training patients, at a flat model (d,).

    Args:    loss: may be less the same number at all models, as that of a model without effects.   gradient: (d,).
             hessian: its lower triangle, row by row (d (d + 1) / 2,).
    """

    loss: float
    gradient: Vector
    hessian: Vector


@dataclass(frozen=True)
class Validation:
    """A site's training patients in two parts: those who are fitted, and those by whom is chosen among what was fitted.

    Args:    curvature: as that of `Local`, over those who are fitted.   fitted: how many they are.
             loss: of a flat model, summed over the others, without any penalty; as that of `Curvature`.
    """

    curvature: Callable[[Vector, bool], Curvature]
    fitted: float
    loss: Callable[[Vector], float]


@dataclass(frozen=True)
class Leaving:
    """Sums over a site's training patients by the time at which their observation ended, in k spans of times.

    Args:    events: (k,) how many had the event then.   all: (k, 1 + d + d (d + 1) / 2) over all whose observation
             ended: of hazards; of hazards times each of d columns; and times each product of two, as a lower triangle.
             tied: the same over those with the event; zero where ties are Breslow's.   moved: (d,) sums of the columns
             of those with the event.   penalty: factor of half the squares of the parameters.
    """

    events: Array
    all: Array
    tied: Array
    moved: Vector
    penalty: float


class Timed(Protocol):
    """Times of a site's training patients, by spans that begin at `edges` (k,); the first holds all times before it."""

    def counted(self, edges: Array) -> tuple[Array, Array]:
        """How many had the event in each span (k,), and of how many observation ended without (k,)."""
        ...

    def leaving(self, model: Vector, edges: Array, centre: Vector) -> Leaving:
        """Sums by span, at a flat model; hazards are relative to that of a patient with the columns `centre`."""
        ...


def run(passes: Iterable[Pass], train: Callable[[Vector, LocalObjective], Vector]) -> tuple[Vector, ...]:
    """The model after each pass, by a training from a model (d,)."""
    after: list[Vector] = []
    for one in passes:
        start = after[-1] if one.start is None else one.start
        after.append(train(start, one.objective) if one.trained else start)
    return tuple(after)


def used(passes: Iterable[Pass]) -> Vector:
    """The model that a site uses: the last from which a pass starts."""
    return [one.start for one in passes if one.start is not None][-1]


@dataclass(frozen=True)
class Local:
    """What the passes of one round gave at a site.

    Args:    after: the model after each pass, flat.   patients: that were trained with.   steps: of gradient, in one
             pass.   rate: step size.   curvature: of a flat model, where the trainer knows it; the second argument asks
             for the one at which iterations begin.   sums: what the strategy adds up, with its limits.
             timed: of a model of times.   validation: where the study asks for it.
    """

    after: tuple[Vector, ...]
    patients: float
    steps: int
    rate: float
    curvature: Callable[[Vector, bool], Curvature] | None = None
    sums: Mapping[str, Sum] = field(default_factory=dict)
    timed: Timed | None = None
    validation: Validation | None = None


class Options(BaseModel):
    """Options of a strategy; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Strategy(Protocol):
    """Both halves of a federated algorithm."""

    def init(self, model: Vector) -> Tensors:
        """State at round 0 for a flat model (d,): arrays of its length and type, and single numbers, float64 (1,)."""
        ...

    def sums(self, study: Study, length: int) -> Mapping[str, Sum]:
        """What is summed in a round of training, beside `weight`, for a model of so many parameters."""
        ...

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The local trainings of a round. The last model that they start from is the one that this site uses: that
        one is judged on its held-out patients.
        """
        ...

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Segments that are summed over sites: those of `sums`, and `weight` (1,); and what is kept here."""
        ...

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """Next state of one chunk: element-wise + - * / sqrt in fixed order, so that everybody gets the same bits.

        Args:    state, sums: this chunk of the arrays of the model's length, and single numbers whole.
                 weight: sum of the weights, > 0.
        """
        ...


@runtime_checkable
class Single(Protocol):
    """A strategy that looks at single updates, and so needs the recipe `plain`. `least`: sites without which it cannot.

    What it makes of them stands in the place of the mean; the coordinator alone computes it.
    """

    least: int

    def shares(self, of: Spread, sites: int) -> Array:
        """How much each site counts (n,)."""
        ...

    def combine(self, changes: Array, shares: Array) -> Array:
        """What stands for the mean of these changes (n, m) of one chunk: (m,). Each finite, in float64."""
        ...


def fits(study: Study, strategy: Strategy) -> None:
    """Whether a strategy can have what it needs in a study. Raises: StudyInvalid: says what it lacks."""
    if not isinstance(strategy, Single):
        return
    if study.privacy.recipe != "plain":
        raise StudyInvalid(
            f"strategy.name: {study.strategy.name} looks at single updates, and nobody sees any under "
            f"{study.privacy.recipe}",
            "choose another strategy, or `privacy: {recipe: plain}`, which each hospital must accept by name",
        )
    if study.quorum < strategy.least:
        raise StudyInvalid(
            f"quorum: {study.strategy.name} with these options needs {strategy.least} hospitals in every round",
            "raise quorum, or lower strategy.options.liars",
        )


def begins(strategy: Strategy, model: Tensors) -> None:
    """Whether a strategy can begin at a model. Raises: StudyInvalid: says what it has, or lacks."""
    strategy.passes(Here(strategy.init(flatten(model)), parts=parts_of(model)))


def parts_of(model: Mapping[str, Array]) -> dict[str, slice]:
    """Where each part of a model lies once it is flat."""
    found, at = {}, 0
    for name in sorted(model):
        found[name] = slice(at, at + model[name].size)
        at = found[name].stop
    return found


def parsed(kind: type[BaseModel], values: Mapping[str, Any], name: str) -> Any:
    """Options of a strategy. Raises: StudyInvalid: names the option and the remedy."""
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.model_fields) or "none"
        raise StudyInvalid(f"strategy.options.{where}: {first['msg']}", f"options of {name} are: {known}") from error


def weighted(before: Vector, after: Vector, weight: float) -> Tensors:
    """The contribution of all strategies that average differences."""
    return {"update": weight * (after - before), "weight": np.array([weight])}


def one(number: float) -> Array:
    """A single number as a segment, or in a state or memory."""
    return np.array([float(number)])
