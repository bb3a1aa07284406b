"""A download that is cut, and one for which there is no room: what came is kept, and told of."""

from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consilium.core.errors import Refused, Unavailable
from consilium.core.ids import digest
from consilium.wire.connection import Connection, Patience
from consilium.wire.transfer import download

DATA = bytes(range(256)) * 16


class Cutting:
    """Sends a blob, and cuts the line after so many pieces of 256 bytes."""

    ends: bytes | OSError = OSError("cut")

    def __init__(self, pieces: int) -> None:
        self.pieces, self.asked = pieces, list[int]()

    def request(self, method: str, path: str, body: None, headers: dict[str, str], **_: Any) -> Any:
        at = int(headers.get("Range", "bytes=0-")[6:-1])
        self.asked.append(at)
        left = [DATA[one : one + 256] for one in range(at, len(DATA), 256)]
        parts = iter([*left[: self.pieces], *([self.ends] if len(left) > self.pieces else []), b""])

        def read(_: int) -> bytes:
            if isinstance(part := next(parts), OSError):
                raise part
            return cast(bytes, part)

        told = {"Content-Length": str(len(DATA) - at)}
        return SimpleNamespace(status=206 if at else 200, headers=told, read=read, close=lambda: None)


def test_what_comes_before_each_cut_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command gives up after cuts in a row of which nothing comes, and not on a line that only is bad."""
    monkeypatch.setattr("threading.Event.wait", lambda *_: False)
    line, stop = Cutting(1), Patience(2)
    count = download(cast(Connection, line), digest(DATA), tmp_path / "blob", stop, stop.moved)
    assert count == len(DATA) and (tmp_path / "blob").read_bytes() == DATA
    assert line.asked == list(range(0, len(DATA), 256)), "each goes on where the last one ended"
    dead = Cutting(0)
    with pytest.raises(Unavailable):
        download(cast(Connection, dead), digest(DATA), tmp_path / "other", stop := Patience(2), stop.moved)
    assert len(dead.asked) == 2


def test_what_an_earlier_process_fetched_is_read_again_and_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "blob.part").write_bytes(DATA[:1024])
    line = Cutting(1 << 20)
    assert download(cast(Connection, line), digest(DATA), tmp_path / "blob", Event()) == len(DATA) - 1024
    assert (tmp_path / "blob").read_bytes() == DATA and line.asked == [1024]


def test_what_ends_early_without_a_word_goes_on_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.Event.wait", lambda *_: False)
    (tmp_path / "blob.part").write_bytes(DATA[:1024])
    line = Cutting(1)
    line.ends = b""
    download(cast(Connection, line), digest(DATA), tmp_path / "blob", Event())
    assert (tmp_path / "blob").read_bytes() == DATA and line.asked == list(range(1024, len(DATA), 256))


def test_a_full_disk_is_no_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked for again and again: who waits hears that there is no room."""
    (tmp_path / "blob.part").symlink_to("/dev/full")
    line = Cutting(1 << 20)
    monkeypatch.setattr("consilium.wire.transfer._Hashed.add", lambda *_: None)
    with pytest.raises(Refused, match=r"blob.part cannot be written: No space left on device") as told:
        download(cast(Connection, line), digest(DATA), tmp_path / "blob", Event())
    assert told.value.reason == "disk" and len(line.asked) == 1
