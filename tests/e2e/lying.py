"""A coordinator that lies: over HTTPS and with its own true key, it tells every agent what a test wants.

The agents are those that are shipped, as processes. `Liar` relays nothing by itself; `Play` is one run, phase by phase.
"""

import base64
import hashlib
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from consilium import plugins
from consilium.api import freeze
from consilium.coordinator import steps as relay
from consilium.core import state as chain
from consilium.core.ids import Digest, SiteId, digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import Tensors, flatten, from_safetensors, to_safetensors
from consilium.privacy import opening, recipe
from consilium.privacy.layout import Layout
from consilium.privacy.pairing import Roster
from consilium.privacy.secagg import Open
from consilium.site.joining import PREFIX
from consilium.wire.envelope import payload_of, peek, seal
from consilium.wire.identity import Identity
from consilium.wire.messages import (
    HEADER,
    PROTOCOL,
    PROTOCOLS,
    SITE_MESSAGES,
    Blob,
    Decision,
    Delivered,
    Ended,
    Offer,
    Refusal,
    Step,
    Task,
)  # fmt: skip
from consilium.wire.tls import make_authority
from e2e.federation import POLICY, Hospital, table
from e2e.processes import CONSILIUM, Process, free_port, until

HOSPITALS = ("east", "north", "south", "west")
SECURE: dict[str, Any] = {"privacy": {"recipe": "secure_sum"}, "quorum": 3}
PATIENCE_S = 60.0
Envelopes = dict[str, bytes]
Lie = Callable[[str, Envelopes], Envelopes]
"""What a site is shown instead of what was said in the phase before."""


