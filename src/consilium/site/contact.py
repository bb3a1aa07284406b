"""When the agent last heard from the coordinator, and what is in the way since: in a file that `site status` reads."""

import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from consilium.durable import own
from consilium.site.folder import Folder

log = logging.getLogger(__name__)
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


@dataclass
class Contact:
    """What the agent notes of it. It is no part of any record: where it cannot be written, nothing else suffers."""

    folder: Folder
    trouble: str = ""
    _heard: str = field(init=False)
    _written: float | None = field(default=None, repr=False)

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

    def _write(self) -> None:
        self._written = time.monotonic()
        path, fact = place(self.folder), {"heard": self._heard, "trouble": self.trouble}
        with suppress(OSError):  # after a power cut it may be an older one: no round waits for the disk here
            with own(path.with_suffix(".new")) as file:
                file.write(json.dumps(fact).encode())
            path.with_suffix(".new").replace(path)
