"""A contribution that cannot be summed or judged is refused when it comes, not when the round is computed."""

import io
from typing import Any

import numpy as np
import pytest

from consilium.algorithms import metrics
from consilium.algorithms.fedavg import FedAvg
from consilium.coordinator.ingest import layout
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.tensors import to_safetensors

JUDGED = {
    f"metrics/{name}": array
    for name, array in metrics.sums("binary", np.array([0.2, 0.9]), np.array([0.0, 1.0])).items()
}
GOOD: dict[str, Any] = {"update": np.zeros(3), "weight": np.array([10.0]), **JUDGED}


def refuse(arrays: dict[str, Any], kind: str = "TRAIN", label: str = "binary") -> None:
    state, sent = io.BytesIO(), io.BytesIO()
    chain.begin(FedAvg({}), to_safetensors({"w": np.zeros(3)}), "r-1", state)
    chain.write(arrays, {}, sent)
    layout(chain.read(sent.getvalue()), chain.read(state.getvalue()).shape["model"], kind, label)


def test_what_our_agent_sends_is_accepted() -> None:
    refuse(GOOD)
    refuse({"weight": np.array([10.0]), **JUDGED}, kind="EVALUATE")
    refuse({"update": np.zeros(3), "weight": np.array([10.0])})


BAD: dict[str, dict[str, Any]] = {
    "no weight": {name: array for name, array in GOOD.items() if name != "weight"},
    "no update": {name: array for name, array in GOOD.items() if name != "update"},
    "a strange segment": {**GOOD, "patients": np.zeros(3)},
    "an update of another length": {**GOOD, "update": np.zeros(4)},
    "an update of another type": {**GOOD, "update": np.zeros(3, dtype=np.float32)},
    "a weight of nothing": {**GOOD, "weight": np.array([0.0])},
    "a negative weight": {**GOOD, "weight": np.array([-1.0])},
    "a weight that is no number": {**GOOD, "weight": np.array([np.nan])},
    "an infinite weight": {**GOOD, "weight": np.array([np.inf])},
    "two weights": {**GOOD, "weight": np.ones(2)},
    "metrics without n": {name: array for name, array in GOOD.items() if name != "metrics/n"},
    "a strange metric": {**GOOD, "metrics/x": np.zeros(1)},
    "a metric that is no number": {**GOOD, "metrics/brier": np.array([np.nan])},
    "bins of another number": {**GOOD, "metrics/positives": np.zeros(7)},
    "fewer patients than nothing": {**GOOD, "metrics/n": np.array([-2.0])},
    "patients that are not in the bins": {**GOOD, "metrics/n": np.array([3.0])},
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_summed_or_judged_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        refuse(BAD[name])


def test_metrics_of_another_label_are_refused() -> None:
    with pytest.raises(Invalid):
        refuse(GOOD, label="count")
