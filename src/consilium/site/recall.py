"""Whether this hospital's ledger is older than what left it: found at the start, by what the coordinator keeps of us.

(1) each checkpoint that this site signed is a head of its log, as it stands here   (2) each round of which the
coordinator has something is charged. A coordinator that keeps both from us is not found out by it: who restores a copy
says so with `consilium site recount`, too. Until a person has said what was spent, no round is trained under a budget;
what the coordinator's record names is then charged as if each attempt had been a training of its own.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, Invalid, NotFound, Unavailable
from consilium.core.study import Plan
from consilium.privacy.ledger import EVERY, Book, Whose
from consilium.site.journal import BEHIND, Journal, Writing
from consilium.site.ledger import close, cost_of, enter, opening, read
from consilium.wire.connection import Connection
from consilium.wire.envelope import unseal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint
from consilium.wire.requests import Record

log = logging.getLogger(__name__)
ANSWERED = "ledger/answered"
"""Kept value: heads of which a person has said that they were lost with the journal."""


@dataclass
class Recall:
    """One per agent; it looks once."""

    site: str
    identity: Identity
    journal: Journal
    connection: Connection
    done: bool = False

    def look(self, now: datetime) -> None:
        """Compare, unless that was done since this process began.

        Raises: Unavailable.   Others: the coordinator is of a release that keeps no such record.
        """
        if self.done:
            return
        try:
            record = Record.model_validate(self.connection.get("/v1/record"))
        except ValidationError as error:
            raise Unavailable("what came is not a record of this site", "check the proxy") from error
        self._compare(record, now)
        self.done = True

    def _compare(self, record: Record, now: datetime) -> None:
        heads = [(mark.seq, mark.head) for mark in map(self._mark, record.checkpoints)]
        with self.journal.write() as tx:
            lost, missing = list(_lost(tx, heads)), list(_missing(read(Book(), tx), record))
            if not lost and not missing:
                return
            why = _words(lost, missing)
            if tx.meta(BEHIND) == "":
                log.error("no round is trained under a privacy budget: %s", why)
                tx.record("ledger-behind", {"why": why, "heads": lost, "rounds": missing}, now)
            tx.keep(BEHIND, json.dumps({"why": why, "heads": lost, "rounds": missing}))

    def _mark(self, envelope: dict[str, Any]) -> Checkpoint:
        try:
            payload = unseal(json.dumps(envelope).encode(), Checkpoint.TYPE, [self.identity.public])
            mark: Checkpoint = Checkpoint.decode(payload)
        except ConsiliumError as error:
            raise Unavailable("what came as a checkpoint was not signed here", "compare both audit logs") from error
        if mark.log != self.site:
            raise Unavailable("what came as a checkpoint is of another log", "compare both audit logs")
        return mark


def _lost(tx: Writing, heads: list[tuple[int, str]]) -> Iterator[list[Any]]:
    """Signed heads that this log does not have, and that nobody has answered for."""
    answered = json.loads(tx.meta(ANSWERED, "[]"))
    for seq, head in heads:
        here = tx.head(seq)
        if (here.seq, here.digest) != (seq, head) and [seq, head] not in answered:
            yield [seq, head]


def _missing(book: Book, record: Record) -> Iterator[list[Any]]:
    """[study, plan, run, round, attempts] of rounds that left and are not charged."""
    for one in record.sent:
        for number, attempts in one.rounds:
            if not book.knows(one.run, number):
                yield [one.study, one.plan, one.run, number, attempts]


def _words(lost: list[Any], missing: list[Any]) -> str:
    told = []
    if lost:
        told.append(f"its log was signed up to entry {lost[-1][0]} before, and is another one now")
    if missing:
        rounds = len(missing)
        told.append(f"the coordinator has {rounds} round{'s' if rounds > 1 else ''} of which the ledger knows nothing")
    return "; ".join(told)


def recount(journal: Journal, person: str, now: datetime) -> list[dict[str, Any]]:
    """A person says that the journal was restored: all is charged of which the coordinator had something.

    It counts for every population: which table was read is lost with the journal. The runs and rounds are given back.
    Raises: Invalid: no name, or nothing to say.   NotFound: a plan has not come back yet.
    """
    if not person.strip() or not person.isprintable():
        raise Invalid("who says so has a name, in one line", "write it with --person")
    with journal.write() as tx:
        told = tx.meta(BEHIND)
        if not told:
            return []
        behind = json.loads(told)
        done = [_charged(tx, one, now) for one in behind["rounds"]]
        for run in sorted({one["run"] for one in done if one}):
            if tx.meta(f"run/{run}"):  # its end has come again before
                close(tx, run, now)
        answered = json.loads(tx.meta(ANSWERED, "[]")) + behind["heads"]
        tx.keep(ANSWERED, json.dumps(answered))
        tx.keep(BEHIND, "")
        tx.record("recounted", {"person": person, "why": behind["why"], "rounds": len(done)}, now)
    return [one for one in done if one]


def _charged(tx: Writing, missing: list[Any], now: datetime) -> dict[str, Any]:
    study, plan, run, number, attempts = missing
    row = tx.row("SELECT payload FROM studies WHERE plan = ?", plan)
    if row is None:
        raise NotFound(
            f"the plan of {study} is not here yet, and without it nobody knows what a round cost",
            "let the agent run until the study is offered again, then say it again",
        )
    found = Plan.load(bytes(row["payload"]))
    cost, book = cost_of(found.study), read(Book(), tx)
    if cost is None or book.knows(run, number):
        return {}
    known = next((one for one in book.accounts.values() if one.run == run and one.open), None)
    account = known.number if known is not None else None
    if account is None:
        whose = Whose(EVERY, "", "", found.study.purpose.code)
        account = enter(tx, "reserve", opening(found, run, whose, cost), now)
    body = {"account": account, "run": run, "round": number, "times": attempts, "found": True}
    enter(tx, "charge", body, now)
    return {"study": study, "run": run, "round": number, "times": attempts}


def said(journal: Journal, population: str, epsilon: float, delta: float, person: str, now: datetime) -> None:
    """A person says that so much was spent of which this ledger knows nothing. Raises: Invalid."""
    if not person.strip() or not person.isprintable():
        raise Invalid("who says so has a name, in one line", "write it with --person")
    body = {"population": population, "person": person, "epsilon": epsilon, "delta": delta}
    with journal.write() as tx:
        enter(tx, "said", body, now)
