"""What a strategy keeps at a hospital: from which round it is gone on, and that what was lost is no beginning."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.core.errors import Refused
from consilium.site import memories
from consilium.site.journal import Journal

RUN = "sums-1"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    found = Journal(tmp_path / "journal.sqlite")
    yield found
    found.close()


def kept(journal: Journal, number: int, counted: bool | None = None) -> Path:
    """What is kept of a round, which closes with or without this site; None: it is open."""
    path = Path(str(journal.row("PRAGMA database_list")["file"])).with_name(f"memory-{number}")  # type: ignore[index]
    path.write_bytes(f"of round {number}".encode())
    made = memories.kept(path)
    assert made is not None
    with journal.write() as tx:
        memories.keep(tx, RUN, number, made)
        if counted is not None:
            memories.closed(tx, RUN, number, counted=counted)
    return path


def test_a_round_goes_on_from_the_last_that_was_counted_before_it(journal: Journal) -> None:
    assert memories.before(journal, RUN, 1) is None
    first, _, third = kept(journal, 1, counted=True), kept(journal, 2, counted=False), kept(journal, 3, counted=True)
    found = [memories.before(journal, RUN, number) for number in (1, 2, 3, 4)]
    assert found == [None, first, first, third], "a round that is asked once more goes on from before it"


def test_late_is_what_the_newest_answer_kept_if_it_was_not_counted(journal: Journal) -> None:
    kept(journal, 1, counted=True)
    assert memories.late(journal, RUN, 2) is None
    second = kept(journal, 2, counted=False)
    assert memories.late(journal, RUN, 3) == second and memories.late(journal, RUN, 2) is None


@pytest.mark.parametrize("how", ["gone", "altered", "forgotten"])
def test_what_was_lost_is_refused_and_never_begun_anew(journal: Journal, how: str) -> None:
    path = kept(journal, 1, counted=True)
    with journal.write() as tx:
        if how == "forgotten":
            tx.do("UPDATE memories SET path = ''")
        else:
            tx.do("DELETE FROM small")
    path.unlink() if how == "gone" else path.write_bytes(b"other bytes")
    with pytest.raises(Refused, match="not here any more") as refusal:
        memories.before(journal, RUN, 2)
    assert refusal.value.reason == "memory"


def test_a_small_file_that_was_lost_comes_back_from_the_journal(journal: Journal) -> None:
    path = kept(journal, 1, counted=True)
    path.write_bytes(b"other bytes")
    assert memories.before(journal, RUN, 2) == path and path.read_bytes() == b"of round 1"
