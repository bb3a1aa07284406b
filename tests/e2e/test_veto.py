"""The hospital's veto: what it has not approved, or no longer allows, is neither trained nor sent, whoever asks."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consilium.coordinator.ledgers import post
from consilium.core.ids import SiteId, digest
from consilium.core.study import Plan
from consilium.site.folder import Folder
from consilium.site.line import connect
from consilium.store.database import Database
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Decision, Task
from e2e.federation import POLICY, Federation, Hospital, federation, study
from e2e.processes import until

OTHER = digest(b"another plan, state or sum")
Change = Callable[["Case"], dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("veto"), hospitals=("north", "south"), held=True) as made:
        yield made


@pytest.fixture
def north(made: Federation) -> Iterator[Hospital]:
    yield made.hospitals["north"]
    for hospital in made.hospitals.values():
        hospital.policy(POLICY)
        assert hospital.process.alive, hospital.process.said[-2000:]
        assert "Traceback" not in hospital.process.said


def contributions(made: Federation, run: str, site: str) -> list[int]:
    rows = made.rows(f"SELECT round FROM contributions WHERE run = '{run}' AND site = '{site}' ORDER BY round")
    return [row[0] for row in rows]


def refused(made: Federation, plan: Plan, site: str, reason: str) -> None:
    """Wait until the owner reads that a site refused for this reason."""
    until(lambda: (site, reason) in made.refusals(plan), f"the owner hears that {site} refuses: {reason}")


class Case:
    """A study that north approved, and a run of it that waits for a second hospital: here the coordinator lies."""

    def __init__(self, made: Federation, name: str, approve: bool = True) -> None:
        self.made, self.site = made, made.hospitals["north"]
        self.plan = made.submit(study(name))
        if approve:
            self.site.approve(self.plan)
        else:
            until(lambda: self.site.offered(self.plan), "north is offered the study")
        self.run = made.start(self.plan)
        until(lambda: bool(made.view(self.run)["state"] or self._states()), "the run has its first state")

    def _states(self) -> list[tuple[Any, ...]]:
        return self.made.rows(f"SELECT state FROM results WHERE run = '{self.run}' AND round = 0")

    @property
    def honest(self) -> Task:
        """The task that the coordinator would send if enough hospitals approved."""
        state, initial = self._blob(self._states()[0][0]), self._blob(str(self.plan.study.model.initial))
        return Task(
            study=self.plan.study.name, run=self.run, plan=self.plan.digest, round=1, kind="TRAIN", phase="SUBMIT",
            roster=("north", "south"), state=state, initial=initial, aggregate=None,
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip

    def _blob(self, digest: str) -> Blob:
        return Blob(digest=digest, size=self.made.rows(f"SELECT size FROM blobs WHERE digest = '{digest}'")[0][0])

    def tell(self, task: Task) -> None:
        """Put a task, signed with the coordinator's own key, into the hospital's inbox; then wake whoever waits."""
        home = self.made.coordinator.home
        identity = Identity.load(home / "identity.key")
        database = Database(f"sqlite:///{home / 'coordinator.sqlite'}", lambda topic: None)
        database.run_here(lambda tx: post(tx, identity, SiteId("north"), task))
        database.close()
        self.made.submit(study(f"bell-{len(self.made.owner.connection.get('/v1/studies'))}"))


def another(made: Federation, name: str) -> Case:
    return Case(made, name)


LIES: dict[str, tuple[str, Change]] = {
    "another-state": ("state-mismatch", lambda case: {"state": Blob(digest=OTHER, size=1)}),
    "state-of-another-run": ("state-mismatch", lambda case: {"state": another(case.made, "elsewhere").honest.state}),
    "not-on-the-roster": ("roster", lambda case: {"roster": ("south", "west")}),
    "beyond-the-plan": ("rounds", lambda case: {"round": 3}),
    "judged-too-early": ("rounds", lambda case: {"kind": "EVALUATE"}),
    "a-plan-never-offered": ("not-approved", lambda case: {"plan": OTHER}),
    "the-plan-of-another-study": (
        "plan-changed",
        lambda case: {"plan": another(case.made, "approved-too").plan.digest},
    ),
    "a-third-round-without-the-second": ("not-found", lambda case: {"round": 2, "state": Blob(digest=OTHER, size=1)}),
}


@pytest.mark.parametrize("name", LIES)
def test_a_coordinator_that_lies_gets_a_refusal_and_nothing_else(made: Federation, north: Hospital, name: str) -> None:
    case = Case(made, name)
    reason, change = LIES[name]
    case.tell(case.honest.model_copy(update=change(case)))
    refused(made, case.plan, "north", reason)
    assert [one for one in north.told("sent", "--study", name) if one["what"] in ("contribution", "answer")] == []
    assert list((north.home / "work").glob(f"{case.run}/update-*")) == []


def test_the_same_task_told_honestly_is_trained(made: Federation, north: Hospital) -> None:
    """The control: the lies above differ from this in nothing but the lie. A second state for the same round is one."""
    case = Case(made, "honest")
    case.tell(case.honest)
    until(lambda: any(one["what"] == "contribution" for one in north.told("sent", "--study", "honest")), "north trains")
    case.tell(case.honest.model_copy(update={"state": Blob(digest=OTHER, size=1)}))
    refused(made, case.plan, "north", "state-mismatch")
    assert len([one for one in north.told("sent", "--study", "honest") if one["what"] == "contribution"]) == 1


def test_what_nobody_approved_is_refused(made: Federation, north: Hospital) -> None:
    case = Case(made, "unapproved", approve=False)
    view = made.until(case.run, "paused")
    assert view["reason"] == "0 sites approve this plan and are admitted; 2 are needed" and view["participation"] == []
    case.tell(case.honest)
    refused(made, case.plan, "north", "not-approved")
    north.command("decline", "unapproved", "--person", "Vera", "--reason", "not here")
    case.tell(case.honest.model_copy(update={"deadline": datetime.now(UTC)}))
    refused(made, case.plan, "north", "declined")
    told = made.owner.connection.get("/v1/studies/unapproved")["sites"]["north"]
    assert (told["decision"], told["reason"]) == ("decline", "not here")


def test_a_plan_or_a_decision_that_changed_by_one_byte_in_the_journal_is_refused(
    made: Federation, north: Hospital
) -> None:
    case = Case(made, "bytes")
    payload = north.journal("SELECT payload FROM studies WHERE study = 'bytes'")[0][0]
    north.journal("UPDATE studies SET payload = ? WHERE study = 'bytes'", payload.replace(b'"rounds":2', b'"rounds":9'))
    case.tell(case.honest)
    refused(made, case.plan, "north", "plan-changed")
    north.journal("UPDATE studies SET payload = ? WHERE study = 'bytes'", payload)
    envelope = north.journal("SELECT envelope FROM decisions WHERE study = 'bytes'")[0][0]
    forged = seal(Decision.TYPE, b"{}", Identity.create(north.home.parent / "thief.key"))
    north.journal("UPDATE decisions SET envelope = ? WHERE study = 'bytes'", forged)
    case.tell(case.honest)
    refused(made, case.plan, "north", "tampered")
    north.journal("UPDATE decisions SET envelope = ? WHERE study = 'bytes'", envelope)
    assert contributions(made, case.run, "north") == []


def test_a_plan_that_changed_by_one_byte_on_its_way_is_never_offered_to_a_person(
    made: Federation, north: Hospital
) -> None:
    north.process.signal(signal.SIGSTOP)
    try:
        plan = made.submit(study("garbled"))
        blob = next(path for path in made.coordinator.home.rglob(f"*{plan.digest.removeprefix('sha256:')}*"))
        blob.chmod(0o600)
        blob.write_bytes(plan.payload.replace(b'"rounds":2', b'"rounds":9'))
    finally:
        north.process.signal(signal.SIGCONT)
    honest = made.submit(study("whole"))
    until(lambda: north.offered(honest), "what came after it is offered")
    code, said = north.says("review", "garbled")
    assert code == 5 and "no study garbled was offered" in said


def test_an_approval_that_is_revoked_or_ends_between_two_rounds_ends_the_training(
    made: Federation, north: Hospital
) -> None:
    south = made.hospitals["south"]
    plan = made.approved(study("between", rounds=3))
    south.hold()
    run = made.start(plan)
    child = south.halt()
    until(lambda: made.view(run)["waiting_for"] == ["south"], "north has answered round 1")
    north.command("revoke", "between", "--person", "Vera", "--reason", "a doubt")
    os.kill(child, signal.SIGCONT)
    view = made.until(run, "paused")
    assert view["reason"] == "1 sites approve this plan and are admitted; 2 are needed"
    assert contributions(made, run, "north") == [1] and view["participation"][0]["took_part"] == ["north", "south"]
    north.approve(plan)
    made.until(run, "finished")
    assert contributions(made, run, "north") == [1, 2, 3, 4]


def test_an_approval_that_ends_by_itself_is_not_used_an_instant_longer(made: Federation, north: Hospital) -> None:
    case = Case(made, "ends")
    said = Decision(
        site="north", study="ends", plan=case.plan.digest, decision="approve", person="Vera", accepts=("plain",),
        expires=datetime.now(UTC), at=datetime.now(UTC),
    )  # fmt: skip
    envelope = seal(Decision.TYPE, said.encode(), north.identity)
    north.journal("INSERT INTO decisions (study, plan, envelope) VALUES ('ends', ?, ?)", case.plan.digest, envelope)
    case.tell(case.honest)
    refused(made, case.plan, "north", "approval-expired")
    assert {one["study"]: one["standing"] for one in north.told("status")["studies"]}["ends"] == "expired"


FORBIDDING = {
    "purpose": "purposes: [quality]\n",
    "algorithm": "models: [linear]\n",
    "policy-expired": "expires: 2020-01-01\n",
    "rounds": "max_rounds: 1\n",
    "policy-invalid": "nonsense: 1\n",
}


def test_each_round_obeys_the_policy_as_it_stands_then(made: Federation, north: Hospital) -> None:
    """One run, while which the hospital's policy changes again and again; in the end it allows the study again."""
    plan = made.approved(study("policy", rounds=490, quorum=1, min_patients=1))
    run = made.start(plan)
    for reason, text in FORBIDDING.items():
        north.policy(POLICY + text)
        refused(made, plan, "north", reason)
    north.policy("policy: 1\nmin_patients: 1000\n")  # the study asks for one patient: it cannot lower this
    refused(made, plan, "north", "too-few-patients")
    north.policy(POLICY + "strategies: [fedprox]\n")
    until(lambda: made.view(run)["participation"][-1]["refused"] == {"north": "algorithm"}, "the strategy is refused")
    done = len(contributions(made, run, "north"))
    north.policy(POLICY)
    until(lambda: len(contributions(made, run, "north")) > done, "north takes part again by itself")
    made.owner.connection.post(f"/v1/runs/{run}/stop")
    view = made.until(run, "stopped")
    for entry in view["participation"]:
        assert not entry["refused"].keys() & set(entry["took_part"])


