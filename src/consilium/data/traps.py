"""What stands in a column of numbers and is no measurement: codes for missing, years, and values in another unit.

By statistics, units and ranges alone: nothing here knows a data set. A code for missing is named to people, so only
what looks like one is ever taken for one: 0, a negative whole number, or a row of 7, 8 or 9, apart from all else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from consilium.core.errors import MappingInvalid
from consilium.data.analytes import ANALYTES
from consilium.data.units import conversion, kin
from consilium.data.usual import UNITS

Floats = npt.NDArray[np.float64]
WORDS = frozenset((
    "na", "n/a", "#n/a", "nan", "null", "nil", "none", "missing", "unknown", "unk", "nd", "n.d.", "not done",
    "not available", "not measured", "k.a.", "unbekannt", "inconnu", "desconocido",
))  # fmt: skip
"""Spellings of nothing, beside all that has neither letter nor digit, such as `?` or `-`."""
WRITTEN_S = {"s": 86_400.0, "min": 7 * 86_400.0, "h": 90 * 86_400.0, "wk": 2 * 366 * 86_400.0}
"""Units of time, and the longest time, in seconds, that people write in them: nobody tells an adult's age in weeks."""
DAY = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}([./-])\d{1,2}\2(\d{4}|\d\d)")
COMMA = re.compile(r"[-+]?\d+(\.\d{3})*,\d+")
CALENDAR = (1880, 2060)
"""Whole numbers between these are years of the calendar, such as those in which living patients were born."""
LEAST = 10
"""Fewest other values by which one is seen to stand apart, and fewest values that speak for another unit."""
FAR = 10.0
MOST_OUTSIDE, LEAST_INSIDE = 0.5, 0.9
"""Another unit is named where more than the one share lies outside of the range, and the other would lie inside."""
NARROW = 0.02
"""In the right unit, values of patients do not crowd within so small a part of the contract's range."""
WIDE = 20.0
"""A range of this ratio, or a larger one, is looked at by logarithms."""


@dataclass(frozen=True)
class Looks:
    """Codes for missing with their counts, inside and outside of the contract's range; and what else is seen.

    same: the one value that stands everywhere.   unit, analyte: in which most values would lie inside of the range.
    years: most values are years of the calendar, where the contract wants a time.
    """

    inside: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    same: bool = False
    unit: str = ""
    analyte: str = ""
    years: bool = False


def placeholder(text: str) -> bool:
    """Whether a text says that nothing is known, whatever the table.

    >>> [placeholder(text) for text in ("?", "-", "N/A", "high", "1", "")]
    [True, True, True, False, False, True]
    """
    word = text.strip().casefold()
    return word in WORDS or not any(letter.isalnum() for letter in word)


def code_like(value: float) -> bool:
    """Whether people write this number where nothing is known.

    >>> [code_like(value) for value in (0, -1, -99, 999, 99, 9, 120, 0.5)]
    [True, True, True, True, True, False, False, False]
    """
    if value != int(value):
        return False
    text = str(abs(int(value)))
    return value <= 0 or (len(text) > 1 and len(set(text)) == 1 and text[0] in "789")


