"""What a journal erases is in none of its files any more, and not before it is asked where that can wait."""

from pathlib import Path

from consilium.site.journal import Journal

SECRET = b"a key that must not outlast its opening"


def holds(folder: Path) -> bool:
    return any(SECRET in path.read_bytes() for path in folder.iterdir())


def erased(journal: Journal, *, later: bool) -> None:
    with journal.write() as tx:
        tx.do("INSERT INTO small VALUES ('key', ?)", SECRET)
    with journal.write(erases=True, later=later) as tx:
        tx.do("UPDATE small SET data = x'00' WHERE path = 'key'")


def test_what_is_erased_is_in_no_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    erased(journal, later=False)
    assert not holds(tmp_path)


def test_what_is_to_be_erased_later_is_gone_once_nobody_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    erased(journal, later=True)
    assert holds(tmp_path), "else this test shows nothing"
    journal.erase()
    assert not holds(tmp_path)


def test_a_journal_that_was_not_erased_before_its_process_was_killed_is_at_the_next_start(tmp_path: Path) -> None:
    killed = Journal(tmp_path / "journal.sqlite")
    erased(killed, later=True)
    Journal(tmp_path / "journal.sqlite").erase()  # the other one never came to it
    assert not holds(tmp_path)


def test_what_somebody_still_reads_is_erased_when_he_is_done(tmp_path: Path) -> None:
    journal, reader = Journal(tmp_path / "journal.sqlite"), Journal(tmp_path / "journal.sqlite")
    with journal.write() as tx:
        tx.do("INSERT INTO small VALUES ('key', ?)", SECRET)
    reading = reader._db.execute("SELECT * FROM small")
    with journal.write(erases=True, later=True) as tx:
        tx.do("UPDATE small SET data = x'00' WHERE path = 'key'")
    journal._db.execute("PRAGMA busy_timeout=0")
    journal.erase()
    assert holds(tmp_path), "else this test shows nothing"
    reading.fetchall()
    journal.erase()
    assert not holds(tmp_path)
