"""The step under an L1 penalty: no other point is better, zeros are zeros, and without a penalty it is Newton's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms import lasso


def parabola(seed: int, size: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, size)) + 2.0
    return x.T @ x, x.T @ rng.normal(size=rows), rng.normal(size=size) * (rng.random(size) < 0.6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(1, 8), st.floats(0.01, 20))
def test_no_slope_is_left_beyond_the_penalty(seed: int, size: int, l1: float) -> None:
    h, gradient, at = parabola(seed, size, 30)
    penalty = np.full(size, l1)
    penalty[0] = 0.0
    step = lasso.step(h, gradient, at, penalty)
    there, slope = at + step, gradient + h @ step
    size_of = 1e-8 * (1 + np.abs(gradient).max())
    moved = there != 0
    np.testing.assert_allclose(slope[moved], -penalty[moved] * np.sign(there[moved]), atol=size_of)
    assert np.all(np.abs(slope[~moved]) <= penalty[~moved] + size_of)


def test_without_a_penalty_it_is_newtons_step_and_with_a_large_one_all_are_zero() -> None:
    h, gradient, at = parabola(1, 5, 30)
    np.testing.assert_allclose(lasso.step(h, gradient, at, np.zeros(5)), -np.linalg.solve(h, gradient), rtol=1e-9)
    assert np.array_equal(at + lasso.step(h, gradient, at, np.full(5, 1e6)), np.zeros(5))


def test_a_column_without_patients_stays_and_columns_that_follow_from_others_do_no_harm() -> None:
    h, gradient, at = parabola(2, 4, 30)
    h[:, 3] = h[3, :] = 0.0
    h[:, 2], gradient[2] = h[:, 1], gradient[1]  # twice the same column
    h[2, :] = h[1, :]
    step = lasso.step(h, gradient, at, np.array([0.0, 1.0, 1.0, 1.0]))
    assert step[3] == 0 and np.all(np.isfinite(step))
    slope = gradient + h @ step
    assert np.all(np.abs(slope[1:3]) <= 1.0 + 1e-6) and slope[0] == pytest.approx(0, abs=1e-6)
