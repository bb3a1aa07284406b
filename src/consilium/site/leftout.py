"""Runs that went on without this hospital, which was not in time when keys were agreed; and until when it had been.

The coordinator's closing of round 0 names who holds keys: who was asked for them and is not among these is in no sum of
the run, unless keys are agreed anew, for which it is asked by a task.
"""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from consilium.site.journal import OPEN, Journal, Writing
from consilium.wire.messages import Closed, Task

log = logging.getLogger(__name__)
KEY = "left-out/"
"""Kept value, by run: what is known of it, as JSON."""
WORDS, LATE = "its words were not compared here in time", "what this hospital said came too late"
"""Why; it stands with the task, too."""
NEXT = "it is in the next run of the study, for which words that were compared here stay compared"


@dataclass(frozen=True)
class LeftOut:
    """A run, why it went on without this hospital, until when there was time, and since when that is known here."""

    run: str
    why: str
    until: str
    since: str
    over: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def text(self) -> str:
        """In words."""
        goes = "ended" if self.over else "goes on"
        return f"{self.run} {goes} without this hospital: {self.why}; there was time until {spoken(self.until)}"


def spoken(moment: str) -> str:
    """A moment in ISO 8601, to the second, in UTC, for people; as it is, where no year of UTC holds it."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return moment


def keep(tx: Writing, closed: Closed, site: str, now: datetime) -> None:
    """Keep that keys were agreed without this hospital, if it was asked for them and has not refused."""
    if closed.kind != "PAIR" or site in closed.took_part:
        return
    task = tx.row("SELECT * FROM tasks WHERE run = ? AND kind = 'PAIR' ORDER BY seq DESC LIMIT 1", closed.run)
    if task is None or task["status"] == "refused":
        return
    why = WORDS if task["status"] == "waits" else LATE
    until = Task.decode(bytes(task["payload"])).deadline
    found = {"why": why, "until": until.isoformat(), "since": now.isoformat()}
    tx.keep(f"{KEY}{closed.run}", json.dumps(found))
    tx.do("UPDATE tasks SET note = ? WHERE seq = ?", f"left out: {why}", task["seq"])
    log.warning("%s. Next: %s", LeftOut(closed.run, **found).text, NEXT)


def asked_again(tx: Writing, task: Task) -> None:
    """Keys are agreed anew, with this hospital; or it is in a round, whatever the coordinator's closing said."""
    tx.do("DELETE FROM meta WHERE key = ?", f"{KEY}{task.run}")


def found(journal: Journal, run: str) -> LeftOut | None:
    """What is known of a run that went on without this hospital."""
    told = journal.meta(f"{KEY}{run}")
    return LeftOut(run, **json.loads(told), over=over(journal, run)) if told else None


def going_on(journal: Journal) -> list[LeftOut]:
    """Those that are not over."""
    rows = journal.rows("SELECT key FROM meta WHERE key LIKE ? ORDER BY key", f"{KEY}%")
    every = (found(journal, str(row["key"]).removeprefix(KEY)) for row in rows)
    return [one for one in every if one is not None and not one.over]


def over(journal: Journal, run: str) -> bool:
    """Whether a run has ended."""
    return bool(journal.meta(f"run/{run}"))


def until(journal: Journal, run: str) -> datetime | None:
    """Until when a run waits for the words of its roster, if enough other hospitals have compared them."""
    wanted = f"SELECT payload FROM tasks WHERE run = ? AND kind = 'PAIR' AND status IN {OPEN} ORDER BY seq DESC"  # noqa: S608
    row = journal.row(f"{wanted} LIMIT 1", run)
    return None if row is None else Task.decode(bytes(row["payload"])).deadline
