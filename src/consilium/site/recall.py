"""Whether this hospital's ledger is older than what left it: found at the start, by what the coordinator keeps of us.

(1) each checkpoint that this site signed is a head of its log, as it stands here   (2) each answer to a round of
training that the coordinator has is one that this journal has, by its digest. Until a person has said what was spent,
no round is trained under a budget, and nothing is given back; and until one has said of how many plans figures of this
hospital alone were promised since, none are told.

The coordinator is believed in nothing but what makes the count larger. What it names beyond what left is charged, too,
and a person is told before. What it hides it can hide of (2) alone, where it shows our own signature of (1), which it
cannot make: then nobody knows what left, and the person is told to say it. One that hides both is not found out: who
restores a copy says so with `consilium site recount`, too.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, Invalid, NotFound, Unavailable
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.privacy.ledger import EVERY, Book, Whose
from consilium.site import declarations
from consilium.site.journal import BEHIND, MADE, Journal, Writing
from consilium.site.ledger import close, cost_of, enter, opening, read, sent
from consilium.wire.connection import Connection
from consilium.wire.envelope import payload_of, unseal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint, Step
from consilium.wire.requests import Record

log = logging.getLogger(__name__)
ANSWERED = "ledger/answered"
"""Kept value: heads of which a person has said that they were lost with the journal."""
CHARGED = "ledger/charged"
"""Kept value: digests of answers that were lost with the journal, and are charged."""


@dataclass
class Recall:
    """One per agent."""

    site: str
    identity: Identity
    journal: Journal
    connection: Connection
    done: bool = False

    def look(self, now: datetime) -> None:
        """Compare, unless that was done since this process began. Raises: as `anew`."""
        if not self.done:
            self.anew(now)

    def anew(self, now: datetime) -> None:
        """Compare: a machine may have been set back together with what this process has in memory.

        Raises: Unavailable.   Others: the coordinator is of a release that keeps no such record.
        """
        try:
            record = Record.model_validate(self.connection.get("/v1/record"))
        except ValidationError as error:
            raise Unavailable("what came is not a record of this site", "check the proxy") from error
        self._compare(record, now)
        self.done = True

    def _compare(self, record: Record, now: datetime) -> None:
        heads = [(mark.seq, mark.head) for mark in map(self._mark, record.checkpoints)]
        with self.journal.write() as tx:
            lost, left = list(_lost(tx, heads)), list(_unknown(tx, record))
            if not lost and not left:
                return
            before = json.loads(tx.meta(BEHIND) or "{}")  # what was shown once is not hidden afterwards
            lost = _joined(before.get("heads", []), lost)
            left = _joined(before.get("left", []), left)
            why = _words(lost, left)
            if not before:
                log.error("no round is trained under a privacy budget: %s", why)
                rounds = [[*round_, len(attempts)] for round_, attempts in _by_round(left).items()]
                tx.record("ledger-behind", {"why": why, "heads": lost, "rounds": rounds}, now)
            tx.keep(BEHIND, json.dumps({"why": why, "heads": lost, "left": left}))

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


def _unknown(tx: Writing, record: Record) -> Iterator[list[Any]]:
    """[study, plan, run, round, attempt, digest] of answers that are not here, and that nobody has answered for."""
    answered = set(json.loads(tx.meta(CHARGED, "[]")))
    for one in record.sent:
        here = _said(tx, one.run)
        for number, attempt, _, name in one.answers:
            if name not in here and name not in answered:
                yield [one.study, one.plan, one.run, number, attempt, name]


def _said(tx: Writing, run: str) -> set[str]:
    """Digests of all that this journal has ever put into the outbox for a run: envelopes and contributions."""
    rows = tx.rows(f"SELECT envelope, digest FROM outbox WHERE run = ? AND type IN {MADE}", run)  # noqa: S608
    return {name for row in rows for name in (digest(bytes(row["envelope"])), row["digest"])}


def _joined(before: list[Any], more: list[Any]) -> list[Any]:
    return before + [one for one in more if one not in before]


def _by_round(left: list[list[Any]]) -> dict[tuple[str, str, str, int], set[int]]:
    """Attempts by (study, plan, run, round)."""
    found: dict[tuple[str, str, str, int], set[int]] = {}
    for study, plan, run, number, attempt, _ in left:
        found.setdefault((study, plan, run, number), set()).add(attempt)
    return found


def _words(lost: list[Any], left: list[Any]) -> str:
    told = []
    if lost:
        told.append(f"its log was signed up to entry {lost[-1][0]} before, and is another one now")
    if left:
        by_round = _by_round(left)
        rounds, attempts = len(by_round), sum(map(len, by_round.values()))
        told.append(
            f"the coordinator has answers of {rounds} round{'s' if rounds > 1 else ''}, in {attempts} "
            f"attempt{'s' if attempts > 1 else ''}, that are not in this journal"
        )
    return "; ".join(told)


def unexplained(journal: Journal) -> bool:
    """Whether the log is known to be older than it was, and the coordinator names nothing that left since."""
    behind = json.loads(journal.meta(BEHIND) or "{}")
    return bool(behind.get("heads")) and not behind["left"]


def recount(journal: Journal, person: str, now: datetime) -> list[dict[str, Any]]:
    """A person says that the journal was restored: all is charged of which the coordinator had something.

    Where the run is not known here it counts for every population: which table was read is lost with the journal.
    What stands as charged, of which nothing was sent by this journal, may have left after the copy was made: it is not
    given back any more. The rounds are returned, with how many trainings were charged in addition.

    Raises: Invalid: no name, or nothing to say.   NotFound: a plan has not come back yet.
    """
    if not person.strip() or not person.isprintable():
        raise Invalid("who says so has a name, in one line", "write it with --person")
    with journal.write() as tx:
        told = tx.meta(BEHIND)
        if not told:
            return []
        behind = json.loads(told)
        done = [_charged(tx, *of, attempts, now) for of, attempts in _by_round(behind["left"]).items()]
        _hold(tx, now)
        tx.keep(BEHIND, "")
        declarations.forgot(tx)
        for run in sorted({one["run"] for one in done if one}):
            if tx.meta(f"run/{run}"):  # its end has come again before
                close(tx, run, now)
        for key, more in ((ANSWERED, behind["heads"]), (CHARGED, [one[-1] for one in behind["left"]])):
            tx.keep(key, json.dumps(json.loads(tx.meta(key, "[]")) + more))
        tx.record("recounted", {"person": person, "why": behind["why"], "rounds": len(done)}, now)
    return [one for one in done if one]


def _charged(
    tx: Writing, study: str, plan: str, run: str, number: int, attempts: set[int], now: datetime
) -> dict[str, Any]:
    """Charge what these attempts of a round may have let leave, as if each had been a training of its own."""
    row = tx.row("SELECT payload FROM studies WHERE plan = ?", plan)
    if row is None:
        raise NotFound(
            f"the plan of {study} is not here yet, and without it nobody knows what a round cost",
            "let the agent run until the study is offered again, then say it again",
        )
    found = Plan.load(bytes(row["payload"]))
    cost, book = cost_of(found.study), read(Book(), tx)
    if cost is None:
        return {}
    known = book.of_run(run)
    account = next((one for one in known if number in one.charged), known[0] if known else None)
    of, stands = 0 if account is None else account.number, 0
    if account is None:
        of = enter(tx, "reserve", opening(found, run, Whose(EVERY, "", "", found.study.purpose.code), cost), now)
    elif number not in account.found:  # charged as the copy was made: for one of these attempts, or the one ready here
        stands = max(account.charged.get(number, 0) - sent(tx, run, number), 0)
    times = max(len(attempts | _ready(tx, run, number)) - stands, 0)
    body = {"account": of, "run": run, "round": number, "times": times, "found": True}
    enter(tx, "charge", body, now)
    return {"study": study, "run": run, "round": number, "times": times}


def _ready(tx: Writing, run: str, number: int) -> set[int]:
    """Attempts of a round for which this journal was ready, and has masked nothing: another may have done it since."""
    said: dict[str, set[int]] = {"READY": set(), "MASK": set()}
    for row in tx.rows("SELECT envelope FROM outbox WHERE run = ? AND round = ? AND type = 'step'", run, number):
        step = json.loads(payload_of(bytes(row["envelope"]), Step.TYPE))
        said.setdefault(step["phase"], set()).add(step["attempt"])
    return said["READY"] - said["MASK"]


def _hold(tx: Writing, now: datetime) -> None:
    """Nothing that stands as charged in runs that go on is given back: of what is unsent here, some may have left."""
    for account in [one for one in read(Book(), tx).accounts.values() if one.open]:
        for number, times in sorted(account.charged.items()):
            if times > sent(tx, account.run, number) and number not in account.found:
                body = {"account": account.number, "run": account.run, "round": number, "times": 0, "found": True}
                enter(tx, "charge", body, now)


def words(found: list[dict[str, Any]], epsilon: float | None, hidden: bool, closed: bool) -> str:
    """What people read when they have said it.

    Args:    hidden: whether what left since is not named by anybody.   closed: whether figures wait for a number.
    """
    told = f"{len(found)} rounds are charged by the coordinator's record."
    told += f" So is epsilon {epsilon:g}." if epsilon is not None else ""
    if hidden and epsilon is None:
        told += (
            "\nThe log was longer before, and the coordinator names no round that this journal does not have: say with "
            "--epsilon what you know was spent since the copy."
        )
    if closed:
        told += (
            "\nNo figures of this hospital alone are told until you say with --figures of how many plans they may have "
            "been promised since the copy."
        )
    return told


def said(journal: Journal, population: str, epsilon: float, delta: float, person: str, now: datetime) -> None:
    """A person says that so much was spent of which this ledger knows nothing. Raises: Invalid."""
    if not person.strip() or not person.isprintable():
        raise Invalid("who says so has a name, in one line", "write it with --person")
    body = {"population": population, "person": person, "epsilon": epsilon, "delta": delta}
    with journal.write() as tx:
        enter(tx, "said", body, now)
