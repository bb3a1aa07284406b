"""Architectures of torch models by name: functions of the number of inputs and the study's `model.options`.

A catalogue name stands for one layout of parameters for good: another layout is another name.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from consilium.core.errors import StudyInvalid
from consilium.training.base import Architecture

Width = Annotated[int, Field(ge=1, le=65_536)]


class Options(BaseModel):
    """Options of an architecture; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LogisticOptions(Options):
    """None."""


class MlpOptions(Options):
    """Widths of the hidden layers, and how often a hidden unit is left out in training."""

    hidden: tuple[Width, ...] = Field((64, 32), min_length=1, max_length=64)
    dropout: float = Field(0.0, ge=0, lt=1)


class ResidualOptions(Options):
    """Width of every layer, number of residual blocks, and dropout within a block."""

    width: Width = 64
    blocks: int = Field(2, ge=1, le=64)
    dropout: float = Field(0.0, ge=0, lt=1)


class Block(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy
    """x + W2 relu(W1 norm(x)). The layer norm keeps no running statistics, so that nothing but weights is averaged."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        """(n, width) to (n, width)."""
        return x + self.outer(self.dropout(nn.functional.relu(self.inner(self.norm(x)))))


def logistic(inputs: int, options: LogisticOptions) -> Any:
    """One linear layer."""
    return nn.Sequential(nn.Linear(inputs, 1))


def mlp(inputs: int, options: MlpOptions) -> Any:
    """Linear layers with ReLU between them."""
    layers: list[Any] = []
    for width in options.hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(options.dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


def residual_mlp(inputs: int, options: ResidualOptions) -> Any:
    """A linear layer, residual blocks, a linear layer."""
    blocks = [Block(options.width, options.dropout) for _ in range(options.blocks)]
    return nn.Sequential(nn.Linear(inputs, options.width), *blocks, nn.Linear(options.width, 1))


CATALOGUE: Mapping[str, tuple[type[Options], Callable[[int, Any], Any]]] = {
    "logistic": (LogisticOptions, logistic),
    "mlp": (MlpOptions, mlp),
    "residual-mlp": (ResidualOptions, residual_mlp),
}


def named(name: str) -> Architecture:
    """The architecture of a name.

    Raises: StudyInvalid: there is none of this name. The function itself raises it for options that it does not know.
    """
    _, build = _known(name)

    def built(inputs: int, values: dict[str, Any]) -> Any:
        return build(inputs, options(name, values))

    return built


def _known(name: str) -> Any:
    if name not in CATALOGUE:
        raise StudyInvalid(
            f"model.architecture: there is no {name!r} in the catalogue",
            f"known are: {', '.join(CATALOGUE)}; or bring your own as a wheel",
        )
    return CATALOGUE[name]


def options(name: str, values: Mapping[str, Any]) -> Options:
    """Options of an architecture of the catalogue. Raises: StudyInvalid: it is none, or has no such options."""
    kind, _ = _known(name)
    return _parsed(kind, values, name)


def _parsed(kind: type[Options], values: Mapping[str, Any], name: str) -> Options:
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        what = "; ".join(f"model.options.{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found)
        known = ", ".join(kind.model_fields) or "none"
        raise StudyInvalid(what, f"options of {name} are: {known}") from error
