"""Every two sites of a study agree on a key, once: X25519 and ML-KEM-768 together, so that breaking one is not enough.

Source: Bonawitz et al., CCS 2017, https://doi.org/10.1145/3133956.3133982 (advertised keys); Flamingo, S&P 2023 (keys
that live for a study). The order of messages: `Keys` of all, the roster that follows from them, `Paired` of all,
`Confirmed` of all. Whoever relays them may withhold them; what it alters is found by `check`, or by people who compare
`Roster.words`. Who signed which message is checked before it comes here.
"""

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field

from consilium.core.errors import Refused
from consilium.core.ids import SiteId, canonical
from consilium.privacy.masks import expand

FLOOR = 3
"""Never fewer sites in an opened sum, whatever anybody configures."""


class Message(BaseModel):
    """A message of the protocol; its canonical bytes travel inside a signed envelope and are what is hashed."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="hex", val_json_bytes="hex")

    def encode(self) -> bytes:
        """The bytes that travel."""
        return canonical(self.model_dump(mode="json"))

    @cached_property
    def sha256(self) -> bytes:
        """Hash of the bytes that travel."""
        return sha256(self.encode()).digest()


class Keys(Message):
    """A site's public keys for an epoch, a commitment to its nonce, and its own floor.

    `study` names the run; `identity` is the key by which the site signs: what people compare holds it, too.
    `declares`: whether it means to tell figures of itself alone, when the run is finished; absent where it does not.
    """

    study: str
    epoch: int
    site: SiteId
    identity: str
    x25519: bytes = Field(min_length=32, max_length=32)
    mlkem768: bytes = Field(min_length=1184, max_length=1184)
    nonce_hash: bytes = Field(min_length=32, max_length=32)
    min_sites: int = Field(FLOOR, ge=FLOOR)
    declares: bool = Field(False, exclude_if=lambda declares: not declares)


class Paired(Message):
    """The site accepts this roster: its nonce, and what it encapsulated to each site after it in the roster."""

    roster: bytes = Field(min_length=32, max_length=32)
    site: SiteId
    nonce: bytes = Field(min_length=32, max_length=32)
    ciphertexts: dict[SiteId, bytes]


class Confirmed(Message):
    """Proof, to each other site, that both have the same key."""

    roster: bytes = Field(min_length=32, max_length=32)
    site: SiteId
    tags: dict[SiteId, bytes]


@dataclass(frozen=True)
class Secrets:
    """What a site keeps for an epoch: 32, 64 and 32 bytes, made at random and durable before their first use."""

    x25519: bytes
    mlkem768: bytes
    nonce: bytes

    def keys(
        self, study: str, epoch: int, site: SiteId, identity: str, min_sites: int = FLOOR, declares: bool = False
    ) -> Keys:
        """The message that makes the public halves known."""
        exchange = X25519PrivateKey.from_private_bytes(self.x25519).public_key().public_bytes_raw()
        capsule = MLKEM768PrivateKey.from_seed_bytes(self.mlkem768).public_key().public_bytes_raw()
        return Keys(
            study=study, epoch=epoch, site=site, identity=identity, x25519=exchange, mlkem768=capsule,
            nonce_hash=sha256(self.nonce).digest(), min_sites=min_sites,
            declares=declares,
        )  # fmt: skip


@dataclass(frozen=True)
class Roster:
    """All sites of an epoch, sorted by name. Two sites hold the same roster exactly when `digest` is equal."""

    keys: tuple[Keys, ...]

    @classmethod
    def of(cls, received: Mapping[SiteId, Keys], own: Keys) -> "Roster":
        """The roster, as one site accepts it.

        Raises: Refused: `roster`: too few sites, a name or key twice, another study or epoch, or the own entry altered.
        """
        keys = tuple(received[site] for site in sorted(received))
        if len(keys) < FLOOR:
            raise Refused(f"{len(keys)} sites are fewer than {FLOOR}", "wait for more sites", reason="roster")
        sound = (
            all(one.site == site for site, one in received.items())
            and {(one.study, one.epoch) for one in keys} == {(own.study, own.epoch)}
            and len({one.x25519 for one in keys}) == len({one.mlkem768 for one in keys}) == len(keys)
            and len({one.identity for one in keys}) == len(keys)
            and received.get(own.site) == own
        )
        if not sound:
            raise Refused("the roster is not one of honest sites", "compare it with the other sites", reason="roster")
        return cls(keys)

    @property
    def sites(self) -> tuple[SiteId, ...]:
        """Names, sorted."""
        return tuple(one.site for one in self.keys)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the keys of all."""
        return sha256(canonical([one.sha256.hex() for one in self.keys])).digest()

    @property
    def min_sites(self) -> int:
        """The largest floor that a site asks for."""
        return max(one.min_sites for one in self.keys)

    def all_declare(self, sites: Collection[SiteId]) -> bool:
        """Whether figures of single sites may be told beside sums over `sites`: where each of them said that it tells.

        Whoever is in a sum and not on this roster has not said it.
        """
        return {one.site for one in self.keys if one.declares}.issuperset(sites)

    def fingerprint(self, nonces: Mapping[SiteId, bytes]) -> bytes:
        """What people compare, as words: it holds every site's nonce, which nobody knew when the keys were sent."""
        return sha256(canonical([self.digest.hex(), *(nonces[site].hex() for site in self.sites)])).digest()


