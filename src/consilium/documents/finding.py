"""One thing to be seen in a report, and which figures may be compared at all."""

from dataclasses import dataclass
from typing import Literal

from consilium.documents.estimate import Figures
from consilium.documents.facts import FEW

Level = Literal["warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to be seen. `id` names the element of the page; it stays what it is from release to release."""

    id: str
    level: Level
    title: str
    text: str


def enough(figures: Figures) -> bool:
    """Whether there are ten patients of each class, or, where the label has none, ten patients.

    >>> enough({"prevalence": Estimate(0.5, 0.3, 0.7, 18)})
    False
    """
    prevalence = figures.get("prevalence")
    if prevalence is None or prevalence.value is None:
        return max((one.n for one in figures.values()), default=0) >= FEW
    positives = round(prevalence.value * prevalence.n)
    return min(positives, prevalence.n - positives) >= FEW
