"""A run as a fold of its events: append with a version check, load by replay, remember the newest fold."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, update

from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import NotFound, Unavailable
from consilium.core.ids import RunId, canonical
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import events, studies
from consilium.store.schema import runs as table

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        machine.Answered,
        machine.Withdrew,
        machine.DeadlinePassed,
        machine.Cancelled,
        runs.Opened,
        runs.Lacking,
        runs.Parted,
        runs.Stopped,
    )
}
_RUN = Hot(select(table.c.version, studies.c.payload).join(studies).where(table.c.run == bindparam("run")))
_NEW = Hot(
    select(events).where(events.c.run == bindparam("run"), events.c.seq > bindparam("known")).order_by(events.c.seq)
)
_STEP = Hot(
    update(table)
    .where(table.c.run == bindparam("of"), table.c.version == bindparam("before"))
    .values(version=bindparam("version"), status=bindparam("status"))
)
_folds: dict[RunId, tuple[int, runs.Run]] = {}
"""Newest fold by run. Only ever a cache: the version is compared with the database's before use."""


def decode(kind: str, body: str) -> runs.RunEvent:
    """An event from its stored form."""
    values = json.loads(body)
    match kind:
        case "Answered" | "DeadlinePassed":
            values["phase"] = machine.Phase(values["phase"])
        case "Opened":
            values |= {"kind": machine.Kind(values["kind"]), "roster": tuple(values["roster"])}
        case "Lacking":
            values["awaits"] = tuple(values.get("awaits", ()))
    event: runs.RunEvent = _KINDS[kind](**values)
    return event


def load(tx: Transaction, run: RunId) -> tuple[int, runs.Run]:
    """The run's version, and the run. Raises: NotFound: there is no such run."""
    _, version, fold = of_plan(tx, run)
    return version, fold


def of_plan(tx: Transaction, run: RunId) -> tuple[Plan, int, runs.Run]:
    """The same, with the plan before it. Raises: NotFound: there is no such run."""
    row = tx.row(_RUN, run=run)
    if row is None:
        raise NotFound(f"there is no run {run}", "`consilium study list` shows what there is")
    plan = Plan.load(row.payload)
    known, fold = _folds.get(run, (0, None))
    if fold is None or known > row.version:
        study = plan.study
        known, secure = 0, study.privacy.recipe == "secure_sum"
        fold = runs.Run(study.rounds, study.quorum, secure, prepares=study.prepares, enough=study.enough)
    for event in tx.rows(_NEW, run=run, known=known) if row.version > known else ():
        fold, _ = runs.step(fold, decode(event.kind, event.body))
    return plan, row.version, fold


def append(
    tx: Transaction, run: RunId, version: int, before: runs.Run, event: runs.RunEvent, now: datetime
) -> tuple[int, runs.Run, list[machine.Effect]]:
    """Step the run and record the event; a step that changes nothing records nothing.

    Raises: Conflict: the round refuses the event.   Unavailable: another process was faster; try again.
    """
    after, effects = runs.step(before, event)
    if after == before:
        return version, before, effects
    changed = tx.do(_STEP, of=run, before=version, version=version + 1, status=after.status.value)
    if changed != 1:
        raise Unavailable(f"run {run} was changed by another process", "try again")
    body = canonical(vars(event)).decode()
    tx.put(events, run=run, seq=version + 1, at=now, kind=type(event).__name__, body=body)
    tx.ring(f"run:{run}")
    return version + 1, after, effects


def remember(run: RunId, version: int, fold: runs.Run) -> None:
    """Keep a fold that is committed; call it after the commit."""
    if version >= _folds.get(run, (0, None))[0]:
        _folds[run] = (version, fold)
