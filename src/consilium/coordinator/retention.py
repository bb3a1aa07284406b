"""What the coordinator keeps of blobs, for how long, and how much of one sender.

A contribution is one hospital's update under `plain`: it is dropped a while after the round's sums and state are
durable. So is a masked vector, once the next round is summed, too: until then hospitals compute the sum anew.
What sites said in secure sums, and what opened these, is kept as long as the sums are, and no longer than their run
goes on: a hospital that missed rounds asks for it.
Of states and sums the newest rounds' are kept, the model of a run that is over among them: from these a
hospital that comes back goes on. Plans, initial models and code of studies stay. What was sent and never used goes
after a day. The audit log keeps the digests of all.

Order: first the row, then the file. Killed in between, a file is left that nothing names, and is swept up by its age;
the other way round a row would promise bytes that are gone. What is asked for or sent again is *touched*, and stays for
the whole time anew: so nobody uses what is dropped in the same moment, whichever process he asks.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select

from consilium.coordinator.ledgers import record
from consilium.core import run as runs
from consilium.core.errors import OverQuota, Unavailable
from consilium.core.ids import Digest
from consilium.core.round import Phase
from consilium.core.study import Plan
from consilium.store.blobs import Directory
from consilium.store.database import Database, Transaction
from consilium.store.schema import blobs, contributions, grants, openings, results, steps, studies
from consilium.store.schema import runs as run_table

log = logging.getLogger(__name__)
GB = 1 << 30
DAY_S = 86400.0
EVERY_S = 600.0
CHUNK = 500
MOST = 1e9
"""No quota, time or number of rounds is meant beyond."""


@dataclass(frozen=True)
class Keeping:
    """What the coordinator's administrator sets in `coordinator.json`."""

    quota_gb: float = 100.0
    keep_minutes: float = 60.0
    keep_rounds: int = 10


@dataclass
class Retention:
    """One per process; several may work on one database and folder."""

    database: Database
    blobs: Directory
    keeping: Keeping

    async def watch(self, stop: asyncio.Event) -> None:
        """Drop and sweep at the start, and then again and again, until `stop`."""
        swept = 0.0
        while not stop.is_set():
            now = time.time()
            try:
                await self.drop(now)
                if now - swept >= DAY_S:
                    await self.sweep(now)
                    swept = now
            except (Unavailable, OSError) as error:
                log.warning("nothing is dropped for now: %s", error)
            try:
                await asyncio.wait_for(stop.wait(), EVERY_S)
            except TimeoutError:
                continue

    async def drop(self, now: float) -> list[Digest]:
        """Drop what nothing needs any more, in many small transactions; what was dropped."""
        before, gone = now - self.keeping.keep_minutes * 60, []
        await self.database.run(partial(forget_said, keeping=self.keeping))
        last: str | None = ""
        while last is not None:
            act = partial(forget, keeping=self.keeping, now=now, after=last)
            found, last = await self.database.run(lambda tx, act=act: act(tx))  # type: ignore[misc]
            for digest in found:
                await asyncio.get_running_loop().run_in_executor(None, self.blobs.remove, digest, before)
            gone += found
        return gone

    async def sweep(self, now: float) -> None:
        """Remove what processes left behind that died: of more than a day ago, and in nobody's use."""
        loop, before = asyncio.get_running_loop(), now - DAY_S
        await loop.run_in_executor(None, self.blobs.sweep, before)
        old = await loop.run_in_executor(None, self.blobs.older, before)
        for at in range(0, len(old), CHUNK):
            part = old[at : at + CHUNK]
            known = await self.database.run(partial(_known, digests=part))
            for digest in set(part) - known:
                await loop.run_in_executor(None, self.blobs.remove, digest, before)


