"""What is dropped, when, and by whoever is killed: no run ever misses it, and of a contribution nothing is left."""

import asyncio
import os
import threading
import time
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import select, update

from consilium.coordinator.conduct import grant
from consilium.coordinator.retention import DAY_S, Keeping, forget, forget_said, room_for
from consilium.core import run as runs
from consilium.core.errors import Conflict, NotFound, OverQuota
from consilium.core.ids import Digest, digest
from consilium.store.blobs import Directory, Stored
from consilium.store.database import Database, Transaction
from consilium.store.schema import audit, blobs, contributions, grants, openings, results, steps
from consilium.store.schema import runs as runs_table
from consilium.store.shelf import Shelf, touch
from sim.test_faults import chosen, ended
from sim.test_sealed import ended as ended_sealed
from sim.world import RUN, SEALED, Operation, World, living

SEEDS, SEALED_SEEDS, TIMES = 12, 6, 4
KEEPING = Keeping(keep_minutes=1.0, keep_rounds=2)
LATER = 62.0
"""Seconds after which a minute is over for all that was touched until now."""


class Dropping(World):
    """A federation whose coordinator drops at any moment, without any time of grace, and may be killed in between."""

    async def do_forget(self, killed: bool) -> None:
        """Rows go; files go after them unless the process is killed there."""
        gone = drop(self.processes[0].database, time.time() + LATER)
        for name in () if killed else gone:
            self.blobs.remove(name, time.time() + 1.0)


