"""Agreeing on keys a second time, from its description alone: nothing of the package is used here.

X25519 is the ladder of RFC 7748 on Python's integers, HKDF is written from RFC 5869, and messages are dictionaries.
Only ML-KEM-768 is that of the library, whose known answers `test_primitives` checks.
"""

import hmac
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from vectors.slow_secagg import expand, h, text

P = 2**255 - 19
Json = dict[str, Any]


def x25519(scalar: bytes, point: bytes) -> bytes:
    """RFC 7748, section 5."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    u = int.from_bytes(point, "little") & ~(1 << 255)
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for at in reversed(range(255)):
        bit = k >> at & 1
        if swap ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % P, c * b % P, a * a % P, b * b % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        e = aa - bb
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def keys(
    run: str, epoch: int, site: str, identity: str, min_sites: int, secrets: Json, declares: bool = False
) -> Json:  # fmt: skip
    exchange = x25519(bytes.fromhex(secrets["x25519"]), (9).to_bytes(32, "little"))
    capsule = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(secrets["mlkem768"])).public_key().public_bytes_raw()
    return {
        "study": run, "epoch": epoch, "site": site, "identity": identity, "x25519": exchange.hex(),
        "mlkem768": capsule.hex(), "nonce_hash": h(bytes.fromhex(secrets["nonce"])).hex(), "min_sites": min_sites,
        **({"declares": True} if declares else {}),
    }  # fmt: skip


def roster(told: Json) -> bytes:
    return h(text([h(text(told[site])).hex() for site in sorted(told)]))


def fingerprint(told: Json, paired: Json) -> bytes:
    return h(text([roster(told).hex(), *(paired[site]["nonce"] for site in sorted(told))]))


def root(told: Json, paired: Json, secrets: Json, one: str, other: str) -> bytes:
    """The key of two sites, as the later of both works it out: it decapsulates."""
    low, high = sorted((one, other))
    own = secrets[high]
    exchanged = x25519(bytes.fromhex(own["x25519"]), bytes.fromhex(told[low]["x25519"]))
    sent = bytes.fromhex(paired[low]["ciphertexts"][high])
    shared = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(own["mlkem768"])).decapsulate(sent)
    info = text(["flsa/1 root", low, high, told[low]["x25519"], told[high]["x25519"], h(sent).hex()])
    return expand(hmac.new(roster(told), exchanged + shared, sha256).digest(), info)


def confirmed(told: Json, site: str, roots: dict[str, bytes]) -> Json:
    tags = {
        other: hmac.new(expand(key, b"flsa/1 confirm"), text([roster(told).hex(), site, other]), sha256).hexdigest()
        for other, key in roots.items()
    }
    return {"roster": roster(told).hex(), "site": site, "tags": tags}


def ratchet(chain: bytes, opening: int) -> tuple[bytes, bytes]:
    both = expand(chain, text(["flsa/1 ratchet", opening]), 64)
    return both[:32], both[32:]
