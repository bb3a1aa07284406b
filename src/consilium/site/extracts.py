"""What was fetched from the hospital's servers for a study, under `extracts/STUDY`; removed once nothing needs it.

It is needed while the study is approved here, until a run of it has ended: another run fetches anew. Without an
approval, as after a check alone, it goes within a day. Each removal is in the audit log before it begins, so that one
that was cut is found, and told once more.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from sqlite3 import Row

from consilium.core.errors import DataUnusable
from consilium.core.ids import digest
from consilium.data.extracts import INDEX, UNFILTERED, ended, held
from consilium.site.deciding import Desk
from consilium.site.folder import Folder
from consilium.site.journal import OPEN, Journal, Writing

log = logging.getLogger(__name__)
WITHOUT_APPROVAL_S = 86_400.0


def remove(folder: Folder, journal: Journal, study: str, why: str, now: datetime) -> None:
    """Remove what was fetched for a study, if anything was."""
    place = folder.extracts / study
    if not place.is_dir():
        return
    with journal.write() as tx:
        _record(tx, place, study, why, now)
    shutil.rmtree(place, ignore_errors=True)
    if place.exists():
        log.error("%s cannot be removed: give it to the user that runs the agent", place)


def _record(tx: Writing, place: Path, study: str, why: str, now: datetime) -> None:
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    index = place / INDEX
    body = {"study": study, "why": why, "files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    tx.record("extract-removed", {**body, "index": digest(index.read_bytes()) if index.is_file() else None}, now)


def run_ended(folder: Folder, journal: Journal, run: str, now: datetime) -> None:
    """A run is over: what was fetched for its study goes, unless another run of it is on."""
    study: Row | None = journal.row(
        "SELECT study, plan FROM studies WHERE plan IN (SELECT plan FROM tasks WHERE run = ?) LIMIT 1", run
    )
    if study is not None and not _on(journal, study["plan"], run):
        remove(folder, journal, study["study"], "run-ended", now)


def _on(journal: Journal, plan: str, but: str) -> bool:
    asked = f"SELECT seq FROM tasks WHERE plan = ? AND run <> ? AND status IN {OPEN} LIMIT 1"  # noqa: S608
    return journal.row(asked, plan, but) is not None


@contextmanager
def passing(folder: Folder) -> Iterator[Path]:
    """A place for what a mere check fetches, gone afterwards; one of a process that was killed goes with the others."""
    folder.extracts.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ended(), tempfile.TemporaryDirectory(prefix="check-", dir=folder.extracts) as place:
        yield Path(place)


def spill(folder: Folder) -> None:
    """Remove what a process that was ended had fetched, where some of it is of who opted out."""
    for path in list(folder.extracts.rglob(UNFILTERED)):
        with suppress(DataUnusable, OSError), held(path.parent, 0.0) as extract:
            extract.spill()


def sweep(folder: Folder, journal: Journal, now: datetime) -> None:
    """Remove what no approval stands for any more, and halves of what nobody fetches on."""
    if not folder.extracts.is_dir():
        return
    spill(folder)
    desk = Desk(folder, journal)
    offered = desk.offered()
    for place in sorted(folder.extracts.iterdir()):
        if place.name in offered and desk.standing(place.name, now).word == "approved":
            continue
        index = place / INDEX
        newest = (index if index.exists() else place).stat().st_mtime
        if now.timestamp() - newest > WITHOUT_APPROVAL_S:
            remove(folder, journal, place.name, "not-approved", now)
