"""Messages: what is encoded is decoded; unknown keys, other forms and other protocols are refused in one sentence."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import ConsiliumError, EnvelopeInvalid, ProtocolMismatch
from consilium.core.ids import canonical, digest
from consilium.wire import messages
from consilium.wire.messages import INBOX_MESSAGES, PROTOCOL, PROTOCOLS, SITE_MESSAGES, Signed, mismatch

D = digest(b"x")
BLOB = {"digest": D, "size": 1}
COMMON = {"study": "s", "run": "s-1", "plan": D, "round": 1, "kind": "TRAIN", "phase": "SUBMIT"}
EXAMPLES: dict[type[Signed], dict[str, Any]] = {
    messages.Offer: {"study": "s", "plan": BLOB, "title": "A study"},
    messages.Task: {**COMMON, "roster": ["a"], "state": BLOB, "initial": BLOB, "aggregate": None,
                    "deadline": "2030-01-01T00:00:00Z", "closing": {"kind": "PAIR", "took_part": ["a"]}},
    messages.Closed: {"study": "s", "run": "s-1", "round": 1, "kind": "TRAIN", "took_part": ["a"], "aggregate": BLOB,
                      "state": BLOB},
    messages.Ended: {"study": "s", "run": "s-1", "status": "finished", "reason": "", "state": BLOB},
    messages.Checkpoint: {"log": "coordinator", "seq": 3, "head": D, "at": "2030-01-01T00:00:00Z"},
    messages.Reopened: {"by": "root", "at": "2030-01-01T00:00:00Z", "seq": 3, "head": D, "kept": 0, "runs": ["s-1"]},
    messages.Alarm: {"why": "log-gap", "text": "a gap", "number": 3, "last": D, "at": "2030-01-01T00:00:00Z"},
    messages.Answer: {**COMMON, "state": D, "contribution": BLOB, "recipe": "plain"},
    messages.Step: {**COMMON, "attempt": 1, "body": {"site": "a"}, "vector": None},
    messages.Refusal: {"study": "s", "plan": D, "reason": "policy", "text": "no"},
    messages.Decision: {"site": "a", "study": "s", "plan": D, "decision": "approve", "person": "Vera",
                        "accepts": ["plain"], "at": "2030-01-01T00:00:00Z"},
    messages.Attestation: {"site": "a", "study": "s", "plan": D, "contract": D, "source": "fhir", "passed": True,
                           "patients": 40, "coverage": [], "findings": [], "at": "2030-01-01T00:00:00Z"},
    messages.Figures: {"site": "a", "study": "s", "run": "s-1", "plan": D, "state": D, "word": "told", "positives": 40,
                       "negatives": 60, "common": {"auroc": 81}, "own": None},
}  # fmt: skip


def fitting(kind: type[Signed], values: dict[str, Any]) -> dict[str, Any]:
    """`values`, and whatever a later release has made compulsory, from the message's own form."""
    return {name: value for name, value in values.items() if name in kind.model_fields}


KINDS = [kind for kind in {**SITE_MESSAGES, **INBOX_MESSAGES}.values() if kind in EXAMPLES]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Signed]:
    found: type[Signed] = request.param
    return found


@pytest.fixture
def good(kind: type[Signed]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(kind.model_validate(fitting(kind, EXAMPLES[kind])).encode())
    return values


def test_what_is_encoded_is_decoded_and_gives_the_same_bytes(kind: type[Signed], good: dict[str, Any]) -> None:
    message = kind.decode(canonical(good))
    assert type(message) is kind and message.encode() == canonical(good)


def test_an_unknown_key_and_a_missing_one_are_refused_by_name(kind: type[Signed], good: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeInvalid, match="colour"):
        kind.decode(canonical({**good, "colour": "red"}))
    for name, field in kind.model_fields.items():
        if field.is_required():
            with pytest.raises(EnvelopeInvalid, match=name):
                kind.decode(canonical({key: value for key, value in good.items() if key != name}))


@pytest.mark.parametrize("spoken", [0, 3, 99, -1, 10**30])
@pytest.mark.parametrize("more", [{}, {"a-key-of-that-protocol": 1}])
def test_another_protocol_is_told_as_such_even_where_its_keys_are_not_ours(
    kind: type[Signed], good: dict[str, Any], spoken: int, more: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolMismatch) as told:
        kind.decode(canonical({**good, **more, "protocol": spoken}))
    assert str(told.value) == "; ".join(mismatch(spoken)) and "\n" not in str(told.value)


def test_what_was_signed_in_an_earlier_protocol_is_read(kind: type[Signed], good: dict[str, Any]) -> None:
    """It is in journals, inboxes and outboxes; what speaks that protocol is refused all the same."""
    before = canonical({**good, "protocol": 1})
    assert 1 not in PROTOCOLS and kind.decode(before).encode() == before


@pytest.mark.parametrize("spoken", [None, "two", 1.5, [2], {}])
def test_a_protocol_that_is_no_number_is_refused(kind: type[Signed], good: dict[str, Any], spoken: object) -> None:
    with pytest.raises(ConsiliumError):
        kind.decode(canonical({**good, "protocol": spoken}))


def test_the_sentence_names_who_must_update_at_either_end() -> None:
    assert PROTOCOL in PROTOCOLS
    assert mismatch(0) == (f"one side speaks protocol {PROTOCOL} and the other side speaks 0",
                           "update the side that speaks 0")  # fmt: skip
    assert mismatch(3)[1] == f"update the side that speaks {PROTOCOL}"
    assert mismatch("an unknown protocol")[1] == "check that both are releases of Consilium"


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_arbitrary_bytes_are_no_message(kind: type[Signed], data: bytes) -> None:
    with pytest.raises(EnvelopeInvalid):
        kind.decode(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_values_of_any_form_are_refused_or_decoded(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    changed = dict(fitting(kind, EXAMPLES[kind]))
    changed[data.draw(st.sampled_from(sorted(kind.model_fields)))] = data.draw(values)
    try:
        kind.decode(json.dumps(changed).encode())
    except (EnvelopeInvalid, ProtocolMismatch) as error:
        assert "\n" not in str(error)


def test_every_message_has_a_type_of_its_own_and_an_example_here() -> None:
    every = [*SITE_MESSAGES.values(), *(kind for kind in INBOX_MESSAGES.values() if kind is not messages.Checkpoint)]
    assert len({kind.TYPE for kind in every}) == len(every)
    assert set(every) <= set(EXAMPLES), "a new message needs an example here"
