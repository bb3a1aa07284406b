"""A network for chest X-rays at five hospitals that differ in prevalence and brightness, by way of `simulate`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch, an extra, is not installed")

from consilium import notebook
from consilium.core.tensors import Tensors, from_safetensors

FILE = Path(__file__).parents[4] / "shared/data/medmnist/pneumoniamnist_28_reconstructed.npz"
SIZE, PATIENTS = 14, 200
PIXELS = [f"pixel_{place}" for place in range(SIZE * SIZE)]
PLACES = np.linspace(-1, 1, 5)
SCANNERS = PLACES[[3, 0, 4, 2, 1]]
"""Brightness and prevalence do not go together."""


def hospitals() -> dict[str, dict[str, Any]]:
    """Grey values, halved in width and height, of real images that were made darker or brighter, and of less or more
    contrast, as by another scanner; pneumonia has a prevalence from 10 to 90 percent. Nobody is at two."""
    with np.load(FILE) as file:
        images, labels = file["train_images"].astype(float), file["train_labels"].ravel()
    rng = np.random.default_rng(1)
    ill, well = (list(rng.permutation(np.flatnonzero(labels == label))) for label in (1, 0))
    found = {}
    for number, (place, scanner) in enumerate(zip(PLACES, SCANNERS, strict=True)):
        positive = round(PATIENTS * (0.5 + 0.4 * place))
        rows = [ill.pop() for _ in range(positive)] + [well.pop() for _ in range(PATIENTS - positive)]
        small = images[rows].reshape(-1, SIZE, 2, SIZE, 2).mean(axis=(2, 4))
        seen = np.clip((small - 128) * np.exp(0.7 * scanner) + 128 - 64 * scanner, 0, 255).reshape(PATIENTS, -1)
        found[f"hospital{number}"] = {**dict(zip(PIXELS, seen.T, strict=True)), "pneumonia": labels[rows]}
    return found


def study(strategy: str) -> Any:
    pixel = {"type": "number", "unit": "1", "range": [0, 255], "missing": "forbidden"}
    return notebook.load({
        "consilium": 1, "name": "x-rays", "title": "Pneumonia on chest X-rays",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "x-rays", "features": [{"id": name, "meaning": f"grey value: {name}", **pixel} for name in PIXELS],
            "label": {"id": "pneumonia", "meaning": "pneumonia, by two radiologists", "type": "binary"},
        },
        "model": {
            "kind": "torch", "architecture": "cnn",
            "options": {"shape": [1, SIZE, SIZE], "channels": [8, 16], "hidden": [16]},
        },
        "strategy": {"name": strategy}, "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.05},
        "privacy": {"recipe": "secure_sum"}, "rounds": 8, "quorum": 5,
    })  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(not FILE.is_file(), reason="the images of MedMNIST are not here")
def test_it_trains_by_each_in_secure_sums_and_a_model_of_each_hospitals_own_serves_better_than_one_for_all() -> None:
    """Of the catalogue's network, whose normalisation is by groups of channels: FedBN keeps it, as by its name."""
    tables, brier, models = hospitals(), dict[str, float](), dict[str, Tensors]()
    for strategy in ("fedavg", "fedbn", "ditto"):
        simulated = notebook.simulate(study(strategy), tables)
        first, last = simulated.found.rounds[0].figures, simulated.figures["all"]
        assert last["auroc"]["value"] > 0.93 > 0.8 > first["auroc"]["value"], strategy
        brier[strategy], models[strategy] = last["brier"]["value"], from_safetensors(simulated.found.model)
        assert brier[strategy] < first["brier"]["value"] / 2, "chances are theirs, too"
        assert simulated.figures["sites"].keys() == tables.keys(), "each is judged with the model that it uses"
    plain, kept, own = models["fedavg"], models["fedbn"], models["ditto"]
    assert all(np.array_equal(own[name], plain[name]) for name in plain), "Ditto's common model is FedAvg's"
    assert brier["ditto"] < 0.8 * brier["fedavg"], "where prevalence differs, one model for all is wrong somewhere"
    for name in plain:
        still = np.all(kept[name] == (1.0 if name.endswith("weight") else 0.0))  # as torch makes such a layer
        assert still == name.startswith("norm"), f"{name}: what normalises never left, and nothing else stayed"
    assert not np.any(plain["norm1.weight"] == 1.0)
