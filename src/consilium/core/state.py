"""The state chain: model and optimiser arrays on file, advanced element by element, named by the digest of its bytes.

A state file is safetensors: 1-D arrays (`model`, and the strategy's own: others of its length, or single numbers; of a
small model that is advanced as a whole, arrays of any length), with metadata that names the run, the round and the
parent state. The coordinator and every site compute the next file themselves from the state before and the opened sums,
chunk by chunk in fixed order, and compare digests; so memory does not grow with the number of sites, and a replay gives
the same bits.
"""

import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np

from consilium.core.errors import Invalid
from consilium.core.ids import Digest
from consilium.core.tensors import Array, Tensors, flatten, from_safetensors, map_safetensors
from consilium.core.writer import Writer

CHUNK = 1 << 18
"""Elements per step: 1 MiB of float32, 2 MiB of float64; small enough for the processor's cache."""
MAX_HEADER = 1 << 20
CARRIED = "prepare/"
"""Begin of names of arrays that no strategy knows: they were learned before training, and stand in each later state."""
_DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U16": "<u2", "U32": "<u4", "U64": "<u8"}.items()
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ENCODER = json.JSONEncoder(separators=(",", ":"))
Source = bytes | Path
"""A file of vectors: its bytes, where it is small, or its place."""


class Advances(Protocol):
    """What the state chain needs of a strategy."""

    def init(self, model: Array) -> Tensors:
        """The state at round 0 for a flat model (d,)."""
        ...

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        """The next state of one chunk; element-wise, but for single numbers, which come whole."""
        ...


@runtime_checkable
class Whole(Protocol):
    """A strategy whose step is no function of single elements: its one chunk is the whole state, and the whole sums.

    Its arrays may have any length, as the sums of a round may. `most`: parameters of the largest model that it takes.
    """

    most: int


class Combines(Protocol):
    """What is put in the place of the mean of updates, by a strategy that looks at single ones."""

    least: int

    def shares(self, of: "Spread", sites: int) -> Array:
        """How much each file counts (n,)."""
        ...

    def combine(self, changes: Array, shares: Array) -> Array:
        """What stands for the mean of changes (n, m): (m,)."""
        ...


@dataclass(frozen=True)
class Vectors:
    """1-D arrays of one safetensors file, mapped and not read; its metadata; and its first bytes, which name them."""

    arrays: Mapping[str, Array]
    metadata: Mapping[str, str]
    head: bytes

    @property
    def shape(self) -> dict[str, tuple[str, int]]:
        """Name: (dtype, length); equal for files that may be summed."""
        return {name: (_NAMES[array.dtype], array.size) for name, array in self.arrays.items()}


@lru_cache(64)
def plain_header(shape: tuple[tuple[str, tuple[str, int]], ...]) -> bytes:
    """The first bytes of a file of arrays of these names, types and lengths, without metadata."""
    return header(dict(shape))


