"""What is said in the phases of a round: by this site, kept, so that a retry says the same; by others, verified here.

The coordinator relays what others said and is believed in nothing: each step carries its site's signature, and is of
exactly the study, run, plan, round, attempt, kind and phase that is asked about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from sqlite3 import Row
from threading import Event
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, EnvelopeInvalid, Refused, Unavailable
from consilium.core.ids import SiteId, canonical
from consilium.core.update import Contribution
from consilium.privacy.pairing import Message
from consilium.site.journal import Journal, Writing
from consilium.wire.connection import Connection
from consilium.wire.envelope import Envelope, payload_of, seal
from consilium.wire.identity import Identity
from consilium.wire.messages import SMALL, Blob, Step, Task
from consilium.wire.requests import Opening, Said

Kind = TypeVar("Kind", bound=Message)
_NONE = dict.fromkeys(("digest", "size", "path"))
"""Of a contribution, where there is none."""
AT_HAND = 4
"""Phases whose verified answers are kept in memory: UNMASK needs those of MASK once more."""


class Place(NamedTuple):
    """Where something was said."""

    kind: str
    round: int
    attempt: int
    phase: str


@dataclass(frozen=True)
class Made:
    """A step as it was made: its message, what becomes durable with it, and the contribution that goes with it.

    `erases`: keys of what is past are gone with it.
    """

    message: Message
    keep: Callable[[Writing], None] = lambda tx: None
    contribution: Contribution | None = None
    erases: bool = False


@dataclass
class Steps:
    """Own steps in the journal, and others' from the coordinator. `outgoing` wakes what sends."""

    identity: Identity
    journal: Journal
    connection: Connection
    outgoing: Event
    opening: Opening | None = field(default=None, repr=False)
    _offered: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _heard: dict[tuple[str, Place], dict[SiteId, Step]] = field(default_factory=dict, repr=False)
    _read: dict[tuple[str, Place], dict[SiteId, Message]] = field(default_factory=dict, repr=False)

    def offer(self, said: Mapping[str, Any], opening: Opening | None = None) -> None:
        """What came beside the newest task: answers, and what opened the sum of the round before it.

        Whether it is of use is found when it is asked for.
        """
        if said:
            self._offered = said
        if said or opening is not None:
            self.opening = opening

    def heard(self, task: Task, of: Place, signer: Callable[[SiteId, Step], str]) -> dict[SiteId, Step]:
        """What was said in a phase of the task's run, by site.

        Args:    signer: the public key that must have signed a site's step.
        Raises:  Refused: something is not signed by its site, or was said elsewhere (`forged`).   Unavailable.
        """
        known = self._heard.get((task.run, of))
        if known is not None:
            return known
        given = {site: _Given.read(one) for site, one in self._offered.items()}
        if not given or any(one.place != (task.run, of) for one in given.values()):
            given = {site: _Given.read(one) for site, one in self._fetched(task.run, of).items()}
        found = {SiteId(site): _verified(task, of, SiteId(site), one, signer) for site, one in sorted(given.items())}
        self._heard[task.run, of] = found
        while len(self._heard) > AT_HAND:
            gone = next(iter(self._heard))
            self._heard.pop(gone)
            self._read.pop(gone, None)
        return found

    def messages(
        self, task: Task, of: Place, signer: Callable[[SiteId, Step], str], kind: type[Kind]
    ) -> dict[SiteId, Kind]:
        """The protocol's messages in what was said in a phase; parsed once, and so hashed once.

        Raises: as `heard`; Refused: one of them is none (`forged`).
        """
        heard = self.heard(task, of, signer)
        known = self._read.get((task.run, of))
        if known is None or not all(isinstance(one, kind) for one in known.values()):
            known = self._read[task.run, of] = {site: parsed(step, kind) for site, step in heard.items()}
        return cast(dict[SiteId, Kind], known)

    def unheard(self, run: str, *places: Place) -> None:
        """Forget what was heard there: it is to be verified under other keys."""
        for of in places:
            self._heard.pop((run, of), None)
            self._read.pop((run, of), None)

    def _fetched(self, run: str, of: Place) -> Mapping[str, Any]:
        query = {"round": of.round, "attempt": of.attempt, "of": of.phase}
        try:
            return Said.model_validate(self.connection.get(f"/v1/runs/{run}/said", query)).steps
        except ValidationError as error:
            raise Unavailable("what came is not what sites said", "check the proxy") from error

    def own(self, run: str, of: Place) -> Step | None:
        """What this site said."""
        row = self._row(run, of)
        return None if row is None else Step.decode(payload_of(bytes(row["envelope"]), Step.TYPE))

    def said(self, run: str, of: Place) -> bool:
        """Whether this site said anything there."""
        return self._row(run, of) is not None

    def _row(self, run: str, of: Place) -> Row | None:
        return self.journal.row(
            "SELECT * FROM steps WHERE run = ? AND round = ? AND attempt = ? AND phase = ?",
            run, of.round, of.attempt, of.phase,
        )  # fmt: skip

    def again(self, seq: int, task: Task, now: datetime) -> bool:
        """Say the same again, if this was answered before and the bytes are here."""
        row = self._row(task.run, place(task))
        if row is None or not self._there(row):
            return False
        with self.journal.write() as tx:
            if _asked(tx, seq):
                blob = {name: row[name] for name in _NONE} if row["path"] else None
                self._post(tx, seq, task, bytes(row["envelope"]), blob, now)
        self.outgoing.set()
        return True

    def _there(self, row: Row) -> bool:
        if row["path"] is None:
            return True
        small = self.journal.row("SELECT path FROM small WHERE path = ?", row["path"])
        return small is not None if row["size"] <= SMALL else Path(row["path"]).exists()

    def send(self, seq: int, task: Task, made: Made, now: datetime) -> None:
        """Keep a step with all that belongs to it, and put it into the outbox: one transaction, or none of it.

        Nothing is kept when the task is over already: then nothing of it has left, or will.
        """
        part = made.contribution
        step = Step(
            study=task.study, run=task.run, plan=task.plan, round=task.round, attempt=task.attempt, kind=task.kind,
            phase=task.phase, body=made.message.model_dump(mode="json"),
            vector=Blob(digest=part.digest, size=part.size) if part else None,
        )  # fmt: skip
        envelope = seal(Step.TYPE, step.encode(), self.identity)
        with self.journal.write(erases=made.erases, later=True) as tx:
            if not _asked(tx, seq):
                return
            made.keep(tx)
            blob = {"digest": part.digest, "size": part.size, "path": str(part.path)} if part else None
            tx.do(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                task.run, task.round, task.attempt, task.phase, envelope, *(blob or _NONE).values(),
            )  # fmt: skip
            if part is not None:
                tx.hold(part.path)
            self._post(tx, seq, task, envelope, blob, now)
        self.outgoing.set()

    def _post(
        self, tx: Writing, seq: int, task: Task, envelope: bytes, blob: Mapping[str, Any] | None, now: datetime
    ) -> None:
        about = {"study": task.study, "run": task.run, "round": task.round, "phase": task.phase}
        tx.send("step", envelope, about, now, blob)
        tx.do("UPDATE tasks SET status = 'done' WHERE seq = ?", seq)


