"""Envelopes: the encoding of DSSE's own specification; whatever was forged, changed or cut is refused."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import EnvelopeInvalid
from consilium.wire.envelope import MAX_ENVELOPE, pae, peek, seal, unseal
from consilium.wire.identity import Identity

TYPE = "application/vnd.consilium.answer+json"


def test_the_encoding_is_that_of_the_specification() -> None:
    """DSSE protocol.md: `PAE(type, body)` with LEN in ASCII decimal, of bytes and not of characters."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("é", "ü".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xbc"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=9), st.binary(max_size=9), st.text(max_size=9), st.binary(max_size=9))
@example("a 1 b", b"", "a", b" 1 b 0 ")
@example("a", b"", "", b"a")
def test_two_messages_never_have_one_encoding(kind: str, payload: bytes, kind2: str, payload2: bytes) -> None:
    assert (pae(kind, payload) == pae(kind2, payload2)) == ((kind, payload) == (kind2, payload2))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_what_was_sealed_is_unsealed_by_its_key_alone(mine: Identity, other: Identity, payload: bytes) -> None:
    data = seal(TYPE, payload, mine)
    assert peek(data) == TYPE and seal(TYPE, payload, mine) == data
    assert unseal(data, TYPE, [mine.public]) == unseal(data, TYPE, [other.public, mine.public]) == payload
    for keys in ([other.public], []):
        with pytest.raises(EnvelopeInvalid, match="known key"):
            unseal(data, TYPE, keys)
    with pytest.raises(EnvelopeInvalid, match="holds"):
        unseal(data, "application/vnd.consilium.task+json", [mine.public])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_change_of_a_byte_gives_another_payload(mine: Identity, data: st.DataObject) -> None:
    sealed = seal(TYPE, b'{"round": 1}', mine)
    changed = bytearray(sealed)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(sealed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unseal(bytes(changed), TYPE, [mine.public])
    except EnvelopeInvalid as error:
        assert "\n" not in str(error)
    else:
        assert found == b'{"round": 1}'


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
@example(b"[]")
@example(b"null")
@example(b'{"payload":1,"payloadType":2,"signatures":3}')
@example(b"[" * 20_000)
@example(b"9" * 5000)
@example(b'{"payload":"","payloadType":"","signatures":[]}')
@example(b'{"payload":"","payload":"","payloadType":"","signatures":[{"keyid":"","sig":""}]}')
def test_arbitrary_bytes_are_refused_as_an_envelope(mine: Identity, data: bytes) -> None:
    for act in (lambda: peek(data), lambda: unseal(data, TYPE, [mine.public])):
        with pytest.raises(EnvelopeInvalid):
            act()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {"payload": json_values, "payloadType": json_values | st.just(TYPE), "signatures": json_values}
    )
)
@example({"payload": "e30=", "payloadType": TYPE, "signatures": [{"keyid": "KEYID", "sig": "AA=="}]})
@example({"payload": "é", "payloadType": TYPE, "signatures": [{"keyid": "KEYID", "sig": "\ud800"}]})
@example({"payload": "e30=", "payloadType": TYPE, "signatures": [{"keyid": "KEYID", "sig": ""}] * 17})
def test_parts_of_any_form_are_refused(mine: Identity, parts: dict[str, object]) -> None:
    text = json.dumps(parts).replace("KEYID", mine.keyid)
    with pytest.raises(EnvelopeInvalid):
        unseal(text.encode(), TYPE, [mine.public])


def test_a_signature_of_another_message_or_type_does_not_serve(mine: Identity) -> None:
    good = json.loads(seal(TYPE, b"{}", mine))
    for foreign in (seal(TYPE, b"[]", mine), seal("application/other", b"{}", mine)):
        forged = {**good, "signatures": json.loads(foreign)["signatures"]}
        with pytest.raises(EnvelopeInvalid, match="does not fit"):
            unseal(json.dumps(forged).encode(), TYPE, [mine.public])


def test_a_foreign_signature_under_our_name_is_refused(mine: Identity, other: Identity) -> None:
    forged = json.loads(seal(TYPE, b"{}", other))
    forged["signatures"][0]["keyid"] = mine.keyid
    with pytest.raises(EnvelopeInvalid, match="does not fit"):
        unseal(json.dumps(forged).encode(), TYPE, [mine.public])


def test_one_of_several_signatures_by_a_known_key_is_enough(mine: Identity, other: Identity) -> None:
    both = json.loads(seal(TYPE, b"{}", other))
    both["signatures"] += json.loads(seal(TYPE, b"{}", mine))["signatures"]
    assert unseal(json.dumps(both).encode(), TYPE, [mine.public]) == b"{}"


def test_an_envelope_larger_than_a_message_is_refused(mine: Identity) -> None:
    with pytest.raises(EnvelopeInvalid, match="at most"):
        peek(seal(TYPE, bytes(MAX_ENVELOPE), mine))


def test_the_signature_is_ed25519_over_the_encoding(mine: Identity) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    sealed = json.loads(seal(TYPE, b"{}", mine))
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(mine.public + "="))
    key.verify(base64.b64decode(sealed["signatures"][0]["sig"]), b"DSSEv1 37 " + TYPE.encode() + b" 2 {}")


def test_a_key_on_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    from consilium.core.errors import Conflict, NotFound, Refused

    path = tmp_path / "key"
    with pytest.raises(NotFound):
        Identity.load(path)
    made = Identity.create(path)
    assert Identity.load(path).public == made.public and path.stat().st_mode & 0o077 == 0
    with pytest.raises(Conflict):
        Identity.create(path)
    path.chmod(0o640)
    with pytest.raises(Refused, match="others may read"):
        Identity.load(path)
