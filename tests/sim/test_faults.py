"""Whatever dies, is lost, repeated or late: a run ends or says truly why it waits, and its states can be recomputed."""

import asyncio
import io
import os
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update

from consilium.coordinator.perform import strategy
from consilium.core import run as runs
from consilium.core import state as chain
from consilium.core.ids import Digest
from consilium.governance import audit as log
from consilium.store.database import Transaction
from consilium.store.schema import audit, contributions, effects, events, results
from consilium.store.schema import runs as run_table
from sim.world import LEASE_S, NAMES, QUORUM, ROUND_S, ROUNDS, RUN, Operation, World, living

SEED = int(os.environ.get("SIM_SEED", "0"))
SEEDS, LONG_SEEDS = 48, 1000


def chosen(rng: Random, seed: int, names: tuple[str, ...] = NAMES) -> list[Operation]:
    """A list of operations; every third seed has no deadline, revocation or refusal in it, and loses nobody."""
    gentle = seed % 3 == 0
    fault: Callable[[], str] = lambda: rng.choices(("", "before", "after"), (8, 1, 1))[0]  # noqa: E731
    site: Callable[[], str] = lambda: rng.choice(names)  # noqa: E731
    makers: list[tuple[int, Callable[[], Operation]]] = [
        (30, lambda: ("drive", rng.randrange(2), fault())),
        (3, lambda: ("crash", rng.randrange(2))),
        (3, lambda: ("clock", rng.choice((1.0, LEASE_S + 1)))),
        (12, lambda: ("poll", site())),
        (12, lambda: ("work", site())),
        (14, lambda: ("send", site())),
        (16, lambda: ("deliver", rng.randrange(8), rng.randrange(2), fault())),
        (3, lambda: ("drop", rng.randrange(8))),
        (3, lambda: ("repeat", rng.randrange(8))),
    ]
    if not gentle:
        makers += [
            (2, lambda: ("clock", ROUND_S + 1)),
            (5, lambda: ("decide", site(), rng.choice(("approve", "revoke")))),
        ]
    if seed % 6 == 1:
        makers.append((1, lambda: ("stop",)))
    weights = [weight for weight, _ in makers]
    return [make() for make in rng.choices([make for _, make in makers], weights, k=rng.randrange(40, 160))]


def played(operations: list[Operation]) -> None:
    """Let the operations happen, then calm, then check every law."""
    expected = undisturbed()

    async def all_of_it() -> None:
        with living(World) as world:
            await world.play(operations)
            fold = await world.calm()
            ended(world, fold)
            world.look(lambda tx: kept(world, tx, fold, expected))

    asyncio.run(all_of_it())


def ended(world: World, fold: runs.Run) -> None:
    """The run ended, or waits for sites that are truly missing; nothing is left to do; nobody was refused wrongly."""
    willing = [name for name, site in world.sites.items() if site.willing]
    if world.stopped:
        assert fold.status in (runs.Status.STOPPED, runs.Status.FINISHED)
    elif len(willing) >= QUORUM:
        assert fold.status is runs.Status.FINISHED, f"{fold.status}: {fold.reason}; willing are {willing}"
    else:
        assert fold.status is runs.Status.PAUSED
        sites = f"{len(willing)} sites approve this plan"
        answered = len(fold.round.answered(fold.round.phases[0])) if fold.round else 0
        assert fold.reason.startswith((sites, f"round {fold.number}: {answered} of the {QUORUM}")), fold.reason
    for site, kind, why in world.refused:
        assert why.startswith(("OutOfPhase", "UnknownSite")), f"{site} {kind}: {why}"


def kept(world: World, tx: Transaction, fold: runs.Run, undisturbed: Digest) -> None:
    """Every state follows from the one before and the contributions of who took part; logs and caches agree."""
    rows = {row.round: row for row in tx.rows(select(results).where(results.c.run == RUN))}
    assert sorted(rows) == list(range(len(rows))) and (world.stopped or len(rows) == len(fold.took_part) + 1)
    for number, took_part in fold.took_part.items():
        assert len(took_part) >= QUORUM
        sent = {
            row.site: row.digest
            for row in tx.rows(select(contributions).where(contributions.c.run == RUN, contributions.c.round == number))
        }
        stamp = {"run": RUN, "round": str(number), "kind": rows[number].kind}
        sums, _ = chain.fold([world.shelf.read(tx, sent[site]) for site in took_part], stamp, io.BytesIO())
        assert sums == rows[number].aggregate, f"round {number} is not the sum of who took part"
        after = rows[number - 1].state
        if rows[number].kind == "TRAIN":
            before, total = world.shelf.read(tx, after), world.shelf.read(tx, sums)
            after, _ = chain.advance(strategy(world.plan.study), before, after, total, RUN, number, io.BytesIO())
        assert after == rows[number].state, f"the state after round {number} does not follow from the one before"
    if fold.status is runs.Status.FINISHED:
        assert fold.state == rows[ROUNDS].state and set(fold.took_part) == set(range(1, ROUNDS + 2))
        if all(took_part == NAMES for took_part in fold.took_part.values()):
            assert fold.state == undisturbed, "the final state differs from that of an undisturbed run"
    stuck = tx.rows(select(effects).where(effects.c.done.is_(None), effects.c.kind != "deadline"))
    assert stuck == [], f"never done: {[row.key for row in stuck]}"
    log.verify(row.entry for row in tx.rows(select(audit).order_by(audit.c.seq)))
    version = tx.scalar(select(run_table.c.version).where(run_table.c.run == RUN))
    assert [row.seq for row in tx.rows(select(events).order_by(events.c.seq))] == list(range(1, version + 1))
    for process in world.processes:
        known = process.folds.get(RUN)
        assert known is None or known[0] < version or known == (version, fold), "a cache differs from the replay"


