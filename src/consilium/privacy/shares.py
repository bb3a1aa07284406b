"""Secret sharing over a prime field. Shamir, CACM 1979, https://doi.org/10.1145/359168.359176.

A secret of 32 bytes becomes n shares of which any t give it back, and fewer say nothing about it.
"""

from collections.abc import Mapping
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from consilium.core.errors import Invalid

PRIME = 2**256 + 297
"""The smallest prime above 2^256, so that every 32 bytes are an element."""
SECRET_BYTES, SHARE_BYTES = 32, 33
_WIDE = 48  # bytes per coefficient: 128 bits more than the prime has, so that none is likelier than another


def split(secret: bytes, threshold: int, holders: int, coins: bytes) -> tuple[bytes, ...]:
    """Shares for the holders 1 to n, in this order.

    Args:    secret, coins: 32 bytes each; `coins` fresh for every secret, the same for a retry.
    Raises:  ValueError: not 1 <= threshold <= holders, or wrong lengths.
    """
    if not 1 <= threshold <= holders or len(secret) != SECRET_BYTES or len(coins) != SECRET_BYTES:
        raise ValueError("needs 32 bytes of secret, 32 of coins, and 1 <= threshold <= holders")
    stream = Cipher(algorithms.AES(coins), modes.CTR(bytes(16))).encryptor().update(bytes(_WIDE * (threshold - 1)))
    rest = [int.from_bytes(stream[at : at + _WIDE], "big") % PRIME for at in range(0, len(stream), _WIDE)]
    polynomial = [int.from_bytes(secret, "big"), *rest]
    return tuple(_value(polynomial, x).to_bytes(SHARE_BYTES, "big") for x in range(1, holders + 1))


def _value(polynomial: list[int], x: int) -> int:
    found = 0
    for coefficient in reversed(polynomial):
        found = found * x + coefficient
    return found % PRIME  # once: a factor as small as x makes less work than a remainder at each step


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, from at least `threshold` shares by their holder (1 to n); of more, the lowest holders' are taken.

    Raises: Invalid: too few shares, or what they give is no secret.
    """
    if len(shares) < threshold:
        raise Invalid(f"{len(shares)} shares do not open what {threshold} open", "wait for more sites")
    holders = tuple(sorted(shares)[:threshold])
    values = [int.from_bytes(shares[x], "big") for x in holders]
    good = holders[0] > 0 and all(len(shares[x]) == SHARE_BYTES for x in holders) and max(values) < PRIME
    secret = sum(v * w for v, w in zip(values, _weights(holders), strict=True)) % PRIME if good else PRIME
    if secret >= 1 << (8 * SECRET_BYTES):
        raise Invalid("these shares are not of one secret", "try the shares of other sites")
    return secret.to_bytes(SECRET_BYTES, "big")


@lru_cache(maxsize=1024)
def _weights(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's weights at 0; one set of holders opens many secrets."""
    found = []
    for x in holders:
        above = below = 1
        for other in holders:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        found.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(found)
