"""The endpoints of sites and of admission: what each takes, does and gives. Who may call them: access.py."""

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import bindparam, select, update
from starlette.requests import Request
from starlette.responses import Response

from consilium import __version__
from consilium.coordinator import accounts, steps, views
from consilium.coordinator.accounts import Who
from consilium.coordinator.conduct import Conduct, grant
from consilium.coordinator.ledgers import post, record
from consilium.coordinator.services import Services
from consilium.core import run as run_machine
from consilium.core.errors import NotFound, OutOfPhase, ProtocolMismatch, Refused, Unauthenticated
from consilium.core.ids import Digest, RunId, SiteId
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import decisions, inbox, runs, sites, studies
from consilium.wire import messages
from consilium.wire.identity import fingerprint

MAX_WAIT_S = 60.0
_HEARD = Hot(
    update(sites)
    .where(sites.c.site == bindparam("of"), sites.c.last_seen < bindparam("at"))
    .values(last_seen=bindparam("at"))
)
_INBOX = Hot(
    select(inbox).where(inbox.c.site == bindparam("site"), inbox.c.seq > bindparam("after"))
    .order_by(inbox.c.seq).limit(50)
)  # fmt: skip
Result = TypeVar("Result")


@dataclass
class Call:
    """One request, authenticated and validated. `key` is what stands in the path."""

    request: Request
    services: Services
    who: Who
    key: str
    body: Any
    query: Any

    async def store(self, act: Callable[[Transaction], Result]) -> Result:
        """Run `act` in one transaction."""
        return await self.services.database.run(act)


class Body(BaseModel):
    """A request body of people's endpoints."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Of(Body):
    """Which phase of which round; numbers as in a task."""

    round: int = Field(ge=0, lt=2**31)
    attempt: int = Field(ge=1, lt=2**31)
    of: messages.SitePhase


class OfRound(Body):
    """Which round."""

    round: int = Field(ge=1, lt=2**31)


class After(Body):
    """Long-poll: what has come after `after`; wait at most `wait` seconds for it."""

    after: int = Field(0, ge=0, lt=2**31)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)


class Login(Body):
    """A person's name and password."""

    name: messages.Name
    password: str = Field(max_length=200)


class Person(Login):
    """An account."""

    role: str = Field(max_length=20)


class ForSite(Body):
    """The site that is to join."""

    site: messages.Name


class Admission(Body):
    """The fingerprint that a person compared with the one the site shows."""

    fingerprint: str = Field(max_length=200)


class Nothing(Body):
    """An empty object."""


class TokenRequest(Body):
    """RFC 7523, section 2.2."""

    grant_type: str = Field(pattern="^client_credentials$")
    client_assertion_type: str = Field(pattern="^urn:ietf:params:oauth:client-assertion-type:jwt-bearer$")
    client_assertion: str = Field(max_length=4000)


Act = Callable[[Call], Awaitable[Any]]


async def hello(call: Call) -> Any:
    """Who answers here, and which protocols it speaks."""
    services = call.services
    key = services.identity.public
    return messages.Hello(
        name="consilium-coordinator", version=__version__, protocols=messages.PROTOCOLS, public_key=key,
        now=services.now(),
    )  # fmt: skip


async def ca(call: Call) -> Any:
    """The private CA that the coordinator made for itself (PEM), to be compared with the hash in the join token."""
    if call.services.ca is None:
        raise NotFound("this coordinator uses a certificate of a public or institutional CA", "trust that CA")
    return Response(call.services.ca, media_type="application/x-pem-file")


async def join(call: Call) -> Any:
    """A site asks to join with its one-time token."""
    ask: messages.Join = call.body
    if ask.protocol not in messages.PROTOCOLS:
        raise ProtocolMismatch(*messages.mismatch(ask.protocol))
    now = call.services.seconds()

    def act(tx: Transaction) -> str:
        known = tx.scalar(select(sites.c.site).where(sites.c.site == ask.site))
        state = accounts.join(tx, ask.token, ask.site, ask.public_key, ask.about, now)
        if known is None:
            record(tx, "join", {"site": ask.site, "public_key": ask.public_key}, call.services.now())
        return state

    state = await call.store(act)
    return messages.Joined(site=ask.site, state=state, coordinator_key=call.services.identity.public)


async def token(call: Call) -> Any:
    """A site's access token for a signed assertion."""
    secret, seconds = await call.store(
        lambda tx: accounts.site_token(tx, call.body.client_assertion, call.services.seconds())
    )
    return messages.AccessToken(access_token=secret, expires_in=seconds)


async def login(call: Call) -> Any:
    """A person's access token."""
    ask: Login = call.body
    services, now = call.services, call.services.seconds()
    services.gate.may_try(ask.name, now)
    kept = await call.store(lambda tx: accounts.stored(tx, ask.name))
    if not await services.gate.right(ask.name, ask.password, kept, now):
        raise Unauthenticated("name or password is wrong", "try again, or ask the coordinator's admin")
    secret, seconds = await call.store(lambda tx: accounts.person_token(tx, ask.name, now))
    return messages.AccessToken(access_token=secret, expires_in=seconds)


