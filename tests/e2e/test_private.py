"""An epsilon between real processes: from the study file to the noised model, by public commands and shipped agents."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.tensors import from_safetensors
from consilium.privacy.mechanism import Mechanism
from e2e.federation import POLICY, Federation, study

HOSPITALS = ("east", "north", "south", "west")
PRIVACY: dict[str, Any] = {
    "recipe": "secure_sum", "epsilon": 6.0, "delta": 1e-4, "expected_patients": 56, "sampling": 0.8, "clip_norm": 1.0,
}  # fmt: skip
ASKED: dict[str, Any] = {
    "quorum": 4, "rounds": 6, "training": {"epochs": 1, "learning_rate": 2.0, "seed": 1}, "privacy": PRIVACY,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("private"))
    try:
        for name in HOSPITALS:
            made.add(name)
            made.hospitals[name].policy(POLICY + "privacy: {budget: {epsilon: 60}}\n")
        yield made
    finally:
        made.close()


def sums(made: Federation, digest: str) -> dict[str, np.ndarray]:
    """The opened sums of a round, as the coordinator keeps them."""
    data = bytes(made.owner.connection.request("GET", f"/v1/blobs/{digest}").data)
    return {name: np.array(array) for name, array in chain.read(data).arrays.items()}


def test_a_study_with_an_epsilon_is_trained_and_leaves_nothing_without_noise(made: Federation) -> None:
    plan = made.approved(study("noised", **ASKED))
    mechanism = Mechanism.of(plan.study)
    assert mechanism is not None and mechanism.prove().steps == 6
    models, first = [], []
    for number in range(2):
        run = made.start(plan)
        if number == 0:
            made.compared(run)
        view = made.until(run, "finished")
        *rounds, judged = view["participation"]
        assert [entry["took_part"] for entry in view["participation"]] == [list(HOSPITALS)] * 7
        assert all(entry["figures"] == {"all": {}, "sites": {}, "clipped": 0} for entry in rounds)
        assert judged["figures"]["all"]["auroc"]["value"] > 0.75 and judged["figures"]["sites"] == {}
        for entry in rounds:
            kept = sums(made, entry["aggregate"])
            assert kept.keys() == {"update", "weight", "clamped"} and kept["weight"] == pytest.approx(4 * 0.8 * 56)
        assert sums(made, judged["aggregate"])["weight"] == pytest.approx(4 * 0.8 * 56), (
            "no number of training patients leaves"
        )
        first.append(sums(made, rounds[0]["aggregate"])["update"])
        models.append(from_safetensors(made.model(run))["model"])
    assert np.abs(models[0] - models[1]).min() > 1e-6, "chance is fresh in every run"
    spread = mechanism.bound * mechanism.shares().of_all(mechanism.noise)
    assert np.abs(first[0] - first[1]).max() > 0.2 * spread, "the noise is of the size that was promised"
    told = made.owner.connection.get(f"/v1/runs/{run}/result")
    assert "epsilon 6 at delta 0.0001" in told["privacy"] and "epsilon 6 at delta 0.0001" in told["learns"]
    assert "figures of held-out patients" in made.hospitals["north"].command("review", "noised")