def header(shape: Mapping[str, tuple[str, int]], metadata: Mapping[str, str] | None = None) -> bytes:
    """The first bytes of a safetensors file of 1-D arrays, by sorted name."""
    described: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name in sorted(shape):
        dtype, size = shape[name]
        end = at + size * _DTYPES[dtype].itemsize
        described[name] = {"dtype": dtype, "shape": [size], "data_offsets": [at, end]}
        at = end
    text = _ENCODER.encode(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read(source: Source) -> Vectors:
    """Map a file of 1-D arrays without reading them.

    Raises: Invalid: not a safetensors file of 1-D arrays of floats or integers, or values lie outside the file.
    """
    refusal = Invalid("this file is not a safetensors file of 1-D arrays", "send what `consilium` wrote")
    whole_file = source if isinstance(source, bytes) else _map(source)
    length = int.from_bytes(whole_file[:8], "little")
    if len(whole_file) < 8 or length > min(MAX_HEADER, len(whole_file) - 8):
        raise refusal
    text = whole_file[8 : 8 + length]
    data = np.frombuffer(whole_file, np.uint8)[8 + length :]
    arrays, spans, at = dict[str, Array](), list[list[int]](), 0
    try:
        described = json.loads(text)
        metadata = described.pop("__metadata__", {})
        whole = set(map(type, metadata.values())) <= {str}
        for name, entry in described.items():  # one loop, and few calls: each round reads a dozen files
            arrays[name] = _mapped(data, entry)
            spans.append(entry["data_offsets"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refusal from error
    for start, end in sorted(spans):
        whole, at = whole and start == at, end
    if not whole or at != data.size:
        raise refusal  # a hole or an overlap: bytes that no segment names, or that two do
    return Vectors(arrays, metadata, whole_file[: 8 + length])


def vectors(source: Source | Vectors) -> Vectors:
    """The same of a file that may have been read already. Raises: as `read`."""
    return source if isinstance(source, Vectors) else read(source)


def _map(path: Path) -> bytes | mmap.mmap:
    # numpy.memmap does the same and takes many times longer: it resolves the path, and each of its slices is a memmap.
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # there is nothing to map
            return b""


def _mapped(data: Array, entry: Any) -> Array:
    (start, end), (count,), dtype = entry["data_offsets"], entry["shape"], _DTYPES[entry["dtype"]]
    if {type(start), type(end), type(count)} != {int} or not 0 <= start <= end <= data.size:
        raise ValueError("offsets outside the file")
    if end - start != count * dtype.itemsize:
        raise ValueError("offsets that do not fit the shape")
    return data[start:end].view(dtype)


def kind(array: Array) -> str:
    """The type of an array's values, by its name in a file. Raises: KeyError: no such file holds it."""
    return _NAMES[array.dtype]


def dtype(kind: str) -> np.dtype[Any]:
    """The type of that name."""
    return _DTYPES[kind]


def raw(array: Array) -> memoryview:
    """An array's bytes."""
    return np.ascontiguousarray(array).data.cast("B")


def write(vectors: Mapping[str, Array], metadata: Mapping[str, str], out: IO[bytes]) -> tuple[Digest, int]:
    """Write 1-D arrays; the same arrays and metadata give the same bytes. Returns digest and size."""
    writer = Writer(out)
    writer.write(header({name: (_NAMES[array.dtype], array.size) for name, array in vectors.items()}, metadata))
    for name in sorted(vectors):
        array = vectors[name]
        for start in range(0, array.size, CHUNK):
            writer.write(raw(array[start : start + CHUNK]))
    return writer.digest(), writer.size


def begin(strategy: Advances, initial: bytes | Path, run: str, out: IO[bytes]) -> tuple[Digest, int]:
    """Write the state at round 0 from the plan's initial model (safetensors; a file is mapped: memory is one model).

    Raises: Invalid: not a model of float64 or float32 values, all finite.
    """
    model = flatten(map_safetensors(initial) if isinstance(initial, Path) else from_safetensors(initial))
    if _NAMES.get(model.dtype) not in ("F64", "F32") or not model.size or not np.all(np.isfinite(model)):
        raise Invalid(
            "the initial model does not consist of finite values of float32 or float64", "submit the study again"
        )
    return write(strategy.init(model), {"run": run, "round": "0", "parent": ""}, out)


def advance(
    strategy: Advances, before: Source | Vectors, parent: Digest, aggregate: Source | Vectors, run: str, number: int,
    out: IO[bytes],
) -> tuple[Digest, int]:  # fmt: skip
    """Write the state that follows `before` (whose digest is `parent`) under the sums in `aggregate`.

    Raises: Invalid: the sums do not fit the state, or their weight is not positive.
    """
    state, sums = vectors(before), vectors(aggregate)
    weight = sums.arrays.get("weight")
    if weight is None or weight.size != 1 or not float(weight[0]) > 0:
        raise Invalid("the sums have no positive weight", "check that every site has training patients")
    update, model = sums.arrays.get("update"), state.arrays.get("model")
    whole = hasattr(strategy, "most")  # it is `Whole`; to ask a protocol takes longer than this step
    if model is None or not (whole or _fit(own(state.arrays), model.size)):
        raise Invalid("the state has no model, or arrays of another length beside it", "fetch the state again")
    summed = {name: array for name, array in sums.arrays.items() if added(name)}
    if update is None or update.size != model.size or not (whole or _fit(summed, model.size)):
        raise Invalid("the summed update does not fit the model", "check that every site trains the same plan")
    stamp = {"run": run, "round": str(number), "parent": parent}
    try:
        if whole:
            return _as_a_whole(strategy, state, summed, float(weight[0]), stamp, out)
        writer = Writer(out)
        writer.write(header(state.shape, stamp))
        for name in sorted(state.arrays):
            if name.startswith(CARRIED):
                writer.write(raw(state.arrays[name]))
                continue
            for piece in _advanced(strategy, state, summed, float(weight[0]), name):
                writer.write(raw(piece))
    except KeyError as error:
        raise Invalid(f"the sums lack {error}, which the strategy needs", "update the agents") from error
    return writer.digest(), writer.size


def extend(
    before: Source | Vectors, more: Mapping[str, Array], metadata: Mapping[str, str], out: IO[bytes]
) -> tuple[Digest, int]:
    """Write a state as it is, with more arrays to be carried from then on; their names begin with `CARRIED`."""
    return write({**vectors(before).arrays, **more}, metadata, out)


def carried(arrays: Mapping[str, Array]) -> Tensors:
    """The arrays of a state that no strategy knows."""
    return {name: array for name, array in arrays.items() if name.startswith(CARRIED)}


def own(arrays: Mapping[str, Array]) -> Tensors:
    """The arrays of a state that are its strategy's."""
    return {name: array for name, array in arrays.items() if not name.startswith(CARRIED)}


def _fit(arrays: Mapping[str, Array], size: int) -> bool:
    return all(array.size in (1, size) for array in arrays.values())


def _as_a_whole(
    strategy: Advances,
    state: Vectors,
    sums: Mapping[str, Array],
    weight: float,
    stamp: Mapping[str, str],
    out: IO[bytes],
) -> tuple[Digest, int]:
    after = strategy.apply_chunk(own(state.arrays), dict(sums), weight) | carried(state.arrays)
    if {name: (kind(array), array.size) for name, array in after.items()} != state.shape:
        raise Invalid("the next state has other arrays than the one before", "update the release")
    return write(after, stamp, out)


def added(name: str) -> bool:
    """Whether a segment of a sum is one of the strategy's, and no figure or count."""
    return name not in ("weight", "clamped") and not name.startswith("metrics/")


def _advanced(
    strategy: Advances, state: Vectors, sums: Mapping[str, Array], weight: float, name: str
) -> Iterator[Array]:
    # A state of k arrays is computed k times, array by array: the file is written front to back and hashed once.
    size = state.arrays["model"].size
    for start in range(0, state.arrays[name].size, CHUNK):
        part = slice(start, min(start + CHUNK, size))
        chunk, added = (
            {key: array if array.size < size else array[part] for key, array in of.items()}
            for of in (own(state.arrays), sums)
        )
        yield strategy.apply_chunk(chunk, added, weight)[name]


def finite(vectors: Vectors) -> bool:
    """Whether every value is finite."""
    parts = (array[start : start + CHUNK] for array in vectors.arrays.values() for start in range(0, array.size, CHUNK))
    return all(map(_finite, parts))


def _finite(values: Array) -> bool:
    return bool(np.logical_and.reduce(np.isfinite(values)))  # what `all` comes to, by a function of Python's less


def fold(
    contributions: Sequence[Source | Vectors],
    metadata: Mapping[str, str],
    out: IO[bytes],
    single: Combines | None = None,
) -> tuple[Digest, int]:
    """Sum the segments that all files have, chunk by chunk, in the order given: sort by site, for a replay's same bits.

    Memory: one chunk, whatever the number of files and their size. A segment that one file lacks is left out: no site
    can spoil a round for the others by sending less.

    Args:    single: combines the updates in its own way; what is written is that times the sum of weights, so that the
             next state follows from it as from a sum. All files are given at once, and a chunk of each is in memory.
    Raises:  Invalid: no files, a segment of unequal layouts, a sum that is not finite, or too few files for `single`.
    """
    files = list(map(vectors, contributions))
    first, *others = [file.shape for file in files] or [{}]
    shared = {name: shape for name, shape in first.items() if all(name in other for other in others)}
    if not shared or any(other[name] != shape for other in others for name, shape in shared.items()):
        raise Invalid(
            "the contributions of this round do not have one layout", "check that every site runs one release"
        )
    writer = Writer(out)
    writer.write(header(shared, metadata))
    for name, (_, size) in sorted(shared.items()):
        parts = _added_up(files, name, size) if single is None or name != "update" else _combined(files, size, single)
        for total in parts:
            _demand_finite(name, total)
            writer.write(raw(total))
    return writer.digest(), writer.size


def demand_finite(sums: Vectors) -> None:
    """Refuse sums of a round as `fold` does. Raises: Invalid: nothing was added up, or a sum is not finite."""
    if not sums.arrays:
        raise Invalid("there are no contributions to this round", "check that every site runs one release")
    for name, array in sums.arrays.items():
        _demand_finite(name, array)


def _demand_finite(name: str, total: Array) -> None:
    if not _finite(total):
        raise Invalid(f"the sum of segment {name!r} is not finite", "lower the learning rate of the study")


FARTHEST = 1e140
"""A change is not taken for larger, so that a sum of squares is still a number."""


@dataclass(frozen=True)
class Spread:
    """The mean changes of sites, and how they lie to one another; chunk by chunk, in fixed order."""

    files: Sequence[Vectors]
    size: int

    @property
    def weights(self) -> Array:
        """Of each file (n,)."""
        return np.array([float(file.arrays["weight"][0]) for file in self.files])

    def changes(self) -> Iterator[Array]:
        """Updates by weights, (n, m) float64, chunk by chunk."""
        weights = self.weights[:, None]
        for start in range(0, self.size, CHUNK):
            rows = [file.arrays["update"][start : start + CHUNK].astype(np.float64) for file in self.files]
            yield np.clip(np.stack(rows) / weights, -FARTHEST, FARTHEST)

    def squares(self) -> Array:
        """Squared distances (n, n)."""
        found = np.zeros((len(self.files), len(self.files)))
        for part in self.changes():
            for index, row in enumerate(part):
                found[index] += np.sum((part - row) ** 2, axis=1)
        return found

    def products(self, centre: int) -> Array:
        """Inner products of differences from one of them (n, n)."""
        found = np.zeros((len(self.files), len(self.files)))
        for part in self.changes():
            apart = part - part[centre]
            for index, row in enumerate(apart):
                found[index] += np.sum(apart * row, axis=1)
        return found


def _added_up(files: Sequence[Vectors], name: str, size: int) -> Iterator[Array]:
    for start in range(0, size, CHUNK):
        total = np.array(files[0].arrays[name][start : start + CHUNK])
        for file in files[1:]:
            total += file.arrays[name][start : start + CHUNK]
        yield total


def _combined(files: Sequence[Vectors], size: int, single: Combines) -> Iterator[Array]:
    if len(files) < single.least:
        raise Invalid(f"{len(files)} hospitals answered, and the strategy needs {single.least}", "raise quorum")
    spread = Spread(files, size)
    shares, kind = single.shares(spread, len(files)), files[0].arrays["update"].dtype
    for part in spread.changes():
        yield (spread.weights.sum() * single.combine(part, shares)).astype(kind)
