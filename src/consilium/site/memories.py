"""What a strategy keeps at this site between rounds, such as a control variate: on file, named in the journal.

It is durable with the answer that was made with it, and holds for the next round once that one was counted: a site
whose answer came too late, or that is asked again in the same round, goes on from what was there before. It never
leaves.
"""

from dataclasses import dataclass
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.ids import Digest
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import SMALL
from consilium.wire.transfer import durable_digest, file_digest

_COUNTED = "SELECT * FROM memories WHERE run = ? AND round < ? AND counted ORDER BY round DESC LIMIT 1"


@dataclass(frozen=True)
class Kept:
    """A memory on file."""

    path: Path
    digest: Digest


def kept(path: Path) -> Kept | None:
    """What training kept, if it kept anything; a large file is durable afterwards."""
    return Kept(path, durable_digest(path, None, SMALL)[0]) if path.exists() else None


def before(journal: Journal, run: str, number: int) -> Path | None:
    """The memory with which round `number` is trained, or None before the first round in which this site was counted.

    Raises: Refused: it was lost (`memory`).
    """
    row = journal.row(_COUNTED, run, number)
    if row is None:
        return None
    found = Kept(Path(row["path"]), Digest(row["digest"]))
    if not row["path"] or not whole(journal, found):
        raise Refused(
            f"what this site kept after round {row['round']} is not here any more, and its next update needs it",
            "restore the site's folder from a backup, or leave the run and begin a new one",
            reason="memory",
        )
    return found.path


def late(journal: Journal, run: str, number: int) -> Path | None:
    """What was kept with the newest answer before round `number`, if that was not counted; None where it was, or where
    it was lost: it can be trained anew.
    """
    row = journal.row("SELECT * FROM memories WHERE run = ? AND round < ? ORDER BY round DESC LIMIT 1", run, number)
    if row is None or row["counted"] or not row["path"]:
        return None
    found = Kept(Path(row["path"]), Digest(row["digest"]))
    return found.path if whole(journal, found) else None


def whole(journal: Journal, found: Kept) -> bool:
    """Whether the file is there with its bytes; a small one is written anew from the journal."""
    there = found.path.exists() and file_digest(found.path) == found.digest
    return there or journal.restore(found.path, found.digest)


def of(journal: Journal, run: str, number: int) -> Kept | None:
    """What the training of round `number` kept, by the journal."""
    row = journal.row("SELECT path, digest FROM memories WHERE run = ? AND round = ?", run, number)
    return None if row is None else Kept(Path(row["path"]), Digest(row["digest"]))


def keep(tx: Writing, run: str, number: int, made: Kept) -> None:
    """Remember what was kept, with the answer that was made with it."""
    tx.hold(made.path)
    tx.do(
        "INSERT INTO memories (run, round, digest, path) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (run, round) DO UPDATE SET digest = excluded.digest, path = excluded.path",
        run, number, made.digest, str(made.path),
    )  # fmt: skip


def closed(tx: Writing, run: str, number: int, *, counted: bool) -> bool:
    """A round is over: what was kept in it holds if this site was counted. Whether anything was kept."""
    return tx.do("UPDATE memories SET counted = ? WHERE run = ? AND round = ?", counted, run, number) > 0


def forget(tx: Writing, run: str, number: int) -> list[Path]:
    """Files that nothing needs once round `number` is over; the row stays, so that a loss is told from a first round.

    What held before the round stays, too: a coordinator that was restored may ask in it once more.
    """
    last = tx.row(_COUNTED, run, number)
    older = tx.rows(
        "SELECT round, path FROM memories WHERE run = ? AND round < ? AND path != ''",
        run, last["round"] if last is not None else 0,
    )  # fmt: skip
    for row in older:
        tx.do("UPDATE memories SET path = '' WHERE run = ? AND round = ?", run, row["round"])
    return [Path(row["path"]) for row in older]
