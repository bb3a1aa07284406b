"""What a run gave, without a coordinator: files in, models out."""

from pathlib import Path
from typing import Any, cast

import numpy as np

from consilium.api import Result
from consilium.core import state as chain
from consilium.core.tensors import to_safetensors


class Fetched(Result):
    """A result whose files are here."""

    def fetch(self, folder: Path) -> tuple[Path, Path]:
        state, initial = folder / "state", folder / "initial"
        initial.write_bytes(to_safetensors({"weights": np.zeros(2), "intercept": np.zeros(1)}))
        several = {f"model-{at}": np.full(3, float(at)) for at in range(2, 12)}
        arrays = {"model": np.array([1.0, 2.0, 3.0]), "momentum": np.zeros(3), "loss": np.zeros(1), **several}
        with state.open("wb") as file:
            chain.write(arrays, {}, file)
        return state, initial


def test_a_result_has_all_models_of_a_strategy_that_learns_several_in_order() -> None:
    result = Fetched(cast(Any, None), {})
    found = result.models()
    assert list(found) == ["model", *(f"model-{at}" for at in range(2, 12))]
    assert np.array_equal(found["model-10"]["weights"], [10.0, 10.0])
    assert np.array_equal(result.model()["intercept"], [1.0]) and np.array_equal(result.model()["weights"], [2.0, 3.0])
