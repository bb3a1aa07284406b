"""The noise is normal, unpredictable without its key, and the same with it; samples are Poisson samples."""

import math
from unittest import mock

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from consilium.core.errors import Invalid
from consilium.privacy import noise
from consilium.privacy.noise import BLOCK, TAIL, _decide, _ends, _heights, _Stream, drawn, integers, normal, uniform

KEY = bytes(range(32))


def _stream(size: int) -> bytes:
    return Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def test_uniform_values_are_those_of_the_stream() -> None:
    size = BLOCK + 5  # the stream goes on from block to block
    stream = _stream(8 * size)
    words = np.array([int.from_bytes(stream[i : i + 8], "little") >> 11 for i in range(0, 8 * size, 8)])
    assert np.array_equal(uniform(KEY, size), (words + 0.5) / 2**53)
    assert uniform(KEY, size).min() > 0 and uniform(KEY, size).max() < 1


def test_normal_values_pass_for_normal() -> None:
    found = normal(KEY, 200_001, 3.0)
    assert stats.kstest(found / 3.0, "norm").pvalue > 0.01
    assert (
        abs(stats.kurtosis(found)) < 0.05 and abs(found.mean()) < 0.03 and found.std() == pytest.approx(3.0, rel=0.01)
    )
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02
    assert np.array_equal(found, normal(KEY, 200_001, 3.0))
    assert abs(np.corrcoef(found, normal(KEY[::-1], 200_001, 3.0))[0, 1]) < 0.02


def test_normal_values_are_as_many_as_they_should_be_far_out() -> None:
    """Within four standard errors of what is expected beyond each bound, where layers end and where the tail begins."""
    found = np.abs(normal(KEY, 1_500_000, 1.0))
    for bound in (0.2, 1.0, 2.0, 3.0, 3.9, TAIL, 4.3):
        wanted = found.size * 2 * stats.norm.sf(bound)
        assert abs(np.sum(found > bound) - wanted) < 4 * np.sqrt(wanted), bound
    within = found[found < 0.14]  # of the uppermost layers, where wedges are largest
    assert stats.kstest(within, stats.truncnorm(0, 0.14).cdf).pvalue > 0.01
    beyond = found[found > TAIL]
    assert len(beyond) > 50 and stats.kstest(beyond, stats.truncnorm(TAIL, np.inf).cdf).pvalue > 0.01


def test_normal_values_are_those_of_the_ziggurat_word_by_word() -> None:
    """A slow second one, of which layers are found by halving and heights by the paper: the same to nine digits."""
    size = 2 * BLOCK + 7
    words = iter(np.frombuffer(_stream(8 * (size + 5000)), "<i8").tolist())
    ends = _layers()

    def uniform() -> float:
        return ((next(words) % 2**64 >> 11) + 0.5) / 2**53

    def place() -> tuple[int, float, bool]:
        word = next(words)
        layer = word % 1024
        value = (word >> 10) / 2**53 * ends[layer]
        return layer, value, abs(value) < ends[layer + 1]

    drawn = {at: place() for at in range(size)}
    left, tails, anew = [at for at in drawn if not drawn[at][2]], 0, 0
    while left:
        firsts, seconds = [uniform() for _ in left], [uniform() for _ in left]
        still = []
        for at, first, second in zip(left, firsts, seconds, strict=True):
            layer, value, _ = drawn[at]
            if layer == 0:
                far = -math.log(first) / ends[1]
                ok, tails = -2 * math.log(second) >= far**2, tails + 1
                drawn[at] = (0, math.copysign(ends[1] + far, value) if ok else value, ok)
            else:
                low, high = (math.exp(-(ends[layer + up] ** 2) / 2) for up in (0, 1))
                drawn[at] = (layer, value, low + first * (high - low) < math.exp(-(value**2) / 2))
            if not drawn[at][2]:
                still.append(at)
        for at in [at for at in still if drawn[at][0] > 0]:
            drawn[at], anew = place(), anew + 1
        left = [at for at in still if not drawn[at][2]]
    assert tails > 0 and anew > 5, "the key has all that may happen"
    assert np.allclose(normal(KEY, size, 1.0), [drawn[at][1] for at in range(size)], rtol=1e-9, atol=0)


def _layers() -> list[float]:
    """Right ends of 1,024 layers of one area and 0.0 above them, found by halving from nothing but their number."""

    def piled(tail: float) -> list[float]:
        area = tail * math.exp(-(tail**2) / 2) + math.sqrt(math.pi / 2) * math.erfc(tail / math.sqrt(2))
        found = [area / math.exp(-(tail**2) / 2), tail]
        while len(found) < 1024 and (height := area / found[-1] + math.exp(-(found[-1] ** 2) / 2)) < 1:
            found.append(math.sqrt(-2 * math.log(height)))
        return found

    low, high = 3.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        found = piled(middle)
        enough = len(found) == 1024 and found[1] * math.exp(-(found[1] ** 2) / 2) < 1
        top = (
            0.0 if not enough else (found[0] * math.exp(-(middle**2) / 2)) / found[-1] + math.exp(-(found[-1] ** 2) / 2)
        )
        low, high = (low, middle) if enough and top <= 1 else (middle, high)
    return [*piled(high), 0.0]


@pytest.mark.parametrize("lowest", [False, True])
def test_few_undecided_values_are_decided_as_many_are(lowest: bool) -> None:
    rng = np.random.default_rng(3)
    layers = rng.integers(0, 1 if lowest else 1024, 3000)
    begun = rng.uniform(_ends()[layers + 1], _ends()[layers]) * rng.choice([-1, 1], 3000)
    found = []
    for few in (0, 3000):
        with mock.patch.object(noise, "FEW", few):
            _decide(_Stream(KEY), values := begun.copy(), np.arange(3000), layers.copy())
        found.append(values)
    assert np.array_equal(*found) and np.count_nonzero(found[0] != begun) > 1000


def test_the_tail_is_that_of_the_normal_law_on_either_side() -> None:
    """No value of the other tests is of the left tail, or was drawn there twice."""
    drawn_, places = np.tile([4.1, -4.1], 50_000), np.arange(100_000)
    found = drawn_.copy()
    _decide(_Stream(KEY), found, places, np.zeros_like(places))
    assert np.array_equal(np.sign(found), np.sign(drawn_))
    assert stats.kstest(np.abs(found), stats.truncnorm(TAIL, np.inf).cdf).pvalue > 0.001


def test_heights_are_the_density_where_layers_end() -> None:
    assert np.allclose(_heights(), [math.exp(-(end**2) / 2) for end in _ends()], rtol=1e-12, atol=0)


def test_integers_sum_to_the_promised_noise() -> None:
    shares = [integers(bytes([site]) * 32, 50_000, 256.0) for site in range(4)]
    assert np.sum(shares, axis=0).std() == pytest.approx(512.0, rel=0.01)
    with pytest.raises(Invalid):
        integers(KEY, 10, 3.9)


def test_a_sample_is_drawn_patient_by_patient() -> None:
    counts = [int(drawn(index.to_bytes(32, "big"), 400, 0.25).sum()) for index in range(400)]
    assert np.mean(counts) == pytest.approx(100, abs=2.0)
    assert np.var(counts) == pytest.approx(75, rel=0.3), "the number drawn varies as a binomial's does"
    assert drawn(KEY, 100, 1.0).all()
    with pytest.raises(Invalid):
        drawn(KEY, 10, 0.0)
