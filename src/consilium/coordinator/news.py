"""What an operator reads in the coordinator's log: a line for what people and hospitals do, and for what runs come to.

The audit log is the record; this tells who looks after the machine, once it is committed: nothing that was undone. What
is refused to whoever asks on the network is counted, so that an attack is seen, and does not fill the disk.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from consilium.store.database import Transaction

log = logging.getLogger(__name__)
LINES: Mapping[str, str] = {
    "study": "study {study} is submitted by {by}",
    "run": "run {run} is started by {by}",
    "stop": "run {run} is stopped by {by}",
    "run-waits": "run {run} waits: {reason}",
    "run-goes-on": "run {run} goes on: {what}",
    "run-ended": "run {run} {status}{because}",
    "decision": "{site} says {decision} to study {study}",
    "refusal": "{site} refuses round {round} of run {run} of study {study}: {reason}",
    "join": "{site} joined, and waits for admission",
    "admit": "{site} is admitted by {by}",
    "remove": "{site} is removed by {by}",
    "reopened": "{site} goes on after a loss, says {by}: it has taken message {taken}, and {known} are known here",
    "join-token": "a join token for {site} is made by {by}",
    "join-tokens-cancelled": "{count} join tokens for {site} are cancelled by {by}",
    "person": "{name} is {role} now, by {by}",
    "person-disabled": "{name} is disabled by {by}",
    "alarm": "alarm {why} at {site}, about the record of {of}: {text}",
    "acknowledged": "alarms about {site} are acknowledged by {by}",
}
"""By kind of entry of the audit log; other kinds come too often, or tell an operator nothing."""
GRAVE = ("run-waits", "run-ended", "decision", "refusal", "alarm")
USUAL = {"status": "finished", "decision": "approve"}
"""With these, what is grave else is as it should be."""
LONGEST = 300
WINDOW_S, MOST = 60.0, 100
"""Refusals are counted for so long, and so many kinds of them, each from one address."""
OTHERS = ("other requests are refused", "other addresses")


def tell(tx: Transaction, kind: str, body: Mapping[str, Any]) -> None:
    """Log, once this is committed, what an entry of the audit log is about, if an operator should know."""
    if kind in LINES:
        usual = kind not in GRAVE or any(body.get(name) == value for name, value in USUAL.items())
        tx.then(partial(log.log, logging.INFO if usual else logging.WARNING, "%s", words(kind, body)))


def words(kind: str, body: Mapping[str, Any]) -> str:
    """The line: one, whatever others wrote into it."""
    told = defaultdict(lambda: "?", {name: _plain(value) for name, value in body.items()})
    told["because"] = f": {told['reason']}" if body.get("reason") else ""
    return LINES[kind].format_map(told)


def _plain(value: Any) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@dataclass
class Refusals:
    """What this process refuses to whom; each is told the first time within a minute, then the tenth, the hundredth."""

    _since: float = 0.0
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, what: str, address: str, now: float) -> None:
        """Count one, and log it when its time has come. Args:    what: no secret, and nothing that was typed.
        address: of who asks, as the connection has it.   now: in seconds.
        """
        if now - self._since >= WINDOW_S:
            self._since, self._counts = now, {}
        key = (what, address)
        if key not in self._counts and len(self._counts) >= MOST:
            key = OTHERS
        self._counts[key] = count = self._counts.get(key, 0) + 1
        if str(count).strip("0") == "1":
            times = f", {count} times within a minute" if count > 1 else ""
            log.warning("%s, from %s%s", *key, times)
