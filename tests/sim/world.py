"""A federation in one process, without network: the product's ingest, conduct, driver and store, and a list of faults.

Two coordinator processes with caches of their own, a clock, lines that lose, delay and repeat, and sites that answer,
refuse, revoke and come back are moved by one list of operations, so that a failure is a list that a test can hold.
"""

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from sqlalchemy import func, insert, select, update

from consilium.algorithms import evaluation
from consilium.api import freeze
from consilium.coordinator import steps
from consilium.coordinator.bell import Bell
from consilium.coordinator.conduct import Conduct, grant
from consilium.coordinator.driver import Driver
from consilium.coordinator.ingest import Ingest, Letter
from consilium.coordinator.perform import Performer
from consilium.core import run as runs
from consilium.core.errors import ConsiliumError, Unavailable
from consilium.core.ids import Digest, RunId, SiteId, digest
from consilium.core.study import Plan
from consilium.core.tensors import from_safetensors
from consilium.store import eventlog
from consilium.store.blobs import Directory, Stored
from consilium.store.database import Database, Transaction
from consilium.store.schema import effects, inbox, people, sites, studies
from consilium.store.schema import runs as run_table
from consilium.store.shelf import Shelf
from consilium.wire.envelope import peek, seal, unseal
from consilium.wire.identity import Identity
from consilium.wire.messages import INBOX_MESSAGES, SMALL, Answer, Blob, Closed, Decision, Ended, Refusal, Signed, Task
from e2e import studies as made
from e2e.federation import study
from sim.sealing import Sealing, vector_of

NAMES = ("east", "north", "south")
SEALED = ("east", "north", "south", "west")
"""The sites of a secure sum: it opens with three of them."""
RUN = RunId("sim-1")
QUORUM, ROUNDS, ROUND_S, COMPARE_S, LEASE_S = 2, 2, 600.0, 1500.0, 30.0
DEADLINES = {"round_s": ROUND_S, "compare_s": COMPARE_S}
BEGIN = 1_900_000_000.0
Operation = tuple[Any, ...]
Kind = TypeVar("Kind", bound="World")
UNDONE = select(effects.c.key).where(effects.c.done.is_(None), effects.c.kind != "deadline")


class Crash(BaseException):
    """A coordinator process dies here."""


@dataclass
class Hospital:
    """A site: what it keeps in its journal, and nothing else. `outbox` is sent in order, until acknowledged."""

    name: SiteId
    identity: Identity
    position: int = 0
    task: Task | None = None
    willing: bool = True
    outbox: list[bytes] = field(default_factory=list)
    plan: Plan | None = None
    said: int = 0
    sealing: Sealing | None = None

    def seal(self, message: Signed) -> bytes:
        return seal(message.TYPE, message.encode(), self.identity)

    def decide(self, word: str) -> None:
        """A person approves, or revokes."""
        assert self.plan is not None
        self.said += 1
        self.willing = word == "approve"
        values = {
            "site": self.name, "study": self.plan.study.name, "plan": self.plan.digest, "decision": word,
            "person": "Vera", "accepts": ["plain"], "at": f"2030-01-01T00:{self.said // 60:02}:{self.said % 60:02}Z",
        }  # fmt: skip
        self.outbox.append(self.seal(Decision.model_validate(values)))

    def take(self, message: Signed) -> None:
        """One message of the coordinator, as the journal keeps it."""
        match message:
            case Task():
                self.task = message
            case Closed() if self.task is not None and self.task.round <= message.round:
                self.task = None
            case Ended():
                self.task = None


class Gated(Database):
    """A database whose transactions in a driver wait until the list of operations lets them happen."""

    compiled: ClassVar[dict[Any, Any]] = {}

    def __init__(self, url: str) -> None:
        super().__init__(url, lambda topic: None)
        self._engine = self._engine.execution_options(compiled_cache=self.compiled)  # hundreds of databases, one schema

    waiting: tuple[Callable[[Transaction], Any], "asyncio.Future[Any]"] | None = None

    async def run(self, act: Callable[[Transaction], Any]) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.waiting = (act, future)
        return await future


