"""Masks: streams of AES-256-CTR that are added to integers modulo a power of two, and fall away in the sum.

One key serves one vector of named segments once: each segment has a key of its own, with the counter at zero.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

Integers = npt.NDArray[np.unsignedinteger[Any]]
BLOCK = 1 << 18
"""Bytes per step, a whole number of the cipher's blocks: of those from 64 KB to 1 MB masks are laid fastest by it."""
_ZEROS = bytes(BLOCK)
_AES_BLOCK = 16


def expand(key: bytes, label: bytes, length: int = 32) -> bytes:
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3. key: 32 bytes, uniformly random."""
    return HKDFExpand(hashes.SHA256(), length, label).derive(key)


def segment_key(key: bytes, segment: str) -> bytes:
    """The key of one named segment."""
    return expand(key, b"flsa/1 seg" + segment.encode())


def add(vector: Integers, key: bytes, sign: int, start: int = 0) -> None:
    """Add (`sign` 1) or subtract (-1) the stream of a segment's key, in place, modulo 2^bits.

    Args:    vector: (n,) uint16, uint32 or uint64, contiguous: elements `start` to `start + n` of the segment.
             start: in elements; a whole number of 16-byte blocks of the cipher.
    Raises:  ValueError: `start` lies within a block.
    """
    width = vector.dtype.itemsize
    first, rest = divmod(start * width, _AES_BLOCK)
    if rest or sign not in (1, -1):
        raise ValueError("a stream starts at a whole block, and its sign is 1 or -1")
    stream = Cipher(algorithms.AES(key), modes.CTR(first.to_bytes(16, "big"))).encryptor()
    buffer = np.empty(min(BLOCK, vector.nbytes) + _AES_BLOCK, dtype=np.uint8)
    step, little = BLOCK // width, vector.dtype.newbyteorder("<")
    for at in range(0, vector.size, step):
        part = vector[at : at + step]
        size = part.size * width
        stream.update_into(memoryview(_ZEROS)[:size], buffer.data)
        mask = buffer[:size].view(little)
        if sign > 0:
            np.add(part, mask, out=part)
        else:
            np.subtract(part, mask, out=part)
