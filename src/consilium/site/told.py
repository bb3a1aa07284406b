"""What was told of this hospital's patients before, at which model: in sums over whom, and alone. See `disclosure`.

It stands in the journal's table `openings`, across runs and studies.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId, digest
from consilium.privacy import disclosure
from consilium.privacy.disclosure import Opening
from consilium.site import sources
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import Task

log = logging.getLogger(__name__)
Question = Mapping[str, str]
"""What is asked of which patients at which model; see `question`."""


def question(task: Task, mapping: Path, state: Path) -> dict[str, str]:
    """What is asked of which patients at which model, by the hospital's own table and column, under any name.

    What a contract calls its parts, what a mapping file is called, and how is trained, is in none of it: who asks the
    same question twice chooses all that. Rounds of training carry the model's metrics, too, so the kind of the round is
    not, either. What is summed to prepare inputs is of no model and no label: it is one question, whatever the model is
    at which it is asked.
    """
    asked = sources.asked(mapping)
    if task.kind == "PREPARE":
        return {"source": asked.source, "objective": "preparation", "model": digest(b"preparation")}
    return {"source": asked.source, "objective": asked.label, "model": model_hash(state)}


def model_hash(state: Path) -> Digest:
    """SHA-256 of the model's values; a state file's own digest names the run, too."""
    return digest(chain.raw(chain.read(state).arrays["model"]))


def alone(journal: Journal, asked: Question) -> bool:
    """Whether this hospital has shown its answer to the question alone."""
    return any(one.alone for one, _ in _before(journal, asked))


def check(journal: Journal, asked: Question, sites: Iterable[SiteId]) -> Opening:
    """The sum over these sites, if it may be told, or this hospital's own answer; after what was told before.

    Raises: Refused: `difference`. The log, which stays here, says after which run.
    """
    wanted, before = _opening(asked, sites), _before(journal, asked)
    try:
        disclosure.check(wanted, [one for one, _ in before])
    except Refused:
        runs = sorted({run for one, run in before if one.sites != wanted.sites})
        log.warning("at this model the same was told before, of other hospitals together: %s", ", ".join(runs))
        raise
    return wanted


def keep(tx: Writing, task: Task, told: Opening) -> None:
    """Remember what is told in a task's round."""
    if tx.row("SELECT id FROM openings WHERE run = ? AND round = ? AND model = ?", task.run, task.round, told.state):
        return
    tx.do(
        "INSERT INTO openings (source, model, objective, sites, study, run, round) VALUES (?, ?, ?, ?, ?, ?, ?)",
        told.source, told.state, told.objective, json.dumps(sorted(told.sites)), task.study, task.run, task.round,
    )  # fmt: skip


def _before(journal: Journal, asked: Question) -> list[tuple[Opening, str]]:
    rows = journal.rows(
        "SELECT sites, run FROM openings WHERE model = ? AND source = ? AND objective = ?",
        asked["model"], asked["source"], asked["objective"],
    )  # fmt: skip
    return [(_opening(asked, map(SiteId, json.loads(row["sites"]))), str(row["run"])) for row in rows]


def _opening(asked: Question, sites: Iterable[SiteId]) -> Opening:
    return Opening(asked["source"], Digest(asked["model"]), asked["objective"], frozenset(sites))
