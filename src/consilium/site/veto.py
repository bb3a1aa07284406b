"""The guard with what it needs, read anew each time; and the refusal, which reaches the study's owner by its reason."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from sqlite3 import Row
from threading import Event

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.refusing import goes_on
from consilium.core.study import Plan
from consilium.site.declarations import spent
from consilium.site.folder import Folder
from consilium.site.guard import Guard, Permit
from consilium.site.journal import MADE, Journal
from consilium.site.ledger import Ledger
from consilium.wire.envelope import payload_of, seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Figures, Refusal, Task

log = logging.getLogger(__name__)


_STUDY = (
    "SELECT payload, (SELECT plan FROM tasks WHERE run = ? ORDER BY seq LIMIT 1) AS first FROM studies WHERE plan = ?"
)
"""The plan, and that of a run's first task."""
OURS = {
    "mapping-invalid": "the hospital's mapping cannot be used as it stands; `consilium site check` says why, there",
    "view-invalid": "the hospital's view of its resources cannot be used as it stands; `consilium site check` says why",
    "policy-invalid": "the hospital's policy cannot be read as it stands; `consilium site doctor` says why, there",
    "data-unusable": "the hospital's data cannot be used as they stand; `consilium site check` says why, there",
    "check-failed": "the hospital's data do not pass the study's check; `consilium site check` says why, there",
    "budget": "the hospital's privacy budget has no room for this study; `consilium site budget` says why, there",
    "ledger": "the hospital's privacy ledger was restored from an older copy; a person there says what was spent",
}
"""What leaves instead of messages that quote the hospital's own files: paths, columns, passwords of databases; and in
place of what other studies have spent.
"""


def reason_of(error: ConsiliumError) -> str:
    """The stable code by which the study's owner hears of it."""
    return error.reason if isinstance(error, Refused) else error.code


