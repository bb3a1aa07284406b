"""Over whom sums were told at the models of a round, as far as this coordinator knows: hospitals are in no others.

Each hospital holds to that by its own memory, and tells nobody over whom it was. What stands here lets a round be
opened over those of before, and says for whom it waits. Nothing at a hospital hangs on it.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, or_, select, update

from consilium.core.ids import Digest, RunId, SiteId
from consilium.core.round import Roster
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import runs, told

_TOLD = Hot(
    update(told).where(told.c.run == bindparam("of"), told.c.round == bindparam("number"))
    .values(sites=bindparam("sites"))
)  # fmt: skip
_now = told.alias("now")
_KNOWN = Hot(
    select(told.c.run, told.c.round, told.c.sites, runs.c.study)
    .select_from(told.join(_now, told.c.model == _now.c.model).join(runs, runs.c.run == told.c.run))
    .where(_now.c.run == bindparam("this"), _now.c.round == bindparam("number"), told.c.sites.is_not(None))
    .where(or_(told.c.run != bindparam("same"), told.c.round != bindparam("other")))
)


@dataclass(frozen=True)
class Known:
    """Over whom a sum at one of the round's models was opened, or may have been, and how near to this run."""

    sites: Roster
    same_run: bool
    same_study: bool


def expect(tx: Transaction, run: RunId, number: int, models: Collection[Digest]) -> None:
    """Round `number` of a run is at these models. What is known of it already stands."""
    if models and tx.find(told, run=run, round=number) is None:
        tx.put(told, *({"run": run, "round": number, "model": model, "sites": None} for model in models))


def opening(tx: Transaction, run: RunId, number: int, sites: Collection[SiteId]) -> None:
    """From now on the sum of a round over these may be open."""
    tx.do(_TOLD, of=run, number=number, sites=json.dumps(sorted(sites)))


def over(tx: Transaction, run: RunId, study: str, number: int) -> list[Known]:
    """What is known at the models of a round, the nearest first: of this run, then of its study, the newest first."""
    rows = tx.rows(_KNOWN, this=run, number=number, same=run, other=number)
    newest = sorted(rows, key=lambda row: (len(row.run), row.run, row.round), reverse=True)
    found = [Known(frozenset(map(SiteId, json.loads(row.sites))), row.run == run, row.study == study) for row in newest]
    return sorted(dict.fromkeys(found), key=lambda one: (not one.same_run, not one.same_study))
