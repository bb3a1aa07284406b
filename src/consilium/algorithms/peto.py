"""Whether groups of patients have events as often as a model says, beside the others of their hospital.

A model of hazards says how patients compare, and each hospital has a baseline of its own. So at each time of an event
the chance that it is one of a group is that group's share of the hazards of all who are still observed there. Summed
over events this is how many the group is expected to have: the log-rank test (Mantel 1966, Cancer Chemotherapy Reports
50:163), with the model's hazards in the place of equal ones. By how much a group's hazard exceeds what is expected is
Peto's one-step estimate (Yusuf et al. 1985, Progress in Cardiovascular Diseases 27:335).

The test's own variance is right where hazards are as far apart as the model says, and the group has no excess. Else it
is too small, or too large. So intervals go by how much each patient moves the figure, whatever hazards are (Lin and Wei
1989, JASA 84:1074). Who is observed has moved the shares, too, so what is seen of an event is less than it was by
chance; it is made larger by the squares of single hazards' shares, as by leverages in a linear regression (HC2:
MacKinnon and White 1985, Journal of Econometrics 29:305). Where hazards are equal the sum then is that of the test of
log ranks, ties included, in the mean over all ways to say who is in the group.

Beside few patients part of an excess does not show. How many are expected goes by the square of a group's hazards over
those of all who are observed, and the mean of such a ratio is above the ratio of the means: of twenty patients, half of
them with twice the hazard, 1.35 events are seen for each that is expected, where very many such patients show 1.46. By
how much it is above, a jackknife tells (Quenouille 1956, Biometrika 43:353), which has a sum here: by how much each one
moves the share, squared, over the others' part of hazards. What is expected too much is to the excess that is seen as
this sum is to `variance`, however high the group's hazards are. `of_many` is both together.
"""

from collections.abc import Mapping

import numpy as np

from consilium.algorithms.between import SMALLEST
from consilium.algorithms.figure import Figure, around, hidden, ratio
from consilium.core import survival
from consilium.core.survival import Flags, Floats
from consilium.core.tensors import Array

PARTS: Mapping[str, int] = {"expected": 8, "variance": 8, "of_many": 8, "moved": 2}
"""In a secure sum these are rounded to multiples of 1 by so many, as tens of events allow. Where hazards are equal they
are fractions: finer, they would tell how many patients each of few hospitals has (`test_fractions.py`)."""
NONE = "none had the event, or none was expected to"
FEW = "too few: beside so few patients of each hospital so large an excess does not show; hold out more, or use folds"
MOVED = 5
"""Numbers of a group in `moved`."""
MOST_ALONE = 0.75
"""So much of what an event adds is taken for the part of those who moved the shares themselves, at most."""
LEAST_LEFT = 0.25
"""So much of what is expected is left, at least, where what few patients add to it is taken off."""
MOST = 45.0
"""Of so many events that a model expects of one patient, no more count in `moved`: twice that and the patient's own,
squared, is below 10,000."""


def sums(score: Floats, label: Floats, members: Flags) -> dict[str, Floats]:
    """What a hospital counts of each group beside its other patients.

    Args:    score: hazards (n,).   label: (n,), as `core.survival` joins them.   members: (n, groups).
    Returns: `expected`: events, (groups,); `variance`: of the difference, by the test of log ranks, (groups,);
             `of_many`: what `variance` would be if the hospital had very many such patients, (groups,);
             `moved`: sums over all patients of u u, u b, b b, u v and v v, one group after the other, where u, b and v
             are what a patient adds to the difference, to what is expected, and to `variance`; (MOVED * groups,).
    """
    found = [_of_group(score, label, inside) for inside in members.T]
    names = ("expected", "variance", "of_many", "moved")
    return {name: np.array([one[at] for one in found]).ravel() for at, name in enumerate(names)}