async def site_self(call: Call) -> Any:
    """How the coordinator knows this site."""
    state = "admitted" if call.who.role == "site" else "pending"
    return messages.Joined(site=call.who.name, state=state, coordinator_key=call.services.identity.public)


def _seen(tx: Transaction, call: Call, at: float, **more: Any) -> None:
    """The site spoke at `at`: when its request came, not while we wait on a line that may be dead by then."""
    if not more and not call.services.gate.news(call.who.name, at):
        return
    if not more:
        tx.do(_HEARD, of=call.who.name, at=at)
        return
    heard = update(sites).where(sites.c.site == call.who.name, sites.c.last_seen < at)
    tx.do(heard.values(last_seen=at, **more))


async def read_inbox(call: Call) -> Any:
    """Messages after a sequence number; waits for them, and wakes at once."""
    rows = await _arrived(call)
    # `messages.Inbox`, put together from the bytes at hand: they are JSON already, and every site asks for them.
    items = b",".join(b'{"seq":%d,"envelope":%b}' % row for row in rows)
    blobs, said = await _beside(call, rows[-1][1]) if rows else (b"", b"")
    body = b'{"items":[%b],"blobs":{%b},"said":{%b}}' % (items, blobs, said)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _beside(call: Call, envelope: bytes) -> tuple[bytes, bytes]:
    """What goes with the newest task, as members of objects, where it is small.

    The blob from which the site makes the task's state, and what all said in the phase before.
    """
    told = json.loads(envelope)
    if told["payloadType"] != messages.Task.TYPE:
        return b"", b""
    task = json.loads(base64.b64decode(told["payload"]))
    before = steps.before(task["phase"])
    if before is not None:
        said = await call.services.said(task["run"], task["round"], task["attempt"], before)
        return b"", said if len(said) <= messages.SMALL else b""
    blob = task["aggregate"] or task["initial"]
    return call.services.small(blob["digest"]) if blob["size"] <= messages.SMALL else b"", b""


async def said(call: Call) -> Any:
    """What all sites said in one phase of a round: envelopes by site, each signed by its site."""
    services, query = call.services, call.query

    def act(tx: Transaction) -> None:
        _of_its_study(tx, call)
        fold = Conduct.load(tx, services.identity, RunId(call.key), services.now()).fold
        if not steps.relayed(fold, query.round, query.attempt, query.of):
            raise OutOfPhase(f"what is said in {query.of} is not for others, or not yet", "wait for the next task")

    await call.store(act)
    found = await services.said(call.key, query.round, query.attempt, query.of)
    return Response(b'{"steps":{%b}}' % found, media_type="application/json", headers={"Cache-Control": "no-store"})


def _of_its_study(tx: Transaction, call: Call) -> None:
    """Whether the run is of a study on which this site decided. Raises: NotFound."""
    study = tx.scalar(select(runs.c.study).where(runs.c.run == call.key))
    mine = decisions.c.site == call.who.name
    if study is None or tx.row(select(decisions.c.id).where(decisions.c.study == study, mine)) is None:
        raise NotFound(f"there is no run {call.key} of this site", "check the name")


async def opening(call: Call) -> Any:
    """What opened the sum of a round, for sites that check it: they believe no sum that they can compute."""
    services, number = call.services, call.query.round

    def act(tx: Transaction) -> dict[str, Any]:
        _of_its_study(tx, call)
        return steps.opening(tx, call.key, number)

    told = await call.store(act)
    digests = [Digest(blob["digest"]) for blob in told["vectors"].values()]
    if sum(blob["size"] for blob in told["vectors"].values()) <= messages.MAX_MESSAGE:
        read = lambda: {one: base64.b64encode(services.blobs.path(one).read_bytes()).decode() for one in digests}  # noqa: E731
        told["data"] = await services.to_thread(read)
    return told


async def _arrived(call: Call) -> list[tuple[int, bytes]]:
    """Messages after the number that is asked for, from memory where this process posted them or knows of none."""
    services, site, after = call.services, call.who.name, call.query.after
    topic, came = f"inbox:{site}", services.seconds()

    def look(tx: Transaction) -> list[tuple[int, bytes]]:
        _seen(tx, call, came)
        return [(row.seq, row.envelope) for row in tx.rows(_INBOX, site=site, after=after)]

    with services.bell.listen(topic) as bell:
        while True:
            rows = services.database.posted(site, after)
            if rows is None or not services.gate.heard_lately(site, came):
                rows = await call.store(look)
            left = came + call.query.wait - services.seconds()
            if rows or left <= 0 or not await bell.wait(left):
                return rows


