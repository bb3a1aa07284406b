"""A decision by a study's name holds for the plan that was reviewed, whatever the coordinator names."""

import errno
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from consilium.core.errors import (
    Conflict,
    ConsiliumError,
    DataUnusable,
    Equivocation,
    Invalid,
    NotFound,
    OutOfPhase,
    OverQuota,
    ProtocolMismatch,
    Refused,
    StudyInvalid,
    Unavailable,
    UnknownSite,
)
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.privacy.mechanism import pinned
from consilium.site import doctor, plans, showing, tables
from consilium.site.attesting import history
from consilium.site.cli import sent
from consilium.site.deciding import Desk
from consilium.site.folder import Folder, Membership
from consilium.site.inbox import Inbox
from consilium.site.journal import Journal
from consilium.site.outbox import Outbox, Outgoing
from consilium.site.veto import Veto, reason_of
from consilium.wire.envelope import Envelope, unseal
from consilium.wire.messages import Attestation, Blob, Offer, Refusal, Reopened, Task
from e2e.federation import study, table

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
STATE = Blob(digest=digest(b"a state"), size=1)


class Site:
    """A hospital's folder, without an agent."""

    def __init__(self, home: Path) -> None:
        self.folder = Folder.create(home)
        self.folder.keep_membership(Membership("north", "https://localhost:1", self.folder.identity().public))
        self.journal = Journal(self.folder.journal)
        self.desk = Desk(self.folder, self.journal)
        self.veto = Veto("north", self.folder.identity(), self.folder, self.journal, Event())
        self.mapping = table(home / "data", seed=1)

    def put(self, plan: Plan, name: str = "") -> None:
        """Into the journal, past what checks an offer."""
        with self.journal.write() as tx:
            tx.do(
                "INSERT INTO studies (study, plan, payload, title, at) VALUES (?, ?, ?, '', '')",
                name or plan.study.name, plan.digest, plan.payload,
            )  # fmt: skip

    def offer(self, plan: Plan, name: str) -> None:
        """As the coordinator offers it."""
        about = Offer(study=name, plan=Blob(digest=plan.digest, size=len(plan.payload)), title="")
        with self.journal.write() as tx:
            Inbox._offer(cast(Any, None), tx, 1, about, b"", plan.payload, NOW)

    def approve(self, name: str, *accepts: str) -> None:
        self.desk.approve(name, "Vera", accepts or ("plain",), None, self.mapping, NOW)

    def decided(self) -> int:
        return len(self.journal.rows("SELECT id FROM decisions")) + len(self.journal.rows("SELECT digest FROM outbox"))

    def task(self, plan: Plan, number: int = 1, run: str = "") -> Task:
        name = plan.study.name
        return Task(
            study=name, run=run or f"{name}-1", plan=plan.digest, round=number, kind="TRAIN", phase="SUBMIT",
            roster=("north",), state=STATE, initial=STATE, aggregate=None, deadline=NOW + timedelta(hours=1),
        )  # fmt: skip

    def asked(self, task: Task) -> Task:
        with self.journal.write() as tx:
            tx.do(
                "INSERT INTO tasks (seq, plan, run, round, kind, payload, status)"
                " VALUES ((SELECT coalesce(max(seq), 0) + 1 FROM tasks), ?, ?, ?, ?, ?, 'todo')",
                task.plan, task.run, task.round, task.kind, task.encode(),
            )  # fmt: skip
        return task

    def answered(self, task: Task) -> None:
        with self.journal.write() as tx:
            tx.do(
                "INSERT INTO answers VALUES (?, ?, ?, ?, '', 1, '', 'plain')",
                task.run, task.round, task.kind, task.state.digest,
            )  # fmt: skip

    def refused(self, task: Task) -> str:
        with pytest.raises(Refused) as caught:
            self.veto.permit(task, NOW)
        return caught.value.reason


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "north")
    yield made
    made.journal.close()


def gated(site: Site, **gate: Any) -> Plan:
    plan = Plan.of(study("sums", gate=gate))
    site.put(plan)
    return plan


def attested(site: Site) -> list[Attestation]:
    rows = site.journal.rows("SELECT envelope FROM outbox WHERE type = 'attestation' ORDER BY id")
    sealed = [unseal(bytes(row["envelope"]), Attestation.TYPE, [site.folder.identity().public]) for row in rows]
    return [Attestation.decode(payload) for payload in sealed]