class Sealed(Dropping):
    """The same, of secure sums."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "secure_sum")

    async def calm_once(self) -> None:
        """Also when all is calm."""
        await super().calm_once()
        await self.do_forget(False)


def drop(database: Database, now: float, keeping: Keeping = KEEPING) -> list[Digest]:
    found: list[Digest] = []
    database.run_here(lambda tx: forget_said(tx, keeping))
    last: str | None = ""
    while last is not None:
        gone, last = database.run_here(lambda tx, at=last: forget(tx, keeping, now, at))  # type: ignore[misc]
        found += gone
    return found


def seeds(few: int) -> list[Any]:
    """So many in `make test`, and `TIMES` as many in `make test-long`."""
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(few, TIMES * few))]


@pytest.mark.parametrize("seed", seeds(SEEDS))
def test_no_run_misses_what_was_dropped_and_of_contributions_nothing_is_left(seed: int) -> None:
    rng = Random(seed)
    operations: list[Operation] = []
    for operation in chosen(rng, seed):
        operations.append(operation)
        if rng.random() < 0.3:
            operations.append(("forget", rng.random() < 0.5))

    async def all_of_it() -> None:
        with living(Dropping) as world:
            await world.play(operations)
            fold = await world.calm()
            ended(world, fold)
            if fold.status in runs.OVER:
                left(world, fold)

    asyncio.run(all_of_it())


@pytest.mark.parametrize("seed", seeds(SEALED_SEEDS))
def test_no_secure_sum_misses_what_was_dropped_and_at_the_end_nothing_said_in_it_is_left(seed: int) -> None:
    rng = Random(seed)
    operations: list[Operation] = []
    for operation in chosen(rng, seed, SEALED):
        operations.append(operation)
        if rng.random() < 0.3:
            operations.append(("forget", rng.random() < 0.5))

    async def all_of_it() -> None:
        with living(Sealed) as world:
            await world.play(operations)
            fold = await world.calm(160)
            ended_sealed(world, fold)
            if fold.status in runs.OVER:
                left(world, fold)
                for table in (steps, openings):
                    assert world.look(lambda tx, table=table: tx.rows(select(table))) == []  # type: ignore[misc]

    asyncio.run(all_of_it())


def test_what_was_said_is_kept_for_the_rounds_whose_sums_are_and_for_no_run_that_is_over() -> None:
    rounds, attempts = range(6), (1, 2)

    def fill(tx: Transaction) -> None:
        for number, attempt in product(rounds, attempts):
            for phase in ("MASK",) if number else ("KEYS", "PROVE"):
                place = {"run": RUN, "round": number, "attempt": attempt, "phase": phase, "site": "east"}
                tx.put(steps, **place, digest="", envelope=b"")
        for number in rounds:
            tx.put(results, run=RUN, round=number, kind="TRAIN", state="", figures="{}", performed_by="")
        for number in rounds[1:]:
            tx.put(openings, run=RUN, round=number, attempt=1, body="")

    def kept(table: Any) -> set[tuple[int, int]]:
        return {(row.round, row.attempt) for row in world.look(lambda tx: tx.rows(select(table)))}

    with living(Sealed) as world:
        world.look(fill)
        world.look(lambda tx: forget_said(tx, KEEPING))
        assert kept(steps) == {*product((0, 4, 5), attempts)}
        agreed = {(row.attempt, row.phase) for row in world.look(lambda tx: tx.rows(select(steps))) if not row.round}
        assert agreed == {(1, "KEYS"), (2, "KEYS"), (2, "PROVE")}, "by replaced keys who signed is known"
        assert kept(openings) == {(4, 1), (5, 1)}
        world.look(lambda tx: tx.do(update(runs_table).values(status=runs.Status.STOPPED.value)))
        world.look(lambda tx: forget_said(tx, KEEPING))
        assert kept(steps) == kept(openings) == set()


def left(world: World, fold: runs.Run) -> None:
    """After the end: the model, the newest sums, plan and initial model; and no contribution, neither row nor file."""
    database = world.processes[0].database
    for name in drop(database, time.time() + LATER):
        world.blobs.remove(name, time.time() + LATER)
    rows = {row.digest for row in world.look(lambda tx: tx.rows(select(blobs.c.digest)))}
    for name in set(world.blobs.older(time.time() + LATER)) - rows:  # what those left that were killed in between
        world.blobs.remove(name, time.time() + LATER)
    made = world.look(lambda tx: tx.rows(select(results).order_by(results.c.round)))
    sent = {row.digest for row in world.look(lambda tx: tx.rows(select(contributions.c.digest)))}
    kept = {name for row in made[-2:] for name in (row.state, row.aggregate) if name}
    kept |= {world.plan.study.model.initial}
    assert fold.state is None or fold.state in kept
    unsent = rows - kept - sent
    assert rows - unsent == kept and not sent & rows
    for name in kept:
        assert digest(read(world, str(name))) == name
    for name in sent:
        with pytest.raises(NotFound):
            read(world, name)
    assert not world.look(lambda tx: tx.rows(select(grants).where(grants.c.digest.in_(sent))))


def read(world: World, name: str) -> bytes:
    """A blob's bytes, from the database or from its file, and from no memory."""
    found = world.look(lambda tx: Shelf(world.blobs, 0).read(tx, Digest(name)))
    return bytes(found) if isinstance(found, bytes) else bytes(found.read_bytes())


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'db.sqlite'}", lambda topic: None)
    made.prepare()
    return made


def test_what_was_never_used_goes_after_a_day_and_what_is_asked_for_stays(tmp_path: Path, database: Database) -> None:
    folder = Directory(tmp_path / "blobs")
    stored = folder.make_bytes(b"an initial model that no study names")

    def keep(stored: Stored) -> None:
        database.run_here(lambda tx: (Shelf(folder, 0).keep(tx, stored, "person:rita"),
                                      grant(tx, stored.digest, ["person:rita"])))  # fmt: skip

    keep(stored)
    now = time.time()
    assert drop(database, now + DAY_S - 10) == []
    aged = update(blobs).values(touched=now - 2 * DAY_S)
    for again in (lambda: keep(stored), lambda: database.run_here(lambda tx: touch(tx, stored.digest))):
        database.run_here(lambda tx: tx.do(aged))
        again()
        assert drop(database, now) == []
    database.run_here(lambda tx: tx.do(aged))
    assert drop(database, now) == [stored.digest]
    told = [row.entry for row in database.run_here(lambda tx: tx.rows(select(audit)))]
    assert b'"kind":"dropped"' in told[-1] and b'"blobs":1' in told[-1]
    assert database.run_here(lambda tx: tx.rows(select(grants))) == []
    folder.remove(stored.digest, now - 10)
    assert folder.path(stored.digest).exists(), "a file that was written since is not removed"
    folder.remove(stored.digest, now + 10)
    with pytest.raises(NotFound):
        folder.path(stored.digest)
    folder.remove(stored.digest, now + 10)
    database.close()


