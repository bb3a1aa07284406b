"""Nodes of an ONNX graph, one after the other, and the constants that they take. https://onnx.ai/onnx/operators"""

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from consilium.core.tensors import Array

ML = "ai.onnx.ml"
DOUBLE, FLOAT, WHOLE, TEXT = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


class Nodes:
    """A graph that grows. Names begin with `/`, which no name of a feature does."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str | Array | float, domain: str = "", **attributes: Any) -> str:
        """Add a node of `kind`; returns the name of what it gives. Arrays and numbers become constants."""
        names = [one if isinstance(one, str) else self.constant(np.asarray(one)) for one in inputs]
        out = f"/{len(self.nodes)}/{kind}"
        self.nodes.append(helper.make_node(kind, names, [out], domain=domain, **attributes))
        return out

    def constant(self, values: Array) -> str:
        """Add a constant; returns its name."""
        name = f"/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def cast(self, name: str, to: int) -> str:
        """The same values as another type."""
        return self.add("Cast", name, to=to)
