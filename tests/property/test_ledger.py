"""The ledger's laws: nothing is admitted beyond the budget, and whatever is killed, what left is counted."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consilium.core.errors import AuditBroken, Refused
from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.governance import audit
from consilium.governance.policy import Policy
from consilium.privacy.accountant import ORDERS, Sampled, curve
from consilium.privacy.ledger import EVERYBODY, NOTHING, Account, Book, Cost, Limit, Load, Whose, claimed, total
from consilium.site import ledger
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.site.ledger import Ledger
from consilium.wire.messages import Blob, Task
from e2e.federation import study, table

NOW = datetime(2030, 6, 1, tzinfo=UTC)
STATE = Blob(digest=digest(b"a state"), size=1)
DELTA = 1e-5
ROUNDS = 3
NOISES = (1.0, 2.0, 4.0)
LIMIT = Limit(6.0, DELTA)


def load(noise: float, loose: float = 0.0) -> Load:
    return Load(curve(Sampled(noise, 1.0, 1)), loose)


def cost(noise: float, rounds: int = ROUNDS) -> Cost:
    return Cost(rounds, load(noise), load(2 * noise), 1.0, 0.5, DELTA, "a test")


loads = st.builds(load, st.floats(0.5, 50), st.sampled_from([0.0, 1e-9, 4e-6]))


@given(st.lists(loads, max_size=30), st.floats(0.01, 10))
def test_the_filter_never_admits_beyond_the_budget(wanted: list[Load], epsilon: float) -> None:
    """By the definition, order by order, and not by the function that the filter uses."""
    limit, admitted = Limit(epsilon, DELTA), []
    for one in wanted:
        if limit.admits(*admitted, one):
            admitted.append(one)
    if admitted:
        delta = DELTA - sum(one.loose for one in admitted)
        summed = np.sum([one.curve for one in admitted], axis=0)
        bound = summed + np.log((ORDERS - 1) / ORDERS) - (np.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
        assert delta > 0 and np.min(bound) <= epsilon
    assert limit.admits(*admitted) and limit.left(*admitted) <= epsilon


@given(st.lists(loads, min_size=1, max_size=5), loads)
def test_more_is_never_less(before: list[Load], one: Load) -> None:
    assert total([*before, one]).epsilon(DELTA) >= total(before).epsilon(DELTA)
    assert NOTHING.epsilon(DELTA) == 0 and (one * 0).empty and (one * 2).epsilon(DELTA) >= one.epsilon(DELTA)


@given(st.floats(0.01, 3), st.floats(0.01, 3))
def test_what_a_person_says_was_spent_counts_at_least_as_much_and_of_two_no_more_than_both(a: float, b: float) -> None:
    """A pure epsilon is (epsilon, 0): its curve alone shows epsilon at every order up, and the sum of two no more."""
    one, two = claimed(a, 1e-7), claimed(b, 1e-7)
    assert np.all(one.curve <= a) and one.curve[-1] == pytest.approx(min(a, 512 * a * a / 2))
    assert np.all((one + two).curve <= a + b)


def test_an_entry_keeps_a_cost_to_the_last_bit() -> None:
    was = Cost(7, load(1.3, 1e-9), load(2.6), 3.0, 1.5, DELTA, "z")
    told = audit.append(audit.START, kind="reserve", body=was.told(), at=NOW)
    found = Cost.heard(json.loads(told.data)["body"])
    assert np.array_equal(found.each.curve, was.each.curve) and found.told() == was.told()


NAMES = ("", "heart", "lung")
whoses = st.builds(
    lambda patients, source, named: Whose(patients if patients in named else EVERYBODY, patients, source, "research"),
    st.sampled_from(NAMES), st.sampled_from(["a", "b", "c"]), st.sets(st.sampled_from(NAMES[1:])),
)  # fmt: skip


@given(st.lists(whoses, max_size=8), whoses, st.sets(st.sampled_from(NAMES[1:])))
def test_a_new_extract_inherits_and_no_new_name_makes_patients_new(
    spent: list[Whose], asked: Whose, named: set[str]
) -> None:
    """Whatever names and tables were used under whatever policy: what may concern the same patients counts."""
    book = Book({n: Account(n, "s", "p", f"r-{n}", one, cost(1), {1: 1}) for n, one in enumerate(spent)}, len(spent))
    asked = Whose(asked.patients if asked.patients in named else EVERYBODY, asked.patients, asked.source, "research")
    counted = {one.number for one in book.of(asked, named)}
    for number, one in enumerate(spent):
        same_table, same_name = one.source == asked.source, one.patients == asked.patients
        pooled = asked.population == EVERYBODY and one.patients not in named
        apart = asked.population in named and one.population == asked.population
        if same_table or (same_name and asked.population != EVERYBODY) or pooled or apart:
            assert number in counted
    everything = Account(99, "", "", "", Whose("", "", "", ""), cost(1), {1: 1})
    assert everything in Book({99: everything}).of(asked, named, "quality")


class Killed(BaseException):
    """The process ends here."""


class Machine(RuleBasedStateMachine):
    """Runs at one hospital, whose process is killed at any statement. What left is what the outbox ever held."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = TemporaryDirectory()
        self.folder = Folder.create(Path(self.temporary.name) / "site")
        self.folder.policy_file.write_text(f"policy: 1\nprivacy: {{budget: {{epsilon: {LIMIT.epsilon}}}}}\n")
        mapping = table(Path(self.temporary.name) / "data", seed=1, patients=2)
        self.folder.mappings.mkdir(exist_ok=True)
        (self.folder.mappings / "sums.yaml").write_text(mapping.read_text())
        self.noises: dict[str, float] = {}
        self.ended: set[str] = set()
        self.newest: dict[tuple[str, int], int] = {}
        self.trainings = 0
        self.patch = mock.patch.object(ledger, "cost_of", lambda study: cost(self.noises[study.name]))
        self.patch.start()
        self.begin()

    def begin(self) -> None:
        self.journal = Journal(self.folder.journal)
        self.ledger = Ledger(self.folder, self.journal)

    @contextlib.contextmanager
    def until(self, statement: int) -> Iterator[None]:
        """Kill the process at the n-th statement of the writer; it begins again from its files."""
        count = 0

        def counted(writing: Any, text: str, values: tuple[Any, ...]) -> Any:
            nonlocal count
            count += 1
            if count == statement:
                raise Killed
            return writing._db.execute(text, values)

        with mock.patch("consilium.site.journal.Writing.put", counted):
            try:
                yield
            except Killed:
                self.journal.close()
                self.begin()
            except Refused as error:
                assert error.reason in ("budget", "replayed")

    def task(self, run: str, number: int) -> tuple[Task, Plan]:
        name = run.rsplit("-", 1)[0]
        plan = Plan.of(study(name, rounds=ROUNDS))
        return Task(
            study=name, run=run, plan=plan.digest, round=number, kind="TRAIN", phase="SUBMIT", roster=("north",),
            state=STATE, initial=STATE, aggregate=None, deadline=NOW + timedelta(hours=1),
        ), plan  # fmt: skip

    def put(self, run: str, number: int, training: int) -> None:
        blob = {"digest": f"{training}", "size": 1, "path": "x"}
        with self.journal.write() as tx:
            tx.send("step", b"{}", {"study": "s", "run": run, "round": number}, NOW, blob)

    @initialize()
    def first(self) -> None:
        self.noises["s0"] = 2.0

    @rule(noise=st.sampled_from(NOISES))
    def offered(self, noise: float) -> None:
        self.noises.setdefault(f"s{len(self.noises)}", noise)

    @rule(data=st.data(), number=st.integers(1, ROUNDS), kill=st.integers(1, 14))
    def train(self, data: st.DataObject, number: int, kill: int) -> None:
        run = f"{data.draw(st.sampled_from(sorted(self.noises)))}-{data.draw(st.integers(1, 2))}"
        task, plan = self.task(run, number)
        self.trainings += 1
        with self.until(kill):
            self.ledger.reserve(task, plan, NOW)
            self.ledger.charge(task, plan, NOW)
            self.newest[run, number] = self.trainings
            self.put(run, number, self.trainings)

    @precondition(lambda self: self.newest)
    @rule(data=st.data())
    def mask_again(self, data: st.DataObject) -> None:
        """Another attempt of a round: the same update leaves once more."""
        run, number = data.draw(st.sampled_from(sorted(self.newest)))
        if run not in self.ended:
            self.put(run, number, self.newest[run, number])

    @rule(data=st.data(), kill=st.integers(1, 8))
    def end(self, data: st.DataObject, kill: int) -> None:
        run = f"{data.draw(st.sampled_from(sorted(self.noises)))}-{data.draw(st.integers(1, 2))}"
        with self.until(kill), self.journal.write() as tx:
            ledger.close(tx, run, NOW)
            tx.do("INSERT OR REPLACE INTO meta VALUES (?, 'ended')", f"run/{run}")
        if self.journal.meta(f"run/{run}"):
            self.ended.add(run)

    def left(self) -> list[tuple[str, int, int]]:
        rows = self.journal.rows("SELECT DISTINCT run, round, digest FROM outbox WHERE digest IS NOT NULL")
        return [(row["run"], row["round"], int(row["digest"])) for row in rows]

    @invariant()
    def at_least_what_left_is_counted_and_no_more_than_the_budget(self) -> None:
        left, book = self.left(), self.ledger.book
        for run, number in {(run, number) for run, number, _ in left}:
            trainings = [one for one in left if one[:2] == (run, number)]
            assert book.charged(run, number) >= len(trainings), "what left was counted"
        what_left = [load(self.noises[run.rsplit("-", 1)[0]]) for run, _, _ in left]
        assert LIMIT.admits(*what_left)
        assert LIMIT.admits(*(one.held for one in book.accounts.values()))

    @invariant()
    def an_ended_run_holds_only_what_may_have_left(self) -> None:
        sent = self.journal.rows(
            "SELECT run, round, count(*) AS n FROM outbox WHERE digest IS NOT NULL GROUP BY run, round"
        )
        most = {(row["run"], row["round"]): row["n"] for row in sent}
        for one in self.ledger.book.accounts.values():
            if one.run in self.ended:
                assert not one.open and one.ahead == 0
                assert all(times <= most.get((one.run, number), 0) for number, times in one.charged.items())

    def teardown(self) -> None:
        assert ledger.verify(self.journal) == self.ledger.book.seq
        audit.verify(self.journal.entries())
        self.journal.close()
        self.patch.stop()
        self.temporary.cleanup()


