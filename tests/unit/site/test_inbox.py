"""What the coordinator says of a round that is over tells what became of the answer to it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, cast
from unittest.mock import Mock, patch

import pytest

from consilium.core.errors import (
    ConsiliumError,
    NotFound,
    ProtocolMismatch,
    Refused,
    StudyInvalid,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from consilium.core.ids import digest
from consilium.site.inbox import CHECKPOINT_EVERY, Inbox
from consilium.site.journal import Journal
from consilium.site.outbox import Outbox, Outgoing
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Checkpoint, Closed, Ended, Offer, Reopened, Task

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
BLOB = Blob(digest=digest(b"bytes"), size=1)
NONE = cast(Any, None)


@pytest.mark.parametrize("with_task", [False, True])
@pytest.mark.parametrize(("took_part", "became"), [(("north", "south"), "sent"), (("south",), "late")])
def test_an_answer_that_took_part_was_sent_even_when_its_receipt_was_lost(
    tmp_path: Path, took_part: tuple[str, ...], became: str, with_task: bool
) -> None:
    """`site sent` says the truth of it: the agent died, or hears of the end before it hears of the receipt."""
    journal, coordinator = Journal(tmp_path / "journal"), Identity.create(tmp_path / "key")
    for run, number in (("sums-1", 1), ("sums-1", 2), ("sums-1", 3), ("sums-2", 2)):
        with journal.write() as tx:
            tx.send("answer", b"{}", {"study": "sums", "run": run, "round": number}, NOW)
    outbox = Outbox(journal, NONE, NONE, Event(), Outgoing())
    inbox = Inbox(
        "north", coordinator.public, NONE, journal, NONE, NONE, NONE, work=Event(), outbox=outbox, witness=NONE
    )
    place: dict[str, Any] = {
        "to": "north",
        "number": 1,
        "study": "sums",
        "run": "sums-1",
        "aggregate": BLOB,
        "state": BLOB,
    }
    closed: Closed | Task = Closed(round=2, kind="TRAIN", took_part=took_part, **place)
    if with_task:
        closed = Task(
            round=3, plan=BLOB.digest, kind="TRAIN", phase="SUBMIT", roster=("north",), initial=BLOB, deadline=NOW,
            closing={"kind": "TRAIN", "took_part": took_part}, **place,
        )  # fmt: skip
    inbox.take(1, json.loads(seal(closed.TYPE, closed.encode(), coordinator)), NOW)
    rows = journal.rows("SELECT run, round, status FROM outbox ORDER BY id")
    closings = journal.rows("SELECT run, round, aggregate, state FROM closings")
    tasks = journal.rows("SELECT round, status FROM tasks")
    journal.close()
    assert [tuple(row) for row in closings] == [("sums-1", 2, BLOB.digest, BLOB.digest)]
    assert [tuple(row) for row in tasks] == [(3, "todo")] * with_task
    assert [(row["run"], row["round"], row["status"]) for row in rows] == [
        ("sums-1", 1, "late"), ("sums-1", 2, became), ("sums-1", 3, "waiting"), ("sums-2", 2, "waiting"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "became"),
    [
        (Unavailable("out of reach", ""), None), (Unauthenticated("the clock is wrong", ""), None),
        (ProtocolMismatch("one side speaks 2", ""), None), (Refused("this site is not admitted", ""), None),
        (NotFound("not here", ""), "plan"), (TooLarge("too much came", ""), "plan"),
        (StudyInvalid("no plan", ""), "plan"),
    ],
)  # fmt: skip
def test_an_offer_is_passed_over_for_its_plan_alone_and_else_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ConsiliumError, became: str | None
) -> None:
    """A hospital whose clock was wrong when a study was offered would never see it."""

    def fetch(*_: object) -> bytes:
        raise error

    monkeypatch.setattr("consilium.site.inbox.fetch", fetch)
    journal, coordinator = Journal(tmp_path / "journal"), Identity.create(tmp_path / "key")
    inbox = Inbox("north", coordinator.public, NONE, journal, NONE, NONE, NONE, work=Event(), outbox=NONE, witness=NONE)
    offer = Offer(study="sums", plan=BLOB, title="", to="north", number=1)
    envelope = json.loads(seal(offer.TYPE, offer.encode(), coordinator))
    if became is None:
        with pytest.raises(type(error)):
            inbox.take(1, envelope, NOW)
    else:
        inbox.take(1, envelope, NOW)
    told = [json.loads(entry)["body"]["why"] for entry in journal.entries()]
    assert told == ([became] if became else []) and journal.meta("inbox", "0") == ("1" if became else "0")
    journal.close()


def test_what_is_not_the_coordinators_word_for_this_place_is_not_believed(tmp_path: Path) -> None:
    """Whoever is in between holds what the coordinator said to others, before, or elsewhere; and keys of its own."""
    journal, (coordinator, mine, thief) = Journal(tmp_path / "journal"), (Identity.create(tmp_path / n) for n in "cmt")
    outbox = Outbox(journal, NONE, NONE, Event(), Outgoing())
    inbox = Inbox(
        "north", coordinator.public, mine, journal, NONE, NONE, NONE, work=Event(), outbox=outbox, witness=Mock()
    )

    def said(number: int, before: str | None, to: str = "north", by: Identity = coordinator) -> dict[str, Any]:
        mark = Checkpoint(log="coordinator", seq=number, head=BLOB.digest, at=NOW, to=to, number=number, before=before)
        return dict(json.loads(seal(Checkpoint.TYPE, mark.encode(), by)))

    def refused(envelope: dict[str, Any]) -> str:
        with pytest.raises(Unavailable):
            inbox.take(2, envelope, NOW)
        assert journal.meta("inbox") == "1" and len(journal.rows("SELECT seq FROM marks")) == 1
        bodies = [json.loads(entry)["body"] for entry in journal.entries()]
        return str([body["why"] for body in bodies if "why" in body][-1])

    inbox.take(1, said(1, None), NOW)
    before = journal.meta("inbox/last")
    unsigned = {**said(2, before), "signatures": []}
    elsewhere = (said(2, before, to="south"), said(3, before), said(1, None))
    assert [refused(one) for one in (said(2, before, by=thief), unsigned, {})] == ["not-signed"] * 3
    assert [refused(one) for one in elsewhere] == ["out-of-place"] * 3
    assert [refused(said(2, other)) for other in (None, digest(b"another"))] == ["inbox-rewritten"] * 2
    inbox.take(2, said(2, before), NOW)
    assert journal.meta("inbox") == "2" and [row["why"] for row in journal.rows("SELECT why FROM alarms")] == [
        "inbox-rewritten"
    ]
    # The one message that need not name the one before it: and it, too, holds for its own place alone.
    lost = Reopened(by="root", at=NOW, seq=2, head=BLOB.digest, kept=0, runs=(), to="north", number=3, before=None)
    opened = dict(json.loads(seal(Reopened.TYPE, lost.encode(), coordinator)))
    inbox.take(3, opened, NOW)
    assert journal.meta("inbox") == "3"
    with pytest.raises(Unavailable):
        inbox.take(4, opened, NOW)
    assert journal.meta("inbox") == "3"
    journal.close()


def test_no_message_is_passed_over_and_a_coordinator_that_went_back_is_told_of(tmp_path: Path) -> None:
    journal, mine = Journal(tmp_path / "journal"), Identity.create(tmp_path / "key")
    outbox = Outbox(journal, NONE, NONE, Event(), Outgoing())
    inbox = Inbox("north", "", mine, journal, NONE, Mock(), Mock(), work=Event(), outbox=outbox, witness=NONE)

    def page(*numbers: int, **more: Any) -> bytes:
        return json.dumps({"items": [{"seq": one, "envelope": {}} for one in numbers], **more}).encode()

    assert [seq for seq, _ in inbox.read(page(4, 5), 3)] == [4, 5] and inbox.read(page(), 3) == []
    for wrong in (page(5), page(4, 6), page(3, 4), page(5, 4), page(4, 4), b"[]"):
        with pytest.raises(Unavailable):
            inbox.read(wrong, 3)
    assert inbox.read(page(newest=3), 3) == [] and journal.rows("SELECT why FROM alarms") == []
    with pytest.raises(Unavailable, match="knows of 2 only"):
        inbox.read(page(newest=2), 3)
    assert [row["why"] for row in journal.rows("SELECT why FROM alarms")] == ["inbox-went-back"]
    journal.close()


class Hearing:
    """A hospital's inbox; `says` lets the coordinator say something, and gives whether it was kept durably."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.coordinator = Journal(folder / "journal"), Identity.create(folder / "key")
        outbox = Outbox(self.journal, NONE, NONE, Event(), Outgoing())
        of: Any = {"work": Event(), "outbox": outbox, "witness": Mock()}
        mine = Identity.create(folder / "mine")
        self.inbox = Inbox("north", self.coordinator.public, mine, self.journal, NONE, Mock(), Mock(), **of)
        self.number, self.before = 0, cast(str | None, None)

    def says(self, kind: Any, /, **more: Any) -> bool:
        self.number += 1
        message = kind(**more, to="north", number=self.number, before=self.before)
        write, durable = self.journal.write, list[bool]()

        def written(**how: bool) -> Any:
            durable.append(how.get("durable", True))
            return write(**how)

        with patch.object(self.journal, "write", written):
            self.inbox.take(self.number, json.loads(seal(kind.TYPE, message.encode(), self.coordinator)), NOW)
        self.before = self.journal.meta("inbox/last")
        return durable == [True]

    def tasks(self, run: str, number: int) -> bool:
        of: Any = {"study": "sums", "plan": BLOB.digest, "run": run, "round": number, "kind": "TRAIN"}
        of |= {"phase": "SUBMIT", "roster": ("north",), "initial": BLOB, "state": BLOB, "aggregate": None}
        return self.says(Task, deadline=NOW, **of)

    def closes(self, run: str, number: int, *took_part: str) -> bool:
        of: Any = {"study": "sums", "run": run, "round": number, "kind": "TRAIN", "took_part": took_part}
        return self.says(Closed, aggregate=BLOB, state=BLOB, **of)

    def open(self) -> list[tuple[str, int]]:
        return [(row["run"], row["round"]) for row in self.journal.rows("SELECT * FROM tasks WHERE status = 'todo'")]


