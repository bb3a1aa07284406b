"""No patient adds more than the bound, and clipped sums equal those of gradients computed one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.errors import Invalid
from consilium.privacy.clip import SLACK, dense_norms, dense_sum, factors, linear_sum


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=3),
       st.floats(0.01, 10), st.integers(0, 2**32 - 1))  # fmt: skip
def test_the_clipped_sum_is_that_of_single_gradients(
    patients: int, layers: list[tuple[int, int]], bound: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=(patients, width)) for width, _ in layers]
    deltas = [rng.normal(size=(patients, width)) for _, width in layers]
    wanted = [(np.zeros((a, b)), np.zeros(b)) for a, b in layers]
    for one in range(patients):
        single = [(np.outer(x[one], d[one]), d[one]) for x, d in zip(inputs, deltas, strict=True)]
        norm = np.sqrt(sum((w**2).sum() + (b**2).sum() for w, b in single))
        assert dense_norms(inputs, deltas)[one] == pytest.approx(norm)
        scale = min(1.0, bound * (1 - SLACK) / norm)
        assert scale * norm <= bound
        wanted = [(w + scale * v, b + scale * c) for (w, b), (v, c) in zip(wanted, single, strict=True)]
    for (found, bias), (w, b) in zip(dense_sum(inputs, deltas, bound), wanted, strict=True):
        assert np.allclose(found, w, atol=1e-12) and np.allclose(bias, b, atol=1e-12)


def test_nothing_is_enlarged_and_nothing_strange_passes() -> None:
    assert np.array_equal(factors(np.array([0.0, 0.5, 2.0]), 1.0), [1.0, 1.0, 0.5 * (1 - SLACK)])
    for norms, bound in (([1.0], 0.0), ([1.0], np.inf), ([np.nan], 1.0), ([np.inf], 1.0)):
        with pytest.raises(Invalid):
            factors(np.array(norms), bound)


def test_whose_gradient_is_not_finite_adds_nothing() -> None:
    """Nor is it refused, which would tell of one patient without noise."""
    x, delta = np.array([[1.0, 2.0], [1.0, 1e200], [1.0, np.inf], [1.0, 3.0]]), np.array([0.5, 1.0, 0.0, np.nan])
    with np.errstate(all="ignore"):
        assert np.array_equal(linear_sum(x, delta, 1.0), linear_sum(x[:1], delta[:1], 1.0))
        found, wanted = (dense_sum([x[:n]], [delta[:n, None]], 1.0)[0] for n in (4, 1))
    assert all(map(np.array_equal, found, wanted))
