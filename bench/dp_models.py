"""Models and data of `dp.py`, for both environments: torch and numpy alone are imported here."""

import numpy as np
import torch
from torch import nn

PATIENTS, EXPECTED, BOUND, NOISE, RATE, SEED = 8192, 256, 1.0, 1.0, 0.05, 7
"""Training patients, expected ones per step, clipping bound, noise multiplier, learning rate."""


def linear():
    """Logistic regression on 30 columns."""
    return nn.Sequential(nn.Linear(30, 1))


def mlp():
    """The catalogue's `mlp` on 30 columns, with its default widths."""
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


def wide():
    """A wide one on 200 columns."""
    return nn.Sequential(nn.Linear(200, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 1))


def cnn():
    """The convolutions of Opacus's own MNIST example, with group normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2, 1),
        nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 1),
    )  # fmt: skip


def image():
    """The catalogue's `cnn` for images of 28 x 28 values, with its default layers."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 32), nn.ReLU(), nn.Linear(32, 1),
    )  # fmt: skip


def signal():
    """The catalogue's `cnn` for two signals of 250 values, with its default layers."""
    return nn.Sequential(
        nn.Unflatten(1, (2, 250)),
        nn.Conv1d(2, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.MaxPool1d(2), nn.ReLU(),
        nn.Conv1d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.MaxPool1d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(1984, 32), nn.ReLU(), nn.Linear(32, 1),
    )  # fmt: skip


MODELS = {"linear": linear, "mlp": mlp, "wide-mlp": wide, "cnn": cnn, "image-cnn": image, "signal-cnn": signal}
SHAPES = {
    "linear": (30,), "mlp": (30,), "wide-mlp": (200,), "cnn": (1, 28, 28), "image-cnn": (784,), "signal-cnn": (500,)
}  # fmt: skip


def begin(name):
    """The model from the seed, and patients: x (n, ...), y (n,), float32."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((PATIENTS, *SHAPES[name]), dtype=np.float32)
    return MODELS[name](), x, (rng.random(PATIENTS) < 0.5).astype(np.float32)


def losses(scores, labels):
    """One loss per patient, (n,): the shape for which every mode of Opacus is right."""
    return nn.functional.binary_cross_entropy_with_logits(scores.reshape(-1), labels, reduction="none")
