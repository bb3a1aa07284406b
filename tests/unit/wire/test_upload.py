"""An upload goes on from where the coordinator stands, whatever answers in between; what is given up does not leave."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.core.errors import DigestMismatch, Unavailable
from consilium.core.ids import Digest, digest
from consilium.wire import connection, transfer
from consilium.wire.connection import Connection, Patience
from consilium.wire.transfer import FRESH, upload

DATA = bytes(range(256)) * (2 * FRESH // 256)
PIECE = 1 << 10
Meets = Callable[["Taking", Any], Any]


class Taking:
    """A coordinator that takes one upload; `meets` say what comes of the first requests instead."""

    def __init__(self, *meets: Meets, name: Digest | None = None) -> None:
        self.meets, self.name, self.data = list(meets), name or digest(DATA), b""
        self.asked = list[tuple[str, int]]()

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **_: Any) -> Any:
        self.asked.append((method, int((headers or {}).get("Upload-Offset", "-1"))))
        if self.meets and (told := self.meets.pop(0)(self, body)) is not None:
            return told
        while body is not None and (part := body.read(PIECE)):
            self.data += part
        if len(self.data) == len(DATA) and digest(self.data) != self.name:
            self.data = b""
            raise DigestMismatch("other bytes", "send them again")
        return self.stands(200 if len(self.data) == len(DATA) else 404)

    def stands(self, status: int) -> Any:
        return SimpleNamespace(status=status, headers={"Upload-Offset": str(len(self.data))})


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("consilium.wire.connection.random.uniform", lambda *_: 0.0)  # nobody is waited for
    (tmp_path / "update").write_bytes(DATA)
    return tmp_path / "update"


def sent(path: Path, at: Taking, stop: Event | None = None) -> int:
    return upload(cast(Connection, at), path, at.name, stop or Event())


def cut(at: Taking, body: Any) -> None:
    at.data += body.read(PIECE) if body is not None else b""
    raise Unavailable("cut", "")


def nothing(at: Taking, body: Any) -> None:
    """Nothing unusual."""


def test_it_goes_on_where_it_was_cut(path: Path) -> None:
    at = Taking(nothing, cut)
    sent(path, at)
    assert at.data == DATA and at.asked == [("HEAD", -1), ("PATCH", 0), ("HEAD", -1), ("PATCH", PIECE)]


def test_who_answers_without_saying_where_the_upload_stands_is_not_the_coordinator(path: Path) -> None:
    at = Taking(lambda *_: SimpleNamespace(status=404, headers={}))
    assert sent(path, at) == len(DATA) and at.data == DATA


@pytest.mark.parametrize("stands", [0, len(DATA)])
def test_where_another_request_has_the_upload_it_is_asked_again_and_not_said_to_have_arrived(
    stands: int, path: Path
) -> None:
    busy = lambda *_: SimpleNamespace(status=409, headers={"Upload-Offset": str(stands)})  # noqa: E731
    at = Taking(nothing, busy, nothing)
    sent(path, at)
    assert at.data == DATA and [method for method, _ in at.asked] == ["HEAD", "PATCH", "HEAD", "PATCH"]


def test_what_was_altered_on_the_way_is_sent_again_and_what_is_not_what_its_name_says_is_not(path: Path) -> None:
    def altered(at: Taking, body: Any) -> None:
        while body.read(PIECE):
            pass
        raise DigestMismatch("other bytes", "send them again")

    at = Taking(nothing, altered, nothing, altered)
    assert sent(path, at) == len(DATA) and at.data == DATA
    wrong = Taking(name=digest(b"another file"))
    with pytest.raises(DigestMismatch):
        sent(path, wrong)
    assert [method for method, _ in wrong.asked] == ["HEAD", "PATCH"], "no second time: it would be the same"


def test_what_is_given_up_in_the_middle_of_a_request_does_not_leave_to_its_last_byte(path: Path) -> None:
    stop, at = Event(), Taking()

    def withdrawn(_: Taking, body: Any) -> None:
        at.data += body.read(PIECE)
        stop.set()

    at.meets = [nothing, withdrawn]
    with pytest.raises(Unavailable):
        sent(path, at, stop)
    assert at.data == DATA[:PIECE]


def test_one_request_carries_so_much_at_most(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "REQUEST", len(DATA) // 2)
    at = Taking()
    sent(path, at)
    assert at.data == DATA and at.asked == [("HEAD", -1), ("PATCH", 0), ("PATCH", len(DATA) // 2)]


@pytest.mark.parametrize(("stop", "lines"), [(Event(), 1), (Patience(50), 0)])
def test_what_is_tried_in_vain_for_long_is_told_once_by_who_works_unseen(
    stop: Event, lines: int, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where a coordinator answers questions and its disk has no room for answers: all else looked well."""
    seconds = iter(range(0, 1000, 4))
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(connection.random, "uniform", lambda *_: 0.0)
    for cuts, told in ((2, 0), (9, lines)):
        caplog.clear()
        at = Taking(*[cut] * cuts)
        sent(path, at, stop)
        assert [one.getMessage() for one in caplog.records] == ["in vain so far, and tried again: cut"] * told
