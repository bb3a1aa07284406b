"""One thing to be seen in a report, and which figures may be compared at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from consilium.documents.estimate import Estimate, Figures
from consilium.documents.facts import FEW
from consilium.documents.terms import Metric, interval

EVERYWHERE = "all hospitals together"
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


def error(estimate: Estimate, confidence: float, share: bool) -> float:
    """The standard error behind an interval; of a share never less than that of Agresti and Coull (1998).

    An AUROC of 1 has an interval without width, which says nothing of how sure it is.
    """
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    told = max(estimate.value - estimate.low, estimate.high - estimate.value) / z
    if not share or estimate.n == 0:
        return told
    centre = (estimate.value * estimate.n + 2) / (estimate.n + 4)
    return float(max(told, (centre * (1 - centre) / estimate.n) ** 0.5))


def listed(metric: Metric, drawn: Mapping[str, Estimate], sites: Iterable[str]) -> str:
    """Figures of places in a row."""
    return "; ".join(f"{site}: {metric.word} {interval(drawn[site])}, n = {drawn[site].n}" for site in sites)
