"""Noise that nobody can predict: normal values from a stream of AES-256-CTR, as integers; and fair coins for samples.

A generator of numpy or torch would do for statistics and not against an adversary. One key serves one vector once.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.core.errors import Invalid

Floats = npt.NDArray[np.float64]
BLOCK = 1 << 13
"""Values per step: they and what is computed of them fit a core's cache. The values do not depend on it."""
_ZEROS = bytes(8 * BLOCK)


def uniform(key: bytes, size: int) -> Floats:
    """(size,) values in (0, 1), of 53 bits each; never 0, so that a logarithm can be taken."""
    found = np.empty(size)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    for part in _blocks(found):
        words = np.frombuffer(stream.update(memoryview(_ZEROS)[: 8 * part.size]), dtype="<u8")
        part[:] = words >> np.uint64(11)
        part += 0.5
        part *= 2.0**-53
    return found


def _blocks(values: Floats) -> Iterator[Floats]:
    yield from (values[start : start + BLOCK] for start in range(0, values.size, BLOCK))


def normal(key: bytes, size: int, deviation: float) -> Floats:
    """(size,) values of N(0, deviation^2), by Box and Muller 1958. Raises: Invalid: no deviation."""
    if not (deviation >= 0 and np.isfinite(deviation)):
        raise Invalid(f"{deviation} is no standard deviation", "calibrate the noise")
    half = (size + 1) // 2
    found = uniform(key, 2 * half)
    for first, second in zip(_blocks(found[:half]), _blocks(found[half:]), strict=True):
        radius = np.sqrt(-2.0 * np.log(first))
        angle = 2.0 * np.pi * second
        for part, turned in ((first, np.cos(angle)), (second, np.sin(angle))):
            np.multiply(radius, turned, out=part)
            part *= deviation
    return found[:size]


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
