"""What a federated algorithm is: an objective at the site, a contribution that can be summed, and an element-wise step.

A strategy owns no loop. Its state is a set of 1-D arrays of the model's length, among them `model`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from consilium.core.errors import StudyInvalid
from consilium.core.tensors import Array, Tensors, Vector


@dataclass(frozen=True)
class LocalObjective:
    """What a site minimises: F(w) + <linear, w> + mu/2 |w - anchor|^2, over flat parameters w (d,)."""

    anchor: Vector | None = None
    mu: float = 0.0
    linear: Vector | None = None

    def gradient(self, at: Vector) -> Vector | float:
        """Gradient (d,) of the terms beside F; 0.0 when there are none."""
        found: Vector | float = 0.0
        if self.linear is not None:
            found = found + self.linear
        if self.mu and self.anchor is not None:
            found = found + self.mu * (at - self.anchor)
        return found


class Options(BaseModel):
    """Options of a strategy; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Strategy(Protocol):
    """Both halves of a federated algorithm."""

    def init(self, model: Vector) -> Tensors:
        """State at round 0 for a flat model (d,)."""
        ...

    def objective(self, model: Vector) -> LocalObjective:
        """What a site minimises, starting from `model` (d,)."""
        ...

    def contribution(self, before: Vector, after: Vector, weight: float) -> Tensors:
        """Segments that are summed over sites: `update` (d,) = weight * (after - before), `weight` (1,)."""
        ...

    def apply_chunk(self, state: Tensors, update: Array, weight: float) -> Tensors:
        """Next state of one chunk: element-wise + - * / sqrt in fixed order, so that everybody gets the same bits.

        Args:    update: summed updates of the chunk.   weight: sum of the weights, > 0.
        """
        ...


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
