"""The endpoints of sites: what each takes, does and gives. Who may call them: access.py."""

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import bindparam, or_, select, update
from starlette.requests import Request
from starlette.responses import Response

from consilium import __version__
from consilium.coordinator import accounts, ledgers, steps, twins
from consilium.coordinator.accounts import Who
from consilium.coordinator.conduct import Conduct, grant
from consilium.coordinator.gate import AHEAD_S
from consilium.coordinator.ingest import Letter
from consilium.coordinator.invited import invites
from consilium.coordinator.ledgers import post, record
from consilium.coordinator.services import Services
from consilium.core import run as run_machine
from consilium.core.errors import NotFound, OutOfPhase, ProtocolMismatch, Refused, Unauthenticated
from consilium.core.ids import Digest, RunId, SiteId
from consilium.core.round import Phase
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import decisions, inbox, runs, sites
from consilium.store.shelf import size_of
from consilium.wire import messages, requests

MAX_WAIT_S = 60.0
SHORT = 16 << 10
"""An envelope of at most so many bytes is read before a thread would have begun to."""


def _later(at: Any, ahead: Any) -> Any:
    """Whether what is known of a site is older, or of a clock that was ahead and has been set back since."""
    return or_(sites.c.last_seen < at, sites.c.last_seen > ahead)


_HEARD = Hot(
    update(sites)
    .where(sites.c.site == bindparam("of"), _later(bindparam("at"), bindparam("ahead")))
    .values(last_seen=bindparam("at"))
)
_DECIDED = Hot(
    select(decisions.c.id).join(runs, runs.c.study == decisions.c.study)
    .where(runs.c.run == bindparam("run"), decisions.c.site == bindparam("site")).limit(1)
)  # fmt: skip
NOTHING = (b"", b"", b"")
_INBOX = Hot(
    select(inbox).where(inbox.c.site == bindparam("site"), inbox.c.seq > bindparam("after"))
    .order_by(inbox.c.seq).limit(50)
)  # fmt: skip
Result = TypeVar("Result")
Given = ParamSpec("Given")


@dataclass
class Call:
    """One request, authenticated and validated. `key`: what stands in the path; `came`: when it began to come, in s."""

    request: Request
    services: Services
    who: Who
    key: str
    body: Any
    query: Any
    came: float

    async def store(
        self, act: Callable[Concatenate[Transaction, Given], Result], *given: Given.args, **named: Given.kwargs
    ) -> Result:
        """Run `act` in one transaction, with what is given."""
        return await self.services.database.run(lambda tx: act(tx, *given, **named))

    def refused(self, what: str) -> None:
        """Let the operator know what is refused, and to which address: no secret, and nothing that was typed."""
        client = self.request.client
        self.services.refusals.add(what, client.host if client else "an unknown address", self.came)


