"""What is made within moments of a task goes with the question what comes next; nothing is lost or sent twice by it."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.core.errors import ConsiliumError, Invalid, Unavailable
from consilium.core.ids import digest
from consilium.site.agent import AT_ONCE_S, IDLE_WAIT_S, WAIT_S, Agent
from consilium.site.journal import Journal
from consilium.site.outbox import Outbox, Outgoing, _Either

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
ABOUT = {"study": "sums", "run": "sums-1", "round": 1}
ASKED = {"after": 4, "wait": 3.0}
SMALL, PAGE = b"an update", b'{"items":[]}'


class Case:
    """An outbox; what a coordinator was sent by `along`, whose answer is the page, or is raised."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal, self.sent = folder, Journal(folder / "journal"), list[tuple[str, bytes, Any]]()
        self.answer = PAGE
        self.stands, self.error, self.meanwhile = True, cast(ConsiliumError | None, None), cast(Any, lambda: None)
        self.outbox = Outbox(self.journal, cast(Any, self), cast(Any, self), Event(), Outgoing())
        self.veto = self

    def exchange(self, path: str, data: bytes, query: Any, *, limit_s: float) -> bytes:
        self.sent.append((path, data, query))
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return self.answer

    def post(self, path: str, body: Any = None, *, raw: bytes = b"") -> None:
        self.sent.append((path, raw, None))

    def put(self, kind: str, *, blob: bytes | None = None, held: bool = True) -> None:
        """Made while the thread that receives expects it."""
        self.outbox.wake.expect()
        path = self.folder / f"{kind}.safetensors"
        about = None
        with self.journal.write() as tx:
            if blob is not None:
                path.write_bytes(blob)
                about = {"digest": digest(blob), "size": len(blob), "path": str(path)}
                if held:
                    tx.hold(path)
            tx.send(kind, b"{}", ABOUT, NOW, about)
        self.outbox.wake.set()

    def status(self) -> list[str]:
        return [row["status"] for row in self.journal.rows("SELECT status FROM outbox ORDER BY id")]

    def told(self) -> bytes | None:
        return self.outbox.along(ASKED, 0.0, 5.0)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(tmp_path)
    made.outbox.veto = cast(Any, type("Stands", (), dict.fromkeys(("stands", "tells"), lambda _, *of: made.stands))())
    return made


@pytest.mark.parametrize(
    ("kind", "blob", "path", "data"),
    [("answer", SMALL, "/v1/answers", b"{}\n" + SMALL), ("step", None, "/v1/envelopes", b"{}")],
)
def test_a_small_answer_brings_what_comes_next(
    case: Case, kind: str, blob: bytes | None, path: str, data: bytes
) -> None:
    case.put(kind, blob=blob)
    assert not case.outbox.wake.is_set(), "nobody else is woken for it"
    taken: list[Any] = []
    case.meanwhile = lambda: taken.append(case.outbox._taken())
    assert case.told() == PAGE and case.sent == [(path, data, ASKED)]
    assert taken == [None], "nobody else sends it meanwhile"
    assert case.status() == ["sent"] and case.outbox.wake.is_set(), "what a round left is removed while it is waited"


OTHERS: list[Callable[[Case], None]] = [
    lambda case: case.put("checkpoint"),
    lambda case: (case.put("refusal"), case.put("answer", blob=SMALL))[0],
    lambda case: case.put("answer", blob=SMALL, held=False),
    lambda case: case.outbox.wake.expect(),
]


@pytest.mark.parametrize("put", OTHERS)
def test_what_is_large_or_waits_behind_another_is_left_to_who_sends(case: Case, put: Callable[[Case], None]) -> None:
    put(case)
    assert case.told() is None and case.sent == []
    assert set(case.status()) <= {"waiting"} and case.outbox.wake.is_set() == bool(case.status())


@pytest.mark.parametrize("error", [Unavailable("the line died", ""), Invalid("a value is not finite", "")])
def test_what_is_not_known_to_have_arrived_is_sent_by_who_sends(case: Case, error: ConsiliumError) -> None:
    """Who sends tries again, or hears the refusal and tells of it."""
    case.put("answer", blob=SMALL)
    case.error = error
    assert case.told() is None and case.status() == ["waiting"] and case.outbox.wake.is_set()
    row = case.outbox._taken()
    assert row is not None and row["status"] == "waiting"


@pytest.mark.parametrize(("kind", "blob"), [("answer", SMALL), ("step", SMALL), ("step", None)])
def test_what_approval_or_policy_no_longer_allow_does_not_leave(case: Case, kind: str, blob: bytes | None) -> None:
    case.put(kind, blob=blob)
    case.stands = False
    assert case.told() is None and case.sent == [] and case.status() == ["waiting"]


