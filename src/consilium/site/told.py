"""What was told of this hospital's patients before, at which model: in sums over whom, and alone. See `disclosure`.

It stands in the journal's table `openings`, across runs and studies; `shown` says by which answer of the outbox.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId
from consilium.privacy import disclosure
from consilium.privacy.disclosure import Opening
from consilium.privacy.question import models
from consilium.site import sources
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import Task

log = logging.getLogger(__name__)
Question = Mapping[str, Any]
"""What is asked of which patients at which models; see `question`."""


def question(task: Task, mapping: Path, state: Path) -> dict[str, Any]:
    """What is asked of which patients at which models, by the hospital's own table and column, under any name.

    What a contract calls its parts, what a mapping file is called, and how is trained, is in none of it: who asks the
    same question twice chooses all that. Rounds of training carry the model's metrics, too, so the kind of the round is
    not, either. What is summed to prepare inputs is of no model and no label: it is one question, whatever the model is
    at which it is asked.
    """
    asked = sources.asked(mapping)
    if task.kind == "PREPARE":
        return {"source": asked.source, "objective": disclosure.PREPARATION, "models": models(task.kind, state)}
    return {"source": asked.source, "objective": asked.label, "models": models(task.kind, state)}


def alone(journal: Journal, asked: Question) -> bool:
    """Whether this hospital has shown its answer to the question alone, at all of its models; False: at none of them.

    It has, where the coordinator took the answer. Where it waited and was given up, some of it may have left, or all.

    Raises: Refused: `difference`: it has at some of the models, or may have.
    """
    found = {_shown(journal, wanted) for wanted in _openings(asked, ())}
    if len(found) > 1 or None in found:
        log.warning("at some of these models the same was shown alone before, or may have been")
        raise disclosure.apart(asked["objective"])
    return True in found


def _shown(journal: Journal, wanted: Opening) -> bool | None:
    """None: it was put into the outbox, and is not known to have arrived."""
    if not any(one.alone for one, _ in _before(journal, wanted)):
        return False
    arrived = journal.row(
        "SELECT openings.id FROM openings JOIN shown ON shown.opening = openings.id"
        " JOIN outbox ON outbox.id = shown.answer AND outbox.status = 'sent'"
        " WHERE model = ? AND source = ? AND objective = ?",
        wanted.state, wanted.source, wanted.objective,
    )  # fmt: skip
    return None if arrived is None else True


def check(journal: Journal, asked: Question, sites: Iterable[SiteId]) -> list[Opening]:
    """The sums over these sites, one for each model, if they may be told, or this hospital's own answer; after what was
    told before.

    Raises: Refused: `difference`. The log, which stays here, says after which run.
    """
    found = _openings(asked, sites)
    for wanted in found:
        before = _before(journal, wanted)
        try:
            disclosure.check(wanted, [one for one, _ in before])
        except Refused:
            runs = sorted({run for one, run in before if one.sites != wanted.sites})
            log.warning("at this model the same was told before, of other hospitals together: %s", ", ".join(runs))
            raise
    return found


def keep(tx: Writing, task: Task, told: Sequence[Opening], answer: int | None = None) -> None:
    """Remember what is told in a task's round. Args: answer: the outbox's number of what shows it alone."""
    these = "FROM openings WHERE run = ? AND round = ? AND model = ? AND source = ? AND objective = ?"
    for one in told:
        about = task.run, task.round, one.state, one.source, one.objective
        if tx.row(f"SELECT id {these}", *about) is None:
            tx.do(
                "INSERT INTO openings (run, round, model, source, objective, sites, study)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                *about, json.dumps(sorted(one.sites)), task.study,
            )  # fmt: skip
        if answer is not None:
            tx.do(f"INSERT INTO shown (opening, answer) SELECT id, ? {these}", answer, *about)


def _before(journal: Journal, wanted: Opening) -> list[tuple[Opening, str]]:
    rows = journal.rows(
        "SELECT sites, run FROM openings WHERE model = ? AND source = ? AND objective = ?",
        wanted.state, wanted.source, wanted.objective,
    )  # fmt: skip
    sites = [frozenset(map(SiteId, json.loads(row["sites"]))) for row in rows]
    return [(replace(wanted, sites=of), str(row["run"])) for of, row in zip(sites, rows, strict=True)]


def _openings(asked: Question, sites: Iterable[SiteId]) -> list[Opening]:
    over = frozenset(sites)
    return [Opening(asked["source"], Digest(of), asked["objective"], over) for of in asked["models"]]
