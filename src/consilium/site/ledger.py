"""The privacy ledger of this hospital: what studies spent of its patients' privacy, in the journal; and the budget.

A whole run is reserved at its start, and each training is charged, durable, before it begins. What nothing left by is
given back when the run is over; what was put into the outbox is not, whatever became of it. Each entry is chained to
the one before, and its digest stands in the audit log, whose head the coordinator keeps.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from consilium.core.errors import AuditBroken, Refused
from consilium.core.study import Plan, Study
from consilium.governance import audit
from consilium.governance.policy import Budget, Policy
from consilium.privacy.accountant import curve
from consilium.privacy.ledger import NOTHING, Account, Book, Cost, Limit, Load, Whose
from consilium.privacy.mechanism import Mechanism
from consilium.site import sources
from consilium.site.folder import Folder
from consilium.site.journal import BEHIND, Journal, Writing
from consilium.wire.messages import Task


def cost_of(study: Study) -> Cost | None:
    """What one run of a study costs; None: it asks for no epsilon, and no budget is kept for it.

    By the noise of the plan, and not by what its author claims that it gives.
    """
    mechanism = Mechanism.of(study)
    if mechanism is None:
        return None
    runs = [mechanism.of_patient(run) for run in (mechanism.event(), mechanism.together())]
    each, together = (Load(curve(mechanism.of_round(run))) for run in runs)
    steps = "" if mechanism.shared else f" of {mechanism.steps} steps here"
    words = (
        f"{mechanism.rounds} rounds{steps} with sampled Gaussian noise, multiplier {mechanism.noise:g}, rate "
        f"{mechanism.rate:g}"
    )
    epsilon, all_honest = mechanism.epsilon, mechanism.all_honest
    if mechanism.whole:  # what the plan promises is of a hospital, and patients are counted here
        words += " on a hospital's whole change"
        epsilon, all_honest = ((load * mechanism.rounds).epsilon(mechanism.delta) for load in (each, together))
    return Cost(mechanism.rounds, each, together, epsilon, all_honest, mechanism.delta, words)


@dataclass
class Ledger:
    """Reads and appends. `recall`: compare with what the coordinator keeps, once per process, before anything is spent.

    Raises (all): PolicyInvalid, MappingInvalid, NotFound: what the hospital wrote cannot be read.
    """

    folder: Folder
    journal: Journal
    recall: Callable[[datetime], None] = lambda now: None
    _book: Book = field(default_factory=Book, repr=False)

    @property
    def book(self) -> Book:
        """All that was spent and is reserved."""
        self._book = read(self._book, self.journal)
        return self._book

    def check(self, plan: Plan, path: Path | None = None) -> None:
        """Whether the budget has room for one whole run of a plan, with a mapping or the one that is kept for it.

        Raises: Refused: it has none (`budget`), or the ledger is older than what left (`ledger`).
        """
        cost = cost_of(plan.study)
        if cost is not None:
            self._stands()
            self._admit(self.book, self.whose(plan, path), cost.whole)

    def allow(self, task: Task, plan: Plan) -> None:
        """Whether a round may be trained: what its run has reserved stays within the budget as it stands now.

        Figures of a judged model carry no noise. So that a coordinator can ask for no more of them than the budget has
        room for, models are judged in runs alone in which something is charged for good.

        Raises: Refused: as `check`.
        """
        cost = cost_of(plan.study)
        if cost is None:
            return
        book = self.book
        if task.kind == "EVALUATE":
            if not _paid(self.journal, book, task.run):
                raise Refused(
                    f"nothing of {task.run} was charged here, and under an epsilon a hospital judges the models of "
                    "those runs alone that its patients trained in",
                    "the run is judged by the hospitals that trained in it",
                    reason="budget",
                )
            return
        self._stands()
        whose = self.whose(plan)
        known = _of(book, task.run, whose)
        self._admit(book, whose, cost.whole if known is None else NOTHING)

    def reserve(self, task: Task, plan: Plan, now: datetime) -> None:
        """Reserve all rounds of a run, unless that was done. Raises: Refused: as `check`.   Unavailable."""
        cost = cost_of(plan.study)
        if cost is None or task.kind == "EVALUATE":
            return
        self.recall(now)
        if _of(self.book, task.run, self.whose(plan)) is None:
            with self.journal.write() as tx:
                self._reserved(tx, task.run, plan, cost, now)

    def charge(self, task: Task, plan: Plan, now: datetime) -> None:
        """Charge one training of a round: durable when this returns, and before it begins.

        A charge that nothing left by stands for the next training. Raises: Refused: as `check`.
        """
        cost = cost_of(plan.study)
        if cost is None or task.kind != "TRAIN":
            return
        self._stands()
        with self.journal.write() as tx:
            account = self._reserved(tx, task.run, plan, cost, now)
            times = account.charged.get(task.round, 0)
            if times > sent(tx, task.run, task.round) and task.round not in account.found:
                return
            if times:
                self._admit(read(Book(), tx), account.whose, cost.each)
            body = {"account": account.number, "run": task.run, "round": task.round, "times": 1, "found": False}
            enter(tx, "charge", body, now)

    def whose(self, plan: Plan, path: Path | None = None) -> Whose:
        """Whose privacy a plan spends."""
        asked = sources.asked(path or sources.mapping(self.folder, self.journal, plan))
        population, _ = self.folder.policy().privacy.of(asked.patients)
        return Whose(population, asked.patients, asked.source, plan.study.purpose.code)

    def _reserved(self, tx: Writing, run: str, plan: Plan, cost: Cost, now: datetime) -> Account:
        if tx.meta(f"run/{run}"):
            raise Refused(f"{run} is over", "begin a new run", reason="replayed")
        book, whose = read(Book(), tx), self.whose(plan)
        known = _of(book, run, whose)
        if known is None:
            self._admit(book, whose, cost.whole)
            number = enter(tx, "reserve", opening(plan, run, whose, cost), now)
            known = Account(number, plan.study.name, plan.digest, run, whose, cost)
        return known

    def _admit(self, book: Book, whose: Whose, fresh: Load) -> None:
        for words, limit, accounts in limits(book, self.folder.policy(), whose):
            held = [one.held for one in accounts]
            if not limit.admits(*held, fresh):
                need = f"epsilon {Load.epsilon(fresh, limit.delta):.3g} more" if not fresh.empty else "more than it has"
                raise Refused(
                    f"the study needs {need} of {words}, of which {limit.left(*held):.3g} of {limit.epsilon:g} is left "
                    "by the ledger's count",
                    "`consilium site budget` shows who spent it; a study may ask for a smaller epsilon",
                    reason="budget",
                )

    def _stands(self) -> None:
        if told := self.journal.meta(BEHIND):
            raise Refused(
                f"this hospital's ledger is older than what left it: {json.loads(told)['why']}",
                "say at the hospital what was spent, with `consilium site recount --person NAME`",
                reason="ledger",
            )


def limits(book: Book, policy: Policy, whose: Whose) -> Iterator[tuple[str, Limit, list[Account]]]:
    """Each limit that holds for these patients and this purpose, in words, with the accounts that count for it."""
    budget = budget_of(policy, whose.population)
    named = policy.privacy.populations
    yield f"the budget of {whose.population}", Limit(budget.epsilon, budget.delta), book.of(whose, named)
    most = budget.purposes.get(whose.purpose)  # type: ignore[call-overload]
    if most is not None:
        words = f"what {whose.purpose} may take of the budget of {whose.population}"
        yield words, Limit(most, budget.delta), book.of(whose, named, whose.purpose)


def budget_of(policy: Policy, population: str) -> Budget:
    """The budget of a population as the policy names it today."""
    return policy.privacy.populations.get(population, policy.privacy.budget)


def opening(plan: Plan, run: str, whose: Whose, cost: Cost) -> dict[str, Any]:
    """The body of a `reserve`."""
    about = {"study": plan.study.name, "plan": plan.digest, "run": run}
    who = {name: getattr(whose, name) for name in ("population", "patients", "source", "purpose")}
    return {**about, **who, **cost.told()}


def close(tx: Writing, run: str, now: datetime) -> None:
    """A run is over: what is reserved is free again, and what was charged and never sent, too.

    While the ledger is known to be older than what left, nobody knows what was never sent: nothing is given back.
    """
    behind = bool(tx.meta(BEHIND))
    for account in read(Book(), tx).of_run(run):
        left = [] if behind else [[number, _unsent(tx, account, number)] for number in sorted(account.charged)]
        enter(tx, "close", {"account": account.number, "run": run, "unsent": [one for one in left if one[1]]}, now)


def unsent(tx: Writing, run: str, number: int) -> bool:
    """Whether a charge of a round would be given back if its run ended now: nothing that it paid for has left."""
    return any(_unsent(tx, account, number) for account in read(Book(), tx).of_run(run))


def _paid(at: Journal | Writing, book: Book, run: str) -> bool:
    """Whether a charge of a run stands that is never given back."""
    accounts = [one for one in book.accounts.values() if one.run == run]
    return any(times > _unsent(at, one, number) for one in accounts for number, times in one.charged.items())


def _unsent(at: Journal | Writing, account: Account, number: int) -> int:
    left = account.charged.get(number, 0) - sent(at, account.run, number)
    return 0 if number in account.found else max(left, 0)


def enter(tx: Writing, kind: str, body: dict[str, Any], now: datetime) -> int:
    """Append an entry, and its digest to the audit log; its number."""
    last = tx.row("SELECT entry FROM ledger ORDER BY seq DESC LIMIT 1")
    head = audit.START if last is None else audit.head_of(bytes(last["entry"]))
    entry = audit.append(head, kind=kind, body=body, at=now)
    tx.do("INSERT INTO ledger VALUES (?, ?)", entry.seq, entry.data)
    told = {"what": kind, "number": entry.seq, "entry": audit.link(entry.data)}
    tx.record("budget", told | {name: body[name] for name in ("study", "run", "round") if name in body}, now)
    return entry.seq


def read(before: Book, at: Journal | Writing) -> Book:
    """The book after all entries of the ledger that follow upon those in `before`."""
    rows = at.rows("SELECT entry FROM ledger WHERE seq > ? ORDER BY seq", before.seq)
    return before.after(json.loads(row["entry"]) for row in rows) if rows else before


def verify(journal: Journal) -> int:
    """Check that the ledger is whole, and the one that the audit log tells of; how many entries it has.

    Raises: AuditBroken: names the first entry that is not.
    """
    entries = [bytes(row["entry"]) for row in journal.rows("SELECT entry FROM ledger ORDER BY seq")]
    audit.verify(entries)
    links = dict(_told(journal.entries()))
    for number in range(1, max(len(entries), *links, 0) + 1):
        if number > len(entries) or links.get(number) != audit.link(entries[number - 1]):
            raise AuditBroken(f"entry {number} of the privacy ledger is not the one that the audit log tells of")
    return len(entries)


def _told(entries: list[bytes]) -> Iterator[tuple[int, str]]:
    """(number, digest) of each entry of the ledger in an audit log; what cannot be read there is another check's."""
    for entry in entries:
        with suppress(ValueError, KeyError, TypeError):
            one = json.loads(entry)
            if one["kind"] == "budget":
                yield int(one["body"]["number"]), str(one["body"]["entry"])


def _of(book: Book, run: str, whose: Whose) -> Account | None:
    """The account that is open for a run with this table, under the budget that it has now."""
    return next((one for one in book.of_run(run) if one.whose == whose), None)


def sent(at: Journal | Writing, run: str, number: int) -> int:
    """How many contributions of a round were ever put into the outbox: any of them may have left, if only in part."""
    row = at.row("SELECT count(*) AS n FROM outbox WHERE run = ? AND round = ? AND digest IS NOT NULL", run, number)
    assert row is not None
    return int(row["n"])