class Liar:
    """The server, the inboxes, and all that came. `sent` is (site, message, envelope), in the order of arrival."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.identity = Identity.create(folder / "liar.key")
        make_authority(folder / "tls", ["127.0.0.1"], datetime.now(UTC))
        self.ca = folder / "tls" / "ca.pem"
        self.came = threading.Condition()
        self.inboxes: dict[str, list[bytes]] = {}
        self.shown: dict[tuple[str, str, int, int, str], Envelopes] = {}
        self.sent: list[tuple[str, Any, bytes]] = []
        self.blobs: dict[str, bytes] = {}
        self.begun: dict[str, bytearray] = {}
        self.openings: dict[tuple[str, int], dict[str, Any]] = {}
        self.hospitals: dict[str, Hospital] = {}
        self.record: list[bytes] = []
        self._server = _Server(("127.0.0.1", self.port), type("Served", (_Served,), {"liar": self}))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "tls" / "server.pem", folder / "tls" / "server.key")
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, name: str, **variables: str) -> Hospital:
        """A hospital whose agent believes that this is its coordinator."""
        home, mapping = self.folder / name / "site", table(self.folder / name, seed=len(self.hospitals) + 1)
        words = [CONSILIUM, "site", "run", "--home", home]
        hospital = Hospital(name, home, mapping, Process(words, self.folder / f"{name}.log", variables))
        hospital.command("init")
        (home / "policy.yaml").write_text(POLICY)
        ticket = {
            "url": f"https://127.0.0.1:{self.port}", "ca": hashlib.sha256(self.ca.read_bytes()).hexdigest(),
            "key": self.identity.public, "site": name, "secret": "once " * 4,
        }  # fmt: skip
        self.inboxes[name] = []
        hospital.command("join", PREFIX + base64.urlsafe_b64encode(json.dumps(ticket).encode()).decode())
        hospital.process.start()
        self.hospitals[name] = hospital
        return hospital

    def close(self) -> None:
        """End every agent, and the server."""
        for hospital in self.hospitals.values():
            hospital.process.kill()
        self._server.shutdown()
        self._server.server_close()

    def keep(self, data: bytes) -> Blob:
        """Have a blob that anybody may fetch."""
        self.blobs[digest(data)] = data
        return Blob(digest=digest(data), size=len(data))

    def post(self, site: str, message: Delivered) -> None:
        """Put a message, duly numbered, chained and signed, into a hospital's inbox."""
        kind = type(message).TYPE
        with self.came:
            told = self.inboxes[site]
            before = digest(payload_of(told[-1], peek(told[-1]))) if told else None
            placed = message.model_copy(update={"to": site, "number": len(told) + 1, "before": before})
            told.append(seal(kind, placed.encode(), self.identity))
            self.came.notify_all()

    def approved(self, study: Study) -> Plan:
        """Offer a study, and let a person at every hospital approve it."""
        plan, weights = beginning(study)
        self.keep(weights)
        return self.offered(plan)

    def offered(self, plan: Plan) -> Plan:
        """The same for a plan whose initial model is here already."""
        study = plan.study
        offer = Offer(study=study.name, plan=self.keep(plan.payload), title=study.title)
        for name in self.hospitals:
            self.post(name, offer)
        for hospital in self.hospitals.values():
            hospital.approve(plan)
        self.until(lambda: self._decided(study.name) == self.hospitals.keys(), f"every approval of {study.name}")
        return plan

    def _decided(self, study: str) -> set[str]:
        return {site for site, one, _ in self.sent if isinstance(one, Decision) and one.study == study}

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something that arrives."""
        end = time.monotonic() + PATIENCE_S
        with self.came:
            while not true():
                if not self.came.wait(end - time.monotonic()):
                    said = "\n".join(one.process.said[-500:] for one in self.hospitals.values())
                    raise TimeoutError(f"{what}: not within {PATIENCE_S:g} s; {said}")

    def take(self, site: str, envelope: bytes, vector: bytes = b"") -> None:
        """What a site sent."""
        with self.came:
            if vector:
                self.keep(vector)
            self.sent.append(
                (site, SITE_MESSAGES[peek(envelope)].decode(payload_of(envelope, peek(envelope))), envelope)
            )
            self.came.notify_all()

    def arrived(self, site: str, after: int, wait: float) -> list[tuple[int, bytes]]:
        """Messages after a number; waits for them."""
        with self.came:
            self.came.wait_for(lambda: len(self.inboxes[site]) > after, min(wait, 25.0))
            return list(enumerate(self.inboxes[site], 1))[after:]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """An agent was killed, or hung up: its own log says so."""


class _Served(BaseHTTPRequestHandler):
    """The protocol's endpoints for sites. A token is the site's name: whoever comes is believed."""

    protocol_version = "HTTP/1.1"
    liar: Liar

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _reply(self, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        given = {HEADER: str(PROTOCOL), **{name.replace("_", "-"): value for name, value in headers.items()}}
        for name, value in {"Content-Length": str(len(data)), **given}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _site(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self) -> None:
        """Read something."""
        parts = urlsplit(self.path)
        query = {name: one[0] for name, one in parse_qs(parts.query).items()}
        match parts.path.split("/")[2:]:
            case ["hello"]:
                about = {"name": "consilium-coordinator", "version": "1", "protocols": PROTOCOLS}
                now = datetime.now(UTC).isoformat()
                self._reply({**about, "public_key": self.liar.identity.public, "now": now})
            case ["ca"]:
                self._reply(self.liar.ca.read_bytes())
            case ["site"]:
                key = self.liar.identity.public
                self._reply({"site": self._site, "state": "admitted", "coordinator_key": key})
            case ["record"]:  # of what it has, it hides all, but for what a test shows
                self._reply({"checkpoints": [json.loads(one) for one in self.liar.record], "sent": []})
            case ["inbox"]:
                self._inbox(int(query["after"]), float(query.get("wait", 0)))
            case ["runs", run, "said"]:
                key = (self._site, run, int(query["round"]), int(query["attempt"]), query["of"])
                shown = self.liar.shown.get(key, {})
                self._reply({"steps": {site: json.loads(one) for site, one in shown.items()}})
            case ["runs", run, "opening"]:
                self._reply(self.liar.openings[run, int(query["round"])])
            case ["blobs", name]:
                data = self.liar.blobs[name]
                begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                self._reply(data[begin:], 206 if begin else 200)

    def do_HEAD(self) -> None:
        """How much of an upload is here."""
        name = self.path.rsplit("/", 1)[-1]
        there = self.liar.blobs.get(name)
        size = str(len(self.liar.begun.get(name, b"") if there is None else there))
        self._reply(b"", 404 if there is None else 200, Upload_Offset=size)

    def do_PATCH(self) -> None:
        """Take the next piece of an upload."""
        name, data = self.path.rsplit("/", 1)[-1], self._body()
        begun = self.liar.begun.setdefault(name, bytearray())
        begun += data
        if len(begun) == int(self.headers["Upload-Length"]):
            self.liar.keep(bytes(self.liar.begun.pop(name)))
        self._reply({}, Upload_Offset=str(int(self.headers["Upload-Offset"]) + len(data)))

    def _inbox(self, after: int, wait: float) -> None:
        items = [
            {"seq": seq, "envelope": json.loads(one)} for seq, one in self.liar.arrived(self._site, after, wait)
        ]  # what was said is fetched; what the agent finds beside a task is the business of other tests
        self._reply({"items": items})

    def _next(self, query: dict[str, str]) -> None:
        if "after" in query:
            self._inbox(int(query["after"]), float(query["wait"]))
        else:
            self._reply({"status": "accepted"})

    def do_POST(self) -> None:
        """Take something."""
        body, parts = self._body(), urlsplit(self.path)
        query = {name: one[0] for name, one in parse_qs(parts.query).items()}
        match parts.path.split("/")[2:]:
            case ["token"]:
                assertion = parse_qs(body.decode())["client_assertion"][0].split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(assertion + "=="))
                self._reply({"access_token": claims["sub"], "token_type": "Bearer", "expires_in": 3600})
            case ["join"]:
                key, site = self.liar.identity.public, json.loads(body)["site"]
                self._reply({"site": site, "state": "admitted", "coordinator_key": key})
            case ["envelopes"]:
                self.liar.take(self._site, body)
                self._next(query)
            case ["answers"]:
                envelope, _, vector = body.partition(b"\n")
                self.liar.take(self._site, envelope, vector)
                self._next(query)
            case _:
                self._reply({})


@contextmanager
def lying(folder: Path) -> Iterator[Liar]:
    """A liar with its hospitals, each of which must live to the end and have failed at nothing."""
    made = Liar(folder)
    try:
        for name in HOSPITALS:
            made.add(name)
        yield made
        for hospital in made.hospitals.values():
            assert hospital.process.alive and "Traceback" not in hospital.process.said, hospital.process.said[-3000:]
    finally:
        made.close()


def beginning(study: Study) -> tuple[Plan, bytes]:
    """A plan with its initial model, of its own for each name: what was opened at one forbids nothing at another."""
    plan, weights = freeze(study)
    first = {name: array.copy() for name, array in from_safetensors(weights).items()}
    for array in first.values():
        array += np.random.default_rng(list(study.name.encode())).normal(scale=0.1, size=array.shape)
    made = to_safetensors(first)
    model = plan.study.model.model_copy(update={"start": "given", "initial": digest(made)})
    return Plan.of(plan.study.model_copy(update={"model": model})), made


def forged(envelope: bytes, by: Identity, **changes: Any) -> bytes:
    """A step whose body is altered, signed by another key."""
    step: Step = read(envelope)
    body = {**step.body, **changes}
    return seal(Step.TYPE, step.model_copy(update={"body": body}).encode(), by)


def read(envelope: bytes) -> Any:
    """The step in an envelope."""
    return Step.decode(payload_of(envelope, Step.TYPE))


def message(envelope: bytes) -> Any:
    """The protocol's message in a step."""
    return relay.read(read(envelope))


