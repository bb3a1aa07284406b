"""When the agent last heard from the coordinator, and what is in the way since: in a file that `site status` reads."""

import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock

from consilium.durable import own
from consilium.site.folder import Folder

log = logging.getLogger(__name__)
TWIN = (
    "another agent runs under this hospital's key, with a copy of this folder: no task is done here or there until one "
    "of the two is stopped"
)
TWIN_NEXT = "stop the one that should not run, and remove its folder; the other one goes on about a minute later"
EVERY_S = 10.0
"""So often at most it is written that all is well: not with each message of a round."""


def place(folder: Folder) -> Path:
    """The file of a folder."""
    return folder.home / "contact.json"


def told(folder: Folder) -> tuple[str, str]:
    """When the coordinator was heard last, as ISO 8601, and what is in the way since; empty: never, nothing."""
    try:
        found = json.loads(place(folder).read_bytes())
        return str(found["heard"]), str(found["trouble"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""  # an agent of an earlier release, or none yet


def twin(folder: Folder) -> str:
    """Since when another agent runs under this hospital's key, as ISO 8601; empty: none is known of."""
    try:
        return str(json.loads(place(folder).read_bytes()).get("twin", ""))
    except (OSError, ValueError, AttributeError):
        return ""


@dataclass
class Contact:
    """What the agent notes of it. It is no part of any record: where it cannot be written, nothing else suffers."""

    folder: Folder
    trouble: str = ""
    twin: str = ""
    _heard: str = field(init=False)
    _written: float | None = field(default=None, repr=False)
    _writes: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        """From what the agent before this one noted."""
        self._heard, _ = told(self.folder)

    def heard(self, now: datetime) -> None:
        """The coordinator answered."""
        if self.trouble:
            log.info("the coordinator answers again")
        elif self._written is not None and time.monotonic() - self._written < EVERY_S:
            return
        self._heard, self.trouble = now.isoformat(), ""
        self._write()

    def lost(self, why: str) -> None:
        """It does not, or not as it should: said once, for it is tried again every second."""
        if why != self.trouble:
            log.warning("nothing is received: %s", why)
            self.trouble = why
            self._write()

    def beaten(self, twin: bool, now: datetime) -> None:
        """What the coordinator says to a heartbeat: whether another agent runs, too. Said once, at either end of it."""
        if twin == bool(self.twin):
            return
        self.twin = now.isoformat() if twin else ""
        if twin:
            log.error("%s. Next: %s", TWIN, TWIN_NEXT)
        else:
            log.info("no other agent of this hospital is heard any more: this one goes on")
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        path, fact = place(self.folder), {"heard": self._heard, "trouble": self.trouble, "twin": self.twin}
        with self._writes, suppress(OSError):  # no round waits for the disk: after a power cut it may be an older one
            with own(path.with_suffix(".new")) as file:
                file.write(json.dumps(fact).encode())
            path.with_suffix(".new").replace(path)
