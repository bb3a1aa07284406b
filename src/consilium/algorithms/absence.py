"""Of what in a sum a hospital has nothing to add: held-out patients of each outcome, or values of a feature.

Of three hospitals of which one adds zeros a sum is one of two, and each of these two reads the other's. So each says
with READY what it has nothing of, and to a part of a sum nobody adds anything, unless in whatever sum may be opened
enough hospitals have something there. What training makes has another rule: who adds zeros to that is in no sum
(`training/silence.py`); but of a common baseline nobody is in one where too few have patients with the event. See
docs/decisions/0048-what-a-hospital-lacks.md.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from consilium.algorithms import evaluation, preparation
from consilium.algorithms.layout import METRICS
from consilium.core.errors import Refused
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import COMMON, TIMED

HELD_OUT = "held-out"
"""What lacks of the figures, beside ids of features, which have no hyphen."""
EVENTS = "with-event"
"""What lacks where no training patient had the event, of a common baseline. The others of that hospital are in sums of
who was observed, so that it is not left out; but the rest is the steps of those who have some.
"""
JUDGES: Mapping[str, tuple[str, ...]] = {
    "binary": ("positives", "negatives"), "number": ("n",), "count": ("sy",), TIMED: ("pairs",),
}  # fmt: skip
"""Sums over held-out patients of which each is of some, by type of the label: with and without the outcome; at all;
some with a count above zero; two who can be compared, of whom one had the event."""


def of(study: Study, segments: Mapping[str, Array]) -> tuple[str, ...]:
    """What an update has nothing of, sorted: `HELD_OUT`, `EVENTS`, parts of preparation; or nothing is lacking."""
    found = list(preparation.lacking(study, segments[preparation.SUMS])) if preparation.SUMS in segments else []
    if study.strategy.name == COMMON and np.any(segments.get("leaving", 0)) and not np.any(segments["events"]):
        found.append(EVENTS)
    told = [segments[METRICS + name] for name in JUDGES[study.contract.label.type] if METRICS + name in segments]
    return tuple(sorted([*found, HELD_OUT] if any(not np.any(array) for array in told) else found))


def names(study: Study, kind: str) -> frozenset[str]:
    """Of what a hospital can lack anything in a round of this kind. Whoever says another name lies, or is of another
    release; were it counted, it would stand in every record, and cost work, at whoever reads it.
    """
    if kind == "PREPARE":
        return frozenset(name for name, _, _ in preparation.parts(study))
    told = evaluation.nothing(study, kind)
    figures = {HELD_OUT} if any(name in told for name in JUDGES[study.contract.label.type]) else set()
    return frozenset(figures | ({EVENTS} if kind == "TRAIN" and study.strategy.name == COMMON else set()))


def parts(study: Study, kind: str, segments: Mapping[str, Array]) -> frozenset[str]:
    """Of which of these a sum has anything, by one hospital's update for it: in rounds in which hospitals only agree on
    times (`webdisco`) nobody adds anything to who had the event, and everybody has some of everything else.
    """
    found = names(study, kind)
    return found if np.any(segments.get("leaving", 0)) else found - {EVENTS}


def sound(study: Study, kind: str, lacks: tuple[str, ...]) -> bool:
    """Whether a hospital can lack these in a round of this kind: each is of the study, and stands there once."""
    return len(set(lacks)) == len(lacks) and names(study, kind).issuperset(lacks)


def trains(study: Study, kind: str, withheld: Collection[str]) -> None:
    """Whether there is something to train by without these. Raises: Refused: `nothing`."""
    if EVENTS in names(study, kind).intersection(withheld):
        raise Refused(
            "so few hospitals have training patients with the event that, of a common baseline, one could read "
            "another's",
            "fit a stratified model (strategy newton), or ask more hospitals",
            reason="nothing",
        )


def of_held_out(study: Study, label: npt.NDArray[np.float64]) -> tuple[str, ...]:
    """The same of a hospital's held-out patients, by their labels (n,): it hangs on no model."""
    nobody = np.zeros((len(label), 0), dtype=bool)
    found = evaluation.sums(study, "TRAIN", np.zeros(len(label)), label, nobody)
    return of(study, {METRICS + name: array for name, array in found.items()})


def withheld(lacking: Iterable[Collection[str]], least: int, fewest: int) -> frozenset[str]:
    """To which parts nobody adds anything.

    Args:    lacking: what each of those has nothing of who are called up.   least: of them who open a sum at least,
             for others may fall silent.   fewest: hospitals that have something of each part of a sum.

    >>> sorted(withheld([("age",), (), ("age",), ("bmi",)], least=4, fewest=3))
    ['age']
    """
    counted = Counter(name for names in lacking for name in set(names))
    return frozenset(name for name, count in counted.items() if count > least - fewest)


def blanked(study: Study, segments: Mapping[str, Array], names: Collection[str]) -> Mapping[str, Array]:
    """The segments (..., length) with zeros in these parts."""
    if not names:
        return segments
    found = dict(segments)
    for name, array in segments.items():
        if name.startswith(METRICS) and HELD_OUT in names:
            found[name] = np.zeros_like(array)
        elif name == preparation.SUMS:
            found[name] = preparation.without(study, array, names)
    return found
