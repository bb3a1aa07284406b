"""ONNX files that were made elsewhere: what a graph may hold before any runtime sees it. https://onnx.ai/onnx/repo-docs/IR"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from consilium.core.errors import EXTRA, Refused, StudyInvalid
from consilium.training import forests

try:
    import onnx
except ImportError as error:
    raise Refused("ONNX models need the extra", EXTRA.format("onnx"), reason="extra") from error

MOST_BYTES = 64 << 20
MOST_NODES = 20_000
DOMAINS = {"": "ai.onnx", "ai.onnx": "ai.onnx", "ai.onnx.ml": "ai.onnx.ml"}
"""Domains of the standard. All others are operators of somebody's own."""
CHANCE = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""A model that throws dice would give one answer, and on a retry another."""
NESTED = {"g": "graphs", "t": "tensors", "sparse_tensor": "sparse_tensors"}
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def checked(data: bytes) -> Any:
    """The graph's model, of what a runtime needs and nothing else.

    (1) size   (2) it is an ONNX model, and one that onnx's own checker passes   (3) operators of ai.onnx and ai.onnx.ml
    alone, none of them by chance or in training, and none that a file brings with it   (4) no branches, no loops, and
    every way down a tree ends   (5) all values lie in the file, as many as it says, and no path leads to another file
    (6) metadata, words on its maker and unknown fields are dropped: by such a runtime may take it for another format.
    Not checked: what memory and time it takes. The process that runs it has limits of both.

    Raises: StudyInvalid: one of these does not hold.
    """
    _size(len(data))
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # the library names no class of its own for it
        raise StudyInvalid("this is no ONNX file", "give one that `onnx.save` or skl2onnx wrote") from error
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


def _size(count: int) -> None:
    if count > MOST_BYTES:
        raise _refused(f"it has {count >> 20} MiB, more than {MOST_BYTES >> 20}")


def _looked_through(model: Any) -> None:
    graph = model.graph
    if not graph.node or len(graph.node) > MOST_NODES:
        raise _refused(f"its graph has {len(graph.node)} nodes, where 1 to {MOST_NODES} are possible")
    if model.functions or model.training_info:
        raise _refused("it brings operators or training of its own")
    for used in (*model.opset_import, *graph.node):
        if used.domain not in DOMAINS:
            raise _refused(f"it uses operators of {used.domain[:60]!r}, which are not of the standard")
    for node in graph.node:
        _node(node)
    if graph.sparse_initializer:
        raise _refused("it has sparse tensors")
    for tensor in graph.initializer:
        _tensor(tensor)


def _refused(what: str) -> StudyInvalid:
    return StudyInvalid(f"this ONNX file is refused: {what}", "export it anew, by the standard and in one file")


def _node(node: Any) -> None:
    if node.op_type in CHANCE or (node.op_type == "Dropout" and len(node.input) > 2):
        raise _refused(f"its operator {node.op_type} works by chance")
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
                raise _refused(
                    f"its operator {node.op_type[:60]} has a {'graph' if one == 'g' else 'sparse tensor'} inside"
                )
            for tensor in ([attribute.t] if attribute.HasField("t") else []) + list(attribute.tensors):
                _tensor(tensor)


def _tensor(tensor: Any) -> None:
    if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
        raise _refused(f"the values of {tensor.name[:60]!r} lie in another file")
    if any(size < 0 for size in tensor.dims) or tensor.HasField("segment"):
        raise _refused(f"the shape of {tensor.name[:60]!r} is none")
    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(f"the values of {tensor.name[:60]!r} are of no known type") from error
    filled = max(len(getattr(tensor, name)) for name in FIELDS)
    told = len(tensor.raw_data) / width if tensor.HasField("raw_data") else filled
    if told != math.prod(tensor.dims):
        raise _refused(f"{tensor.name[:60]!r} says that it has {math.prod(tensor.dims)} values, and has {told:g}")


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