def labels(site: Site, *codes: str) -> None:
    """Labels of the first patients of the hospital's table."""
    path = site.mapping.parent / "table.csv"
    lines = path.read_text().splitlines()
    for number, code in enumerate(codes, start=1):
        lines[number] = f"{lines[number].rpartition(',')[0]},{code}"
    path.write_text("\n".join(lines) + "\n")


def test_what_is_attested_is_bound_to_plan_and_contract_and_holds_no_exact_count(site: Site) -> None:
    plan = gated(site)
    labels(site, *["never"] * 3, *["Lupus"] * 9)
    site.desk.checked("sums", site.mapping, True, NOW)
    (told,) = attested(site)
    assert (told.plan, told.contract, told.source, told.passed) == (
        plan.digest, plan.study.contract.digest, "csv", False,
    )  # fmt: skip
    whole = int((~tables.mapped(plan.study, site.mapping).table.test).sum())
    assert told.patients == whole // 10 * 10 != whole
    assert all(one.percent is None or one.percent % 5 == 0 for one in told.coverage)
    assert [(one.kind, one.where, one.blocks) for one in told.findings] == [("label-codes", "large", True)]
    text = told.encode().decode()
    assert not any(word in text for word in ("never", "Lupus", "table.csv", "column", "<10"))


def test_how_many_were_left_out_is_told_where_the_policy_says_so_once_for_a_plan_and_in_tens(site: Site) -> None:
    gated(site, advisory=["label-codes"])
    labels(site, *["Lupus"] * 12)
    site.desk.checked("sums", site.mapping, True, NOW)
    policy = site.folder.policy_file
    policy.write_text(policy.read_text().replace("tell_flow: false", "tell_flow: true"))
    site.desk.checked("sums", site.mapping, True, NOW)
    labels(site, *["Lupus"] * 25)
    site.desk.checked("sums", site.mapping, True, NOW)
    before, told, again = (one.flow for one in attested(site))
    assert before is None, "by default nothing of it leaves"
    assert told is not None and (told.read, told.without_label, told.opted_out, told.excluded) == (80, 10, None, 0)
    assert again == told, "two that differ by few patients would show them"
    assert all(count is None or count % 10 == 0 for count in vars(told).values())


def test_a_check_after_the_first_repeats_its_numbers_unless_a_person_tells_them_anew(site: Site) -> None:
    gated(site, advisory=["label-codes"])
    site.approve("sums")
    labels(site, *["Lupus"] * 25)
    for tell in (False, True, False):
        site.desk.checked("sums", None, tell, NOW)
    first, repeated, anew, last = attested(site)
    assert first.patients is not None and not first.findings and repeated.findings, "what is found is of today"
    assert (repeated.patients, repeated.coverage) == (first.patients, first.coverage)
    assert anew.patients is not None and anew.patients < first.patients and anew.coverage != first.coverage
    assert (last.patients, last.coverage) == (anew.patients, anew.coverage)


NOISE: dict[str, Any] = {"epsilon": 3, "delta": 1e-5, "clip_norm": 1.0, "expected_patients": 70, "sampling": 0.5}
NOISE |= {"noise_multiplier": 4.0}  # more than is needed: a search for the least takes its time


@pytest.mark.parametrize("noise", [{"recipe": "plain", "noise": "at_each_hospital"}, {"recipe": "secure_sum"}])
def test_under_an_epsilon_no_number_leaves_with_a_check(site: Site, noise: dict[str, Any]) -> None:
    policy = site.folder.policy_file
    policy.write_text(policy.read_text().replace("tell_flow: false", "tell_flow: true"))
    wanted = pinned(study("sums", gate={}, privacy={**NOISE, **noise}, quorum=4, training={"epochs": 1}))
    site.put(Plan.of(wanted))
    lines = (site.mapping.parent / "table.csv").read_text().splitlines()
    for left in range(12):
        (site.mapping.parent / "table.csv").write_text("\n".join(lines[: len(lines) - left]) + "\n")
        site.desk.checked("sums", site.mapping, True, NOW)
    labels(site, *["Lupus"] * 12)
    site.desk.checked("sums", site.mapping, True, NOW)
    *same, spoilt = attested(site)
    assert len({one.encode() for one in same}) == 1, "patients who are there or not change no byte"
    assert (same[0].patients, same[0].coverage, same[0].flow) == (None, (), None) and same[0].passed
    assert not spoilt.passed and spoilt.patients is None and [one.kind for one in spoilt.findings] == ["label-codes"]


