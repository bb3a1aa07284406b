"""What follows from acting at a threshold: the confusion matrix, the table of thresholds, the decision curve.

Net benefit: Vickers and Elkin 2006 (Medical Decision Making 26:565). Thresholds are edges of the histograms' bins, so
that counts are exact. They are those of the plan, which hospitals approve before a patient is judged: none is chosen by
what came out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consilium.algorithms import groups
from consilium.algorithms.edges import Edges
from consilium.algorithms.figure import CELL, FOLLOWS, LEAST, Figure, around, cell, hidden, proportion
from consilium.core.tensors import Array


@dataclass(frozen=True)
class Counts:
    """Patients at and above a threshold and below it, by outcome."""

    hits: float
    misses: float
    alarms: float
    rejections: float

    @classmethod
    def at(cls, total: Mapping[str, Array], threshold: float) -> "Counts":
        """From histograms. Args: threshold: an edge of a bin."""
        positives, negatives = total["positives"], total["negatives"]
        edge = round(threshold * positives.size)
        above, below = slice(edge, None), slice(None, edge)
        parts = (positives[above], positives[below], negatives[above], negatives[below])
        return cls(*(float(part.sum()) for part in parts))

    @property
    def n(self) -> float:
        """All patients."""
        return self.hits + self.misses + self.alarms + self.rejections


@dataclass(frozen=True)
class Confusion:
    """The four counts at a threshold, None where hidden, and the figures that follow."""

    threshold: float
    hits: int | None
    misses: int | None
    alarms: int | None
    rejections: int | None
    figures: Mapping[str, Figure]


def small(count: float) -> bool:
    """Whether a count is hidden."""
    return 0 < count < LEAST


def confusion(
    counts: Counts, threshold: float, confidence: float, hide: tuple[bool, bool] = (False, False)
) -> Confusion:
    """What is said of a threshold. Small cells are hidden, and with them the other one of the same outcome.

    Args:    hide: whether (positives, negatives) are hidden whatever their cells are: they would show others'.
    """
    sick = hide[0] or small(counts.hits) or small(counts.misses)
    well = hide[1] or small(counts.alarms) or small(counts.rejections)
    positives, negatives, n = counts.hits + counts.misses, counts.alarms + counts.rejections, counts.n
    both = (CELL if any(small(c) for c in vars(counts).values()) else FOLLOWS) if sick or well else ""
    figures = {
        "sensitivity": _split(counts.hits, positives, confidence, hide[0]),
        "specificity": _split(counts.rejections, negatives, confidence, hide[1]),
        "ppv": _of_flagged(counts.hits, counts.hits + counts.alarms, confidence, both),
        "npv": _of_flagged(counts.rejections, counts.rejections + counts.misses, confidence, both),
        "flagged": _of_flagged(counts.hits + counts.alarms, n, confidence, both),
        "accuracy": _of_flagged(counts.hits + counts.rejections, n, confidence, both),
        "net_benefit": _benefit(counts, threshold, confidence, both),
    }
    hits, misses = (None if sick else round(c) for c in (counts.hits, counts.misses))
    alarms, rejections = (None if well else round(c) for c in (counts.alarms, counts.rejections))
    return Confusion(threshold, hits, misses, alarms, rejections, figures)


def counted(
    parts: Mapping[str, Mapping[str, Array]], total: Mapping[str, Array], at: float
) -> tuple[frozenset[str], frozenset[str]]:
    """Of which of disjoint groups counts at a threshold may be told: of those with the outcome, and of the others."""
    counts, everybody = {name: Counts.at(part, at) for name, part in parts.items()}, Counts.at(total, at)
    return (
        groups.apart({name: (c.hits, c.misses) for name, c in counts.items()}, (everybody.hits, everybody.misses)),
        groups.apart(
            {name: (c.alarms, c.rejections) for name, c in counts.items()}, (everybody.alarms, everybody.rejections)
        ),
    )


def _split(count: float, n: float, confidence: float, hide: bool) -> Figure:
    if hide and not small(count) and not small(n - count):
        return hidden(round(n), FOLLOWS)
    return cell(count, n, confidence)


def _of_flagged(count: float, n: float, confidence: float, why: str) -> Figure:
    """Args: why: it is hidden; empty where it is not."""
    if why:
        return hidden(0, why)
    return proportion(count, n, confidence) if n else hidden(0, "no patient is on this side of the threshold")


def _benefit(counts: Counts, threshold: float, confidence: float, why: str) -> Figure:
    if why:
        return hidden(0, why)
    n, weight = counts.n, threshold / (1 - threshold)
    value = (counts.hits - weight * counts.alarms) / n
    variance = (counts.hits + weight**2 * counts.alarms) / n - value**2
    return around(value, (max(variance, 0.0) / n) ** 0.5, round(n), confidence)


@dataclass(frozen=True)
class Row:
    """A threshold of the table: its confusion matrix, and the net benefit of flagging everybody."""

    confusion: Confusion
    everybody: Figure


def table(total: Mapping[str, Array], thresholds: Sequence[float], edges: Edges, confidence: float) -> tuple[Row, ...]:
    """The table over these thresholds, in order; their net benefit is the decision curve.

    Args:    edges: that may be told; of other thresholds nothing is said.
    """
    positives, negatives = float(total["positives"].sum()), float(total["negatives"].sum())
    return tuple(
        Row(
            confusion(Counts.at(total, at), at, confidence, hide=(at not in edges,) * 2),
            _benefit(Counts(positives, 0.0, negatives, 0.0), at, confidence, ""),
        )
        for at in sorted(thresholds)
    )