@dataclass
class Play:
    """One run, as the coordinator plays it with those of `sites`; `heard` is what they answered."""

    liar: Liar
    plan: Plan
    run: str
    sites: tuple[str, ...]
    cohort: tuple[str, ...] = ()
    states: list[Blob] = field(default_factory=list)
    sums: list[Blob | None] = field(default_factory=lambda: [None])
    heard: dict[tuple[int, int, str], Envelopes] = field(default_factory=dict)
    attempts: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        out = BytesIO()
        chain.begin(self.strategy, self.liar.blobs[str(self.plan.study.model.initial)], self.run, out)
        self.states.append(self.liar.keep(out.getvalue()))
        self.cohort = self.cohort or tuple(sorted(self.sites))

    @property
    def strategy(self) -> Any:
        """The study's."""
        return plugins.load("consilium.strategies", self.plan.study.strategy.name)(self.plan.study.strategy.options)

    def task(self, phase: str, number: int, attempt: int) -> Task:
        """What an honest coordinator would ask."""
        initial = str(self.plan.study.model.initial)
        kind: Any = "PAIR" if number == 0 else "TRAIN" if number <= self.plan.study.rounds else "EVALUATE"
        asked: Any = phase
        at = max(number - 1, 0)
        return Task(
            study=self.plan.study.name, run=self.run, plan=self.plan.digest, round=number, attempt=attempt, kind=kind,
            phase=asked, roster=self.cohort, cohort=() if number == 0 else self.cohort, state=self.states[at],
            initial=Blob(digest=initial, size=len(self.liar.blobs[initial])), aggregate=self.sums[at],
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip

    def tell(
        self, phase: str, number: int, attempt: int, to: Iterable[str] | None = None, lie: Lie | None = None,
        **changes: Any,
    ) -> int:  # fmt: skip
        """Ask sites for a phase and show them what was said before, or a lie; a mark from which answers count."""
        mark, earlier = len(self.liar.sent), relay.before(phase)
        if phase == "READY":
            epochs = [one for zero, one, of in self.heard if (zero, of) == (0, "PROVE")]
            for epoch in epochs:
                self.show(0, epoch, "PROVE", to or self.sites, None)
        if phase == "UNMASK":
            self.show(number, attempt, "MASK", to or self.sites, None)
        if earlier is not None:
            self.show(number, attempt, str(earlier), to or self.sites, lie)
        for site in to or self.sites:
            self.liar.post(site, self.task(phase, number, attempt).model_copy(update=changes))
        return mark

    def show(self, number: int, attempt: int, phase: str, to: Iterable[str], lie: Lie | None) -> None:
        """Set what sites are told that was said in a phase; without a lie, what they were told before stays."""
        for site in to:
            key = (site, self.run, number, attempt, phase)
            truth = dict(self.heard.get((number, attempt, phase), {}))
            if lie is not None or key not in self.liar.shown:
                self.liar.shown[key] = lie(site, truth) if lie else truth

    def answers(self, mark: int, phase: str, number: int, attempt: int, of: Iterable[str]) -> dict[str, bytes | str]:
        """The answers after a mark, by site: an envelope, or the reason of a refusal."""
        found: dict[str, bytes | str] = {}

        def there() -> bool:
            for site, one, envelope in self.liar.sent[mark:]:
                place = (getattr(one, "run", None), getattr(one, "round", None), getattr(one, "attempt", None))
                if place != (self.run, number, attempt):
                    continue
                if isinstance(one, Step) and one.phase == phase:
                    found[site] = envelope
                elif isinstance(one, Refusal):
                    found[site] = one.reason
            return set(of) <= found.keys()

        self.liar.until(there, f"{self.run}: everybody answers {phase} of round {number}, attempt {attempt}")
        for site, one in found.items():
            if isinstance(one, bytes):
                self.heard.setdefault((number, attempt, phase), {})[site] = one
        return {site: found[site] for site in of}

    def ask(
        self, phase: str, number: int, attempt: int, to: Iterable[str] | None = None, lie: Lie | None = None,
        **changes: Any,
    ) -> dict[str, bytes | str]:  # fmt: skip
        """Ask, and wait for every answer."""
        mark = self.tell(phase, number, attempt, to, lie, **changes)
        return self.answers(mark, phase, number, attempt, tuple(to or self.sites))

    def paired(self, attempt: int = 1) -> None:
        """Agree on keys, honestly; the words are compared where hospitals do not know each other."""
        for phase in ("KEYS", "PAIR"):
            assert all(isinstance(one, bytes) for one in self.ask(phase, 0, attempt).values())
        mark = self.tell("PROVE", 0, attempt)
        if not self.liar.hospitals[self.sites[0]].journal("SELECT site FROM pins"):
            self.compared()
        assert all(isinstance(one, bytes) for one in self.answers(mark, "PROVE", 0, attempt, self.sites).values())

    def compared(self) -> None:
        """A person at every hospital hears the words that the first one reads."""
        for name in self.sites:
            hospital = self.liar.hospitals[name]
            until(lambda hospital=hospital: self.run in hospital.told("status")["compare"], f"{name} waits")  # type: ignore[misc]
        words = self.words(self.sites[0])
        for name in self.sites:
            self.liar.hospitals[name].command("compare", self.run, "--words", words, "--person", "Vera")

    def words(self, name: str) -> str:
        """The words of the roster at one hospital."""
        return str(self.liar.hospitals[name].told("compare", self.run)["words"])

    def through(self, last: str, number: int, attempt: int, lies: Mapping[str, Lie] | None = None) -> None:
        """The phases of a round up to and with `last`; every site answers."""
        for phase in ("READY", "MASK", "CONFIRM", "UNMASK"):
            found = self.ask(phase, number, attempt, lie=(lies or {}).get(phase))
            assert all(isinstance(one, bytes) for one in found.values()), {
                s: o for s, o in found.items() if isinstance(o, str)
            }
            if phase == last:
                return

    def end(self) -> None:
        """Tell every site that the run is over."""
        for site in self.sites:
            self.liar.post(
                site, Ended(study=self.plan.study.name, run=self.run, status="stopped", reason="a test", state=None)
            )

    def opened(self, number: int, attempt: int, survivors: Iterable[str] | None = None) -> bytes:
        """The file of sums that the answers of UNMASK open; what opened it is shown to whoever asks."""
        active, masked, told = (self._messages(number, attempt, phase) for phase in ("READY", "MASK", "UNMASK"))
        masked = {site: one for site, one in masked.items() if survivors is None or site in survivors}
        asked, found = self.asked(number, attempt), self.layout(number)
        keys, out = opening.recover(asked, active.values(), masked, told.values()), BytesIO()
        pairs: dict[str, dict[str, str]] = {}
        for (site, lost), key in keys.pairs.items():
            pairs.setdefault(site, {})[lost] = key.hex()
        vectors = {site: read(self.heard[number, attempt, "MASK"][site]).vector for site in sorted(masked)}
        shown = {site: vector.model_dump() for site, vector in vectors.items()}
        own = {site: key.hex() for site, key in keys.own.items()}
        self.liar.openings[self.run, number] = {"attempt": attempt, "own": own, "pairs": pairs, "vectors": shown}
        stamp = {"run": self.run, "round": str(number), "kind": asked.kind}
        recipe.recover(found, [self.file(one.digest) for one in vectors.values()], keys, stamp, out)
        return out.getvalue()

    def made_up(self, number: int) -> None:
        """A sum of a round that was not opened, of this coordinator's making, and the state that follows from it."""
        out, shape = BytesIO(), self.layout(number).shape
        arrays = {name: np.ones(length, chain.dtype(kind)) for name, (kind, length) in shape.items()}
        chain.write(arrays, {"run": self.run, "round": str(number), "kind": "TRAIN"}, out)
        self.advanced(number, out.getvalue())
        self.liar.openings[self.run, number] = {"attempt": 1, "own": {}, "pairs": {}, "vectors": {}}
        for phase in ("READY", "MASK"):
            self.show(number, 1, phase, self.sites, lambda _, said: said)

    def layout(self, number: int) -> Layout:
        """The segments of a round."""
        model = chain.read(self.file(self.states[number - 1].digest)).shape["model"]
        return relay.layout(self.plan, self.task("READY", number, 1).kind, model, len(self.cohort))

    def asked(self, number: int, attempt: int) -> Open:
        """The OPEN that honest hospitals compute themselves."""
        epoch = max(attempt for number, attempt, _ in self.heard if number == 0)
        roster = Roster(tuple(self._messages(0, epoch, "KEYS").values()))
        return Open(
            study=self.plan.study.name, run=self.run, plan=self.plan.digest, roster=roster.digest, opening=number - 1,
            round=number, attempt=attempt, kind=self.task("READY", number, attempt).kind, cohort=roster.sites,
            state=Digest(self.states[number - 1].digest), segments=self.layout(number).segments,
            min_sites=roster.min_sites,
        )  # fmt: skip

    def alone(self, site: str, number: int, attempt: int, layers: Iterable[tuple[bytes, int]]) -> Mapping[str, Any]:
        """What is left of one hospital's vector once these masks are off: key and sign of each."""
        out, vector = BytesIO(), read(self.heard[number, attempt, "MASK"][site]).vector
        self.layout(number).uncover([self.file(vector.digest)], layers, {}, out)
        return chain.read(self.file(self.liar.keep(out.getvalue()).digest)).arrays

    def _messages(self, number: int, attempt: int, phase: str) -> dict[SiteId, Any]:
        return {SiteId(site): message(one) for site, one in sorted(self.heard[number, attempt, phase].items())}

    def file(self, name: str) -> Path:
        """A blob as a file."""
        path = self.liar.folder / name.removeprefix("sha256:")
        if not path.exists():
            path.write_bytes(self.liar.blobs[name])
        return path

    def crafted(self, number: int, model: Tensors) -> Blob:
        """A state after a round that nobody computed: of the coordinator's own making, but for its stamp."""
        out = BytesIO()
        stamp = {"run": self.run, "round": str(number), "parent": self.states[-1].digest if number else ""}
        chain.write(self.strategy.init(flatten(model)), stamp, out)
        return self.liar.keep(out.getvalue())

    def advanced(self, number: int, sums: bytes) -> None:
        """The state that follows from these sums, as an honest coordinator computes it."""
        before, out = self.states[number - 1], BytesIO()
        self.sums.append(self.liar.keep(sums))
        path = self.file(self.sums[number].digest)  # type: ignore[union-attr]
        chain.advance(self.strategy, self.file(before.digest), Digest(before.digest), path, self.run, number, out)
        self.states.append(self.liar.keep(out.getvalue()))
