"""In which unit a column of numbers is plausible, and which of its numbers say that nothing was measured."""

from collections.abc import Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from consilium.core.errors import MappingInvalid
from consilium.data.analytes import ANALYTES
from consilium.data.base import Floats
from consilium.data.proposal.names import terms, unit_words
from consilium.data.proposal.profile import Profile
from consilium.data.traps import LEAST, WIDE, calendar, code_like, timed, written
from consilium.data.units import conversion, kin
from consilium.data.usual import UNITS

CLOSE = 0.1
"""Two units of which one is worth so little more than the other are both told."""
NEARLY = 0.95


@dataclass(frozen=True)
class Wanted:
    """A number of the contract. units: each unit that can be converted, with its analyte, factor and offset."""

    id: str
    meaning: str
    unit: str
    range: tuple[float, float] | None
    typical: tuple[float, float] | None
    analytes: tuple[str, ...]
    units: tuple[tuple[str, str, float, float], ...]


@dataclass(frozen=True)
class Number:
    """What a column would be, as this number.

    worth: 0 to 1, how well it fits.   named: whether the column's name says the unit.   ends: the words of it that do.
    others: units that are as plausible.   missing: codes for nothing measured.   inside: share within the range.
    years: its values are years of the calendar, or days, and a time is wanted.   commas: it has 7,5 where 7.5 is meant.
    """

    unit: str
    analyte: str
    worth: float
    inside: float
    named: bool = False
    ends: str = ""
    others: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    empty: bool = False
    strange: bool = False
    years: bool = False
    commas: bool = False


@lru_cache(maxsize=1024)  # units are slow to convert, and a table has many columns
def wanted(id_: str, meaning: str, unit: str, allowed: tuple[float, float] | None,
           typical: tuple[float, float] | None = None, analyte: str | None = None) -> Wanted:  # fmt: skip
    """What a contract wants, with the units that tables may have it in; those that are the same number are one."""
    known = {one for term in (*terms(id_), *terms(meaning)) for one in term.meant}
    known = {"bun" if one == "urea nitrogen" else one for one in known}
    analytes = ("", analyte) if analyte else ("", *(name for name in ANALYTES if name in known))
    found: list[tuple[str, str, float, float]] = []
    for other in (unit, *(one for one in UNITS if written(one, allowed, unit))):
        how = _conversion(other, unit, analytes)
        if how is not None and not any(_equal(how, one) for one in found):
            found.append(how)
    return Wanted(id_, meaning, unit, allowed, typical, analytes, tuple(found))


@lru_cache(maxsize=8192)
def _conversion(unit: str, into: str, analytes: tuple[str, ...]) -> tuple[str, str, float, float] | None:
    """Unit, the first analyte with which it can be converted, factor and offset."""
    try:
        how = kin(unit, into)
        name = "" if how == "same" else next(filter(None, analytes), "") if how == "molar" else None
        return None if name is None else (unit, name, *conversion(unit, into, name or None))
    except MappingInvalid:
        return None


def _equal(one: tuple[str, str, float, float], other: tuple[str, str, float, float]) -> bool:
    return abs(one[2] - other[2]) <= 1e-9 * abs(other[2]) and one[3] == other[3]


def number(column: Profile, of: Wanted, least: int) -> Number:
    """Read a column as this number.

    Args:    least: fewest patients of a value that is told, unless it is one that nobody has.
    """
    hint = next(
        ((unit, ends) for unit, ends in unit_words(column.name) if _same(unit, of) is not None), ("", "")
    )  # fmt: skip
    told = _same(hint[0], of)
    if column.moments > 0.5 and timed(of.unit):
        return Number(of.unit, "", 0.0, 0.0, ends=hint[1], years=True)
    if column.commas + column.numeric > 0.5 and column.commas > 0.05:
        return Number(of.unit, "", 0.0, 0.0, ends=hint[1], commas=True)
    if not len(column.numbers):
        return Number(of.unit, "", 0.0 if column.filled else 0.5, 0.0, ends=hint[1], empty=not column.filled)
    if _years(column, of):
        return Number(of.unit, "", 0.0, 0.0, ends=hint[1], years=True)
    judged = [(*_judged(column.sample, one, of, column.aside), one) for one in of.units]
    best = max(judged, key=lambda one: one[0])
    chosen, own = best, judged[0]
    if own[0] >= best[0] - CLOSE:
        chosen = own
    if told is not None:
        chosen = next(one for one in judged if one[-1] == told)
    _, inside, left = _judged(column.numbers, chosen[-1], of, column.aside)
    worth, (unit, analyte, factor, offset) = chosen[0], chosen[-1]
    others = tuple(
        f"{one[-1][0]} of {one[-1][1]}" if one[-1][1] else one[-1][0]
        for one in judged
        if one is not chosen and one[0] >= worth - CLOSE and left >= LEAST
    )
    named = told is not None
    if left >= LEAST and inside < 0.5:
        worth = 0.3
    if left < LEAST:
        worth = 0.5
    if column.distinct <= 2 and left >= LEAST:
        worth *= 0.4
    worth *= column.numeric if column.numeric >= 0.5 else 0.0
    missing = _missing(column.numbers, of, (factor, offset), column.aside, least)
    return Number(
        unit, analyte, worth, inside, named, hint[1], () if named else others, missing, not left,
        0.5 <= column.numeric < 1.0,
    )  # fmt: skip


