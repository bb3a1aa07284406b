"""What was told of this hospital's patients before, at which model: in sums over whom, and alone. See `disclosure`.

It stands in the journal's table `openings`, across runs and studies.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from consilium.core import state as chain
from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId, digest
from consilium.privacy import disclosure
from consilium.privacy.disclosure import Opening
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
        return {"source": asked.source, "objective": "preparation", "models": [digest(b"preparation")]}
    return {"source": asked.source, "objective": asked.label, "models": model_hashes(state)}


def model_hashes(state: Path) -> list[Digest]:
    """SHA-256 of the values of each model at which something is told; a state file's own digest names the run, too.

    `model`, those that lie one after the other in `models`, by a strategy that sums at several, and those of folds and
    of groups of hospitals (`fold-1/model`, `model-2`): another study could begin at any of them.
    """
    arrays = chain.read(state).arrays
    several = arrays["models"].reshape(-1, arrays["model"].size) if "models" in arrays else ()
    apart = (array for name, array in arrays.items() if name.startswith("model-") or name.endswith("/model"))
    return sorted({digest(chain.raw(model)) for model in (arrays["model"], *several, *apart)})


def alone(journal: Journal, asked: Question) -> bool:
    """Whether this hospital has shown its answer to the question alone, at one of its models."""
    return any(one.alone for wanted in _openings(asked, ()) for one, _ in _before(journal, wanted))


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


def keep(tx: Writing, task: Task, told: Sequence[Opening]) -> None:
    """Remember what is told in a task's round."""
    known = "SELECT id FROM openings WHERE run = ? AND round = ? AND model = ?"
    for one in told:
        if tx.row(known, task.run, task.round, one.state):
            continue
        tx.do(
            "INSERT INTO openings (source, model, objective, sites, study, run, round) VALUES (?, ?, ?, ?, ?, ?, ?)",
            one.source, one.state, one.objective, json.dumps(sorted(one.sites)), task.study, task.run, task.round,
        )  # fmt: skip


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
