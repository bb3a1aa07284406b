"""Moments, as exact as they are told: a date is a day, and no midnight; a month is its days, and no first of them.

Of which day a moment is, is read as it is written: of 23:30 at -05:00 the day that a clock in the hospital showed, and
not the one at Greenwich. Where a moment is a day, windows that end in days or weeks compare days of the calendar; of
one that ends in hours or minutes it may not be known whether the moment lies within. Where one of two moments has a
time zone and the other none, they are as far apart as no zone would rule out.
"""

import calendar
import math
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

from consilium.core.records import Window, seconds

DAY_S = 86_400.0
CLOCK_S = 3600.0
"""By so much a day may begin or end at another time than by the offset of the index: clocks go forward, and back."""
WEST_S, EAST_S = 12 * 3600.0, 14 * 3600.0
"""By so much a clock may be behind that of Greenwich, or before it."""
DAY, ZONE = "day", "zone"
"""What a moment may lack, so that nobody knows its place: its time of day, or its time zone where another has one."""
PART = re.compile(r"(1[89]|2[01])[0-9]{2}(?:-(?:0[1-9]|1[0-2]))?", re.ASCII)
"""A year, or a month of one: 0830 is a time of day, and no year."""


@dataclass(frozen=True)
class Days:
    """A moment of which no more is known than that it is one of these days, of a month or of a year."""

    first: date
    last: date


UNKNOWN = Days(date.min, date.max)
"""A moment that cannot be read: it may be any."""
When = date | Days


class Place(NamedTuple):
    """Where a moment lies: seconds after the index at the earliest and at the latest, and its day as it is written.

    at: the moment itself, if it has a time of day.
    """

    after: float
    until: float
    day: date | None = None
    at: datetime | None = None


@lru_cache(maxsize=4096)
def moment(text: str) -> When:
    """A moment in ISO 8601, a datetime; of one without a time of day the date, of a month or a year alone its days.

    One without time zone is of no zone.

    Raises: ValueError: it is none, or of no year of this calendar at Greenwich.

    >>> moment("2030-05-01"), moment("2030-05-01T00:00")
    (datetime.date(2030, 5, 1), datetime.datetime(2030, 5, 1, 0, 0))
    >>> moment("2030-02")
    Days(first=datetime.date(2030, 2, 1), last=datetime.date(2030, 2, 28))
    """
    text = text.strip()
    if PART.fullmatch(text):
        year, months = int(text[:4]), (int(text[5:]),) * 2 if text[4:] else (1, 12)
        return Days(date(year, months[0], 1), date(year, months[1], calendar.monthrange(year, months[1])[1]))
    with suppress(ValueError):
        return date.fromisoformat(text)
    when = datetime.fromisoformat(text)
    try:
        when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except OverflowError as error:
        raise ValueError from error
    return when


def between(later: date, earlier: date) -> float:
    """Seconds from one to the other; of a day, its beginning counts, in the time zone of the other.

    Raises: TypeError: one has a time zone and the other none.   ValueError: one is none of this calendar's in UTC.
    """
    until, since = _begins(later, earlier), _begins(earlier, later)
    try:
        if until.tzinfo is not None and since.tzinfo is not None:
            until, since = until.astimezone(UTC), since.astimezone(UTC)
        return (until - since).total_seconds()
    except OverflowError as error:
        raise ValueError from error


def placed(when: When, index: date) -> Place:
    """Where a moment lies. Raises: as `between`."""
    if isinstance(when, Days):
        shift = CLOCK_S if zoned(index) else 0.0
        return Place(between(when.first, index) - shift, between(when.last, index) + DAY_S + shift)
    least, most = _apart(when, index)
    return Place(least, most + lasts(when), _day(when), when if isinstance(when, datetime) else None)


def _apart(later: date, earlier: date) -> tuple[float, float]:
    """Seconds from one moment to another, at the least and at the most. Raises: ValueError, as `between`."""
    if not unzoned(later, earlier):
        after = between(later, earlier)
        return after, after
    assert isinstance(later, datetime) and isinstance(earlier, datetime)
    here, there = ((one if one.tzinfo else one.replace(tzinfo=UTC)) for one in (later, earlier))
    after = between(here, there)
    return (after - WEST_S, after + EAST_S) if later.tzinfo else (after - EAST_S, after + WEST_S)


def unzoned(one: When | None, other: When | None) -> bool:
    """Whether one of two moments has a time zone, and the other none; a date has the one of the other."""
    return isinstance(one, datetime) and isinstance(other, datetime) and (one.tzinfo is None) != (other.tzinfo is None)


def sooner(one: date, other: date) -> bool | None:
    """Whether one is before the other; None: nobody knows, for one of them has no time zone. Raises: as `between`.

    >>> [sooner(moment("2030-05-01T12:00"), moment(f"2030-05-{day}T12:00Z")) for day in ("01", "02")]
    [None, True]
    """
    least, most = _apart(one, other)
    return True if most < 0 else False if least >= 0 else None


def lasts(when: date) -> float:
    """Seconds within which a moment is known: those of a day, or none."""
    return 0.0 if isinstance(when, datetime) else DAY_S


