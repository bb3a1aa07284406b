"""Dates, times and points in time as FHIR writes them: each known to some precision, some with a time zone.

What is not known is not guessed: two of them compare as far as both are known, and the answer may be that it is open.
Source: FHIRPath 2.0, 6.1 (equality), 6.2 (comparison); boundaries: FHIRPath 3.0, 5.7.
"""

import calendar
import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

SHAPE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?"
    r"(?P<t>T(?:(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
TIME = re.compile(r"(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?", re.ASCII)
MOST: dict[str, int] = {"month": 12, "day": 31, "hour": 23, "minute": 59, "second": 60}


class Moment(NamedTuple):
    """A date, dateTime or time: the parts that are known, from the year (or the hour) on; minutes east of Greenwich."""

    kind: str
    parts: tuple[int | Decimal, ...]
    zone: int | None
    text: str


@lru_cache(maxsize=8192)
def moment(text: str, kind: str = "") -> Moment | None:
    """Read a text; None where it is no date, dateTime or time.

    Args: kind: `date`, `dateTime`, `instant` or `time` where it is known; else the shape tells, and a day is a date.

    >>> moment("2018-03").parts, moment("2018-13"), moment("10:30", "time").kind
    ((2018, 3), None, 'time')
    """
    if kind == "time":
        found = TIME.fullmatch(text)
        parts = _parts(found, ("hour", "minute", "second")) if found else None
        return None if parts is None else Moment("time", parts, None, text)
    found = SHAPE.fullmatch(text)
    if found is None or (found["zone"] and not found["hour"]) or (kind == "date" and found["t"]):
        return None
    parts = _parts(found, ("year", "month", "day", "hour", "minute", "second"))
    if parts is None or (found["hour"] and not found["day"]):
        return None
    if len(parts) > 2 and parts[2] > calendar.monthrange(int(parts[0]), int(parts[1]))[1]:
        return None
    plain = "dateTime" if found["t"] or kind in ("dateTime", "instant") else "date"
    return Moment(plain, parts, _zone(found["zone"]), text)


def _parts(found: re.Match[str], names: tuple[str, ...]) -> tuple[int | Decimal, ...] | None:
    known = [(name, found[name]) for name in names if found[name] is not None]
    parts = tuple(Decimal(text) if name == "second" else int(text) for name, text in known)
    fits = all(int(part) <= MOST.get(name, 9999) for (name, _), part in zip(known, parts))
    whole = all(part > 0 for (name, _), part in zip(known, parts) if name in ("year", "month", "day"))
    return parts if fits and whole else None


def _zone(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "Z":
        return 0
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    return -minutes if text[0] == "-" else minutes


def compare(one: Moment, other: Moment) -> int | None:
    """-1, 0 or 1 as `one` is before, at or after `other`; None where that is not known.

    Raises: TypeError: a time of day and a date are not to be compared.
    """
    if (one.kind == "time") != (other.kind == "time"):
        raise TypeError("a time of day is not compared with a date")
    first, second = one.parts, other.parts
    if len(first) > 3 and len(second) > 3 and one.kind != "time" and one.zone != other.zone:
        if one.zone is None or other.zone is None:
            apart = _day(one) - _day(other)
            return None if abs(apart) < 2 else -1 if apart < 0 else 1
        first, second = _greenwich(one), _greenwich(other)
    for here, there in zip(first, second):
        if here != there:
            return -1 if here < there else 1
    return 0 if len(first) == len(second) else None


def _day(one: Moment) -> int:
    year, month, day = (int(part) for part in one.parts[:3])
    return date(year, month, day).toordinal()


def _greenwich(one: Moment) -> tuple[int | Decimal, ...]:
    whole = [int(part) for part in one.parts[:5]]
    try:
        moved = datetime(*whole) - timedelta(minutes=one.zone or 0)  # type: ignore[arg-type]
    except OverflowError:  # year 1 or 9999
        return one.parts
    parts = (moved.year, moved.month, moved.day, moved.hour, moved.minute)
    return (*parts[: len(whole)], *one.parts[5:])


def low(one: Moment) -> str:
    """The earliest moment that `one` may be, as text; a time zone that is not known is the one furthest east.

    >>> low(moment("2010-10-10", "dateTime")), low(moment("1970-06")), low(moment("12:34", "time"))
    ('2010-10-10T00:00:00.000+14:00', '1970-06-01', '12:34:00.000')
    """
    return _edge(one, "0", (1, 1), (0, 0, 0), "+14:00")


def high(one: Moment) -> str:
    """The latest moment that `one` may be, as text; a time zone that is not known is the one furthest west.

    >>> high(moment("2012-02")), high(moment("12:34:00", "time"))
    ('2012-02-29', '12:34:00.999')
    """
    return _edge(one, "9", (12, 31), (23, 59, 59), "-12:00")


def _edge(one: Moment, digit: str, days: tuple[int, int], times: tuple[int, int, int], zone: str) -> str:
    parts = list(one.parts)
    day = ""
    if one.kind != "time":
        year, parts = int(parts[0]), parts[1:]
        month = int(parts.pop(0)) if parts else days[0]
        last = min(days[1], calendar.monthrange(year, month)[1])
        day = f"{year:04}-{month:02}-{int(parts.pop(0)) if parts else last:02}"
    if one.kind == "date":
        return day
    hour, minute, second = (parts + list(times[len(parts) :]))[:3]
    whole, _, fraction = str(second).partition(".")
    clock = f"{int(hour):02}:{int(minute):02}:{int(whole):02}.{fraction[:3].ljust(3, digit)}"
    if one.kind == "time":
        return clock
    found = SHAPE.fullmatch(one.text)
    return f"{day}T{clock}{(found and found['zone']) or zone}"
