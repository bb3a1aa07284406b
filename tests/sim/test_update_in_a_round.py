"""A coordinator that is updated while a round is open holds what sites said to the release of before."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select, update

from consilium.coordinator import perform, steps
from consilium.core import round as machine
from consilium.core.run import Status
from consilium.store.database import Transaction
from consilium.store.schema import refusals
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


def before(step: Step) -> Step:
    """The same as a release of before says it."""
    return step.model_copy(update={"body": {name: value for name, value in step.body.items() if name != "lacks"}})


def as_of_before(world: World, tx: Transaction) -> int:
    """Nothing in READY says what its site lacks; how many there are."""
    rows = tx.rows(select(table).where(table.c.phase == "READY"))
    for row in rows:
        said = world.sites[row.site].seal(before(Step.decode(payload_of(row.envelope, Step.TYPE))))
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
    steps._known.clear()
    arrive(world)
    assert not world.refused, "all answers are taken"
    await driven(world)
    assert world.fold().status is Status.FAILED
    assert "of another release than this coordinator" in world.fold().reason and "update all" in world.fold().reason


def test_nobody_waits_for_an_agent_of_before_and_the_owner_hears_why(tmp_path: Path) -> None:
    """What it says is in no sum; all waited for it until the deadline of the round, and nobody heard why."""
    asyncio.run(one_of_before(World(tmp_path, "secure_sum")))


async def one_of_before(world: World) -> None:
    """All but one are of this release."""
    name = sorted(world.sites)[-1]
    site, began = world.sites[name], world.now
    assert site.sealing is not None
    real = site.sealing.step
    site.sealing.step = lambda task: site.seal(before(Step.decode(payload_of(real(task), Step.TYPE))))  # type: ignore[method-assign]
    for _ in range(40):
        if (round_ := world.fold().round) is not None and (round_.number, round_.phase) == (1, machine.Phase.MASK):
            break
        at_work(world)
        arrive(world)
        await driven(world)
    else:
        pytest.fail("the others go on")
    assert name not in round_.roster and world.now == began and not world.refused
    (told,) = world.look(lambda tx: tx.rows(select(refusals)))
    assert (told.site, told.round, told.reason) == (name, 1, "release")
    assert "update the agent there" in told.text
