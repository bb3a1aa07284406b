"""Hospitals of one run in this process, and what relays between them; a test makes it lie. Training is the real one."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, cast
from unittest import mock

from consilium import plugins
from consilium.algorithms import preparation
from consilium.api import freeze
from consilium.coordinator import perform
from consilium.coordinator.steps import written
from consilium.core import state as chain
from consilium.core.ids import Digest, SiteId, digest
from consilium.core.study import EXACT, Plan, Study
from consilium.governance.approvals import weaker
from consilium.governance.policy import STRATEGIES
from consilium.privacy import opening, recipe
from consilium.privacy.secagg import Masked, Open, Ready, Unmask
from consilium.site import comparing, pipeline, seats
from consilium.site.deciding import Desk
from consilium.site.declaring import Declaring
from consilium.site.folder import Folder, Membership
from consilium.site.inbox import Inbox
from consilium.site.journal import Journal
from consilium.site.pairing import Pairing
from consilium.site.seats import Seats
from consilium.site.states import States
from consilium.site.steps import Steps, parsed
from consilium.site.updates import Updates
from consilium.site.veto import Veto
from consilium.site.worker import Worker
from consilium.training import child
from consilium.training.work import Work
from consilium.wire.envelope import payload_of, seal
from consilium.wire.identity import Identity
from consilium.wire.messages import Blob, Closed, Ended, Reopened, Step, Task
from consilium.wire.requests import Opening
from e2e.federation import study, table

Envelopes = dict[str, dict[str, Any]]
Lie = Callable[[str, str, Envelopes], Envelopes]
"""(to whom, of which phase, what was said): what is shown instead."""
PAIRING = ("KEYS", "PAIR", "PROVE")
SEALED = ("READY", "MASK", "CONFIRM", "UNMASK")
BEFORE = dict(
    zip(("PAIR", "PROVE", "MASK", "CONFIRM", "UNMASK"), ("KEYS", "PAIR", "READY", "MASK", "CONFIRM"), strict=True)
)
POLICY = f"policy: 1\nmin_patients: 10\nstrategies: {json.dumps([*STRATEGIES, *EXACT])}\n"


class Here:
    """Training in this process, with the code of the child."""

    def __init__(self, *_: object, **__: object) -> None:
        self._work: Work | None = None

    def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "load":
            self._work = Work.load(*(Path(command[name]) for name in ("plan", "initial", "table")))
            return {}
        assert self._work is not None
        return child._act(self._work, command)

    def close(self) -> None:
        pass


def secure(name: str, **changes: Any) -> Study:
    return study(name, **{"quorum": 3, "privacy": {"recipe": "secure_sum"}, **changes})


class Hospital:
    """One site without an agent: its folder, and all that works in it."""

    def __init__(self, name: str, home: Path, relay: "Relay", seed: int) -> None:
        self.name, self.relay = name, relay
        self.folder = Folder.create(home)
        self.folder.keep_membership(Membership(name, "https://localhost:1", relay.identity.public))
        self.folder.policy_file.write_text(POLICY)
        self.identity = self.folder.identity()
        self.mapping = table(home / "data", seed)
        self.begin()

    def begin(self) -> None:
        """Begin as a process does: all that it knows is in its folder."""
        self.journal = Journal(self.folder.journal)
        self.desk = Desk(self.folder, self.journal)
        line, outgoing, stop, site = cast(Any, Line(self)), Event(), Event(), SiteId(self.name)
        veto = Veto(self.name, self.identity, self.folder, self.journal, outgoing)
        states = States(self.folder, self.journal, line, stop)
        self.steps = Steps(self.identity, self.journal, line, outgoing)
        updates = Updates(self.folder, self.identity, self.journal, states, stop)
        self.pairing = Pairing(
            site, self.folder, self.identity, self.journal, self.steps, lambda now: veto.ledger.recall(now)
        )
        self.seats = Seats(site, self.folder, self.journal, self.steps, self.pairing, states, updates)
        declaring = Declaring(
            self.folder, self.identity, self.journal, veto, updates, self.pairing, stop, outgoing, self.pairing.recall
        )
        self.worker = Worker(
            self.folder, self.identity, self.journal, states, veto, self.steps, updates, self.pairing, self.seats,
            declaring, stop,
        )  # fmt: skip
        states.offer(relay_blobs(self.relay))
        self.states = states

    def again(self) -> None:
        """End, and begin again."""
        self.journal.close()
        self.begin()

    def offered(self, plan: Plan) -> None:
        with self.journal.write() as tx:
            tx.do(
                "INSERT INTO studies (study, plan, payload, title, at) VALUES (?, ?, ?, '', '')",
                plan.study.name, plan.digest, plan.payload,
            )  # fmt: skip
        self.desk.approve(plan.study.name, "Vera", weaker(plan), None, self.mapping, datetime.now(UTC))

    def ask(self, task: Task) -> str:
        """Perform a task: `done`, `waits`, or the reason of a refusal."""
        with self.journal.write() as tx:
            seq = int(tx.row("SELECT coalesce(max(seq), 0) + 1 AS n FROM tasks")["n"])  # type: ignore[index]
            Inbox._task(cast(Any, None), tx, seq, task, b"", task.encode(), datetime.now(UTC))
        self.states.offer(relay_blobs(self.relay))
        return self.go_on(seq)

    def go_on(self, seq: int = 0) -> str:
        """Perform the newest task, or the one of this number."""
        newest = "SELECT * FROM tasks WHERE seq = coalesce(nullif(?, 0), (SELECT max(seq) FROM tasks))"
        row = self.journal.row(newest, seq)
        assert row is not None
        self.worker._perform(row, Task.decode(bytes(row["payload"])))
        after = self.journal.row("SELECT status, note FROM tasks WHERE seq = ?", row["seq"])
        assert after is not None
        return str(after["note"] or after["status"])

    def sent(self, phase: str, attempt: int = 1) -> list[bytes]:
        """Envelopes of steps of this phase in the outbox, oldest first."""
        rows = self.journal.rows("SELECT envelope FROM outbox WHERE type = 'step' AND status = 'waiting' ORDER BY id")
        found = [(bytes(row["envelope"]), step_of(bytes(row["envelope"]))) for row in rows]
        return [data for data, step in found if (step.phase, step.attempt) == (phase, attempt)]

    def told(self, message: Closed | Ended | Reopened) -> None:
        """A round closed, a run ended, or the coordinator was restored."""
        inbox = cast(Any, mock.Mock(site=self.name, identity=self.identity))
        act: Any = {Closed: Inbox._closed, Ended: Inbox._ended, Reopened: Inbox._reopened}[type(message)]
        with self.journal.write() as tx:
            act(inbox, tx, 1, cast(Any, message), b"", b"", datetime.now(UTC))
        if isinstance(message, Closed):
            self.states.forget(message.run, message.round)

    def compare(self, run: str, heard: str) -> None:
        comparing.compare(self.journal, run, heard, "Vera", datetime.now(UTC))

    def words(self, run: str) -> str:
        return comparing.comparison(self.journal, run).words

    def count(self, what: str, *values: Any) -> int:
        row = self.journal.row(f"SELECT count(*) AS n FROM {what}", *values)
        return 0 if row is None else int(row["n"])


class Line:
    """What of a connection the site's half asks for."""

    def __init__(self, hospital: Hospital) -> None:
        self.hospital = hospital

    def get(self, path: str, query: Mapping[str, Any]) -> Any:
        run = path.split("/")[3]
        return {"steps": self.hospital.relay.shown(self.hospital.name, run, **query)}


