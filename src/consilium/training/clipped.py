"""Per-patient clipping of torch models: the sum of clipped gradients, and no gradient of one patient where avoidable.

One forward and one backward pass give each layer's inputs, and the derivative of the losses by each layer's outputs.
The norm of a patient's gradient follows from both (Goodfellow, arXiv 1510.01799, for dense layers; Rochette et al.,
arXiv 1912.06015, and Bu et al., NeurIPS 2022, arXiv 2205.10683, for convolutions), and so does the clipped sum, by one
more product: there is no second backward pass (Bu et al., ICML 2023, arXiv 2210.00038).

What is summed is what was measured: no patient adds more than the bound, whatever a layer does. Layers are taken from a
list, for one that mixes patients (batch normalisation) would let a patient change the others' gradients. A model with
other layers takes each patient alone (`singly.py`), which is slower, or is refused by name.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from consilium.core.errors import Invalid, StudyInvalid, TrainingFailed
from consilium.training import chained, grouped, singly
from consilium.training.catalogue import Block
from consilium.training.slopes import Slopes, each

SLACK = 2.0**-18
"""By so much, relatively, a gradient is clipped below the bound: more than float32 can be wrong by in its norm."""
PIECE, MANY = 64, 512
"""Patients at once: few, so that unfolded inputs stay in the cache; more, where a model has dense layers alone."""
ROOM = 2
"""By so much a patient's gradient of a convolution may be larger than its unfolded input, to be made at all."""
SHAPELESS = (
    nn.Sequential, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Dropout,
    nn.Identity, nn.Flatten, nn.Unflatten, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, Block,
)  # fmt: skip
"""Modules without parameters of their own that treat each patient alone."""


@dataclass(frozen=True)
class Part:
    """A layer in one pass: squared norms of the patients' gradients (n,), and sums of gradients times factors (n,)."""

    squares: Any
    totals: Callable[[Any], tuple[Any, Any]]
    """Of the weight, and of the bias, which some layers lack."""


def _squares(rows: Any) -> Any:
    """Of each row's norm."""
    return torch.linalg.vector_norm(rows, 2, 1).square_()


def _dense(layer: Any, given: Any, delta: Any) -> Part:
    """The gradient of a patient is delta times input: its norm is the product of both norms."""
    if given.dim() != 2:
        raise TrainingFailed("a dense layer has inputs of shape (n, width) here", "flatten them, or train without DP")
    squares = _squares(given)
    if layer.bias is not None:
        squares = squares + 1.0

    def totals(scale: Any) -> tuple[Any, Any]:
        scaled = delta * scale[:, None]
        return scaled.T @ given, scaled.sum(0)

    return Part(_squares(delta) * squares, totals)


def _convolution(layer: Any, given: Any, delta: Any) -> Part:
    """As for a dense layer, with a row for each place of the kernel.

    Norms come from inner products of rows; or, where a gradient is not much larger than the rows, which are there
    anyway, from the gradients of single patients: then the sum is nearly free.
    """
    columns = _unfolded(layer, given)  # (n, places, kernel times inputs)
    rows = delta.flatten(2).mT  # (n, places, outputs)
    bias, wide = rows.sum(1), columns.shape[2] > rows.shape[2]
    single = None
    if rows.shape[2] <= ROOM * rows.shape[1]:  # what is wider comes last, in up to a tenth of the time
        single = torch.bmm(rows.mT, columns) if wide else torch.bmm(columns.mT, rows)
        squares = _squares(single.flatten(1))
    else:
        squares = (torch.bmm(columns, columns.mT) * torch.bmm(rows, rows.mT)).sum((1, 2))
    if layer.bias is not None:
        squares = squares + _squares(bias)

    def totals(scale: Any) -> tuple[Any, Any]:
        if single is not None:
            weight = (scale @ single.flatten(1)).view(single.shape[1:])
            weight = weight if wide else weight.T
        else:
            weight = (rows * scale[:, None, None]).flatten(0, 1).T @ columns.flatten(0, 1)
        shape = layer.weight.shape
        return weight.unflatten(1, (*shape[2:], shape[1])).movedim(-1, 1), scale @ bias

    return Part(squares, totals)


def _as_image(layer: Any, given: Any) -> Any:
    """A convolution of signals as one of images of one row, channels last in memory: in two thirds of the time."""
    step, beside, apart = ((row, *own) for row, own in ((1, layer.stride), (0, layer.padding), (1, layer.dilation)))
    image, kernel = _last(given.unsqueeze(2)), layer.weight.unsqueeze(2)
    return functional.conv2d(image, kernel, layer.bias, step, beside, apart).squeeze(2)


def _flat(signals: Any) -> Any:
    """The same with channels last in memory: torch pools them so in an eighth of the time."""
    return signals.transpose(1, 2).contiguous().transpose(1, 2) if signals.dim() == 3 else signals