def same_day(one: date, other: date) -> bool:
    """Whether nobody knows which of two was first, for one of them is the day of the other."""
    return lasts(one) + lasts(other) > 0 and _day(one) == _day(other)


def before(one: When, other: When) -> bool | None:
    """Whether all days of a moment come before, or after, those of another one; None: nobody knows.

    >>> before(moment("2030-02"), moment("2030-03-01")), before(moment("2030-03"), moment("2030-03-01T12:00"))
    (True, None)
    """
    (first, last), (since, until) = _ends(one), _ends(other)
    return True if last < since else False if first > until else None


def _ends(when: When) -> tuple[date, date]:
    return (when.first, when.last) if isinstance(when, Days) else (_day(when), _day(when))


def inside(window: Window, when: When, index: date) -> bool | None:
    """Whether a moment lies within the window around the index; None: without its time of day nobody knows.

    Raises: as `between`.

    >>> index = datetime(2030, 5, 1, 12)
    >>> [inside(("-1d", "0d"), date(2030, 4, day), index) for day in (29, 30)]
    [False, True]
    >>> [inside(("-24h", "0h"), date(2030, 4, day), index) for day in (29, 30)]
    [False, None]
    >>> [inside(("-40d", "0d"), moment(text), index) for text in ("2030-04", "2030-05", "2030-06", "2030")]
    [True, None, False, None]
    """
    if isinstance(when, Days):
        return _all_inside(window, when, index)
    if unzoned(when, index):
        return _apart_inside(window, *_apart(when, index))
    after, known = between(when, index), True
    least, most = after - lasts(index), after + lasts(when)
    shift = CLOCK_S if least < most and zoned(when, index) else 0.0
    least, most = least - shift, most + shift
    reached = [end for end, short in ((least, lasts(index)), (most, lasts(when))) if not short]  # by some time of a day
    days = (_day(when) - _day(index)).days * DAY_S
    for end, sign, near, far in ((window[0], 1, least, most), (window[1], -1, most, least)):
        if end is None:
            continue
        limit = seconds(end) * sign
        if least < most and end.endswith(("d", "wk")):
            near = far = days
        if near * sign >= limit:
            continue
        if far * sign < limit or (far * sign == limit and far not in (*reached, days)):
            return False
        known = False
    return True if known else None


def _all_inside(window: Window, when: Days, index: date) -> bool | None:
    """Whether all days lie within, or none does."""
    since, until = (window[0], None), (None, window[1])
    if inside(since, when.last, index) is False or inside(until, when.first, index) is False:
        return False
    return True if inside(since, when.first, index) and inside(until, when.last, index) else None


def _apart_inside(window: Window, least: float, most: float) -> bool | None:
    first, last = (None if end is None else seconds(end) for end in window)
    if (first is not None and most < first) or (last is not None and least > last):
        return False
    return True if (first is None or first <= least) and (last is None or most <= last) else None


def earlier(one: Place, other: Place) -> bool:
    """Whether one is certainly before the other; what has no time of day by the calendar, as it is written, too."""
    if one.at is not None and other.at is not None:
        return sooner(one.at, other.at) is True
    if one.until == one.after and other.until == other.after:
        return one.after < other.after
    return one.until <= other.after and (one.day is None or other.day is None or one.day < other.day)


def unordered(edge: float, places: Collection[Place]) -> str:
    """Why nobody knows that what is first or last is so: DAY, where it has no time of day and another one has, or the
    reverse; or where the index has none, and their offsets put them in another order than their clocks; ZONE, where one
    of them has no time zone. Empty: it is known. Of several days, of one date, none is before the others.

    Args:    edge: seconds of the first, or the last.
    """
    chosen = [one for one in places if one.after == edge]
    found = (_why(one, other) for one in chosen for other in places)
    return next(filter(None, found), "")


def _why(one: Place, other: Place) -> str:
    if one.at is not None and other.at is not None:
        if unzoned(one.at, other.at):
            return "" if earlier(one, other) or earlier(other, one) else ZONE
        if one.after == other.after:
            return "" if one.at == other.at else DAY
        return "" if earlier(*sorted((one, other), key=lambda place: place.after)) else DAY
    mixed = _timeless(one) != _timeless(other)
    return DAY if mixed and not earlier(one, other) and not earlier(other, one) else ""


def _timeless(one: Place) -> bool:
    return one.until > one.after


def finite(value: float) -> float:
    """The value. Raises: ValueError: it is infinite, or no number."""
    if not math.isfinite(value):
        raise ValueError
    return value


def _begins(when: date, other: date) -> datetime:
    if isinstance(when, datetime):
        return when
    return datetime.combine(when, time(), other.tzinfo if isinstance(other, datetime) else None)


def zoned(*moments: date) -> bool:
    """Whether one of them has a time zone."""
    return any(isinstance(one, datetime) and one.tzinfo is not None for one in moments)


def _day(when: date) -> date:
    return when.date() if isinstance(when, datetime) else when


def end_of(day: date, zone: date) -> datetime:
    """The end of a day, in the time zone of a moment."""
    return _begins(day, zone) + timedelta(days=1, microseconds=-1)
