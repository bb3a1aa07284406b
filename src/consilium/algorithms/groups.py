"""Groups of patients that are judged apart: sex, age bands, and what the study names. Both ends know them by the plan.

What may be said of them is decided together: what is left unsaid must not follow from the rest (`apart`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from consilium.algorithms.figure import LEAST
from consilium.core.contract import Feature
from consilium.core.judging import Group
from consilium.core.study import Study

Floats = npt.NDArray[np.float64]
Members = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """A group: patients whose `feature` is the category `name`, or within [low, high)."""

    feature: str
    name: str
    words: str
    category: int | None = None
    low: float = -np.inf
    high: float = np.inf

    def holds(self, values: Floats) -> Members:
        """Who belongs to it, (n,); nobody whose value is missing (NaN)."""
        if self.category is not None:
            return np.asarray(values == self.category)
        return (values >= self.low) & (values < self.high)


def asked(study: Study) -> tuple[Part, ...]:
    """The groups of a study, in order."""
    features = {feature.id: feature for feature in study.contract.features}
    return tuple(part for group in study.apart for part in _parts(features[group.feature], group))


def _parts(feature: Feature, group: Group) -> list[Part]:
    if group.edges is None:
        assert feature.categories is not None
        return [
            Part(feature.id, code, f"{feature.id} {code}", category=at) for at, code in enumerate(feature.categories)
        ]
    unit = "" if feature.unit in (None, "1", "a") else f" {feature.unit}"
    ends = [-np.inf, *group.edges, np.inf]
    found = []
    for low, high in pairwise(ends):
        name = (
            f"below {high:g}" if low == -np.inf else f"{low:g} and above" if high == np.inf else f"{low:g} to {high:g}"
        )
        found.append(Part(feature.id, name, f"{feature.id} {name}{unit}", low=low, high=high))
    return found


def members(study: Study, columns: Mapping[str, Floats], n: int) -> Members:
    """Who of n patients belongs to which group, (n, groups). Args: columns: of features, as a contract's table has."""
    parts = asked(study)
    found = np.zeros((n, len(parts)), dtype=bool)
    for at, part in enumerate(parts):
        found[:, at] = part.holds(columns[part.feature])
    return found


def outside(study: Study, members: Members) -> Floats:
    """How many patients are in no group of each feature, (features,), in the order of the study."""
    features = np.array([part.feature for part in asked(study)])
    return np.array([float(np.sum(~members[:, features == one].any(axis=1))) for one in dict.fromkeys(features)])


@dataclass(frozen=True)
class Spread:
    """At how many hospitals the groups of a feature are, and so whether one hospital's figures are those of a group.

    A group is spread if at least `least` hospitals have ten of it or more; or if none has, and it is too large to be
    at fewer.

    Args:    hospitals: that have ten patients or more, of each group.   n: patients of each.   others: the same two of
             who is in no group.
    """

    least: int
    hospitals: Mapping[str, float]
    n: Mapping[str, float]
    others: tuple[float, float]

    def of(self, name: str) -> bool:
        """Whether a group is spread."""
        return self._fine(self.hospitals[name], self.n[name])

    def unsaid(self, shown: Collection[str], others: bool = True) -> bool:
        """Whether those of whom nothing is said are spread, all together, or nobody. Args: others: with who is in none.

        Of several groups one must be at so many hospitals: what it has of each, the others only add to.
        """
        parts = [(self.hospitals[name], n) for name, n in self.n.items() if n and name not in shown]
        parts += [self.others] if others and self.others[1] else []
        if len(parts) == 1:
            return self._fine(*parts[0])
        return not parts or any(hospitals >= self.least for hospitals, _ in parts)

    def compared(self, shown: Collection[str]) -> bool:
        """Whether groups that are shown may be compared with all others: who is in none then is a part of its own."""
        return self.unsaid(shown, others=False) and (not self.others[1] or self._fine(*self.others))

    def _fine(self, hospitals: float, n: float) -> bool:
        return hospitals >= self.least or (hospitals == 0 and n > (LEAST - 1) * (self.least - 1))


def apart(
    cells: Mapping[str, Collection[float]], whole: Collection[float], least: float = 0.0, spread: Spread | None = None
) -> frozenset[str]:
    """Which of several disjoint groups may be shown beside the whole.

    Each cell of a group that is shown is ten or more, or zero if `least` is; and what all others have together, which
    follows from the whole, is ten or more or zero: if need be, the smallest of the groups is left out with them.

    Args:    cells: of each group, counts of patients.   whole: the same of all.   least: fewest of each cell.
             spread: what is shown, and what all others are together, must be spread over hospitals.

    >>> sorted(apart({"a": (50, 40), "b": (3, 30), "c": (20, 12)}, (73, 82)))
    ['a']
    >>> sorted(apart({"a": (50, 40), "b": (20, 12)}, (70, 52)))
    ['a', 'b']
    """

    def fine(count: float) -> bool:
        return count >= max(LEAST, least) or (count == 0 and least == 0)

    shown = {name for name, mine in cells.items() if all(map(fine, mine)) and (spread is None or spread.of(name))}
    while shown:
        rest = [total - sum(tuple(cells[name])[at] for name in shown) for at, total in enumerate(whole)]
        if all(count == 0 or count >= LEAST for count in rest) and (spread is None or spread.unsaid(shown)):
            break
        shown.remove(min(shown, key=lambda name: (sum(cells[name]), name)))
    return frozenset(shown)
