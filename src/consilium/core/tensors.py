"""Named arrays: flatten and unflatten in sorted order, and safetensors in and out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as _load
from safetensors.numpy import save as _save

from consilium.core.errors import Invalid
from consilium.core.ids import Digest, canonical, digest

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.floating[Any]]
Tensors = dict[str, Array]
_MAPPED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "I8": "i1"}


def flatten(tensors: Mapping[str, Array]) -> Vector:
    """One vector (d,) of all values, by sorted name, row-major; the dtype is the widest of the parts."""
    if not tensors:
        return np.zeros(0)
    return np.concatenate([np.ravel(tensors[name]) for name in sorted(tensors)])


def unflatten(vector: Vector, like: Mapping[str, Array]) -> Tensors:
    """Give `vector` (d,) the names, shapes and dtypes of `like`.

    Raises: Invalid: the sizes differ.
    """
    size = sum(array.size for array in like.values())
    if vector.shape != (size,):
        raise Invalid(f"a vector of shape {vector.shape} does not fit {size} parameters", "use the model of this plan")
    parts: Tensors = {}
    at = 0
    for name in sorted(like):
        array = like[name]
        parts[name] = vector[at : at + array.size].reshape(array.shape).astype(array.dtype, copy=True)
        at += array.size
    return parts


def to_safetensors(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """Serialise named arrays; the same arrays and metadata give the same bytes."""
    data = bytes(_save({name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}))
    if not metadata:
        return data
    # The library writes metadata in an order that changes from call to call: here it is sorted.
    start = 8 + int.from_bytes(data[:8], "little")
    described = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:start])}
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def metadata(data: bytes) -> dict[str, str]:
    """What `to_safetensors` was given beside the arrays. Raises: Invalid: the bytes are not safetensors."""
    try:
        described = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return {str(name): str(value) for name, value in described.get("__metadata__", {}).items()}
    except (ValueError, AttributeError) as error:
        raise Invalid("these bytes are not a safetensors file", "send what `consilium` wrote") from error


def from_safetensors(data: bytes) -> Tensors:
    """Parse safetensors bytes.

    Raises: Invalid: the bytes are not safetensors.
    """
    try:
        return dict(_load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Invalid("these bytes are not a safetensors file", "send what `consilium` wrote") from error


def map_safetensors(path: Path) -> Tensors:
    """The arrays of a safetensors file, mapped and not read; of dtypes that numpy does not know, read.

    Raises: Invalid: the file is not safetensors.
    """
    try:
        with safe_open(path, framework="numpy") as file:  # it checks the header: sizes, offsets, nothing between
            names = list(file.keys())
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            described = json.loads(raw.read(length))
    except (SafetensorError, ValueError, OSError) as error:
        raise Invalid("this is not a safetensors file", "send what `consilium` wrote") from error
    if any(described[name]["dtype"] not in _MAPPED for name in names):
        return from_safetensors(path.read_bytes())
    data = np.memmap(path, dtype=np.uint8, mode="r")[8 + length :]
    found: Tensors = {}
    for name in names:
        start, end = described[name]["data_offsets"]
        kind = np.dtype(_MAPPED[described[name]["dtype"]])
        found[name] = np.frombuffer(data[start:end], kind).reshape(described[name]["shape"])
    return found


def content(tensors: Mapping[str, Array]) -> Digest:
    """The hash of all arrays: names, dtypes, shapes and values to the last bit, in whichever file they stand."""
    told = {
        name: [array.dtype.str, list(array.shape), digest(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)]
        for name, array in tensors.items()
    }
    return digest(canonical(told))


def norm(tensors: Mapping[str, Array]) -> float:
    """Euclidean norm over all values, in float64."""
    return float(np.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in tensors.values())))