def test_a_check_leaves_only_where_a_person_says_so_or_has_approved(site: Site) -> None:
    gated(site)
    assert site.desk.checked("sums", site.mapping, False, NOW)[1] is False and not attested(site)
    site.approve("sums")
    assert [one.passed for one in attested(site)] == [True], "with the approval"
    order = [row["type"] for row in site.journal.rows("SELECT type FROM outbox ORDER BY id")]
    assert order == ["attestation", "decision"], "the coordinator opens a round upon the second"
    labels(site, *["4"] * 12)
    report, sent = site.desk.checked("sums", None, False, NOW)
    assert sent and not report.usable and [one.passed for one in attested(site)] == [True, False]
    site.desk.revoke("sums", "Vera", "", NOW)
    assert site.desk.checked("sums", None, False, NOW)[1] is False and len(attested(site)) == 2
    assert [(one["passed"], one["sent"]) for one in history(site.journal)] == [
        (True, False), (True, True), (False, True), (False, False),
    ]  # fmt: skip


def test_a_check_of_another_mapping_than_the_one_that_trains_leaves_only_where_a_person_says_so(site: Site) -> None:
    gated(site)
    site.approve("sums")
    draft = site.mapping.with_name("draft.yaml")
    draft.write_text(site.mapping.read_text().replace("1: 1", "8: 1").replace("'1': 1", "'8': 1"))
    report, sent = site.desk.checked("sums", draft, False, NOW)
    assert not report.usable and not sent and [one.passed for one in attested(site)] == [True]
    assert (
        site.desk.checked("sums", site.mapping, False, NOW)[1] and [one.passed for one in attested(site)] == [True] * 2
    )
    assert site.desk.checked("sums", draft, True, NOW)[1] and [one.passed for one in attested(site)] == [
        True,
        True,
        False,
    ]


def test_what_is_checked_when_a_study_is_approved_anew_is_what_it_is_trained_with(site: Site) -> None:
    """The mapping that was named with an approval stays; another one in the usual place is no longer meant."""
    plan = gated(site)
    site.approve("sums")
    site.desk.revoke("sums", "Vera", "", NOW)
    usual = site.folder.mappings / f"{plan.study.contract.id}.yaml"
    usual.write_text("mapping: 1\n")
    site.desk.approve("sums", "Vera", ("plain",), None, None, NOW)
    usual.unlink()
    site.desk.approve("sums", "Vera", ("plain",), None, None, NOW)
    assert site.desk.mapping("sums") == site.mapping.resolve()
    assert [one.passed for one in attested(site)] == [True] * 3


def test_a_coordinator_that_lost_it_is_told_the_newest_check_anew(site: Site) -> None:
    gated(site)
    site.approve("sums")
    site.desk.checked("sums", None, False, NOW + timedelta(days=1))
    lost = Reopened(by="root", at=NOW, seq=1, head=digest(b"a head"), kept=0, runs=())
    for _ in ("todo", "waits"):
        site.asked(site.task(site_plan()))
    with site.journal.write() as tx:
        tx.do("UPDATE tasks SET status = 'waits' WHERE seq = 2")
        Inbox._reopened(cast(Any, SimpleNamespace(_checkpoint=lambda *_: None)), tx, 1, lost, b"", b"", NOW)
    assert [one.at for one in attested(site)] == [NOW, NOW + timedelta(days=1), NOW + timedelta(days=1)]
    status = [row["status"] for row in site.journal.rows("SELECT status FROM tasks")]
    assert status == ["over"] * 2, "also one that waits for its words to be compared: nobody asks for it any more"


def test_data_that_do_not_pass_are_neither_approved_nor_trained_unless_the_study_lets_them(site: Site) -> None:
    plan = gated(site)
    labels(site, *["4"] * 12)
    with pytest.raises(Refused) as caught:
        site.approve("sums")
    assert caught.value.reason == "check-failed" and site.decided() == 0
    with pytest.raises(Refused) as caught:
        tables.prepare(plan.study, site.mapping, site.folder.home)
    assert caught.value.reason == "check-failed" and not (site.folder.home / "table.npz").exists()
    lenient = study("other", gate={"advisory": ["label-codes"]})
    site.put(Plan.of(lenient))
    site.approve("other")
    assert tables.prepare(lenient, site.mapping, site.folder.home).training > 0


def test_a_plan_of_before_is_read_as_it_was_and_is_not_approved_anew(site: Site) -> None:
    """One study of before shares went in steps must not keep lists of all studies from being shown."""
    payload = site_plan().payload.replace(b'"test_fraction":0.3', b'"test_fraction":0.33')
    old = Plan.load(payload)
    assert old.study.evaluation.test_fraction == 0.33 and old.digest == digest(payload)
    site.put(old)
    assert site.desk.offered() == [old.study.name]
    with pytest.raises(StudyInvalid, match=r"evaluation.test_fraction: .* write 0.35"):
        site.approve(old.study.name)
    assert site.decided() == 0


