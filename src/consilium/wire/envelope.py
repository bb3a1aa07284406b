"""Signed envelopes: DSSE, https://github.com/secure-systems-lab/dsse (protocol.md, version 1.0.2), with Ed25519.

What is signed is the pre-authentication encoding of the payload's type and of its bytes as they travel.
"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature

from consilium.core.errors import EnvelopeInvalid
from consilium.wire.identity import Identity, keyid_of, verifier

MAX_ENVELOPE = 1 << 20
UNKNOWN_KEY = "no signature is by a known key"
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: the bytes that are signed.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, identity: Identity) -> bytes:
    """The envelope's bytes; the same payload and key give the same bytes."""
    signature = base64.b64encode(identity.sign(pae(payload_type, payload))).decode()
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": identity.keyid, "sig": signature}],
    }
    return _ENCODER.encode(envelope).encode()


@dataclass(frozen=True)
class Envelope:
    """An envelope as it claims to be: `verified` gives the payload that somebody signed."""

    kind: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, data: bytes) -> "Envelope":
        """Read an envelope; nothing is verified yet. Raises: EnvelopeInvalid."""
        return cls.of(_parse(data))

    @classmethod
    def of(cls, given: Any) -> "Envelope":
        """The same of an envelope whose JSON was read with what is around it. Raises: EnvelopeInvalid."""
        told = _formed(given)
        signatures = tuple((one["keyid"], _decode(one["sig"])) for one in told["signatures"])
        return cls(told["payloadType"], _decode(told["payload"]), signatures)

    def verified(self, payload_type: str, public_keys: Iterable[str]) -> bytes:
        """The payload, if one of `public_keys` signed it as `payload_type`.

        Args:    public_keys: raw Ed25519 keys, base64url without padding, 43 characters each.
        Raises:  EnvelopeInvalid: another type, or no signature by one of the keys.
        """
        if self.kind != payload_type:
            raise EnvelopeInvalid(f"the envelope holds {self.kind[:80]!r}, not {payload_type!r}")
        known = {keyid_of(key): verifier(key) for key in public_keys}
        for keyid, signature in self.signatures:
            key = known.get(keyid)
            if key is None:
                continue
            try:
                key.verify(signature, pae(payload_type, self.payload))
            except InvalidSignature as error:
                raise EnvelopeInvalid(
                    "the signature does not fit the payload", "send the message as it was signed"
                ) from error
            return self.payload
        raise EnvelopeInvalid(UNKNOWN_KEY, "check who signed it, and with which key")


def peek(data: bytes) -> str:
    """The payload type that the envelope claims; nothing is verified yet. Raises: EnvelopeInvalid."""
    return Envelope.parse(data).kind


def payload_of(data: bytes, payload_type: str) -> bytes:
    """The payload that the envelope claims; nothing is verified yet. Raises: EnvelopeInvalid: also another type."""
    envelope = Envelope.parse(data)
    if envelope.kind != payload_type:
        raise EnvelopeInvalid(f"the envelope holds {envelope.kind[:80]!r}, not {payload_type!r}")
    return envelope.payload


def unseal(data: bytes, payload_type: str, public_keys: Iterable[str]) -> bytes:
    """The payload, if one of `public_keys` signed it as `payload_type`. Raises: EnvelopeInvalid: also malformed."""
    return Envelope.parse(data).verified(payload_type, public_keys)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeInvalid("the envelope holds text that is not base64") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _parse(data: bytes) -> Any:
    if len(data) > MAX_ENVELOPE:
        raise EnvelopeInvalid(f"an envelope holds at most {MAX_ENVELOPE} bytes", "send bulk as a blob")
    try:
        return json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise EnvelopeInvalid("the envelope is not JSON") from error


def _formed(envelope: Any) -> dict[str, Any]:
    if not isinstance(envelope, dict) or envelope.keys() != {"payload", "payloadType", "signatures"}:
        raise EnvelopeInvalid("an envelope has exactly payload, payloadType and signatures")
    signatures = envelope["signatures"]
    fits = (
        isinstance(envelope["payload"], str)
        and isinstance(envelope["payloadType"], str)
        and isinstance(signatures, list)
        and 1 <= len(signatures) <= 16
        and all(isinstance(s, dict) and s.keys() == {"keyid", "sig"} for s in signatures)
        and all(isinstance(value, str) for s in signatures for value in s.values())
    )
    if not fits:
        raise EnvelopeInvalid("the parts of the envelope do not have the form of DSSE")
    return envelope