def smallest(operations: list[Operation], broken: Callable[[list[Operation]], bool]) -> list[Operation]:
    """Leave out whatever the failure does not need."""
    size = len(operations) // 2
    while size:
        start = 0
        while start < len(operations):
            fewer = operations[:start] + operations[start + size :]
            if broken(fewer):
                operations = fewer
            else:
                start += size
        size //= 2
    return operations


def failure(operations: list[Operation]) -> BaseException | None:
    try:
        played(operations)
    except Exception as error:
        return error
    return None


@cache
def undisturbed() -> Digest:
    """The final state where nothing goes wrong."""

    async def calm() -> Any:
        with living(World) as world:
            return (await world.calm()).state

    state = asyncio.run(calm())
    assert state is not None
    return state


def told(seeds: range) -> None:
    """Play lists of these seeds; a failure tells the smallest list that still fails."""
    for seed in seeds:
        operations = chosen(Random(seed), seed)
        if failure(operations) is not None:
            few = smallest(operations, lambda fewer: failure(fewer) is not None)
            raise AssertionError(f"seed {seed}: {failure(few)!r}\noperations = {few}") from failure(few)


@pytest.mark.parametrize("part", range(4))
def test_no_fault_loses_anything(part: int) -> None:
    told(range(SEED + part, SEED + SEEDS, 4))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_fault_loses_anything_for_long() -> None:
    told(range(SEED + SEEDS, SEED + LONG_SEEDS))


def everyone() -> list[Operation]:
    """Every site takes its messages, works, and is heard."""
    return [step for n in NAMES for step in (("poll", n), ("work", n), ("send", n), ("deliver", 0, 0, ""))]


FAILED: dict[str, list[Operation]] = {
    "a round opened again takes the answers of the opening before": [
        ("drive", 1, ""), ("decide", "south", "revoke"), ("decide", "south", "approve"), ("drive", 1, ""),
        ("send", "south"), ("drive", 1, ""), ("drive", 1, ""),
    ],
    "a hospital that approved after the round was opened steps in for one that revokes": [
        ("drive", 0, ""), ("send", "east"), ("drive", 0, ""), ("drive", 0, ""), ("drive", 0, ""),
        ("decide", "east", "revoke"),
    ],
    "the reason of a pause counts those who approve now": [
        ("decide", "north", "revoke"), ("send", "north"), ("deliver", 4, 0, ""), ("send", "south"),
        ("deliver", 6, 0, ""), ("decide", "east", "revoke"), ("decide", "south", "revoke"),
    ],
    "a refusal holds until the hospital decides anew": [
        ("drive", 0, ""), ("drive", 0, ""), ("drive", 0, ""), ("send", "north"), ("decide", "south", "revoke"),
        ("deliver", 4, 1, ""), ("send", "south"), ("deliver", 2, 1, ""), ("drive", 0, ""), ("poll", "south"),
        ("send", "east"), ("work", "south"), ("decide", "south", "approve"), ("deliver", 2, 1, ""), ("send", "south"),
        ("deliver", 6, 0, ""), ("decide", "north", "revoke"), ("send", "south"), ("deliver", 4, 0, ""),
        ("send", "south"),
    ],
    "the sum of a run that was stopped is not tried for ever": [
        *everyone(), *(("drive", 0, ""),) * 4, *everyone(), ("drive", 0, ""), ("stop",),
    ],
    "a process that slept through its lease closes no later round": [
        *everyone(), *(("drive", 0, ""),) * 4, *everyone(), *(("drive", 0, ""),) * 3, ("clock", LEASE_S + 1),
        *(("drive", 1, ""),) * 4, *everyone(), ("drive", 0, ""),
    ],
}  # fmt: skip


@pytest.mark.parametrize("law", FAILED)
def test_what_failed_once(law: str) -> None:
    played(FAILED[law])


@pytest.mark.parametrize("died", ["", "before it leased anything", "with a lease", "after a failure"])
def test_a_clock_that_is_set_back_holds_up_no_work(died: str) -> None:
    """As where the coordinator's machine begins with a wrong clock, or two of them differ: work is done at once."""

    async def all_of_it() -> list[Any]:
        with living(World) as world:
            if died == "with a lease":
                await world.play([("drive", 0, ""), ("drive", 0, ""), ("crash", 0)])
            if died == "after a failure":
                far = update(effects).values(due=world.now + 30.0)  # as `_postpone` does at most
                world.look(lambda tx: tx.do(far))
            world.do_clock(-3600.0)
            await world.play([("drive", 1, "")] * 8)
            return world.look(lambda tx: tx.rows(select(effects.c.kind, effects.c.done)))

    assert [(row.kind, row.done is None) for row in asyncio.run(all_of_it())] == [("begin", False)]
