"""The site agent: plain threads that receive, work, send and beat; all they share is the journal.

Any of them may die at any line with the process: what was received is in the journal before it is acknowledged, and
what is to be sent is in the journal before it leaves.
"""

import gc
import logging
import secrets
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from sqlite3 import DatabaseError
from typing import IO

from pydantic import ValidationError

from consilium import __version__
from consilium.core.errors import ConsiliumError, Invalid, PolicyInvalid, ProtocolMismatch, Unauthenticated, Unavailable
from consilium.core.ids import SiteId
from consilium.site import plans
from consilium.site.checking import Checking
from consilium.site.contact import Contact
from consilium.site.declaring import Declaring
from consilium.site.folder import Folder
from consilium.site.forkserver import ForkServer
from consilium.site.inbox import Inbox
from consilium.site.journal import Journal, damaged
from consilium.site.line import connect
from consilium.site.outbox import Outbox, Outgoing
from consilium.site.pairing import Pairing
from consilium.site.pipeline import Pipeline
from consilium.site.presence import alone, doorbell
from consilium.site.recall import Recall
from consilium.site.seats import Seats
from consilium.site.states import States
from consilium.site.steps import Steps
from consilium.site.updates import Updates
from consilium.site.veto import Veto
from consilium.site.witness import Witness
from consilium.site.worker import Worker
from consilium.wire.requests import Joined

log = logging.getLogger(__name__)
HEARTBEAT_S = 10.0
WAIT_S, IDLE_WAIT_S, SLACK_S = 3.0, 25.0, 2.0
"""Long-polls: while a run is on (a dead line must be noticed soon), when idle, and what a good line may need beyond."""
ADMISSION_S = 2.0
AT_ONCE_S = 0.25
"""What a task comes to within this time takes the question along what comes next; else it is asked by itself."""
COLLECT = (20_000, 20, 50)
"""When to look for garbage in cycles: seldom, for each look goes through all that a round made."""
SWITCH_S = 0.0005
"""How long a thread may keep the interpreter: a task goes from thread to thread, and each change waits for this."""
END_S = 3.0
"""What threads get to end by themselves. Any of them may be cut at any line: the journal holds what they did."""


