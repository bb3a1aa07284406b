"""What a run's final model is worth for this hospital's held-out patients: computed here, and kept here.

By the recipe `secure_sum` nobody else has them, not even the study's owner; the hospital's policy may let a few
be told, rounded: see `declaring.py`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from consilium.algorithms import evaluation, figure, layout, metrics, worth
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.documents.terms import METRICS
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import Task

Json = dict[str, Any]
OWN = "own/"
"""Before the names of figures of the hospital's own model."""
COMMON = evaluation.COMMON
"""Before those of the common model, where the hospital uses a personal one."""
HALF = 0.5
"""The threshold of headline figures."""


def sums_of(made: Path) -> dict[str, Array]:
    """The sums over held-out patients in one hospital's contribution."""
    arrays = chain.read(made).arrays
    return {
        name.removeprefix(layout.METRICS): array for name, array in arrays.items() if name.startswith(layout.METRICS)
    }


def judged(study: Study, sums: Mapping[str, Array]) -> Json:
    """Figures by name, from the sums of one hospital's contribution to the round that judges the model."""
    found = metrics.figures(study.contract.label.type, sums, study.evaluation.confidence, single=True)
    if not evaluation.full(study):
        return figure.to_json(found)
    more = worth.worth(evaluation.among(sums, 1), study).figures
    if study.evaluation.threshold != HALF:  # those of the headline are at another one
        found = {name: one for name, one in found.items() if name not in METRICS or METRICS[name].table != "threshold"}
    if beside := evaluation.common_of(sums):
        asked, kind = study.evaluation, study.contract.label.type
        common = metrics.figures(kind, beside, asked.confidence, single=True, threshold=asked.threshold)
        more = {**more, **{f"{COMMON}{name}": one for name, one in common.items()}}
    # What is too small to be told to others is not hidden from those whose patients they are.
    return figure.to_json({**more, **{name: one for name, one in found.items() if one.value is not None}})


def keep(tx: Writing, task: Task, found: Json, now: datetime) -> None:
    """Keep them; of a round that is judged again the newest stay."""
    row = (task.run, task.study, now.isoformat(), json.dumps(found))
    tx.do("INSERT OR REPLACE INTO figures (run, study, at, figures) VALUES (?, ?, ?, ?)", *row)


def beside(tx: Writing, run: str, own: Json) -> None:
    """Keep, with those of a run's model, the figures of the hospital's own."""
    row = tx.row("SELECT figures FROM figures WHERE run = ?", run)
    if row is not None:
        found = {**json.loads(row["figures"]), **{f"{OWN}{name}": one for name, one in own.items()}}
        tx.do("UPDATE figures SET figures = ? WHERE run = ?", json.dumps(found), run)


def kept(journal: Journal, study: str | None) -> list[Json]:
    """What is kept of a study's runs, or of all, oldest first."""
    query = "SELECT run, study, at, figures FROM figures WHERE study = coalesce(?, study) ORDER BY at, run"
    return [{**dict(row), "figures": json.loads(row["figures"])} for row in journal.rows(query, study)]
