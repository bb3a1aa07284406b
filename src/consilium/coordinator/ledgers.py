"""What the coordinator writes beside a run: its audit log and the sites' inboxes. One transaction with their cause."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, text

from consilium.core.ids import SiteId
from consilium.governance import audit as chain
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import audit, inbox, sites
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint, Delivered

LOG = "coordinator"
_LAST = Hot(select(audit).order_by(audit.c.seq.desc()).limit(1))
_ONE_WRITER = Hot(select(sites.c.site).where(sites.c.site == bindparam("site")).with_for_update())
_NEWEST = Hot(select(func.max(inbox.c.seq).label("seq")).where(inbox.c.site == bindparam("site")))


def record(tx: Transaction, kind: str, body: dict[str, Any], now: datetime) -> None:
    """Append one entry to the audit log."""
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    last = tx.row(_LAST)
    head = chain.START if last is None else chain.head_of(last.entry)
    entry = chain.append(head, kind=kind, body=body, at=now)
    tx.put(audit, seq=entry.seq, entry=entry.data)


def checkpoint(tx: Transaction, now: datetime) -> Checkpoint:
    """The head of the audit log, to be signed."""
    last = tx.row(_LAST)
    head = chain.START if last is None else chain.head_of(last.entry)
    return Checkpoint(log=LOG, seq=head.seq, head=head.digest, at=now)


def post(tx: Transaction, identity: Identity, site: SiteId, message: Delivered) -> None:
    """Put a signed message into a site's inbox; whose, and its number there, are signed with it."""
    post_all(tx, identity, [site], message)


def post_all(tx: Transaction, identity: Identity, to: Sequence[SiteId], message: Delivered) -> None:
    """Put a message into the inboxes of several sites, signed for each of them."""
    if not to:
        return
    rows, many = [], tx.connection.dialect.name == "postgresql"
    for site in sorted(to):  # in one order, so that two that post do not wait for each other
        if many:  # SQLite has one writer at a time
            tx.rows(_ONE_WRITER, site=site)
        before = tx.posted.get(site)
        number = (before[-1][0] if before else tx.scalar(_NEWEST, site=site) or 0) + 1
        placed = message.model_copy(update={"to": site, "number": number})
        envelope = seal(type(message).TYPE, placed.encode(), identity)
        rows.append({"site": site, "seq": number, "envelope": envelope})
        tx.posted.setdefault(site, []).append((number, envelope))
        tx.ring(f"inbox:{site}")
    tx.put(inbox, *rows)
