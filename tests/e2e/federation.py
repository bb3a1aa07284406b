"""A whole federation of real processes: a coordinator, and hospitals with tables of their own, by public commands."""

import contextlib
import csv
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from consilium.coordinator.home import load
from consilium.core.study import Plan, Study
from consilium.store.database import Database
from consilium.training.child import NAME
from consilium.wire.identity import Identity
from e2e import studies
from e2e.coordinator import Coordinator, Party
from e2e.processes import CONSILIUM, PATIENCE_S, Process, here, until

Json = dict[str, Any]
BENCH = Path(__file__).parent / "faults"
RUN_S = 300.0
"""A run here takes seconds; one that takes longer than this goes on no more."""
POLICY = "policy: 1\nmin_patients: 10\n"


def study(name: str, **changes: Any) -> Study:
    """Whether x + y is large, by logistic regression; two rounds, a quorum of two, `plain`, no gate; and `changes`."""
    number = {"type": "number", "unit": "1", "range": [-10, 10], "missing": "forbidden"}
    values = {
        "consilium": 1, "name": name, "title": f"Study {name}",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "sums", "features": [{"id": "x", "meaning": "x", **number}, {"id": "y", "meaning": "y", **number}],
            "label": {"id": "large", "meaning": "the sum is large", "type": "binary"},
        },
        "model": {"kind": "logistic"}, "training": {"epochs": 2, "learning_rate": 0.5, "seed": 1},
        "rounds": 2, "quorum": 2, "min_patients": 10, "deadlines": {"round_s": 600},
        "privacy": {"recipe": "plain"}, "gate": "none",
    }  # fmt: skip
    return Study.model_validate({**values, **changes})


