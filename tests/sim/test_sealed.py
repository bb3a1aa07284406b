"""Secure sums of simulated sites and the product's coordinator: the sums are right, whatever was lost on the way."""

import asyncio
import os
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from consilium.coordinator import perform
from consilium.coordinator.conduct import Conduct
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.ids import Digest, SiteId
from consilium.core.round import Phase
from consilium.governance import audit as log
from consilium.store.database import Transaction
from consilium.store.schema import audit, effects, results, sites
from consilium.wire.messages import Blob, Refusal, Task
from sim.sealing import Sealing
from sim.test_faults import chosen
from sim.world import ROUNDS, RUN, SEALED, Operation, World, living

SEED = int(os.environ.get("SIM_SEED", "0"))
SEEDS, LONG_SEEDS = 8, 300
QUORUM = 3
THREE = SEALED[:3]


class Sealed(World):
    """A world of secure sums."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "secure_sum")


def played(operations: list[Operation]) -> tuple[int, ...]:
    """Let the operations happen, then calm, then check every law. How many took part in each round."""

    async def play() -> tuple[int, ...]:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            world = World(Path(folder), "secure_sum")
            try:
                await world.play(operations)
                fold = await world.calm(160)
                ended(world, fold)
                world.look(lambda tx: kept(world, tx, fold))
                return tuple(len(sites) for _, sites in sorted(fold.took_part.items()))
            finally:
                world.close()

    return asyncio.run(play())


def ended(world: World, fold: runs.Run) -> None:
    """The run ended, or waits for sites that are truly missing; nobody was refused wrongly."""
    willing = [name for name, site in world.sites.items() if site.willing]
    opening = fold.round is not None and fold.round.opening and not fold.round.closed
    if world.stopped:
        assert fold.status in (runs.Status.STOPPED, runs.Status.FINISHED)
    elif len(willing) >= QUORUM and not opening:
        assert fold.status is runs.Status.FINISHED, f"{fold.status}: {fold.reason}; willing are {willing}"
    elif fold.status is not runs.Status.FINISHED:
        assert fold.status is runs.Status.PAUSED
        if len(willing) >= QUORUM:  # what may be open already waits for those who can open it
            assert fold.round is not None and fold.round.phase is Phase.UNMASK
            assert len(fold.round.asked(Phase.UNMASK) & set(willing)) < fold.round.least
    for site, kind, why in world.refused:
        assert why.startswith(("OutOfPhase", "UnknownSite")), f"{site} {kind}: {why}"


def kept(world: World, tx: Transaction, fold: runs.Run) -> None:
    """Each sum is that over its survivors, and never of fewer than three; nothing is left undone."""
    rows = {row.round: row for row in tx.rows(select(results).where(results.c.run == RUN))}
    for number, took_part in fold.took_part.items():
        assert len(took_part) >= QUORUM
        blob = Blob(digest=rows[number].state, size=1)
        about: Any = {"study": "sim", "run": RUN, "plan": world.plan.digest, "deadline": "2030-01-01T00:00:00Z"}
        kind = "TRAIN" if number <= ROUNDS else "EVALUATE"
        task = Task(**about, round=number, kind=kind, phase="MASK", roster=(), state=blob, initial=blob, aggregate=None)
        sums = chain.read(world.shelf.read(tx, Digest(rows[number].aggregate))).arrays
        for name in world.arrays("east", task):
            wanted = sum(world.arrays(site, task)[name] for site in took_part)
            assert np.allclose(sums[name], wanted, rtol=0, atol=4e-9), f"{name} of round {number}"
    stuck = tx.rows(select(effects).where(effects.c.done.is_(None), effects.c.kind != "deadline"))
    assert stuck == [], f"never done: {[row.key for row in stuck]}"
    log.verify(row.entry for row in tx.rows(select(audit).order_by(audit.c.seq)))


def test_a_run_of_secure_sums_ends_with_the_sums_of_all_and_tells_of_as_many_as_one_of_them_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """South's policy asks for sums over four; what is told of a group of patients is of as many."""
    own, floors = Sealing._own, []

    def strict(self: Sealing, task: Task, attempt: int) -> Any:
        return own(self, task, attempt).model_copy(update={"min_sites": 4 if self.site == "south" else 3})

    asked, ask = list[Phase](), Conduct._ask
    monkeypatch.setattr(Conduct, "_ask", lambda self, effect: asked.append(effect.phase) or ask(self, effect))  # type: ignore[func-returns-value]
    monkeypatch.setattr(Sealing, "_own", strict)
    monkeypatch.setattr(perform, "judged", lambda study, arrays, alone, hospitals, least: floors.append(least))
    assert played([]) == (4, 4, 4) and floors == [4]
    assert Phase.CONFIRM not in asked and asked.count(Phase.UNMASK) == 3, "nobody was lost"