def relay_blobs(relay: "Relay") -> dict[str, bytes]:
    return dict(relay.blobs)


def step_of(envelope: bytes) -> Step:
    found: Step = Step.decode(payload_of(envelope, Step.TYPE))
    return found


class Relay:
    """The coordinator. `lie` changes what a hospital is shown; `identity` is a key of its own."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder, self.identity = folder, Identity.create(folder / "relay.key")
        self.said: dict[tuple[str, int, int, str], Envelopes] = {}
        self.blobs: dict[str, bytes] = {}
        self.states: dict[tuple[str, int], Blob] = {}
        self.sums: dict[tuple[str, int], Blob] = {}
        self.lie: Lie = lambda to, phase, said: said
        self.hospitals = {n: Hospital(n, folder / n, self, seed) for seed, n in enumerate(sorted(names), 1)}

    def __getitem__(self, name: str) -> Hospital:
        return self.hospitals[name]

    def shown(self, to: str, run: str, round: int, attempt: int, of: str) -> Envelopes:
        return self.lie(to, of, dict(self.said.get((run, round, attempt, of), {})))

    def blob(self, data: bytes) -> Blob:
        name = digest(data)
        self.blobs[name] = data
        return Blob(digest=name, size=len(data))

    def approved(self, wanted: Study, model: Path | None = None) -> Plan:
        plan, initial = freeze(wanted, model=model)
        self.initial = self.blob(initial)
        out, run = io.BytesIO(), f"{plan.study.name}-1"
        chain.begin(strategy(plan), initial, run, out)
        self.states[run, 0] = self.blob(out.getvalue())
        for hospital in self.hospitals.values():
            hospital.offered(plan)
        return plan

    def task(self, plan: Plan, number: int, phase: str, who: Iterable[str], **changes: Any) -> Task:
        run = f"{plan.study.name}-1"
        kind, first = "PAIR" if number == 0 else "PREPARE", plan.study.prepares
        if number > first:
            kind = "TRAIN" if number <= first + plan.study.rounds else "EVALUATE"
        values = {
            "study": plan.study.name, "run": run, "plan": plan.digest, "round": number, "attempt": 1, "kind": kind,
            "phase": phase, "roster": tuple(self.hospitals if number == 0 else sorted(who)),
            "cohort": () if kind == "PAIR" else tuple(self.hospitals),
            "state": self.states.get((run, max(number - 1, 0)), self.initial), "initial": self.initial,
            "aggregate": self.sums.get((run, number - 1)), "deadline": datetime.now(UTC) + timedelta(hours=1),
        }  # fmt: skip
        return Task.model_validate({**values, **changes})

    def ask(self, plan: Plan, number: int, phase: str, who: Iterable[str] = (), **changes: Any) -> dict[str, str]:
        """Ask hospitals for a phase, and gather what they say; what became of it, by hospital."""
        asked = sorted(who) or sorted(self.hospitals)
        task = self.task(plan, number, phase, asked, **changes)
        became = {}
        for name in asked:
            became[name] = self[name].ask(task)
            self.gather(task, name)
        return became

    def gather(self, task: Task, name: str) -> None:
        """What a hospital has said of a task goes into what is shown to the others."""
        for data in self[name].sent(task.phase, task.attempt):
            step = step_of(data)
            if (step.run, step.round) == (task.run, task.round):
                place = (step.run, step.round, step.attempt, step.phase)
                self.said.setdefault(place, {})[name] = json.loads(data)

    def paired(self, plan: Plan) -> None:
        """Round 0, with people who compare where it is needed."""
        for phase in PAIRING:
            became = self.ask(plan, 0, phase)
            run, task = f"{plan.study.name}-1", self.task(plan, 0, phase, self.hospitals)
            for name in (name for name, word in became.items() if word == "waits"):
                self[name].compare(run, next(iter(self.hospitals.values())).words(run))
                became[name] = self[name].go_on()
                self.gather(task, name)
            assert set(became.values()) == {"done"}, became
        self.closed(plan, 0, tuple(self.hospitals))

    def closed(self, plan: Plan, number: int, who: Iterable[str], to: Iterable[str] = (), **changes: Any) -> None:
        task = self.task(plan, number, "READY", who)
        closed = Closed(
            study=task.study, run=task.run, round=number, kind=task.kind, took_part=tuple(sorted(who)),
            aggregate=self.sums.get((task.run, number)), state=self.states.get((task.run, number), task.state),
        ).model_copy(update=changes)  # fmt: skip
        for name in to or self.hospitals:
            self[name].told(closed)

    def played(self, plan: Plan, number: int, who: Iterable[str] = (), attempt: int = 1) -> None:
        """A whole honest round among these hospitals; the state after it is computed."""
        asked = sorted(who) or sorted(self.hospitals)
        for phase in SEALED:
            became = self.ask(plan, number, phase, asked, attempt=attempt)
            assert set(became.values()) == {"done"}, (phase, became)
        self.opened(plan, number, attempt)
        self.closed(plan, number, asked)

    def submitted(self, plan: Plan, number: int, who: Iterable[str] = ()) -> None:
        """A whole round of the recipe `plain` among these hospitals; the state after it is computed."""
        asked, run = sorted(who) or sorted(self.hospitals), f"{plan.study.name}-1"
        became = self.ask(plan, number, "SUBMIT", asked, cohort=())
        assert set(became.values()) == {"done"}, became
        sent = [self[name].folder.run(run) / f"update-{number}.safetensors" for name in asked]
        out = io.BytesIO()
        chain.fold(sent, {"run": run, "round": str(number)}, out, perform.single(perform.strategy(plan.study)))
        self.summed(plan, number, out.getvalue())
        self.closed(plan, number, asked)

    def opened(self, plan: Plan, number: int, attempt: int = 1) -> Opening:
        """Open the sum of a round, and advance the state: the coordinator's half. What it tells of that."""
        run, place = f"{plan.study.name}-1", (f"{plan.study.name}-1", number, attempt)
        said = {
            phase: {SiteId(name): step_of(json.dumps(one).encode()) for name, one in self.said[(*place, phase)].items()}
            for phase in ("READY", "MASK", "UNMASK")
        }
        ready = [parsed(step, Ready) for step in said["READY"].values()]
        masked = {site: parsed(step, Masked) for site, step in said["MASK"].items()}
        told = [parsed(step, Unmask) for step in said["UNMASK"].values()]
        name = next(iter(masked))
        row = self[name].journal.row("SELECT open FROM seats WHERE run = ? AND round = ? AND attempt = ?", *place)
        assert row is not None
        keys = opening.recover(Open.model_validate_json(row["open"]), ready, masked, told)
        before = self.file(self.states[run, number - 1])
        vectors = [self[site].folder.run(run) / f"masked-{number}-{attempt}.safetensors" for site in sorted(masked)]
        found = seats.layout(plan, self.task(plan, number, "READY", ()), before)
        out = io.BytesIO()
        kind = self.task(plan, number, "READY", ()).kind
        recipe.recover(found, vectors, keys, {"run": run, "round": str(number), "kind": kind}, out)
        self.summed(plan, number, out.getvalue())
        data = {site: path.read_bytes() for site, path in zip(sorted(masked), vectors, strict=True)}
        named = {site: Blob(digest=digest(one), size=len(one)) for site, one in data.items()}
        return Opening(
            attempt=attempt,
            **json.loads(written(keys)),
            vectors=named,
            data={digest(one): one for one in data.values()},
        )

    def summed(self, plan: Plan, number: int, sums: bytes) -> None:
        """These are the sums of a round: the state after it."""
        run = f"{plan.study.name}-1"
        self.sums[run, number] = self.blob(sums)
        if number <= plan.study.prepares + plan.study.rounds:
            before = self.file(self.states[run, number - 1])
            after, parent = io.BytesIO(), Digest(self.states[run, number - 1].digest)
            sums_ = self.file(self.sums[run, number])
            preparation.advance(plan.study, strategy(plan), before, parent, sums_, run, number, after)
            self.states[run, number] = self.blob(after.getvalue())

    def file(self, blob: Blob) -> Path:
        path = self.folder / blob.digest.removeprefix("sha256:")
        path.write_bytes(self.blobs[blob.digest])
        return path

    def forged(self, envelope: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A step with another body, signed by the coordinator."""
        step = step_of(json.dumps(envelope).encode())
        body = {**step.body, **changes}
        return dict(json.loads(seal(Step.TYPE, step.model_copy(update={"body": body}).encode(), self.identity)))

    def close(self) -> None:
        for hospital in self.hospitals.values():
            hospital.journal.close()


def strategy(plan: Plan) -> Any:
    return plugins.strategy_of(plan.study)


@contextlib.contextmanager
def circle(folder: Path, *names: str) -> Iterator[Relay]:
    """Hospitals of these names, and a coordinator."""
    with mock.patch.object(pipeline, "Child", Here):
        relay = Relay(folder / "circle", names or ("east", "north", "south"))
        try:
            yield relay
        finally:
            relay.close()
