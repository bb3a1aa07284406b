"""What is not told of a run's rounds: figures from which, beside those of the last one, a hospital's own follow; and
figures that nobody has, as too few hospitals have held-out patients of each outcome.
"""

from collections.abc import Iterable
from typing import Any

from consilium.algorithms import absence
from consilium.core.study import Study
from consilium.privacy.secagg import Open, Ready

Json = dict[str, Any]
KEY = "withheld"
"""Why a round has no figures, among what it tells."""
FEW_JUDGE = (
    "withheld: of fewer than {} hospitals it is sure that they hold out patients of each outcome; a new study may hold "
    "out more (`evaluation.test_fraction`), cross-validate (`folds`), or ask more hospitals"
)
OTHERS = "withheld: over other hospitals than the last round; the difference of both would be a single hospital's"
TOLD = ("all", "sites")
"""Figures of patients, beside what a round says of its sum."""


def over_others(participation: list[Json]) -> list[Json]:
    """The rounds, without the figures of those that were over other hospitals than the last round with figures.

    Each round counts the held-out patients of the hospitals in it, and how many have the outcome: where one is missing
    in one round, its own follow by subtraction. Under `plain` each hospital's figures are told.
    """
    done = [entry for entry in participation if (entry.get("figures") or {}).get("all")]
    if not done:
        return participation
    last = set(done[-1]["took_part"])
    return [
        {**entry, "figures": {**entry["figures"], **{name: {} for name in TOLD}, KEY: OTHERS}}
        if (entry.get("figures") or {}).get("all") and set(entry["took_part"]) != last
        else entry
        for entry in participation
    ]


def lacking(asked: Open, called: Iterable[Ready], study: Study) -> Json:
    """What a round says of parts of its sum to which nobody added anything: why there are no figures, and of which
    features nothing is learned (`not_learned`); see `algorithms/absence.py`.
    """
    least = max(asked.needed, study.quorum)
    names = absence.withheld((one.lacks for one in called), least, asked.min_sites)
    told: Json = {KEY: FEW_JUDGE.format(asked.min_sites)} if absence.HELD_OUT in names else {}
    features = sorted(names & absence.names(study, asked.kind)) if asked.kind == "PREPARE" else []
    return told | ({"not_learned": features} if features else {})