def site_plan() -> Plan:
    return Plan.of(study("sums"))


def changed(name: str = "sums") -> Plan:
    return Plan.of(study(name, training={"epochs": 77}))


def test_an_approval_is_revoked_also_when_another_plan_came_under_its_name(site: Site) -> None:
    plan = Plan.of(study("sums"))
    site.put(plan)
    site.approve("sums")
    site.put(changed())
    task = site.asked(site.task(plan))
    site.veto.permit(task, NOW)
    assert site.desk.standing("sums", NOW).word == "changed" and site.desk.approved(NOW) == ["sums"]
    assert site.desk.revoke("sums", "Vera", "", NOW).plan == plan.digest
    assert site.refused(task) == "revoked"
    assert site.desk.approved(NOW) == []


@pytest.mark.parametrize(
    ("study_ends", "policy_ends", "days", "ends"),
    [
        ("2030-06-10", None, 365, "2030-06-10"), (None, "2030-06-20", 365, "2030-06-20"),
        ("2030-06-10", "2030-06-20", 5, "2030-06-06"), ("2030-06-30", "2030-06-20", 365, "2030-06-20"),
    ],
)  # fmt: skip
def test_an_approval_ends_with_the_study_the_policy_or_its_longest_time_whichever_is_first(
    site: Site, study_ends: str | None, policy_ends: str | None, days: int, ends: str
) -> None:
    told = {"code": "research", "text": "t", "requester": "r", **({"expires": study_ends} if study_ends else {})}
    site.put(Plan.of(study("sums", purpose=told)))
    last = f"expires: {policy_ends}\n" if policy_ends else ""
    site.folder.policy_file.write_text(f"policy: 1\nmax_approval_days: {days}\n{last}")
    said = site.desk.approve("sums", "Vera", ("plain",), None, site.mapping, NOW)
    assert said.expires is not None and said.expires.date().isoformat() == ends


@pytest.mark.parametrize("word", ["revoke", "decline"])
def test_what_waits_to_be_done_or_sent_is_withdrawn_with_the_approval_and_nothing_else_is(
    site: Site, word: str
) -> None:
    mine, other = Plan.of(study("sums")), Plan.of(study("other"))
    for plan in (mine, other):
        site.put(plan)
        site.approve(plan.study.name)
        site.asked(site.task(plan))
        with site.journal.write() as tx:
            tx.do("UPDATE tasks SET status = 'waits' WHERE plan = ?", mine.digest)
            for kind in ("answer", "step", "refusal"):
                tx.send(kind, b"{}", {"study": plan.study.name, "run": f"{plan.study.name}-1", "round": 1}, NOW)
    getattr(site.desk, word)("sums", "Vera", "", NOW)
    rows = site.journal.rows("SELECT run, type FROM outbox WHERE status = 'withdrawn' ORDER BY id")
    assert [tuple(row) for row in rows] == [("sums-1", "answer"), ("sums-1", "step")]
    assert [row["status"] for row in site.journal.rows("SELECT status FROM tasks ORDER BY seq")] == [
        "withdrawn",
        "todo",
    ]


def test_an_approval_is_revoked_or_declined_whatever_has_become_of_the_policy(site: Site) -> None:
    """Who wrote something wrong into the policy, and sees that nothing works, must still be able to say no."""
    site.put(Plan.of(study("sums")))
    site.approve("sums")
    site.folder.policy_file.write_text("policy: 1\nmin_patients: many\n")
    assert "min_patients: 'many'" in showing.status(site.desk, False, NOW)["studies"][0]["policy"]
    assert site.desk.revoke("sums", "Vera", "", NOW).decision == "revoke"
    assert site.desk.decline("sums", "Vera", "", NOW).decision == "decline"


def test_a_name_stands_for_one_plan(site: Site) -> None:
    plan, other = Plan.of(study("sums")), Plan.of(study("other"))
    site.offer(plan, "sums")
    site.offer(changed(), "sums")
    site.offer(other, "sums")
    site.offer(other, "third")
    site.offer(plan, "sums")
    assert [row["plan"] for row in site.journal.rows("SELECT plan FROM studies")] == [plan.digest]
    kinds = [json.loads(entry)["kind"] for entry in site.journal.entries()]
    assert kinds.count("offer") == 2 and kinds.count("unreadable") == 3


