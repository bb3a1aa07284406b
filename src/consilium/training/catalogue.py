"""Architectures of torch models by name: functions of the number of inputs and the study's `model.options`.

A catalogue name stands for one layout of parameters for good: another layout is another name.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.training.base import Architecture

Width = Annotated[int, Field(ge=1, le=65_536)]


class Options(BaseModel):
    """Options of an architecture; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def inputs(self) -> int | None:
        """So many values of one signal or image it takes; None: any number of columns, whatever they mean."""
        return None


DROPOUT: Any = Field(
    0.0, ge=0, lt=1,
    description="how often a hidden unit is left out in training, by chance; 0 under an `epsilon` of patients",
)  # fmt: skip


class LogisticOptions(Options):
    """One linear layer: logistic, linear or Poisson regression by the label's type, in PyTorch."""


class MlpOptions(Options):
    """Linear layers with ReLU between them."""

    hidden: tuple[Width, ...] = Field((64, 32), min_length=1, max_length=64, description="widths of the hidden layers")
    dropout: float = DROPOUT


class ResidualOptions(Options):
    """A linear layer, residual blocks with layer normalisation, a linear layer."""

    width: Width = Field(64, description="of every layer")
    blocks: int = Field(2, ge=1, le=64, description="residual blocks")
    dropout: float = DROPOUT


class CnnOptions(Options):
    """Convolutions with group normalisation, ReLU and pooling, then dense layers: for signals, images and volumes.

    The contract's image, or its features, are its values, row by row, channel after channel; none may be missing, for
    a missing value would have a column of its own.
    """

    shape: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = Field(
        min_length=2, max_length=4,
        description="channels, then length of a signal; height and width of an image; depth, height, width of a volume",
    )  # fmt: skip
    channels: tuple[Width, ...] = Field((16, 32), min_length=1, max_length=16, description="of each convolution")
    kernel: int = Field(3, ge=1, le=31, description="places that a convolution sees in each direction: an odd number")
    pool: int = Field(2, ge=1, le=16, description="after each convolution the largest of so many places is kept")
    groups: int = Field(4, ge=1, le=65_536, description="of channels, each normalised together; divides all `channels`")
    places: Literal["all", "mean"] = Field(
        "all", description="what dense layers see of the last convolution: every place, or each channel's mean"
    )
    hidden: tuple[Width, ...] = Field((32,), max_length=64, description="widths of the dense layers but the last")

    @property
    def inputs(self) -> int:
        """As many as the shape has values."""
        return math.prod(self.shape)

    @property
    def sides(self) -> tuple[int, ...]:
        """Of what the last convolution gives, pooled."""
        return tuple(side // self.pool ** len(self.channels) for side in self.shape[1:])

    @model_validator(mode="after")
    def _parts_fit(self) -> "CnnOptions":
        if self.kernel % 2 == 0:
            raise ValueError(f"`kernel` {self.kernel} must be odd, so that a convolution keeps the sides")
        odd = [number for number in self.channels if number % self.groups]
        if odd:
            raise ValueError(f"`groups` {self.groups} must divide each of `channels`, and does not divide {odd[0]}")
        for number, width in enumerate(self.channels):
            if width // self.groups * math.prod(side // self.pool**number for side in self.shape[1:]) == 1:
                raise ValueError(
                    f"`groups` {self.groups} leaves one value in each group of convolution {number + 1}, which "
                    "normalised alone is always 0; use fewer `groups`, or a smaller `pool`"
                )
        if 0 in self.sides:
            raise ValueError(
                f"nothing is left of {list(self.shape[1:])} after {len(self.channels)} times `pool` {self.pool}; "
                "use fewer `channels`, or a smaller `pool`"
            )
        return self


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


CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEANS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def cnn(inputs: int, options: CnnOptions) -> Any:
    """Pooling stands before ReLU, which gives the same for less. Group normalisation treats each patient alone."""
    sizes = len(options.shape) - 1
    layers: dict[str, Any] = {"shape": nn.Unflatten(1, options.shape)}
    before = options.shape[0]
    for number, width in enumerate(options.channels, 1):
        layers[f"conv{number}"] = CONVOLUTIONS[sizes](before, width, options.kernel, padding=options.kernel // 2)
        layers[f"norm{number}"] = nn.GroupNorm(options.groups, width)
        layers[f"pool{number}"] = POOLS[sizes](options.pool)
        layers[f"relu{number}"] = nn.ReLU()
        before = width
    if options.places == "mean":
        layers["mean"] = MEANS[sizes](1)
    layers["flat"] = nn.Flatten()
    before *= math.prod(options.sides) if options.places == "all" else 1
    for number, width in enumerate(options.hidden, 1):
        layers[f"dense{number}"], layers[f"cut{number}"] = nn.Linear(before, width), nn.ReLU()
        before = width
    return nn.Sequential(OrderedDict(layers, last=nn.Linear(before, 1)))


CATALOGUE: Mapping[str, tuple[type[Options], Callable[[int, Any], Any]]] = {
    "logistic": (LogisticOptions, logistic),
    "mlp": (MlpOptions, mlp),
    "residual-mlp": (ResidualOptions, residual_mlp),
    "cnn": (CnnOptions, cnn),
}


def named(name: str) -> Architecture:
    """The architecture of a name.

    Raises: StudyInvalid: there is none of this name. The function itself raises it for options that it does not know.
    """
    _, build = _known(name)

    def built(inputs: int, values: dict[str, Any]) -> Any:
        return build(inputs, options(name, values))

    return built


def check(study: Study) -> None:
    """That a study's architecture is of the catalogue, knows its options, and takes what the contract's features are;
    and that under an epsilon it leaves each patient alone.

    Raises: StudyInvalid: it does not.
    """
    asked = options(str(study.model.architecture), study.model.options)
    if study.privacy.epsilon is not None and not study.privacy.whole and getattr(asked, "dropout", 0.0) > 0:
        raise StudyInvalid(
            "model.options.dropout: not possible under `epsilon`: who is left out hangs on how many patients stand "
            "before, so that one patient more would change the parts of all others, which no noise hides",
            "write 0, or leave it out",
        )
    wanted = asked.inputs
    if wanted is None:
        return
    other = [one.id for one in study.contract.features if one.type != "number" or one.missing == "allowed"]
    if other:
        raise StudyInvalid(
            f"model.architecture: {study.model.architecture} takes the values of one signal or image, and {other[0]} "
            "is no number, or may be missing",
            "give it numbers alone, each with `missing: forbidden`",
        )
    if wanted != (found := study.contract.size):
        raise StudyInvalid(
            f"model.options.shape: it has {wanted} values, and the contract {found} features",
            "give the contract an image of this size, or one feature for each value, row by row, channel after channel",
        )


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
        what = "; ".join(
            f"{'.'.join(('model.options', *map(str, one['loc'])))}: {one['msg'].removeprefix('Value error, ')}"
            for one in found
        )
        known = ", ".join(kind.model_fields) or "none"
        raise StudyInvalid(what, f"options of {name} are: {known}") from error