@pytest.mark.parametrize("kind", ["answer", "figures", "decision"])
@pytest.mark.parametrize("became", ["withdrawn", "late"])
def test_what_is_withdrawn_once_it_was_taken_to_be_sent_does_not_leave(
    case: Case, monkeypatch: pytest.MonkeyPatch, became: str, kind: str
) -> None:
    """By either way, and whatever approval and policy say."""
    case.put(kind, blob=SMALL if kind == "answer" else None)
    row = case.outbox._taken()
    assert row is not None
    with case.journal.write() as tx:
        tx.do("UPDATE outbox SET status = ?", became)
    monkeypatch.setattr(case.outbox, "_taken", lambda **_: row)
    assert case.told() is None and case.sent == []
    case.outbox._sending[row["id"]] = ("sums-1", 1, _Either(Event()))
    case.outbox._send(row)
    assert case.sent == [] and case.status() == [became]


def test_what_is_withdrawn_while_its_bytes_are_sent_is_not_answered_with(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put("answer", blob=SMALL, held=False)
    row = case.outbox._taken()

    def sent(*_: Any) -> None:
        with case.journal.write() as tx:
            tx.do("UPDATE outbox SET status = 'withdrawn'")

    monkeypatch.setattr("consilium.site.outbox.upload", sent)
    assert row is not None
    case.outbox._send(row)
    assert case.sent == [] and case.status() == ["withdrawn"]


@pytest.mark.parametrize(("run", "number", "ends"), [("sums-1", 1, True), ("sums-1", 0, False), ("sums-2", 1, False)])
def test_what_is_being_sent_for_a_round_that_is_over_is_given_up(case: Case, run: str, number: int, ends: bool) -> None:
    case.put("answer", blob=SMALL)
    row = case.outbox._taken()
    assert row is not None
    case.outbox.late(run, number)
    assert case.outbox._sending[row["id"]][2].is_set() == ends and case.status() == ["late" if ends else "waiting"]


def test_bytes_that_changed_in_the_journal_are_not_sent_as_what_they_were(case: Case) -> None:
    case.put("answer", blob=SMALL)
    with case.journal.write() as tx:
        tx.do("UPDATE small SET data = ?", b"another one")
    assert case.told() is None and case.sent == [] and case.status() == ["waiting"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [(b'{"status":"accepted"}', "sent"), (b"<html>Log in to the guests' network</html>", "waiting")],
)
def test_an_answer_that_is_no_page_lets_the_question_be_asked_by_itself(case: Case, answer: bytes, status: str) -> None:
    """A coordinator of an earlier release takes it and tells nothing; who is no coordinator has taken nothing."""
    case.put("answer", blob=SMALL)
    case.answer = answer
    assert case.told() is None and case.status() == [status]


@pytest.mark.parametrize("became", ["withdrawn", "late"])
def test_what_arrived_is_said_to_be_sent_whatever_was_said_meanwhile(case: Case, became: str) -> None:
    """People must not read that it was withdrawn when the coordinator has it."""
    case.put("answer", blob=SMALL)

    def withdrawn() -> None:
        with case.journal.write() as tx:
            tx.do("UPDATE outbox SET status = ?", became)
        case.outbox.recheck()

    case.meanwhile = withdrawn
    assert case.told() == PAGE and case.status() == ["sent"]


def test_nobody_misses_that_there_is_more() -> None:
    """Whenever it is said: who receives hears of it, or who sends."""
    wake = Outgoing()
    wake.set()
    assert wake.is_set() and not wake.first(0.0), "nothing was expected"
    wake.clear()
    wake.expect()
    wake.set()
    assert not wake.is_set() and wake.first(0.0)
    wake.expect()
    assert not wake.first(0.0)
    wake.set()
    assert wake.is_set()


def agent(wake: Outgoing, stop: Event) -> Any:
    """What an agent listens with."""
    outbox = SimpleNamespace(wake=wake, recheck=lambda: None)
    worker = SimpleNamespace(wake=Event(), changed=Event(), active=False)
    return SimpleNamespace(stop=stop, _outbox=outbox, _worker=worker, _witness=SimpleNamespace(wake=Event()))


@pytest.mark.parametrize("why", ["the agent stops", "a person decided"])
def test_who_sends_is_woken_by_people_while_what_is_made_for_a_task_is_expected(why: str) -> None:
    wake, stop = Outgoing(), Event()
    wake.expect()
    mine = agent(wake, stop)
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb", buffering=0) as bell, os.fdopen(writes, "wb", buffering=0) as rings:
        if why == "a person decided":
            rings.write(b"x")
            woken = list[bool]()
            mine._worker.wake.set = lambda: (woken.append(wake.is_set()), stop.set())
        else:
            stop.set()
            woken = [True]
        Agent._listen(mine, bell)
    assert woken[0] and wake.is_set()


def test_a_task_is_waited_for_once_and_what_comes_after_it_is_not_waited_for_long() -> None:
    """While a site trains for long it asks what comes next without a pause between two questions."""
    asked = list[tuple[float, float]]()
    mine = agent(Outgoing(), Event())
    mine._inbox = SimpleNamespace(asked=True)
    mine._outbox.along = lambda query, seconds, limit_s: asked.append((seconds, query["wait"]))
    mine._connection = SimpleNamespace(read=lambda *_, **__: PAGE)
    assert [Agent._next(mine, 4), Agent._next(mine, 4)] == [PAGE, PAGE]
    assert asked == [(AT_ONCE_S, WAIT_S), (0.0, IDLE_WAIT_S)]