def _unfolded(layer: Any, given: Any) -> Any:
    """What each place of the kernel sees; channels come last, as they do in memory, where the copy is then faster.

    Of one channel, and step by step, places come last: what is copied at once is a row of an image, not of the kernel.
    """
    flat = isinstance(layer, nn.Conv1d)
    size, step, apart, beside = (
        (unit, *told) if flat else told
        for told, unit in (
            (layer.kernel_size, 1), (layer.stride, 1), (layer.dilation, 1), (layer.padding, 0),
        )
    )  # fmt: skip
    whole = functional.pad(_last(given.unsqueeze(2)) if flat else given, (beside[1], beside[1], beside[0], beside[0]))
    out = [(whole.shape[2 + i] - apart[i] * (size[i] - 1) - 1) // step[i] + 1 for i in (0, 1)]
    n, channel, row, column = whole.stride()
    places, kernel = (row * step[0], column * step[1]), (row * apart[0], column * apart[1])
    if whole.shape[1] == step[1] == 1:
        seen = whole.as_strided((len(whole), *size, *out), (n, *kernel, *places))
        return seen.reshape(len(whole), size[0] * size[1], -1).contiguous().mT
    seen = whole.as_strided((len(whole), *out, *size, whole.shape[1]), (n, *places, *kernel, channel))
    return seen.reshape(len(whole), out[0] * out[1], -1).contiguous()  # of one row it would be a view that overlaps


def _norm(layer: Any, given: Any, delta: Any) -> Part:
    """Scale and shift of a normalisation within one patient: as many values as channels, so each patient's are made."""
    if isinstance(layer, nn.GroupNorm):
        weight, bias = grouped.gradients(layer, delta)
    else:
        even = functional.layer_norm(given, layer.normalized_shape, eps=layer.eps)
        about = tuple(range(1, given.dim() - len(layer.normalized_shape)))
        weight, bias = ((one.sum(about) if about else one).flatten(1) for one in (even * delta, delta))
    squares = _squares(weight)
    if layer.bias is not None:
        squares = squares + _squares(bias)
    shape = layer.weight.shape
    return Part(squares, lambda scale: ((scale @ weight).view(shape), (scale @ bias).view(shape)))


KNOWN: Mapping[type, Callable[[Any, Any, Any], Part]] = {
    nn.Linear: _dense, nn.Conv1d: _convolution, nn.Conv2d: _convolution, nn.GroupNorm: _norm, nn.LayerNorm: _norm,
}  # fmt: skip
"""Layers with parameters, and how their parts are found."""


class _Beyond(Exception):
    """Some patients' gradients are not finite. `others`: (n,) whose are."""

    def __init__(self, others: Any) -> None:
        super().__init__()
        self.others = others


@dataclass
class Clipper:
    """Sums clipped gradients of a module, whose parameters are not to be used by anybody else meanwhile.

    A loss enters by its derivative at each patient's score alone, so that no loss over several patients can be asked.

    Raises: StudyInvalid: one of its layers is not known here, or is used in a way that is not.
    """

    module: Any
    _seen: dict[str, tuple[Any, Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Look at every layer, and be told of what goes through it."""
        self._layers: dict[str, Any] = {}
        self._trained = {name: part for name, part in self.module.named_parameters() if part.requires_grad}
        every = list(self.module.named_modules(remove_duplicate=False))
        times = Counter(id(layer) for _, layer in every)
        uses = [id(part) for _, part in self.module.named_parameters(remove_duplicate=False)]
        self._known = len(uses) == len(set(uses)) and all(_known(layer) for _, layer in every)
        for name, layer in every:
            why = "stands in the model twice" if times[id(layer)] > 1 else singly.unfit(layer)
            if why and not self._known:
                raise _unknown(name, layer, why)
            if self._known and any(part.requires_grad for part in layer.parameters(recurse=False)):
                self._layers[name] = layer
                layer.register_forward_hook(self._hook(name))
            elif self._known and type(layer) is nn.Unflatten:
                layer.register_forward_hook(lambda _, __, out: _last(out))
            if self._known and type(layer) is nn.Conv1d:
                layer.forward = partial(_as_image, layer)
            elif self._known and type(layer) is nn.MaxPool1d:
                layer.register_forward_pre_hook(lambda _, given: (_flat(given[0]),))
            elif self._known and type(layer) is nn.GroupNorm and layer.affine:
                layer.forward = partial(grouped.normalised, layer)
        self._chain = chained.links(self.module) if self._known and self._layers else []
        self._names = {
            name: [f"{name}.{own}".lstrip(".") for own, part in layer.named_parameters()]
            for name, layer in self._layers.items()
        }
        self.module.requires_grad_(False)  # no pass computes gradients of weights: they are what is not wanted

    def _hook(self, name: str) -> Callable[[Any, Any, Any], Any]:
        def seen(layer: Any, given: Any, out: Any) -> Any:
            if name in self._seen:
                raise _unknown(name, layer, "is passed twice")
            if out.dim() == 4:
                out = out.contiguous(memory_format=torch.channels_last)  # pooling then takes a fifth of the time
            if not out.requires_grad:
                out.requires_grad_()
            self._seen[name] = given[0].detach(), out
            return out

        return seen

    @np.errstate(over="ignore", invalid="ignore")  # whose values are beyond all numbers is left out
    def sum(self, inputs: Any, slopes: Slopes, bound: float) -> dict[str, NDArray[Any]]:
        """The sum over patients of gradients clipped to `bound` in Euclidean norm, by name of the parameter.

        Whose gradient is not finite adds nothing: to refuse would say, without noise, that there is such a patient.

        Args:    inputs: (n, ...).
        Raises:  Invalid: no bound.   TrainingFailed: scores or slopes are not one per patient.
        """
        if not 0 < bound < float("inf"):
            raise Invalid(f"{bound} is no bound", "choose a positive one")
        total: dict[str, Any] = {}
        if not self._known:
            size = sum(part.numel() for part in self._trained.values())
            one, piece = self._alone, max(1, min(PIECE, singly.MOST // size))
        elif self._chain:
            one, piece = self._chained, MANY
        else:
            one, piece, inputs = self._recorded, PIECE, _last(inputs)
        patients = inputs.shape[0]  # `len` of a tensor takes longer
        for start in range(0, patients, piece):
            here = slice(start, min(start + piece, patients))
            for name, more in self._finite(one, inputs, slopes, here, bound).items():
                # In float32 the sum of very many is off by more, the more they are; and otherwise without one of them.
                total[name] = total[name].astype(np.float64) + more if name in total else more
        return total or {name: np.zeros(tuple(part.shape), np.float32) for name, part in self._trained.items()}

    def _finite(self, one: Callable[..., dict[str, Any]], inputs: Any, slopes: Slopes, here: Any, bound: float) -> Any:
        """The sum over a piece, of those whose gradients are finite."""
        try:
            return one(inputs[here], lambda score: slopes(score, here), bound)
        except _Beyond as found:
            rest = np.arange(len(inputs))[here][found.others]
            return self._finite(one, inputs, slopes, rest, bound) if len(rest) else {}

    def _recorded(self, inputs: Any, slopes: Callable[[Any], Any], bound: float) -> dict[str, Any]:
        """The sum from what the hooks saw, and from torch's own derivatives by the outputs of each layer."""
        self._seen = {}
        try:
            with torch.enable_grad():
                out = self.module(inputs)
            told = torch.from_numpy(each(slopes, out.detach().numpy(), len(inputs)))
            deltas = torch.autograd.grad(out, [one for _, one in self._seen.values()], told)
            parts = {}
            for (name, (given, _)), delta in zip(self._seen.items(), deltas, strict=True):
                parts[name] = KNOWN[type(self._layers[name])](self._layers[name], given, delta)
        finally:
            self._seen = {}
        scale = _factors([part.squares for part in parts.values()], bound)
        return {
            name: one.numpy()
            for layer, names in self._names.items()
            for name, one in zip(names, parts[layer].totals(scale), strict=False)  # a layer may lack a bias
        }

    def _alone(self, inputs: Any, slopes: Callable[[Any], Any], bound: float) -> dict[str, Any]:
        """The sum of what is made for each patient."""
        out, single = singly.gradients(self.module, self._trained, inputs)
        told = torch.from_numpy(each(slopes, out.detach().numpy(), len(inputs))).reshape(-1)
        scale = told * _factors([_squares(part.flatten(1) * told[:, None]) for part in single.values()], bound)
        return {name: (scale @ part.flatten(1)).view(part.shape[1:]).numpy() for name, part in single.items()}

    def _chained(self, inputs: Any, slopes: Callable[[Any], Any], bound: float) -> dict[str, Any]:
        """The sum for dense layers one after the other."""
        return chained.summed(self._chain, inputs.numpy(), slopes, bound * (1 - SLACK))


def _factors(squares: list[Any], bound: float) -> Any:
    norms = torch.sqrt(sum(squares[1:], start=squares[0]))
    if not math.isfinite(float(norms.max())):  # which one value that is no number is, too
        raise _Beyond(torch.isfinite(norms).numpy())
    most = bound * (1 - SLACK)
    return most / norms.clamp_(min=most)


def _known(layer: Any) -> bool:
    """Whether what a layer adds is found here without single patients' gradients."""
    trained = {part.requires_grad for part in layer.parameters(recurse=False)}
    if len(trained) > 1 or getattr(layer, "inplace", False) or (type(layer) is nn.Dropout and layer.p > 0):
        return False
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and (
        layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    ):
        return False
    return type(layer) in KNOWN or (type(layer) in SHAPELESS and getattr(layer, "dim", 1) == 1)


def _last(values: Any) -> Any:
    """Of images, the same with channels last in memory, also where one channel could be read in both ways."""
    if values.dim() != 4:
        return values
    return torch.empty_like(values, memory_format=torch.channels_last).copy_(values)


def _unknown(name: str, layer: Any, why: str) -> StudyInvalid:
    return StudyInvalid(
        f"the layer {name} ({type(layer).__name__}) {why}: its gradients cannot be clipped by patient",
        f"use {', '.join(sorted(kind.__name__ for kind in KNOWN))}, another layer of torch.nn that treats each patient "
        "alone, or train without an epsilon",
    )
