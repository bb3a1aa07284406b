"""Secure aggregation a second time, slowly and from its description alone: nothing of the package is used here.

Integers are Python's, HKDF-Expand is written from RFC 5869, the key stream is AES block by block, and messages are
dictionaries.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P = 2**256 + 297
Json = dict[str, Any]


def text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def expand(key: bytes, info: bytes, length: int = 32) -> bytes:
    block, out, number = b"", b"", 1
    while len(out) < length:
        block = hmac.new(key, block + info + bytes([number]), hashlib.sha256).digest()
        out, number = out + block, number + 1
    return out[:length]


def keystream(key: bytes) -> Iterator[int]:
    """Bytes of AES-256 in counter mode, from zero."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    counter = 0
    while True:
        yield from cipher.update(counter.to_bytes(16, "big"))
        counter += 1


def words(key: bytes, name: str, bits: int, length: int) -> list[int]:
    stream = keystream(expand(key, b"flsa/1 seg" + name.encode()))
    return [sum(next(stream) << (8 * at) for at in range(bits // 8)) for _ in range(length)]


def t_of(n: int) -> int:
    return (2 * n) // 3 + 1


def share(secret: bytes, t: int, n: int, coins: bytes) -> list[bytes]:
    stream = keystream(coins)
    more = [int.from_bytes(bytes(next(stream) for _ in range(48)), "big") % P for _ in range(t - 1)]
    polynomial = [int.from_bytes(secret, "big"), *more]
    return [(sum(c * x**k for k, c in enumerate(polynomial)) % P).to_bytes(33, "big") for x in range(1, n + 1)]


def commitment(context: bytes, key: bytes) -> bytes:
    return h(text(["flsa/1 commitment", context.hex(), key.hex()]))


class SlowSite:
    """One site of one attempt."""

    def __init__(self, name: str, keys: dict[str, bytes], coins: bytes, opened: Json) -> None:
        self.name, self.keys, self.coins, self.opened = name, keys, coins, opened
        self.ctx = h(text(opened))
        self.b = expand(coins, text(["flsa/1 own", self.ctx.hex()]))

    def ready(self) -> Json:
        nonce = expand(self.coins, text(["flsa/1 nonce", self.ctx.hex()]))
        own = commitment(self.ctx, self.b)
        return {"ctx": self.ctx.hex(), "site": self.name, "nonce": nonce.hex(), "own_hash": own.hex(), "lacks": []}

    def call(self, active: list[Json]) -> None:
        active = sorted(active, key=lambda one: one["site"])
        self.active = [one["site"] for one in active]
        self.ctx2 = h(text([h(text(one)).hex() for one in (self.opened, *active)]))

    def pair(self, other: str) -> bytes:
        return expand(self.keys[other], text(["flsa/1 mask", self.ctx2.hex()]))

    def masked(self, values: dict[str, list[int]]) -> dict[str, list[int]]:
        found = {}
        for segment in self.opened["segments"]:
            name, bits = segment["name"], segment["bits"]
            total = list(values[name])
            lay = [(self.b, 1)] + [
                (self.pair(o), 1 if o > self.name else -1) for o in self.active if o != self.name
            ]  # fmt: skip
            for key, sign in lay:
                total = [(v + sign * m) % 2**bits for v, m in zip(total, words(key, name, bits, len(total)))]
            found[name] = total
        return found

    def message(self, vector: str) -> Json:
        cohort = self.opened["cohort"]
        secrets = {self.name: self.b} | {o: self.pair(o) for o in self.active if o != self.name}
        parts = {
            subject: share(
                secret, t_of(len(cohort)), len(cohort),
                expand(self.coins, text(["flsa/1 shares", self.ctx2.hex(), subject])),
            )
            for subject, secret in secrets.items()
        }  # fmt: skip
        boxes = {self.name: ""}
        for holder in self.active:
            if holder != self.name:
                inside = b"".join(parts[subject][cohort.index(holder)] for subject in sorted(parts))
                label = text(["flsa/1 box", self.ctx2.hex(), self.name, holder])
                boxes[holder] = AESGCM(expand(self.keys[holder], label)).encrypt(bytes(12), inside, label).hex()
        return {
            "ctx2": self.ctx2.hex(), "site": self.name, "vector": vector, "boxes": boxes,
            "share_hashes": {subject: [h(one).hex() for one in found] for subject, found in parts.items()},
            "pair_hashes": {o: commitment(self.ctx2, self.pair(o)).hex() for o in self.active if o != self.name},
        }  # fmt: skip

    def confirm(self, survivors: dict[str, Json]) -> Json:
        seen = h(text([h(text(survivors[site])).hex() for site in sorted(survivors)]))
        return {"ctx2": self.ctx2.hex(), "site": self.name, "survivors": seen.hex()}

    def unmask(self, survivors: dict[str, Json]) -> Json:
        cohort, own, pairs = self.opened["cohort"], {}, {}
        for author, message in survivors.items():
            if author == self.name:
                mine = self.message(message["vector"])
                assert mine == message
                secrets = {self.name: self.b} | {o: self.pair(o) for o in self.active if o != self.name}
                held = {
                    subject: share(
                        secret, t_of(len(cohort)), len(cohort),
                        expand(self.coins, text(["flsa/1 shares", self.ctx2.hex(), subject])),
                    )[cohort.index(self.name)]
                    for subject, secret in secrets.items()
                }  # fmt: skip
            else:
                label = text(["flsa/1 box", self.ctx2.hex(), author, self.name])
                sealed = bytes.fromhex(message["boxes"][self.name])
                inside = AESGCM(expand(self.keys[author], label)).decrypt(bytes(12), sealed, label)
                held = {s: inside[33 * at : 33 * at + 33] for at, s in enumerate(sorted(self.active))}
            own[author] = held[author].hex()
            pairs[author] = {lost: held[lost].hex() for lost in self.active if lost not in survivors}
        return {"ctx2": self.ctx2.hex(), "site": self.name, "own": own, "pairs": pairs}
