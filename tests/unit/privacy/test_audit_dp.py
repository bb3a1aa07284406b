"""The one-run audit gives the reference's bounds, and tells noise from its absence."""

import numpy as np
import pytest

from consilium.core.errors import Invalid
from consilium.privacy.accountant import Sampled, tight
from consilium.privacy.audit_dp import lower_bound
from consilium.privacy.noise import normal

REFERENCE = [  # canaries, guesses, right: epsilon (jax_privacy 2.0, significance .05, delta 1e-5)
    (1000, 1000, 500, 0.0), (1000, 1000, 600, 0.29723), (1000, 1000, 700, 0.73174), (1000, 1000, 800, 1.25398),
    (1000, 1000, 900, 2.02065), (1000, 1000, 1000, 5.78228), (1000, 100, 99, 3.00283), (1000, 100, 100, 3.46538),
    (5000, 1500, 1429, 2.79536),
]  # fmt: skip


@pytest.mark.parametrize(("canaries", "guesses", "right", "wanted"), REFERENCE)
def test_bounds_are_those_of_the_reference(canaries: int, guesses: int, right: int, wanted: float) -> None:
    assert lower_bound(canaries, guesses, right, 1e-5) == pytest.approx(wanted, abs=1e-4)


def test_without_delta_the_bound_is_the_binomial_one() -> None:
    assert lower_bound(1000, 1000, 1000, 0.0) == pytest.approx(5.80907, abs=1e-4)


def audited(noise: float, canaries: int = 2000) -> float:
    """A mechanism that releases each canary's coordinate, clipped to 1, with noise; the best guesses about it."""
    rng = np.random.default_rng(7)
    inside = rng.random(canaries) < 0.5
    seen = inside + (normal(b"k" * 32, canaries, noise) if noise else np.zeros(canaries))
    order = np.argsort(np.abs(seen - 0.5))[::-1][: canaries // 4]
    return lower_bound(canaries, len(order), int(np.sum((seen[order] > 0.5) == inside[order])), 1e-5)


def test_the_audit_stays_below_the_claim_and_exceeds_it_without_noise() -> None:
    claim = tight(Sampled(1.0, 1.0, 1), 1e-5)
    assert 0.5 < audited(1.0) <= claim
    assert audited(0.0) > claim


@pytest.mark.parametrize("counts", [(10, 11, 5), (10, 5, 6), (0, 0, 0)])
def test_counts_that_contradict_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(Invalid):
        lower_bound(*counts, 1e-5)
