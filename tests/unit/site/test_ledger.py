"""The ledger where rounds are made: charged before training, refused before a table is read, inherited by extracts."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

from consilium.core.errors import Invalid, NotFound, Refused, Unavailable
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.governance import audit
from consilium.privacy.accountant import Sampled, curve
from consilium.privacy.ledger import Cost, Load
from consilium.site import budget, doctor, ledger, recall
from consilium.site.deciding import Desk
from consilium.site.journal import BEHIND, Journal
from consilium.site.recall import Recall
from consilium.site.updates import Updates
from consilium.wire.envelope import payload_of, seal
from consilium.wire.messages import Checkpoint, Ended, Refusal, Reopened
from e2e.federation import table
from unit.site.circle import Here, Hospital, Relay, circle, secure, step_of

NOW = datetime(2030, 6, 1, tzinfo=UTC)
NAMES = ("east", "north", "south")
ONE = Load(curve(Sampled(2.0, 1.0, 1)))


@pytest.fixture(autouse=True)
def priced() -> Iterator[None]:
    """Each round of every study here costs the same, whether it is noised or not: what is tested is the count."""

    def price(study: Any) -> Cost:
        return Cost(study.rounds, ONE, ONE, 2.0, 1.0, 1e-5, "a test")

    def afford(desk: Desk, plan: Plan, path: Path | None = None) -> None:
        ledger.Ledger(desk.folder, desk.journal).check(plan, path)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Desk, "_afford", afford))  # as if each study asked for an epsilon
        for module in (ledger, recall, budget):
            stack.enter_context(mock.patch.object(module, "cost_of", price))
        yield


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with circle(tmp_path, *NAMES) as found:
        yield found


def policy(hospital: Hospital, epsilon: float, more: str = "") -> None:
    text = f"policy: 1\nmin_patients: 10\nprivacy: {{budget: {{epsilon: {epsilon}}}{more}}}\n"
    hospital.folder.policy_file.write_text(text)


def rounds(count: int) -> float:
    """A budget with room for so many rounds, and no more."""
    return (ONE * count).epsilon(1e-5) + 1e-6


def apart(count: int, *names: str) -> str:
    """Populations of these names in a policy, each with a budget for so many rounds."""
    return f", populations: {{{', '.join(f'{name}: {{epsilon: {rounds(count)}}}' for name in names)}}}"


def begun(relay: Relay, name: str = "sums", **changes: Any) -> Plan:
    plan = relay.approved(secure(name, **changes))
    relay.paired(plan)
    return plan


def spent(hospital: Hospital) -> int:
    return sum(one.trainings for one in hospital.worker.veto.ledger.book.accounts.values())


def charged(hospital: Hospital, number: int) -> int:
    return hospital.worker.veto.ledger.book.charged("sums-1", number)


def ended(plan: Plan) -> Ended:
    name = plan.study.name
    return Ended(study=name, run=f"{name}-1", status="stopped", reason="", state=None)


def test_a_training_begins_only_once_its_charge_is_on_disk(relay: Relay) -> None:
    plan, seen = begun(relay), []

    def watched(self: Here, command: dict[str, Any], ask: Any = Here.ask) -> dict[str, Any]:
        if command["do"] == "train":
            with contextlib.closing(sqlite3.connect(relay["north"].folder.journal)) as other:
                kinds = [json.loads(row[0]) for row in other.execute("SELECT entry FROM ledger ORDER BY seq")]
                seen.append([(one["kind"], one["body"].get("round")) for one in kinds])
        return dict(ask(self, command))

    with mock.patch.object(Here, "ask", watched):
        relay.ask(plan, 1, "READY", ("north",))
    assert seen == [[("reserve", None), ("charge", 1)]]
    assert relay.ask(plan, 1, "READY") == dict.fromkeys(NAMES, "done")
    assert spent(relay["north"]) == 1, "the same training said twice"


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed(statement: int) -> Iterator[None]:
    """The process ends at the n-th statement that it writes, or as it trains, whichever comes first at that count."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == statement:
            raise Killed

    def written(writing: Any, text: str, values: tuple[Any, ...]) -> Any:
        step()
        return writing._db.execute(text, values)

    def asked(here: Here, command: dict[str, Any], ask: Any = Here.ask) -> dict[str, Any]:
        told = ask(here, command)
        step()
        return dict(told)

    with (
        mock.patch("consilium.site.journal.Writing.put", written),
        mock.patch.object(Here, "ask", asked),
        contextlib.suppress(Killed),
    ):
        yield


