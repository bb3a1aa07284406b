"""What the process that trains said when it failed: for this hospital's people alone, and kept beyond the run.

A traceback of foreign code may quote patients. So it is in no message, no journal and no log of the agent, but in a
file of its own, of bounded size, which only the site's user can read; the newest runs' files stay.
"""

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from consilium.core.errors import NotFound
from consilium.durable import replace_file
from consilium.site.folder import Folder

LOG = "child.log"
"""Where the output and the errors of such a process go, in the folder of its run."""
MOST = 64 << 10
"""Bytes of the end of what was said that are kept of a run."""
RUNS = 20
"""So many runs' files stay."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What would move the cursor of who reads, or the order of words."""


def keep(folder: Folder, run: str, about: str, since: float, now: datetime) -> Path | None:
    """Keep what the process of a run has said; None: it has said nothing since, in seconds of the clock.

    Args:    about: a line of our own that goes before.
    Raises:  OSError: it cannot be written.
    """
    log = folder.work / run / LOG
    try:
        if not log.stat().st_size or log.stat().st_mtime < since:
            return None
        said = tail(log)
    except OSError:
        return None
    folder.failures.mkdir(exist_ok=True, mode=0o700)
    path = folder.failures / f"{run}.log"
    replace_file(path, f"{now:%Y-%m-%d %H:%M:%S} UTC, {about}\n\n{said}".encode(), 0o600)
    for _, old in sorted((one.stat().st_mtime, one) for one in folder.failures.glob("*.log"))[:-RUNS]:
        old.unlink(missing_ok=True)
    return path


def tail(log: Path) -> str:
    """The end of what was said, to be read. Raises: OSError."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST))
        return plain(file.read(MOST).decode(errors="replace"))


def plain(text: str) -> str:
    """Text that others wrote, without what would move the cursor."""
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def kept(folder: Folder) -> list[dict[str, Any]]:
    """Runs of which something is kept, the newest first: run, file, and its first line."""
    files = sorted(folder.failures.glob("*.log"), key=lambda one: one.stat().st_mtime, reverse=True)
    return [{"run": one.stem, "about": _text(one).partition("\n")[0], "file": str(one)} for one in files]


def said(folder: Folder, run: str) -> str:
    """What is kept of a run. Raises: NotFound."""
    known = {one.stem: one for one in folder.failures.glob("*.log")}  # by listing: a name is no path
    if run not in known:
        raise NotFound(f"nothing is kept of a failure of {run}", "`consilium site log` lists the runs of which it is")
    return _text(known[run])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