def place(task: Task) -> Place:
    """Where a task asks something to be said."""
    return Place(task.kind, task.round, task.attempt, task.phase)


def parsed(step: Step, kind: type[Kind]) -> Kind:
    """The protocol's message in a step. Raises: Refused: it is none (`forged`), or a READY of a release of before
    (`release`).
    """
    if step.phase == "READY" and "lacks" not in step.body:
        raise outdated(str(step.body.get("site")), step.round)
    try:
        return kind.model_validate_json(canonical(step.body))
    except ValidationError as error:
        what = f"a message of phase {step.phase} in round {step.round} is malformed, or of another release"
        raise forged(what) from error


def outdated(site: str, number: int) -> Refused:
    """The refusal of a roll-call in which a hospital does not say what it lacks: nobody knows whom it would hide."""
    return Refused(
        f"{site} runs a release of before, which does not say in READY of round {number} what the hospital lacks",
        f"ask {site} to update its agent",
        reason="release",
    )


def forged(what: str) -> Refused:
    """The refusal of what is not what its site said here."""
    return Refused(what, "compare both audit logs: somebody in between alters what sites say", reason="forged")


def _asked(tx: Writing, seq: int) -> bool:
    row = tx.row("SELECT status FROM tasks WHERE seq = ?", seq)
    return row is not None and row["status"] in ("todo", "waits")


@dataclass(frozen=True)
class _Given:
    """What a site is said to have answered, read once; `step` is None where it is no step."""

    envelope: Envelope | None = None
    step: Step | None = None

    @classmethod
    def read(cls, told: Any) -> "_Given":
        try:
            envelope = Envelope.of(told)
            return cls(envelope, Step.decode(envelope.payload) if envelope.kind == Step.TYPE else None)
        except (ConsiliumError, ValueError):
            return cls()

    @property
    def place(self) -> tuple[str, Place] | None:
        step = self.step
        return None if step is None else (step.run, Place(step.kind, step.round, step.attempt, step.phase))


def _verified(task: Task, of: Place, site: SiteId, given: _Given, signer: Callable[[SiteId, Step], str]) -> Step:
    step = given.step
    try:
        if given.envelope is None or step is None:
            raise EnvelopeInvalid("it is no step")
        given.envelope.verified(Step.TYPE, [signer(site, step)])
    except Refused:
        raise
    except (ConsiliumError, ValueError) as error:
        raise forged(f"what {site} is said to have answered in {of.phase} is not signed by it") from error
    if (step.study, step.plan, given.place) != (task.study, task.plan, (task.run, of)) or step.body.get("site") != site:
        raise forged(f"what {site} is said to have answered in {of.phase} was said elsewhere, or by another")
    return step