def _years(column: Profile, of: Wanted) -> bool:
    """Whether years of the calendar stand in it where a time is wanted, and no such year."""
    kept = column.sample[~np.isin(column.sample, list(column.aside))]
    if not calendar(kept) or not timed(of.unit):
        return False
    return of.range is None or float(np.mean((kept >= of.range[0]) & (kept <= of.range[1]))) <= 0.5


def _same(unit: str, of: Wanted) -> tuple[str, str, float, float] | None:
    """The unit among those that are wanted that is the same number."""
    if not unit:
        return None
    how = _conversion(unit, of.unit, of.analytes)
    return None if how is None else next((one for one in of.units if _equal(how, one)), None)


def _judged(
    given: Floats, how: tuple[str, str, float, float], of: Wanted, aside: Set[float]
) -> tuple[float, float, int]:
    """How plausible a unit is (0 to 1); the share within the range; how many of the values (in order) speak."""
    values = given * how[2] + how[3]
    if of.range is None:
        return 0.7, 1.0, len(given)
    outside = (values < of.range[0]) | (values > of.range[1])
    whole = np.unique(given[outside & (given == np.floor(given))])
    codes = aside | {float(one) for one in whole if code_like(float(one))}
    left = ~np.isin(given, list(codes)) if codes else np.ones(len(given), dtype=bool)
    if not left.any():
        return 0.0, 0.0, 0
    inside = float(1.0 - outside[left].mean())
    kept = values[left]  # in order, as they are given; of few values the nearest one will do
    first, median, third = (float(kept[round(share * (len(kept) - 1))]) for share in (0.1, 0.5, 0.9))
    worth = 0.6 + 0.25 * _central(median, of) + 0.15 * _spread(first, third, of)
    return inside * worth, inside, int(left.sum())


def _spread(first: float, third: float, of: Wanted) -> float:
    """1 where values are spread over a twentieth of the range or more; 0 where they are one, as in a unit too large."""
    assert of.range is not None
    low, high = of.range
    if low > 0 and high / low >= WIDE and first > 0:
        low, high, first, third = np.log(low), np.log(high), np.log(first), np.log(third)
    return float(min(1.0, 20 * (third - first) / (high - low)))


def _central(median: float, of: Wanted) -> float:
    """1 where the median is where one expects it, 0 at the end of the range and beyond."""
    assert of.range is not None
    low, high = of.typical or of.range
    if low > 0 and high / low >= WIDE:
        low, high, median = np.log(low), np.log(high), np.log(max(median, 1e-300))
    away = abs(median - (low + high) / 2) / ((high - low) / 2)
    if of.typical is not None:
        return float(1.0 if away <= 1 else 1.0 / away)
    return float(max(0.0, 1.0 - away))


def _missing(given: Floats, of: Wanted, how: tuple[float, float], aside: Set[float], least: int) -> tuple[str, ...]:
    """Numbers that say that nothing was measured: that nobody can have, or that `least` patients have."""
    found = []
    for value, count in zip(*np.unique(given, return_counts=True)):
        number, shown = float(value), f"{value + 0.0:.15g}"
        converted = number * how[0] + how[1]
        outside = of.range is not None and not of.range[0] <= converted <= of.range[1]
        if (outside and code_like(number) and (count >= least or _never(number))) or (
            number in aside and count >= least
        ):
            found.append(shown)
    return tuple(found)


def _never(value: float) -> bool:
    """Whether people write it for nothing known only: 0, -1, and rows of 9 such as -9 or 999.

    >>> [_never(value) for value in (0, -1, -9, 999, 99, -3, 77)]
    [True, True, True, True, False, False, False]
    """
    digits = str(abs(int(value)))
    return value in (0, -1) or (set(digits) == {"9"} and (value < 0 or len(digits) > 2))
