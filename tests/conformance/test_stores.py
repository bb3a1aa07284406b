"""The directory of blobs keeps every law of a Store; and each law finds a store that breaks it."""

import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from consilium.core.errors import ConsiliumError, DigestMismatch
from consilium.core.ids import digest
from consilium.store import incoming
from consilium.store.blobs import Directory, Stored
from consilium.testing import stores
from consilium.testing.stores import LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_directory_keeps_every_law(tmp_path: Path, law: Any) -> None:
    law(lambda: Directory(tmp_path / "blobs"))


class Inventing(Directory):
    def path(self, digest: Any) -> Path:
        return self._place(digest)


class Forgetful(Directory):
    def __init__(self, root: Path) -> None:
        for path in root.rglob("*"):
            if path.is_file():
                path.unlink()
        super().__init__(root)


class Hasty(Directory):
    """A blob appears while it is still being written."""

    def make(self, write: Any) -> Stored:
        place = self._place(stores.NAME)
        place.parent.mkdir(exist_ok=True)
        with place.open("wb") as file:
            name, size = write(file)
        return Stored(name, size)


class Shared(Directory):
    def _folder(self, sender: str) -> Path:
        return super()._folder("everybody")


class Trusting(Directory):
    """Whatever comes is appended, wherever it was said to belong, however long it is, and by whomever."""

    def _piece(self, sender: str, name: str) -> Path:
        folder = self._folder(sender)
        folder.mkdir(exist_ok=True)
        return folder / f"{name.removeprefix('sha256:')}-0-0"

    @contextmanager
    def append(self, sender: str, name: Any, offset: int, length: int) -> Any:
        with self._piece(sender, name).open("ab", buffering=0) as file:
            yield file.write

    def complete(self, sender: str, name: Any) -> Stored | None:
        piece = self._piece(sender, name)
        if piece.stat().st_size < len(stores.DATA):
            return None
        size = piece.stat().st_size
        self._keep(piece, name)
        return Stored(name, size)


class Stubborn(Directory):
    """Bytes that are not their name stay where they are, and in the way of the right ones."""

    def complete(self, sender: str, name: Any) -> Stored | None:
        piece = incoming.found(self._folder(sender), name)
        if piece and digest(piece.read_bytes()) != name and piece.stat().st_size == len(stores.DATA):
            raise DigestMismatch(f"not {name}", hashlib.sha256(piece.read_bytes()).hexdigest())
        return super().complete(sender, name)


WRONG: list[tuple[Any, type[Directory]]] = [
    (stores.knows_what_it_does_not_have, Inventing),
    (stores.keeps_what_it_makes, Forgetful),
    (stores.keeps_nothing_of_what_failed, Hasty),
    (stores.takes_pieces_across_restarts, Forgetful),
    (stores.keeps_senders_apart, Shared),
    (stores.refuses_a_wrong_offset, Trusting),
    (stores.refuses_more_than_was_announced, Trusting),
    (stores.refuses_bytes_that_are_not_their_name, Trusting),
    (stores.refuses_bytes_that_are_not_their_name, Stubborn),
    (stores.leaves_an_upload_to_the_newest_request, Trusting),
]


@pytest.mark.parametrize(("law", "wrong"), WRONG, ids=lambda one: one.__name__)
def test_each_law_finds_a_store_that_breaks_it(tmp_path: Path, law: Any, wrong: type[Directory]) -> None:
    with pytest.raises((AssertionError, OSError, ConsiliumError)):
        law(lambda: wrong(tmp_path / "blobs"))


def test_no_law_goes_without_a_store_that_breaks_it() -> None:
    assert {law for law, _ in WRONG} == set(LAWS)
