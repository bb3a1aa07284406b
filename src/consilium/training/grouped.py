"""Group normalisation with channels last in memory, and what each patient's gradient of its scale and shift is.

Torch's own (Wu and He, ECCV 2018, arXiv 1803.08494) wants channels first, while convolutions and pooling are fast with
channels last: copies between both take longer than the normalisation. Sums over places serve twice: for the derivative
by the input, and for the gradients by patient.
"""

import math
from typing import Any

import torch


def normalised(layer: Any, given: Any) -> Any:
    """What `layer`, a `GroupNorm` with scale and shift, makes of (n, channels, ...); it keeps what `gradients` needs.

    Scale and shift are not derived by: nobody wants their gradients of all patients together.
    """
    return _Normalised.apply(given, layer)


def gradients(layer: Any, delta: Any) -> tuple[Any, Any]:
    """Of each patient, by scale and by shift: (n, channels). `delta` is the loss's derivative by what was made."""
    even, spread = layer.measured
    along, bias = layer.summed or _sums(even, _rows(delta))  # there, if what comes before the layer is trained
    return along * spread, bias


class _Normalised(torch.autograd.Function):  # type: ignore[misc]  # mypy has no types of torch
    @staticmethod
    def forward(ctx: Any, given: Any, layer: Any) -> Any:
        rows = _rows(given)
        each = rows.shape[2] // layer.num_groups
        count = rows.shape[1] * each
        even = rows - (_by_channel(rows.sum(1), each) / count)[:, None]
        spread = torch.rsqrt(_by_channel((even * even).sum(1), each) / count + layer.eps)
        layer.measured, layer.summed, ctx.layer = (even, spread), None, layer
        return _placed(torch.addcmul(layer.bias, even, (spread * layer.weight)[:, None]), given.shape)

    @staticmethod
    def backward(ctx: Any, delta: Any) -> Any:
        (even, spread), rows, scale = ctx.layer.measured, _rows(delta), ctx.layer.weight
        ctx.layer.summed = along, bias = _sums(even, rows)
        each = rows.shape[2] // ctx.layer.num_groups
        part = spread / -(rows.shape[1] * each)
        by_mean = _by_channel(scale * bias, each) * part
        by_spread = _by_channel(scale * along, each) * part * spread.square()
        found = torch.addcmul(by_mean[:, None], rows, (spread * scale)[:, None])
        return _placed(found.addcmul_(even, by_spread[:, None]), delta.shape), None


def _sums(even: Any, rows: Any) -> tuple[Any, Any]:
    return (even * rows).sum(1), rows.sum(1)


def _by_channel(of: Any, each: int) -> Any:
    """Sums over the `each` channels of a group, for each of its channels: (n, channels)."""
    return of.unflatten(1, (-1, each)).sum(2).repeat_interleave(each, 1)


def _rows(values: Any) -> Any:
    """(n, channels, ...) as (n, places, channels), contiguous."""
    n, channels, *places = values.shape
    return values.movedim(1, -1).reshape(n, math.prod(places), channels).contiguous()


def _placed(rows: Any, shape: Any) -> Any:
    return rows.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)
