"""A journal on a full disk: nothing is written, the words are those of the disk, and with room it goes on."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consilium.console.cli import app
from consilium.core.errors import Invalid
from consilium.site.folder import Folder
from consilium.site.journal import Journal
from consilium.site.options import opened

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def write(journal: Journal, size: int) -> None:
    with journal.write() as tx:
        for _ in range(20):
            tx.send("decision", bytes(size), {"study": "sums"}, NOW)


def full(journal: Journal) -> None:
    """No page more fits, as on a full disk."""
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_is_told_as_such_and_nothing_is_written(tmp_path: Path) -> None:
    folder = Folder.create(tmp_path / "site")
    for _ in range(2):  # the second time, the first left nothing open
        with pytest.raises(Invalid, match="there is no room for the journal") as told, opened(folder.home) as desk:
            full(desk.journal)
            write(desk.journal, 50_000)
        assert "make room" in told.value.remedy and "backup" not in str(told.value)
    with opened(folder.home) as desk:
        assert desk.journal.rows("SELECT * FROM outbox") == desk.journal.entries() == []


def test_with_room_a_journal_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    full(journal)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        write(journal, 50_000)
    journal._db.execute("PRAGMA max_page_count=100000")
    write(journal, 50_000)
    assert len(journal.rows("SELECT id FROM outbox")) == 20 and len(journal.entries()) == 20


def test_a_journal_that_somebody_holds_is_not_called_damaged(tmp_path: Path) -> None:
    folder = Folder.create(tmp_path / "site")
    with (
        pytest.raises(Invalid, match="is in use"),
        opened(folder.home) as holder,
        opened(folder.home) as desk,
        holder.journal.write(),
    ):
        desk.journal._db.execute("PRAGMA busy_timeout=10")
        write(desk.journal, 1)


@pytest.mark.parametrize("command", ["status", "run", "doctor", "sent", "revoke --all --person Vera"])
def test_a_folder_whose_journal_is_gone_is_no_new_site(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty one in its place would have forgotten what was revoked, spent and promised, and take each task anew."""
    home = tmp_path / "site"
    assert app.run(["site", "init", "--home", str(home)]) == 0
    for file in home.glob("journal.sqlite*"):
        file.unlink()
    for _ in range(2):
        capsys.readouterr()
        assert app.run(["site", *command.split(), "--home", str(home)]) == 5
        assert "there is no journal" in (said := capsys.readouterr().err) and "backup" in said
        assert not (home / "journal.sqlite").exists() or not (home / "journal.sqlite").stat().st_size
        (home / "journal.sqlite").touch()