def test_what_was_made_for_one_plan_does_not_leave_by_the_approval_of_another(site: Site) -> None:
    mine, other = Plan.of(study("sums")), Plan.of(study("other"))
    for plan in (mine, other):
        site.put(plan)
        site.approve(plan.study.name)
    site.answered(site.asked(site.task(mine)))
    site.desk.revoke("sums", "Vera", "", NOW)
    assert site.refused(site.asked(site.task(other, run="sums-1"))) == "plan-changed"
    site.veto.permit(site.asked(site.task(other)), NOW)


def test_rounds_of_all_runs_count_and_a_retry_is_none(site: Site) -> None:
    policy = site.folder.policy_file
    policy.write_text(policy.read_text().replace("max_rounds: 500", "max_rounds: 3"))
    plan = Plan.of(study("sums", rounds=2))
    site.put(plan)
    site.approve("sums")
    tasks = [site.asked(site.task(plan, number, f"sums-{run}")) for run in (1, 2) for number in (1, 2)]
    for task in tasks[:3]:
        site.veto.permit(task, NOW)
        site.answered(task)
        site.veto.permit(task, NOW)
    assert site.refused(tasks[3]) == "rounds"
    judge = tasks[3].model_copy(update={"round": 3, "kind": "EVALUATE"})
    site.veto.permit(site.asked(judge), NOW)


