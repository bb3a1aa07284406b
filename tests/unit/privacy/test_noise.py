"""The noise is normal, unpredictable without its key, and the same with it; samples are Poisson samples."""

import numpy as np
import pytest
from scipy import stats

from consilium.core.errors import Invalid
from consilium.privacy.noise import BLOCK, drawn, integers, normal, uniform

KEY = bytes(range(32))


def test_uniform_values_are_those_of_the_stream() -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    size = BLOCK + 5  # the stream goes on from block to block
    stream = Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(8 * size))
    words = np.array([int.from_bytes(stream[i : i + 8], "little") >> 11 for i in range(0, 8 * size, 8)])
    assert np.array_equal(uniform(KEY, size), (words + 0.5) / 2**53)
    assert uniform(KEY, size).min() > 0 and uniform(KEY, size).max() < 1


def test_normal_values_pass_for_normal() -> None:
    found = normal(KEY, 200_001, 3.0)
    assert stats.kstest(found / 3.0, "norm").pvalue > 0.01
    assert (
        abs(stats.kurtosis(found)) < 0.05 and abs(found.mean()) < 0.03 and found.std() == pytest.approx(3.0, rel=0.01)
    )
    pairs = np.corrcoef(found[:100_000], found[100_001:])[0, 1]  # both halves come of the same draws
    assert abs(pairs) < 0.02
    assert np.array_equal(found, normal(KEY, 200_001, 3.0))
    assert abs(np.corrcoef(found, normal(KEY[::-1], 200_001, 3.0))[0, 1]) < 0.02


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
