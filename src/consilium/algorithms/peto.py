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
"""

from collections.abc import Mapping

import numpy as np

from consilium.algorithms.between import SMALLEST
from consilium.algorithms.figure import Figure, around, hidden, ratio
from consilium.core import survival
from consilium.core.survival import Flags, Floats
from consilium.core.tensors import Array

PARTS: Mapping[str, int] = {"expected": 8, "variance": 8, "moved": 2}
"""In a secure sum these are rounded to multiples of 1 by so many, as tens of events allow. Where hazards are equal they
are fractions: finer, they would tell how many patients each of few hospitals has (`test_fractions.py`)."""
NONE = "none had the event, or none was expected to"
MOVED = 5
"""Numbers of a group in `moved`."""
MOST_ALONE = 0.75
"""So much of what an event adds is taken for the part of those who moved the shares themselves, at most."""
MOST = 45.0
"""Of so many events that a model expects of one patient, no more count in `moved`: twice that and the patient's own,
squared, is below 10,000."""


def sums(score: Floats, label: Floats, members: Flags) -> dict[str, Floats]:
    """What a hospital counts of each group beside its other patients.

    Args:    score: hazards (n,).   label: (n,), as `core.survival` joins them.   members: (n, groups).
    Returns: `expected`: events, (groups,); `variance`: of the difference, by the test of log ranks, (groups,);
             `moved`: sums over all patients of u u, u b, b b, u v and v v, one group after the other, where u, b and v
             are what a patient adds to the difference, to what is expected, and to `variance`; (MOVED * groups,).
    """
    found = [_of_group(score, label, inside) for inside in members.T]
    expected, variance, moved = (np.array([one[at] for one in found]) for at in range(3))
    return {"expected": expected, "variance": variance, "moved": moved.ravel()}


def _of_group(score: Floats, label: Floats, inside: Flags) -> tuple[float, float, Floats]:
    """Expected events of a group, the variance, and `moved` (MOVED,), over the distinct times of events."""
    time, had = survival.times(label), survival.events(label)
    when, deaths = np.unique(time[had], return_counts=True)
    if not when.size:
        return 0.0, 0.0, np.zeros(MOVED)
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
    return float(deaths @ share), float(tied @ spread), np.array([float(one @ other) for one, other in pairs])


def observed_to_expected(total: Mapping[str, Array], confidence: float) -> Figure:
    """Events of a group for each one that is expected of it beside the other patients of its hospitals."""
    had, expected, n = (float(total[name][0]) for name in ("events", "expected", "n"))
    if had <= 0 or expected <= 1e-9:
        return hidden(round(n), NONE)
    value, moved = had / expected, [float(each) for each in total["moved"]]
    variance = moved[0] + 2 * (1 - value) * moved[1] + (1 - value) ** 2 * moved[2]
    return ratio(value, max(variance, 0.0) ** 0.5 / had, round(n), confidence)


def excess(total: Mapping[str, Array], confidence: float) -> Figure:
    """By how much the log hazard of a group exceeds what is expected, against all other patients of its hospitals."""
    variance, n = float(total["variance"][0]), round(float(total["n"][0]))
    if variance <= 1e-9:
        return hidden(n, NONE)
    value = (float(total["events"][0]) - float(total["expected"][0])) / variance
    moved = [float(each) for each in total["moved"]]
    spread = moved[0] - 2 * value * moved[3] + value**2 * moved[4]
    return around(value, max(spread, 0.0) ** 0.5 / variance, n, confidence) if spread > 1e-9 else hidden(n, NONE)
