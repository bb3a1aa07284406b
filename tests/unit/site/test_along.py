"""What is made within moments of a task goes with the question what comes next; nothing is lost or sent twice by it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from consilium.core.errors import ConsiliumError, Invalid, Unavailable
from consilium.core.ids import digest
from consilium.site.journal import Journal
from consilium.site.outbox import Outbox, Outgoing

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
ABOUT = {"study": "sums", "run": "sums-1", "round": 1}
ASKED = {"after": 4, "wait": 3.0}
SMALL = b"an update"


class Case:
    """An outbox; what a coordinator was sent by `along`, whose answer is the page, or is raised."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal, self.sent = folder, Journal(folder / "journal"), list[tuple[str, bytes, Any]]()
        self.stands, self.error, self.meanwhile = True, cast(ConsiliumError | None, None), cast(Any, lambda: None)
        self.outbox = Outbox(self.journal, cast(Any, self), cast(Any, self), Event(), Outgoing())
        self.veto = self

    def exchange(self, path: str, data: bytes, query: Any, *, limit_s: float) -> bytes:
        self.sent.append((path, data, query))
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return b"the page"

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
    made.outbox.veto = cast(Any, type("Stands", (), {"stands": lambda _, *of: made.stands})())
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
    assert case.told() == b"the page" and case.sent == [(path, data, ASKED)]
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


def test_what_approval_or_policy_no_longer_allow_does_not_leave(case: Case) -> None:
    case.put("answer", blob=SMALL)
    case.stands = False
    assert case.told() is None and case.sent == [] and case.status() == ["waiting"]


def test_what_was_withdrawn_on_its_way_is_not_said_to_be_sent(case: Case) -> None:
    case.put("answer", blob=SMALL)

    def withdrawn() -> None:
        with case.journal.write() as tx:
            tx.do("UPDATE outbox SET status = 'withdrawn'")
        case.outbox.recheck()

    case.meanwhile = withdrawn
    assert case.told() == b"the page" and case.status() == ["withdrawn"]


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
