"""What sites signed of their logs against what they sign later; and what they say when ours contradicts theirs.

A contradiction stops nothing. It is an alarm: an entry of the audit log, and words that people see until one of them
has acknowledged it.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update

from consilium.coordinator.ledgers import LOG, record
from consilium.core.errors import EnvelopeInvalid
from consilium.core.ids import Digest, SiteId
from consilium.governance import audit as chain
from consilium.governance.audit import Contradiction, Head
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import alarms, checkpoints, inbox
from consilium.wire.messages import Alarm, Checkpoint

Json = dict[str, Any]
LOST = ("inbox-went-back", "inbox-rewritten")
"""Alarms that end when an administrator opens the site's inbox again."""
_STANDING = Hot(select(checkpoints).where(checkpoints.c.site == bindparam("site"), checkpoints.c.stands == 1))
TWINS = "two-agents"
AHEAD = (
    " took messages that this coordinator does not know of: if it was restored from an older copy, its administrator "
    "says so with `consilium sites reopen`"
)
TWICE = "two agents ran at once of "
TWICE_NEXT = ", which does no task until one is stopped: ask there, then `consilium sites acknowledge`"
MOST = 100
"""Open alarms of one site; more of them tell nothing new."""


def checkpoint(tx: Transaction, site: SiteId, mark: Checkpoint, envelope: bytes, now: datetime) -> None:
    """Keep a site's checkpoint, whatever it says, and compare it with those that were kept before.

    Raises: EnvelopeInvalid: of another log than the site's own.
    """
    if mark.log != site:
        raise EnvelopeInvalid("the checkpoint is of another log", "sign your own site's log")
    shown = Head(mark.seq, Digest(mark.head))
    if tx.find(checkpoints, site=site, seq=shown.seq, head=shown.digest) is not None:
        return
    kept = [Head(row.seq, row.head) for row in _standing(tx, site)]
    base = chain.START if mark.since == 0 else next((head for head in kept if head.seq == mark.since), None)
    found = _compared(base, kept, shown, mark)
    row = {"site": site, "seq": shown.seq, "head": shown.digest, "envelope": envelope, "stands": int(found is None)}
    tx.put(checkpoints, **row)
    if found is not None:
        text = f"{site}'s audit log contradicts what it signed: {found.words}"
        _raise(tx, {"site": site, "of": site, "why": found.why, "number": 0, "last": None}, text, now)


def _compared(base: Head | None, kept: list[Head], shown: Head, mark: Checkpoint) -> Contradiction | None:
    if base is None:
        words = f"its checkpoint begins at entry {mark.since}, of which it signed no head here before"
        return Contradiction("log-gap", chain.START, shown, words)
    return chain.compare(base, kept, shown, [Digest(one) for one in mark.links])


def _standing(tx: Transaction, site: str) -> list[Any]:
    return tx.rows(_STANDING, site=site)


def newest_kept(tx: Transaction, site: str) -> int:
    """The newest entry of a site's log of which a head is kept that stands; 0: none."""
    return max((row.seq for row in _standing(tx, site)), default=0)


def told(tx: Transaction, site: SiteId, alarm: Alarm, now: datetime) -> None:
    """A site says that ours contradicts what it keeps. What it says of its inbox is looked up before it is believed."""
    if alarm.why in LOST:
        row = tx.find(inbox, site=site, seq=alarm.number)
        if row is not None and row.digest == alarm.last:
            return  # it is all as the site has it: something in between answered for us
    about = {"site": site, "of": LOG, "why": alarm.why, "number": alarm.number, "last": alarm.last}
    _raise(tx, about, alarm.text, now)


def twins(tx: Transaction, site: SiteId, now: datetime) -> None:
    """Two agents of a site run at once: an alarm, until a person has looked and acknowledged it."""
    text = (
        f"two agents run under the key of {site}, each with a copy of one folder: none does a task until one is stopped"
    )
    _raise(tx, {"site": site, "of": site, "why": TWINS, "number": 0, "last": None}, text, now)


def _raise(tx: Transaction, about: Json, text: str, now: datetime) -> None:
    """Record an alarm, once while it is open."""
    rows = _open(tx, about["site"])
    if len(rows) >= MOST or any({name: getattr(row, name) for name in about} == about for row in rows):
        return
    tx.do(insert(alarms).values(**about, text=text, at=now))
    record(tx, "alarm", {**about, "text": text}, now)


def _open(tx: Transaction, site: str | None = None) -> list[Any]:
    statement = select(alarms).where(alarms.c.settled.is_(None)).order_by(alarms.c.id)
    return tx.rows(statement if site is None else statement.where(alarms.c.site == site))


def view(tx: Transaction) -> dict[str, list[Json]]:
    """Open alarms by site."""
    found: dict[str, list[Json]] = {}
    for row in _open(tx):
        at = row.at.isoformat().replace("+00:00", "") + "Z"
        found.setdefault(row.site, []).append({"of": row.of, "why": row.why, "text": row.text, "at": at})
    return found


def lost(tx: Transaction, site: str) -> int | None:
    """Newest message that a site says it has taken and that is not ours any more; None: it says no such thing."""
    numbers = [row.number for row in _open(tx, site) if row.why in LOST]
    return numbers[-1] if numbers else None


def behind(tx: Transaction) -> str:
    """Why runs wait for sites that take nothing; empty where none does."""
    lost, double = (", ".join(sorted({row.site for row in _open(tx) if row.why in whys})) for whys in (LOST, (TWINS,)))
    return "; ".join(filter(None, (lost and lost + AHEAD, double and TWICE + double + TWICE_NEXT)))


def settle(tx: Transaction, site: str, by: str, now: datetime) -> int:
    """A person has seen the alarms of a site; its log counts anew from its newest checkpoint. How many there were."""
    rows = _open(tx, site)
    if not rows:
        return 0
    tx.do(update(alarms).where(alarms.c.site == site, alarms.c.settled.is_(None)).values(settled=by))
    if any(row.of == site for row in rows):
        mine = checkpoints.c.site == site
        newest = tx.scalar(select(func.max(checkpoints.c.id)).where(mine))
        tx.do(update(checkpoints).where(mine).values(stands=0))
        tx.do(update(checkpoints).where(checkpoints.c.id == newest).values(stands=1))
    record(tx, "acknowledged", {"site": site, "alarms": sorted({row.why for row in rows}), "by": by}, now)
    return len(rows)
