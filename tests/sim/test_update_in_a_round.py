"""A coordinator that is updated while a round is open holds what sites said to the release of before."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, update

from consilium.coordinator import perform, steps
from consilium.core import round as machine
from consilium.core.run import Status
from consilium.store.database import Transaction
from consilium.store.schema import steps as table
from consilium.wire.envelope import payload_of
from consilium.wire.messages import Step
from sim.world import World


def at_work(world: World) -> None:
    """Sites take their tasks, and answer."""
    for name in world.sites:
        world.do_poll(name)
        world.do_work(name)
        world.do_send(name)


def arrive(world: World) -> None:
    """What they answer."""
    while world.flying:
        world.do_deliver(0, 0)


async def driven(world: World) -> None:
    """Its first process does what is due. Raises: what its driver raises, who would begin with the same anew."""
    for _ in range(24):
        await world.do_drive(0)


def as_of_before(world: World, tx: Transaction) -> int:
    """Nothing in READY says what its site lacks; how many there are."""
    rows = tx.rows(select(table).where(table.c.phase == "READY"))
    for row in rows:
        step = Step.decode(payload_of(row.envelope, Step.TYPE))
        body = {name: value for name, value in step.body.items() if name != "lacks"}
        said = world.sites[row.site].seal(step.model_copy(update={"body": body}))
        mine = (table.c.attempt == row.attempt, table.c.phase == "READY", table.c.site == row.site)
        tx.do(update(table).where(table.c.run == row.run, table.c.round == row.round, *mine).values(envelope=said))
    return len(rows)


@pytest.mark.parametrize("at_once", [True, False], ids=["little is summed", "much is summed"])
def test_a_run_whose_sum_cannot_be_opened_ends_with_a_word_and_the_driver_goes_on(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last answer was refused for ever, or the driver began with the same effect for ever, before those of others'
    runs; with no word but in the log.
    """
    if not at_once:
        monkeypatch.setattr(perform.Performer, "at_once", lambda self, tx, conduct: conduct)
    asyncio.run(updated(World(tmp_path, "secure_sum")))


async def updated(world: World) -> None:
    """It is updated in UNMASK of the first round after keys were agreed."""
    while (round_ := world.fold().round) is None or round_.phase is not machine.Phase.UNMASK:
        at_work(world)
        arrive(world)
        await driven(world)
    at_work(world)
    assert world.look(lambda tx: as_of_before(world, tx)) > 2
    steps._read.cache_clear()
    arrive(world)
    assert not world.refused, "all answers are taken"
    await driven(world)
    assert world.fold().status is Status.FAILED
    assert "of another release than this coordinator" in world.fold().reason and "update all" in world.fold().reason