class Agent:
    """One agent per folder. `forks`: where its children come from, if not from a program."""

    def __init__(self, folder: Folder, forks: ForkServer | None = None) -> None:
        self.folder = folder
        self.stop = threading.Event()
        self._failed, self._instance = False, secrets.token_hex(8)
        self._identity = folder.identity()
        self._member = folder.membership()
        self._connection = connect(folder, self._identity)
        self._journal, self._contact = Journal(folder.journal), Contact(folder)
        states = States(folder, self._journal, self._connection, self.stop)
        outgoing = Outgoing()
        veto = Veto(self._member.site, self._identity, folder, self._journal, outgoing)
        self._recall = Recall(self._member.site, self._identity, self._journal, self._connection)
        veto.ledger.recall = self._recall.look
        self._outbox = Outbox(self._journal, self._connection, veto, self.stop, outgoing)
        site, steps = SiteId(self._member.site), Steps(self._identity, self._journal, self._connection, outgoing)
        updates = Updates(folder, self._identity, self._journal, states, self.stop, partial(Pipeline, forks=forks))
        states.check = Checking(folder, self._journal, self._connection, steps, self.stop).check
        pairing = Pairing(site, folder, self._identity, self._journal, steps, self._recall.anew)
        seats = Seats(site, folder, self._journal, steps, pairing, states, updates)
        declaring = Declaring(
            folder, self._identity, self._journal, veto, updates, pairing, self.stop, outgoing, self._recall.anew
        )
        self._worker = Worker(
            folder, self._identity, self._journal, states, veto, steps, updates, pairing, seats, declaring, self.stop
        )
        self._witness = Witness(self._identity, self._journal, self._connection, self.stop, threading.Event(), outgoing)
        self._inbox = Inbox(
            self._member.site, self._member.coordinator_key, self._identity, self._journal, self._connection, states,
            steps, self._worker.wake, self._outbox, self._witness,
        )  # fmt: skip
        self._outbox.idle = self._idle

    def run(self) -> bool:
        """Work until `stop` is set. Whether it ended because of that, and not of a failure that its log tells.

        Raises: Conflict: another agent runs in this folder.
        """
        sys.setswitchinterval(SWITCH_S)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        with alone(self.folder.lock), doorbell(self.folder.bell) as bell:
            self._policy()
            self._admitted()
            self._recalled()
            if not self.stop.is_set():
                plans.mend(self._journal, self._connection, datetime.now(UTC))
            beats = (self._receive, self._worker.run, self._outbox.run, self._heartbeat, self._witness.run)
            threads = [
                threading.Thread(target=self._guarded, args=(beat,), name=beat.__name__, daemon=True) for beat in beats
            ]
            for thread in threads:
                thread.start()
            self._listen(bell)
            self._worker.close()
            ends = time.monotonic() + END_S
            for thread in threads[1:]:  # not the one that receives: it may wait for news, and loses nothing
                thread.join(max(ends - time.monotonic(), 0.0))
        return not self._failed

    def _guarded(self, beat: Callable[[], None]) -> None:
        try:
            beat()
        except Exception as error:
            if self.stop.is_set() and isinstance(error, Unavailable):
                return  # stopped while it waited for the coordinator
            told = damaged(self.folder.journal, error) if isinstance(error, DatabaseError) else error
            words = str(told) if isinstance(told, ConsiliumError) else type(error).__name__
            log.error("the agent ends: %s\n%s", words, where(error))
            self._failed = True
            self.stop.set()

    def _idle(self) -> None:
        """All has been sent: what need not hold a round up is done now."""
        self._inbox.tidy()
        self._journal.erase()

    def _policy(self) -> None:
        """A policy that nobody can read, or that has ended, is said at once, and not when a study is refused."""
        try:
            ended = self.folder.policy().expires
        except PolicyInvalid as error:
            log.error("every study is refused until the policy can be read: %s", error)
            return
        if ended is not None and datetime.now(UTC).date() > ended:
            log.error("every study is refused: the policy ended on %s; renew it in %s", ended, self.folder.policy_file)

    def _admitted(self) -> None:
        said = False
        while not self.stop.is_set():
            try:
                state = Joined.model_validate(self._connection.get("/v1/site")).state
            except (Unavailable, Unauthenticated, ValidationError) as error:
                self._contact.lost(str(error))
                state = None
            else:
                self._contact.heard(datetime.now(UTC))
            if state == "admitted":
                log.info("%s is admitted at %s", self._member.site, self._member.url)
                return
            if state == "pending" and not said:
                log.info("waiting for admission; read this to the admin: %s", self._identity.fingerprint)
                said = True
            self.stop.wait(ADMISSION_S)

    def _recalled(self) -> None:
        """Compare the ledger at once, so that people hear of it; a round under a budget waits until it was compared."""
        if not self.stop.is_set():
            try:
                self._recall.look(datetime.now(UTC))
            except ConsiliumError as error:
                log.warning("the privacy ledger is not compared yet: %s", error)

    def _receive(self) -> None:
        after = int(self._journal.meta("inbox", "0"))
        pause = 0.1
        while not self.stop.is_set():
            try:
                answer = self._next(after)
                self._outbox.wake.expect()
                for number, envelope in self._inbox.read(answer, after):
                    self._inbox.take(number, envelope, datetime.now(UTC))
                    after = number
                if not self._worker.active:  # else what the round left is removed once its answer has been sent
                    self._inbox.tidy()
                self._contact.heard(datetime.now(UTC))
                pause = 0.1
            except ProtocolMismatch:
                raise
            except ConsiliumError as error:  # whatever answers there, it may be another one next time
                self._contact.lost(str(error))
                self.stop.wait(pause)
                pause = min(pause * 2, 1.0)

    def _next(self, after: int) -> bytes:
        """What has come after a message; where a task came, what is made for it goes with the question."""
        asked, self._inbox.asked = self._inbox.asked, False  # what takes long is not waited for before each question
        wait = WAIT_S if asked or self._worker.active else IDLE_WAIT_S
        query, limit_s = {"after": after, "wait": wait}, wait + SLACK_S
        told = self._outbox.along(query, AT_ONCE_S if asked else 0.0, limit_s)
        return self._connection.read("/v1/inbox", query, limit_s=limit_s) if told is None else told

    def _heartbeat(self) -> None:
        while not self.stop.is_set():
            try:
                self._beat()
            except ConsiliumError as error:
                log.debug("heartbeat: %s", error.message)
            self._worker.changed.wait(HEARTBEAT_S)
            self._worker.changed.clear()

    def _beat(self) -> None:
        body = {"version": __version__, "activity": self._worker.activity}
        try:
            told = self._connection.post("/v1/heartbeat", {**body, "instance": self._instance})
        except Invalid:  # a coordinator of before, which does not look for other agents
            told = self._connection.post("/v1/heartbeat", body)
        twin = bool(told.get("twin"))
        self._contact.beaten(twin, datetime.now(UTC))
        if twin != self._worker.held:
            self._worker.held = twin
            self._worker.wake.set()

    def _listen(self, bell: IO[bytes]) -> None:
        while not self.stop.is_set():
            ready, _, _ = select.select([bell], [], [], 1.0)
            if ready and bell.read(4096):
                self._outbox.recheck()
                self._outbox.wake.set()
                self._outbox.wake.pass_on()  # a person's decision waits for no task
                self._worker.wake.set()
        for event in (self._outbox.wake, self._worker.wake, self._worker.changed, self._witness.wake):
            event.set()
        self._outbox.wake.pass_on()


def where(error: BaseException) -> str:
    """Where an error came from: frames without the values of anything."""
    return "".join(traceback.format_tb(error.__traceback__))
