"""The driver with its rows: one process holds a lease, what failed comes again soon, deadlines are of their round."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sqlalchemy import select, update

from consilium.coordinator.bell import Bell
from consilium.coordinator.driver import Driver
from consilium.core.errors import Unavailable
from consilium.store.database import Database
from consilium.store.schema import effects
from sim.test_faults import everyone
from sim.world import LEASE_S, RUN, World, living


def within(act: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        with living(World) as world:
            await act(world)

    asyncio.run(all_of_it())


def row(world: World, kind: str) -> Any:
    """The first effect of this kind."""
    return world.look(lambda tx: tx.row(select(effects).where(effects.c.kind == kind).order_by(effects.c.due)))


def test_what_one_process_has_leased_another_leaves_to_it_until_the_lease_ends() -> None:
    async def act(world: World) -> None:
        await world.play([("drive", 0, ""), ("drive", 0, "")])
        world.do_clock(LEASE_S - 1)
        await world.play([("drive", 1, "")] * 6)
        held = row(world, "begin")
        assert (held.leased_by, held.attempts, held.done) == ("first", 1, None)
        world.do_clock(1)
        await world.play([("drive", 1, "")] * 2)
        assert (row(world, "begin").leased_by, row(world, "begin").attempts) == ("second", 2)

    within(act)


def test_a_lease_is_made_longer_by_its_holder_alone() -> None:
    async def act(world: World) -> None:
        first = world.processes[0].driver
        first.lease_s = 0.03
        world.look(lambda tx: tx.do(update(effects).values(leased_by="second", leased_until=world.now + 1)))
        renewing = asyncio.create_task(first._renew(row(world, "begin").key))
        for by, until in (("second", 1.0), ("first", 0.03)):
            world.look(lambda tx, by=by: tx.do(update(effects).values(leased_by=by)))
            while world.processes[0].database.waiting is None:
                await asyncio.sleep(0.01)
            (what, future), world.processes[0].database.waiting = world.processes[0].database.waiting, None
            future.set_result(world.processes[0].database.run_here(what))
            assert row(world, "begin").leased_until == world.now + until
        renewing.cancel()

    within(act)


def test_what_failed_is_tried_again_soon_and_not_when_its_lease_ends() -> None:
    async def act(world: World) -> None:
        def away(*_: object) -> None:
            raise Unavailable("a disk is away", "")

        performer = world.processes[0].driver.performer
        performer.begin = away  # type: ignore[method-assign, assignment]
        await world.play([("drive", 0, "")] * 6)
        del performer.begin
        failed = row(world, "begin")
        assert failed.done is None and failed.attempts >= 1
        world.do_clock(0.5)
        await world.play([("drive", 0, "")] * 8)
        assert row(world, "begin").done is not None

    within(act)


def test_a_process_that_begins_anew_waits_for_no_lease_of_the_one_that_died() -> None:
    """On SQLite, where there is one process: it held a lease, and was killed."""

    async def act(world: World) -> None:
        world.look(lambda tx: tx.do(update(effects).values(leased_by="dead", leased_until=world.now + LEASE_S)))
        database, stop, performer = Database(world.url, lambda topics: None), asyncio.Event(), world.processes[0]
        clock = lambda: world.now  # noqa: E731
        driver = Driver(database, Bell(), world.identity, performer.driver.performer, "anew", LEASE_S, clock)
        driving = asyncio.create_task(driver.drive(stop))
        for _ in range(100):
            await asyncio.sleep(0.05)
            if row(world, "begin").done is not None:
                break
        driving.cancel()
        await asyncio.wait([driving])
        database.close()
        assert row(world, "begin").leased_by == "anew"

    within(act)


def test_the_deadline_of_a_round_that_is_over_is_not_that_of_the_next() -> None:
    async def act(world: World) -> None:
        await world.play([*everyone(), *(("drive", 0, ""),) * 6, *everyone(), *(("drive", 0, ""),) * 6])
        fold = world.fold()
        assert fold.round is not None and (fold.number, fold.round.overdue) == (2, False)
        first = row(world, "deadline")
        assert first.key == f"{RUN}/deadline/1/1/SUBMIT" and first.done is None
        world.look(lambda tx: world.processes[0].driver._deadline(tx, first))
        after = world.fold()
        assert after == fold and row(world, "deadline").done is not None

    within(act)


def test_how_long_there_is_nothing_to_do_is_until_what_is_due_next() -> None:
    async def act(world: World) -> None:
        driver = world.processes[0].driver
        world.look(lambda tx: tx.do(update(effects).values(due=world.now + 7.0)))
        assert world.look(driver._until_next) == 7.0
        world.look(lambda tx: tx.do(update(effects).values(leased_until=world.now + 9.0)))
        assert world.look(driver._until_next) == 9.0
        world.look(lambda tx: tx.do(update(effects).values(done=world.now)))
        assert world.look(driver._until_next) == 30.0

    within(act)
