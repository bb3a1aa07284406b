"""Assertions of a site (RFC 7523): signed by its key, for us, fresh, once; anything else gives no token."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import Invalid, Unauthenticated
from consilium.wire.identity import (
    LIFETIME,
    SKEW,
    Identity,
    fingerprint,
    keyid_of,
    subject_of,
    verifier,
    verify_assertion,
)
from consilium.wire.words import WORDS

NOW = datetime(2030, 1, 1, tzinfo=UTC)
AUDIENCE = "consilium-coordinator"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(identity: Identity, header: object = None, **changes: Any) -> str:
    """An assertion with other claims than it should have; None leaves one out."""
    seconds = int(NOW.timestamp())
    claims: dict[str, Any] = {
        "iss": "north", "sub": "north", "aud": AUDIENCE, "iat": seconds, "exp": seconds + 60, "jti": "j",
    }  # fmt: skip
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    parts = (json.dumps(part).encode() for part in (header or {"alg": "Ed25519"}, claims))
    text = ".".join(b64(part) for part in parts)
    return f"{text}.{b64(identity.sign(text.encode()))}"


def test_an_assertion_is_good_for_its_minute_give_or_take_the_clocks(mine: Identity) -> None:
    told = mine.assertion("north", AUDIENCE, NOW, "once")
    assert subject_of(told) == "north"
    for later in (timedelta(0), LIFETIME, LIFETIME + SKEW, -SKEW):
        assert verify_assertion(told, mine.public, AUDIENCE, NOW + later)["jti"] == "once"
    for later in (LIFETIME + SKEW + timedelta(seconds=1), -SKEW - timedelta(seconds=1), timedelta(days=365)):
        with pytest.raises(Unauthenticated):
            verify_assertion(told, mine.public, AUDIENCE, NOW + later)


def test_the_helper_of_these_tests_makes_good_assertions(mine: Identity) -> None:
    assert verify_assertion(signed(mine), mine.public, AUDIENCE, NOW)


S = int(NOW.timestamp())
BAD: dict[str, dict[str, Any]] = {
    "of another audience": {"aud": "elsewhere"},
    "of no audience": {"aud": None},
    "expired": {"iat": S - 600, "exp": S - 500},
    "from the future": {"iat": S + 600, "exp": S + 660},
    "valid for a year": {"exp": S + 31_536_000},
    "without end": {"exp": None},
    "without beginning": {"iat": None},
    "infinite": {"iat": float("inf"), "exp": float("inf")},
    "not a number": {"iat": float("nan")},
    "at a word": {"iat": "now"},
    "at a list": {"exp": [S]},
    "without a name of its own": {"jti": None},
    "with an empty name": {"jti": ""},
    "with a name that is no text": {"jti": 7},
    "with a name of half a character": {"jti": "\ud800"},
    "issued by another": {"iss": "south"},
    "issued by nobody": {"iss": None},
    "of nobody": {"sub": None},
    "of no algorithm": {"header": {"alg": "none"}},
    "of a shared secret": {"header": {"alg": "HS256"}},
    "of another curve": {"header": {"alg": "ES256"}},
    "without an algorithm": {"header": {"typ": "JWT"}},
    "critical": {"header": {"alg": "Ed25519", "crit": ["exp"], "exp": 1}},
    "with a header that is a list": {"header": ["Ed25519"]},
}


@pytest.mark.parametrize("name", BAD)
def test_an_assertion_that_is_not_as_it_should_be_is_refused(mine: Identity, name: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_assertion(signed(mine, **BAD[name]), mine.public, AUDIENCE, NOW)


def test_an_assertion_by_another_key_or_altered_is_refused(mine: Identity, other: Identity) -> None:
    good = signed(mine)
    head, body, mark = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = b64(json.dumps(claims | {"sub": "south", "iss": "south"}).encode())
    for bad in (signed(other), f"{head}.{forged}.{mark}", f"{head}.{body}.", f"{head}.{body}", good + "A", good[:-9]):
        with pytest.raises(Unauthenticated):
            verify_assertion(bad, mine.public, AUDIENCE, NOW)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.text("abcdefAB012_-=", max_size=20), max_size=5).map(".".join))
@example("")
@example("..")
@example("é.é.é")
@example("\ud800.\ud800.\ud800")
@example("e30.e30.AAAA")
@example(b64(b'{"alg": "Ed25519"}') + "." + b64(b"[" * 5000) + ".AAAA")
@example(b64(b'{"alg": "Ed25519"}') + "." + b64(b'{"sub": ' + b"9" * 5000 + b"}") + ".AAAA")
def test_arbitrary_text_is_refused_as_an_assertion(mine: Identity, text: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_assertion(text, mine.public, AUDIENCE, NOW)
    with pytest.raises(Unauthenticated):
        subject_of(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_a_character_is_accepted_unless_it_means_the_same(mine: Identity, data: st.DataObject) -> None:
    good = signed(mine)
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + data.draw(st.characters(codec="utf-8")) + good[at + 1 :]
    try:
        claims = verify_assertion(changed, mine.public, AUDIENCE, NOW)
    except Unauthenticated:
        return
    assert claims == verify_assertion(good, mine.public, AUDIENCE, NOW)


def test_the_words_of_a_key_tell_keys_apart(mine: Identity, other: Identity) -> None:
    assert len(set(WORDS)) == len(WORDS) == 256
    words = fingerprint(mine.public).split()
    assert len(words) == 10 and words != fingerprint(other.public).split() and mine.fingerprint == " ".join(words)
    assert keyid_of(mine.public) != keyid_of(other.public)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=50).filter(lambda text: len(text) != 43))
@example("A" * 42)
@example("A" * 44)
@example("é" * 43)
def test_text_that_is_no_key_is_refused_as_such(text: str) -> None:
    for act in (verifier, keyid_of, fingerprint):
        with pytest.raises(Invalid):
            act(text)