def test_a_policy_that_became_stricter_says_so_wherever_one_looks(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """`site status` said `allowed` of a study that the agent, and the doctor, refused for want of patients."""
    showing.status_words(showing.status(site.desk, False, NOW))
    assert "No study was offered to this hospital yet" in capsys.readouterr().out
    site.put(Plan.of(study("sums", gate={})))
    site.approve("sums")
    counted = history(site.journal)[-1]["training"]

    def verdict(least: int) -> str:
        site.folder.policy_file.write_text(f"policy: 1\nmin_patients: {least}\n")
        (one,) = showing.status(site.desk, False, NOW)["studies"]
        return str(one["policy"])

    assert verdict(counted) == "allowed"
    assert verdict(counted + 1) == f"fewer than {counted + 1} training patients, at the check of 2030-06-01 12:00 UTC"
    assert verdict(counted) == "allowed"
    site.folder.policy_file.write_text("policy: 1\nmax_approval_days: 30\n")
    later = [showing.status(site.desk, False, NOW + timedelta(days=past))["studies"][0] for past in (29, 30)]
    assert [(one["standing"], one["expires"]) for one in later] == [
        (word, NOW + timedelta(days=30)) for word in ("approved", "expired")
    ]


def test_each_time_something_left_is_told_by_what_became_of_that_time(site: Site) -> None:
    """The same answer is made for a second attempt: that it was withdrawn then does not undo that it left before."""
    blob = {"digest": digest(b"sums"), "size": 4, "path": "sums"}
    with site.journal.write() as tx:
        for status in ("sent", "withdrawn", "waiting"):
            number = tx.send("answer", b"{}", {"study": "sums", "run": "sums-1", "round": 1}, NOW, blob)
            tx.do("UPDATE outbox SET status = ? WHERE id = ?", status, number)
    found = [(one["what"], one["became"]) for one in showing.sent(site.journal)]
    assert found == [
        (what, became) for became in ("sent", "withdrawn", "waiting") for what in ("contribution", "answer")
    ]
    said = CliRunner().invoke(sent, ["--study", "sumz", "--home", str(site.folder.home)]).output
    assert "Nothing was sent for a study sumz. Something was for: sums." in said and "this hospital yet" not in said


def test_the_doctor_says_once_what_is_so_for_several_studies(site: Site) -> None:
    names = ["a", "b", "c"]
    for name in names:
        site.put(Plan.of(study(name, rounds=2 + len(name))))
        site.approve(name)

    def found() -> list[doctor.Found]:
        return list(doctor._data(site.folder, NOW))

    ((level, words, _),) = found()
    assert level == "ok" and words.startswith("a, b, c: 80 rows read")
    site.put(Plan.of(study("d", min_patients=70)))
    site.folder.policy_file.write_text("policy: 1\nmin_patients: 60\n")
    assert [(one[0], one[1].partition(":")[0], one[2]) for one in found()] == [
        ("problem", "a, b, c", "`consilium site check a` says why")
    ]
    next(site.mapping.parent.glob("*.csv")).unlink()
    ((level, words, remedy),) = found()
    assert level == "problem" and words.startswith("a, b, c: ") and remedy


@pytest.mark.parametrize("title", ["[/red]", "[link=https://evil.example]click", "[bold", "two\nlines", "\x1b[2J"])
def test_a_title_is_shown_as_it_is(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    showing.table([{"title": title}], ("title",))
    shown = capsys.readouterr().out
    assert "".join(letter if letter.isprintable() else " " for letter in title) in shown and "\x1b" not in shown


def test_what_stands_in_the_hospitals_files_does_not_leave_with_a_refusal(site: Site) -> None:
    plan = Plan.of(study("sums"))
    site.put(plan)
    site.approve("sums")
    task = site.asked(site.task(plan))
    for path, load in ((site.mapping, lambda: tables.mapped(plan.study, site.mapping)), (
        site.folder.policy_file, lambda: site.veto.permit(task, NOW)
    )):  # fmt: skip
        path.write_text(path.read_text() + "\npassword: hunter2\n")
        with pytest.raises(Invalid) as caught:
            load()
        assert "hunter2" in caught.value.message, "people at the hospital see what they wrote"
        site.veto.refuse(task, 1, reason_of(caught.value), caught.value.message, NOW)
    sent = [row["envelope"] for row in site.journal.rows("SELECT envelope FROM outbox WHERE type = 'refusal'")]
    assert len(sent) == 2
    for envelope in sent:
        told = Refusal.decode(Envelope.parse(envelope).payload)
        assert "hunter2" not in told.text and "there" in told.text


def training(site: Site, plan: Plan) -> int:
    """How many training patients the hospital has."""
    return int((~tables.mapped(plan.study, site.mapping).table.test).sum())


@pytest.mark.parametrize("whose", ["the hospital's policy asks", "the study asks"])
def test_what_could_never_train_is_not_approved_and_the_number_of_patients_is_not_said(site: Site, whose: str) -> None:
    have = training(site, Plan.of(study("sums")))
    policy = site.folder.policy_file

    def offered(wanted: int) -> str:
        """A study, and a policy, of which one asks for so many patients; the study's name."""
        ours = wanted if "policy" in whose else 1
        policy.write_text(f"policy: 1\nmin_patients: {ours}\n")
        plan = Plan.of(study(f"sums-{wanted}", min_patients=1 if "policy" in whose else wanted))
        site.put(plan)
        return plan.study.name

    before, name = site.decided(), offered(have + 1)
    with pytest.raises(Refused) as caught:
        site.approve(name)
    assert (caught.value.reason, site.decided()) == ("too-few-patients", before), "nothing was signed"
    assert f"fewer than {have + 1} patients for training; {whose} for so many" in caught.value.message
    assert f"consilium site check {name}" in caught.value.remedy and str(have) not in str(caught.value).split()
    site.approve(offered(have))
    assert site.decided() > before


def test_what_cannot_be_read_is_not_approved_either(site: Site) -> None:
    site.put(Plan.of(study("sums")))
    (site.mapping.parent / "table.csv").unlink()
    before = site.decided()
    with pytest.raises(DataUnusable):
        site.approve("sums")
    assert site.decided() == before
    site.desk.decline("sums", "Vera", "no table", NOW)


@pytest.mark.parametrize("modes", [("plane",), ("plain", "secret"), ("secret", "plane")])
def test_a_mode_that_there_is_not_is_told_apart_from_one_that_is_needed(site: Site, modes: tuple[str, ...]) -> None:
    site.put(Plan.of(study("sums")))
    before = site.decided()
    with pytest.raises(Invalid, match="there is no mode") as caught:
        site.approve("sums", *modes)
    strange = [mode for mode in modes if mode != "plain"]
    assert all(repr(mode) in caught.value.message for mode in strange) and "'plain'" not in caught.value.message
    assert (
        caught.value.remedy == "--accept takes plain, given-model, small-groups, hospital-numbers, small-cells"
        and site.decided() == before
    )


def waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch, *said: Exception | None, about_us: Exception | None = None
) -> tuple[Outbox, list[str]]:
    """An outbox with a large answer to a round, whose envelope the coordinator answers so; and what it was sent."""
    plan = Plan.of(study("sums"))
    site.offer(plan, "sums")
    site.approve("sums")
    task = site.asked(site.task(plan))
    about = {"study": "sums", "run": task.run, "round": task.round}
    with site.journal.write() as tx:
        tx.do("UPDATE outbox SET status = 'sent'")
        tx.send("answer", b"{}", about, NOW, {"digest": digest(b"an update"), "size": 9, "path": "update"})
    answers, sent = iter(said), list[str]()

    class Line:
        def post(self, path: str, raw: bytes) -> None:
            sent.append(path)
            if (error := next(answers, None)) is not None:
                raise error

        def get(self, path: str) -> None:
            if about_us is not None:
                raise about_us

    monkeypatch.setattr("consilium.site.outbox.upload", lambda *_: sent.append("upload"))
    return Outbox(site.journal, cast(Any, Line()), site.veto, Event(), Outgoing()), sent


def settled(site: Site, outbox: Outbox) -> tuple[str, list[str]]:
    """What became of the answer once it was sent, and the reasons of refusals that the study's owner hears."""
    answer = outbox._taken()
    assert answer is not None
    outbox._send(answer)
    rows = site.journal.rows("SELECT envelope FROM outbox WHERE type = 'refusal'")
    told = [Refusal.decode(Envelope.parse(bytes(row["envelope"])).payload).reason for row in rows]
    after = site.journal.row("SELECT status FROM outbox WHERE type = 'answer'")
    assert after is not None
    return after["status"], told


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (OverQuota("north has 9 bytes", "wait"), ["quota"]),
        (NotFound("it was not sent by this site", "send it"), ["not-found"]),
        (Conflict("trained at another state", "take the task again"), ["conflict"]),
        (Invalid("a value is not finite", ""), ["invalid"]),
        (OutOfPhase("round 1 is over", ""), []),
        (UnknownSite("north was not asked", ""), []),
        (Equivocation("it answered before", ""), []),
    ],
)
def test_an_answer_that_is_not_taken_is_refused_with_its_reason_where_a_round_waits_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: ConsiliumError, reasons: list[str]
) -> None:
    """The study's owner hears why there will be no answer; it is not sent again."""
    outbox, _ = waiting(site, monkeypatch, error, error)
    assert settled(site, outbox) == ("refused", reasons)
    kinds = [json.loads(entry)["kind"] for entry in site.journal.entries()]
    assert kinds.count("not-taken") == 1 and kinds.count("refusal") == len(reasons)


