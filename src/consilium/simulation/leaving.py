"""Leave one hospital out: the study trained anew without each hospital, and judged on those whom this one holds out.

Between hospitals the difference of two sums that differ by one of them is that hospital's part, and hospitals refuse
the second one (`privacy/disclosure.py`). In a simulation nobody's records are kept apart, and nothing is told by it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from consilium.coordinator.perform import figures_of
from consilium.core.errors import Conflict
from consilium.core.study import PERSONAL, Plan, Study
from consilium.simulation.executors import Asked, Executor, Turn
from consilium.simulation.rounds import Simulation

ALL = "all"
BETWEEN = ("auroc", "concordance")
"""Figures that compare one patient's score with another's: of two models these are not on one scale."""


def check(study: Study, sites: int) -> None:
    """Whether so many sites can be left out, one after the other. Raises: Conflict: why not, and what to do."""
    secure = study.privacy.recipe == "secure_sum"
    least = max(study.quorum, study.privacy.min_sites if secure else 1)
    if study.judged_only:
        raise Conflict("nothing is trained, so no hospital can be left out", "simulate without --leave-one-out")
    if study.evaluation.folds:
        raise Conflict(
            "a hospital is left out by its held-out patients, and a study with `evaluation.folds` holds none out",
            "leave out either `folds` or --leave-one-out",
        )
    if study.strategy.name in PERSONAL:
        raise Conflict(
            f"by {study.strategy.name}, parts of the model stay at hospitals: one that trained nothing has none",
            "choose another strategy, or leave --leave-one-out out",
        )
    if sites <= least:
        raise Conflict(
            f"without one of {sites} sites there are fewer than the {least} that the study needs",
            "lower `quorum`, or simulate more sites",
        )


def one_by_one(
    plan: Plan, sites: Sequence[str], folder: Path, run: Callable[[list[str], Path], Simulation], execute: Executor
) -> dict[str, dict[str, Any]]:
    """Figures of the models that were trained without each site, on its held-out patients; of all together, as `ALL`,
    those that are means over patients.

    Args:    run: a simulation of the plan among some sites, in a folder of its own.
    """
    found, added = dict[str, dict[str, Any]](), dict[str, np.ndarray]()
    for site in sites:
        here = folder / f"without-{site}"
        here.mkdir()
        ended = run([one for one in sites if one != site], here).run()
        asked = Asked("EVALUATE", plan.study.prepares + plan.study.rounds + 1, ended.state, here)
        (sent,) = execute(asked, [Turn(site)])
        mine = {name: rows[0] for name, rows in sent.rows.items()}
        found[site] = figures_of(plan.study, mine)
        added = {name: array + added.get(name, 0.0) for name, array in mine.items()}
    together = figures_of(plan.study, added, len(sites))
    return {**found, ALL: {name: figure for name, figure in together.items() if name not in BETWEEN}}
