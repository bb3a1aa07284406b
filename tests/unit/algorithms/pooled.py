"""neuroCombat's formulas on all patients in one table: Fortin et al., NeuroImage 2018, 167:104."""

from collections.abc import Sequence

import numpy as np


def neuro_combat(values: Sequence[np.ndarray], kept: Sequence[np.ndarray], shrink: bool) -> np.ndarray:
    """Harmonised values (n, numbers), hospital after hospital.

    Args:    values: per hospital (n_i, numbers).   kept: per hospital (n_i, columns).   shrink: by empirical Bayes.
    """
    y, sizes = np.concatenate(values), [len(one) for one in values]
    x = np.concatenate(kept)
    design = np.column_stack([np.repeat(np.eye(len(sizes)), sizes, axis=0), x])
    beta = np.linalg.solve(design.T @ design, design.T @ y)
    model = np.array(sizes) / len(y) @ beta[: len(sizes)] + x @ beta[len(sizes) :]
    pooled = np.sqrt(np.mean((y - design @ beta) ** 2, axis=0))
    z, start = (y - model) / pooled, 0
    for size in sizes:
        rows = slice(start, start + size)
        start += size
        raw, delta = z[rows].mean(axis=0), z[rows].var(axis=0, ddof=1)
        gamma = raw
        if shrink:
            bar, tau = raw.mean(), raw.var(ddof=1)
            mean, variance = delta.mean(), delta.var(ddof=1)
            a, b = (2 * variance + mean**2) / variance, (mean * variance + mean**3) / variance
            for _ in range(500):
                gamma = (tau * size * raw + delta * bar) / (tau * size + delta)
                delta = (0.5 * ((z[rows] - gamma) ** 2).sum(axis=0) + b) / (size / 2 + a - 1)
        z[rows] = (z[rows] - gamma) / np.sqrt(delta)
    found: np.ndarray = z * pooled + model
    return found
