"""Tails and quantiles against scipy's."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from consilium.algorithms import student

SCORES = st.floats(0, 30)
FREEDOM = st.integers(1, 100_000).map(float)


@settings(max_examples=200, deadline=None)
@given(score=SCORES, freedom=st.none() | FREEDOM)
@example(score=0.0, freedom=3.0)
@example(score=25.0, freedom=1e5)
@example(score=1.6473460444237425e-05, freedom=49997.0)
@example(score=3e-9, freedom=7.0)
def test_two_sided_tails_are_scipys(score: float, freedom: float | None) -> None:
    theirs = 2 * (stats.norm.sf(score) if freedom is None else stats.t.sf(score, freedom))
    assert student.two_sided(score, freedom) == pytest.approx(theirs, rel=1e-7, abs=1e-300)
    assert student.two_sided(-score, freedom) == student.two_sided(score, freedom)


@settings(max_examples=100, deadline=None)
@given(confidence=st.floats(0.5, 0.9999), freedom=st.none() | FREEDOM)
def test_quantiles_are_scipys(confidence: float, freedom: float | None) -> None:
    of = stats.norm if freedom is None else stats.t(freedom)
    assert student.within(confidence, freedom) == pytest.approx(of.ppf(0.5 + confidence / 2), rel=1e-9)