class Coordinator:
    """One process: caches and a driver, which a crash takes away, in front of the common database and folder."""

    def __init__(self, world: "World", name: str) -> None:
        self.database = Gated(world.url)
        self.folds: dict[RunId, Any] = {}
        self.shelf = Shelf(world.blobs, SMALL if name == "second" else 0)  # one writes files, the other rows
        self.ingest = Ingest(world.identity, self.shelf)
        performer = Performer(world.identity, self.shelf, name)
        clock = lambda: world.now  # noqa: E731
        self.driver = Driver(self.database, Bell(), world.identity, performer, name, LEASE_S, clock)
        self.task: asyncio.Task[Any] | None = None
        self.idle = False

    def crash(self) -> None:
        """All that it had in memory is gone."""
        if self.task is not None:
            self.task.cancel()
        self.task, self.database.waiting, self.folds = None, None, {}
        self.shelf._lately.clear()

    async def step(self, fault: str) -> None:
        """Let its driver come to its next transaction; `fault` says how that one ends."""
        eventlog._folds = self.folds
        if self.task is None:
            self.task = asyncio.create_task(self.driver._round_trip())
        elif self.database.waiting is not None:
            (act, future), self.database.waiting = self.database.waiting, None
            try:
                future.set_result(self.database.run_here(partial(faulty, act, fault)))
            except ConsiliumError as error:
                future.set_exception(error)
            if fault == "after":
                raise Crash
        await self._settled()

    async def _settled(self) -> None:
        while self.task is not None and self.database.waiting is None:
            if self.task.done():
                task, self.task = self.task, None
                error = task.exception()
                if error is not None and not isinstance(error, Unavailable | OSError):
                    raise error
                self.idle = error is None and not task.result()[0]
                return
            await asyncio.sleep(0)


def faulty(act: Callable[[Transaction], Any], fault: str, tx: Transaction) -> Any:
    """`act`, and a crash before its commit if that is the fault."""
    result = act(tx)
    if fault == "before":
        raise Crash
    return result


