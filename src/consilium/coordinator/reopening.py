"""After a loss: alarms that people acknowledge, and inboxes that go on after a restore from an older copy.

A coordinator that was restored does not know of messages that its sites have taken. Their numbers would be given again,
to others: therefore a site takes nothing until an administrator has said here that it was so. Then the inbox goes on
after the newest number that the site has seen, with what stands now: offers, and the tasks of rounds that are open.
"""

from typing import Any

from sqlalchemy import bindparam, select

from consilium.coordinator import witness
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.endpoints import Call, offer
from consilium.coordinator.ledgers import checkpoint, newest, record, reopen
from consilium.core import run as runs
from consilium.core.errors import Conflict, NotFound
from consilium.core.ids import Digest, RunId, SiteId
from consilium.core.study import Plan
from consilium.governance.audit import link
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import audit, sites, studies
from consilium.store.schema import runs as run_table
from consilium.wire.messages import Reopened
from consilium.wire.requests import Links

PAGE = 200
_LINKS = Hot(select(audit.c.entry).where(audit.c.seq > bindparam("after")).order_by(audit.c.seq).limit(PAGE))


async def links(call: Call) -> Any:
    """Digests of the audit log's entries after a number: what leads from one of its signed heads to a later one."""
    after = call.query.after
    rows = await call.store(lambda tx: tx.rows(_LINKS, after=after))
    return Links(after=after, links=tuple(link(row.entry) for row in rows))


async def acknowledge(call: Call) -> Any:
    """A person has seen the alarms about a site, and what it says of this coordinator."""

    def act(tx: Transaction) -> int:
        _known(tx, call.key)
        if witness.lost(tx, call.key) is not None:
            raise Conflict(
                f"{call.key} holds messages that this coordinator does not know of, and takes no others",
                f"was it restored from an older copy? then `consilium sites reopen {call.key}`",
            )
        return witness.settle(tx, call.key, call.who.name, call.services.now())

    return {"site": call.key, "alarms": await call.store(act)}


async def open_again(call: Call) -> Any:
    """A person says that this coordinator was restored from an older copy: a site's inbox goes on after the loss."""

    def act(tx: Transaction) -> dict[str, int]:
        _known(tx, call.key)
        site, after = SiteId(call.key), witness.lost(tx, call.key)
        if after is None:
            raise Conflict(f"{site} does not say that it lacks anything", "`consilium sites list` shows who does")
        loss = {"taken": after, "known": newest(tx, site)}
        record(tx, "reopened", {"site": site, **loss, "by": call.who.name}, call.services.now())
        _reopen(tx, call, site, after)
        witness.settle(tx, site, call.who.name, call.services.now())
        return loss

    return {"site": call.key, **await call.store(act)}


def _known(tx: Transaction, site: str) -> None:
    if tx.find(sites, site=site) is None:
        raise NotFound(f"there is no site {site}", "`consilium sites list` shows all")


def _reopen(tx: Transaction, call: Call, site: SiteId, after: int) -> None:
    services = call.services
    now, identity = services.now(), services.identity
    going = [row.run for row in tx.rows(select(run_table)) if row.status not in runs.OVER]
    head = checkpoint(tx, now)
    message = Reopened(
        by=call.who.name, at=now, seq=head.seq, head=Digest(head.head), kept=witness.newest_kept(tx, site),
        runs=tuple(sorted(going)),
    )  # fmt: skip
    reopen(tx, identity, site, message, after)
    for row in tx.rows(select(studies).order_by(studies.c.since)):
        offer(tx, services, Plan.load(row.payload), [site])
    for run in sorted(going):
        Conduct.load(tx, identity, RunId(run), now).ask_again(site)
