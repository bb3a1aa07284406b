"""Laws of secret sharing and of the integer encoding."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import Invalid
from consilium.privacy import shares
from consilium.privacy.quantize import Encoding

SECRET = st.binary(min_size=32, max_size=32)


@settings(max_examples=60, deadline=None)
@given(SECRET, SECRET, st.integers(1, 6), st.integers(0, 3))
def test_every_threshold_of_holders_opens_the_secret(secret: bytes, coins: bytes, t: int, more: int) -> None:
    parts = shares.split(secret, t, t + more, coins)
    assert all(len(part) == shares.SHARE_BYTES for part in parts)
    for holders in itertools.combinations(range(1, t + more + 1), t):
        assert shares.combine({x: parts[x - 1] for x in holders}, t) == secret
    with pytest.raises(Invalid):
        shares.combine({x: parts[x - 1] for x in range(1, t)}, t)


@settings(max_examples=60, deadline=None)
@given(SECRET, SECRET, SECRET, st.integers(2, 5))
def test_fewer_shares_fit_any_secret(secret: bytes, other: bytes, coins: bytes, t: int) -> None:
    """With t - 1 shares there is a last share for each other secret: they say nothing about which it was."""
    parts = shares.split(secret, t, t, coins)
    known = {x: int.from_bytes(parts[x - 1], "big") for x in range(1, t)}
    points = {0: int.from_bytes(other, "big"), **known}
    assert _through(known, 0) % shares.PRIME != int.from_bytes(secret, "big"), "it is on no curve of fewer shares"
    last = _through(points, t) % shares.PRIME
    found = {**{x: parts[x - 1] for x in range(1, t)}, t: last.to_bytes(33, "big")}
    assert shares.combine(found, t) == other


def _through(points: dict[int, int], at: int) -> int:
    total, p = 0, shares.PRIME
    for x, value in points.items():
        above = below = 1
        for y in points:
            if y != x:
                above, below = above * (at - y) % p, below * (x - y) % p
        total += value * above * pow(below, -1, p)
    return total


@given(SECRET, SECRET, st.integers(0, 32))
def test_a_share_that_is_none_never_passes_for_a_secret_unnoticed(secret: bytes, coins: bytes, at: int) -> None:
    parts = [bytearray(part) for part in shares.split(secret, 3, 3, coins)]
    parts[1][at] ^= 0x40
    try:
        found = shares.combine({x + 1: bytes(part) for x, part in enumerate(parts)}, 3)
    except Invalid:
        return
    assert found != secret


def test_shares_of_what_is_no_secret_are_refused_and_end_nothing() -> None:
    """Their author chose them: a value of the field that is longer than a secret, and shares that are of no holder."""
    beyond = (shares.PRIME - 1).to_bytes(shares.SHARE_BYTES, "big")
    good = shares.split(bytes(32), 2, 3, bytes(32))
    for wrong in (
        {1: beyond, 2: beyond},
        {0: good[0], 1: good[0]},
        {1: good[0], 2: b"\0" + good[1]},
        {1: good[0], 2: b"\xff" * 33},
    ):
        with pytest.raises(Invalid, match="not of one secret"):
            shares.combine(wrong, 2)


@st.composite
def sums(draw: st.DrawFn) -> tuple[Encoding, np.ndarray]:
    bits, sites = draw(st.sampled_from([16, 32, 64])), draw(st.integers(1, 200))
    limit = draw(st.floats(1e-6, 1e6))
    encoding = Encoding(bits, limit, sites)
    rows = draw(st.integers(1, min(sites, 12)))
    values = draw(st.lists(st.floats(-3, 3) | st.sampled_from([-1.0, 1.0, 0.0]), min_size=4 * rows, max_size=4 * rows))
    return encoding, limit * np.array(values).reshape(rows, 4)


@settings(max_examples=300)
@given(sums())
def test_a_sum_of_integers_is_the_sum_of_the_clamped_values(case: tuple[Encoding, np.ndarray]) -> None:
    encoding, rows = case
    total, clamped = np.zeros(4, dtype=f"u{encoding.bits // 8}"), 0
    for row in rows:
        part, count = encoding.encode(row, np.full(4, 0.5))
        total, clamped = total + part, clamped + count
    assert clamped == np.count_nonzero(np.abs(rows) > encoding.limit)
    wanted = np.clip(rows, -encoding.limit, encoding.limit).sum(axis=0)
    assert np.all(
        np.abs(encoding.decode(total) - wanted) <= len(rows) * (0.5 + 1e-6) / encoding.scale + 1e-9 * np.abs(wanted)
    )


@given(st.sampled_from([16, 32, 64]), st.integers(1, 200), st.floats(1e-6, 1e6), st.booleans())
@example(64, 2, 2.0**51 - 1, True)  # beside so large a value a chance of nearly one is rounded to one
def test_all_sites_at_the_limit_do_not_overflow(bits: int, sites: int, limit: float, high: bool) -> None:
    encoding = Encoding(bits, limit, sites)
    sign = 1 if high else -1
    part, _ = encoding.encode(np.array([sign * limit * 7]), np.array([np.nextafter(1.0, 0.0) if high else 0.0]))
    within, _ = encoding.encode(np.array([sign * limit]), np.array([np.nextafter(1.0, 0.0) if high else 0.0]))
    assert all(abs(int(one.view(f"<i{bits // 8}")[0])) <= encoding.top for one in (part, within))
    total = np.zeros(1, dtype=part.dtype)
    for _ in range(sites):
        total += part
    assert sign * encoding.decode(total)[0] > 0.4 * sites * limit, "it has not wrapped around"
    assert abs(encoding.decode(total)[0]) <= sites * (limit + 1 / encoding.scale)


@given(
    st.sampled_from([16, 32, 64]), st.integers(1, 200), st.floats(1e-6, 1e6) | st.integers(0, 15).map(lambda n: 2.0**n)
)
def test_a_value_at_the_limit_is_not_cut(bits: int, sites: int, limit: float) -> None:
    encoding = Encoding(bits, limit, sites)
    assert encoding.scale * limit <= encoding.top < encoding.scale * limit * 2 + 1, "and no bit is given away"
    part, clamped = encoding.encode(np.array([limit, -limit]), 0.0)
    assert clamped == 0 and list(part.view(f"<i{bits // 8}")) == [
        int(np.floor(sign * limit * encoding.scale)) for sign in (1, -1)
    ]


def test_rounding_by_chance_has_no_bias() -> None:
    rng = np.random.default_rng(3)
    encoding = Encoding(16, 1.0, 100)
    values = np.full(400_000, 0.3 / encoding.scale)
    part, _ = encoding.encode(values, rng.random(values.size))
    assert abs(encoding.decode(part).mean() * encoding.scale - 0.3) < 0.005


@pytest.mark.parametrize("limit", [0.0, -1.0, float("inf"), float("nan")])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(Invalid):
        Encoding(32, limit, 3)


def test_bits_that_are_too_few_are_refused() -> None:
    with pytest.raises(Invalid):
        Encoding(16, 1.0, 40_000)
    with pytest.raises(Invalid):
        Encoding(32, 1.0, 3).encode(np.array([np.nan]), np.array([0.5]))
