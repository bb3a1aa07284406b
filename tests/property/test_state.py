"""Files of the state chain, mutated and random: what reads them gives arrays or says `Invalid`, and nothing else."""

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from consilium.algorithms.fedavg import FedAvg
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.tensors import from_safetensors, to_safetensors

MEAN = FedAvg({})


def whole(arrays: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    chain.write({name: np.asarray(values) for name, values in arrays.items()}, metadata or {}, out)
    return out.getvalue()


GOOD = whole({"update": np.arange(6.0), "weight": [3.0], "metrics/n": [1, 2]}, {"run": "r-1"})


@contextmanager
def on_file(*contents: bytes) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(number) for number in range(len(contents))]
        for path, data in zip(paths, contents, strict=True):
            path.write_bytes(data)
        yield paths


def only_invalid(act: Callable[[], object]) -> None:
    try:
        act()
    except Invalid as error:
        assert error.message and "\n" not in str(error)


def readings(data: bytes) -> None:
    """Everything that reads bytes which somebody else sent."""
    with on_file(data, GOOD) as (path, good):
        only_invalid(lambda: [np.array(array) for array in chain.read(path).arrays.values()])
        only_invalid(lambda: chain.fold([path, good], {}, io.BytesIO()))
        only_invalid(lambda: chain.fold([path], {}, io.BytesIO()))
        only_invalid(lambda: chain.advance(MEAN, good, chain.Digest("x"), path, "r-1", 1, io.BytesIO()))
        only_invalid(lambda: chain.advance(MEAN, path, chain.Digest("x"), good, "r-1", 1, io.BytesIO()))
    only_invalid(lambda: from_safetensors(data))
    only_invalid(lambda: chain.begin(MEAN, data, "r-1", io.BytesIO()))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
@example(b"")
@example(bytes(8))
@example(b"\xff" * 8)
def test_random_bytes_are_refused_as_invalid(data: bytes) -> None:
    readings(data)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_bytes_are_refused_as_invalid_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, byte in changes:
        data[at] = byte
    readings(bytes(data))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 99)
    | st.floats()
    | st.sampled_from(["F64", "F32", "I64", "F16", "BF16"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
entries = st.fixed_dictionaries({"dtype": values, "shape": values, "data_offsets": values}) | values
headers = st.dictionaries(st.sampled_from(["model", "update", "weight", "__metadata__"]), entries, max_size=3) | values


@settings(max_examples=120, deadline=None)
@given(headers)
@example({"__metadata__": None, "update": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}})
@example({"__metadata__": [1], "update": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}})
@example({"__metadata__": {"run": 1}, "update": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}})
@example({"update": {"dtype": "BF16", "shape": [16], "data_offsets": [0, 32]}})
@example({"update": {"dtype": "F8_E4M3", "shape": [32], "data_offsets": [0, 32]}})
@example({"model": {"dtype": "F16", "shape": [16], "data_offsets": [0, 32]}})
@example({"model": {"dtype": "BOOL", "shape": [32], "data_offsets": [0, 32]}})
@example({"update": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]}})
def test_headers_of_any_form_are_refused_as_invalid_or_read(header: object) -> None:
    text = json.dumps(header).encode()
    readings(len(text).to_bytes(8, "little") + text + bytes(32))


@pytest.mark.parametrize(
    "spans", [{"a": [0, 32], "b": [0, 32]}, {"a": [0, 8], "b": [16, 32]}, {"a": [0, 24], "b": [16, 32]}]
)
def test_segments_that_overlap_or_leave_a_hole_are_refused(tmp_path: Path, spans: dict[str, list[int]]) -> None:
    described = {
        name: {"dtype": "F64", "shape": [(end - start) // 8], "data_offsets": [start, end]}
        for name, (start, end) in spans.items()
    }
    text = json.dumps(described).encode()
    (tmp_path / "file").write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
    with pytest.raises(Invalid):
        chain.read(tmp_path / "file")


@pytest.mark.parametrize("metadata", [None, [], "x", {"run": 1}, {"run": None}, {"run": ["r-1"]}])
def test_metadata_that_are_not_text_are_refused(tmp_path: Path, metadata: object) -> None:
    entry = {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}
    text = json.dumps({"__metadata__": metadata, "update": entry}).encode()
    (tmp_path / "file").write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
    with pytest.raises(Invalid):
        chain.read(tmp_path / "file")


sizes = st.integers(1, 20)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), sizes, st.integers(1, 7), st.integers(0, 99))
def test_the_size_of_a_chunk_does_not_change_a_bit(sites: int, size: int, chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    files = [whole({"update": rng.normal(size=size), "weight": [float(w)]}) for w in rng.integers(1, 99, sites)]
    model = to_safetensors({"w": rng.normal(size=size).astype(np.float32)})

    def chained() -> tuple[bytes, bytes]:
        with on_file(b"", b"", *files) as (summed, before, *paths):
            with summed.open("wb") as out:
                chain.fold(paths, {"run": "r-1"}, out)
            with before.open("wb") as out:
                parent, _ = chain.begin(MEAN, model, "r-1", out)
            after = io.BytesIO()
            chain.advance(MEAN, before, parent, summed, "r-1", 1, after)
            return summed.read_bytes(), after.getvalue()

    usual, kept = chained(), chain.CHUNK
    try:
        chain.CHUNK = chunk
        assert chained() == usual == chained(), "a replay gives the same bits"
    finally:
        chain.CHUNK = kept


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text("abcd/._", min_size=1, max_size=5), sizes, min_size=1, max_size=4), st.integers(0, 99))
def test_what_is_written_is_read_back_by_us_and_by_safetensors(shape: dict[str, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = (np.float64, np.float32, np.int64)
    arrays = {name: rng.normal(size=size).astype(kinds[seed % 3]) for name, size in shape.items()}
    data = whole(arrays, {"run": "r-1", "round": "3"})
    assert data == whole(dict(reversed(arrays.items())), {"round": "3", "run": "r-1"}), "one content, one file"
    others = load(data)
    with on_file(data) as (path,):
        found = chain.read(path)
        assert found.metadata == {"run": "r-1", "round": "3"}
        assert found.arrays.keys() == others.keys() == arrays.keys()
        for name, array in arrays.items():
            assert np.array_equal(found.arrays[name], array) and np.array_equal(others[name], array)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8, np.int32, np.bool_, np.complex64])
def test_an_initial_model_of_numbers_that_cannot_be_averaged_is_refused(dtype: type) -> None:
    try:
        data = save({"w": np.ones(4, dtype=dtype)})
    except Exception:
        pytest.skip(f"safetensors has no {dtype.__name__}")
    with pytest.raises(Invalid):
        chain.begin(MEAN, data, "r-1", io.BytesIO())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_initial_model_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(Invalid, match="finite"):
        chain.begin(MEAN, to_safetensors({"w": np.array([0.0, bad])}), "r-1", io.BytesIO())
