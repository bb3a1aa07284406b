"""What a run's final model is worth for this hospital's held-out patients: computed here, kept here, told to nobody.

By the recipe `secure_sum` nobody else has them, not even the study's owner.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from consilium.algorithms import evaluation, figure, layout, metrics, worth
from consilium.core import state as chain
from consilium.core.study import Study
from consilium.documents.terms import METRICS
from consilium.site.journal import Journal, Writing
from consilium.wire.messages import Task

Json = dict[str, Any]
HALF = 0.5
"""The threshold of headline figures."""


def judged(study: Study, made: Path) -> Json:
    """Figures by name, from the sums of one hospital's contribution to the round that judges the model."""
    arrays = chain.read(made).arrays
    sums = {
        name.removeprefix(layout.METRICS): array for name, array in arrays.items() if name.startswith(layout.METRICS)
    }
    found = metrics.figures(study.contract.label.type, sums, study.evaluation.confidence, single=True)
    if not evaluation.full(study):
        return figure.to_json(found)
    more = worth.worth(sums, study).figures
    if study.evaluation.threshold != HALF:  # those of the headline are at another one
        found = {name: one for name, one in found.items() if name not in METRICS or METRICS[name].table != "threshold"}
    # What is too small to be told to others is not hidden from those whose patients they are.
    return figure.to_json({**more, **{name: one for name, one in found.items() if one.value is not None}})


def keep(tx: Writing, task: Task, found: Json, now: datetime) -> None:
    """Keep them; of a round that is judged again the newest stay."""
    row = (task.run, task.study, now.isoformat(), json.dumps(found))
    tx.do("INSERT OR REPLACE INTO figures (run, study, at, figures) VALUES (?, ?, ?, ?)", *row)


def kept(journal: Journal, study: str | None) -> list[Json]:
    """What is kept of a study's runs, or of all, oldest first."""
    query = "SELECT run, study, at, figures FROM figures WHERE study = coalesce(?, study) ORDER BY at, run"
    return [{**dict(row), "figures": json.loads(row["figures"])} for row in journal.rows(query, study)]