def test_who_sends_false_shares_is_named_and_the_others_open_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, named = Sealing._unmask, []

    def lying(self: Sealing, task: Task) -> tuple[Any, None]:
        told, _ = honest(self, task)
        if self.site == "south":
            told = told.model_copy(update={"own": dict.fromkeys(told.own, bytes(33))})
        return told, None

    def performed(self: Conduct, number: int, kind: str, state: str, sums: Any, figures: Any, by: str) -> None:
        named.append(figures.get("false_shares"))
        record(self, number, kind, state, sums, figures, by)

    record = Conduct.performed
    monkeypatch.setattr(Sealing, "_unmask", lying)
    monkeypatch.setattr(Conduct, "performed", performed)
    assert played([]) == (4, 4, 4)
    assert [one for one in named if one] == [["south"]] * (ROUNDS + 1)


def test_keys_that_are_agreed_anew_as_a_round_closes_are_not_ended_by_its_closing() -> None:
    """South opens the sum and goes, west comes: with the last answer the round closes, and keys are agreed anew."""

    def step(world: World, name: str, *, until: Phase) -> None:
        """A site does what it is asked, up to a phase, and it arrives."""
        world.do_poll(name)
        task = world.sites[SiteId(name)].task
        if task is not None and Phase(task.phase) is not until:
            world.do_work(name)
        world.do_send(name)
        while world.flying:
            world.do_deliver(0, 0)

    async def story(world: World) -> None:
        while world.fold().round is None or world.fold().round.phase is not Phase.UNMASK:
            for name in THREE:
                step(world, name, until=Phase.UNMASK)
            await world.do_drive(0)
        for name in ("east", "south"):
            step(world, name, until=Phase.KEYS)
        world.do_decide("south", "revoke")
        for name in ("south", "west", "north"):
            step(world, name, until=Phase.KEYS)
        while not world.fold().took_part:
            await world.do_drive(0)
        assert world.fold().took_part == {1: THREE} and sorted(world.fold().round.roster) == ["east", "north", "west"]
        for name in ("east", "north"):
            world.do_poll(name)
            task = world.sites[SiteId(name)].task
            assert task is not None and (task.kind, task.phase) == ("PAIR", "KEYS"), name
        fold = await world.calm(160)
        assert fold.status is runs.Status.FINISHED, fold.reason

    with living(Sealed) as world:
        asyncio.run(story(world))


class Remembering(World):
    """Each site was in sums at these models over `before`: it masks in no sum over others. Some may be away."""

    before: frozenset[str] = frozenset(SEALED)
    away: frozenset[str] = frozenset()

    def do_poll(self, name: str) -> None:
        if name not in self.away:
            super().do_poll(name)

    def do_work(self, name: str) -> None:
        site = self.sites[SiteId(name)]
        task = site.task
        if task is not None and task.phase == "MASK" and set(task.roster) != self.before:
            site.task, about = None, {one: getattr(task, one) for one in ("study", "plan", "run", "round", "attempt")}
            site.outbox.append(site.seal(Refusal(**about, reason="difference", text="")))
        else:
            super().do_work(name)

    async def hours(self) -> None:
        """Everybody who is here does what there is to do, while the time of some deadlines passes."""
        here = sorted(set(self.sites) - self.away)
        for _ in range(8):
            self.look(lambda tx: tx.do(update(sites).where(sites.c.site.in_(here)).values(last_seen=self.now)))
            for name in here:
                self.look(partial(self._beat, name=name))
            await self.calm_once()
            self.now += 200

    def _beat(self, tx: Transaction, name: str) -> None:
        conduct = Conduct.load(tx, self.identity, RUN, datetime.fromtimestamp(self.now, UTC))
        if conduct.fold.status is runs.Status.PAUSED:
            conduct.returned(SiteId(name))


@pytest.mark.long
@pytest.mark.parametrize("before", [SEALED, ("elsewhere",)])
@pytest.mark.parametrize("who", ["east", "west"])
def test_a_sum_that_is_refused_over_some_is_opened_over_others(
    tmp_path: Path, who: str, before: tuple[str, ...]
) -> None:
    """The refusal of three does not stand against the four, in whose sums they were; theirs does, if they refuse."""
    world = Remembering(tmp_path, "secure_sum")
    world.before = frozenset(before)

    async def play() -> tuple[runs.Run, runs.Run]:
        while not world.fold().cohort:
            await world.calm_once()
        world.away = frozenset({who})
        await world.hours()
        alone, world.away = world.fold(), frozenset()
        await world.hours()
        return alone, world.fold()

    try:
        alone, all_ = asyncio.run(play())
    finally:
        world.close()
    assert (alone.status, alone.number, alone.attempt) == (runs.Status.PAUSED, 1, 1), (
        "those who refused are not asked again"
    )
    if before == SEALED:
        assert all_.took_part and set(all_.took_part.values()) == {SEALED}, all_.reason
    else:
        assert (all_.status, all_.number, all_.attempt) == (runs.Status.PAUSED, 1, 2)


@pytest.mark.parametrize("part", range(2))
def test_no_fault_loses_a_secure_sum(part: int) -> None:
    for seed in range(SEED + part, SEED + SEEDS, 2):
        played(chosen(Random(seed), seed, SEALED))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_fault_loses_a_secure_sum_for_long() -> None:
    for seed in range(SEED + SEEDS, SEED + LONG_SEEDS):
        played(chosen(Random(seed), seed, SEALED))
