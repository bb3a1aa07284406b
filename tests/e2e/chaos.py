"""A federation whose processes die at named points, and come back at once, as a service supervisor would see to."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from consilium.core.errors import ConsiliumError
from consilium.core.ids import digest
from consilium.core.study import Study
from consilium.governance import audit
from consilium.wire.envelope import peek, unseal
from consilium.wire.messages import Checkpoint
from e2e import federation as harness
from e2e.federation import BENCH, RUN_S, Federation, federation
from e2e.processes import Process, until

HOSPITALS = ("north", "south", "west")
SMALL = HOSPITALS[-1]
"""Of this hospital, everything is small: it travels with messages. Of the others, everything is large."""
ASK_S = 0.1
"""How often it is asked whether a run has come to where it is awaited: each time costs the coordinator a little."""
PIECE = 8 << 10
"""Bytes of one step of an upload or download here, so that a small model takes several."""

COORDINATOR = {
    "upload": ("upload", "upload.fsync", "upload.rename", "upload.renamed"),
    "commit": ("answer.before-commit", "answer.commit", "answer.committed"),
    "apply": ("leased", "apply", "applied"),
    "model save": ("save.write", "save.fsync", "save.rename", "save.renamed"),
    "commit of a round": ("apply.before-commit", "apply.commit", "apply.committed"),
    "download": ("deliver",),
}
SITE = {
    "training": ("training", "loading", "trained"),
    "commit": ("received", "journal.before-commit", "journal.committed"),
    "upload": ("upload", "uploaded", "acknowledged"),
    "model save": ("state.fsync", "state.rename", "state.renamed"),
    "download": ("download", "download.rename", "download.renamed"),  # the sums are fetched anew, not made durable
}
PHASES = ("KEYS", "PAIR", "PROVE", "READY", "MASK", "UNMASK")
"""Of agreeing on keys, which comes once in a run, and of a secure sum, which comes in each round. CONFIRM comes where
somebody is lost (`test_secure_dropouts.py`): here nobody is, who is back before the deadline.
"""
AT_COORDINATOR = ("taken", "before-commit", "committed", "relayed")
AT_SITE = ("begun", "made", "before-commit", "committed", "acknowledged")
SECURE_COORDINATOR = {phase: tuple(f"{phase}.{what}" for what in AT_COORDINATOR) for phase in PHASES} | {
    "UNMASK": ("UNMASK.taken", "UNMASK.before-commit", "UNMASK.committed"), "opening": ("opening", "opened")
}  # fmt: skip
SECURE_SITE = {phase: tuple(f"{phase}.{what}" for what in AT_SITE) for phase in PHASES}
NEVER_SMALL = {"download", "download.rename", "download.renamed", "state.fsync"}
"""Points to which a hospital never comes of which everything is small."""
NEVER_ROWS = {"save.write", "save.fsync", "save.rename", "save.renamed", "leased", "deliver"}
"""Points to which a coordinator never comes while it keeps what is small in its database, as it does by default."""
CHILD = {"training": ("child.training", "child.loading")}
IN_THE_MIDDLE = {"answer.commit": 0.003, "apply.commit": 0.003, "training": 0.02, "child.training": 0.0}
"""Points at which the kill comes up to so many seconds later: while a database writes, while a child trains."""


@dataclass(frozen=True)
class Fault:
    """`process` is to die the `nth` time it comes to `point`, `delay` seconds later.

    Until then a coordinator keeps what is small as `rows` of its database, or else as files like what is large.
    """

    process: str
    phase: str
    point: str
    nth: int = 1
    delay: float = 0.0
    rows: bool = True


@dataclass
class Target:
    """A process with the bench of faults in it. `left` are the faults that it has yet to meet."""

    name: str
    process: Process
    folder: Path
    left: list[Fault] = field(default_factory=list)
    now: Fault | None = None

    def arm(self) -> None:
        """Set up the next fault."""
        self.now = self.left.pop(0)
        armed = {"point": self.now.point, "nth": self.now.nth, "delay": self.now.delay, "rows": self.now.rows}
        fresh = self.folder / "armed.new"
        fresh.write_text(json.dumps(armed))
        fresh.replace(self.folder / "armed")

    @property
    def met(self) -> bool:
        """Whether the fault that was set up has happened."""
        return self.now is not None and not (self.folder / "armed").exists()

    @property
    def last(self) -> str:
        """The last point that it passed."""
        path = self.folder / "last"
        return path.read_text().strip() if path.exists() else "start"


class Chaos:
    """Kills by plan, restarts what died, and keeps the log of what was hit."""

    def __init__(self, made: Federation) -> None:
        self.made = made
        self.targets: dict[str, Target] = {}
        self.hits: list[Fault] = []
        self.deaths: dict[str, int] = {}

    def plan(self, faults: list[Fault]) -> None:
        """Let each process meet its faults, one after another."""
        for fault in faults:
            self.targets[fault.process.removesuffix("'s child")].left.append(fault)

    def step(self) -> bool:
        """Set up what comes next, and restart what has died. Whether everything planned has happened."""
        for target in self.targets.values():
            if target.met:
                assert target.now is not None
                self.hits.append(target.now)
                target.now = None
            if target.now is None and target.left:
                target.arm()
            self.revive(target)
        return not any(target.now or target.left for target in self.targets.values())

    def revive(self, target: Target) -> None:
        """Restart a process that was killed, as systemd would; it must not have ended in any other way."""
        if not target.process.alive:
            status = target.process.stop()
            assert status == -signal.SIGKILL, f"{target.name} ended with {status}: {target.process.said[-3000:]}"
            self.deaths[target.name] = self.deaths.get(target.name, 0) + 1
            target.process.start()

    def kill(self, name: str) -> None:
        """Kill a process from outside, wherever it is."""
        target = self.targets[name]
        if target.process.alive:
            self.hits.append(Fault(name, "any time", f"after {target.last}"))
            target.process.kill()

    def until(self, true: Callable[[], bool], what: str, seconds: float = RUN_S) -> None:
        """Keep the federation going until something is true."""
        end, asked = time.monotonic() + seconds, 0.0
        while True:
            done = self.step()
            if done and time.monotonic() - asked > ASK_S:
                if true():
                    return
                asked = time.monotonic()
            if time.monotonic() > end:
                open_ = {one.name: (one.now, len(one.left), one.last) for one in self.targets.values()}
                raise TimeoutError(f"{what}: not within {seconds:g} s; {open_}; it is {self.status()}")
            time.sleep(0.01)

    def status(self) -> str:
        """Status of the newest run, or empty while the coordinator is away."""
        try:
            return str(self.made.view("chaos-1")["status"])
        except ConsiliumError:
            return ""

    def round(self) -> int:
        """Number of the open round; 0 while the coordinator is away."""
        try:
            return int(self.made.view("chaos-1")["round"])
        except ConsiliumError:
            return 0

    def table(self) -> str:
        """What was hit, how often."""
        counted: dict[tuple[str, str, str], int] = {}
        for hit in self.hits:
            where = "" if hit.process != "coordinator" else " (rows)" if hit.rows else " (files)"
            key = (hit.process, hit.phase, hit.point + where)
            counted[key] = counted.get(key, 0) + 1
        lines = [f"{who:16} {phase:18} {point:28} {n:3}" for (who, phase, point), n in sorted(counted.items())]
        return "\n".join([f"{len(self.hits)} kills", *lines])


def study(rounds: int) -> Study:
    """A model of 5000 parameters of two inputs and a code with many values: 40 kB, and some seconds of rounds."""
    plain = harness.study("chaos").model_dump(mode="json", exclude_none=True)
    ward = {"id": "ward", "meaning": "the ward", "type": "category", "missing": "forbidden"}
    ward["categories"] = {f"w{number}": f"ward {number}" for number in range(5000)}
    plain["contract"]["features"].append(ward)
    return Study.model_validate({**plain, "rounds": rounds, "deadlines": {"round_s": 86_400}, "gate": "none"})


@contextmanager
def chaotic(folder: Path, database: str | None = None) -> Iterator[Chaos]:
    """A federation of three hospitals with the bench of faults in every process."""
    with federation(folder, database) as made:
        chaos = Chaos(made)
        for name in HOSPITALS:
            variables = bench(folder / f"faults-{name}")
            hospital = made.add(name, start=False, **variables)
            text = hospital.mapping.read_text().replace(
                "features: {", "features: {ward: {column: large, codes: {'0': w7, '1': w4321}}, "
            )
            hospital.mapping.write_text(text)
            hospital.process.start()
            chaos.targets[name] = Target(name, hospital.process, folder / f"faults-{name}")
        coordinator = made.coordinator
        assert coordinator.stop() == 0
        coordinator.process.variables |= bench(folder / "faults-coordinator")
        coordinator.start()
        chaos.targets["coordinator"] = Target("coordinator", coordinator.process, folder / "faults-coordinator")
        yield chaos


def bench(folder: Path) -> dict[str, str]:
    """Environment of a process that is to die."""
    folder.mkdir()
    large = {} if folder.name == f"faults-{SMALL}" else {"FAULTS_SMALL": "0"}
    return {"PYTHONPATH": str(BENCH), "FAULTS": str(folder), "FAULTS_PIECE": str(PIECE), **large}


def secure(rounds: int) -> Study:
    """The same study as a secure sum, over all three hospitals or none."""
    given = {**study(rounds).model_dump(mode="json", exclude_none=True), "privacy": {"recipe": "secure_sum"}}
    return Study.model_validate({**given, "quorum": len(HOSPITALS), "gate": "none"})


def acquainted(made: Federation) -> None:
    """Let the hospitals know each other, as after an earlier comparison of words: nobody is asked in this run."""
    for hospital in made.hospitals.values():
        for other in made.hospitals.values():
            row = (other.name, other.identity.public, "Vera", "2026-01-01T00:00:00+00:00")
            hospital.journal("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", *row)


def sealed(rng: Random, process: str, phases: dict[str, tuple[str, ...]], *, every: bool = False) -> list[Fault]:
    """Kills in the order of the phases: one point of each or, of a phase that comes in each round, `every` point."""
    found = []
    for phase, points in phases.items():
        again = every and phase not in PHASES[:3]
        for point in points if again else [rng.choice(points)]:
            nth = rng.choice((1, 2)) if again else 1
            found.append(Fault(process, phase, point, nth))
    return found


def some(rng: Random, process: str, phases: dict[str, tuple[str, ...]], *, every: bool = False) -> list[Fault]:
    """One point of each phase, or `every` point, at a seeded time."""
    found, turn = [], cycle((True, False))
    for phase, points in phases.items():
        for point in points if every else [rng.choice(points)]:
            delay = rng.uniform(0, IN_THE_MIDDLE.get(point, 0.0))
            nth = rng.choice((1, 2)) if point in ("upload", "save.write", "download", "deliver") else 1
            found.append(Fault(process, phase, point, nth, delay, point not in NEVER_ROWS and next(turn)))
    rng.shuffle(found)
    return found


def sound(chaos: Chaos, run: str, undisturbed: bytes) -> None:
    """Nothing was lost: every law that holds when a run has ended, whatever died on the way."""
    made = chaos.made
    view = made.view(run)
    rounds = len(view["participation"])
    lacking = [entry for entry in view["participation"] if entry["took_part"] != list(HOSPITALS)]
    refused = made.rows("SELECT site, round, reason, text FROM refusals ORDER BY id")
    assert not lacking, f"{lacking}; refused: {refused}; {chaos.table()}"
    model = made.model(run)
    assert digest(model) == view["state"]["digest"]
    assert model == undisturbed, "the model differs from that of an undisturbed run"
    assert made.rows("SELECT count(*) FROM results")[0][0] == rounds + 1
    assert made.rows("SELECT key FROM effects WHERE done IS NULL AND kind <> 'deadline'") == []
    logs(made)


def logs(made: Federation) -> None:
    """Both ends' audit logs are whole, and hold every head that the other end kept; nothing waits to be sent."""
    for hospital in made.hospitals.values():
        until(lambda one=hospital: settled(one), f"{hospital.name} has heard the end, and said all")  # type: ignore[misc]
    key = made.coordinator.admin.connection.get("/v1/hello")["public_key"]
    marks = {
        name: [mark(bytes(row[0]), key) for row in hospital.journal("SELECT envelope FROM marks")]
        for name, hospital in made.hospitals.items()
    }  # what an end kept is read before the log of the other one, which may grow
    kept = made.coordinator.admin.connection.get("/v1/checkpoints")["checkpoints"]
    coordinator: list[bytes] = []
    while page := made.coordinator.admin.connection.get("/v1/audit", {"after": len(coordinator)})["entries"]:
        coordinator += [entry.encode() for entry in page]
    for name, hospital in made.hospitals.items():
        audit.verify(coordinator, marks[name])
        seen = [json.dumps(one["envelope"]).encode() for one in kept if one["site"] == name]
        assert seen
        entries = [bytes(row[0]) for row in hospital.journal("SELECT entry FROM audit ORDER BY seq")]
        audit.verify(entries, [mark(one, hospital.identity.public) for one in seen])
        told = hospital.journal("SELECT type, status, note FROM outbox WHERE status <> 'sent'")
        assert told == [], f"{name}: {told}"
        assert hospital.journal("PRAGMA quick_check") == [("ok",)]
        assert "Traceback" not in hospital.process.said, hospital.process.said[-3000:]


def settled(hospital: harness.Hospital) -> bool:
    """Whether it has heard that the run is over, keeps a head of the coordinator's log, and has nothing to send."""
    over = hospital.journal("SELECT key FROM meta WHERE value IN ('ended', 'removed')")
    waits = hospital.journal("SELECT id FROM outbox WHERE status = 'waiting'")
    return bool(over and not waits and hospital.journal("SELECT seq FROM marks"))


def mark(envelope: bytes, key: str) -> audit.Head:
    """The head in a signed checkpoint."""
    assert peek(envelope) == Checkpoint.TYPE
    told: Any = Checkpoint.decode(unseal(envelope, Checkpoint.TYPE, [key]))
    return audit.Head(told.seq, told.head)


def calm(folder: Path, begin: Callable[[Chaos], str]) -> bytes:
    """The final model of the run that `begin` starts, where nothing dies."""
    with chaotic(folder) as told:
        run = begin(told)
        told.until(lambda: told.status() == "finished", "the undisturbed run", 120)
        model = told.made.model(run)
        sound(told, run, model)
        return model