@pytest.mark.parametrize("word", ["withdrawn", "late"])
@pytest.mark.parametrize("small", [False, True])
def test_what_arrived_while_somebody_withdrew_it_is_said_to_be_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch, word: str, small: bool
) -> None:
    """`withdrawn` says that it never left, or was cut: not of what the coordinator acknowledged."""
    outbox, _ = waiting(site, monkeypatch)
    if small:
        with site.journal.write() as tx:
            tx.do("INSERT INTO small VALUES ('update', ?)", b"an update")

    def post(*_: object, **__: object) -> None:
        with site.journal.write() as tx:
            tx.do("UPDATE outbox SET status = ? WHERE type = 'answer'", word)
        outbox.recheck()

    monkeypatch.setattr(outbox.connection, "post", post, raising=False)
    assert settled(site, outbox) == ("sent", [])


def test_what_was_dropped_before_its_answer_came_is_uploaded_once_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, sent = waiting(site, monkeypatch, NotFound("it was not sent by this site", "send it"))
    assert settled(site, outbox) == ("sent", [])
    assert sent == ["upload", "/v1/envelopes"] * 2


OTHER = ProtocolMismatch("one side speaks protocol 2 and the other side speaks 1", "update the side that speaks 1")


def test_what_waits_while_the_releases_do_not_match_waits_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator is updated before the hospital: an approval, too, would be lost, and stand here as given."""
    outbox, _ = waiting(site, monkeypatch, OTHER, None, about_us=OTHER)
    with pytest.raises(ProtocolMismatch):
        settled(site, outbox)
    kinds = [json.loads(entry)["kind"] for entry in site.journal.entries()]
    assert "not-taken" not in kinds and "refusal" not in kinds
    assert settled(site, outbox) == ("sent", [])


def test_what_an_earlier_release_sealed_holds_nothing_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, _ = waiting(site, monkeypatch, OTHER)
    assert settled(site, outbox) == ("refused", ["protocol-mismatch"])


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_now_is_sent_later_and_nothing_waits_for_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    outbox, _ = waiting(site, monkeypatch)
    with site.journal.write() as tx:
        tx.send("decision", b"{}", {"study": "sums"}, NOW)
    errors, left = iter([OSError(code, "no")] * 2), list[str]()

    def upload(*_: object) -> None:
        if (one := next(errors, None)) is not None:
            raise one

    def idle() -> None:
        left.append("idle")
        if "waiting" not in (row["status"] for row in site.journal.rows("SELECT status FROM outbox")):
            outbox.stop.set()
            outbox.wake.set()

    monkeypatch.setattr("consilium.site.outbox.upload", upload)
    monkeypatch.setattr("consilium.site.outbox.AGAIN_S", 0.05)
    monkeypatch.setattr(outbox.connection, "post", lambda path, raw: left.append(path), raising=False)
    outbox.idle = idle
    outbox.run()
    assert left == ["/v1/envelopes", "idle", "idle", "/v1/envelopes", "idle"], "a person's word went first"
    assert len([1 for record in caplog.records if "cannot be read: no" in record.message]) == 1, "it is said once"


def test_a_file_that_is_gone_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox, _ = waiting(site, monkeypatch)

    def upload(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file")

    monkeypatch.setattr("consilium.site.outbox.upload", upload)
    assert settled(site, outbox) == ("refused", ["not-found"])


def test_a_refusal_whose_cause_is_gone_says_that_an_approval_lets_the_run_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan.of(study("r6"))
    site.offer(plan, "r6")
    site.approve("r6")
    asked = site.asked(site.task(plan))
    way = "once the cause is gone, `consilium site approve r6` here lets the run go on"

    def told() -> tuple[str, list[tuple[str, str, str]]]:
        showing.status_words(showing.status(site.desk, True, NOW))
        return capsys.readouterr().out, list(doctor._refused(site.folder, NOW))

    none = [("ok", "no run waits because of what was refused here", "")]
    assert "refused" not in told()[0] and told()[1] == none
    site.veto.refuse(asked, 1, "disk", "there is no room", NOW)
    words = "round 1 of r6-1 was refused here (disk)"
    assert caplog.messages[-1].endswith(f"there is no room; {way}")
    shown, found = told()
    assert f"{words}\nNext: {way}" in shown
    assert found == [("warning", words, way)]
    site.approve("r6")
    assert words not in told()[0] and told()[1] == none, "it was taken back"
    site.veto.refuse(site.asked(asked), 2, "difference", "of others", NOW)
    assert told()[1] == [("ok", words.replace("disk", "difference"), "")], "approving changes nothing of that"
    with site.journal.write() as tx:
        tx.keep("run/r6-1", "removed")
    assert told()[1] == none, "the run is over"


def test_a_plan_that_was_changed_in_the_journal_is_found_never_approved_and_fetched_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan.of(study("r4"))
    site.offer(plan, "r4")
    site.approve("r4")
    assert plans.changed(site.journal) == []
    with site.journal.write() as tx:
        tx.do("UPDATE studies SET payload = ?", plan.payload.replace(b'"rounds":', b'"rounds":1'))
    decided = site.decided()
    for act in (lambda: site.approve("r4"), lambda: site.desk.plan("r4")):
        with pytest.raises(Refused, match="not the one that was offered") as caught:
            act()
        assert "consilium site run" in caught.value.remedy
    assert site.decided() == decided, "nothing was signed"
    ((level, words, remedy), *_) = doctor._journal(site.folder, NOW)
    assert (level, remedy) == ("problem", plans.WAY) and "the plan of r4" in words
    assert site.refused(site.task(plan)) == "plan-changed"
    showing.status_words(showing.status(site.desk, True, NOW))
    assert "altered" in capsys.readouterr().out
    assert site.desk.approved(NOW) == ["r4"], "it can be revoked all the same"

    def away(*_: object) -> bytes:
        raise Unavailable("the coordinator does not answer", "wait")

    for fetch in (away, lambda _, name: {plan.digest: plan.payload}[name]):
        monkeypatch.setattr(plans, "fetch", fetch)
        plans.mend(site.journal, cast(Any, None), NOW)
    assert site.desk.plan("r4") == plan and site.desk.standing("r4", NOW).word == "approved"
    assert json.loads(site.journal.entries()[-1])["kind"] == "plan-restored"
    with site.journal.write() as tx:
        tx.do("UPDATE studies SET payload = x'00'")
    assert site.desk.revoke("r4", "Vera", "", NOW).plan == plan.digest


def test_what_is_not_taken_is_named_by_its_study_where_it_is_of_no_run(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.put(Plan.of(study("r6")))
    site.approve("r6")
    outbox = Outbox(site.journal, cast(Any, None), site.veto, Event(), Outgoing())
    row = outbox._taken()
    assert row is not None
    outbox._not_taken(row, NotFound("study r6 has no such plan", "review the study again"))
    assert caplog.messages[-1].startswith("decision of r6 was not taken: study r6 has no such plan; review")
