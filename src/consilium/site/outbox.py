"""What leaves the site: bulk first, then the signed message; in the order of the journal, until it is acknowledged."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Row
from threading import Event

from consilium.core.errors import (
    ConsiliumError,
    Equivocation,
    NotFound,
    OutOfPhase,
    ProtocolMismatch,
    Unauthenticated,
    Unavailable,
    UnknownSite,
)
from consilium.core.ids import Digest, digest
from consilium.site.journal import MADE, Journal
from consilium.site.veto import Veto
from consilium.wire.connection import Connection, retrying
from consilium.wire.transfer import deliver, upload

log = logging.getLogger(__name__)
NOBODY_WAITS = (OutOfPhase, UnknownSite, Equivocation)
"""What the coordinator says of an answer for which no round waits: it is over, was asked of others, or has one."""


@dataclass
class Outbox:
    """Sends what the journal holds; `wake` says that there is more."""

    journal: Journal
    connection: Connection
    veto: Veto
    stop: Event
    wake: Event
    idle: Callable[[], None] = lambda: None
    _sending: tuple[str, int, Event, int] | None = None
    _told: str = ""

    def run(self) -> None:
        """Send until `stop`."""
        while not self.stop.is_set():
            self.wake.clear()
            row = self.journal.row("SELECT * FROM outbox WHERE status = 'waiting' ORDER BY id LIMIT 1")
            if row is None:
                self.idle()
                self.wake.wait()
                continue
            self._send(row)

    def late(self, run: str, number: int) -> None:
        """Rounds of `run` up to `number` are over: what still waits for them is not sent any more."""
        these = f"status = 'waiting' AND run = ? AND round <= ? AND type IN {MADE}"
        if self.journal.row(f"SELECT id FROM outbox WHERE {these} LIMIT 1", run, number) is None:  # noqa: S608
            return
        with self.journal.write() as tx:
            tx.do(f"UPDATE outbox SET status = 'late' WHERE {these}", run, number)  # noqa: S608
        sending = self._sending
        if sending is not None and sending[0] == run and sending[1] <= number:
            sending[2].set()

    def recheck(self) -> None:
        """A person may have withdrawn what is being sent: give it up, in the middle of its bytes."""
        sending = self._sending
        if sending is not None and not self._waits(sending[3]):
            sending[2].set()

    def _waits(self, number: int) -> bool:
        return self.journal.row("SELECT id FROM outbox WHERE id = ? AND status = 'waiting'", number) is not None

    def _may_leave(self, row: Row) -> bool:
        """Whether it still waits and, for what was made for a task, approval and policy still stand.

        It is asked before each request.
        """
        if not self._waits(row["id"]):
            return False
        if row["type"] == "figures":
            return self.veto.tells(row["id"], row["run"], datetime.now(UTC))
        return row["type"] not in ("answer", "step") or self.veto.stands(row["run"], row["round"], datetime.now(UTC))

    def _send(self, row: Row) -> None:
        given_up = _Either(self.stop)
        self._sending = (row["run"] or "", row["round"] or 0, given_up, row["id"])
        try:
            self._deliver(row, given_up)
            if not given_up.is_set():
                self._settle(row, "sent", "")
        except (Unavailable, Unauthenticated):
            if not given_up.is_set():
                raise
        except ProtocolMismatch as error:
            # Where the two releases do not match, this raises it, too: the agent ends, and all waits for an update.
            retrying(lambda: self.connection.get("/v1/site"), given_up)
            self._not_taken(row, error)  # the releases match: it was sealed by an earlier one
        except FileNotFoundError:
            if not given_up.is_set():  # else it is removed with its round
                self._not_taken(row, NotFound("its file is gone", "open the round anew"))
        except ConsiliumError as error:
            if not given_up.is_set():
                self._not_taken(row, error)
        finally:
            self._sending = None

    def _deliver(self, row: Row, given_up: "_Either") -> None:
        def ask() -> None:
            if not self._may_leave(row):
                given_up.set()

        small = self._small(row) if row["digest"] else None
        if small is not None:
            deliver(self.connection, bytes(row["envelope"]), small, given_up, ask)
            return
        try:
            self._one_by_one(row, given_up, ask)
        except NotFound:
            if not row["digest"]:
                raise
            self._one_by_one(row, given_up, ask)  # the line was dead for so long that what was uploaded was dropped

    def _one_by_one(self, row: Row, given_up: "_Either", ask: Callable[[], None]) -> None:
        ask()
        if row["digest"] and not given_up.is_set():
            retrying(lambda: self._upload(row, given_up, ask), given_up)
            ask()
        if not given_up.is_set():
            retrying(lambda: self.connection.post("/v1/envelopes", raw=bytes(row["envelope"])), given_up)

    def _upload(self, row: Row, given_up: "_Either", ask: Callable[[], None]) -> None:
        try:
            upload(self.connection, Path(row["path"]), Digest(row["digest"]), given_up, ask)
        except FileNotFoundError:
            raise
        except OSError as error:  # too many open files, or a disk that is away: it may be read the next time
            told = f"{row['path']} cannot be read: {error.strerror or type(error).__name__}"
            if told != self._told:
                log.warning("what waits to be sent waits on: %s", told)
            self._told = told
            raise Unavailable(told, "look at the folder") from error

    def _small(self, row: Row) -> bytes | None:
        """The bytes of a small contribution, as they stand in the journal."""
        found = self.journal.row("SELECT data FROM small WHERE path = ?", row["path"])
        return bytes(found["data"]) if found is not None and digest(found["data"]) == row["digest"] else None

    def _not_taken(self, row: Row, error: ConsiliumError) -> None:
        """It is not sent again; where a round waits for it, the study's owner hears why it will not come."""
        log.warning("%s of %s was not taken: %s", row["type"], row["run"], error.message)
        if row["type"] in ("answer", "step") and not isinstance(error, NOBODY_WAITS):
            self.veto.cannot(row["run"], row["round"], error, datetime.now(UTC))
        self._settle(row, "refused", error.message)

    def _settle(self, row: Row, status: str, note: str) -> None:
        with self.journal.write(durable=status == "refused") as tx:  # what is sent twice is taken once
            tx.do("UPDATE outbox SET status = ?, note = ? WHERE id = ?", status, note, row["id"])
            if status == "refused":
                body = {"what": row["type"], "run": row["run"], "round": row["round"], "why": note[:200]}
                tx.record("not-taken", body, datetime.now(UTC))


class _Either(Event):
    """Set when it is set itself, or when the agent stops."""

    def __init__(self, other: Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(timeout) or self._other.is_set()
