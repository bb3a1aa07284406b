"""What the coordinator signed of its audit log against what it shows later; and alarms, for the people of the hospital.

A thread of its own follows the chain from each signed head to the next by digests alone: it holds no round up. An
alarm stops nothing by itself. It stands in the audit log, goes to the coordinator, and is shown until a person
acknowledges it.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Any

from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, Unavailable
from consilium.core.ids import Digest
from consilium.governance import audit
from consilium.governance.audit import Head
from consilium.site.journal import Journal, Writing
from consilium.wire.connection import Connection, retrying
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import LINKS, Alarm, Checkpoint
from consilium.wire.requests import Links

log = logging.getLogger(__name__)
AGAIN_S = 60.0
OPEN = "SELECT id, at, why, text, number, note FROM alarms WHERE settled IS NULL ORDER BY id"


@dataclass
class Witness:
    """Compares; one per agent. `wake`: there is a new head.   `outgoing` wakes what sends."""

    identity: Identity
    journal: Journal
    connection: Connection
    stop: Event
    wake: Event
    outgoing: Event

    def run(self) -> None:
        """Compare until `stop`."""
        while not self.stop.is_set():
            self.wake.clear()
            try:
                self.look(datetime.now(UTC))
            except Unavailable:
                if not self.stop.is_set():
                    raise
            except ConsiliumError as error:  # what answers there may be an older release: at the next head again
                log.warning("the coordinator's log cannot be compared: %s", error.message)
            self.wake.wait()

    def look(self, now: datetime) -> None:
        """Compare the newest head with all that were kept since the last one that was found right.

        Raises: Unavailable: stopped.   Others: the coordinator does not show its log.
        """
        rows = self.journal.rows("SELECT id, seq, head FROM marks WHERE stands = 1 ORDER BY id")
        told = self.journal.meta("witness")
        if not rows or self.journal.row("SELECT id FROM alarms WHERE settled IS NULL AND why LIKE 'log-%'"):
            return
        base = _head(json.loads(told) if told else rows[0])
        kept, shown = [_head(row) for row in rows], _head(rows[-1])
        # Those at or before the base are followed by no links: of them the order tells.
        found = audit.ordered(kept if base in kept else [base, *kept])
        found = found or audit.compare(base, kept, shown, self._links(base.seq, shown.seq))
        with self.journal.write(durable=found is not None) as tx:
            if found is None:
                tx.keep("witness", json.dumps({"seq": shown.seq, "head": shown.digest}))
                return
            text = f"the coordinator's audit log contradicts what it signed: {found.words}"
            raise_alarm(tx, self.identity, found.why, text, now)
        self.outgoing.set()

    def _links(self, after: int, until: int) -> list[Digest]:
        found: list[Digest] = []
        while after + len(found) < until:
            query = {"after": after + len(found)}
            page = retrying(lambda query=query: self._page(query), self.stop, most_s=AGAIN_S)  # type: ignore[misc]
            if not page:
                break
            found += page
        return found[: until - after]

    def _page(self, query: dict[str, int]) -> list[Digest]:
        try:
            page = Links.model_validate(self.connection.get("/v1/audit/links", query))
        except ValidationError as error:
            raise Unavailable("what came are not the links of a log", "check the proxy") from error
        return [Digest(link) for link in page.links] if page.after == query["after"] else []


def _head(row: Any) -> Head:
    return Head(int(row["seq"]), Digest(row["head"]))


def raise_alarm(
    tx: Writing, identity: Identity, why: str, text: str, now: datetime, number: int = 0, last: str = ""
) -> None:
    """Record an alarm and send it to the coordinator, once while it is open."""
    if tx.row("SELECT id FROM alarms WHERE settled IS NULL AND why = ? AND number = ?", why, number) is not None:
        return
    log.error("%s", text)
    tx.do("INSERT INTO alarms (at, why, text, number) VALUES (?, ?, ?, ?)", now.isoformat(), why, text, number)
    tx.record("alarm", {"why": why, "text": text, "number": number}, now)
    alarm = Alarm(why=why, text=text, number=number, last=last or None, at=now)
    tx.send("alarm", seal(Alarm.TYPE, alarm.encode(), identity), {}, now)


def checkpoint(
    tx: Writing, site: str, identity: Identity, about: Mapping[str, Any], now: datetime, since: int | None = None
) -> None:
    """Sign the head of our log, and what leads there from the head that was signed before, or from `since`.

    Args:    about: study and run by which it came to that, or None of both.
    """
    if since is None:
        since = int(tx.meta("checkpoint", "0"))
    entries = tx.rows("SELECT entry FROM audit WHERE seq > ? ORDER BY seq", since)
    links = [audit.link(bytes(row["entry"])) for row in entries]
    for start in range(0, len(links), LINKS):
        part = tuple(links[start : start + LINKS])
        head, after = tx.head(since + start + len(part)), since + start
        mark = Checkpoint(log=site, seq=head.seq, head=head.digest, at=now, since=after, links=part)
        tx.send("checkpoint", seal(Checkpoint.TYPE, mark.encode(), identity), about, now)
        tx.keep("checkpoint", str(head.seq))


def start_anew(tx: Writing, base: Head | None) -> None:
    """From here on the coordinator's log is followed anew: what was kept stays as evidence, and is compared no more."""
    tx.do("UPDATE marks SET stands = 0")
    if base is not None:
        tx.keep("witness", json.dumps({"seq": base.seq, "head": base.digest}))
        return
    newest = tx.row("SELECT id, seq, head FROM marks ORDER BY id DESC LIMIT 1")
    if newest is not None:
        tx.do("UPDATE marks SET stands = 1 WHERE id = ?", newest["id"])
        tx.keep("witness", json.dumps({"seq": newest["seq"], "head": newest["head"]}))


def acknowledge(journal: Journal, person: str, now: datetime) -> list[dict[str, Any]]:
    """A person has seen the alarms that are open; they are given back. One that still holds messages up stays open."""
    with journal.write() as tx:
        found = [dict(row) for row in tx.rows(OPEN) if row["note"] or not row["why"].startswith("inbox-")]
        for one in found:
            tx.do("UPDATE alarms SET settled = ? WHERE id = ?", person, one["id"])
        if any(one["why"].startswith("log-") for one in found):
            start_anew(tx, None)
        if found:
            tx.record("acknowledged", {"alarms": [one["why"] for one in found], "person": person}, now)
    return found
