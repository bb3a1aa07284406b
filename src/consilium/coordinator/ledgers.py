"""What the coordinator writes beside a run: its audit log and the sites' inboxes. One transaction with their cause."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, text

from consilium.core.ids import SiteId
from consilium.governance import audit as chain
from consilium.store.database import Transaction
from consilium.store.schema import audit, inbox, sites
from consilium.wire.envelope import seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Checkpoint, Delivered

LOG = "coordinator"


def record(tx: Transaction, kind: str, body: dict[str, Any], now: datetime) -> None:
    """Append one entry to the audit log."""
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(text("LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE"))
    last = tx.row(select(audit).order_by(audit.c.seq.desc()).limit(1))
    head = chain.START if last is None else chain.head_of(last.entry)
    entry = chain.append(head, kind=kind, body=body, at=now)
    tx.do(insert(audit).values(seq=entry.seq, entry=entry.data))


def checkpoint(tx: Transaction, now: datetime) -> Checkpoint:
    """The head of the audit log, to be signed."""
    last = tx.row(select(audit).order_by(audit.c.seq.desc()).limit(1))
    head = chain.START if last is None else chain.head_of(last.entry)
    return Checkpoint(log=LOG, seq=head.seq, head=head.digest, at=now)


def post(tx: Transaction, identity: Identity, site: SiteId, message: Delivered) -> None:
    """Put a signed message into a site's inbox; whose, and its number there, are signed with it."""
    tx.scalar(select(sites.c.site).where(sites.c.site == site).with_for_update())  # one writer per inbox
    last = tx.scalar(select(func.max(inbox.c.seq)).where(inbox.c.site == site)) or 0
    placed = message.model_copy(update={"to": site, "number": last + 1})
    envelope = seal(type(message).TYPE, placed.encode(), identity)
    tx.do(insert(inbox).values(site=site, seq=last + 1, envelope=envelope))
    tx.ring(f"inbox:{site}")