class Body(BaseModel):
    """A request body of people's endpoints."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OfRound(Body):
    """Which round."""

    round: int = Field(ge=1, lt=2**31)


class Of(Body):
    """Which phase of which round; numbers as in a task."""

    round: int = Field(ge=0, lt=2**31)
    attempt: int = Field(ge=1, lt=2**31)
    of: messages.SitePhase


class After(Body):
    """Long-poll: what has come after `after`; wait at most `wait` seconds for it."""

    after: int = Field(0, ge=0, lt=2**31)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)


class Next(Body):
    """Beside what is sent: what has come after `after` is wanted with the answer, as of `GET /v1/inbox`."""

    after: int | None = Field(None, ge=0, lt=2**31)
    wait: float = Field(0.0, ge=0, le=MAX_WAIT_S)


class Login(Body):
    """A person's name and password."""

    name: messages.Name
    password: str = Field(max_length=200)


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
    return requests.Hello(
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
    ask: requests.Join = call.body
    if ask.protocol not in messages.PROTOCOLS:
        raise ProtocolMismatch(*messages.mismatch(ask.protocol))
    try:
        state = await call.store(_join, call)
    except Refused as error:
        call.refused(f"a join as {ask.site} is refused ({error.message})")
        raise
    return requests.Joined(site=ask.site, state=state, coordinator_key=call.services.identity.public)


def _join(tx: Transaction, call: Call) -> str:
    """The state of a site that joins now, or has joined; the first time stands in the audit log."""
    ask: requests.Join = call.body
    known = tx.scalar(select(sites.c.site).where(sites.c.site == ask.site))
    state = accounts.join(tx, ask.token, ask.site, ask.public_key, ask.about, call.services.seconds())
    if known is None:
        record(tx, "join", {"site": ask.site, "public_key": ask.public_key}, call.services.now())
    return state


async def token(call: Call) -> Any:
    """A site's access token for a signed assertion."""
    try:
        secret, seconds = await call.store(
            lambda tx: accounts.site_token(tx, call.body.client_assertion, call.services.seconds())
        )
    except Unauthenticated as error:
        call.refused(f"a hospital's key is not taken ({error.message})")
        raise
    return requests.AccessToken(access_token=secret, expires_in=seconds)


async def login(call: Call) -> Any:
    """A person's access token."""
    ask: Login = call.body
    services, now = call.services, call.services.seconds()
    try:
        services.gate.may_try(ask.name, now)
    except Refused as error:
        call.refused(f"a login is refused ({error.message})")
        raise
    kept = await call.store(lambda tx: accounts.stored(tx, ask.name))
    if not await services.gate.right(ask.name, ask.password, kept, now):
        whom = (
            "an account that is not there or disabled" if kept == accounts.UNFIT else ask.name
        )  # some type a password there
        call.refused(f"wrong password for {whom}")
        raise Unauthenticated("name or password is wrong", "try again, or ask the coordinator's admin")
    secret, seconds = await call.store(lambda tx: accounts.person_token(tx, ask.name, kept, now))
    return requests.AccessToken(access_token=secret, expires_in=seconds)


async def site_self(call: Call) -> Any:
    """How the coordinator knows this site."""
    state = "admitted" if call.who.role == "site" else "pending"
    return requests.Joined(site=call.who.name, state=state, coordinator_key=call.services.identity.public)


def _seen(tx: Transaction, call: Call, at: float, **more: Any) -> None:
    """The site spoke at `at`: when its request came, not while we wait on a line that may be dead by then."""
    if not more and not call.services.gate.news(call.who.name, at):
        return
    if not more:
        tx.do(_HEARD, of=call.who.name, at=at, ahead=at + AHEAD_S)
        return
    heard = update(sites).where(sites.c.site == call.who.name, _later(at, at + AHEAD_S))
    tx.do(heard.values(last_seen=at, **more))


async def read_inbox(call: Call) -> Any:
    """Messages after a sequence number; waits for them, and wakes at once."""
    rows, newest = await _arrived(call)
    # `requests.Inbox`, put together from the bytes at hand: they are JSON already, and every site asks for them.
    items = b",".join(b'{"seq":%d,"envelope":%b}' % row for row in rows)
    blobs, said, opening = await _beside(call, rows[-1][1]) if rows else NOTHING
    parts = [b'{"items":[', items, b'],"blobs":{', blobs, b'},"said":{', said, b"}"]
    parts += [] if newest is None else [b',"newest":%d' % newest]
    parts += [b',"opening":', opening] if opening else []
    body = b"".join([*parts, b"}"])  # in one piece at once, for some of it is large
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _beside(call: Call, envelope: bytes) -> tuple[bytes, bytes, bytes]:
    """What goes with the newest task where it is small.

    Members of two objects: the blob from which the site makes the task's state, and what all said in the phase before;
    and what opened the sum of the round before: each site computes that sum, and needs no blob of it.
    """
    told = json.loads(envelope)
    if told["payloadType"] != messages.Task.TYPE:
        return NOTHING
    try:
        return await _of_task(call.services, json.loads(base64.b64decode(told["payload"])))
    except NotFound:  # dropped: the run has gone on, or is over; who was away for long reads this page all the same
        return NOTHING


async def _of_task(services: Services, task: Any) -> tuple[bytes, bytes, bytes]:
    before = steps.before(task["phase"])
    if before is not None:
        said = await services.said(task["run"], task["round"], task["attempt"], before)
        if not said and before is Phase.CONFIRM:  # it was left out
            said = await services.said(task["run"], task["round"], task["attempt"], Phase.MASK)
        return b"", said if len(said) <= messages.SMALL else b"", b""
    blob = task["aggregate"] or task["initial"]
    if task["phase"] == "READY" and task["aggregate"]:
        return b"", b"", await services.opening(task["run"], task["round"] - 1)
    small = blob["size"] <= messages.SMALL
    return await services.small(Digest(blob["digest"])) if small else b"", b"", b""


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
    if tx.scalar(_DECIDED, run=call.key, site=call.who.name) is None:
        raise NotFound(f"there is no run {call.key} of this site", "check the name")


async def opening(call: Call) -> Any:
    """What opened the sum of a round, for sites that check it: they believe no sum that they can compute."""
    await call.store(_of_its_study, call)
    told = await call.services.opening(call.key, call.query.round)
    return Response(told, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _arrived(call: Call) -> tuple[list[tuple[int, bytes]], int | None]:
    """Messages after the number that is asked for, from memory where this process posted them or knows of none; and the
    newest number, where it is an older one: then this coordinator has lost what the site has taken.
    """
    services, site, after = call.services, call.who.name, call.query.after
    topic, came, newest = f"inbox:{site}", call.came, after  # who asks counts from then as well

    def look(tx: Transaction) -> list[tuple[int, bytes]]:
        nonlocal newest
        _seen(tx, call, came)
        rows = [(row.seq, row.envelope) for row in tx.rows(_INBOX, site=site, after=after)]
        newest = after if rows else ledgers.newest(tx, site)
        return rows

    with services.bell.listen(topic) as bell:
        while True:
            rows = services.database.posted(site, after)
            if rows is None or not services.gate.heard_lately(site, came):
                rows = await call.store(look)
            left = came + call.query.wait - services.seconds()
            if rows or newest < after or left <= 0 or not await bell.wait(left):
                return rows, newest if newest < after else None


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
    services, data = call.services, call.body
    letter = Letter.read(data) if len(data) <= SHORT else await services.to_thread(lambda: Letter.read(data))
    if isinstance(letter.message, messages.Answer):
        letter = await services.to_thread(lambda: services.ingest.holding(letter))
    return await take(call, letter, lambda tx: None)


async def take(call: Call, letter: Letter, before: Callable[[Transaction], None]) -> Any:
    """Take a site's letter in one transaction, after `before`; the answer is what comes next, where that was asked."""
    services = call.services

    def taken(tx: Transaction) -> list[Conduct]:
        """The runs that the message moved."""
        _seen(tx, call, services.seconds())
        before(tx)
        moved = services.ingest.take(tx, SiteId(call.who.name), letter, services.now())
        moved = [services.performer.at_once(tx, conduct) for conduct in moved]
        for conduct in moved:
            services.ahead(tx, conduct)
        if not any(conduct.soon for conduct in moved):  # the driver needs not be woken for what is done
            tx.topics.discard("effects")
        return moved

    for conduct in await call.store(taken):
        conduct.remember()
    return {"status": "accepted"} if call.query.after is None else await read_inbox(call)


async def heartbeat(call: Call) -> Any:
    """The site lives; a run that is paused without it is opened again with it."""
    back, twin = await call.store(_beat, call)
    for conduct in back:
        conduct.remember()
    return requests.Beaten(twin=twin)


def _beat(tx: Transaction, call: Call) -> tuple[list[Conduct], bool]:
    """Runs that are paused, each of which the site may have come back to; and whether it has another agent."""
    services, own = call.services, call.body.instance
    twin = own is not None and twins.beats(tx, SiteId(call.who.name), own, services.seconds())
    _seen(tx, call, services.seconds(), activity=call.body.activity)
    paused = tx.rows(select(runs.c.run).where(runs.c.status == run_machine.Status.PAUSED.value))
    found = [Conduct.load(tx, services.identity, RunId(row.run), services.now()) for row in paused]
    for conduct in found:
        conduct.returned(SiteId(call.who.name))
    return found, twin


def offer(tx: Transaction, services: Services, plan: Plan, to: list[SiteId]) -> None:
    """Offer a study to those of `to` that it invites."""
    blob = messages.Blob(digest=plan.digest, size=len(plan.payload))
    model, code = (size_of(tx, name) if name else 0 for name in (plan.study.model.initial, plan.study.model.wheel))
    message = messages.Offer(study=plan.study.name, plan=blob, title=plan.study.title, model=model, code=code)
    for site in sorted(to):
        if invites(plan, site):
            post(tx, services.identity, site, message)
            readable = [plan.digest, plan.study.model.initial, plan.study.model.wheel]
            for digest in filter(None, readable):
                grant(tx, digest, [f"site:{site}"])
