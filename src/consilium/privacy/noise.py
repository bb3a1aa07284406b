"""Noise that nobody can predict: normal values from a stream of AES-256-CTR, as integers; and fair coins for samples.

A generator of numpy or torch would do for statistics and not against an adversary. One key serves one vector once.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.core.errors import Invalid

Floats = npt.NDArray[np.float64]
BLOCK = 1 << 16
"""Values per step."""


def _words(key: bytes) -> Iterator[npt.NDArray[np.uint64]]:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    zeros = bytes(8 * BLOCK)
    while True:
        yield np.frombuffer(stream.update(zeros), dtype="<u8")


def uniform(key: bytes, size: int) -> Floats:
    """(size,) values in (0, 1), of 53 bits each; never 0, so that a logarithm can be taken."""
    found, words = np.empty(size), _words(key)
    for start in range(0, size, BLOCK):
        part = found[start : start + BLOCK]
        part[:] = ((next(words)[: part.size] >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return found


def normal(key: bytes, size: int, deviation: float) -> Floats:
    """(size,) values of N(0, deviation^2), by Box and Muller 1958. Raises: Invalid: no deviation."""
    if not (deviation >= 0 and np.isfinite(deviation)):
        raise Invalid(f"{deviation} is no standard deviation", "calibrate the noise")
    half = (size + 1) // 2
    drawn = uniform(key, 2 * half)
    radius, angle = np.sqrt(-2.0 * np.log(drawn[:half])), 2.0 * np.pi * drawn[half:]
    return deviation * np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]


def integers(key: bytes, size: int, deviation: float) -> npt.NDArray[np.int64]:
    """(size,) normal values rounded to integers: with a deviation of some hundreds, a discrete Gaussian's equal.

    Raises: Invalid: the deviation is below 4, where rounding is no small change any more.
    """
    if deviation < 4:
        raise Invalid(
            f"noise of {deviation:g} integers is too coarse", "use more bits, or a larger clip: the scale follows it"
        )
    return np.rint(normal(key, size, deviation)).astype(np.int64)


def drawn(key: bytes, size: int, rate: float) -> npt.NDArray[np.bool_]:
    """Poisson sampling: each of `size` patients with probability `rate`, independently of all others.

    Raises: Invalid: the rate is not in (0, 1].
    """
    if not 0 < rate <= 1:
        raise Invalid(f"a sampling rate of {rate} is not in (0, 1]", "correct the study")
    return uniform(key, size) < rate