@dataclass
class Veto:
    """Policy from its file, plan and decisions from the journal. `outgoing` wakes what sends."""

    site: str
    identity: Identity
    folder: Folder
    journal: Journal
    outgoing: Event
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        """With the ledger of this journal."""
        self.ledger = Ledger(self.folder, self.journal)

    def permit(self, task: Task, now: datetime) -> tuple[Permit, Plan]:
        """The permit for a task. Raises: Refused, PolicyInvalid."""
        study = self.journal.row(_STUDY, task.run, task.plan)
        if study is None:
            raise Refused(
                "this plan was never offered to this hospital", "submit the study anew", reason="not-approved"
            )
        payload = bytes(study["payload"])
        said = self.journal.rows("SELECT envelope FROM decisions WHERE study = ? ORDER BY id", task.study)
        policy = self.folder.policy()
        guard = Guard(self.site, self.identity.public, policy)
        permit = guard.check(task, payload, [bytes(row["envelope"]) for row in said], now)
        self._run(task, study["first"], policy.max_rounds)
        plan = Plan.load(payload)
        self.ledger.allow(task, plan)
        return permit, plan

    def _run(self, task: Task, first: str | None, most: int) -> None:
        """Whether the run is of the task's plan, and what all its runs trained here leaves room for this round.

        The coordinator names runs. What was made in one, for its plan, must not leave by the approval of another; and
        rounds that begin at 1 again in each new run are rounds all the same.

        Args:    first: the plan of the run's first task.   most: rounds that the policy allows.
        """
        if first not in (None, task.plan):
            raise Refused(f"{task.run} is a run of another plan", "ask the study's owner", reason="plan-changed")
        if task.kind != "TRAIN":
            return
        before = self.journal.row(
            "SELECT count(*) AS n FROM answers WHERE kind = 'TRAIN' AND NOT (run = ? AND round = ?)"
            " AND run IN (SELECT run FROM tasks WHERE plan = ?)",
            task.run, task.round, task.plan,
        )  # fmt: skip
        if before is not None and before["n"] >= most:
            raise Refused(
                f"the runs of this study have had the {most} rounds of training that the hospital allows",
                "ask the hospital for more, or submit a new study",
                reason="rounds",
            )

    def stands(self, run: str, number: int, now: datetime) -> bool:
        """Whether what was made for a round may still leave; if not, it is refused here."""
        found = self._asked(run, number)
        if found is None:
            return False
        try:
            self.permit(found[1], now)
        except ConsiliumError as error:
            self.cannot(run, number, error, now)
            return False
        return True

    def tells(self, sent: Row, now: datetime) -> bool:
        """Whether what the outbox holds of this hospital alone may still leave: a word may; numbers, if they may today.

        (1) it is the message that the journal holds of its run   (2) policy and approval still let it leave. Whatever
        cannot be read lets nothing leave. It is withdrawn then, and nothing is said in its place.
        """
        run, why = str(sent["run"]), ""
        try:
            word = Figures.decode(payload_of(bytes(sent["envelope"]), Figures.TYPE)).word
            row = self.journal.row("SELECT round, envelope FROM declarations WHERE run = ?", run)
            if row is None or row["envelope"] is None or bytes(row["envelope"]) != bytes(sent["envelope"]):
                why = "replayed"
            elif word == "told":
                why = self._keeps(run, row["round"], now)
        except ConsiliumError as error:
            why = reason_of(error)
        if why:
            with self.journal.write() as tx:
                tx.do("UPDATE outbox SET status = 'withdrawn', note = ? WHERE id = ?", why, sent["id"])
                tx.record("withdrawn", {"what": "figures", "run": run, "why": why}, now)
        return not why

    def _keeps(self, run: str, number: int, now: datetime) -> str:
        """Why figures of a run must not leave today; empty where they may. Raises: as `permit`."""
        found = self._asked(run, number)
        if found is None or len(spent(self.journal)) > self.folder.policy().release_figures:
            return "policy"
        self.permit(found[1], now)
        return ""

    def cannot(self, run: str, number: int, error: ConsiliumError, now: datetime) -> None:
        """Refuse the newest task of a round, whose answer will not leave because of `error`."""
        found = self._asked(run, number)
        if found is not None:
            self.refuse(found[1], found[0], reason_of(error), error.message, now)

    def _asked(self, run: str, number: int) -> tuple[int, Task] | None:
        newest = "SELECT seq, payload FROM tasks WHERE run = ? AND round = ? ORDER BY seq DESC LIMIT 1"
        row = self.journal.row(newest, run, number)
        return None if row is None else (row["seq"], Task.decode(bytes(row["payload"])))

    def refuse(self, task: Task, seq: int, reason: str, text: str, now: datetime) -> None:
        """Record a refusal and send it; nothing that was made for this task leaves any more."""
        way = goes_on(task.study, [reason]).replace("at that hospital", "here")
        log.warning("round %s of %s is refused (%s): %s%s", task.round, task.run, reason, text, way and f"; {way}")
        refusal = Refusal(
            study=task.study, plan=task.plan, run=task.run, round=task.round, attempt=task.attempt, reason=reason,
            text=OURS.get(reason, text)[:4000],
        )  # fmt: skip
        envelope = seal(Refusal.TYPE, refusal.encode(), self.identity)
        about = {"study": task.study, "run": task.run, "round": task.round}
        with self.journal.write() as tx:
            tx.record("refusal", {**about, "reason": reason}, now)
            tx.send("refusal", envelope, about, now)
            tx.do("UPDATE tasks SET status = 'refused', note = ? WHERE seq = ?", reason, seq)
            these = f"status = 'waiting' AND type IN {MADE} AND run = ? AND round = ?"
            withdrawn = f"UPDATE outbox SET status = 'withdrawn', note = ? WHERE {these}"  # noqa: S608
            tx.do(withdrawn, reason, task.run, task.round)
        self.outgoing.set()
