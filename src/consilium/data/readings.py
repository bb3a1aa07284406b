"""What the values of records look like, as a column of numbers is looked at: codes for missing, units, doubts.

Of each patient the smallest and the largest of each unit are looked at: so one with many records weighs no more than
others, and where few have any, nothing is said of them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from consilium.core.contract import Feature
from consilium.data.base import Floats
from consilium.data.doubts import Doubt, of_number
from consilium.data.mapping import FeatureMap
from consilium.data.traps import LEAST, Looks, look

LOOK_UP = "look up the unit of these records: it is corrected in the source's query, or in `units` of the records"


class Reading(NamedTuple):
    """A value in the contract's unit, and as it stands in the record."""

    value: float
    given: float


@dataclass
class Ends:
    """Of one patient and unit, the smallest and the largest value."""

    low: Reading
    high: Reading


@dataclass
class Readings:
    """What was read of one patient: by unit, and how many are within the contract's range and how many are not."""

    ends: dict[str, Ends] = field(default_factory=dict)
    within: int = 0
    outside: int = 0

    def add(self, unit: str, reading: Reading, within: bool) -> None:
        """Take one more."""
        known = self.ends.setdefault(unit, Ends(reading, reading))
        known.low, known.high = min(known.low, reading), max(known.high, reading)
        self.within, self.outside = self.within + within, self.outside + (not within)


@dataclass(frozen=True)
class Seen:
    """What is seen.

    beside: patients who have a value, and records out of range beside it; mostly: those of whom half are, or more.
    """

    looks: Looks
    doubts: tuple[Doubt, ...]
    beside: int
    mostly: int


def seen(feature: Feature, column: str, patients: Sequence[Readings], found: Floats) -> Seen:
    """What the records of a feature look like.

    Args:    column: of the records, with their values.   found: (n,) what was made of each patient's; NaN for nothing.
    """
    known, about = ~np.isnan(found), f"{feature.id} {feature.meaning} {column}"
    inside, outside, counted = Counter[str](), Counter[str](), set[int]()
    unit, analyte, years, doubts = "", "", False, list[Doubt]()
    for name in sorted({name for one in patients for name in one.ends}):
        rows, values, given = _ends(patients, name)
        looks = look(given, values, feature.range, (name, str(feature.unit), feature.analyte), about)
        codes = {float(code): code for code in (*looks.inside, *looks.outside)}
        for row, value, told in zip(rows, values, given, strict=True):
            if row in counted or told not in codes or not _counts(feature, value, found[row]):
                continue
            if known[row] and codes[told] in looks.inside:
                inside[codes[told]] += 1
            elif not known[row] and codes[told] in looks.outside and not patients[row].within:
                outside[codes[told]] += 1
            else:
                continue
            counted.add(row)
        if len(set(rows)) < LEAST:
            continue
        years = years or looks.years
        unit, analyte = (unit, analyte) if unit else (looks.unit, looks.analyte)
        doubts += _doubts(feature, column, name, values)
    many = found[known]
    same = len(many) >= LEAST and bool(np.all(many == many[0]))
    beside = [one for one, has in zip(patients, known, strict=True) if has and one.outside]
    return Seen(
        Looks(dict(inside), dict(outside), same, unit, analyte, years), tuple(dict.fromkeys(doubts)), len(beside),
        sum(one.outside >= one.within for one in beside),
    )  # fmt: skip


def _ends(patients: Sequence[Readings], unit: str) -> tuple[list[int], Floats, Floats]:
    """Of whom, in the contract's unit, and as they stand there, the smallest and largest of a unit are."""
    there = [
        (row, one)
        for row, patient in enumerate(patients)
        if (ends := patient.ends.get(unit)) is not None
        for one in {ends.low, ends.high}
    ]
    there.sort()
    pairs = np.array([one for _, one in there]).reshape(-1, 2)
    return [row for row, _ in there], pairs[:, 0], pairs[:, 1]


def _counts(feature: Feature, value: float, made: float) -> bool:
    """Whether a value is what was made of the patient's records, or in it, or nothing was made."""
    return bool(np.isnan(made)) or feature.aggregate == "mean" or value == made


def _doubts(feature: Feature, column: str, unit: str, values: Floats) -> Iterator[Doubt]:
    low, high = feature.range or (-np.inf, np.inf)
    for doubt in of_number(feature, FeatureMap(column=column, unit=unit), values[(values >= low) & (values <= high)]):
        yield replace(doubt, remedy=LOOK_UP, write="") if doubt.write else doubt
