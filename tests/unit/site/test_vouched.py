"""Sums of rounds that a hospital did not open: it believes them by what others signed, and by nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import pytest

from consilium.core.errors import Refused, Unavailable
from consilium.core.study import Plan
from consilium.privacy import pairing
from consilium.privacy.pairing import Keys, Roster
from consilium.privacy.secagg import Ready, ctx2_of
from consilium.site import vouched
from consilium.site.checking import Checking
from consilium.site.pairing import roster_of
from consilium.site.steps import Steps, parsed
from consilium.wire.envelope import seal
from consilium.wire.messages import Blob
from consilium.wire.requests import Opening
from consilium.wire.transfer import file_digest
from unit.site.circle import PAIRING, SEALED, Envelopes, Relay, circle, secure, step_of

FIVE = ("east", "north", "south", "upper", "west")
FOUR, THREE = FIVE[:4], FIVE[:3]
RUN = "sums-1"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *FIVE) as found:
        yield found


def paired(relay: Relay, plan: Plan, who: tuple[str, ...], attempt: int, but: str = "") -> None:
    """These agree on keys, but for one whose people have not compared the words."""
    for phase in PAIRING:
        became = relay.ask(plan, 0, phase, who, attempt=attempt, roster=who)
        for name in (name for name, word in became.items() if word == "waits" and name != but):
            relay[name].compare(RUN, relay[who[0]].words(RUN))
            relay[name].go_on()
            relay.gather(relay.task(plan, 0, phase, who, attempt=attempt), name)


def played(relay: Relay, plan: Plan, who: tuple[str, ...], cohort: tuple[str, ...]) -> Opening:
    """Round 1 over these: what opened its sum."""
    for phase in SEALED:
        became = relay.ask(plan, 1, phase, who, cohort=cohort)
        assert set(became.values()) == {"done"}, (phase, became)
    with mock.patch.object(relay, "hospitals", {name: relay[name] for name in cohort}):
        told = relay.opened(plan, 1)
    relay.closed(plan, 1, who)
    return told


def asked(relay: Relay, plan: Plan, name: str, told: Opening, cohort: tuple[str, ...], attempt: int = 1) -> str:
    """What comes of round 2 at a hospital that checks the sum of round 1."""
    one, line = relay[name], mock.Mock(read=lambda path, query: told.model_dump_json().encode())
    one.again()
    one.states.check = Checking(one.folder, one.journal, line, one.steps, Event()).check
    return relay.ask(plan, 2, "READY", (name,), cohort=cohort, attempt=attempt)[name]


@pytest.mark.parametrize("changes", [{}, {"prepare": {"numbers": "standardise"}}], ids=["training", "preparation"])
def test_who_missed_a_round_computes_its_sum_of_what_others_signed(relay: Relay, changes: dict[str, Any]) -> None:
    plan = relay.approved(secure("sums", quorum=3, **changes))
    paired(relay, plan, FOUR, 1)
    told = played(relay, plan, THREE, FOUR)
    lies = {
        "another attempt": told.model_copy(update={"attempt": 2}),
        "another key": told.model_copy(update={"own": {**told.own, "east": "00" * 32}}),
        "one vector less": told.model_copy(update={"own": {name: told.own[name] for name in ("east", "north")}}),
    }
    found = {what: asked(relay, plan, "upper", lie, FOUR) for what, lie in lies.items()}
    assert found == {"another attempt": "not-found", "another key": "sum", "one vector less": "sum"}

    assert asked(relay, plan, "upper", told, FOUR) == "done"


def test_what_was_signed_is_of_as_many_as_open_a_sum_and_of_one_roll_call(relay: Relay) -> None:
    plan = relay.approved(secure("sums", quorum=3))
    paired(relay, plan, FOUR, 1)
    played(relay, plan, THREE, FOUR)
    upper = relay["upper"]
    said, before = relay.said[RUN, 1, 1, "MASK"], upper.folder.run(RUN) / "state-0.safetensors"
    before.write_bytes(relay.blobs[relay.states[RUN, 0].digest])
    epoch = upper.journal.row("SELECT * FROM epochs")
    assert epoch is not None
    mine, task = [roster_of(epoch)], relay.task(plan, 2, "READY", ("upper",), cohort=FOUR)

    def found() -> set[str]:
        told = vouched.signed(upper.steps, task, plan, (1, 1), (before, file_digest(before)), mine)
        return set(told.survivors)

    def altered(name: str, by: str, vector: Blob | None = None, **body: Any) -> dict[str, Any]:
        step = step_of(json.dumps(said[name]).encode())
        changed = step.model_copy(update={"body": {**step.body, **body}, "vector": vector or step.vector})
        return dict(json.loads(seal(type(step).TYPE, changed.encode(), relay[by].identity)))

    lies: dict[str, Envelopes] = {
        "two": {name: said[name] for name in ("east", "north")},
        "nobody": {},
        "of another roll-call": {**said, "south": altered("south", "south", ctx2="00" * 32)},
        "of who did not call": {**said, "upper": altered("south", "upper", site="upper")},
        "of another vector": {**said, "south": altered("south", "south", relay.blob(b"another"))},
    }
    for what, lie in lies.items():
        relay.lie = lambda to, phase, told, lie=lie: lie if phase == "MASK" else told  # type: ignore[misc]
        with pytest.raises(Refused) as refusal:
            found()
        assert refusal.value.reason == ("forged" if what == "of another vector" else "sum"), what
    relay.lie = lambda to, phase, told: told
    assert found() == set(THREE)


@pytest.mark.parametrize(("colluding", "became"), [(2, "done"), (3, "sum")])
def test_as_many_of_them_must_have_masked_that_one_does_not_collude(relay: Relay, colluding: int, became: str) -> None:
    privacy = {"recipe": "secure_sum", "colluding": colluding}
    plan, later = relay.approved(secure("sums", quorum=3, privacy=privacy)), (*THREE, "west")
    paired(relay, plan, THREE, 1)
    told = played(relay, plan, THREE, THREE)
    paired(relay, plan, later, 2)
    assert asked(relay, plan, "west", told, later) == became, "three of those who masked are on its roster"


def test_who_came_when_keys_were_agreed_anew_believes_those_with_whom_it_holds_keys(relay: Relay) -> None:
    plan, later = relay.approved(secure("sums", quorum=3)), (*THREE, "west")
    paired(relay, plan, THREE, 1)
    told = played(relay, plan, THREE, THREE)
    paired(relay, plan, later, 2)

    def other_keys(to: str, phase: str, said: Envelopes) -> Envelopes:
        mine = relay.identity.public
        return {name: relay.forged(one, identity=mine) for name, one in said.items()} if phase == "KEYS" else said

    relay.lie = other_keys
    assert asked(relay, plan, "west", told, later) == "not-found"
    relay.lie = lambda to, phase, said: said
    assert asked(relay, plan, "west", told, later) == "done"
    assert asked(relay, plan, "east", told, later) == "done"


def test_who_goes_by_the_names_of_others_vouches_for_nothing(relay: Relay) -> None:
    """The coordinator makes up a whole round, under keys of its own, of hospitals with the names of others here."""
    plan, later = relay.approved(secure("sums", quorum=3)), (*THREE, "west")
    paired(relay, plan, THREE, 1)
    played(relay, plan, THREE, THREE)
    paired(relay, plan, later, 2)
    west, run = relay["west"], relay.said
    before = west.folder.run(RUN) / "state-0.safetensors"
    before.write_bytes(relay.blobs[relay.states[RUN, 0].digest])
    mine = [roster_of(row) for row in west.journal.rows("SELECT * FROM epochs")]
    task, state = relay.task(plan, 2, "READY", ("west",), cohort=later), (before, file_digest(before))
    place = {phase: (RUN, 0 if phase == "KEYS" else 1, 1, phase) for phase in ("KEYS", "READY", "MASK")}
    lie = {"KEYS": {n: relay.forged(run[place["KEYS"]][n], identity=relay.identity.public) for n in THREE}}
    keys = [parsed(step_of(json.dumps(lie["KEYS"][name]).encode()), Keys) for name in THREE]
    asked = vouched._open(task, plan, "TRAIN", (1, 1), state, Roster(tuple(keys)))
    lie["READY"] = {n: relay.forged(run[place["READY"]][n], ctx=asked.sha256.hex()) for n in THREE}
    ready = [parsed(step_of(json.dumps(one).encode()), Ready) for one in lie["READY"].values()]
    ctx2 = ctx2_of(asked, ready).hex()
    lie["MASK"] = {n: relay.forged(run[place["MASK"]][n], ctx2=ctx2) for n in THREE}
    relay.lie = lambda to, phase, said: lie.get(phase, said)
    with pytest.raises(Refused, match="is not the sum"):
        vouched.signed(west.steps, task, plan, (1, 1), state, mine)

    def away(to: str, phase: str, said: Envelopes) -> Envelopes:
        if phase == "KEYS":
            raise Unavailable("the line is dead", "wait")
        return said

    relay.lie = away
    with pytest.raises(Unavailable):  # it is asked again, and refuses nothing
        vouched.signed(
            Steps(west.identity, west.journal, west.steps.connection, Event()), task, plan, (1, 1), state, mine
        )


def test_a_roster_that_nobody_here_has_compared_vouches_for_nothing(relay: Relay) -> None:
    """Hospitals that the coordinator invents agree with it on keys, and mask; no person at west has heard of them."""
    plan, invented, true = (
        relay.approved(secure("sums", quorum=3)),
        ("north", "south", "upper"),
        ("east", "south", "west"),
    )
    paired(relay, plan, (*invented, "west"), 1, but="west")
    with mock.patch.object(pairing, "check"):  # what west has not proved they know, too
        told = played(relay, plan, invented, (*invented, "west"))
    paired(relay, plan, true, 2)
    assert asked(relay, plan, "west", told, true) == "sum"
