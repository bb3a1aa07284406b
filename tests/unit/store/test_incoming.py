"""One upload through several processes, whose lines die at any byte: a blob is what its name says, or is not there."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Conflict, ConsiliumError, DigestMismatch, NotFound
from consilium.core.ids import digest
from consilium.durable import Ahead
from consilium.store.blobs import Directory, Stored
from consilium.store.incoming import Incoming

DATA = bytes(range(24))
NAME = digest(DATA)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
Step = tuple[str, int, int, bytes]
STEPS = st.tuples(
    st.sampled_from(["begin", "send", "late", "complete", "restart"]), st.integers(0, 1), st.integers(0, 24),
    st.binary(min_size=1, max_size=9),
)  # fmt: skip


class Uploading:
    """Two processes, one sender, and all requests that it ever made: none of them is known to have ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = [Directory(folder), Directory(folder)]
        self.lines: list[tuple[int, int, Callable[[bytes], None]]] = []
        self.open = contextlib.ExitStack()

    def do(self, what: str, at: int, number: int, other: bytes) -> None:
        process = self.processes[at]
        if what == "restart":
            self.processes[at] = Directory(self.folder)
        elif what == "complete":
            process.complete("site:north", NAME)
        elif what == "begin":
            offset = process.offset("site:north", NAME)
            write = self.open.enter_context(process.append("site:north", NAME, offset, len(DATA)))
            self.lines.append((at, offset, write))
        elif self.lines:  # right bytes from where a request began, or any others, by the newest request or by any
            _, offset, write = self.lines[-1 if what == "send" else number % len(self.lines)]
            write(DATA[offset : offset + number] if what == "send" else other)

    def sound(self) -> None:
        with contextlib.suppress(NotFound):
            assert self.processes[0].path(NAME).read_bytes() == DATA


def sends_all(process: Directory) -> Stored | None:
    """As a site does: from where the upload stands; once more where something spoiled it."""
    for _ in range(3):
        with contextlib.suppress(DigestMismatch):
            offset = process.offset("site:north", NAME)
            with process.append("site:north", NAME, offset, len(DATA)) as write:
                write(DATA[offset:])
            return process.complete("site:north", NAME)
    return None


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=14), st.integers(0, 1))
def test_whatever_dies_where_a_blob_is_what_its_name_says_and_can_be_sent(steps: list[Step], last: int) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        uploading = Uploading(Path(folder))
        with uploading.open:
            for step in steps:
                with contextlib.suppress(ConsiliumError):
                    uploading.do(*step)
                uploading.sound()
            assert sends_all(uploading.processes[last]) == Stored(NAME, len(DATA))
            for _, _, write in uploading.lines:  # what still lies in buffers comes when all is done, and is anything
                with contextlib.suppress(ConsiliumError):
                    write(b"?")
                uploading.sound()
            uploading.processes[0].path(NAME)
            assert not list(Path(folder).glob("incoming/*/*"))


def test_what_one_process_has_of_an_upload_when_another_goes_on_is_not_completed_by_it(tmp_path: Path) -> None:
    """It may have all the bytes, and be checking them."""
    here, other = Directory(tmp_path), Directory(tmp_path)
    with here.append("site:north", NAME, 0, len(DATA)) as write:
        write(DATA)
    with other.append("site:north", NAME, len(DATA), len(DATA)):
        with pytest.raises(ConsiliumError, match="another process goes on"):
            here.complete("site:north", NAME)
        assert other.complete("site:north", NAME) == Stored(NAME, len(DATA))
    assert here.path(NAME).read_bytes() == DATA


def test_one_process_alone_reads_no_byte_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, how: read.append(file) or hashlib.sha256(file.read()))
    one = Directory(tmp_path)
    for start in (0, 8, 16):  # in several requests
        with one.append("site:north", NAME, start, len(DATA)) as write:
            write(DATA[start : start + 8])
    assert one.complete("site:north", NAME) == Stored(NAME, len(DATA)) and not read
    with one.append("site:south", NAME, 0, len(DATA)) as write:
        write(DATA[:8])
    other = Directory(tmp_path)
    with other.append("site:south", NAME, 8, len(DATA)) as write:
        write(DATA[8:])
    assert other.complete("site:south", NAME) == Stored(NAME, len(DATA)) and len(read) == 1


def test_what_a_full_disk_took_in_part_is_written_anew_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pwrite, room = tmp_path / "piece", os.pwrite, 5
    path.touch()

    def full(handle: int, data: Any, at: int) -> int:
        if at + 1 > room:
            raise OSError(28, "No space left on device")
        return pwrite(handle, bytes(data)[: room - at], at)

    upload = Incoming(path, len(DATA))
    turn = upload.take_over()
    with path.open("r+b", buffering=0) as file:
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            upload.write(file, DATA, turn, Ahead(file))
        assert upload.size == 0
        room = 99
        upload.write(file, DATA, turn, Ahead(file))
    with path.open("rb") as file:
        assert upload.digest(file) == NAME
    assert path.read_bytes() == DATA


def test_what_one_process_checks_is_not_taken_from_it_however_often_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, of two that are asked in turn, none ever completes what takes longer to check than a site waits."""
    here, other, checked, meanwhile = Directory(tmp_path), Directory(tmp_path), Incoming.digest, list[Conflict]()
    with here.append("site:north", NAME, 0, len(DATA)) as old:
        old(DATA[:8])
        with other.append("site:north", NAME, 8, len(DATA)) as write:
            write(DATA[8:])

        def checking(self: Incoming, file: Any) -> Any:
            with pytest.raises(Conflict) as taking, here.append("site:north", NAME, len(DATA), len(DATA)):
                pass
            with pytest.raises(Conflict) as writing:
                old(b"?")  # at once: it may be the thread of all requests
            meanwhile.extend((taking.value, writing.value))
            return checked(self, file)

        monkeypatch.setattr(Incoming, "digest", checking)
        assert other.complete("site:north", NAME) == Stored(NAME, len(DATA))
    assert [one.remedy for one in meanwhile] == ["ask again soon"] * 2 and here.path(NAME).read_bytes() == DATA


def test_files_of_others_are_passed_over_and_uploads_of_earlier_releases_go_with_their_age(tmp_path: Path) -> None:
    store = Directory(tmp_path)
    with store.append("site:north", NAME, 0, len(DATA)) as write:
        write(DATA[:8])
    (mine,) = tmp_path.glob("incoming/*/*")
    foreign = [mine.parent / name for name in (".nfs0000000001", "a-b-c", "lost")]
    earlier = tmp_path / "incoming" / "0123456789abcdef-0123"
    for path in (*foreign, earlier):
        path.touch()
    assert store.begun("site:north", digest(b"another")) == len(DATA) and store.begun("site:north", NAME) == 0
    store.sweep(0.0)
    assert mine.exists() and earlier.exists()
    store.sweep(float("inf"))
    assert not mine.exists() and not earlier.exists() and foreign[0].exists(), "which is removed by its file system"
