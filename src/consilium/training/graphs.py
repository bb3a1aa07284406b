"""ONNX files that were made elsewhere: what a graph may hold before any runtime sees it. https://onnx.ai/onnx/repo-docs/IR"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from consilium.core.errors import EXTRA, Refused, StudyInvalid
from consilium.training import forests

try:
    import onnx
except ImportError as error:
    raise Refused("ONNX models need the extra", EXTRA.format("onnx"), reason="extra") from error

MOST_BYTES = 64 << 20
MOST_NODES = 20_000
MOST_NAMES = 20_000
"""Inputs, constants, and words on values in between."""
MOST_OUTPUTS = 64
MOST_SIDES, MOST_VALUES = 16, 1 << 40
"""Of one tensor: dimensions, and values that a shape may say there are."""
DOMAINS = {"": "ai.onnx", "ai.onnx": "ai.onnx", "ai.onnx.ml": "ai.onnx.ml"}
"""Domains of the standard. All others are operators of somebody's own."""
CHANCE = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""A model that throws dice would give one answer, and on a retry another."""
NESTED = {"g": "graphs", "t": "tensors", "sparse_tensor": "sparse_tensors", "tp": "type_protos"}
INSIDE = {"g": "graph", "sparse_tensor": "sparse tensor", "tp": "type"}
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def checked(data: bytes) -> Any:
    """The graph's model, of what a runtime needs and nothing else.

    (1) size, of it and of all that it counts   (2) it is an ONNX model, and one that onnx's own checker passes
    (3) operators of ai.onnx and ai.onnx.ml alone, none of them by chance or in training, and none that a file brings
    with it   (4) no branches, no loops, and every way down a tree ends   (5) all values lie in the file, as many as it
    says, and no path leads to another file   (6) metadata, words on its maker and unknown fields are dropped: by such
    a runtime may take it for another format.
    Not checked: what memory and time it takes. The process that runs it has limits of both.

    Raises: StudyInvalid: one of these does not hold.
    """
    _size(len(data))
    model = _parsed(data)
    try:
        _looked_through(model)
    except TypeError as error:  # the library gives as bytes what is no text
        raise _refused("a name in it is no text") from error
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        said = str(error).strip() or type(error).__name__
        raise _refused(f"onnx's checker says: {said.splitlines()[0][:200]}") from error
    del model.metadata_props[:]
    for name in ("producer_name", "producer_version", "domain", "doc_string"):
        model.ClearField(name)
    model.DiscardUnknownFields()
    _size(model.ByteSize())
    return model


def metadata(data: bytes) -> dict[str, str]:
    """What an ONNX file says beside its graph; `checked` drops that. Raises: StudyInvalid: it is no such file."""
    return {str(one.key): str(one.value) for one in _parsed(data).metadata_props}


def _parsed(data: bytes) -> Any:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # the library names no class of its own for it
        raise StudyInvalid("this is no ONNX file", "give one that `onnx.save` or skl2onnx wrote") from error
    return model


def _size(count: int) -> None:
    if count > MOST_BYTES:
        raise _refused(f"it has {count >> 20} MiB, more than {MOST_BYTES >> 20}")


def _looked_through(model: Any) -> None:
    graph = model.graph
    if not graph.node or len(graph.node) > MOST_NODES:
        raise _refused(f"its graph has {len(graph.node)} nodes, where 1 to {MOST_NODES} are possible")
    for what, found, most in (
        ("inputs", graph.input, MOST_NAMES), ("outputs", graph.output, MOST_OUTPUTS),
        ("constants", graph.initializer, MOST_NAMES), ("values in between", graph.value_info, MOST_NAMES),
    ):  # fmt: skip
        if len(found) > most:
            raise _refused(f"it has {len(found)} {what}, more than {most}")
    if model.functions or model.training_info:
        raise _refused("it brings operators or training of its own")
    for used in (*model.opset_import, *graph.node):
        if used.domain not in DOMAINS:
            raise _refused(f"it uses operators of {used.domain[:60]!r}, which are not of the standard")
    trees = sum(forests.nodes(node) for node in graph.node if node.op_type.startswith("TreeEnsemble"))
    if trees > forests.MOST:
        raise _refused(f"its trees have {trees} nodes, more than {forests.MOST}")
    for node in graph.node:
        _node(node)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _kind(value.name, value.type)
    if graph.sparse_initializer:
        raise _refused("it has sparse tensors")
    for tensor in graph.initializer:
        _tensor(tensor)


def _refused(what: str) -> StudyInvalid:
    return StudyInvalid(f"this ONNX file is refused: {what}", "export it anew, by the standard and in one file")


def _node(node: Any) -> None:
    if node.op_type in CHANCE or (node.op_type == "Dropout" and len(node.input) > 2):
        raise _refused(f"its operator {node.op_type} works by chance")
    if node.op_type == "TreeEnsemble":
        raise _refused(
            "its operator TreeEnsemble is not known here: write it by version 3 of ai.onnx.ml, as skl2onnx does"
        )
    if node.op_type.startswith("TreeEnsemble") and not forests.ends(node):
        raise _refused("its trees do not end, or are no trees")
    if node.op_type == "BatchNormalization" and len(list(filter(None, node.output))) > 1:
        raise _refused("its operator BatchNormalization learns of patients")
    for attribute in node.attribute:
        if attribute.name == "training_mode" and attribute.i != 0:
            raise _refused(f"its operator {node.op_type[:60]} learns of patients")
        for one, many in NESTED.items():
            if not attribute.HasField(one) and not getattr(attribute, many):
                continue
            if one != "t":
                raise _refused(f"its operator {node.op_type[:60]} has a {INSIDE[one]} inside")
            for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
                _tensor(tensor)


def _tensor(tensor: Any) -> None:
    if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
        raise _refused(f"the values of {tensor.name[:60]!r} lie in another file")
    if tensor.HasField("segment"):
        raise _refused(f"the shape of {tensor.name[:60]!r} is none")
    count = _count(tensor.name, tensor.dims)
    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(f"the values of {tensor.name[:60]!r} are of no known type") from error
    filled = max(len(getattr(tensor, name)) for name in FIELDS)
    told = len(tensor.raw_data) / width if tensor.HasField("raw_data") else filled
    if told != count:
        raise _refused(f"{tensor.name[:60]!r} says that it has {count} values, and has {told:g}")


def _kind(name: str, kind: Any) -> None:
    """Look at every shape in the type of a value."""
    for tensor in ("tensor_type", "sparse_tensor_type"):
        if kind.HasField(tensor):
            sides = getattr(kind, tensor).shape.dim
            _count(name, [side.dim_value for side in sides[: MOST_SIDES + 1] if side.HasField("dim_value")], len(sides))
    for of, inner in (("sequence_type", "elem_type"), ("optional_type", "elem_type"), ("map_type", "value_type")):
        if kind.HasField(of):
            _kind(name, getattr(getattr(kind, of), inner))


def _count(name: str, sides: Sequence[int], number: int = 0) -> int:
    """How many values a shape has."""
    if max(len(sides), number) > MOST_SIDES:
        raise _refused(f"{name[:60]!r} has {max(len(sides), number)} dimensions, more than {MOST_SIDES}")
    if any(side < 0 for side in sides):
        raise _refused(f"the shape of {name[:60]!r} is none")
    if (count := math.prod(sides)) > MOST_VALUES:
        raise _refused(f"the shape of {name[:60]!r} is of more than {MOST_VALUES} values")
    return count


def classes(model: Any) -> list[list[int | str]]:
    """The classes of each classifier of a graph, in the order of its columns of probabilities."""
    return [list(found) for found in dict.fromkeys(_labels(model.graph.node)) if found]


def _labels(nodes: Iterable[Any]) -> Iterator[tuple[int | str, ...]]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("classlabels_ints", "classlabels_int64s"):
                yield tuple(attribute.ints)
            elif attribute.name == "classlabels_strings":
                yield tuple(text.decode(errors="replace") for text in attribute.strings)
