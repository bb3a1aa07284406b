"""Torch architectures of the catalogue as nodes of a graph, layer by layer, in float32 as they are trained."""

from typing import Any

import numpy as np
from torch import nn

from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors
from consilium.onnxfile.nodes import FLOAT, Nodes
from consilium.training import catalogue

SILENT = (nn.Dropout, nn.Identity)
"""Layers that do nothing once a model is trained."""
CONVOLUTIONS, POOLS, MEANS = (tuple(kinds.values()) for kinds in (
    catalogue.CONVOLUTIONS, catalogue.POOLS, catalogue.MEANS,
))  # fmt: skip


def score(nodes: Nodes, study: Study, model: Tensors, columns: str, count: int) -> str:
    """Nodes from `count` columns (N, p) to one number per patient (N, 1), float32. Raises: Invalid: of other layers."""
    module = catalogue.named(str(study.model.architecture))(count, dict(study.model.options))
    return _layer(nodes, module, model, "", nodes.cast(columns, FLOAT))


def _layer(nodes: Nodes, layer: Any, model: Tensors, name: str, x: str) -> str:
    def part(of: str) -> Array:
        return model[f"{name}{of}"]

    def inner(of: str, at: str) -> str:
        return _layer(nodes, getattr(layer, of), model, f"{name}{of}.", at)

    match layer:
        case nn.Sequential():
            for child, found in layer.named_children():
                x = _layer(nodes, found, model, f"{name}{child}.", x)
            return x
        case catalogue.Block():
            changed = nodes.add("Relu", inner("inner", inner("norm", x)))
            return nodes.add("Add", x, inner("outer", changed))
        case nn.Linear():
            return nodes.add("Gemm", x, part("weight"), part("bias"), transB=1)
        case nn.ReLU():
            return nodes.add("Relu", x)
        case nn.LayerNorm():
            return nodes.add("LayerNormalization", x, part("weight"), part("bias"), axis=-1, epsilon=layer.eps)
        case nn.GroupNorm():
            return _groups(nodes, layer, part("weight"), part("bias"), x)
        case nn.Unflatten():
            return nodes.add("Reshape", x, np.array([-1, *layer.unflattened_size]))
        case nn.Flatten():
            return nodes.add("Flatten", x, axis=1)
    if isinstance(layer, SILENT):
        return x
    if isinstance(layer, CONVOLUTIONS):
        return nodes.add("Conv", x, part("weight"), part("bias"), pads=[*layer.padding, *layer.padding])
    if isinstance(layer, POOLS):
        sides = [layer.kernel_size] * (POOLS.index(type(layer)) + 1)
        return nodes.add("MaxPool", x, kernel_shape=sides, strides=sides)
    if isinstance(layer, MEANS):
        return nodes.add("GlobalAveragePool", x)
    raise Invalid(f"a layer of kind {type(layer).__name__} has no ONNX form here", "take the model as safetensors")


def _groups(nodes: Nodes, layer: Any, weight: Array, bias: Array, x: str) -> str:
    """Group normalisation: each group as one instance, then each channel's weight and bias."""
    shape, groups = nodes.add("Shape", x), layer.num_groups
    apart = nodes.add("Reshape", x, np.array([0, groups, -1]))
    ones = np.ones(groups, dtype=np.float32)
    normal = nodes.add("InstanceNormalization", apart, ones, np.zeros_like(ones), epsilon=layer.eps)
    back = nodes.add("Reshape", normal, shape)
    flat = nodes.add("Reshape", back, np.array([0, weight.size, -1]))
    scaled = nodes.add("Add", nodes.add("Mul", flat, weight[:, None]), bias[:, None])
    return nodes.add("Reshape", scaled, shape)
