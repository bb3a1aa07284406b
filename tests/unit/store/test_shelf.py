"""Small blobs stand or fall with the transaction that keeps them; large ones are files; nobody who reads notices."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from consilium.core.errors import NotFound
from consilium.core.ids import digest
from consilium.store.blobs import Directory, Stored
from consilium.store.database import Database, Transaction
from consilium.store.schema import blobs, metadata
from consilium.store.shelf import LATELY, Shelf, size_of

SMALL = 64


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'db.sqlite'}", lambda topic: None)
    made.run_here(lambda tx: metadata.create_all(tx.connection))
    return made


def bytes_of(source: bytes | Path) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.binary(max_size=2 * SMALL), about=st.integers(0, 2 * SMALL))
def test_what_is_kept_is_read_by_every_process_whatever_its_size(
    tmp_path: Path, database: Database, data: bytes, about: int
) -> None:
    shelf, other = (Shelf(Directory(tmp_path / "blobs"), SMALL) for _ in range(2))
    stored = shelf.make(lambda file: (file.write(data), (digest(data), len(data)))[1], about)
    assert (stored.digest, stored.size) == (digest(data), len(data))
    assert (stored.data is not None) == (about <= SMALL and len(data) <= SMALL), "a row or a file, never both"
    database.run_here(lambda tx: (shelf.keep(tx, stored), shelf.keep(tx, stored)))
    for one in (shelf, other):
        assert bytes_of(database.run_here(lambda tx, one=one: one.read(tx, stored.digest))) == data  # type: ignore[misc]
    assert database.run_here(lambda tx: size_of(tx, stored.digest)) == len(data)


def test_a_small_blob_is_undone_with_its_transaction(tmp_path: Path, database: Database) -> None:
    shelf = Shelf(Directory(tmp_path / "blobs"), SMALL)

    def act(tx: object) -> None:
        shelf.keep(tx, Stored(digest(b"x"), 1, b"x"))  # type: ignore[arg-type]
        raise NotFound("refused after all")

    with pytest.raises(NotFound):
        database.run_here(act)
    assert database.run_here(lambda tx: tx.scalar(select(func.count()).select_from(blobs))) == 0
    with pytest.raises(NotFound):
        database.run_here(lambda tx: shelf.read(tx, digest(b"x")))


def test_what_was_sent_is_summed_from_memory(tmp_path: Path, database: Database) -> None:
    shelf, stored = Shelf(Directory(tmp_path / "blobs"), SMALL), Stored(digest(b"x"), 1, b"x")
    database.run_here(lambda tx: shelf.keep(tx, stored, "site:a"))
    database.run_here(lambda tx: tx.do(update(blobs).values(data=b"other")))
    assert database.run_here(lambda tx: shelf.read(tx, stored.digest)) == b"x", "what a digest names is one content"


def test_memory_holds_few_of_those_made_here(tmp_path: Path) -> None:
    shelf = Shelf(Directory(tmp_path / "blobs"), SMALL)
    made = [shelf.make(lambda f, n=n: (f.write(bytes([n])), (digest(bytes([n])), 1))[1], 1) for n in range(20)]  # type: ignore[misc]
    known = [shelf.lately(one.digest) for one in made]
    assert known[-1] == bytes([19]) and known[0] is None and sum(one is not None for one in known) == LATELY


def test_what_may_be_undone_is_set_aside_in_no_file_elsewhere(tmp_path: Path, database: Database) -> None:
    """SQLite keeps the pages that an attempt overwrites: they hold what hospitals sent, and are no matter of `/tmp`."""
    shelf, seen = Shelf(Directory(tmp_path / "blobs"), 1 << 20), list[str]()

    def attempt(tx: Transaction) -> None:
        for number in range(4):
            data = bytes([number]) * 300_000
            shelf.keep(tx, Stored(digest(data), len(data), data))
            tx.do(update(blobs).values(size=number))  # over what is there already
        opened = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
        seen.extend(name for name in opened if "etilqs" in name)

    database.run_here(lambda tx: [attempt(tx), tx.apart(attempt)])
    assert not seen, "SQLite opened a file of its own, in a folder for temporary files"
