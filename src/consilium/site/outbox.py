"""What leaves the site: bulk first, then the signed message; in the order of the journal, until it is acknowledged.

What is made within moments of a task goes with the question what comes next: one request of a small round, not two.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Row
from threading import Event, Lock
from typing import Any

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
from consilium.wire.envelope import Envelope
from consilium.wire.transfer import deliver, upload

log = logging.getLogger(__name__)
NOBODY_WAITS = (OutOfPhase, UnknownSite, Equivocation)
"""What the coordinator says of an answer for which no round waits: it is over, was asked of others, or has one."""
AGAIN_S = 1.0
"""So long what cannot be read waits until it is tried again."""
SENT_S = 0.02
"""What may wait waits so long for what is being sent."""


class Outgoing(Event):
    """Set where there is more to send. While the thread that receives expects something, it hears of it first."""

    def __init__(self) -> None:
        super().__init__()
        self._first, self._expected, self._lock = Event(), False, Lock()

    def set(self) -> None:
        """There is more."""
        with self._lock:
            (self._first.set if self._expected else super().set)()

    def expect(self) -> None:
        """From now on, until `first`, who receives hears of it and nobody else."""
        with self._lock:
            self._expected = True

    def first(self, seconds: float) -> bool:
        """Whether there is more, within this time."""
        self._first.wait(seconds)
        with self._lock:
            found, self._expected = self._first.is_set(), False
            self._first.clear()
        return found

    def pass_on(self) -> None:
        """Who sends hears of it, too."""
        super().set()


@dataclass
class Outbox:
    """Sends what the journal holds; `wake` says that there is more."""

    journal: Journal
    connection: Connection
    veto: Veto
    stop: Event
    wake: Outgoing
    idle: Callable[[], None] = lambda: None
    _sending: dict[int, tuple[str, int, "_Either"]] = field(default_factory=dict, repr=False)
    _aside: dict[int, float] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def run(self) -> None:
        """Send until `stop`."""
        while not self.stop.is_set():
            self.wake.clear()
            row = self._taken()
            if row is None:
                if self._sending:
                    self.stop.wait(SENT_S)
                self.idle()
                self._aside = {number: until for number, until in self._aside.items() if self._waits(number)}
                self.wake.wait(AGAIN_S if self._aside else None)
                continue
            self._send(row)

    def along(self, query: Mapping[str, Any], seconds: float, limit_s: float) -> bytes | None:
        """Send what was made for the newest task, if it is there within `seconds`, is small, and nothing waits before
        it; the coordinator's answer is what comes next in the inbox.

        Args:    query: as of `GET /v1/inbox`.   limit_s: of the request.
        Returns: None: nothing was sent; or it is not known to have arrived, and is sent by `run`; or what comes next
                 was not told with it, as by a coordinator of an earlier release.
        """
        if not self.wake.first(seconds):
            return None
        row = self._taken(small=True)
        self.wake.pass_on()  # what else waits; and what a round left is removed while it is waited for the next
        if row is None:
            return None
        given_up, settled = self._sending[row["id"]][2], False
        try:
            self._asked(row, given_up)
            if given_up.is_set():
                return None
            blob = b"\n" + bytes(row["data"]) if row["digest"] else b""
            path = "/v1/answers" if row["digest"] else "/v1/envelopes"
            told = self.connection.exchange(path, bytes(row["envelope"]) + blob, query, limit_s=limit_s)
            if not told.startswith(b"{"):
                raise Unavailable("what came is no answer of the coordinator", "check the proxy")
            self._settle(row, "sent", "")  # it arrived, whatever people or the coordinator said meanwhile
            settled = True
            return told if b'"items"' in told else None
        except ConsiliumError as error:
            log.debug("%s of %s is sent once more: %s", row["type"], row["run"], error.message)
            return None
        finally:
            self._sending.pop(row["id"], None)
            if not settled and self._waits(row["id"]):
                self.wake.pass_on()

    def _taken(self, *, small: bool = False) -> Row | None:
        """The next that waits and nobody sends; it is being sent as long as it is in `_sending`.

        Args:    small: only if it was made for a task, and is small; its bytes are `data`.
        """
        with self._lock:
            row = self.journal.row(
                "SELECT outbox.*, small.data FROM outbox LEFT JOIN small ON small.path = outbox.path"
                " WHERE status = 'waiting' AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT 1",
                json.dumps([*self._sending, *self._resting()]),
            )
            if row is None or (small and not _is_small(row)):
                return None
            self._sending[row["id"]] = (row["run"] or "", row["round"] or 0, _Either(self.stop))
            return row

    def _resting(self) -> list[int]:
        """What could not be read a moment ago."""
        now = time.monotonic()
        return [number for number, until in self._aside.items() if until > now]

    def late(self, run: str, number: int) -> None:
        """Rounds of `run` up to `number` are over: what still waits for them is not sent any more."""
        these = f"status = 'waiting' AND run = ? AND round <= ? AND type IN {MADE}"
        if self.journal.row(f"SELECT id FROM outbox WHERE {these} LIMIT 1", run, number) is None:  # noqa: S608
            return
        with self.journal.write() as tx:
            tx.do(f"UPDATE outbox SET status = 'late' WHERE {these}", run, number)  # noqa: S608
        for of, at, given_up in list(self._sending.values()):
            if of == run and at <= number:
                given_up.set()

    def recheck(self) -> None:
        """A person may have withdrawn what is being sent: give it up, in the middle of its bytes."""
        for number, (_, _, given_up) in list(self._sending.items()):
            if not self._waits(number):
                given_up.set()

    def _waits(self, number: int) -> bool:
        return self.journal.row("SELECT id FROM outbox WHERE id = ? AND status = 'waiting'", number) is not None

    def _may_leave(self, row: Row) -> bool:
        """Whether it still waits and, for what was made for a task, approval and policy still stand.

        It is asked before each request.
        """
        if not self._waits(row["id"]):
            return False
        if row["type"] == "figures":
            return self.veto.tells(row, datetime.now(UTC))
        return row["type"] not in ("answer", "step") or self.veto.stands(row["run"], row["round"], datetime.now(UTC))

    def _send(self, row: Row) -> None:
        given_up = self._sending[row["id"]][2]
        try:
            arrived = self._deliver(row, given_up)
            self._aside.pop(row["id"], None)
            if arrived:  # whatever people or the coordinator said meanwhile
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
        except OSError as error:  # a disk that is away, or rights that changed: nothing else waits for it
            if row["id"] not in self._aside:
                why = error.strerror or type(error).__name__
                log.warning("%s of %s waits: %s cannot be read: %s", row["type"], row["run"], row["path"], why)
            self._aside[row["id"]] = time.monotonic() + AGAIN_S
        except ConsiliumError as error:
            if not given_up.is_set():
                self._not_taken(row, error)
        finally:
            self._sending.pop(row["id"], None)

    def _asked(self, row: Row, given_up: "_Either") -> None:
        if not self._may_leave(row):
            given_up.set()

    def _deliver(self, row: Row, given_up: "_Either") -> bool:
        """Whether the coordinator acknowledged it; else it was given up before its last request."""

        def ask() -> None:
            self._asked(row, given_up)

        if row["digest"] and _is_small(row):
            deliver(self.connection, bytes(row["envelope"]), bytes(row["data"]), given_up, ask)
            return True
        try:
            return self._one_by_one(row, given_up, ask)
        except NotFound:
            if not row["digest"]:
                raise
            # the line was dead for so long that what was uploaded was dropped
            return self._one_by_one(row, given_up, ask)

    def _one_by_one(self, row: Row, given_up: "_Either", ask: Callable[[], None]) -> bool:
        ask()
        if row["digest"] and not given_up.is_set():
            upload(self.connection, Path(row["path"]), Digest(row["digest"]), given_up, ask)
            ask()
        if given_up.is_set():
            return False
        retrying(lambda: self.connection.post("/v1/envelopes", raw=bytes(row["envelope"])), given_up)
        return True

    def _not_taken(self, row: Row, error: ConsiliumError) -> None:
        """It is not sent again; where a round waits for it, the study's owner hears why it will not come."""
        log.warning("%s of %s was not taken: %s", row["type"], _about(row), error)
        if row["type"] in ("answer", "step") and not isinstance(error, NOBODY_WAITS):
            self.veto.cannot(row["run"], row["round"], error, datetime.now(UTC))
        self._settle(row, "refused", error.message)

    def _settle(self, row: Row, status: str, note: str) -> None:
        with self.journal.write(durable=status == "refused") as tx:  # what is sent twice is taken once
            tx.do("UPDATE outbox SET status = ?, note = ? WHERE id = ?", status, note, row["id"])
            if status == "refused":
                body = {"what": row["type"], "run": row["run"], "round": row["round"], "why": note[:200]}
                tx.record("not-taken", body, datetime.now(UTC))


def _about(row: Row) -> str:
    """Of what a message is: its run, or the study of one that is of no run."""
    if row["run"]:
        return str(row["run"])
    try:
        return str(json.loads(Envelope.parse(bytes(row["envelope"])).payload)["study"])
    except (ConsiliumError, ValueError, KeyError, TypeError):
        return "this hospital"


def _is_small(row: Row) -> bool:
    """Whether this was made for a task, and its contribution, if it has one, stands in the journal."""
    if row["type"] not in ("answer", "step"):
        return False
    return not row["digest"] or (row["data"] is not None and digest(row["data"]) == row["digest"])


class _Either(Event):
    """Set when it is set itself, or when the agent stops."""

    def __init__(self, other: Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(timeout) or self._other.is_set()
