"""A hospital's whole change under an epsilon: nothing of it leaves that is not shortened and noised."""

import io
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import from_safetensors
from consilium.testing.trainers import a_study
from consilium.training.work import Examples, Work

NOISED: dict[str, Any] = {
    "recipe": "secure_sum", "unit": "hospital", "epsilon": 4.0, "delta": 1e-3, "clip_quantile": 0.5,
    "noise_multiplier": 1.0, "all_honest": 4.0,
}  # fmt: skip


def work(epochs: int, privacy: dict[str, Any]) -> tuple[Work, bytes]:
    asked = a_study("number", {"kind": "linear"}, epochs=epochs, learning_rate=0.5).model_dump(mode="json")
    plan, weights = freeze(Study.model_validate({**asked, "quorum": 60, "privacy": privacy}))
    x = np.random.default_rng(1).normal(size=(30, 3))
    x[0] = 9.0  # by this patient the steps are too long
    state = io.BytesIO()
    chain.begin(plugins.strategy_of(plan.study), weights, "whole-1", state)
    strategy, trainer = plugins.strategy_of(plan.study), plugins.load("consilium.trainers", "linear")()
    examples = Examples(x, x @ np.ones(3), np.zeros(30, dtype=bool))
    return Work(plan, trainer, strategy, from_safetensors(weights), examples), state.getvalue()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whose_model_runs_away_changes_nothing_and_does_not_say_so() -> None:
    made, state = work(3000, {"recipe": "secure_sum"})
    with pytest.raises(TrainingFailed, match="grew without bound"):
        made.train(state, 1)
    made, state = work(3000, NOISED)
    found = made.train(state, 1).segments
    assert not np.any(found["update"]) and found["weight"] == 1
    made, state = work(3, NOISED)
    assert np.any(made.train(state, 1).segments["update"])
