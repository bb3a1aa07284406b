"""The state chain: files that safetensors itself reads, sums whose order does not depend on chunks, refusals."""

import io
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.ids import digest
from consilium.core.tensors import Tensors, to_safetensors


class Mean:
    """The plainest strategy: the model plus the mean update."""

    def init(self, model: np.ndarray) -> Tensors:
        return {"model": model}

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return {"model": state["model"] + sums["update"] / weight}


def contribution(path: Path, update: np.ndarray, weight: float) -> Path:
    with path.open("wb") as file:
        chain.write({"update": update * weight, "weight": np.array([weight])}, {}, file)
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_a_state_file_is_a_safetensors_file(rng: np.random.Generator) -> None:
    out = io.BytesIO()
    model = rng.normal(size=5)
    named, size = chain.begin(Mean(), to_safetensors({"w": model}), "r-1", out)
    assert np.array_equal(load(out.getvalue())["model"], model)
    assert named == digest(out.getvalue()) and size == len(out.getvalue())


@pytest.mark.parametrize("size", [1, chain.CHUNK, chain.CHUNK + 3])
def test_fold_and_advance_are_the_weighted_mean(tmp_path: Path, rng: np.random.Generator, size: int) -> None:
    updates, weights = [rng.normal(size=size) for _ in range(3)], [3.0, 10.0, 1.0]
    paths = [contribution(tmp_path / str(i), u, w) for i, (u, w) in enumerate(zip(updates, weights, strict=True))]
    with (tmp_path / "sum").open("wb") as out:
        chain.fold(paths, {"run": "r-1"}, out)
    with (tmp_path / "before").open("wb") as out:
        parent, _ = chain.begin(Mean(), to_safetensors({"w": np.zeros(size)}), "r-1", out)
    with (tmp_path / "after").open("wb") as out:
        chain.advance(Mean(), tmp_path / "before", parent, tmp_path / "sum", "r-1", 1, out)
    after = chain.read(tmp_path / "after")
    assert after.metadata == {"run": "r-1", "round": "1", "parent": parent}
    np.testing.assert_allclose(
        after.arrays["model"], np.average(updates, axis=0, weights=weights), rtol=1e-12, atol=1e-14
    )


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    paths = [contribution(tmp_path / "a", np.array([np.inf]), 1.0)]
    with pytest.raises(Invalid, match="finite"):
        chain.fold(paths, {}, io.BytesIO())


def test_unequal_layouts_are_refused(tmp_path: Path) -> None:
    paths = [contribution(tmp_path / str(n), np.zeros(n), 1.0) for n in (1, 2)]
    with pytest.raises(Invalid, match="layout"):
        chain.fold(paths, {}, io.BytesIO())


def test_a_segment_that_one_site_lacks_is_left_out_and_the_rest_is_summed(tmp_path: Path) -> None:
    whole, less = tmp_path / "whole", tmp_path / "less"
    for path, more in ((whole, {"metrics/n": np.ones(1)}), (less, {})):
        with path.open("wb") as file:
            chain.write({"update": np.arange(3.0), "weight": np.array([2.0]), **more}, {}, file)
    for order in ((whole, less), (less, whole)):
        out = tmp_path / "sums"
        with out.open("wb") as file:
            chain.fold(order, {}, file)
        sums = chain.read(out).arrays
        assert {name: array.tolist() for name, array in sums.items()} == {"update": [0.0, 2.0, 4.0], "weight": [4.0]}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_found_wherever_it_stands(tmp_path: Path, bad: float) -> None:
    size = chain.CHUNK + 5
    for at in (0, chain.CHUNK - 1, chain.CHUNK, size - 1):
        values = np.zeros(size)
        path = contribution(tmp_path / str(at), values, 1.0)
        assert chain.finite(chain.read(path))
        values[at] = bad
        assert not chain.finite(chain.read(contribution(tmp_path / str(at), values, 1.0)))


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    whole = contribution(tmp_path / "whole", np.arange(4.0), 1.0).read_bytes()
    assert cut < len(whole)
    (tmp_path / "cut").write_bytes(whole[:cut])
    with pytest.raises(Invalid):
        chain.read(tmp_path / "cut")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [4], "data_offsets": [-32, 0]},
        {"dtype": "F64", "shape": [2, 2], "data_offsets": [0, 32]},
        {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]},
        {"dtype": "F64", "shape": [True], "data_offsets": [0, 8.0]},
        "text",
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, entry: object) -> None:
    import json

    text = json.dumps({"update": entry}).encode()
    (tmp_path / "lie").write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))
    with pytest.raises(Invalid):
        chain.read(tmp_path / "lie")
