"""The endpoints of researchers and auditors: studies, runs, results, the audit log. Who may call them: access.py."""

import json
from typing import Any

from pydantic import Field
from sqlalchemy import func, insert, select
from starlette.responses import Response

from consilium.coordinator import invited, views
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.endpoints import Body, Call, offer, when_there
from consilium.coordinator.ledgers import checkpoint, record
from consilium.core import run as run_machine
from consilium.core.errors import Conflict, Invalid, NotFound, Refused
from consilium.core.ids import RunId, SiteId
from consilium.core.study import Plan
from consilium.store.blobs import Stored
from consilium.store.database import Transaction
from consilium.store.schema import audit, checkpoints, events, grants, runs, sites, studies
from consilium.wire import messages
from consilium.wire.envelope import seal

PAGE = 1000


class Submission(Body):
    """A plan: canonical JSON of the study."""

    plan: str = Field(max_length=messages.MAX_MESSAGE)


class Reason(Body):
    """Why."""

    reason: messages.Long = ""


class Since(Body):
    """Number of an event of a run: rounds that were over before it are left out. 0: none."""

    since: int = Field(0, ge=0, lt=2**31)


async def submit(call: Call) -> Any:
    """Submit a study; its plan is immutable, and is offered to the sites."""
    services = call.services
    plan = Plan.load(call.body.plan.encode())
    plan.check()
    if plan.study.model.initial is None:
        raise Invalid("the plan names no initial model", "submit it with `consilium study submit`")
    await services.to_thread(lambda: services.blobs.make_bytes(plan.payload))
    await call.store(_keep_study, call, plan)
    states = await call.store(invited.known)
    absent = await services.to_thread(lambda: invited.liked(plan.study.sites, states))
    return {"study": plan.study.name, "plan": plan.digest, "missing": absent}


def _keep_study(tx: Transaction, call: Call, plan: Plan) -> None:
    """Keep a plan under its study's name and offer it; the same plan by the same owner is there already."""
    services = call.services
    known = tx.row(select(studies).where(studies.c.study == plan.study.name))
    if known is not None and known.plan == plan.digest and known.owner == call.who.name:
        return
    if known is not None:
        raise Conflict(f"a study named {plan.study.name} exists with another plan", "choose another name")
    for needed in filter(None, (plan.study.model.initial, plan.study.model.wheel)):
        if tx.row(select(grants).where(grants.c.digest == needed, grants.c.subject == call.who.subject)) is None:
            raise Invalid(f"the plan names {needed}, which you have not sent", "send the blob first")
    services.shelf.keep(tx, Stored(plan.digest, len(plan.payload)), call.who.subject)
    row = {"study": plan.study.name, "plan": plan.digest, "payload": plan.payload, "owner": call.who.name}
    tx.do(insert(studies).values(**row, since=services.now()))
    record(tx, "study", {"study": plan.study.name, "plan": plan.digest, "by": call.who.name}, services.now())
    admitted = tx.rows(select(sites.c.site).where(sites.c.state == "admitted"))
    offer(tx, services, plan, [SiteId(row.site) for row in admitted])


async def study_list(call: Call) -> Any:
    """All studies."""
    return await call.store(views.study_list)


async def study(call: Call) -> Any:
    """One study."""
    return await call.store(lambda tx: views.study_view(tx, call.key))


async def study_plan(call: Call) -> Any:
    """The plan's bytes."""
    row = await call.store(lambda tx: views.study_row(tx, call.key))
    return Response(row.payload, media_type="application/json")


def _own(tx: Transaction, call: Call, study: str) -> None:
    if call.who.role != "admin" and views.study_row(tx, study).owner != call.who.name:
        raise Refused("this study belongs to another researcher", "ask its owner", reason="owner")


async def start(call: Call) -> Any:
    """Start a run. It begins when a quorum of sites approves; until then it is paused and says why.

    While one is on it is that one, and `started` is false: who asks again, for the answer was lost, starts no second.
    """
    run, conduct = await call.store(_start_run, call)
    if conduct is not None:
        conduct.remember()
    return {"run": run, "started": conduct is not None}


