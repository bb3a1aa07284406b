"""Round 0 at hospitals with a coordinator that lies between them, and the people who compare words."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consilium.console.cli.app import run as consilium
from consilium.core.errors import Invalid, NotFound, Refused
from consilium.core.ids import SiteId
from consilium.core.study import Plan
from consilium.privacy import pairing as protocol
from consilium.privacy.pairing import Keys, Roster, Secrets
from consilium.site import comparing, leftout
from consilium.site.journal import uncompared
from consilium.site.pairing import known, roster_of
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Closed, Ended, Step
from unit.site.circle import Envelopes, Relay, circle, secure, step_of

THREE = ("east", "north", "south")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *THREE) as found:
        yield found


@pytest.fixture
def plan(relay: Relay) -> Plan:
    return relay.approved(secure("sums"))


def everybody(word: str) -> dict[str, str]:
    return dict.fromkeys(THREE, word)


def kinds(relay: Relay, name: str) -> list[str]:
    return [json.loads(entry)["kind"] for entry in relay[name].journal.entries()]


def test_nobody_proves_before_people_have_compared(relay: Relay, plan: Plan) -> None:
    for phase in ("KEYS", "PAIR"):
        assert relay.ask(plan, 0, phase) == everybody("done")
    assert relay.ask(plan, 0, "PROVE") == everybody("waits")
    assert not any(hospital.sent("PROVE") for hospital in relay.hospitals.values())
    words = {hospital.words("sums-1") for hospital in relay.hospitals.values()}
    assert len(words) == 1 and len(words.pop().split()) == 6
    east = relay["east"]
    assert uncompared(east.journal) == ["sums-1"]
    east.worker._rest()
    assert east.worker.activity == "waits for the words of the roster of sums-1 to be compared"
    east.compare("sums-1", relay["north"].words("sums-1").upper().replace(" ", ", "))
    assert uncompared(east.journal) == [] and east.go_on() == "done" and east.sent("PROVE")
    assert "roster-compared" in kinds(relay, "east")


def test_those_who_compared_once_need_not_again(relay: Relay, plan: Plan) -> None:
    relay.paired(plan)
    second = relay.approved(secure("second"))
    for phase in ("KEYS", "PAIR", "PROVE"):
        assert relay.ask(second, 0, phase) == everybody("done")
    journal = relay["east"].journal
    row = journal.row("SELECT * FROM epochs WHERE run = 'sums-1'")
    assert row is not None
    east, north, south = roster_of(row).keys
    assert known(journal, Roster((east, north, south)), SiteId("east"))
    in_anothers_place = south.model_copy(update={"identity": north.identity})
    for lied in ((east, north, in_anothers_place), (east, in_anothers_place)):
        assert not known(journal, Roster(lied), SiteId("east")), "under the same name, and not under any"


def test_other_words_are_refused_recorded_and_pin_nothing(relay: Relay, plan: Plan) -> None:
    for phase in ("KEYS", "PAIR", "PROVE"):
        relay.ask(plan, 0, phase)
    words = relay["east"].words("sums-1").split()
    with pytest.raises(Refused) as caught:
        relay["east"].compare("sums-1", " ".join([*words[1:], words[0]]))
    assert caught.value.reason == "roster" and "roster-differs" in kinds(relay, "east")
    assert relay["east"].count("pins") == 0 and uncompared(relay["east"].journal) == ["sums-1"]
    with pytest.raises(Invalid):
        relay["east"].compare("sums-1", " ".join(words[:5]))
    with pytest.raises(NotFound):
        relay["east"].compare("sums-2", " ".join(words))


def said(relay: Relay, command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command of south's prints."""
    capsys.readouterr()
    consilium([*command.split(" "), "--home", str(relay.folder / "south")])
    told = capsys.readouterr()
    return told.out + told.err


def asked_for_words(relay: Relay, plan: Plan, **changes: Any) -> list[str]:
    """Everybody waits for people, and those of the first two compare; the command that compares at south."""
    for phase in ("KEYS", "PAIR", "PROVE"):
        relay.ask(plan, 0, phase, **changes)
    words = relay["east"].words("sums-1")
    for name in ("east", "north"):
        relay[name].compare("sums-1", words)
    return words.split()