async def when_there(call: Call, topic: str, act: Callable[[Transaction], list[Any]]) -> list[Any]:
    """What `act` finds, as soon as it finds something: the topic wakes it; at the latest when the wait is over."""
    deadline = call.services.seconds() + call.query.wait
    with call.services.bell.listen(topic) as bell:
        while True:
            rows = await call.store(act)
            left = deadline - call.services.seconds()
            if rows or left <= 0 or not await bell.wait(left):
                return rows


async def envelope(call: Call) -> Any:
    """A signed message of a site: decision, answer, refusal, checkpoint."""
    return await take(call, call.body, lambda tx: None)


async def take(call: Call, data: bytes, before: Callable[[Transaction], None]) -> Any:
    """Take a site's envelope in one transaction, after `before`."""
    services = call.services
    sound = await services.to_thread(lambda: services.ingest.sound(data))

    def act(tx: Transaction) -> list[Conduct]:
        _seen(tx, call, services.seconds())
        before(tx)
        return services.ingest.take(tx, SiteId(call.who.name), data, services.now(), sound=sound)

    for conduct in await call.store(act):
        conduct.remember()
    return {"status": "accepted"}


async def heartbeat(call: Call) -> Any:
    """The site lives; a run that is paused without it is opened again with it."""
    services, site = call.services, SiteId(call.who.name)

    def act(tx: Transaction) -> list[Conduct]:
        _seen(tx, call, services.seconds(), activity=call.body.activity)
        paused = tx.rows(select(runs.c.run).where(runs.c.status == run_machine.Status.PAUSED.value))
        found = [Conduct.load(tx, services.identity, RunId(row.run), services.now()) for row in paused]
        for conduct in found:
            conduct.returned(site)
        return found

    for conduct in await call.store(act):
        conduct.remember()
    return {}


async def add_person(call: Call) -> Any:
    """Add an account."""
    ask: Person = call.body

    def act(tx: Transaction) -> None:
        accounts.add_person(tx, ask.name, ask.role, ask.password, call.services.now())
        record(tx, "person", {"name": ask.name, "role": ask.role, "by": call.who.name}, call.services.now())

    await call.store(act)
    return {"name": ask.name, "role": ask.role}


async def join_token(call: Call) -> Any:
    """A one-time token for a site, as the secret; the command line makes the join string of it."""
    site = call.body.site

    def act(tx: Transaction) -> tuple[str, float]:
        record(tx, "join-token", {"site": site, "by": call.who.name}, call.services.now())
        return accounts.join_token(tx, site, call.services.seconds())

    secret, expires = await call.store(act)
    return {"token": call.services.join_string(site, secret), "expires": expires}


async def site_list(call: Call) -> Any:
    """All sites."""
    return await call.store(views.site_list)


async def admit(call: Call) -> Any:
    """Admit a site whose fingerprint a person has compared; offer it the studies that invite it."""

    def act(tx: Transaction) -> None:
        row = tx.row(select(sites).where(sites.c.site == call.key))
        if row is None:
            raise NotFound(f"there is no site {call.key}", "`consilium sites list` shows all")
        if fingerprint(row.public_key) != call.body.fingerprint.strip():
            raise Refused(
                "the fingerprint differs from this site's key", "compare again, word by word", reason="fingerprint"
            )
        if row.state == "admitted":
            return
        accounts.set_state(tx, SiteId(call.key), "admitted")
        record(tx, "admit", {"site": call.key, "by": call.who.name}, call.services.now())
        for study in tx.rows(select(studies).order_by(studies.c.since)):
            offer(tx, call.services, Plan.load(study.payload), [SiteId(call.key)])

    await call.store(act)
    return {"site": call.key, "state": "admitted"}


async def remove(call: Call) -> Any:
    """Remove a site: its tokens end at once, and no round asks it again."""

    def act(tx: Transaction) -> list[Conduct]:
        accounts.set_state(tx, SiteId(call.key), "removed")
        record(tx, "remove", {"site": call.key, "by": call.who.name}, call.services.now())
        found = []
        for row in tx.rows(select(runs.c.run)):
            conduct = Conduct.load(tx, call.services.identity, RunId(row.run), call.services.now())
            conduct.withdraw(SiteId(call.key), "removed")
            found.append(conduct)
        return found

    for conduct in await call.store(act):
        conduct.remember()
    return {"site": call.key, "state": "removed"}


def offer(tx: Transaction, services: Services, plan: Plan, to: list[SiteId]) -> None:
    """Offer a study to those of `to` that it invites."""
    invited = set(plan.study.sites)
    blob = messages.Blob(digest=plan.digest, size=len(plan.payload))
    for site in sorted(to):
        if not invited or site in invited:
            post(tx, services.identity, site, messages.Offer(study=plan.study.name, plan=blob, title=plan.study.title))
            readable = [plan.digest, plan.study.model.initial, plan.study.model.wheel]
            for digest in filter(None, readable):
                grant(tx, digest, [f"site:{site}"])
