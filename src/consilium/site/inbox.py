"""What the coordinator says: checked, written to the journal in one transaction with its number, then acted upon."""

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event
from typing import Any

from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, DigestMismatch, Invalid, NotFound, TooLarge, Unavailable
from consilium.core.ids import Digest, digest
from consilium.core.study import Plan
from consilium.governance.audit import Head
from consilium.site import declarations, ledger, leftout, memories
from consilium.site.journal import OPEN, REOPENED, Journal, Writing
from consilium.site.outbox import Outbox
from consilium.site.states import States
from consilium.site.steps import Steps
from consilium.site.witness import Witness, checkpoint, raise_alarm, start_anew
from consilium.wire.connection import Connection
from consilium.wire.envelope import Envelope
from consilium.wire.identity import Identity
from consilium.wire.messages import INBOX_MESSAGES, Checkpoint, Closed, Ended, Offer, Reopened, Signed, Task
from consilium.wire.requests import Inbox as Page
from consilium.wire.transfer import fetch

log = logging.getLogger(__name__)
TRIES = 3
TIDY_EVERY = 8
"""Rounds of a small model after which what they left is removed."""
CHECKPOINT_EVERY = 10
"""Rounds between two checkpoints of the audit log; one more goes at the end of a run."""


@dataclass
class Inbox:
    """Takes messages in the order in which the coordinator numbered them.

    `asked`: the newest is a task, and nobody has used that yet.
    """

    site: str
    coordinator_key: str
    identity: Identity
    journal: Journal
    connection: Connection
    states: States
    steps: Steps
    work: Event
    outbox: Outbox
    witness: Witness
    asked: bool = False
    _altered: dict[str, Any] | None = None
    _over: list[tuple[str, int]] = field(default_factory=list)

    def read(self, answer: bytes, after: int) -> list[tuple[int, dict[str, Any]]]:
        """The messages in an answer of the coordinator: those that follow `after`, without a gap.

        Raises: Unavailable: it is not such an answer, or the coordinator does not know `after` any more.
        """
        try:
            page = Page.model_validate_json(answer)
        except ValidationError as error:
            raise Unavailable("what came is not an inbox", "check the proxy") from error
        items = page.items
        if page.newest is not None and page.newest < after:
            told = f"it took message {after} of the coordinator, which knows of {page.newest} only"
            self._lost("inbox-went-back", told, after)
        if [item.seq for item in items] != list(range(after + 1, after + 1 + len(items))):
            raise Unavailable("messages are missing", "something between here and the coordinator holds them back")
        self.states.offer(page.blobs)
        self.steps.offer(page.said, page.opening)
        return [(item.seq, item.envelope) for item in items]

    def take(self, seq: int, envelope: dict[str, Any], now: datetime) -> None:
        """Take one message.

        What the coordinator signed but cannot be read is recorded and passed over, and never stops the agent. What it
        did not sign, or not for this place, is recorded and not believed: the true message may still come.

        Raises: Unavailable: not signed for this place; and what keeps from fetching a plan.
        """
        signed = self._signed(seq, envelope, now)
        try:
            kind = INBOX_MESSAGES[signed.kind]
            message = kind.decode(signed.payload)
        except (ConsiliumError, KeyError) as error:
            log.error("message %s of the coordinator is not understood: %s", seq, error)
            with self.journal.write() as tx:
                tx.record("unreadable", {"seq": seq, "why": getattr(error, "code", "unknown-type")}, now)
                _keep(tx, seq, signed.payload)
            return
        takes: dict[type[Signed], Callable[..., None]] = {
            Offer: self._offer, Task: self._task, Closed: self._closed, Ended: self._ended, Checkpoint: self._mark,
            Reopened: self._reopened,
        }  # fmt: skip
        payload = self._plan(message) if isinstance(message, Offer) else signed.payload
        data = json.dumps(envelope).encode() if isinstance(message, Checkpoint) else b""
        # Tasks and closings are asked for again after a power cut, for the number of the last one is lost with them.
        again = isinstance(message, Task | Closed) and not _marks(message)
        with self.journal.write(durable=not again) as tx:
            takes[kind](tx, seq, message, data, payload, now)
            _keep(tx, seq, signed.payload)
        self._after(message)

    def _signed(self, seq: int, envelope: dict[str, Any], now: datetime) -> Envelope:
        """The envelope. (1) the coordinator's pinned key signed it   (2) for this site   (3) under this number   (4) it
        follows the message that was taken last: only one that opens the inbox again need not name that.
        """
        why, signed = "not-signed", None
        try:
            signed = Envelope.of(envelope)
            place = json.loads(signed.verified(signed.kind, [self.coordinator_key]))
            why = "" if (place.get("to"), place.get("number")) == (self.site, seq) else "out-of-place"
        except (ConsiliumError, ValueError, AttributeError, RecursionError) as error:
            log.debug("message %s: %s", seq, error)
        if signed is not None and not why:
            last = self.journal.meta("inbox/last") or None
            if (last or seq == 1) and place.get("before") != last and signed.kind != Reopened.TYPE:
                told = f"message {seq} of the coordinator follows upon another one than the one that it took"
                self._lost("inbox-rewritten", told, seq - 1)
            return signed
        words = "is not signed by the coordinator" if why == "not-signed" else "is another message, or was for another"
        log.error("what came as message %s %s: something in between altered it; it is not believed", seq, words)
        body = {"seq": seq, "why": why}
        if self._altered != body:
            self._altered = body
            with self.journal.write() as tx:
                tx.record("altered", body, now)
        raise Unavailable(f"message {seq} {words}", "something between here and the coordinator alters what it says")

    def _lost(self, why: str, told: str, after: int) -> None:
        """Tell people, at both ends, that the coordinator has lost what it said here before. Raises: Unavailable."""
        text = (
            f"{self.site} takes no messages: {told}. Either the coordinator was restored from an older copy, and its "
            "administrator says so with `consilium sites reopen`; or its history was changed"
        )
        with self.journal.write() as tx:
            raise_alarm(tx, self.identity, why, text, datetime.now(UTC), after, self.journal.meta("inbox/last"))
        self.outbox.wake.set()
        raise Unavailable(told, "ask the coordinator's admin whether it was restored from an older copy")

    def _plan(self, offer: Offer) -> bytes:
        """The plan of an offer; nothing where there is none that can be used.

        Raises: Unavailable and others that say nothing of the plan: the offer waits, and is taken the next time.
        """
        for _ in range(TRIES):
            try:
                payload = fetch(self.connection, Digest(offer.plan.digest))
                Plan.load(payload)
                return payload
            except DigestMismatch:  # altered on the way, perhaps just this once
                continue
            except (Invalid, NotFound, TooLarge) as error:
                log.error("the plan of %s cannot be used: %s", offer.study, error)
                return b""
        log.error("the plan of %s came altered %s times; it is passed over", offer.study, TRIES)
        return b""

    def _after(self, message: Signed) -> None:
        self.asked = isinstance(message, Task)
        match message:
            case Task():
                if message.closing is not None:
                    self._is_over(message.run, message.round - 1)
                self.work.set()
            case Closed():
                self._is_over(message.run, message.round)
            case Ended():
                self.outbox.late(message.run, 1 << 30)
                self.work.set()
                self.outbox.wake.set()
            case Reopened():
                self.work.set()
                self.outbox.wake.set()
            case Checkpoint():
                self.witness.wake.set()

    def _is_over(self, run: str, number: int) -> None:
        self.outbox.late(run, number)
        self._over.append((run, number))

    def tidy(self) -> None:
        """Remove what rounds that are over have left; the task that came with their end does not wait for it."""
        with contextlib.suppress(IndexError):  # whoever else tidies took the last one
            while self._over:
                run, number = self._over.pop()
                if number % TIDY_EVERY == 0 or not self.states.may_stay(run):
                    self.states.forget(run, number)

    def _offer(self, tx: Writing, seq: int, offer: Offer, data: bytes, payload: bytes, now: datetime) -> None:
        if not payload:
            tx.record("unreadable", {"seq": seq, "why": "plan", "study": offer.study, "plan": offer.plan.digest}, now)
            return
        known = tx.row("SELECT plan FROM studies WHERE study = ? LIMIT 1", offer.study)
        if Plan.load(payload).study.name != offer.study or (known is not None and known["plan"] != offer.plan.digest):
            # A name stands for one plan: what a person reviewed must be what the same name approves and revokes.
            log.error("what is offered as %s is another plan than its name says; it is not taken", offer.study)
            tx.record("unreadable", {"seq": seq, "why": "name", "study": offer.study, "plan": offer.plan.digest}, now)
            return
        tx.do(
            "INSERT OR IGNORE INTO studies (study, plan, payload, title, at, model, code) VALUES (?, ?, ?, ?, ?, ?, ?)",
            offer.study, offer.plan.digest, payload, offer.title, now.isoformat(), offer.model, offer.code,
        )  # fmt: skip
        tx.record("offer", {"study": offer.study, "plan": offer.plan.digest}, now)
        log.info("study %s is offered; look at it with `consilium site review %s`", offer.study, offer.study)

    def _task(self, tx: Writing, seq: int, task: Task, data: bytes, payload: bytes, now: datetime) -> None:
        if (closed := task.closed()) is not None:
            self._closed(tx, seq, closed, data, payload, now)
        leftout.asked_again(tx, task)
        tx.do(f"UPDATE tasks SET status = 'over' WHERE run = ? AND status IN {OPEN}", task.run)  # noqa: S608
        tx.do(
            "INSERT OR IGNORE INTO tasks (seq, plan, run, round, kind, payload, status)"
            " VALUES (?, ?, ?, ?, ?, ?, 'todo')",
            seq, task.plan, task.run, task.round, task.kind, payload,
        )  # fmt: skip

    def _closed(self, tx: Writing, seq: int, closed: Closed, data: bytes, payload: bytes, now: datetime) -> None:
        leftout.keep(tx, closed, self.site, now)
        tx.do(
            f"UPDATE tasks SET status = 'over' WHERE run = ? AND round <= ? AND status IN {OPEN}",  # noqa: S608
            closed.run,
            closed.round,
        )
        aggregate = closed.aggregate.digest if closed.aggregate else None
        row = (closed.run, closed.round, aggregate, closed.state.digest)
        tx.do("INSERT OR REPLACE INTO closings VALUES (?, ?, ?, ?)", *row)
        of, counted = (tx, closed.run, closed.round), self.site in closed.took_part
        if memories.closed(*of, counted=counted) and counted and ledger.unsent(*of):
            memories.closed(*of, counted=False)  # later rounds would tell of it, and its charge is given back
        if counted:  # it arrived, though whether the coordinator's word of it did is not known
            tx.do(
                "UPDATE outbox SET status = 'sent' WHERE status = 'waiting' AND run = ? AND round = ?"
                " AND type IN ('answer', 'step')",
                closed.run, closed.round,
            )  # fmt: skip
        body = {"study": closed.study, "run": closed.run, "round": closed.round, "took_part": list(closed.took_part)}
        tx.record("round-closed", {**body, "state": closed.state.digest}, now)
        if _marks(closed):
            self._checkpoint(tx, closed.study, closed.run, now)

    def _ended(self, tx: Writing, seq: int, ended: Ended, data: bytes, payload: bytes, now: datetime) -> None:
        tx.do(f"UPDATE tasks SET status = 'over' WHERE run = ? AND status IN {OPEN}", ended.run)  # noqa: S608
        body = {"study": ended.study, "run": ended.run, "status": ended.status, "reason": ended.reason}
        tx.record("run-ended", {**body, "state": ended.state.digest if ended.state else None}, now)
        ledger.close(tx, ended.run, now)
        declarations.ended(tx, ended)
        self._checkpoint(tx, ended.study, ended.run, now)
        tx.do("INSERT OR REPLACE INTO meta VALUES (?, 'ended')", f"run/{ended.run}")
        log.info("run %s %s", ended.run, ended.status)

    def _mark(self, tx: Writing, seq: int, mark: Checkpoint, data: bytes, payload: bytes, now: datetime) -> None:
        tx.do("INSERT OR IGNORE INTO marks (seq, head, envelope) VALUES (?, ?, ?)", mark.seq, mark.head, data)

    def _reopened(self, tx: Writing, seq: int, told: Reopened, data: bytes, payload: bytes, now: datetime) -> None:
        """Go on after a loss at the coordinator: tell it anew what people here decided, and follow its log anew."""
        log.warning("%s says that the coordinator was restored from an older copy; it goes on from there", told.by)
        tx.record("reopened", {"by": told.by, "seq": told.seq, "head": told.head, "runs": list(told.runs)}, now)
        note = f"{told.by} said at the coordinator that it was restored from an older copy"
        tx.do("UPDATE alarms SET note = ? WHERE settled IS NULL AND why LIKE 'inbox-%'", note)
        start_anew(tx, Head(told.seq, Digest(told.head)))
        tx.do(f"UPDATE tasks SET status = 'over' WHERE status IN {OPEN}")  # noqa: S608
        for row in tx.rows("SELECT DISTINCT run FROM tasks"):
            if row["run"] not in told.runs:
                tx.do("INSERT OR IGNORE INTO meta VALUES (?, 'ended')", f"run/{row['run']}")
                ledger.close(tx, row["run"], now)
        for run in told.runs:  # the end of some may be what was lost
            tx.do("UPDATE meta SET value = ? WHERE key = ?", REOPENED, f"run/{run}")
        newest = "SELECT study, envelope FROM decisions WHERE id IN (SELECT max(id) FROM decisions GROUP BY study)"
        for row in tx.rows(newest):
            tx.send("decision", bytes(row["envelope"]), {"study": row["study"]}, now)
        attested = "SELECT max(id) FROM checks WHERE envelope IS NOT NULL GROUP BY study"
        for row in tx.rows(f"SELECT study, envelope FROM checks WHERE id IN ({attested})"):  # noqa: S608
            tx.send("attestation", bytes(row["envelope"]), {"study": row["study"]}, now)
        declarations.again(tx, now)
        self._checkpoint(tx, None, None, now, told.kept)

    def _checkpoint(
        self, tx: Writing, study: str | None, run: str | None, now: datetime, since: int | None = None
    ) -> None:
        checkpoint(tx, self.site, self.identity, {"study": study, "run": run}, now, since)


def _marks(told: Task | Closed) -> bool:
    """Whether this closes a round at whose end a checkpoint of the audit log goes."""
    number = told.round if isinstance(told, Closed) else told.round - 1 if told.closing is not None else 0
    return number > 0 and number % CHECKPOINT_EVERY == 0


def _keep(tx: Writing, seq: int, payload: bytes) -> None:
    """How far we have come: the number of the last message, and what it was."""
    put = (
        "INSERT INTO meta VALUES ('inbox', ?), ('inbox/last', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    tx.do(put, str(seq), digest(payload))