TestLedger = Machine.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_an_altered_ledger_is_found(tmp_path: Path) -> None:
    folder = Folder.create(tmp_path / "site")
    with contextlib.closing(Journal(folder.journal)) as journal:
        body = {"population": "everybody", "person": "Vera", "epsilon": 1.0, "delta": DELTA}
        for _ in range(3):
            with journal.write() as tx:
                ledger.enter(tx, "said", body, NOW)
        assert ledger.verify(journal) == 3
        with pytest.raises(sqlite3.IntegrityError, match="only grows"), journal.write() as tx:
            tx.do("DELETE FROM ledger WHERE seq = 3")
        with journal.write() as tx:
            tx.do("DROP TRIGGER ledger_is_whole")
            tx.do("DELETE FROM ledger WHERE seq = 3")
        with pytest.raises(AuditBroken, match="entry 3"):
            ledger.verify(journal)
        head, less = audit.START, {**body, "epsilon": 0.1}
        with journal.write() as tx:  # all of it anew, each entry chained to the one before
            tx.do("DELETE FROM ledger")
            for _ in range(3):
                entry = audit.append(head, kind="said", body=less, at=NOW)
                head = audit.head_of(entry.data)
                tx.do("INSERT INTO ledger VALUES (?, ?)", entry.seq, entry.data)
        with pytest.raises(AuditBroken, match="entry 1"):
            ledger.verify(journal)


def test_the_policy_names_populations_apart() -> None:
    policy = Policy.model_validate({"policy": 1, "privacy": {"populations": {"heart": {"epsilon": 2}}}})
    assert policy.privacy.of("heart") == ("heart", policy.privacy.populations["heart"])
    assert policy.privacy.of("lung") == policy.privacy.of(None) == (EVERYBODY, policy.privacy.budget)
    with pytest.raises(ValueError, match="everybody"):
        Policy.model_validate({"policy": 1, "privacy": {"populations": {"everybody": {}}}})