def test_a_run_that_too_many_refuse_pauses_says_who_and_why_and_goes_on_when_they_approve_again(
    made: Federation, north: Hospital
) -> None:
    plan = made.approved(study("refused"))
    for hospital in made.hospitals.values():
        hospital.policy(POLICY + "purposes: [quality]\n")
    run = made.start(plan)
    until(lambda: len(made.refusals(plan)) == 2, "both refuse")
    view = made.until(run, "paused")
    assert view["reason"].startswith("round 1: 0 of the 2 needed sites have answered; it was refused by ")
    assert "north (purpose)" in view["reason"] and "south (purpose)" in view["reason"]
    for hospital in made.hospitals.values():
        code, said = hospital.says("approve", "refused", "--person", "Vera", "--accept", "plain")
        assert code == 3 and "the purpose research is not one of quality" in said
        hospital.policy(POLICY)
        hospital.approve(plan)
    view = made.until(run, "finished")
    attempts = [entry["attempt"] for entry in view["participation"]]
    assert attempts in ([1, 2, 1, 1], [1, 2, 3, 1, 1]), "it is opened again as one comes back, or as each does"


@pytest.fixture
def waiting(made: Federation, north: Hospital) -> Iterator[Callable[[str], tuple[Plan, str]]]:
    """Give a study's plan and run, of which north has an answer that cannot leave: the coordinator is away."""

    def give(name: str) -> tuple[Plan, str]:
        rate = (1 + len(made.owner.connection.get("/v1/studies"))) / 100  # so that no other study has the same bytes
        plan = made.approved(study(name, quorum=1, rounds=1, training={"learning_rate": rate}))
        north.hold()
        run = made.start(plan)
        child = north.halt()
        until(lambda: made.view(run)["waiting_for"] == ["north"], "south has answered")
        made.coordinator.process.kill()
        os.kill(child, signal.SIGCONT)
        until(lambda: answers(north, run) == ["waiting"], "north has an answer that waits")
        return plan, run

    try:
        yield give
    finally:
        if not made.coordinator.process.alive:
            made.coordinator.start()