def table(folder: Path, seed: int, patients: int = 80) -> Path:
    """Patients of one hospital, and its mapping, in `folder`; the mapping's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(patients, 2))
    large = values.sum(axis=1) + rng.normal(scale=0.5, size=patients) > 0
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "x", "y", "large"])
        writer.writerows([f"p{i}", *map(repr, map(float, row)), int(large[i])] for i, row in enumerate(values))
    (folder / "mapping.yaml").write_text(
        "mapping: 1\ncontract: sums\nsource: {type: csv, path: table.csv}\npatient: {column: id}\n"
        "features: {x: {column: x, unit: '1'}, y: {column: y, unit: '1'}}\n"
        "label: {column: large, codes: {'0': 0, '1': 1}}\n"
    )
    return folder / "mapping.yaml"


@dataclass
class Hospital:
    """One site: its folder, its table, and the process of its agent."""

    name: str
    home: Path
    mapping: Path
    process: Process
    variables: dict[str, str] = field(default_factory=dict)
    halted: list[int] = field(default_factory=list)

    def says(self, *words: str | Path) -> tuple[int, str]:
        """One `consilium site` command to its end: exit code, and all that it said."""
        return here("site", *words, "--home", self.home, **self.variables)

    def command(self, *words: str | Path) -> str:
        """The same, of which nothing but success is expected; its output."""
        code, said = self.says(*words)
        assert code == 0, f"consilium site {' '.join(map(str, words))}: {said}"
        return said

    def told(self, *words: str | Path) -> Any:
        """The same, as JSON."""
        return json.loads(self.command(*words, "--json"))

    @property
    def identity(self) -> Identity:
        """The site's key."""
        return Identity.load(self.home / "identity.key")

    def journal(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """One SQL statement in its journal, as somebody at the machine could type it; the rows."""
        with (
            contextlib.closing(sqlite3.connect(self.home / "journal.sqlite", timeout=PATIENCE_S)) as database,
            database,
        ):
            return database.execute(statement, values).fetchall()

    def policy(self, text: str) -> None:
        """Write the hospital's policy anew."""
        fresh = self.home / "policy.new"  # the agent reads it anew at any moment: it sees one or the other
        fresh.write_text(text)
        fresh.replace(self.home / "policy.yaml")

    def hold(self) -> None:
        """Its next child process is to stop as it begins to train, until SIGCONT; see `halt`."""
        assert "HOLD" in self.variables, f"{self.name} was not added to be held"
        Path(self.variables["HOLD"]).touch()

    def halt(self) -> int:
        """Wait until its child process stands still in the middle of a round, as `hold` asked; the child's id."""
        path = Path(self.variables["HOLD"])
        self.process.until(lambda: path.read_text() != "", f"{self.name} trains")
        self.halted.append(int(path.read_text()))
        path.unlink()
        return self.halted[-1]

    def offered(self, plan: Plan) -> bool:
        """Whether the study has reached the hospital."""
        return any(one["plan"] == plan.digest for one in self.told("status")["studies"])

    def approve(self, plan: Plan, *more: str) -> None:
        """Wait for the offer, then approve it."""
        until(lambda: self.offered(plan), f"{self.name} is offered {plan.study.name}")
        accepts = ("--accept", "plain", "--accept", "given-model")
        words = ("approve", plan.study.name, "--person", "Vera", *accepts, "--mapping", self.mapping)
        self.command(*words, *more)


def _trains(process: int) -> bool:
    """Whether this is a training process, and its number was not given to another."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip() == NAME
    return False


class Federation:
    """A coordinator and its hospitals; `owner` is a researcher. Close it: every process is ended.

    Args:    held: whether hospitals can be held in mid-round (`Hospital.hold`), by a bench in their agents.
    """

    def __init__(self, folder: Path, database: str | None = None, *, held: bool = False) -> None:
        self.folder, self.held = folder, held
        (folder / "coordinator").mkdir(parents=True)
        self.coordinator = Coordinator(folder / "coordinator", database)
        self.coordinator.start()
        self.owner: Party = self.coordinator.person("olga", "researcher")
        self.hospitals: dict[str, Hospital] = {}

    def add(
        self, name: str, *, patients: int = 80, policy: str = POLICY, start: bool = True, **variables: str
    ) -> Hospital:
        """A hospital that joined and was admitted; `variables` are the environment of its commands and agent."""
        if self.held:
            variables = {"PYTHONPATH": str(BENCH), "HOLD": str(self.folder / f"{name}.hold"), **variables}
        home = self.folder / name / "site"
        mapping = table(self.folder / name, seed=len(self.hospitals) + 1, patients=patients)
        words = [CONSILIUM, "site", "run", "--home", home]
        hospital = Hospital(name, home, mapping, Process(words, self.folder / f"{name}.log", variables), variables)
        hospital.command("init")
        (home / "policy.yaml").write_text(policy)
        token = self.coordinator.admin.connection.post("/v1/tokens", {"site": name})["token"]
        fingerprint = hospital.told("join", token)["fingerprint"]
        self.coordinator.admin.connection.post(f"/v1/sites/{name}/admit", {"fingerprint": fingerprint})
        if start:
            hospital.process.start()
        self.hospitals[name] = hospital
        return hospital

    def submit(self, wanted: Study) -> Plan:
        """Submit a study; the hospitals are offered it."""
        return studies.submit(self.owner, wanted)

    def approved(self, wanted: Study) -> Plan:
        """Submit a study, and let every hospital approve it; each approval has reached the coordinator."""
        plan = self.submit(wanted)
        self.approve(plan)
        return plan

    def approve(self, plan: Plan) -> None:
        """Let every hospital approve a study that was submitted; each approval has reached the coordinator."""
        for hospital in self.hospitals.values():
            hospital.approve(plan)
        name = plan.study.name
        arrived = f"SELECT count(DISTINCT site) FROM decisions WHERE study = '{name}'"
        until(lambda: self.rows(arrived)[0][0] == len(self.hospitals), f"every approval of {name} arrived")

    def start(self, plan: Plan) -> str:
        """Start a run; its name."""
        return studies.start(self.owner, plan)

    def compared(self, run: str) -> str:
        """Let a person at every hospital hear the words of the roster from the first one; the words."""
        waiting: list[list[str]] = []

        def there() -> bool:
            waiting[:] = [hospital.told("status").get("compare", []) for hospital in self.hospitals.values()]
            return all(run in runs for runs in waiting)

        until(there, f"every hospital waits for the words of {run}", 60.0)
        first, *_ = self.hospitals.values()
        words = str(first.told("compare", run)["words"])
        for hospital in self.hospitals.values():
            hospital.command("compare", run, "--words", words, "--person", "Vera")
        return words

    def view(self, run: str) -> Json:
        """The run as its owner sees it."""
        return dict(self.owner.connection.get(f"/v1/runs/{run}"))

    def until(self, run: str, status: str, seconds: float = RUN_S) -> Json:
        """Wait until the run has this status; the view."""
        found: Json = {}

        def there() -> bool:
            found.clear()
            found.update(self.view(run))
            return bool(found["status"] == status)

        try:
            until(there, f"{run} is {status}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {found.get('status')}: {found.get('reason')}") from None
        return found

    def model(self, run: str) -> bytes:
        """The bytes of the run's newest state."""
        state = self.owner.connection.get(f"/v1/runs/{run}/result")["state"]["digest"]
        return bytes(self.owner.connection.request("GET", f"/v1/blobs/{state}").data)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What stands in the coordinator's database."""
        database = Database(load(self.coordinator.home).database, lambda topic: None)
        try:
            return database.run_here(lambda tx: [tuple(row) for row in tx.connection.exec_driver_sql(statement)])
        finally:
            database.close()

    def refusals(self, plan: Plan) -> set[tuple[str, str]]:
        """Which site refused the study for which reason, as its owner sees it."""
        told = self.owner.connection.get(f"/v1/studies/{plan.study.name}")["refusals"]
        return {(one["site"], one["reason"]) for one in told}

    def close(self) -> None:
        """End every process."""
        for hospital in self.hospitals.values():
            hospital.process.kill()
            for child in filter(_trains, hospital.halted):  # one that was stopped before it could ask to end with us
                os.kill(child, signal.SIGKILL)
        self.coordinator.process.kill()


@contextlib.contextmanager
def federation(
    folder: Path, database: str | None = None, hospitals: tuple[str, ...] = (), *, held: bool = False
) -> Iterator[Federation]:
    """A federation with these hospitals, for one test or one file of tests."""
    made = Federation(folder, database, held=held)
    try:
        for name in hospitals:
            made.add(name)
        yield made
    finally:
        made.close()
