"""What the last round says of the final model: for all patients, for groups of them, and for hospitals.

Read from `evaluation` of a result, whose shape `docs/explanation/figures.md` gives.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from consilium.documents.estimate import Estimate, Figures, Json, figures_of

NUMBER = r"-?[\d.]+(?:e[-+]?\d+)?"
BAND = re.compile(rf"below {NUMBER}|{NUMBER} to {NUMBER}|{NUMBER} and above")
HOSPITAL = "hospital"
"""What stands in a gap between hospitals instead of a feature."""


@dataclass(frozen=True)
class Point:
    """One point of a calibration curve: patients with scores from `low` to `high`, their mean score, what came true."""

    low: float
    high: float
    n: int
    predicted: float
    observed: Estimate


@dataclass(frozen=True)
class Row:
    """One threshold: the four counts, None where hidden, and figures, `net_benefit_of_all` among them."""

    threshold: float
    counts: tuple[int | None, int | None, int | None, int | None]
    figures: Figures


@dataclass(frozen=True)
class Cut:
    """One point of the ROC curve."""

    threshold: float
    false_positive_rate: float
    sensitivity: float


@dataclass(frozen=True)
class Worth:
    """What the model is worth for some patients; `note` says why there is nothing."""

    n: int | None
    positives: int | None
    note: str
    figures: Figures
    confusion: Row | None = None
    curve: tuple[Point, ...] = ()
    thresholds: tuple[Row, ...] = ()
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Gap:
    """How far a group is from the others of its kind; `clear`: also when all gaps are looked at together."""

    feature: str
    group: str
    name: str
    estimate: Estimate
    clear: bool


@dataclass(frozen=True)
class Judged:
    """All of it. `made` comparisons, each at `each` confidence where they are to hold together.

    off: how far figures may be from those of the pooled patients, at most, for what histograms do not tell.
    common: figures of the common model, where hospitals use others: of all (`all`), and of hospitals by name.
    """

    threshold: float
    everyone: Worth
    groups: Mapping[str, Mapping[str, Worth]]
    sites: Mapping[str, Worth]
    withheld: str
    gaps: tuple[Gap, ...] = field(default=())
    made: int = 0
    each: float = 0.95
    off: Mapping[str, float] = field(default_factory=dict)
    common: Mapping[str, Figures] = field(default_factory=dict)


def judged(given: Json | None) -> Judged | None:
    """From JSON; None where there is nothing."""
    if not given:
        return None
    compared = given["comparisons"]
    return Judged(
        float(given["threshold"]), _worth(given["all"]),
        {str(feature): _in_order(parts) for feature, parts in given["groups"].items()},
        {str(site): _worth(one) for site, one in given["sites"].items()}, str(given.get("sites_withheld") or ""),
        tuple(
            Gap(str(one["feature"]), str(one["group"]), str(one["name"]), Estimate.of(one), bool(one["clear"]))
            for one in given["gaps"]
        ),
        int(compared["made"]), float(compared["confidence_of_each"]),
        {name: float(off) for name in BOUNDED if (off := given.get(f"{name}_within")) is not None},
        _of_common(given.get("common") or {}),
    )  # fmt: skip


BOUNDED = ("auroc", "auprc", "concordance")
"""Figures that histograms tell within a bound."""
ALL = "all"


def _of_common(given: Json) -> dict[str, Figures]:
    if not given:
        return {}
    sites = {str(site): figures_of(one) for site, one in (given.get("sites") or {}).items()}
    return {**{site: one for site, one in sites.items() if one}, ALL: figures_of(given["all"])}


def _in_order(parts: Json) -> dict[str, Worth]:
    """Groups as people read them: bands of a number from the lowest on, where JSON has them by the alphabet."""
    return {str(name): _worth(parts[name]) for name in sorted(parts, key=lambda name: _begins(str(name)))}


def _begins(name: str) -> float:
    """Where a band begins; what is no band keeps its place.

    >>> sorted(["40 to 65", "80 and above", "9 to 40", "below 9"], key=_begins)
    ['below 9', '9 to 40', '40 to 65', '80 and above']
    """
    if BAND.fullmatch(name) is None:
        return math.inf
    return -math.inf if name.startswith("below ") else float(name.split()[0])


def _worth(given: Json) -> Worth:
    confusion = given.get("confusion")
    return Worth(
        _count(given["n"]), _count(given["positives"]), str(given.get("note") or ""), figures_of(given["figures"]),
        None if confusion is None else _row(confusion),
        tuple(
            Point(float(one["low"]), float(one["high"]), int(one["n"]), float(one["predicted"]),
                  Estimate.of(one["observed"]))
            for one in given.get("calibration_curve") or ()
        ),
        tuple(_row(one) for one in given.get("thresholds") or ()),
        tuple(
            Cut(float(one["threshold"]), float(one["false_positive_rate"]), float(one["sensitivity"]))
            for one in given.get("cuts") or ()
        ),
    )  # fmt: skip


def _row(given: Json) -> Row:
    hits, misses, alarms, rejections = (_count(given[key]) for key in ("hits", "misses", "alarms", "rejections"))
    figures = {name: one for name, one in given.items() if isinstance(one, Mapping)}
    return Row(float(given["threshold"]), (hits, misses, alarms, rejections), figures_of(figures))


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None