def forget(tx: Transaction, keeping: Keeping, now: float, after: str = "") -> tuple[list[Digest], str | None]:
    """Remove the rows of blobs that nothing needs any more, in one transaction with the record of it.

    Looks at some of the blobs whose digests follow `after`; gives what was removed, and where to go on, or None.
    """
    before = now - keeping.keep_minutes * 60
    page = (
        select(blobs.c.digest, blobs.c.size, blobs.c.touched)
        .where(blobs.c.touched < before, blobs.c.digest > after)
        .order_by(blobs.c.digest)
    )
    rows = tx.rows(page.limit(CHUNK))
    names = [row.digest for row in rows]
    needed, used = _needed(tx, names, keeping.keep_rounds), _used(tx, names)
    gone = [row for row in rows if row.digest not in needed and (row.digest in used or row.touched < now - DAY_S)]
    # Once more the time: whoever touched it since we looked has it for the whole time anew.
    gone = [row for row in gone if tx.do(delete(blobs).where(blobs.c.digest == row.digest, blobs.c.touched < before))]
    found = [Digest(row.digest) for row in gone]
    if found:
        tx.do(delete(grants).where(grants.c.digest.in_(found)))
        body = {"blobs": len(found), "bytes": sum(row.size for row in gone)}
        record(tx, "dropped", body, datetime.fromtimestamp(now, UTC))
    return found, names[-1] if len(rows) == CHUNK else None


def forget_said(tx: Transaction, keeping: Keeping) -> None:
    """Remove what was said in secure sums that nobody checks any more, and in agreements on keys that were replaced.

    Not the keys: by these it is checked who signed in rounds before.
    """
    over = select(run_table.c.run).where(run_table.c.status.in_([status.value for status in runs.OVER]))
    for table in (steps, openings):
        newest = select(func.max(results.c.round)).where(results.c.run == table.c.run).scalar_subquery()
        old = and_(table.c.round > 0, table.c.round <= newest - max(keeping.keep_rounds, 2))
        tx.do(delete(table).where(or_(table.c.run.in_(over), old)))
    later = steps.alias()
    anew = exists().where(later.c.run == steps.c.run, later.c.round == 0, later.c.attempt > steps.c.attempt)
    tx.do(delete(steps).where(steps.c.round == 0, steps.c.phase != Phase.KEYS.value, anew))


def _needed(tx: Transaction, names: list[str], rounds: int) -> set[str]:
    needed: set[str] = set()
    for row in tx.rows(select(studies.c.plan, studies.c.payload)):
        model = Plan.load(row.payload).study.model
        needed |= {name for name in (row.plan, model.initial, model.wheel) if name}
    newest = select(results.c.run, func.max(results.c.round).label("newest")).group_by(results.c.run).subquery()
    late = select(results.c.state, results.c.aggregate).join(newest, newest.c.run == results.c.run)
    late = late.where(_named(names), results.c.round > newest.c.newest - max(rounds, 2))
    needed |= {name for row in tx.rows(late) for name in row}
    summed = exists().where(results.c.run == contributions.c.run, results.c.round == contributions.c.round)
    opened = exists().where(openings.c.run == contributions.c.run, openings.c.round == contributions.c.round)
    last = exists().where(newest.c.run == contributions.c.run, newest.c.newest == contributions.c.round)
    going = select(contributions.c.digest).join(run_table, run_table.c.run == contributions.c.run)
    going = going.where(contributions.c.digest.in_(names), or_(~summed, and_(opened, last)))
    going = going.where(run_table.c.status.not_in([status.value for status in runs.OVER]))
    return needed | {row.digest for row in tx.rows(going)}


def _used(tx: Transaction, names: list[str]) -> set[str]:
    """Those that a run ever used."""
    made = tx.rows(select(results.c.state, results.c.aggregate).where(_named(names)))
    sent = tx.rows(select(contributions.c.digest).where(contributions.c.digest.in_(names)))
    return {name for row in (*made, *sent) for name in row}


def _named(names: list[str]) -> ColumnElement[bool]:
    return or_(results.c.state.in_(names), results.c.aggregate.in_(names))


def _known(tx: Transaction, digests: Iterable[Digest]) -> set[Digest]:
    return {Digest(row.digest) for row in tx.rows(select(blobs.c.digest).where(blobs.c.digest.in_(list(digests))))}


def room_for(tx: Transaction, sender: str, more: int, quota_gb: float) -> None:
    """Whether a sender may have `more` bytes here, beside those that are whole. Raises: OverQuota."""
    held = int(tx.scalar(select(func.sum(blobs.c.size)).where(blobs.c.sender == sender)) or 0)
    if held + more > quota_gb * GB:
        raise OverQuota(
            f"{sender.partition(':')[2]} has {held} bytes at this coordinator, and {more} more would exceed its "
            f"{quota_gb:g} GB",
            "wait: contributions are dropped some time after their rounds; or ask the admin for a larger quota_gb",
        )