def pair(roster: Roster, own: Keys, secrets: Secrets, capsules: Mapping[SiteId, bytes]) -> Paired:
    """Accept a roster. capsules: ML-KEM ciphertexts to the sites after this one, made and kept by the shell."""
    return Paired(roster=roster.digest, site=own.site, nonce=secrets.nonce, ciphertexts=dict(capsules))


def roots(
    roster: Roster, site: SiteId, secrets: Secrets, encapsulated: Mapping[SiteId, bytes],
    received: Mapping[SiteId, Paired],
) -> dict[SiteId, bytes]:  # fmt: skip
    """The key with every other site, 32 bytes each.

    Args:    encapsulated: shared secrets of the capsules that this site made.   received: `Paired` of all sites.
    Raises:  Refused: `pairing`: somebody accepted another roster, is missing, or sent keys that are no keys.
    """
    _complete(roster, received)
    private, found = X25519PrivateKey.from_private_bytes(secrets.x25519), {}
    capsule = MLKEM768PrivateKey.from_seed_bytes(secrets.mlkem768)
    publics = {one.site: one.x25519.hex() for one in roster.keys}
    for other in roster.keys:
        if other.site == site:
            continue
        low, high = sorted((site, other.site))
        ciphertext = received[low].ciphertexts[high]
        try:
            exchanged = private.exchange(X25519PublicKey.from_public_bytes(other.x25519))  # refuses an all-zero result
            shared = encapsulated[other.site] if low == site else capsule.decapsulate(ciphertext)
        except ValueError as error:
            raise Refused(f"the keys of {other.site} are no keys", "ask that site", reason="pairing") from error
        info = canonical(["flsa/1 root", low, high, publics[low], publics[high], sha256(ciphertext).hexdigest()])
        found[other.site] = HKDF(hashes.SHA256(), 32, roster.digest, info).derive(exchanged + shared)
    return found


def _complete(roster: Roster, received: Mapping[SiteId, Paired]) -> None:
    after = set(roster.sites)
    for one in roster.keys:
        paired = received.get(one.site)
        after.remove(one.site)
        if (
            paired is None
            or paired.site != one.site
            or paired.roster != roster.digest
            or sha256(paired.nonce).digest() != one.nonce_hash
            or paired.ciphertexts.keys() != after
        ):
            raise Refused(f"{one.site} has not accepted this roster", "begin a new epoch", reason="pairing")


def confirm(roster: Roster, site: SiteId, keys: Mapping[SiteId, bytes]) -> Confirmed:
    """The proof for each other site."""
    tags = {other: _tag(key, roster, site, other) for other, key in sorted(keys.items())}
    return Confirmed(roster=roster.digest, site=site, tags=tags)


def check(roster: Roster, site: SiteId, keys: Mapping[SiteId, bytes], received: Mapping[SiteId, Confirmed]) -> None:
    """See that every other site has the same key with this one.

    Raises: Refused: `pairing`: names the first that has not.
    """
    for other, key in sorted(keys.items()):
        told = received.get(other)
        tag = told.tags.get(site, b"") if told is not None and told.roster == roster.digest else b""
        if not hmac.compare_digest(tag, _tag(key, roster, other, site)):
            raise Refused(
                f"{other} has another key with this site: something stands between", "begin a new epoch",
                reason="pairing",
            )  # fmt: skip


def _tag(key: bytes, roster: Roster, sender: SiteId, receiver: SiteId) -> bytes:
    secret = expand(key, b"flsa/1 confirm")
    return hmac.digest(secret, canonical([roster.digest.hex(), sender, receiver]), "sha256")


def ratchet(chain: bytes, opening: int) -> tuple[bytes, bytes]:
    """(the chain's next key, the key of this opening): who steals the next cannot compute this one."""
    both = expand(chain, canonical(["flsa/1 ratchet", opening]), 64)
    return both[:32], both[32:]