def answers(hospital: Hospital, run: str) -> list[str]:
    return [row[0] for row in hospital.journal("SELECT status FROM outbox WHERE run = ? AND type = 'answer'", run)]


@pytest.mark.parametrize("how", ["revoked", "ended", "forbidden"])
def test_what_waits_to_be_sent_is_not_sent_once_it_is_forbidden(
    made: Federation, north: Hospital, waiting: Callable[[str], tuple[Plan, str]], how: str
) -> None:
    plan, run = waiting(f"waits-{how}")
    if how == "revoked":
        north.command("revoke", plan.study.name, "--person", "Vera")
    elif how == "forbidden":
        north.policy(POLICY + "purposes: [quality]\n")
    else:
        at = datetime.now(UTC)
        said = Decision(
            site="north", study=plan.study.name, plan=plan.digest, decision="approve", person="Vera",
            accepts=("plain",), expires=at, at=at,
        )  # fmt: skip
        envelope = seal(Decision.TYPE, said.encode(), north.identity)
        insert = "INSERT INTO decisions (study, plan, envelope) VALUES (?, ?, ?)"
        north.journal(insert, plan.study.name, plan.digest, envelope)
    made.coordinator.start()
    until(lambda: answers(north, run) == ["withdrawn"], "the answer is withdrawn")
    view = made.until(run, "finished")
    assert contributions(made, run, "north") == [], view["participation"]
    made_here = north.journal("SELECT digest FROM answers WHERE run = ?", run)[0][0]
    assert made.rows(f"SELECT digest FROM blobs WHERE digest = '{made_here}'") == []
    reason = {"revoked": "revoked", "ended": "approval-expired", "forbidden": "purpose"}[how]
    assert view["participation"][0]["refused"] == {"north": reason}
    became = {one["became"] for one in north.told("sent", "--study", plan.study.name) if one["what"] == "contribution"}
    assert became == {"withdrawn"}


