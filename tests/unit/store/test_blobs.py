"""A blob is there whole and durable, or not at all; an upload is as long as it was announced, and not swept in use."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from consilium.core.errors import Conflict, DigestMismatch, NotFound
from consilium.core.ids import digest
from consilium.store import blobs
from consilium.store.blobs import Directory

DATA = bytes(range(24))
NAME = digest(DATA)


def upload(files: Directory, data: bytes, offset: int = 0) -> None:
    with files.append("site:north", NAME, offset, len(DATA)) as write:
        write(data)


def test_a_blob_is_durable_before_it_has_its_name_and_its_name_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, did = Directory(tmp_path), list[str]()
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        place = Path(f"/proc/self/fd/{handle}").readlink()
        did.append("." if place == tmp_path else place.name if place.is_dir() else "bytes")
        fsync(handle)

    def renamed(path: Path, target: Path) -> Any:
        did.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    upload(files, DATA)
    assert files.complete("site:north", NAME) is not None
    folder = NAME.removeprefix("sha256:")[:2]
    assert did == ["bytes", "name", folder, "."]
    did.clear()
    files.make_bytes(DATA)
    assert did == ["bytes", "name", folder]


def test_an_upload_that_goes_on_is_as_long_as_it_was_announced(tmp_path: Path) -> None:
    files = Directory(tmp_path)
    upload(files, DATA[:9])
    for length in (9, 23, 25):
        with pytest.raises(Conflict), files.append("site:north", NAME, 9, length):
            pytest.fail("it was announced as another length")
    upload(files, DATA[9:], 9)
    assert files.complete("site:north", NAME) is not None and files.path(NAME).read_bytes() == DATA


def test_bytes_that_a_disk_has_lost_since_they_were_hashed_make_no_blob(tmp_path: Path) -> None:
    files = Directory(tmp_path)
    upload(files, DATA)
    (piece,) = (tmp_path / "incoming").glob("*/*")
    os.truncate(piece, 20)
    with pytest.raises(DigestMismatch):
        files.complete("site:north", NAME)
    with pytest.raises(NotFound):
        files.path(NAME)
    upload(files, DATA)
    assert files.complete("site:north", NAME) is not None and files.path(NAME).read_bytes() == DATA


def test_an_upload_that_goes_on_while_it_is_looked_at_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, day_ago = Directory(tmp_path), time.time() - 86_400
    upload(files, DATA[:9])
    monkeypatch.setattr(blobs, "_written", lambda path: day_ago - 1)  # as it was a moment ago
    files.sweep(day_ago)
    assert files.offset("site:north", NAME) == 9