def _of_group(score: Floats, label: Floats, inside: Flags) -> tuple[float, float, float, Floats]:
    """Expected events of a group, both variances, and `moved` (MOVED,), over the distinct times of events."""
    time, had = survival.times(label), survival.events(label)
    when, deaths = np.unique(time[had], return_counts=True)
    if not when.size:
        return 0.0, 0.0, 0.0, np.zeros(MOVED)
    hazard, member = np.maximum(score / max(float(np.max(score)), SMALLEST), SMALLEST), inside.astype(np.float64)
    passed = np.searchsorted(when, time, side="right")  # who is censored at the time of an event was still observed
    own = np.minimum(np.searchsorted(when, time), when.size - 1)

    def observed(values: Floats) -> Floats:
        """Sums over those who are still observed, by time."""
        left: Floats = np.bincount(passed, weights=values, minlength=when.size + 1).astype(np.float64)
        return np.cumsum(left[::-1])[::-1][1:]

    patients, whole = observed(np.ones_like(hazard)), observed(hazard)
    tied = deaths * np.where(patients > 1, (patients - deaths) / np.maximum(patients - 1, 1), 0.0)
    share = np.clip(observed(hazard * member) / whole, 0.0, 1.0)
    spread, mine = share * (1 - share), observed(hazard**2 * member)
    alone = (mine * (1 - share) ** 2 + (observed(hazard**2) - mine) * share**2) / whole**2
    more = (1 - np.minimum(alone / np.maximum(spread, SMALLEST), MOST_ALONE)) ** -0.5
    top = np.zeros(when.size + 1)
    np.maximum.at(top, passed, hazard)
    others = 1 - np.maximum.accumulate(top[::-1])[::-1][1:] / whole  # hazards but the highest, of all

    def passing(weight: Floats) -> Floats:
        """Sums over the events that a patient was observed at, of hazards by those of all."""
        return np.concatenate([[0.0], np.cumsum(weight * deaths / whole)])[passed]

    lived = hazard * np.minimum(1.0, MOST / np.maximum(hazard * passing(np.ones_like(share)), SMALLEST))

    def drift(weight: Floats) -> Floats:
        """By how much a patient, while observed, moves shares, weighted by `weight` at each event."""
        return lived * (member * passing(weight) - passing(weight * share))

    differs = had * (member - share[own]) * more[own] - drift(more)
    expects = had * share[own] + drift(np.ones_like(share))
    varies = had * spread[own] + drift(1 - 2 * share)
    pairs = ((differs, differs), (differs, expects), (expects, expects), (differs, varies), (varies, varies))
    moved = np.array([float(one @ other) for one, other in pairs])
    return float(deaths @ share), float(tied @ spread), _of_many(spread, alone, others, deaths, tied), moved


def _of_many(spread: Floats, alone: Floats, others: Floats, deaths: Array, tied: Array) -> float:
    """The variance with what few patients hide of it, by time: the jackknife's, or more where one is far above others.

    Events that nobody outlived tell nothing, and count as the other ones do.
    """
    hid = np.minimum(alone / np.maximum(others, 1e-9), 0.25)
    told = float(deaths @ (tied > 0))
    return float(tied @ (spread + hid)) * float(deaths.sum()) / max(told, 1.0)


def observed_to_expected(total: Mapping[str, Array], confidence: float) -> Figure:
    """Events of a group for each one that is expected of it beside very many such patients as its hospitals have."""
    had, expected, within, of_many = (float(total[name][0]) for name in ("events", "expected", "variance", "of_many"))
    n = round(float(total["n"][0]))
    if had <= 0 or expected <= 1e-9:
        return hidden(n, NONE)
    seen, moved = had / expected, [float(each) for each in total["moved"]]
    variance = moved[0] + 2 * (1 - seen) * moved[1] + (1 - seen) ** 2 * moved[2]
    more = max(of_many / within, 1.0) if within > 1e-9 else 1.0
    left = 1 - (more - 1) * (seen - 1)  # of what is expected
    if left < LEAST_LEFT:
        return hidden(n, FEW)
    return ratio(seen / left, more / left * max(variance, 0.0) ** 0.5 / had, n, confidence)


def excess(total: Mapping[str, Array], confidence: float) -> Figure:
    """By how much the log hazard of a group exceeds what is expected, against all other patients of its hospitals."""
    variance, n = float(total["variance"][0]), round(float(total["n"][0]))
    if variance <= 1e-9:
        return hidden(n, NONE)
    value = (float(total["events"][0]) - float(total["expected"][0])) / variance
    moved = [float(each) for each in total["moved"]]
    spread = moved[0] - 2 * value * moved[3] + value**2 * moved[4]
    return around(value, max(spread, 0.0) ** 0.5 / variance, n, confidence) if spread > 1e-9 else hidden(n, NONE)