@cache
def beginning(recipe: str) -> tuple[Path, Plan, bytes]:
    """A folder with a coordinator whose study is approved by all and whose run was just started; made once."""
    names, quorum = (NAMES, QUORUM) if recipe == "plain" else (SEALED, 3)
    folder = Path(tempfile.mkdtemp(prefix="consilium-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    plan, weights = freeze(study("sim", rounds=ROUNDS, quorum=quorum, deadlines=DEADLINES, privacy={"recipe": recipe}))
    blobs, identity = Directory(folder / "blobs"), Identity.create(folder / "identity.key")
    database = Database(f"sqlite:///{folder / 'db.sqlite'}", lambda topic: None)
    database.prepare()
    initial, now = blobs.make_bytes(weights), datetime.fromtimestamp(BEGIN, UTC)

    def act(tx: Transaction) -> None:
        Shelf(blobs, 0).keep(tx, initial)
        tx.do(insert(people).values(name="olga", role="researcher", password="", since=now))
        tx.do(insert(studies).values(study="sim", plan=plan.digest, payload=plan.payload, owner="olga", since=now))
        for name in names:
            key = Identity.create(folder / f"{name}.key").public
            row = {"site": name, "state": "admitted", "public_key": key, "about": "", "activity": "idle"}
            tx.do(insert(sites).values(**row, since=now, last_seen=BEGIN))
        tx.do(insert(run_table).values(run=RUN, study="sim", version=0, status=runs.Status.PAUSED.value))
        Conduct.load(tx, identity, RUN, now).due("begin", "0", now)

    database.run_here(act)
    database.close()
    return folder, plan, weights


@contextmanager
def living(kind: type[Kind]) -> Iterator[Kind]:
    """A world in a folder of its own, in memory where there is such a place; it is closed at the end."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        world = kind(Path(folder))
        try:
            yield world
        finally:
            world.close()


class World:
    """One federation; `play` lets operations happen to it."""

    def __init__(self, folder: Path, recipe: str = "plain") -> None:
        shutil.copytree(beginning(recipe)[0], folder, dirs_exist_ok=True)
        self.plan, self.weights = beginning(recipe)[1:]
        names = NAMES if recipe == "plain" else SEALED
        self.url, self.now = f"sqlite:///{folder / 'db.sqlite'}", BEGIN
        self.blobs, self.identity = Directory(folder / "blobs"), Identity.load(folder / "identity.key")
        self.shelf = Shelf(self.blobs, 0)
        self.processes = [Coordinator(self, name) for name in ("first", "second")]
        self.sites = {SiteId(n): Hospital(SiteId(n), Identity.load(folder / f"{n}.key"), plan=self.plan) for n in names}
        self.flying: list[tuple[SiteId, bytes]] = []
        self.stopped = False
        self.refused: list[tuple[SiteId, str, str]] = []
        for site in self.sites.values():
            site.decide("approve")
            if recipe == "secure_sum":
                update = partial(self._update, site)
                site.sealing = Sealing(site.name, site.identity, self.plan, self.blobs, self._heard, update, self._read)

    def close(self) -> None:
        for process in self.processes:
            process.crash()
            process.database.close()

    def look(self, act: Callable[[Transaction], Any]) -> Any:
        """One transaction by nobody in particular, without any cache."""
        eventlog._folds = {}
        return self.processes[0].database.run_here(act)

    def fold(self) -> runs.Run:
        """The run, replayed from its events."""
        return self.look(lambda tx: eventlog.load(tx, RUN))[1]

    async def play(self, operations: list[Operation]) -> None:
        """Let the operations happen, one after another. One that finds nothing to act upon does nothing."""
        for name, *values in operations:
            done = getattr(self, f"do_{name}")(*values)
            if done is not None:
                await done

    # Operations. `fault`: "", "before" (a crash before the commit: rolled back) or "after" (before the answer).

    async def do_drive(self, which: int, fault: str = "") -> None:
        """The next transaction of a driver."""
        try:
            await self.processes[which].step(fault)
        except Crash:
            self.processes[which].crash()

    def do_crash(self, which: int) -> None:
        """A process dies between transactions."""
        self.processes[which].crash()

    def do_clock(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds

    def do_poll(self, name: str) -> None:
        """A site takes what is in its inbox."""
        site = self.sites[SiteId(name)]

        def act(tx: Transaction) -> list[Any]:
            tx.do(update(sites).where(sites.c.site == name).values(last_seen=self.now))
            return tx.rows(select(inbox).where(inbox.c.site == name, inbox.c.seq > site.position).order_by(inbox.c.seq))

        for row in self.look(act):
            assert row.seq == site.position + 1, "an inbox has no gaps"
            kind = INBOX_MESSAGES[peek(row.envelope)]
            site.take(kind.decode(unseal(row.envelope, kind.TYPE, [self.identity.public])))
            site.position = row.seq

    def do_work(self, name: str) -> None:
        """A site performs its task, or refuses it."""
        site = self.sites[SiteId(name)]
        if site.task is None:
            return
        task, site.task = site.task, None
        if site.willing:
            site.outbox.append(self._sealed(site, task) if site.sealing else site.seal(self._answer(site, task)))
        else:
            words = {
                "study": task.study,
                "plan": task.plan,
                "run": task.run,
                "round": task.round,
                "attempt": task.attempt,
            }
            site.outbox.append(site.seal(Refusal(**words, reason="not-approved", text="revoked")))

    def _answer(self, site: Hospital, task: Task) -> Answer:
        data = made.vectors(self.arrays(site.name, task))
        stored = Stored(digest(data), len(data), data) if site.name == NAMES[-1] else self.blobs.make_bytes(data)
        self._sent(site.name, stored)
        return Answer(
            study=task.study, run=task.run, plan=task.plan, round=task.round, kind=task.kind, phase=task.phase,
            state=task.state.digest, contribution=Blob(digest=stored.digest, size=stored.size), recipe="plain",
        )  # fmt: skip

    def arrays(self, name: str, task: Task) -> dict[str, Any]:
        """What a site adds in a round: the same whenever it is asked."""
        size = sum(array.size for array in from_safetensors(self.weights).values())
        rng = np.random.default_rng([SEALED.index(name), task.round])
        found = {"weight": np.array([10.0 + task.round])}
        if task.kind == "TRAIN":
            found["update"] = rng.normal(size=size)
        return found

    def _sent(self, name: str, stored: Stored) -> None:
        def sent(tx: Transaction) -> None:
            self.shelf.keep(tx, stored)
            grant(tx, stored.digest, [f"site:{name}"])

        self.look(sent)

    def _update(self, site: Hospital, task: Task, path: Path) -> None:
        nothing = evaluation.nothing(self.plan.study, task.kind)
        sums = {f"metrics/{name}": array for name, array in nothing.items()}
        path.write_bytes(made.vectors({**self.arrays(site.name, task), **sums}))

    def _read(self, named: Digest) -> Any:
        return self.look(lambda tx: self.shelf.read(tx, named))

    def _heard(self, run: str, number: int, attempt: int, phase: str) -> dict[SiteId, bytes]:
        found: dict[SiteId, bytes] = self.look(lambda tx: steps.said(tx, run, number, attempt, phase))
        return found

    def _sealed(self, site: Hospital, task: Task) -> bytes:
        assert site.sealing is not None
        envelope = site.sealing.step(task)
        vector = vector_of(envelope)
        if vector is not None:
            named = Digest(vector)
            self._sent(site.name, Stored(named, self.blobs.path(named).stat().st_size))
        return envelope

    def do_send(self, name: str) -> None:
        """The first waiting message of a site sets out, again perhaps."""
        site = self.sites[SiteId(name)]
        if site.outbox:
            self.flying.append((site.name, site.outbox[0]))

    def do_drop(self, index: int) -> None:
        """A message is lost."""
        if self.flying:
            self.flying.pop(index % len(self.flying))

    def do_repeat(self, index: int) -> None:
        """A message comes twice, the second time perhaps much later."""
        if self.flying:
            self.flying.append(self.flying[index % len(self.flying)])

    def do_deliver(self, index: int, which: int, fault: str = "") -> None:
        """A message arrives at a process; its acknowledgement reaches the site unless the process dies."""
        if not self.flying:
            return
        name, data = self.flying.pop(index % len(self.flying))
        process, site = self.processes[which], self.sites[name]
        eventlog._folds = process.folds

        def act(tx: Transaction) -> Any:
            tx.do(update(sites).where(sites.c.site == name).values(last_seen=self.now))
            moved = process.ingest.take(tx, name, Letter.read(data), datetime.fromtimestamp(self.now, UTC))
            return [process.driver.performer.at_once(tx, conduct) for conduct in moved]

        try:
            for conduct in process.database.run_here(partial(faulty, act, fault)):
                conduct.remember()
            if fault == "after":
                raise Crash
        except Crash:
            process.crash()
            return
        except Unavailable:
            return
        except ConsiliumError as error:
            self.refused.append((name, peek(data), f"{type(error).__name__}: {error}"))
        if site.outbox and site.outbox[0] == data:
            site.outbox.pop(0)

    def do_decide(self, name: str, word: str) -> None:
        """A person at a site approves or revokes."""
        if self.sites[SiteId(name)].willing != (word == "approve"):
            self.sites[SiteId(name)].decide(word)

    def do_stop(self) -> None:
        """The study's owner stops the run."""
        self.stopped = True

        def act(tx: Transaction) -> None:
            conduct = Conduct.load(tx, self.identity, RUN, datetime.fromtimestamp(self.now, UTC))
            if conduct.fold.status not in runs.OVER:
                conduct.take(runs.Stopped("enough"))

        self.look(act)

    # The end.

    async def calm(self, steps: int = 40) -> runs.Run:
        """No more faults: lines carry, processes run, time passes. The run, when it is over or nothing moves."""
        for _ in range(steps):
            await self.calm_once()
            fold = self.fold()
            over = fold.status in runs.OVER and self.look(lambda tx: tx.row(UNDONE)) is None
            if over or not self._moves():
                return fold
        raise AssertionError(f"still going on after {steps} rounds of calm: {self.fold()}")

    async def calm_once(self) -> None:
        """Everybody does what there is to do, once."""
        for name in self.sites:
            self.do_poll(name)
            self.do_work(name)
            self.do_send(name)
        while self.flying:
            self.do_deliver(0, len(self.flying) % 2)
        for which, process in enumerate(self.processes):
            await self.do_drive(which)
            while process.task is not None or not process.idle:
                await self.do_drive(which)

    def _moves(self) -> bool:
        """Whether something is still to come; if only time must pass, it passes."""
        if any(site.outbox or site.task for site in self.sites.values()):
            return True
        unread = lambda tx: {row[0]: row[1] for row in tx.rows(  # noqa: E731
            select(inbox.c.site, func.max(inbox.c.seq)).group_by(inbox.c.site)
        )}  # fmt: skip
        if any(self.sites[SiteId(name)].position < seq for name, seq in self.look(unread).items()):
            return True
        open_ = self.look(lambda tx: tx.rows(select(effects).where(effects.c.done.is_(None))))
        if not open_:
            return False
        self.now = max(self.now, min(max(row.due, row.leased_until) for row in open_))
        return True