def test_wherever_the_process_is_killed_what_left_is_counted(relay: Relay) -> None:
    """Every statement of READY and MASK in turn; each round is begun again by a fresh process, until all is said."""
    for hospital in relay.hospitals.values():
        policy(hospital, rounds(60))
    plan, north, most = begun(relay, rounds=30), relay["north"], 18
    for number in range(1, most + 1):
        for phase, statement in (("READY", number), ("MASK", 1 + number // 2)):
            with killed(statement):
                relay.ask(plan, number, phase, ("north",))
            north.again()
            left = north.journal.row("SELECT count(*) AS n FROM outbox WHERE round = ? AND digest IS NOT NULL", number)
            assert left is not None and charged(north, number) >= left["n"]
            assert set(relay.ask(plan, number, phase).values()) == {"done"}
        assert charged(north, number) == 1
        for phase in ("CONFIRM", "UNMASK"):
            assert set(relay.ask(plan, number, phase).values()) == {"done"}
        relay.opened(plan, number)
        relay.closed(plan, number, NAMES)
    assert spent(north) == most
    ledger.verify(north.journal)


def test_what_exceeds_the_budget_is_not_approved_and_what_is_known_of_it_stays_here(relay: Relay) -> None:
    north = relay["north"]
    policy(north, rounds(1))
    with pytest.raises(Refused) as caught:
        relay.approved(secure("sums"))
    assert caught.value.reason == "budget" and "of the budget of everybody" in caught.value.message
    assert north.count("decisions") == 0
    policy(north, rounds(2))
    north.desk.approve("sums", "Vera", (), None, north.mapping, NOW)


def test_a_run_is_refused_before_anything_is_read_when_others_have_spent_what_it_needs(relay: Relay) -> None:
    north = relay["north"]
    for hospital in relay.hospitals.values():
        policy(hospital, rounds(3))
    one, two = relay.approved(secure("one")), relay.approved(secure("two"))
    assert set(relay.ask(one, 0, "KEYS").values()) == {"done"}
    with mock.patch.object(Here, "ask", side_effect=AssertionError("a table was read")):
        assert relay.ask(two, 0, "KEYS", ("north",)) == {"north": "budget"}
    said = north.journal.row("SELECT envelope FROM outbox WHERE type = 'refusal'")
    assert said is not None
    told = Refusal.decode(payload_of(bytes(said["envelope"]), Refusal.TYPE))
    assert told.reason == "budget" and not [letter for letter in told.text if letter.isdigit()]
    north.told(ended(one))
    assert relay.ask(two, 0, "KEYS", ("north",)) == {"north": "done"}, "what one reserved is free again"


def test_a_stricter_budget_holds_from_the_next_round_on(relay: Relay) -> None:
    plan = begun(relay, rounds=3)
    relay.played(plan, 1)
    policy(relay["north"], rounds(2))
    assert relay.ask(plan, 2, "READY", ("north",)) == {"north": "budget"}
    policy(relay["north"], rounds(3))
    assert relay.ask(plan, 2, "READY", ("north",)) == {"north": "done"}


def test_only_a_run_that_costs_something_for_good_is_judged(relay: Relay) -> None:
    """A coordinator may begin as many runs as it likes, and figures of held-out patients carry no noise."""
    plan = begun(relay, rounds=1)
    assert set(relay.ask(plan, 2, "READY").values()) == {"budget"}
    assert set(relay.ask(plan, 1, "READY").values()) == {"done"}
    assert spent(relay["north"]) == 1
    assert set(relay.ask(plan, 2, "READY").values()) == {"budget"}, "what left for nothing yet is given back at the end"
    relay.played(plan, 1, attempt=2)
    assert set(relay.ask(plan, 2, "READY").values()) == {"done"}


def test_a_round_that_is_trained_once_more_is_refused_where_the_budget_has_no_room_for_it(relay: Relay) -> None:
    for hospital in relay.hospitals.values():
        policy(hospital, rounds(2))
    plan = begun(relay, rounds=2)
    with mock.patch.object(Updates, "of", Updates.anew):  # as where each attempt has noise of its own
        for phase in ("READY", "MASK"):
            assert set(relay.ask(plan, 1, phase).values()) == {"done"}
        assert relay.ask(plan, 1, "READY", ("north",), attempt=2) == {"north": "budget"}
    assert spent(relay["north"]) == 1


def test_at_the_end_of_a_run_what_was_never_sent_is_given_back_and_nothing_else(relay: Relay) -> None:
    plan = begun(relay, rounds=5)
    relay.played(plan, 1)
    assert set(relay.ask(plan, 2, "READY").values()) == {"done"}
    assert set(relay.ask(plan, 2, "MASK", ("east", "north")).values()) == {"done"}  # south was ready, and no more
    for name, kept in (("north", {1, 2}), ("south", {1})):
        (before,) = relay[name].worker.veto.ledger.book.accounts.values()
        assert before.trainings == 2
        relay[name].told(ended(plan))
        (account,) = relay[name].worker.veto.ledger.book.accounts.values()
        assert {number for number, times in account.charged.items() if times} == kept and not account.open
        assert account.held.epsilon(1e-5) == (ONE * len(kept)).epsilon(1e-5) < before.held.epsilon(1e-5)


PATIENTS = "patient: {column: id}\n"


def other_extract(hospital: Hospital, folder: str, patients: str = "") -> Path:
    """Another table of this hospital, and its mapping; of the patients of this name."""
    path = table(hospital.folder.home / folder, 9)
    text = path.read_text().replace(PATIENTS, PATIENTS + (f"patients: {patients}\n" if patients else ""))
    path.write_text(text)
    return path


def approves(hospital: Hospital, name: str, mapping: Path) -> bool:
    """Whether the budget has room for a study with this mapping."""
    plan = Plan.of(secure(name))
    with hospital.journal.write() as tx:
        tx.do(
            "INSERT OR IGNORE INTO studies (study, plan, payload, title, at) VALUES (?, ?, ?, '', '')",
            name, plan.digest, plan.payload,
        )  # fmt: skip
    try:
        hospital.desk.approve(name, "Vera", (), None, mapping, NOW)
    except Refused as error:
        assert error.reason == "budget"
        return False
    return True


def test_a_new_extract_inherits_what_was_spent(relay: Relay) -> None:
    plan, north = begun(relay), relay["north"]
    relay.played(plan, 1)
    policy(north, rounds(3))
    assert not approves(north, "two", other_extract(north, "later")), "one pool, whatever is read"
    policy(north, rounds(3), apart(3, "heart", "lung"))
    heart, same = other_extract(north, "heart", "heart"), north.mapping
    assert approves(north, "three", heart), "patients whom the policy names apart"
    assert not approves(north, "four", other_extract(north, "unnamed", "kidney")), "a name that only the mapping knows"
    renamed = same.with_name("renamed.yaml")
    renamed.write_text(same.read_text().replace(PATIENTS, PATIENTS + "patients: lung\n"))
    assert not approves(north, "five", renamed), "no new name makes the patients of a table new"
    assert approves(north, "six", other_extract(north, "lungs", "lung"))


def test_who_is_named_apart_later_takes_nothing_off_what_was_spent_of_everybody(relay: Relay) -> None:
    north = relay["north"]
    north.mapping.write_text(north.mapping.read_text().replace(PATIENTS, PATIENTS + "patients: kidney\n"))
    relay.played(begun(relay), 1)
    policy(north, rounds(3), apart(9, "kidney"))
    assert not approves(north, "two", other_extract(north, "later"))


def test_a_run_that_goes_on_with_another_table_is_charged_to_its_patients(relay: Relay) -> None:
    north = relay["north"]
    plan = begun(relay, rounds=3)
    relay.played(plan, 1)
    policy(north, rounds(4), apart(2, "heart"))
    north.mapping.write_text(other_extract(north, "data", "heart").read_text())
    assert relay.ask(plan, 2, "READY", ("north",)) == {"north": "budget"}, "three rounds of theirs are more than two"
    policy(north, rounds(9), apart(9, "heart"))
    assert relay.ask(plan, 2, "READY", ("north",)) == {"north": "done"}
    assert [one.whose.population for one in north.worker.veto.ledger.book.accounts.values()] == ["everybody", "heart"]


def test_nothing_leaves_once_the_table_is_of_patients_for_whom_there_is_no_room(relay: Relay) -> None:
    north, plan = relay["north"], begun(relay, rounds=3)
    assert relay.ask(plan, 1, "READY", ("north",)) == {"north": "done"}
    assert north.worker.veto.stands("sums-1", 1, datetime.now(UTC))
    policy(north, rounds(9), apart(2, "heart"))
    other = other_extract(north, "heart", "heart")
    north.mapping.write_text(other.read_text().replace("path: ", f"path: {other.parent}/"))
    assert not north.worker.veto.stands("sums-1", 1, datetime.now(UTC))


def test_a_run_that_was_over_is_charged_no_more_though_it_is_opened_again(relay: Relay) -> None:
    """What nothing had left by was given back at its end: of what came after, nobody knows."""
    north, plan = relay["north"], relay.approved(secure("sums", rounds=3, privacy={"recipe": "plain"}))
    relay.submitted(plan, 1)
    north.told(ended(plan))
    north.told(Reopened(by="Ada", at=NOW, seq=1, head=digest(b"a head"), runs=("sums-1",), kept=0))
    assert relay.ask(plan, 2, "SUBMIT", ("north",), cohort=()) == {"north": "replayed"}
    assert spent(north) == 1


class Keeps:
    """A coordinator that keeps checkpoints and what it heard, as the real one does."""

    def __init__(self, hospital: Hospital) -> None:
        self.hospital, self.heads, self.sent = hospital, [], []

    def hear(self) -> None:
        """All steps of training that are in the outbox have come."""
        rows = self.hospital.journal.rows("SELECT DISTINCT envelope FROM outbox WHERE type = 'step' ORDER BY id")
        said = [(bytes(row["envelope"]), step_of(bytes(row["envelope"]))) for row in rows]
        self.sent = [
            {
                "study": said[0][1].study, "plan": said[0][1].plan, "run": said[0][1].run,
                "answers": [
                    [step.round, step.attempt, step.phase, digest(data)]
                    for data, step in said if step.phase in ("READY", "MASK")
                ],
            }
        ]  # fmt: skip

    def sign(self) -> None:
        with self.hospital.journal.write() as tx:
            head = tx.head()
        mark = Checkpoint(log=self.hospital.name, seq=head.seq, head=head.digest, at=NOW)
        self.heads.append(json.loads(seal(Checkpoint.TYPE, mark.encode(), self.hospital.identity)))

    def get(self, path: str) -> Any:
        assert path == "/v1/record"
        return {"checkpoints": self.heads, "sent": self.sent}

    def recall(self) -> Recall:
        return Recall(self.hospital.name, self.hospital.identity, self.hospital.journal, cast(Any, self))


def restored(hospital: Hospital, copy: Path) -> None:
    hospital.journal.close()
    for path in hospital.folder.home.glob("journal.sqlite*"):
        path.unlink()
    shutil.copy(copy, hospital.folder.journal)
    hospital.begin()


def copied(hospital: Hospital, to: Path) -> Path:
    with contextlib.closing(sqlite3.connect(to)) as copy:
        hospital.journal._db.backup(copy)
    return to


def test_a_ledger_that_is_older_than_what_left_trains_nothing_until_a_person_has_said_so(
    relay: Relay, tmp_path: Path
) -> None:
    plan, north = begun(relay, rounds=4), relay["north"]
    keeps = Keeps(north)
    relay.played(plan, 1)
    copy = copied(north, tmp_path / "copy")
    keeps.sign()
    keeps.recall().look(NOW)
    assert north.journal.meta(BEHIND) == ""
    relay.played(plan, 2)
    keeps.hear()
    keeps.recall().look(NOW)
    assert north.journal.meta(BEHIND) == "", "it is all there"

    restored(north, copy)
    north.worker.veto.ledger.recall = keeps.recall().look
    for _ in ("found as the round begins", "known"):
        assert relay.ask(plan, 3, "READY", ("north",)) == {"north": "ledger"} and spent(north) == 1
    assert budget.facts(north.desk)["behind"]
    assert relay.ask(plan, 0, "KEYS", ("north",), attempt=2) == {"north": "ledger"}, "nor are keys agreed for it"
    with pytest.raises(Refused, match="older"):
        north.worker.veto.ledger.check(plan, north.mapping)

    found = recall.recount(north.journal, "Vera", NOW)
    assert [(one["round"], one["times"]) for one in found] == [(2, 1)] and spent(north) == 2
    keeps.sign()
    keeps.recall().look(NOW)
    assert north.journal.meta(BEHIND) == "", "what was lost is answered for"
    assert recall.recount(north.journal, "Vera", NOW) == []
    north.told(ended(plan))
    assert spent(north) == 2, "nothing of what was found is given back"
    ledger.verify(north.journal)
    audit.verify(north.journal.entries())


def in_training(relay: Relay, plan: Plan, number: int, to: Path) -> Path:
    """Ask north alone to be ready for a round; a copy of its journal as it trains, when all is charged."""
    copies: list[Path] = []

    def watched(self: Here, command: dict[str, Any], ask: Any = Here.ask) -> dict[str, Any]:
        if command["do"] == "train":
            copies.append(copied(relay["north"], to))
        return dict(ask(self, command))

    with mock.patch.object(Here, "ask", watched):
        relay.ask(plan, number, "READY", ("north",))
    return copies[0]


def test_a_copy_of_a_charge_before_anything_was_sent_counts_what_was_sent_since(relay: Relay, tmp_path: Path) -> None:
    """Whatever of it the coordinator shows, and whether the run's end comes before a person has said something."""
    plan, north = begun(relay, rounds=4), relay["north"]
    keeps = Keeps(north)
    relay.played(plan, 1)
    copy = in_training(relay, plan, 2, tmp_path / "copy")
    relay.ask(plan, 2, "READY", ("east", "south"))
    assert set(relay.ask(plan, 2, "MASK").values()) == {"done"}
    keeps.hear()
    keeps.sign()
    heads, sent = keeps.heads, keeps.sent
    for shown, end in product(("both", "record", "heads"), ("before", "after")):
        keeps.heads, keeps.sent = [] if shown == "record" else heads, [] if shown == "heads" else sent
        restored(north, copy)
        with north.journal.write() as tx:
            for _ in range(100):  # by then it is longer than what was signed, and another one
                tx.record("since", {}, NOW)
        keeps.recall().look(NOW)
        assert north.journal.meta(BEHIND) != ""
        if end == "before":
            north.told(ended(plan))
        recall.recount(north.journal, "Vera", NOW)
        if end == "after":
            north.told(ended(plan))
        most = 3 if end == "before" and shown != "heads" else 2  # what was charged at the copy was not given back
        assert 2 <= spent(north) <= most, "rounds 1 and 2 left"
        keeps.recall().look(NOW)
        assert north.journal.meta(BEHIND) == "", "it was said once"
    keeps.sent = sent
    showed_once(keeps, sent[0]["answers"], copy)


def showed_once(keeps: Keeps, answers: list[Any], copy: Path) -> None:
    """What the coordinator showed once it cannot hide, and what it makes up is told before it is charged."""
    restored(keeps.hospital, copy)
    for shown in ([*answers, [9, 7, "READY", digest(b"made up")]], [[8, 1, "READY", digest(b"this, too")]], []):
        keeps.sent[0]["answers"] = shown
        keeps.recall().look(NOW)
    assert "3 rounds, in 3 attempts" in budget.facts(keeps.hospital.desk)["behind"]
    found = recall.recount(keeps.hospital.journal, "Vera", NOW)
    assert {one["round"] for one in found} == {2, 8, 9} and spent(keeps.hospital) == 4


@pytest.mark.long
def test_a_copy_with_fewer_attempts_of_a_round_counts_those_that_followed(relay: Relay, tmp_path: Path) -> None:
    plan, north = begun(relay, rounds=4), relay["north"]
    keeps, copies = Keeps(north), {}
    relay.played(plan, 1)
    with mock.patch.object(Updates, "of", Updates.anew):  # as where each attempt has noise of its own
        for attempt in (1, 2, 3):
            for phase in ("READY", "MASK"):
                assert set(relay.ask(plan, 2, phase, attempt=attempt).values()) == {"done"}
                copies[phase, attempt] = copied(north, tmp_path / f"{phase}-{attempt}")
    keeps.hear()
    for (phase, attempt), copy in copies.items():
        restored(north, copy)
        at = spent(north)
        keeps.recall().look(NOW)
        assert bool(north.journal.meta(BEHIND)) == ((phase, attempt) != ("MASK", 3))
        recall.recount(north.journal, "Vera", NOW)
        assert 4 <= spent(north) <= 4 + (at - attempt - 1), (phase, attempt)
        north.told(ended(plan))
        assert spent(north) >= 4


def test_what_somebody_else_signed_is_no_checkpoint_of_ours(relay: Relay) -> None:
    keeps = Keeps(relay["north"])
    looks = keeps.recall()  # until it has compared: who spoils an answer once has not spared himself the rest
    mark = Checkpoint(log="north", seq=70, head=audit.START.digest, at=NOW)
    keeps.heads = [json.loads(seal(Checkpoint.TYPE, mark.encode(), relay["south"].identity))]
    with pytest.raises(Unavailable, match="not signed here"):
        looks.look(NOW)
    elsewhere = mark.model_copy(update={"log": "south"})
    keeps.heads = [json.loads(seal(Checkpoint.TYPE, elsewhere.encode(), relay["north"].identity))]
    with pytest.raises(Unavailable, match="of another log"):
        looks.look(NOW)
    assert relay["north"].journal.meta(BEHIND) == ""


def test_what_the_coordinator_showed_once_it_does_not_hide_afterwards(relay: Relay, tmp_path: Path) -> None:
    plan, north = begun(relay, rounds=4), relay["north"]
    keeps, copy = Keeps(north), copied(north, tmp_path / "copy")
    relay.played(plan, 1)
    keeps.sign()
    keeps.hear()
    heads, sent = keeps.heads, keeps.sent
    restored(north, copy)
    for keeps.heads, keeps.sent in ((heads, []), ([], sent), ([], [])):
        keeps.recall().anew(NOW)
    behind = json.loads(north.journal.meta(BEHIND))
    assert len(behind["heads"]) == 1 and len(behind["left"]) == 2


def test_what_is_found_later_of_a_round_counts_beside_what_was_found_before(relay: Relay) -> None:
    north, plan = relay["north"], begun(relay)
    keeps = Keeps(north)
    for attempt in (1, 2):
        answers = [[1, one, "MASK", digest(str(one).encode())] for one in range(1, attempt + 1)]
        keeps.sent = [{"study": "sums", "plan": plan.digest, "run": "sums-1", "answers": answers}]
        keeps.recall().anew(NOW)
        (found,) = recall.recount(north.journal, "Vera", NOW)
        assert found["times"] == 1 and charged(north, 1) == attempt


def test_what_was_found_waits_for_its_plan_and_counts_for_every_population(relay: Relay) -> None:
    north = relay["north"]
    plan = Plan.of(secure("sums"))
    keeps = Keeps(north)
    answers = [[1, 1, "READY", digest(b"ready")]]
    keeps.sent = [{"study": "sums", "plan": plan.digest, "run": "sums-1", "answers": answers}]
    keeps.recall().look(NOW)
    with pytest.raises(NotFound, match="not here yet"):
        recall.recount(north.journal, "Vera", NOW)
    assert north.journal.meta(BEHIND) != "", "all of it, or nothing"
    policy(north, rounds(3), apart(3, "heart"))
    heart = other_extract(north, "heart", "heart")
    with north.journal.write() as tx:
        tx.do(
            "INSERT INTO studies (study, plan, payload, title, at) VALUES ('sums', ?, ?, '', '')",
            plan.digest, plan.payload,
        )  # fmt: skip
    assert len(recall.recount(north.journal, "Vera", NOW)) == 1
    assert not approves(north, "one", heart) and not approves(north, "two", north.mapping)
    recall.said(north.journal, "heart", 0.5, 0.0, "Vera", NOW)
    facts = {one["population"]: one for one in budget.facts(north.desk)["populations"]}
    assert facts["heart"]["spent"] > facts["everybody"]["spent"] > 0


def test_what_a_person_says_was_spent_counts_for_each_purpose(relay: Relay) -> None:
    north = relay["north"]
    budget_ = f"{{epsilon: 50, purposes: {{research: {rounds(2)}}}}}"
    north.folder.policy_file.write_text(f"policy: 1\nmin_patients: 10\nprivacy: {{budget: {budget_}}}\n")
    assert approves(north, "one", north.mapping)
    recall.said(north.journal, "", 0.1, 0.0, "Vera", NOW)
    assert not approves(north, "two", north.mapping)


def test_what_could_not_be_bounded_for_ever_is_not_taken(relay: Relay) -> None:
    """A delta that reaches the budget's; also with what was said before, and for each population that it counts for."""
    north = relay["north"]
    policy(north, 8, ", populations: {heart: {epsilon: 8, delta: 1.0e-6}}")
    for population, delta in (("everybody", 1e-5), ("", 1e-6), ("heart", 2e-6), ("", float("nan"))):
        with pytest.raises(Invalid):
            budget.countable(north.desk, population, 0.1, delta)
    with pytest.raises(Invalid, match=r"heart.*take 9\.9e-07"):
        budget.countable(north.desk, "", 0.1, 1e-5)
    for delta in (9.99e-7, 8e-6):
        budget.countable(north.desk, "everybody", 0.1, delta)
        recall.said(north.journal, "everybody", 0.1, delta, "Vera", NOW)
    with pytest.raises(Invalid, match=r"take 9\.91e-07"):
        budget.countable(north.desk, "everybody", 0.1, 2e-6)
    facts = {one["population"]: one for one in budget.facts(north.desk)["populations"]}
    assert 0 < facts["everybody"]["spent"] < 8 and facts["everybody"]["studies"][0]["rounds"] == 0


def test_where_nothing_bounds_what_was_spent_that_is_said_in_numbers_that_json_has(
    relay: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, north = relay.approved(secure("sums")), relay["north"]
    recall.said(north.journal, "", 0.1, 1e-5, "Vera", NOW)  # as a policy with a smaller delta than before makes it
    facts = budget.facts(north.desk)
    json.dumps(facts, allow_nan=False)
    (everybody,) = facts["populations"]
    assert everybody["reserved"] == everybody["left"] == 0 and len(everybody["studies"]) == 1
    budget.words(facts)
    said = capsys.readouterr().out
    assert "spent without bound" in said and "larger `delta`" in said and "nan" not in said and "1 of 0" not in said
    north.folder.policy_file.write_text("policy: 1\nprivacy: {budget: {epsilon: 8, delta: 2.0e-5}}\n")
    assert budget.facts(north.desk)["populations"][0]["left"] > 0
    json.dumps(budget.review(north.desk, plan)[0], allow_nan=False)


def test_a_population_that_is_newly_named_apart_is_warned_of_until_a_person_has_said_what_it_spent(
    relay: Relay,
) -> None:
    plan, north = relay.approved(secure("sums")), relay["north"]
    recall.said(north.journal, "everybody", 1.0, 0.0, "Vera", NOW)
    assert budget.facts(north.desk)["warnings"] == {}
    policy(north, 9, apart(3, "heart"))
    heart = other_extract(north, "heart", "heart")
    assert approves(north, "two", heart), "the ledger cannot know who is in another table"
    facts = budget.facts(north.desk)
    (found,) = [one for one in facts["populations"] if one["population"] == "heart"]
    assert found["spent"] == 0 and found["anew"] == facts["populations"][0]["spent"] > 0
    assert list(facts["warnings"]) == ["heart"] and "begins anew" in facts["warnings"]["heart"]
    two = Plan.of(secure("two"))
    review, words = budget.review(north.desk, two)
    assert review["anew"] == found["anew"] and facts["warnings"]["heart"] in words
    assert budget.warning(north.desk, two) == facts["warnings"]["heart"] and budget.warning(north.desk, plan) == ""
    assert ("warning", facts["warnings"]["heart"]) in [one[:2] for one in doctor._budget(north.folder, NOW)]
    recall.said(north.journal, "heart", 0.0, 0.0, "Vera", NOW)
    facts = budget.facts(north.desk)
    assert facts["warnings"] == {} and facts["populations"][1]["spent"] == 0
    assert "begins anew" not in budget.review(north.desk, two)[1]


def test_the_facts_are_those_of_the_book(relay: Relay) -> None:
    plan, north = begun(relay, rounds=4), relay["north"]
    relay.played(plan, 1)
    north.folder.policy_file.write_text(
        "policy: 1\nmin_patients: 10\nprivacy: {budget: {epsilon: 9, purposes: {research: 7}}}\n"
    )
    (everybody,) = budget.facts(north.desk)["populations"]
    (research,) = everybody["purposes"]
    (row,) = everybody["studies"]
    whole, one = (ONE * 4).epsilon(1e-5), ONE.epsilon(1e-5)
    assert everybody["spent"] == round(one, 3) and everybody["left"] == round(9 - whole, 3)
    assert everybody["reserved"] == round(whole - one, 3) and research["left"] == round(7 - whole, 3)
    assert (row["run"], row["rounds"], row["of"], row["state"]) == ("sums-1", 1, 4, "going on")
    north.folder.policy_file.write_text(
        f"policy: 1\nmin_patients: 10\nprivacy: {{budget: {{epsilon: 9, purposes: {{research: {rounds(3)}}}}}}}\n"
    )
    assert relay.ask(plan, 2, "READY", ("north",)) == {"north": "budget"}, "the purpose has less"


def test_two_processes_share_one_ledger(relay: Relay) -> None:
    """A command reads what the agent wrote since."""
    plan, north = begun(relay), relay["north"]
    with contextlib.closing(Journal(north.folder.journal)) as other:
        desk = Desk(north.folder, other)
        before = budget.facts(desk)["populations"][0]["spent"]
        relay.played(plan, 1)
        assert before == 0 < budget.facts(desk)["populations"][0]["spent"]