def apart(values: Floats) -> list[float]:
    """Code-like values beyond one end of all others: further than that tail is long, and than 3 deviations.

    One that stands there once must be further than all of the tail, of which the outer twentieth else does not count.

    Args:    values: (n,) finite. Of fewer than `LEAST` others nothing is said, and where these are of fewer than five
             values, as small counts are, only of what is `FAR` times as far away as they are wide, and has two digits.
    """
    known, counts = np.unique(values, return_counts=True)
    likely = [float(value) for value in known if code_like(float(value))]
    others = values[~np.isin(values, likely)]
    spaced = np.diff(np.unique(others))
    if len(others) < LEAST or not len(spaced):
        return []
    if len(spaced) < 4:
        ends = float(others.min()), float(others.max())
        far = FAR * (ends[1] - ends[0])
        return [value for value in likely if abs(value) > 9 and (value < ends[0] - far or value > ends[1] + far)]
    low, near, first, middle, third, far, high = np.quantile(others, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
    step = float(np.median(spaced))
    deviation = max(float(third - first), step) / 1.349
    often = dict(zip(known.tolist(), counts.tolist()))
    found = []
    for value in likely:
        below, once = value < low, often[value] == 1
        gap = low - value if below else value - high
        tail = first - (low if once else near) if below else (high if once else far) - third
        if gap > max(tail, 4 * step) and abs(value - middle) > 3 * deviation:
            found.append(value)
    return found


def look(given: Floats, values: Floats, allowed: tuple[float, float] | None, units: tuple[str, str, str | None],
         about: str) -> Looks:  # fmt: skip
    """What a column looks like.

    Args:    given: (n,) as they stand in the table.   values: (n,) the same in the contract's unit.
             units: of the table, of the contract, and the analyte.   about: what the feature is called and means.
    """
    outside = np.zeros(len(values), dtype=bool)
    if allowed is not None:
        outside = (values < allowed[0]) | (values > allowed[1])
    same = len(given) >= LEAST and len(np.unique(given)) == 1
    beyond = np.unique(given[outside])
    codes = set(apart(given)) | {float(value) for value in beyond if code_like(float(value))} - _amid(given[outside])
    if same and code_like(float(given[0])):
        codes.add(float(given[0]))
    away = np.isin(given, list(codes))
    years = _years(given[~away], outside[~away], allowed, units)
    unit, analyte = ("", "") if years else _unit(given[~away], outside[~away], allowed, units, about)
    if unit and allowed is not None:  # 77 and 88, which lay outside because of the unit alone, are measurements
        factor, offset = conversion(unit, units[1], analyte or None)
        read = beyond * factor + offset
        codes -= set(beyond[(read >= allowed[0]) & (read <= allowed[1])].tolist()) - set(apart(given))
        away = np.isin(given, list(codes))
    return Looks(_counts(given[away & ~outside]), _counts(given[away & outside]), same, unit, analyte, years)


def _amid(outside: Floats) -> set[float]:
    """Code-like values that stand amid others out of range, as 77 and 99 do in a column of another unit."""
    known = np.unique(outside)
    likely = [float(value) for value in known if code_like(float(value))]
    others = outside[~np.isin(outside, likely)]
    if len(others) < LEAST:
        return set()
    low, high = np.quantile(others, (0.05, 0.95))
    return {value for value in likely if low < value < high}


def dated(text: str) -> bool:
    """Whether a text is a day, as people and databases write it.

    >>> [dated(text) for text in ("1951-03-02", "1951-03-02 00:00:00", "02.03.1951", "2/3/51", "1951", "120/80", "1.5")]
    [True, True, True, True, False, False, False]
    """
    return bool(DAY.fullmatch(text.strip()))


def comma(text: str) -> bool:
    """Whether a text is a number with a comma where others have a point.

    >>> [comma(text) for text in ("7,5", "-1.234,5", "7.5", "7, 5", "1,2,3")]
    [True, True, False, False, False]
    """
    return bool(COMMA.fullmatch(text.strip()))


def calendar(values: Floats) -> bool:
    """Whether nine of ten values, and at least `LEAST` of them, are years of the calendar.

    >>> calendar(np.arange(1931.0, 1990.0)), calendar(np.arange(18.0, 90.0)), calendar(np.arange(1931.0, 1990.0) / 2)
    (True, False, False)
    """
    years = (values == np.floor(values)) & (values >= CALENDAR[0]) & (values <= CALENDAR[1])
    return len(values) >= LEAST and float(years.mean()) >= LEAST_INSIDE


def timed(unit: str) -> bool:
    """Whether a unit is one of time."""
    try:
        return kin(unit, "a") == "same"
    except MappingInvalid:
        return False


def written(unit: str, allowed: tuple[float, float] | None, wanted: str) -> bool:
    """Whether people write such a quantity in this unit.

    Args:    allowed: the contract's range, in the unit `wanted`.

    >>> written("wk", (18, 110), "a"), written("d", (18, 110), "a"), written("wk", (20, 44), "wk")
    (False, True, True)
    """
    if allowed is None or unit not in WRITTEN_S or not timed(wanted):
        return True
    return allowed[1] * conversion(wanted, "s", None)[0] <= WRITTEN_S[unit]


def _years(given: Floats, outside: npt.NDArray[np.bool_], allowed: tuple[float, float] | None,
           units: tuple[str, str, str | None]) -> bool:  # fmt: skip
    """Whether years of the calendar stand where a time is wanted: most are outside, or within by a unit nobody writes.

    A contract whose range begins in such a year wants years.
    """
    if allowed is None or not calendar(given) or not timed(units[1]):
        return False
    if allowed[0] * conversion(units[1], "a", None)[0] >= CALENDAR[0]:
        return False
    return float(outside.mean()) > MOST_OUTSIDE or not written(units[0], allowed, units[1])


def shaped(values: Floats, allowed: tuple[float, float]) -> bool:
    """Whether values, in the contract's unit, are spread as patients are; by logarithms where the range is wide."""
    (low, high), (first, last) = allowed, np.quantile(values, (0.1, 0.9))
    if low > 0 and high / low >= WIDE and first > 0:
        low, high, first, last = np.log(low), np.log(high), np.log(first), np.log(last)
    return bool(last - first >= NARROW * (high - low))


def _counts(values: Floats) -> dict[str, int]:
    known, counts = np.unique(values, return_counts=True)
    return {f"{value + 0.0:.15g}": int(count) for value, count in zip(known, counts)}


def _unit(given: Floats, outside: npt.NDArray[np.bool_], allowed: tuple[float, float] | None,
          units: tuple[str, str, str | None], about: str) -> tuple[str, str]:  # fmt: skip
    """The unit, and the analyte that it needs, in which most values would be plausible; empty where it is no better."""
    if allowed is None or len(given) < LEAST or outside.mean() <= MOST_OUTSIDE:
        return "", ""
    best, most = ("", ""), LEAST_INSIDE
    for unit, analyte, factor, offset in others(units, allowed, about):
        values = given * factor + offset
        share = inside(values, allowed)
        if share >= most and shaped(values, allowed) and (share > most or not best[0]):
            best, most = (unit, analyte), share
    return best


def others(units: tuple[str, str, str | None], allowed: tuple[float, float] | None,
           about: str) -> Iterator[tuple[str, str, float, float]]:  # fmt: skip
    """Each other unit that people write such a quantity in: with its analyte, or "", factor and offset.

    Args:    units: of the table, of the contract, and the analyte.   allowed: the contract's range.   about: words in
             which a substance may be named.
    """
    named = [units[2]] if units[2] else [None, *(name for name in ANALYTES if name in about.casefold())]
    for unit in UNITS:
        if unit == units[0] or not written(unit, allowed, units[1]) or kin(unit, units[1]) == "none":
            continue
        for analyte in named:
            try:
                yield unit, analyte or "", *conversion(unit, units[1], analyte)
            except MappingInvalid:
                continue
            break


def inside(values: Floats, allowed: tuple[float, float]) -> float:
    """Share of values within a range, both ends included."""
    return float(np.mean((values >= allowed[0]) & (values <= allowed[1])))
