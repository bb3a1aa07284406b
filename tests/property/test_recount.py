"""Whatever is charged, sent, copied and restored in whatever order: at least what left is charged."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.privacy.accountant import Sampled, curve
from consilium.privacy.ledger import Cost, Load
from consilium.site import ledger, recall
from consilium.site.folder import Folder
from consilium.site.journal import BEHIND, Journal
from consilium.site.ledger import Ledger
from consilium.site.recall import Recall
from consilium.wire.envelope import payload_of, seal
from consilium.wire.messages import Blob, Checkpoint, Step, Task
from e2e.federation import study, table

NOW = datetime(2030, 6, 1, tzinfo=UTC)
ONE = Load(curve(Sampled(20.0, 1.0, 1)))
RUN, ROUNDS = "sums-1", 3
STATE = Blob(digest=digest(b"a state"), size=1)
PLAN = Plan.of(study("sums", rounds=ROUNDS))
MOVES = ("train", "unheard", "killed", "mask", "part", "next", "copy", "restore", "sign", "end")


@pytest.fixture(scope="module", autouse=True)
def priced() -> Iterator[None]:
    price = Cost(ROUNDS, ONE, ONE, 1.0, 1.0, 1e-5, "a test")
    with mock.patch.object(ledger, "cost_of", lambda _: price), mock.patch.object(recall, "cost_of", lambda _: price):
        yield


class World:
    """A hospital whose journal is copied and restored, and an honest coordinator that asks for attempts of rounds.

    Args:    left: by round, which trainings left, in whatever journal that was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Folder.create(folder / "site")
        self.folder.policy_file.write_text("policy: 1\nprivacy: {budget: {epsilon: 1000}}\n")
        self.folder.mappings.mkdir(exist_ok=True)
        (self.folder.mappings / "sums.yaml").write_text(table(folder / "data", seed=1, patients=2).read_text())
        self.identity = self.folder.identity()
        self.copies, self.left, self.answers, self.heads = [], {}, [], []  # type: ignore[var-annotated]
        self.round, self.attempt, self.trainings, self.over, self.restores = 1, 0, 0, False, 0
        self.journal = Journal(self.folder.journal)
        with self.journal.write() as tx:
            tx.do("INSERT INTO studies (study, plan, payload, title, at) VALUES ('sums', ?, ?, '', '')", PLAN.digest,
                  PLAN.payload)  # fmt: skip

    def get(self, _: str) -> Any:
        sent = [{"study": "sums", "plan": PLAN.digest, "run": RUN, "answers": self.answers}]
        return {"checkpoints": self.heads, "sent": sent if self.answers else []}

    def task(self) -> Task:
        return Task(
            study="sums", run=RUN, plan=PLAN.digest, round=self.round, attempt=self.attempt, kind="TRAIN",
            phase="READY", roster=("north",), state=STATE, initial=STATE, aggregate=None, deadline=NOW,
        )  # fmt: skip

    def say(self, phase: str, attempt: int, body: dict[str, Any], heard: bool = True) -> None:
        step = Step(
            study="sums", run=RUN, plan=PLAN.digest, round=self.round, attempt=attempt, kind="TRAIN", phase=phase,
            body=body, vector=None,
        )  # fmt: skip
        envelope = seal(Step.TYPE, step.encode(), self.identity)
        blob = {"digest": digest(envelope), "size": 1, "path": "x"} if phase == "MASK" else None
        with self.journal.write() as tx:
            tx.send("step", envelope, {"study": "sums", "run": RUN, "round": self.round, "phase": phase}, NOW, blob)
        if heard:
            self.answers.append([self.round, attempt, phase, digest(envelope)])

    def move(self, what: str, which: int) -> None:
        match what:
            case "train" | "unheard" | "killed" if not self.over:
                self.attempt += 1
                book = Ledger(self.folder, self.journal)
                book.reserve(self.task(), PLAN, NOW)
                book.charge(self.task(), PLAN, NOW)
                self.trainings += 1
                if what != "killed":
                    self.say("READY", self.attempt, {"training": self.trainings}, what == "train")
            case "mask" if not self.over:
                self.mask(heard=True)
            case "part" if not self.over and self.mask(heard=False):
                self.sign()
            case "next" if not self.over and self.round < ROUNDS:
                self.round, self.attempt = self.round + 1, 0
            case "copy":
                copy = sqlite3.connect(":memory:")
                self.journal._db.backup(copy)
                self.copies.append(copy)
            case "restore" if self.copies:
                self.restore(self.copies[which % len(self.copies)])
            case "sign":
                self.sign()
            case "end" if not self.over:
                self.over = True
                self.ended()

    def mask(self, heard: bool) -> bool:
        """What was trained for the newest attempt leaves, if the coordinator has heard that it is ready.

        Args:    heard: whether all of it came; of a part the coordinator knows nothing.
        """
        ready = [one[3] for one in self.answers if one[:3] == [self.round, self.attempt, "READY"]]
        for row in self.journal.rows("SELECT envelope FROM outbox WHERE type = 'step' AND round = ?", self.round):
            if digest(bytes(row["envelope"])) in ready:
                step = json.loads(payload_of(bytes(row["envelope"]), Step.TYPE))
                self.left.setdefault(self.round, set()).add(step["body"]["training"])
                self.say("MASK", self.attempt, step["body"], heard)
                return True
        return False

    def sign(self) -> None:
        with self.journal.write() as tx:
            head = tx.head()
            tx.record("sent", {}, NOW)
        mark = Checkpoint(log="north", seq=head.seq, head=head.digest, at=NOW)
        self.heads.append(json.loads(seal(Checkpoint.TYPE, mark.encode(), self.identity)))

    def restore(self, copy: sqlite3.Connection) -> None:
        self.journal.close()
        for path in self.folder.home.glob("journal.sqlite*"):
            path.unlink()
        with contextlib.closing(sqlite3.connect(self.folder.journal)) as file:
            copy.backup(file)
        self.journal = Journal(self.folder.journal)
        self.restores += 1
        with self.journal.write() as tx:
            tx.record("restored", {"again": self.restores}, NOW)
        self.look()
        if self.restores % 2 and self.over:
            self.ended()
        recall.recount(self.journal, "Vera", NOW)
        if self.over:
            self.ended()
        self.look()
        assert self.journal.meta(BEHIND) == "", "it was said"

    def look(self) -> None:
        Recall("north", self.identity, self.journal, cast(Any, self)).look(NOW)

    def ended(self) -> None:
        with self.journal.write() as tx:
            ledger.close(tx, RUN, NOW)
            tx.keep(f"run/{RUN}", "ended")

    def charged(self, number: int) -> int:
        return Ledger(self.folder, self.journal).book.charged(RUN, number)

    def close(self) -> None:
        self.journal.close()
        for copy in self.copies:
            copy.close()


@pytest.mark.parametrize(
    "moves",
    [
        "killed copy train mask train mask restore end",
        "train mask copy train mask train mask restore end",
        "train copy part train mask restore end",
        "train copy part restore train mask end",
        "train mask copy train restore train mask restore next train copy mask restore end",
    ],
)
def test_at_least_what_left_is_charged(moves: str) -> None:
    played([(move, 0) for move in moves.split()])


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 3)), max_size=40))
def test_whatever_is_copied_and_restored_at_least_what_left_is_charged(moves: list[tuple[str, int]]) -> None:
    played(moves)


def played(moves: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        for what, which in moves:
            world.move(what, which)
            for number, trainings in world.left.items():
                assert world.charged(number) >= len(trainings), (what, number)
        world.look()
        assert world.journal.meta(BEHIND) == "", "what is all there is found whole"
        assert ledger.verify(world.journal) >= 0
        world.close()