def _start_run(tx: Transaction, call: Call) -> tuple[str, Conduct | None]:
    """The run that is on; or a new one, to be begun."""
    services, row = call.services, views.study_row(tx, call.key)
    _own(tx, call, call.key)
    going = tx.scalar(select(runs.c.run).where(runs.c.study == call.key, runs.c.status.in_(["running", "paused"])))
    if going is not None:
        return going, None
    count = tx.scalar(select(func.count()).select_from(runs).where(runs.c.study == call.key))
    run = f"{row.study}-{count + 1}"
    tx.do(insert(runs).values(run=run, study=call.key, version=0, status=run_machine.Status.PAUSED.value))
    conduct = Conduct.load(tx, services.identity, RunId(run), services.now())
    conduct.due("begin", "0", services.now())
    record(tx, "run", {"run": run, "plan": row.plan, "by": call.who.name}, services.now())
    return run, conduct


async def stop(call: Call) -> Any:
    """Stop a run; what it has so far stays. One that is over stays as it is, and `stopped` is false."""
    conduct, stopped = await call.store(_stop_run, call)
    conduct.remember()
    return {"run": call.key, "status": conduct.fold.status.value, "stopped": stopped}


def _stop_run(tx: Transaction, call: Call) -> tuple[Conduct, bool]:
    """The run, and whether it was stopped now."""
    services = call.services
    conduct = Conduct.load(tx, services.identity, RunId(call.key), services.now())
    _own(tx, call, conduct.study)
    if conduct.fold.status in run_machine.OVER:
        return conduct, False
    record(tx, "stop", {"run": call.key, "by": call.who.name}, services.now())
    conduct.take(run_machine.Stopped(call.body.reason or f"stopped by {call.who.name}"))
    return conduct, True


async def run(call: Call) -> Any:
    """One run; with `since`, without the rounds that were over before that event."""
    return await call.store(lambda tx: views.run_view(tx, RunId(call.key), call.query.since))


async def run_events(call: Call) -> Any:
    """Events of a run after a sequence number; waits for them."""
    rows = await when_there(call, f"run:{call.key}", lambda tx: _events(tx, RunId(call.key), call.query.after))
    told = [{"seq": row.seq, "at": row.at.isoformat(), "kind": row.kind, "body": json.loads(row.body)} for row in rows]
    return {"events": told}


def _events(tx: Transaction, run: RunId, after: int) -> list[Any]:
    """Events of a run after a sequence number. Raises: NotFound: there is no such run."""
    if tx.row(select(runs.c.run).where(runs.c.run == run)) is None:
        raise NotFound(f"there is no run {run}", "`consilium study list` shows what there is")
    newer = select(events).where(events.c.run == run, events.c.seq > after)
    return tx.rows(newer.order_by(events.c.seq).limit(PAGE))


async def run_result(call: Call) -> Any:
    """The model and figures of a run."""
    return await call.store(lambda tx: views.result_view(tx, RunId(call.key)))


async def read_audit(call: Call) -> Any:
    """Entries of the audit log after a sequence number, with a signed checkpoint."""
    return await call.store(_audit_page, call)


def _audit_page(tx: Transaction, call: Call) -> Any:
    """One page of the log, with its signed head."""
    services = call.services
    mark = checkpoint(tx, services.now())  # before the entries: what another process adds meanwhile is not missed
    page = select(audit).where(audit.c.seq > call.query.after).order_by(audit.c.seq).limit(PAGE)
    entries = [row.entry.decode() for row in tx.rows(page)]
    envelope = json.loads(seal(mark.TYPE, mark.encode(), services.identity))
    return {"entries": entries, "checkpoint": envelope, "key": services.identity.public}


async def read_checkpoints(call: Call) -> Any:
    """The sites' checkpoints that this coordinator keeps."""
    rows = await call.store(lambda tx: tx.rows(select(checkpoints).order_by(checkpoints.c.site, checkpoints.c.id)))
    return {"checkpoints": [{"site": row.site, "envelope": json.loads(row.envelope)} for row in rows]}