def test_who_compares_in_time_is_told_until_when_the_others_have(
    relay: Relay, plan: Plan, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    words, when = asked_for_words(relay, plan, deadline=until), f"{until:%Y-%m-%d %H:%M:%S} UTC"
    caplog.set_level("INFO")
    relay["south"].worker._rest()
    assert f"until {when}: `consilium site compare sums-1`" in caplog.text
    assert f"at {when} it goes on without those that have not" in said(relay, "site compare sums-1", capsys)
    told = said(relay, f"site compare sums-1 --person Vera --words {','.join(words)}", capsys)
    assert "The words agree" in told and f"at {when} it goes on without those that have not, for good" in told


def test_who_compares_after_the_deadline_is_not_told_that_the_run_goes_on_with_it(
    relay: Relay, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    until = datetime.now(UTC) - timedelta(seconds=5)
    words = asked_for_words(relay, plan, deadline=until)
    told = said(relay, f"site compare sums-1 --person Vera --words {','.join(words)}", capsys)
    assert f"But there was time until {until:%Y-%m-%d %H:%M:%S} UTC" in told
    assert "goes on with " not in told and "`consilium site status`" in told


def test_a_run_that_went_on_without_a_hospital_whose_words_were_not_compared_says_so_there(
    relay: Relay, plan: Plan, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It was told `The words agree: it goes on with these hospitals`, or that there is no such roster."""
    until = datetime.now(UTC) - timedelta(seconds=5)
    words, south = asked_for_words(relay, plan, deadline=until), relay["south"]
    assert "left out" not in said(relay, "site status", capsys)
    closed = Closed(
        to="south", number=1, study="sums", run="sums-1", round=0, kind="PAIR", took_part=("east", "north"),
        aggregate=None, state=relay.states["sums-1", 0],
    )  # fmt: skip
    south.told(closed)
    late = (
        "sums-1 goes on without this hospital: its words were not compared here in time; there was time until "
        f"{until:%Y-%m-%d %H:%M:%S} UTC"
    )
    assert late in caplog.text and "next run" in caplog.text
    status = said(relay, "site status", capsys)
    assert late in status and "left out: its words were not compared here in time" in status
    assert "waits for its words" not in status and uncompared(south.journal) == []
    assert late in said(relay, "site compare sums-1", capsys)
    told = said(relay, f"site compare sums-1 --person Vera --words {','.join(words)}", capsys)
    assert "The words agree" in told and late in told and "next run" in told and south.count("pins") == 3
    for name in ("east", "north"):
        relay[name].told(closed)
        assert "left out" not in str([dict(row) for row in relay[name].journal.rows("SELECT note FROM tasks")])
    ended = Ended(to="south", number=2, study="sums", run="sums-1", status="finished", reason="", state=None)
    south.told(ended)
    south.worker._clean()
    told = said(relay, f"site compare sums-1 --person Vera --words {','.join(words)}", capsys)
    assert "too late" in told and late.replace("goes on", "ended") in told and "no roster" not in told
    assert late not in said(relay, "site status", capsys), "it is over"


def test_who_is_asked_for_keys_again_is_not_left_out_any_more(relay: Relay, plan: Plan) -> None:
    asked_for_words(relay, plan)
    south, about = relay["south"], {"study": "sums", "run": "sums-1", "round": 0, "kind": "PAIR"}
    place: dict[str, Any] = {"to": "south", "number": 1, "aggregate": None, "state": relay.states["sums-1", 0], **about}
    south.told(Closed(took_part=("east", "north"), **place))
    assert [one.run for one in leftout.going_on(south.journal)] == ["sums-1"]
    assert relay.ask(plan, 0, "KEYS", ("south",), attempt=2) == {"south": "done"}
    assert leftout.going_on(south.journal) == []
    south.told(Closed(took_part=("north", "south"), attempt=2, **place))
    assert leftout.going_on(south.journal) == []
    south.told(Closed(took_part=("east", "north"), attempt=2, **place))
    assert [one.run for one in leftout.going_on(south.journal)] == ["sums-1"]
    relay.ask(plan, 1, "READY", ("south",), state=relay.states["sums-1", 0])
    assert leftout.going_on(south.journal) == [], "it is asked for a round: the closing was not true"


def test_a_moment_that_utc_cannot_say_is_told_as_it_is() -> None:
    assert leftout.spoken("0001-01-01T00:00:00+14:00") == "0001-01-01T00:00:00+14:00"
    assert leftout.spoken("2030-01-01T01:00:00+01:00") == "2030-01-01 00:00:00 UTC"


class Between:
    """Puts keys of its own in south's place, towards everybody else, in all phases: the classic attack."""

    def __init__(self, relay: Relay, folder: Path) -> None:
        self.relay, self.secrets = relay, Secrets(b"\x01" * 32, b"\x02" * 64, b"\x03" * 32)
        self.identity = Identity.create(folder / "between.key")

    def __call__(self, to: str, phase: str, said: Envelopes) -> Envelopes:
        if to == "south" or phase not in ("KEYS", "PAIR"):
            return said
        run = step_of(json.dumps(said["south"]).encode())
        keys = self.secrets.keys(run.run, run.attempt, SiteId("south"), self.identity.public)
        body: Any = keys
        if phase == "PAIR":
            row = self.relay[to].journal.row("SELECT * FROM epochs WHERE run = ?", run.run)
            assert row is not None
            body = protocol.pair(roster_of(row), keys, self.secrets, {})
        step = run.model_copy(update={"body": body.model_dump(mode="json")})
        return {**said, "south": json.loads(seal(Step.TYPE, step.encode(), self.identity))}


def test_keys_put_in_a_hospitals_place_are_found_by_the_words_alone(relay: Relay, plan: Plan, tmp_path: Path) -> None:
    relay.ask(plan, 0, "KEYS")
    relay.lie = Between(relay, tmp_path)
    assert relay.ask(plan, 0, "PAIR") == everybody("done")
    said = relay.said["sums-1", 0, 1, "PAIR"]
    assert len({step_of(json.dumps(one).encode()).body["roster"] for one in said.values()}) == 2
    assert relay.ask(plan, 0, "PROVE", ("east", "north")) == {"east": "waits", "north": "waits"}
    assert relay.ask(plan, 0, "PROVE", ("south",)) == {"south": "pairing"}, "it sees that others have another roster"
    assert relay["east"].words("sums-1") == relay["north"].words("sums-1")


def test_where_the_true_hospital_was_pinned_it_waits_and_says_that_the_key_is_another(
    relay: Relay, plan: Plan, tmp_path: Path
) -> None:
    relay.paired(plan)
    second = relay.approved(secure("second"))
    relay.ask(second, 0, "KEYS")
    relay.lie = Between(relay, tmp_path)
    relay.ask(second, 0, "PAIR")
    assert relay.ask(second, 0, "PROVE", ("east", "north")) == {"east": "waits", "north": "waits"}
    known = {
        one["site"]: one["known"] for one in comparing.comparison(relay["east"].journal, "second-1").to_json()["sites"]
    }
    assert known["north"] == "compared by Vera" and known["south"].startswith("ANOTHER KEY")


def test_a_swapped_key_under_a_hospitals_own_name_is_refused(relay: Relay, plan: Plan) -> None:
    """The identity is left as it is, so that no word would differ: the signature is not that identity's."""
    relay.ask(plan, 0, "KEYS")
    relay.lie = lambda to, phase, said: {**said, "south": relay.forged(said["south"], x25519="09" * 32)}
    assert relay.ask(plan, 0, "PAIR") == everybody("forged")


def test_our_own_entry_may_not_be_changed(relay: Relay, plan: Plan) -> None:
    relay.ask(plan, 0, "KEYS")

    def lie(to: str, phase: str, said: Envelopes) -> Envelopes:
        return {**said, to: relay.forged(said[to], identity=relay.identity.public)}

    relay.lie = lie
    assert relay.ask(plan, 0, "PAIR") == everybody("roster")


def test_one_key_under_two_names_is_refused(relay: Relay, plan: Plan) -> None:
    relay.ask(plan, 0, "KEYS")
    identity = relay.identity.public
    relay.lie = lambda to, phase, said: {
        to: said[to], **{n: relay.forged(said[n], identity=identity) for n in said if n != to}
    }  # fmt: skip
    assert relay.ask(plan, 0, "PAIR") == everybody("roster")


def test_too_few_or_uninvited_hospitals_are_refused(relay: Relay, plan: Plan) -> None:
    assert relay.ask(plan, 0, "KEYS", ("east", "north"), roster=("east", "north")) == {
        "east": "roster", "north": "roster",
    }  # fmt: skip
    relay["south"].folder.policy_file.write_text("policy: 1\nmin_patients: 10\nmin_sites: 4\n")
    assert relay.ask(plan, 0, "KEYS") == {"east": "done", "north": "done", "south": "roster"}


def test_one_hospital_that_asks_for_more_holds_for_all(relay: Relay, plan: Plan) -> None:
    relay.ask(plan, 0, "KEYS")
    keys = Keys.model_validate(step_of(relay["south"].sent("KEYS")[0]).body)
    more = keys.model_copy(update={"min_sites": 4}).model_dump(mode="json")
    step = step_of(relay["south"].sent("KEYS")[0]).model_copy(update={"body": more})
    signed = json.loads(seal(Step.TYPE, step.encode(), relay["south"].identity))
    relay.lie = lambda to, phase, said: {**said, "south": signed}
    assert relay.ask(plan, 0, "PAIR", ("east", "north")) == {"east": "roster", "north": "roster"}


def test_a_roster_with_somebody_who_was_not_invited_is_refused(relay: Relay) -> None:
    plan = relay.approved(secure("sums", sites=("east", "north", "west")))
    relay.ask(plan, 0, "KEYS")
    assert relay.ask(plan, 0, "PAIR") == everybody("roster")


def test_a_roster_of_others_than_the_task_names_is_refused(relay: Relay, tmp_path: Path) -> None:
    with circle(tmp_path / "four", *THREE, "west") as four:
        plan = four.approved(secure("sums"))
        four.ask(plan, 0, "KEYS")
        assert four.ask(plan, 0, "PAIR", THREE, roster=THREE) == everybody("roster")


def test_what_was_accepted_in_an_earlier_attempt_is_not_taken_for_this_one(relay: Relay, plan: Plan) -> None:
    for phase in ("KEYS", "PAIR"):
        relay.ask(plan, 0, phase)
    before = dict(relay.said["sums-1", 0, 1, "PAIR"])
    assert relay.ask(plan, 0, "KEYS", attempt=2) == everybody("done")
    assert relay.ask(plan, 0, "PROVE", attempt=1) == everybody("replayed")
    assert relay.ask(plan, 0, "PAIR", attempt=2) == everybody("done")
    relay.lie = lambda to, phase, said: {**said, "south": before["south"]}
    assert relay.ask(plan, 0, "PROVE", attempt=2) == everybody("forged")


def test_keys_of_each_attempt_and_of_each_run_are_fresh(relay: Relay, plan: Plan) -> None:
    second = relay.approved(secure("second"))
    relay.ask(plan, 0, "KEYS")
    relay.ask(plan, 0, "KEYS", attempt=2)
    relay.ask(second, 0, "KEYS")
    steps = [step_of(data).body for n in (1, 2) for data in relay["east"].sent("KEYS", n)]
    assert len({one["x25519"] for one in steps}) == len({one["mlkem768"] for one in steps}) == 3


def test_what_keys_came_of_is_erased_and_a_round_does_not_outlast_them(relay: Relay, plan: Plan) -> None:
    relay.paired(plan)
    east = relay["east"]
    row = east.journal.row("SELECT secrets, capsules, roots FROM epochs")
    assert row is not None and len(row["secrets"]) == 128 and row["roots"]
    assert relay.ask(plan, 1, "READY") == everybody("done")
    row = east.journal.row("SELECT secrets, capsules, roots FROM epochs")
    assert row is not None and not row["secrets"] and not row["capsules"] and not row["roots"]
    assert relay.ask(plan, 1, "MASK") == everybody("done")
    for phase in ("KEYS", "PAIR", "PROVE"):  # in mid-run, as when a hospital has left it
        assert relay.ask(plan, 0, phase, attempt=2) == everybody("done")
        assert phase == "PROVE" or relay.ask(plan, 1, "CONFIRM") == everybody("pairing")
    assert relay.ask(plan, 1, "CONFIRM") == everybody("replayed")


def test_an_older_attempt_that_was_never_answered_is_not_answered_now(relay: Relay, plan: Plan) -> None:
    assert relay.ask(plan, 0, "KEYS", attempt=2) == everybody("done")
    assert relay.ask(plan, 0, "KEYS", attempt=1) == everybody("replayed")


@pytest.mark.parametrize("lost", ["said", "tag"])
def test_no_round_begins_before_every_hospital_has_shown_the_same_key(relay: Relay, plan: Plan, lost: str) -> None:
    relay.paired(plan)

    def lie(to: str, phase: str, said: Envelopes) -> Envelopes:
        if lost == "said":
            return {name: one for name, one in said.items() if name != "south"}
        step = step_of(json.dumps(said["south"]).encode())
        tags = dict.fromkeys(step.body["tags"], "00" * 32)
        step = step.model_copy(update={"body": {**step.body, "tags": tags}})
        return {**said, "south": json.loads(seal(Step.TYPE, step.encode(), relay["south"].identity))}

    relay.lie = lie
    assert relay.ask(plan, 1, "READY", ("east", "north")) == {"east": "pairing", "north": "pairing"}


def test_after_a_crash_in_every_phase_the_same_is_said(relay: Relay, plan: Plan) -> None:
    for phase in ("KEYS", "PAIR"):
        relay.ask(plan, 0, phase)
        relay["east"].again()
        relay.ask(plan, 0, phase)
        first, second = relay["east"].sent(phase)
        assert first == second
    relay.ask(plan, 0, "PROVE")
    relay["east"].again()
    relay["east"].compare("sums-1", relay["north"].words("sums-1"))
    assert relay["east"].go_on() == "done"


def test_offered_answers_serve_for_their_phase_alone(relay: Relay, plan: Plan) -> None:
    """What came beside a task is used where it is of the phase that is asked for; else the coordinator is asked."""
    relay.ask(plan, 0, "KEYS")
    east, said = relay["east"], dict(relay.said["sums-1", 0, 1, "KEYS"])
    relay.lie = lambda to, phase, shown: {}
    east.steps.offer(said)
    assert relay.ask(plan, 0, "PAIR", ("east",)) == {"east": "done"}
    relay.lie = lambda to, phase, shown: shown
    relay.ask(plan, 0, "PAIR", ("north", "south"))
    assert relay.ask(plan, 0, "PROVE", ("east",)) == {"east": "waits"}
