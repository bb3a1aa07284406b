"""What the last round says of the final model: for all patients, for groups of them, and for hospitals.

Read from `evaluation` of a result, whose shape `docs/explanation/figures.md` gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from consilium.documents.estimate import Estimate, Figures, Json, figures_of

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
        {str(f): {str(name): _worth(one) for name, one in parts.items()} for f, parts in given["groups"].items()},
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
