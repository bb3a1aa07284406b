"""What a site may ask of the coordinator's record of it: it finds out that its own was restored from an old copy.

A hospital's privacy ledger must know of all that left. It compares itself, when its agent starts, with two things that
are here whatever becomes of its disk: the heads of its log that it signed, and what it said in rounds of training. That
is read from the events of its runs, which stay when the messages themselves are dropped.
"""

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import and_, or_, select

from consilium.coordinator.endpoints import Call
from consilium.core.round import Answered, Kind, Phase
from consilium.core.run import Opened
from consilium.core.study import Plan
from consilium.store import eventlog
from consilium.store.database import Transaction
from consilium.store.schema import checkpoints, events, runs, studies
from consilium.wire.requests import Left, Record

NEWEST = 5
"""So many checkpoints: the newest of a site that goes on after a restore follows from the restored copy."""
TOLD = (Phase.SUBMIT, Phase.READY, Phase.MASK)
"""What is sent in other phases follows from these. Who was ready may have masked, and of that a part may have come."""


async def own(call: Call) -> Any:
    """What is kept of the site that asks: heads of its log that it signed, and what it said under an epsilon."""
    return await call.store(record_of, call.who.name)


def record_of(tx: Transaction, site: str) -> Record:
    """The record of a site."""
    mine = select(checkpoints.c.envelope).where(checkpoints.c.site == site)
    heads = [json.loads(row.envelope) for row in tx.rows(mine.order_by(checkpoints.c.id.desc()).limit(NEWEST))]
    found: list[Left] = []
    listed = select(runs.c.run, studies.c.study, studies.c.plan, studies.c.payload)
    for row in tx.rows(listed.join(studies, studies.c.study == runs.c.study).order_by(runs.c.run)):
        if Plan.load(row.payload).study.privacy.epsilon is None:
            continue
        if answers := tuple(_answers(tx, site, row.run)):
            found.append(Left(study=row.study, plan=row.plan, run=row.run, answers=answers))
    return Record(checkpoints=tuple(reversed(heads)), sent=tuple(found))


def _answers(tx: Transaction, site: str, run: str) -> Iterator[tuple[int, int, Any, str]]:
    """(round, attempt, phase, digest) of what the site said: of training alone, for only that is noised and counted."""
    of_site = and_(events.c.kind == Answered.__name__, events.c.body.contains(f'"{site}"', autoescape=True))
    listed = select(events.c.kind, events.c.body).where(events.c.run == run)
    round_: Opened | None = None
    for row in tx.rows(listed.where(or_(events.c.kind == Opened.__name__, of_site)).order_by(events.c.seq)):
        match eventlog.decode(row.kind, row.body):
            case Opened() as opened:
                round_ = opened if opened.kind is Kind.TRAIN else None
            case Answered(site=who, phase=phase, digest=digest) if who == site and phase in TOLD and round_ is not None:
                yield round_.number, round_.attempt, phase.value, digest