def spoil(hospital: Hospital, code: str, patients: int = 12) -> None:
    """A label that nobody mapped, for so many patients of its table."""
    path = hospital.mapping.parent / "table.csv"
    head, *rows = path.read_text().splitlines()
    spoilt = [f"{row.rpartition(',')[0]},{code}" for row in rows[:patients]]
    path.write_text("\n".join([head, *spoilt, *rows[patients:]]) + "\n")


def checked(made: Federation, plan: Plan) -> dict[str, Any]:
    return dict(made.owner.connection.get(f"/v1/studies/{plan.study.name}")["checks"])


def test_a_hospital_trains_only_with_a_check_that_passed_and_that_it_signed(made: Federation, north: Hospital) -> None:
    plan, south = made.submit(study("gated", gate={})), made.hospitals["south"]
    south_table, north_table = ((one.mapping.parent / "table.csv").read_text() for one in (south, north))
    north.approve(plan)
    until(lambda: checked(made, plan).get("north", {}).get("passed") is True, "north's check arrived")
    run = made.start(plan)
    spoil(south, "7")
    until(lambda: south.offered(plan), "south is offered the study")
    code, said = south.says("check", "gated", "--mapping", south.mapping, "--tell", "--json")
    told = json.loads(said)
    assert code == 1 and told["sent"] and [one["kind"] for one in told["findings"] if one["blocks"]] == ["label-codes"]
    code, said = south.says("approve", "gated", "--person", "Vera", "--accept", "plain", "--mapping", south.mapping)
    assert code == 3 and "some codes are not mapped" in said, "nothing is signed that could not train"
    by_hand = Decision(
        site="south", study="gated", plan=plan.digest, decision="approve", person="Vera", accepts=("plain",),
        at=datetime.now(UTC),
    )  # fmt: skip
    line = connect(Folder.open(south.home), south.identity)
    line.post("/v1/envelopes", raw=seal(Decision.TYPE, by_hand.encode(), south.identity))
    view = made.until(run, "paused")
    assert "not asked for want of a check: south (check-failed)" in view["reason"] and not view["participation"]
    south.mapping.write_text(south.mapping.read_text().replace("'1': 1", "'1': 1, '7': 1"))
    south.approve(plan)
    made.until(run, "finished")
    found = checked(made, plan)
    assert found["south"]["passed"] and found["south"]["checks"] == 2 and found["north"]["source"] == "csv"
    assert all(one["patients"] % 10 == 0 for one in found.values()), "in tens"
    history = south.told("checks", "gated")
    assert [one["passed"] for one in history] == [False, True] and history[0]["blocking"] == ["large: label-codes"]
    spoil(north, "9")  # since it was checked, its table went bad: the hospital itself does not train on it
    again = made.start(plan)
    refused(made, plan, "north", "check-failed")
    assert north.says("check", "gated", "--mapping", north.mapping)[0] == 1
    until(lambda: checked(made, plan)["north"]["passed"] is False, "the owner hears of it")
    (north.mapping.parent / "table.csv").write_text(north_table)
    north.command("check", "gated", "--mapping", north.mapping)
    made.until(again, "finished")
    (south.mapping.parent / "table.csv").write_text(south_table)
