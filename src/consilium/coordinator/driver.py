"""The driver: leases due effects and performs them, at least once each; any process may die at any line.

Several coordinator processes share the work: a lease is a row update that only one of them wins, and it runs out by
itself when its holder dies. Performing twice is harmless: the same bytes, and the round takes the same answer once.
Clocks may be wrong, set back, or differ between processes: that holds up no work, and moves deadlines alone.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, case, func, or_, select, update

from consilium.coordinator.bell import Bell
from consilium.coordinator.conduct import IDLE_S, Conduct
from consilium.coordinator.perform import Done, Needs, Performer
from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import ConsiliumError, Invalid, Unavailable
from consilium.core.ids import Digest, RunId
from consilium.core.state import Source
from consilium.core.study import Plan
from consilium.store.database import Database, Transaction
from consilium.store.hot import Hot
from consilium.store.schema import effects
from consilium.wire.identity import Identity

log = logging.getLogger(__name__)
Needed = tuple[Conduct | None, Needs | None]
"""The run of an effect, and what APPLY of its open round works on; nothing, of what needs none."""
_NOW: BindParameter[float] = bindparam("now")
_KEY = effects.c.key == bindparam("of")
_FAR: BindParameter[float] = bindparam("far")
FAR_S = 60.0
"""But for deadlines nothing is due so much later than a lease lasts, nor leased: a clock was ahead that said so."""
_DUE = Hot(
    select(effects)
    .where(
        effects.c.done.is_(None),
        or_(effects.c.due <= _NOW, and_(effects.c.due > _FAR, effects.c.kind != "deadline")),
        or_(effects.c.leased_until <= _NOW, effects.c.leased_until > _FAR),
    )
    .order_by(effects.c.due).limit(1).with_for_update(skip_locked=True)
)  # fmt: skip
_LEASE = Hot(
    update(effects).where(_KEY)
    .values({name: bindparam(name) for name in ("leased_by", "leased_until", "attempts")})
)  # fmt: skip
_LATER = case((effects.c.leased_until > effects.c.due, effects.c.leased_until), else_=effects.c.due)
"""When an effect may be leased: when it is due, or when the present lease runs out."""
_SOONEST = Hot(select(func.min(_LATER)).where(effects.c.done.is_(None)))
_DONE = Hot(update(effects).where(_KEY).values(done=bindparam("done")))


@dataclass
class Driver:
    """One per process. `lease_s`: after this long the work of a dead process is taken over."""

    database: Database
    bell: Bell
    identity: Identity
    performer: Performer
    name: str
    lease_s: float = 30.0
    clock: Callable[[], float] = time.time

    async def drive(self, stop: asyncio.Event) -> None:
        """Lease and perform until `stop`."""
        if not self.database.postgres:  # one process: what it had leased before it died waits for nobody else
            await self.database.run(partial(_do, update(effects).values(leased_until=0.0)))
        while not stop.is_set():
            with self.bell.listen("effects") as bell:
                try:
                    busy, wait = await self._round_trip()
                except (Unavailable, OSError) as error:
                    log.warning("the driver waits: %s", error)
                    busy, wait = False, 1.0
                except Exception:  # whatever one run holds, the process and the other runs go on
                    log.exception("the driver waits")
                    busy, wait = False, 1.0
                if not busy:
                    await bell.wait(wait)

    async def _round_trip(self) -> tuple[bool, float]:
        leased, needs, wait = await self.database.run(self._next)
        if leased is None:
            return False, wait
        await self._perform(leased, needs)
        return True, 0.0

    def _next(self, tx: Transaction) -> tuple[Any, Needed | BaseException, float]:
        """What is due, leased, with what it needs, or why that cannot be had; or how long there is nothing."""
        leased = self._lease(tx)
        if leased is None:
            return None, (None, None), self._until_next(tx)
        if leased.kind == "deadline":
            return leased, (None, None), 0.0
        needs, error = tx.apart(partial(self._needs, effect=leased))  # else it is due first for ever, before all runs'
        return leased, error or needs, 0.0

    def _lease(self, tx: Transaction) -> Any:
        now = self.clock()
        row = tx.row(_DUE, now=now, far=now + self.lease_s + FAR_S)
        if row is not None:
            lease = {"leased_by": self.name, "leased_until": now + self.lease_s, "attempts": row.attempts + 1}
            tx.do(_LEASE, of=row.key, **lease)
        return row

    def _until_next(self, tx: Transaction) -> float:
        at = tx.scalar(_SOONEST)
        return IDLE_S if at is None else min(max(float(at) - self.clock(), 0.05), IDLE_S)

    async def _perform(self, effect: Any, needs: Needed | BaseException) -> None:
        renewing = asyncio.create_task(self._renew(effect.key))
        try:
            if isinstance(needs, BaseException):
                raise needs
            await self._act(effect, *needs)
        except Invalid as error:  # it will not become right by trying again
            await self.database.run(partial(self._fail, effect=effect, reason=_told(error)))
        except ConsiliumError as error:
            log.warning("%s is tried again: %s", effect.key, error)
            await self.database.run(lambda tx: self._postpone(tx, effect))
        except Exception:  # of one run: the others go on, and this one is tried again until it is mended
            log.exception("%s failed and is tried again", effect.key)
            await self.database.run(lambda tx: self._postpone(tx, effect))
        finally:
            renewing.cancel()

    async def _renew(self, key: str) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            mine = (effects.c.key == key) & (effects.c.leased_by == self.name)
            longer = update(effects).where(mine).values(leased_until=self.clock() + self.lease_s)
            with contextlib.suppress(Unavailable):  # the lease may run out: whoever takes over does the same
                await self.database.run(partial(_do, longer))

    async def _act(self, effect: Any, conduct: Conduct | None, needs: Needs | None) -> None:
        run = RunId(effect.run)
        if conduct is None:
            (await self.database.run(lambda tx: self._deadline(tx, effect))).remember()
            return
        if effect.kind == "apply" and needs is None:
            await self.database.run(lambda tx: self._done(tx, effect))
            return
        done = await (self._begun(conduct.plan, run) if needs is None else self._applied(conduct.plan, run, needs))

        def commit(tx: Transaction) -> Conduct:
            after = self.performer.commit(tx, done, _now(self.clock))
            self._done(tx, effect)
            return after

        (await self.database.run(commit)).remember()

    async def _begun(self, plan: Plan, run: RunId) -> Done:
        assert plan.study.model.initial is not None
        (initial,) = await self._read([Digest(plan.study.model.initial)])
        return await asyncio.get_running_loop().run_in_executor(None, self.performer.begin, plan, run, initial)

    async def _applied(self, plan: Plan, run: RunId, needs: Needs) -> Done:
        loop, total, work = asyncio.get_running_loop(), None, self.performer
        for batch in needs.batches(work.shelf.small):
            sites, parts = [site for site, _ in batch], await self._read([digest for _, digest in batch])
            total = await loop.run_in_executor(None, work.sum, plan, run, needs, total, sites, parts)
        (before,) = await self._read([needs.state])
        assert total is not None
        return await loop.run_in_executor(None, work.apply, plan, run, needs, total, before)

    async def _read(self, digests: list[Digest]) -> list[Source]:
        shelf = self.performer.shelf
        return await self.database.run(lambda tx: [shelf.read(tx, digest) for digest in digests])

    def _needs(self, tx: Transaction, effect: Any) -> Needed:
        conduct = Conduct.load(tx, self.identity, RunId(effect.run), _now(self.clock))
        round_ = conduct.fold.round
        if effect.kind != "apply" or round_ is None or conduct.fold.status in runs.OVER:
            return conduct, None
        wanted = conduct.applies(int(effect.key.split("/")[-1]))
        return conduct, Needs(tx, conduct, self.performer.shelf) if wanted else None

    def _deadline(self, tx: Transaction, effect: Any) -> Conduct:
        conduct = Conduct.load(tx, self.identity, RunId(effect.run), _now(self.clock))
        number, attempt, phase = effect.key.split("/")[-3:]
        current = conduct.fold.current == (int(number), int(attempt))
        if current and conduct.fold.status not in runs.OVER:
            conduct.take(machine.DeadlinePassed(machine.Phase(phase)))
        self._done(tx, effect)
        return self.performer.at_once(tx, conduct)

    def _done(self, tx: Transaction, effect: Any) -> None:
        tx.do(_DONE, of=effect.key, done=self.clock())

    def _postpone(self, tx: Transaction, effect: Any) -> None:
        later = self.clock() + min(0.05 * 2 ** min(effect.attempts, 10), 30.0)
        tx.do(update(effects).where(effects.c.key == effect.key).values(due=later, leased_until=0.0))

    def _fail(self, tx: Transaction, effect: Any, reason: str) -> None:
        conduct = Conduct.load(tx, self.identity, RunId(effect.run), _now(self.clock))
        if conduct.fold.status not in runs.OVER:
            conduct.take(runs.Stopped(reason, failed=True))
        self._done(tx, effect)


def _told(error: Exception) -> str:
    """Why, as it fits a message: a plan may have put anything into it."""
    return str(error).replace("\x00", " ")[:2000]


def _do(statement: Any, tx: Transaction) -> None:
    tx.do(statement)


def _now(clock: Callable[[], float]) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)