@pytest.fixture
def hearing(tmp_path: Path) -> Iterator[Hearing]:
    made = Hearing(tmp_path)
    yield made
    made.journal.close()


def test_a_task_takes_the_place_of_the_one_before_of_its_run_and_of_no_other(hearing: Hearing) -> None:
    for run, number in (("sums-1", 1), ("sums-2", 1), ("sums-1", 1), ("sums-1", 2)):
        hearing.tasks(run, number)
    assert hearing.open() == [("sums-2", 1), ("sums-1", 2)]


def test_what_is_told_once_is_kept_at_once_and_what_is_asked_again_need_not_be(hearing: Hearing) -> None:
    assert not hearing.tasks("sums-1", 1) and not hearing.closes("sums-1", 1, "north")
    assert hearing.closes("sums-1", CHECKPOINT_EVERY, "north"), "its head goes to the coordinator"
    told: Any = {"study": "sums", "run": "sums-1", "status": "finished", "reason": "", "state": BLOB}
    assert hearing.says(Ended, **told) and hearing.says(Checkpoint, log="coordinator", seq=1, head=BLOB.digest, at=NOW)


def test_a_run_that_goes_on_after_a_loss_gives_nothing_back(hearing: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = list[str]()
    monkeypatch.setattr("consilium.site.inbox.ledger.close", lambda tx, run, now: closed.append(run))
    for run in ("sums-1", "sums-2"):
        hearing.tasks(run, 1)
    hearing.says(Reopened, by="root", at=NOW, seq=2, head=BLOB.digest, kept=0, runs=("sums-1",))
    assert closed == ["sums-2"] and hearing.open() == []
