"""Who signs: an Ed25519 key on file, its fingerprint in words, and assertions for an access token (RFC 7523)."""

import base64
import binascii
import hashlib
import json
import re
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from consilium.core.errors import Conflict, Invalid, NotFound, Refused, Unauthenticated
from consilium.core.ids import SLUG
from consilium.durable import create_file
from consilium.wire.words import WORDS

ALGORITHM = "Ed25519"
LIFETIME = timedelta(seconds=60)
SKEW = timedelta(seconds=60)


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw(public_key: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(public_key + "=")
    except (binascii.Error, ValueError) as error:
        raise Invalid("a public key is 43 characters of base64url", "copy it whole") from error
    if len(raw) != 32:
        raise Invalid("a public key is 43 characters of base64url", "copy it whole")
    return raw


@lru_cache(maxsize=1024)
def verifier(public_key: str) -> Ed25519PublicKey:
    """The key object of a raw public key. Raises: Invalid."""
    return Ed25519PublicKey.from_public_bytes(_raw(public_key))


@lru_cache(maxsize=1024)
def keyid_of(public_key: str) -> str:
    """Name of a key: the first 16 hex digits of the SHA-256 of its bytes."""
    return hashlib.sha256(_raw(public_key)).hexdigest()[:16]


def fingerprint(public_key: str) -> str:
    """Ten words (80 bits) that two people compare, aloud or by eye."""
    hashed = hashlib.sha256(b"consilium fingerprint 1" + _raw(public_key)).digest()
    return " ".join(WORDS[byte] for byte in hashed[:10])


@dataclass(frozen=True)
class Identity:
    """A private key. It is never printed and never leaves its file."""

    _key: Ed25519PrivateKey

    @classmethod
    def create(cls, path: Path) -> "Identity":
        """Make a key and write it, durable, readable by its owner alone.

        Raises: Conflict: there is a key already; it is left as it is.
        """
        key = Ed25519PrivateKey.generate()
        data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            create_file(path, data, 0o600)
        except FileExistsError as error:
            raise Conflict(f"{path} exists already", "use it, or choose another folder") from error
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Read a key.

        Raises: NotFound: no such file.   Refused: others may read it.   Invalid: not an Ed25519 key.
        """
        if not path.exists():
            raise NotFound(f"there is no key at {path}", "run `init` first")
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise Refused(f"others may read the key {path}", f"chmod 600 {path}", reason="key-permissions")
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError) as error:
            raise Invalid(f"{path} is not a private key in PEM", "restore it from your backup") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Invalid(f"{path} is not an Ed25519 key", "restore it from your backup")
        return cls(key)

    @cached_property
    def public(self) -> str:
        """Raw public key, base64url without padding, 43 characters."""
        return _b64url(self._key.public_key().public_bytes_raw())

    @cached_property
    def keyid(self) -> str:
        """Name of the key in signatures."""
        return keyid_of(self.public)

    @property
    def fingerprint(self) -> str:
        """Words that people compare."""
        return fingerprint(self.public)

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return self._key.sign(data)

    def assertion(self, name: str, audience: str, now: datetime, jti: str) -> str:
        """A private_key_jwt (RFC 7523, section 3) that serves once, within a minute."""
        from joserfc import jwt  # most commands of a site ask for no token
        from joserfc.jwk import OKPKey

        seconds = int(now.timestamp())
        claims = {"iss": name, "sub": name, "aud": audience, "iat": seconds, "jti": jti}
        claims["exp"] = seconds + int(LIFETIME.total_seconds())
        private = _b64url(self._key.private_bytes_raw())
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": self.public, "d": private})
        return jwt.encode({"alg": ALGORITHM, "typ": "JWT"}, claims, key, algorithms=[ALGORITHM])


def subject_of(assertion: str) -> str:
    """The name that an assertion claims; nothing is verified yet. Raises: Unauthenticated."""
    try:
        body = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        subject = claims["sub"]
    except (IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Unauthenticated("the assertion is not a JWT", "send a signed private_key_jwt") from error
    if not isinstance(subject, str) or re.fullmatch(SLUG, subject) is None:
        raise Unauthenticated("the assertion names no subject", "send a signed private_key_jwt")
    return subject


def verify_assertion(assertion: str, public_key: str, audience: str, now: datetime) -> dict[str, Any]:
    """The claims of a private_key_jwt: (1) signed by the key (2) issuer is subject (3) for us (4) fresh
    (5) has a printable jti.

    Replay is not checked here: the caller keeps `jti` until `exp`.

    Raises: Unauthenticated: one of these does not hold.
    """
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import OKPKey

    refusal = Unauthenticated("the assertion is not valid", "check the site's key and its clock")
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": public_key})
        claims = jwt.decode(assertion, key, algorithms=[ALGORITHM]).claims
        issued, expires = int(claims["iat"]), int(claims["exp"])
        whole = claims["iss"] == claims["sub"] and claims["aud"] == audience and isinstance(claims["jti"], str)
    except (JoseError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise refusal from error
    seconds, skew = now.timestamp(), SKEW.total_seconds()
    fresh = issued - skew <= seconds <= expires + skew and 0 <= expires - issued <= 300
    printable = whole and claims["jti"].isprintable()  # half a character is in no UTF-8
    if not whole or not fresh or not claims["jti"] or not printable:
        raise refusal
    return dict(claims)