def test_a_quota_counts_what_is_whole_and_is_no_others(tmp_path: Path, database: Database) -> None:
    quota, half = 2 / (1 << 10), 1 << 20

    def ask(sender: str, more: int) -> None:
        database.run_here(lambda tx: room_for(tx, sender, more, quota))

    ask("site:north", 2 * half)
    with pytest.raises(OverQuota, match="north has 0 bytes"):
        ask("site:north", 2 * half + 1)
    shelf = Shelf(Directory(tmp_path / "blobs"), 0)
    for name, size, sender in ((b"1", half, "site:north"), (b"2", half, "site:south"), (b"3", 9 * half, "")):
        stored = Stored(digest(name), size)
        database.run_here(lambda tx, stored=stored, sender=sender: shelf.keep(tx, stored, sender))
    ask("site:north", half)
    with pytest.raises(OverQuota, match=f"north has {half} bytes"):
        ask("site:north", half + 1)
    database.close()


def test_uploads_that_were_begun_count_as_long_as_they_were_announced(tmp_path: Path) -> None:
    folder = Directory(tmp_path)
    for name, length in ((b"1", 10), (b"2", 20)):
        with folder.append("site:north", digest(name), 0, length) as write:
            write(b"abc")
    assert folder.begun("site:north", digest(b"3")) == 30
    assert folder.begun("site:north", digest(b"1")) == 20
    assert folder.begun("site:south", digest(b"1")) == 0
    assert Directory(tmp_path).begun("site:north", digest(b"1")) == 20, "after a restart, and in another process"


def aged(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (1.0, 1.0))


def test_orphans_are_swept_by_age_and_never_while_a_process_has_them_open(tmp_path: Path) -> None:
    here, other = Directory(tmp_path), Directory(tmp_path)
    piece, data = digest(b"piece"), b"made"
    with here.append("site:north", piece, 0, 9) as write:
        write(b"abc")
    (tmp_path / "making" / "left").write_bytes(b"by one that was killed")
    other.sweep(time.time() - 60)
    assert here.offset("site:north", piece) == 3 and (tmp_path / "making" / "left").exists(), "they are young"

    aged(tmp_path / "incoming")
    begun, go_on = threading.Event(), threading.Event()

    def making() -> None:
        def write(out: object) -> tuple[Digest, int]:
            out.write(data)  # type: ignore[attr-defined]
            aged(tmp_path / "making")
            begun.set()
            assert go_on.wait(20)
            return digest(data), len(data)

        here.make(write)

    thread = threading.Thread(target=making)
    thread.start()
    assert begun.wait(20)
    with here.append("site:north", piece, 3, 9):
        other.sweep(time.time() - 60)
        assert here.offset("site:north", piece) == 3, "it is open"
    assert not (tmp_path / "making" / "left").exists() and len(list((tmp_path / "making").iterdir())) == 1
    go_on.set()
    thread.join()
    assert here.path(digest(data)).read_bytes() == data

    aged(tmp_path / "incoming")
    other.sweep(time.time() - 60)
    assert here.offset("site:north", piece) == 0
    with pytest.raises(Conflict, match="stands at byte 0"), here.append("site:north", piece, 3, 9):
        pass
    with here.append("site:north", piece, 0, 5) as write:
        write(b"piece")
    assert here.complete("site:north", piece) == Stored(piece, 5), "it can be sent again from the start"


def test_an_upload_that_is_swept_as_a_request_begins_takes_no_bytes(tmp_path: Path) -> None:
    here, piece = Directory(tmp_path), digest(b"")
    with here.append("site:north", piece, 0, 3) as write:
        aged(tmp_path / "incoming")
        Directory(tmp_path).sweep(time.time() - 60)
        with pytest.raises(Conflict, match="removed for its age"):
            write(b"abc")
    assert here.offset("site:north", piece) == 0
