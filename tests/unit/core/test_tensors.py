"""Names, digests, canonical JSON and named arrays: what is written is read, and one content has one form."""

import json
import math
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from consilium.core import errors
from consilium.core.errors import Invalid
from consilium.core.ids import canonical, digest, is_digest
from consilium.core.tensors import flatten, from_safetensors, norm, to_safetensors, unflatten
from consilium.core.update import Aggregate

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(
        st.characters(codec="utf-8")
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_canonical_json_is_one_form_and_reads_back(value: object) -> None:
    data = canonical(value)
    assert json.loads(data) == value and canonical(json.loads(data)) == data
    assert b"\n" not in data


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_refused(bad: float) -> None:
    with pytest.raises(ValueError):
        canonical({"value": bad})


def test_a_digest_is_that_of_sha256_and_known_by_its_form() -> None:
    assert digest(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert is_digest(digest(b""))
    good = digest(b"")
    for bad in ("", good[:-1], good + "0", good + "\n", good.upper(), good.replace("sha256", "sha512"), f" {good}"):
        assert not is_digest(bad)


def safetensors_metadata(data: bytes) -> dict[str, str]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with safe_open(file.name, "numpy") as opened:
            return dict(opened.metadata())


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
models = st.dictionaries(st.text("ab./é", min_size=1, max_size=4), shapes, min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(models, st.integers(0, 99))
def test_flatten_and_unflatten_are_inverse_whatever_the_order(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = {name: rng.normal(size=shape).astype([np.float32, np.float64][seed % 2]) for name, shape in shapes.items()}
    vector = flatten(model)
    assert vector.ndim == 1 and np.array_equal(vector, flatten(dict(reversed(model.items()))))
    again = unflatten(vector, model)
    assert again.keys() == model.keys()
    for name, array in model.items():
        assert again[name].shape == array.shape and again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)
    assert norm(model) == pytest.approx(float(np.linalg.norm(vector.astype(np.float64))))
    for wrong in (np.zeros(vector.size + 1), vector.reshape(1, -1)):
        with pytest.raises(Invalid):
            unflatten(wrong, model)
    data = to_safetensors(model, {"b": "1", "a": "é", "c": "3"})
    assert data == to_safetensors(dict(reversed(model.items())), {"c": "3", "a": "é", "b": "1"}), (
        "one content, one form"
    )
    told = safetensors_metadata(data)
    assert told == {"a": "é", "b": "1", "c": "3"}, "and safetensors itself reads it"
    assert {name: array.tolist() for name, array in from_safetensors(data).items()} == {
        name: array.tolist() for name, array in model.items()
    }


def test_what_unflatten_gives_is_its_own() -> None:
    model = {"w": np.zeros(3)}
    vector = flatten(model)
    unflatten(vector, model)["w"][0] = 9
    assert vector[0] == 0


@pytest.mark.parametrize("weight", [None, np.zeros(2), np.array([0.0]), np.array([-1.0]), np.array([np.nan])])
def test_an_aggregate_without_a_positive_weight_is_refused(weight: object) -> None:
    sums = {"update": np.zeros(1)} | ({} if weight is None else {"weight": weight})
    with pytest.raises(Invalid):
        _ = Aggregate(sums, ()).weight  # type: ignore[arg-type]


def test_every_error_has_a_code_of_its_own_and_stands_in_the_tree() -> None:
    kinds: list[type[errors.ConsiliumError]] = [errors.ConsiliumError]
    for kind in kinds:
        kinds += [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    assert len({kind.code for kind in kinds}) == len(kinds) <= len(errors.every())
    assert [kind.__name__ for kind in kinds if kind.__name__ not in (errors.__doc__ or "")] == []
    assert str(Invalid("what", "do this")) == "what; do this" and str(Invalid("what")) == "what"
