"""What a site may ask of the coordinator's record of it: it finds out that its own was restored from an old copy.

A hospital's privacy ledger must know of all that left. It compares itself, when its agent starts, with two things that
are here whatever becomes of its disk: the heads of its log that it signed, and the rounds of which it sent something.
"""

import json
from typing import Any

from sqlalchemy import func, select

from consilium.coordinator.endpoints import Call
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.schema import checkpoints, contributions, runs, steps, studies
from consilium.wire.requests import Left, Record

NEWEST = 5
"""So many checkpoints: the newest of a site that goes on after a restore follows from the restored copy."""


async def own(call: Call) -> Any:
    """What is kept of the site that asks: heads of its log that it signed, and rounds of which it sent something."""
    return await call.store(_record, call.who.name)


def _record(tx: Transaction, site: str) -> Record:
    mine = select(checkpoints.c.envelope).where(checkpoints.c.site == site)
    heads = [json.loads(row.envelope) for row in tx.rows(mine.order_by(checkpoints.c.id.desc()).limit(NEWEST))]
    found: list[Left] = []
    listed = select(runs.c.run, studies.c.study, studies.c.plan, studies.c.payload)
    for row in tx.rows(listed.join(studies, studies.c.study == runs.c.study).order_by(runs.c.run)):
        study = Plan.load(row.payload).study
        if study.privacy.epsilon is None:
            continue
        made = _rounds(tx, site, row.run).items()
        # the round after the last judges the model: it has no noise, and no ledger counts it
        rounds = {number: times for number, times in made if 1 <= number <= study.rounds}
        if rounds:
            found.append(Left(study=row.study, plan=row.plan, run=row.run, rounds=tuple(sorted(rounds.items()))))
    return Record(checkpoints=tuple(reversed(heads)), sent=tuple(found))


def _rounds(tx: Transaction, site: str, run: str) -> dict[int, int]:
    """By round: how many attempts of it the site had trained for; what it masked may have come in part, unrecorded."""
    plain = select(contributions.c.round).where(contributions.c.site == site, contributions.c.run == run)
    found = {int(row.round): 1 for row in tx.rows(plain)}
    of_site = (steps.c.site == site, steps.c.run == run, steps.c.phase == "READY")
    ready = select(steps.c.round, func.count().label("n")).where(*of_site).group_by(steps.c.round)
    return found | {int(row.round): int(row.n) for row in tx.rows(ready)}
