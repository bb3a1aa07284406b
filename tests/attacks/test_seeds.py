"""A8: masks from a seed that is folded to few bits are found by trying; ours take a key of 256 bits as it is.

The generator imitated here folds 32 bytes to 32 bits by exclusive or, and feeds a Mersenne twister (Flower issue 7522);
the search space is cut to 16 bits, so that the test tries all of it in a second. 32 bits take an afternoon.
"""

import numpy as np
import pytest

from consilium.privacy import masks

LENGTH, SMALL = 8, 1 << 16
TWISTER = np.random.RandomState()
KEY = bytes(range(7, 39))


def folded(seed: bytes) -> int:
    """A seed as 16 bits: each half of the 32 that it is folded to, once more."""
    words = np.frombuffer(seed, dtype="<u2")
    return int(np.bitwise_xor.reduce(words))


def twister(seed: int) -> np.ndarray:
    TWISTER.seed(seed)
    return TWISTER.randint(0, 2**32, LENGTH, dtype=np.uint32)


def test_a8_a_folded_seed_is_found_by_trying_all() -> None:
    values = np.arange(1, LENGTH + 1, dtype=np.uint32) * 100  # quantised changes are small, beside 2^32
    covered = values + twister(folded(KEY))
    found = [seed for seed in range(1 << 16) if np.all(covered - twister(seed) < SMALL)]
    assert found == [folded(KEY)] and np.array_equal(covered - twister(found[0]), values)


def stream(key: bytes) -> np.ndarray:
    found = np.zeros(LENGTH, dtype=np.uint32)
    masks.add(found, key, 1)
    return found


def test_a8_our_masks_are_in_no_such_space() -> None:
    covered = np.arange(1, LENGTH + 1, dtype=np.uint32) * 100 + stream(masks.segment_key(KEY, "update"))
    for seed in range(1 << 12):  # of the 16 bits a part: each trial costs ten times as much
        for key in (seed.to_bytes(32, "little"), (folded(KEY) ^ seed).to_bytes(32, "big")):
            assert not np.all(covered - stream(key) < SMALL)


@pytest.mark.parametrize("step", range(0, 256, 8))
def test_a8_every_bit_of_a_key_counts(step: int) -> None:
    """Keys with one and the same fold have nothing in common; nor have keys that differ in one bit."""
    whole = int.from_bytes(KEY, "big")
    for bit in range(step, step + 8):
        other = (whole ^ (1 << bit)).to_bytes(32, "big")
        twin = (whole ^ (1 << bit) ^ (1 << (bit + 16) % 256)).to_bytes(32, "big")
        assert folded(twin) == folded(KEY)
        for name in ("update", "weight"):
            one = stream(masks.segment_key(KEY, name))
            assert not np.any(one == stream(masks.segment_key(other, name)))
            assert not np.any(one == stream(masks.segment_key(twin, name)))
