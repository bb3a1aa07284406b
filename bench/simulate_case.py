"""The case of `simulate.py`, the same for ours and for each peer: in numpy alone, for each runs in its own place."""

import numpy as np

FEATURES, ROWS, RATE = 13, 50, 0.5


def patients(site: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (ROWS, FEATURES) and labels of one site."""
    chance = np.random.default_rng([7, site])
    x = np.clip(chance.normal(size=(ROWS, FEATURES)), -4, 4) / 4
    y = x @ np.linspace(-2, 2, FEATURES) + chance.normal(size=ROWS) > 0.1
    return x, y.astype(np.float64)


def step(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One step of logistic regression by all patients of a site; w: intercept first."""
    residuals = 0.5 * (1 + np.tanh(0.5 * (x @ w[1:] + w[0]))) - y
    gradient = np.concatenate([[residuals.sum()], x.T @ residuals]) / len(y)
    return w - RATE * gradient
