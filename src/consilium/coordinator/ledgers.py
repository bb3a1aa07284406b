"""What the coordinator writes beside a run: its audit log and the sites' inboxes. One transaction with their cause."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select, text

from consilium.coordinator import news
from consilium.core.ids import SiteId, canonical, digest
from consilium.governance import audit as chain
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import audit, inbox, sites
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint, Delivered

LOG = "coordinator"
_TIP = chain.Tip()
_LAST = Hot(select(audit).order_by(audit.c.seq.desc()).limit(1))
_ONE_WRITER = Hot(select(sites.c.site).where(sites.c.site == bindparam("site")).with_for_update())
_NEWEST = Hot(
    select(inbox.c.seq, inbox.c.digest)
    .where(inbox.c.site == bindparam("site"))
    .order_by(inbox.c.seq.desc()).limit(1)
)  # fmt: skip


def record(tx: Transaction, kind: str, body: dict[str, Any], now: datetime) -> None:
    """Append one entry to the audit log; what an operator should know is logged, too."""
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    last = tx.row(_LAST)
    entry = _TIP.append(None if last is None else last.entry, kind=kind, body=body, at=now)
    tx.put(audit, seq=entry.seq, entry=entry.data)
    news.tell(tx, kind, body)


def checkpoint(tx: Transaction, now: datetime) -> Checkpoint:
    """The head of the audit log, to be signed."""
    last = tx.row(_LAST)
    head = _TIP.head(None if last is None else last.entry)
    return Checkpoint(log=LOG, seq=head.seq, head=head.digest, at=now)


def newest(tx: Transaction, site: str) -> int:
    """Number of the newest message in a site's inbox."""
    return int(tx.scalar(_NEWEST, site=site) or 0)


def post(tx: Transaction, identity: Identity, site: SiteId, message: Delivered) -> None:
    """Put a signed message into a site's inbox; whose, and its place there, are signed with it."""
    post_all(tx, identity, [site], message)


def post_all(tx: Transaction, identity: Identity, to: Sequence[SiteId], message: Delivered) -> None:
    """Put a message into the inboxes of several sites, signed for each of them."""
    if not to:
        return
    rows, many = [], tx.connection.dialect.name == "postgresql"
    told = message.model_dump(mode="json")  # once: only its place differs from site to site
    for site in sorted(to):  # in one order, so that two that post do not wait for each other
        if many:  # SQLite has one writer at a time
            tx.rows(_ONE_WRITER, site=site)
        last = tx.placed.get(site) or tx.row(_NEWEST, site=site)
        number, before = (last[0] + 1, last[1]) if last else (1, None)
        rows.append(_placed(tx, identity, site, message.TYPE, told, number, before))
    tx.put(inbox, *rows)


def reopen(tx: Transaction, identity: Identity, site: SiteId, message: Delivered, after: int) -> None:
    """Put a message into a site's inbox with the number that follows `after`, and drop what stood there from it on."""
    tx.rows(_ONE_WRITER, site=site)
    tx.do(delete(inbox).where(inbox.c.site == site, inbox.c.seq > after))
    tx.forget.add(site)
    tx.posted.pop(site, None)
    tx.put(inbox, _placed(tx, identity, site, message.TYPE, message.model_dump(mode="json"), after + 1, None))


def _placed(
    tx: Transaction, identity: Identity, site: SiteId, kind: str, told: dict[str, Any], number: int, before: str | None
) -> dict[str, Any]:
    payload = canonical({**told, "to": site, "number": number, "before": before})
    envelope = seal(kind, payload, identity)
    tx.posted.setdefault(site, []).append((number, envelope))
    tx.placed[site] = (number, digest(payload))
    tx.ring(f"inbox:{site}")
    return {"site": site, "seq": number, "digest": tx.placed[site][1], "envelope": envelope}
