"""Noise that nobody can predict: normal values from a stream of AES-256-CTR, as integers; and fair coins for samples.

A generator of numpy or torch would do for statistics and not against an adversary. One key serves one vector once.

Normal values are those of the ziggurat (Marsaglia and Tsang, J. Statistical Software 5(8), 2000): the area under
the density is cut into layers of one size, and nearly every value is a place in a layer, from one word of the stream.
Layer and place are of different bits (Doornik 2005). No value depends on how many are computed at once.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.core.errors import Invalid

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.int64]
BLOCK = 1 << 13
"""Values per step: they and what is computed of them fit a core's cache. The values do not depend on it."""
_ZEROS = bytes(8 * BLOCK)
FEW = 64
"""So many undecided values are looked at one by one. The values do not depend on it, either."""
LAYERS = 1 << 10
TAIL = 4.038849846109504
"""Where the lowest layer ends and the tail begins, if so many layers have one area."""


class _Stream:
    """A key's words, one after the other."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, size: int) -> Words:
        """The next `size` words, at most a block."""
        return np.frombuffer(self._cipher.update(memoryview(_ZEROS)[: 8 * size]), dtype="<i8")

    def uniform(self, size: int) -> Floats:
        """The next `size` of them as values in (0, 1)."""
        found = np.empty(size)
        for start in range(0, size, BLOCK):
            part = found[start : start + BLOCK]
            part[:] = self.words(part.size).view("<u8") >> np.uint64(11)
            part += 0.5
            part *= 2.0**-53
        return found


def uniform(key: bytes, size: int) -> Floats:
    """(size,) values in (0, 1), of 53 bits each; never 0, so that a logarithm can be taken."""
    return _Stream(key).uniform(size)


@cache
def _ends() -> Floats:
    """Right ends of the layers from below, (LAYERS + 1,): where each ends that has the one above it within."""
    tail = math.sqrt(math.pi / 2) * math.erfc(TAIL / math.sqrt(2))
    area = TAIL * math.exp(-(TAIL**2) / 2) + tail
    found = [area / math.exp(-(TAIL**2) / 2), TAIL]  # the lowest is as wide as if its tail stood upright
    while len(found) < LAYERS:
        found.append(math.sqrt(-2 * math.log(area / found[-1] + math.exp(-(found[-1] ** 2) / 2))))
    return np.array([*found, 0.0])


@cache
def _steps() -> Floats:
    return _ends() * 2.0**-53


@cache
def _heights() -> Floats:
    return np.exp(-np.square(_ends()) / 2)


@cache
def _lists() -> tuple[list[float], list[float], list[float]]:
    return _steps().tolist(), _ends().tolist(), _heights().tolist()


def _places(words: Words, out: Floats) -> tuple[Words, Words]:
    """Write a place in its layer for each word; which of them are beyond the layer above, and of which layers."""
    layer = words & (LAYERS - 1)
    np.multiply(words >> 10, _steps().take(layer), out=out)
    (beyond,) = (np.abs(out) >= _ends()[1:].take(layer)).nonzero()
    return beyond, layer[beyond]


def normal(key: bytes, size: int, deviation: float) -> Floats:
    """(size,) values of N(0, deviation^2). Raises: Invalid: no deviation."""
    if not (deviation >= 0 and np.isfinite(deviation)):
        raise Invalid(f"{deviation} is no standard deviation", "calibrate the noise")
    stream, found = _Stream(key), np.empty(size)
    at, layers = [], []
    for start in range(0, size, BLOCK):
        part = found[start : start + BLOCK]
        beyond, layer = _places(stream.words(part.size), part)
        at.append(beyond + start)
        layers.append(layer)
    if at:
        _decide(stream, found, np.concatenate(at), np.concatenate(layers))
    found *= deviation
    return found


def _decide(stream: _Stream, found: Floats, at: Words, layer: Words) -> None:
    """Decide on the places that are beyond the layer above: below the density they stay, and else are drawn anew.

    Beyond the end of the lowest layer they are of the tail (Marsaglia, Technometrics 6, 1964), whichever is drawn.
    """
    while at.size:
        at, layer = (_few if at.size <= FEW else _many)(stream, found, at, layer)


def _many(stream: _Stream, found: Floats, at: Words, layer: Words) -> tuple[Words, Words]:
    """Decide once; which places are still to be decided on, and of which layers they are."""
    heights, value = _heights(), found[at]
    first, second = stream.uniform(2 * at.size).reshape(2, -1)
    stays = heights[layer] + first * (heights[layer + 1] - heights[layer]) < np.exp(-value * value / 2)
    for one in np.flatnonzero(layer == 0):  # fifty in a million
        far = -math.log(first[one]) / TAIL
        stays[one] = -2 * math.log(second[one]) >= far * far
        if stays[one]:
            found[at[one]] = math.copysign(TAIL + far, value[one])
    at, layer = at[~stays], layer[~stays]
    anew = np.flatnonzero(layer)
    drawn, left = np.empty(anew.size), layer == 0
    for start in range(0, anew.size, BLOCK):
        part = slice(start, start + BLOCK)
        beyond, of = _places(stream.words(anew[part].size), drawn[part])
        left[anew[part][beyond]] = True
        layer[anew[part][beyond]] = of
    found[at[anew]] = drawn
    return at[left], layer[left]


def _few(stream: _Stream, found: Floats, at: Words, layer: Words) -> tuple[Words, Words]:
    """The same, to the bit, one by one: of few, numpy needs more time for each of its calls."""
    (steps, ends, heights), value = _lists(), found[at]
    chance, density = stream.uniform(2 * at.size).tolist(), np.exp(-value * value / 2).tolist()
    places, layers = at.tolist(), layer.tolist()
    anew, left = [], []
    for one, of in enumerate(layers):
        if of:
            low = heights[of]
            if low + chance[one] * (heights[of + 1] - low) >= density[one]:
                anew.append(one)
            continue
        far = -math.log(chance[one]) / TAIL
        if -2 * math.log(chance[len(places) + one]) >= far * far:
            found[places[one]] = math.copysign(TAIL + far, value[one])
        else:
            left.append(one)
    for one, word in zip(anew, stream.words(len(anew)).tolist(), strict=True):
        of = layers[one] = word & (LAYERS - 1)
        found[places[one]] = place = (word >> 10) * steps[of]
        if abs(place) >= ends[of + 1]:
            left.append(one)
    left.sort()
    return np.array([places[one] for one in left], dtype=np.int64), np.array([layers[one] for one in left], np.int64)


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
    stream, found, below = _Stream(key), np.empty(size, dtype=np.bool_), np.uint64(math.ceil(rate * 2.0**53 - 0.5))
    for start in range(0, size, BLOCK):
        part = found[start : start + BLOCK]
        np.less(stream.words(part.size).view("<u8") >> np.uint64(11), below, out=part)
    return found
