"""What the values of a column lie between, as they were mapped: a unit or a code that is wrong is seen at a glance.

For a person at the hospital: nothing of it is kept or sent. No value of a single patient is shown: numbers are of ten
patients and more to either side, in three digits, and categories of ten and more are shares in percent.
"""

from dataclasses import dataclass, replace

import numpy as np

from consilium.core import survival
from consilium.core.contract import Feature, Label
from consilium.core.timed import TIMED
from consilium.data.base import Floats, Table
from consilium.data.contract import Column
from consilium.data.counts import MIN_CELL, Count, parts

MEAN = "mean of each image"
TENTH = 10
"""One part in so many of the patients lies at, or beyond, the low and the high value."""


@dataclass(frozen=True)
class Spread:
    """Of a number: the median, and what all but a tenth at either end lie between; None: too few patients for it.

    shares: of each category, in percent, ``<10`` patients, or ``hidden``.   against: what the contract has, and where
    the median lies beside that.   hidden: there are values, and too few to show anything.
    """

    low: float | None = None
    median: float | None = None
    high: float | None = None
    unit: str = ""
    shares: dict[str, str] | None = None
    against: str = ""
    hidden: bool = False

    @property
    def words(self) -> str:
        """In one line."""
        if self.shares is not None:
            return ", ".join(f"{name} {share}" for name, share in self.shares.items())
        if self.median is None:
            return "hidden" if self.hidden else ""
        ends = "" if self.low is None else f" ({self.low:g} to {self.high:g})"
        return f"{self.median:g} {self.unit}".removesuffix(" 1") + ends


def of_column(of: Feature | Label, told: Column, usable: Count, table: Table) -> Spread:
    """Of a feature or a label. usable: how many patients have a value, as it may be shown."""
    if isinstance(of, Feature) and of.categories:
        return _shares(told.categories, usable, told.usable)
    values = table.columns.get(of.id) if isinstance(of, Feature) else table.label
    if values is None or of.type == "binary":
        return Spread()
    if values.ndim > 1:
        return replace(found := _ends(of, values.mean(axis=1)), unit=f"{found.unit}, {MEAN}".removeprefix("1, "))
    return _ends(of, survival.times(values) if of.type == TIMED else values[~np.isnan(values)])


def _shares(counts: dict[str, int], usable: Count, whole: int) -> Spread:
    shown = parts(list(counts.values()), usable)
    told = [f"{one / whole:.0%}" if isinstance(one, int) and whole else str(one) for one in shown]
    return Spread(shares=dict(zip(counts, told, strict=True)))


def _ends(of: Feature | Label, values: Floats) -> Spread:
    unit = of.unit or "1"
    if len(values) < 2 * MIN_CELL:
        return Spread(unit=unit, hidden=bool(len(values)))
    ordered, beyond = np.sort(values), max(MIN_CELL, len(values) // TENTH)
    median = _rounded(float(np.median(ordered)))
    against = _against(of, median)
    if len(values) < 4 * MIN_CELL:
        return Spread(None, median, None, unit, None, against)
    low, high = _rounded(float(ordered[beyond - 1])), _rounded(float(ordered[-beyond]))
    return Spread(low, median, high, unit, None, against)


def _rounded(value: float) -> float:
    """In three digits."""
    return float(f"{value:.3g}")


def _against(of: Feature | Label, median: float) -> str:
    """What the contract has, and where the median lies."""
    typical = of.typical if isinstance(of, Feature) else None
    within = typical or of.range
    if within is None:
        return ""
    low, high = within
    beside = f": the median is {'below' if median < low else 'above'}" if not low <= median <= high else ""
    return f"{'typical' if typical else 'range'} {low:g} to {high:g}{beside}"
