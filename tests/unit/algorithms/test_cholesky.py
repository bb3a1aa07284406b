"""Our own Cholesky: the solution of numpy's solver, columns that say nothing, and bits that depend on no library."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms import cholesky
from consilium.algorithms.newton import TELLS, noise_of


def patients(seed: int, columns: int, rows: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) * rng.uniform(0.01, 100, size=columns)


def solved(matrix: np.ndarray, right: np.ndarray, noise: cholesky.Noise | None = None) -> tuple[np.ndarray, np.ndarray]:
    lower, passed = cholesky.factor(matrix, np.zeros(len(right), dtype=bool), noise)
    return cholesky.solve(lower, passed, right), passed


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 30))
def test_it_solves_as_numpy_does(seed: int, columns: int) -> None:
    x = patients(seed, columns)
    matrix, right = x.T @ x, x.T @ np.random.default_rng(seed).normal(size=len(x))
    packed = matrix[np.tril_indices(columns)]
    assert np.array_equal(cholesky.square(packed, columns), np.tril(matrix) + np.tril(matrix, -1).T)
    found, passed = solved(matrix, right)
    assert not passed.any()
    np.testing.assert_allclose(matrix @ found, right, rtol=1e-9, atol=1e-9 * np.abs(right).max())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), at=st.integers(1, 6), zero=st.booleans(), known=st.booleans())
def test_a_column_that_says_nothing_new_is_passed_over(seed: int, at: int, zero: bool, known: bool) -> None:
    """It is as if it were not there; and a column that stands before what follows from it stays."""
    x = patients(seed, 7)
    x[:, at] = 0.0 if zero else x[:, :at] @ np.ones(at)
    packed = (x.T @ x)[np.tril_indices(7)]
    found, passed = solved(x.T @ x, x.T @ np.ones(len(x)), noise_of(packed, 60.0, TELLS) if known else None)
    assert np.flatnonzero(passed).tolist() == [at]
    rest = np.delete(x, at, axis=1)
    np.testing.assert_allclose(np.delete(found, at), np.linalg.lstsq(rest, np.ones(len(x)))[0], rtol=1e-5, atol=1e-9)
    assert found[at] == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.floats(-9, -1), unit=st.integers(20, 60))
def test_a_narrow_column_is_taken_where_rounding_leaves_it_and_else_passed_over(
    seed: int, width: float, unit: int
) -> None:
    """Beside a column of ones: values about -1 that differ by 10^width, in sums that three sites rounded to 2^-unit."""
    rng = np.random.default_rng(seed)
    narrow = -1 + 10**width * rng.normal(size=300)
    x = np.column_stack([np.ones(300), narrow, rng.normal(size=300)])
    exact = x.T @ x
    step = 2.0**-unit
    packed = (np.round(exact / step + rng.integers(-1, 2, size=(3, 3))) * step)[np.tril_indices(3)]
    passed = solved(cholesky.square(packed, 3), np.ones(3), noise_of(packed, 300.0, TELLS))[1]
    left, off = 300 * 10 ** (2 * width), max(step, 300 * cholesky.ROUNDED)
    assert not passed[[0, 2]].any()
    assert passed[1] or left > 10 * off, "what rounding made is no column"
    assert not passed[1] or left < 1000 * off, "what is left of it is a column"


def test_the_bits_follow_from_single_operations_in_a_fixed_order() -> None:
    """The same as plain Python's floats give, one by one."""
    x = patients(1, 6)
    matrix, right = x.T @ x, x.T @ np.ones(len(x))
    lower = [[float(value) for value in row] for row in matrix]
    for k in range(6):
        root = lower[k][k] ** 0.5
        for i in range(k, 6):
            lower[i][k] /= root
        for i in range(k + 1, 6):
            for j in range(k + 1, 6):
                lower[i][j] -= lower[i][k] * lower[j][k]
    found, _ = cholesky.factor(matrix, np.zeros(6, dtype=bool))
    assert np.array_equal(found, np.tril(np.array(lower)))
    rest = [float(value) for value in right]
    for k in range(6):
        rest[k] /= lower[k][k]
        for i in range(k + 1, 6):
            rest[i] -= lower[i][k] * rest[k]
    for k in reversed(range(6)):
        rest[k] /= lower[k][k]
        for i in range(k):
            rest[i] -= lower[k][i] * rest[k]
    assert solved(matrix, right)[0].tolist() == rest


@pytest.mark.parametrize("pivot", [-1.0, 0.0, float("nan")])
def test_what_is_no_positive_pivot_is_passed_over(pivot: float) -> None:
    found, passed = solved(np.diag([4.0, pivot]), np.array([8.0, 1.0]))
    assert passed.tolist() == [False, True] and found.tolist() == [2.0, 0.0]
