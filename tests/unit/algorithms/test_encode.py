"""Encoding: the contract's ranges and categories alone decide, so that every site and pooled training encode alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms.encode import decode, encode, names
from consilium.core.contract import Contract, Feature

CONTRACT = Contract.model_validate(
    {
        "id": "c",
        "features": [
            {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [20, 80], "missing": "forbidden"},
            {"id": "chol", "meaning": "chol", "type": "number", "unit": "mg/dL", "range": [100, 300]},
            {"id": "pain", "meaning": "pain", "type": "category", "categories": {"no": "no", "some": "s", "much": "m"}},
        ],
        "label": {"id": "sick", "meaning": "sick", "type": "binary"},
    }
)
NAN = float("nan")


def test_by_hand() -> None:
    columns = {"age": [20.0, 50.0, 80.0], "chol": [200.0, NAN, 300.0], "pain": [0.0, 2.0, NAN]}
    found = encode(CONTRACT, {name: np.array(values) for name, values in columns.items()})
    assert names(CONTRACT) == ["age", "chol", "chol?", "pain=some", "pain=much", "pain?"]
    assert found.tolist() == [
        [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 1.0, 0.0],
        [1.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    ]


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(-1e6, 1e6).map(lambda value: round(value, 2)), width=st.sampled_from([0.1, 1.0, 37.5, 4e3, 1e6]),
    typical=st.booleans(), digits=st.integers(0, 4), seed=st.integers(0, 99),
)  # fmt: skip
def test_what_was_encoded_comes_back_to_the_last_bit(
    low: float, width: float, typical: bool, digits: int, seed: int
) -> None:
    """A threshold of a model that was made elsewhere then cuts here where it cuts there."""
    change = {"range": (low, low + width), "typical": (low + width / 3, low + width / 2) if typical else None}
    number = CONTRACT.features[1].model_copy(update=change)
    contract = CONTRACT.model_copy(update={"features": (number, *CONTRACT.features[::2])})
    rng = np.random.default_rng(seed)
    columns = {
        "chol": np.round(rng.uniform(low, low + width, size=50), digits),
        "age": np.round(rng.uniform(20, 80, size=50), 1),
        "pain": rng.integers(3, size=50).astype(np.float64),
    }  # fmt: skip
    for name in ("chol", "pain"):
        columns[name][rng.random(50) < 0.2] = NAN
    found = decode(contract, encode(contract, columns))
    assert found.keys() == columns.keys()
    for name, values in columns.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_typical_range_is_what_numbers_are_scaled_by() -> None:
    """What is plausible may be far wider than what is usual: the usual decides, and nothing of it is learned here."""
    feature = CONTRACT.features[1].model_copy(update={"typical": (150.0, 250.0)})
    contract = CONTRACT.model_copy(update={"features": (feature,)})
    assert encode(contract, {"chol": np.array([150.0, 200.0, 300.0, NAN])}).tolist() == [
        [-1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 1.0],
    ]  # fmt: skip
    category = {"type": "category", "unit": None, "range": None, "categories": {"no": "no", "yes": "yes"}}
    for wrong in ({"typical": [2, 1]}, category):
        with pytest.raises(ValueError, match="typical"):
            Feature.model_validate({**feature.model_dump(), **wrong})


numbers = st.floats(100, 300) | st.just(NAN)
patients = st.lists(st.tuples(st.floats(20, 80), numbers, st.sampled_from([0.0, 1.0, 2.0, NAN])), max_size=20)


@settings(max_examples=100, deadline=None)
@given(patients, st.integers(0, 20))
def test_rows_are_encoded_on_their_own_and_within_bounds(rows: list[tuple[float, ...]], cut: int) -> None:
    values = np.array(rows, dtype=float).reshape(-1, 3)

    def encoded(part: np.ndarray) -> np.ndarray:
        return encode(CONTRACT, dict(zip(("age", "chol", "pain"), part.T, strict=True)))

    whole = encoded(values)
    assert whole.shape == (len(rows), len(names(CONTRACT))) and np.all(np.abs(whole) <= 1)
    assert np.array_equal(whole, np.concatenate([encoded(values[:cut]), encoded(values[cut:])])), "sites encode alike"
    assert not np.any(np.isnan(whole)) and np.all(whole[:, 3] + whole[:, 4] + whole[:, 5] <= 1)


def test_a_feature_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError):
        encode(CONTRACT, {"age": np.zeros(1)})
