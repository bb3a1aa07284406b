"""Moments, as exact as they are told: a date is a day, and no midnight.

Where a moment is a day, windows that end in days or weeks compare days of the calendar; of one that ends in hours or
minutes it may not be known whether the moment lies within.
"""

import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from consilium.core.records import Window, seconds

DAY_S = 86_400.0


@lru_cache(maxsize=4096)
def moment(text: str) -> date:
    """A moment in ISO 8601, a datetime; of one without a time of day the date. One without time zone is of no zone.

    Raises: ValueError.

    >>> moment("2030-05-01"), moment("2030-05-01T00:00")
    (datetime.date(2030, 5, 1), datetime.datetime(2030, 5, 1, 0, 0))
    """
    with suppress(ValueError):
        return date.fromisoformat(text.strip())
    return datetime.fromisoformat(text.strip())


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


def lasts(when: date) -> float:
    """Seconds within which a moment is known: those of a day, or none."""
    return 0.0 if isinstance(when, datetime) else DAY_S


def same_day(one: date, other: date) -> bool:
    """Whether nobody knows which of two was first, for one of them is the day of the other."""
    return lasts(one) + lasts(other) > 0 and _day(one) == _day(other)


def inside(window: Window, when: date, index: date) -> bool | None:
    """Whether a moment lies within the window around the index; None: without its time of day nobody knows.

    Raises: as `between`.

    >>> index = datetime(2030, 5, 1, 12)
    >>> [inside(("-1d", "0d"), date(2030, 4, day), index) for day in (29, 30)]
    [False, True]
    >>> [inside(("-24h", "0h"), date(2030, 4, day), index) for day in (29, 30)]
    [False, None]
    """
    after, known = between(when, index), True
    least, most = after - lasts(index), after + lasts(when)  # neither is reached where it is another than `after`
    days = (_day(when) - _day(index)).days * DAY_S
    for end, sign, near, far in ((window[0], 1, least, most), (window[1], -1, most, least)):
        if end is None:
            continue
        limit = seconds(end) * sign
        if least < most and end.endswith(("d", "wk")):
            near = far = days
        if near * sign >= limit:
            continue
        if far * sign < limit or (far * sign == limit and far not in (after, days)):
            return False
        known = False
    return True if known else None


def unordered(edge: float, exact: Collection[float], days: Iterable[float]) -> bool:
    """Whether the day of the first or the last moment has one with a time and one without: nobody knows which it is.

    Args:    edge: seconds, as all.   exact: moments with a time of day.   days: the beginnings of those without.
    """
    return any(day <= edge < day + DAY_S and any(day <= one < day + DAY_S for one in exact) for day in set(days))


def finite(value: float) -> float:
    """The value. Raises: ValueError: it is infinite, or no number."""
    if not math.isfinite(value):
        raise ValueError
    return value


def _begins(when: date, other: date) -> datetime:
    if isinstance(when, datetime):
        return when
    return datetime.combine(when, time(), other.tzinfo if isinstance(other, datetime) else None)


def _day(when: date) -> date:
    return when.date() if isinstance(when, datetime) else when


def end_of(day: date, zone: date) -> datetime:
    """The end of a day, in the time zone of a moment."""
    return _begins(day, zone) + timedelta(days=1, microseconds=-1)
