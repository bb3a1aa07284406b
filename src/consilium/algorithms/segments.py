"""Of what each segment is a sum that hospitals add up under `secure_sum`: THE table; a test walks all by it.

Whoever takes part knows its own term, and so the sum over the others, in every digit; where these are few, it asks
which terms add up to that. A sum over patients leaves open whose they are: with the same patients in two hospitals, or
in one, it is the same. Whatever else a hospital adds (a fraction by how many patients it has, a square of that, a word
whether it has any) must say here why it tells no more; if it does, people accept it by name (`Study.of_hospitals`).
See docs/decisions/0046-a-sum-over-patients.md.
"""

from collections.abc import Mapping
from enum import StrEnum

from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.timed import COX, TIMED


class Of(StrEnum):
    """What a segment is a sum of."""

    PATIENTS = "sum over patients"
    """At a fixed model it adds up over any parts of the patients."""
    COUNT = "count of patients"
    """The same, in whole numbers."""
    UPDATE = "update times weight"
    """What training changed, by patients: the release that secure sums are for."""
    GROUP = "count of patients of the hospitals that took one of several models"
    """Accepted by name (`small-groups`)."""
    COMPARED = "sum over patients, each compared with others of the same hospital"
    """Logarithms and shares of hazards: of as many real numbers as there are events, less what hangs on n alone. Where
    these take few values (at zeros, or by a code alone), they are of few whole numbers; nothing ends that."""
    PAIRS = "sum over pairs of patients of one hospital, by patient, rounded"
    """Linear in n where all are compared, and multiples of one part for all: see `concordance.rounded`; of what is
    expected of a group, and of its variance, coarser: `peto.PARTS`."""
    WORD = "yes or no of each hospital"
    """How many say yes is known; of two others, of whom both or none do, what each says. So it is asked of little."""
    STEPS = "steps of each hospital"
    """They tell what is left over of last batches, once numbers of patients are known in sum."""
    HOSPITAL = "number of a hospital as a whole"
    """Few hospitals' sums tell each one's: accepted by name (`hospital-numbers`)."""
    CUT = "count of values that were cut"
    """Of coordinates, and not of patients."""


Kinds = Mapping[str, Of]
EACH: Kinds = {"weight": Of.COUNT, "clamped": Of.CUT, "within": Of.WORD}
"""Of any strategy. `within` is of a study by which hospitals are hidden, and has noise."""
_SUMMED: Kinds = {"update": Of.PATIENTS, "hessian": Of.PATIENTS, "loss": Of.PATIENTS, "lasso": Of.PATIENTS}
_AVERAGED: Kinds = {"update": Of.UPDATE}
_STEPPED: Kinds = {"steps": Of.STEPS, "sites": Of.WORD}
_CONTROLLED: Kinds = {**_AVERAGED, "control": Of.UPDATE, "patients": Of.COUNT}
STRATEGIES: Mapping[str, Kinds] = {
    **dict.fromkeys(
        ("fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fedper", "fedrep", "fedbn", "ditto"),
        _AVERAGED,
    ),
    "fednova": {**_AVERAGED, **_STEPPED},
    "scaffold": {**_CONTROLLED, **_STEPPED},
    "feddyn": _CONTROLLED,
    # To the power of 1 a mean loss by patients is a sum over them; `curvature` is of squares of updates.
    "qfedavg": {**_AVERAGED, "counts": Of.PATIENTS, "loss": Of.PATIENTS, "curvature": Of.UPDATE},
    "afl": {**_AVERAGED, "counts": Of.PATIENTS, "loss": Of.PATIENTS},
    "ifca": {**_AVERAGED, "patients": Of.GROUP},
    "newton": {**_SUMMED, "beyond": Of.WORD},
    "newton-path": {
        "update": Of.PATIENTS, "gradients": Of.PATIENTS, "hessians": Of.PATIENTS, "losses": Of.PATIENTS,
        "validation": Of.PATIENTS, "fitted": Of.COUNT, "beyond": Of.WORD,
    },
    "webdisco": {
        "update": Of.PATIENTS, "events": Of.COUNT, "leaving": Of.PATIENTS, "tied": Of.PATIENTS, "penalty": Of.PATIENTS,
        "spans": Of.WORD, "beyond": Of.WORD,
    },
}  # fmt: skip
"""Of rounds of training, by strategy; of a group, a fold or another model the same."""
_POWERS = ("sae", "sse", "sy", "syy", "powers")
JUDGED: Mapping[str, Kinds] = {
    "binary": dict.fromkeys(("n", "positives", "negatives"), Of.COUNT) | dict.fromkeys((
        "brier", "brier_squares", "logloss", "logloss_squares", "expected", "expected_squares", "moments",
        "expected_of_positives", "evidence_of_positives", "evidence_expected",
    ), Of.PATIENTS),
    "number": {"n": Of.COUNT, **dict.fromkeys(_POWERS, Of.PATIENTS)},
    "count": {"n": Of.COUNT, **dict.fromkeys((*_POWERS, "deviance", "deviance_squares"), Of.PATIENTS)},
    TIMED: dict.fromkeys(("n", "events", "cells"), Of.COUNT) | dict.fromkeys((
        "pairs", "concordant", "squares", "products", "both", "by_patient", "expected", "variance", "of_many", "moved",
    ), Of.PAIRS) | {"likelihood": Of.COMPARED},
}  # fmt: skip
"""Of held-out patients, by type of the label; of groups and of the common model the same."""
HOSPITALS = "hospitals"
PREPARED = "prepare"
_NUMBERS = (Of.COUNT, Of.WORD, Of.STEPS, Of.GROUP, Of.CUT)
"""Kinds of what is told of a hospital whose patients add nothing, too."""


def kind(study: Study, name: str) -> Of:
    """What a segment of a study's secure sums is a sum of, by its name in the layout.

    Raises: Invalid: nobody has said it.
    """
    found = _kind(study, name)
    if found is None:
        raise Invalid(
            f"nobody has said of what the segment {name} of {study.strategy.name} is a sum",
            "say it in algorithms/segments.py, with a reason why few hospitals' sum of it tells no single one's",
        )
    return found


def _kind(study: Study, name: str) -> Of | None:
    before, _, own = name.rpartition("/")
    if before.startswith("metrics"):
        return Of.WORD if own == HOSPITALS else JUDGED[study.contract.label.type].get(own)
    if own == PREPARED:
        harmonised = study.prepare is not None and study.prepare.harmonise is not None
        return Of.HOSPITAL if harmonised else Of.PATIENTS
    if own in EACH:
        return EACH[own]
    base, _, number = own.rpartition("-")
    found = STRATEGIES.get(study.strategy.name, {}).get(base if number.isdigit() else own)
    if found is Of.PATIENTS and study.strategy.name in ("afl", "qfedavg") and study.of_hospitals:
        return Of.HOSPITAL
    compared = study.model.kind == COX and study.strategy.name in ("newton", "newton-path") and own != "lasso"
    return Of.COMPARED if found is Of.PATIENTS and compared else found


def tells(study: Study, name: str) -> bool:
    """Whether a segment of a round of training is of what patients are like: not of how many, nor of who is held out.

    What nobody has declared, of a plug-in's strategy, is taken for that.
    """
    return name not in EACH and not name.startswith("metrics/") and _kind(study, name) not in _NUMBERS
