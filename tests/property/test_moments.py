"""A date is a day: a record is within a window if it is so at every time of that day, and out of it if at none.

So with a month or a year, whose days it may be of. Which day it is, is read where it is written: in no other time zone.
"""

import itertools
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.records import seconds
from consilium.data.moments import Days, When, between, earlier, inside, moment, placed, unordered

HOURS = [timedelta(hours=hour) for hour in range(24)]
TIMES = [*HOURS, timedelta(days=1, microseconds=-1)]
days = st.integers(0, 3).map(lambda n: date(2030, 5, 1) + timedelta(n))
hours = st.integers(0, 23).map(lambda hour: time(hour))
moments = st.one_of(days, st.builds(datetime.combine, days, hours))
parts = st.sampled_from(["2029", "2030", "2031", "2030-04", "2030-05", "2030-06"]).map(moment)
ends = st.one_of(st.none(), st.integers(-50, 50).map(lambda n: f"{n}h"), st.integers(-3, 3).map(lambda n: f"{n}d"),
                 st.sampled_from([f"{sign}{n}d" for sign in ("", "-") for n in (27, 30, 31, 150, 400)]))  # fmt: skip
offsets = st.sampled_from([-720, -300, -60, 0, 60, 120, 345, 840]).map(lambda n: timezone(timedelta(minutes=n)))


def times(when: date) -> list[datetime]:
    """Moments that this one may be."""
    if isinstance(when, datetime):
        return [when]
    return [datetime.combine(when, time()) + one for one in TIMES]


def wanted(end: str | None, sign: int, when: When, index: date) -> set[bool]:
    """Whether it is on the side of the end on which the window lies, at all times that are possible."""
    if end is None:
        return {True}
    if isinstance(when, Days):
        return {one for day in (when.first, when.last) for one in wanted(end, sign, day, index)}
    exact = isinstance(when, datetime) and isinstance(index, datetime)
    if end.endswith("d") and not exact:
        one, other = (each.date() if isinstance(each, datetime) else each for each in (when, index))
        return {sign * (one - other).days * 86400 >= sign * seconds(end)}
    return {sign * (a - b).total_seconds() >= sign * seconds(end) for a in times(when) for b in times(index)}


@settings(max_examples=60, deadline=None)
@given(ends, ends, st.one_of(moments, parts), moments)
def test_what_is_certain_is_said_and_nothing_else(first: Any, last: Any, when: When, index: date) -> None:
    since, until = wanted(first, 1, when, index), wanted(last, -1, when, index)
    found = inside((first, last), when, index)
    if since == until == {True}:
        assert found is True
    elif {False} in (since, until):
        assert found is False
    else:
        assert found is None


@settings(max_examples=60, deadline=None)
@given(st.sets(moments, min_size=1, max_size=4), st.sampled_from([min, max]))
def test_the_first_and_the_last_are_known_where_the_same_one_is_it_at_every_time_of_the_days(
    several: set[date], take: Any
) -> None:
    """Records of one day without a time are one moment, whatever their order."""
    index = datetime(2030, 5, 1)
    places = [placed(one, index) for one in several]
    every, found = list(several), set[date]()
    for chosen in itertools.product(*([times(one)[0], times(one)[-1]] for one in every)):
        edge = take(chosen)
        found |= {one for one, when in zip(every, chosen, strict=True) if when == edge}
    assert bool(unordered(take(one.after for one in places), places)) == (len(found) > 1)


@settings(max_examples=60, deadline=None)
@given(days, hours, offsets, days, hours, offsets, st.integers(-3, 3))
def test_the_day_of_a_moment_is_that_of_the_clock_by_which_it_was_written(
    day: date, hour: time, zone: timezone, other: date, clock: time, where: timezone, apart: int
) -> None:
    """So the same wall clock gives the same in every time zone, and as where none is written."""
    when, index = datetime.combine(day, hour, zone), datetime.combine(other, clock, where)
    window = (f"{apart}d", f"{apart}d")
    assert inside(window, when, other) is (inside(window, day, other)) is ((day - other).days == apart)
    assert inside(window, day, index) is inside(window, day, other)
    assert inside(window, datetime.combine(day, hour), other) is inside(window, when, other)


@settings(max_examples=20, deadline=None)
@given(days, offsets, days, hours, offsets, st.sampled_from([-60, 0, 60]))
def test_what_is_said_of_a_date_holds_where_the_clock_was_changed(
    day: date, where: timezone, other: date, clock: time, zone: timezone, change: int
) -> None:
    """A date beside a moment with a time zone may be an hour off, at both of its ends."""
    index = datetime(2030, 5, 2, 12, tzinfo=where)
    changed = timezone(where.utcoffset(None) + timedelta(minutes=change))
    possible = [one.replace(tzinfo=changed) for one in (times(day)[0], times(day)[-1])]
    for hours_ in range(-60, 60):
        for window in ((f"{hours_}h", None), (None, f"{hours_}h")):
            said = inside(window, day, index)
            assert said is None or {inside(window, one, index) for one in possible} == {said}
    timed, dated = datetime.combine(other, clock, zone), placed(day, index)
    for zoned in ([one.replace(tzinfo=of) for one in times(day)] for of in (where, zone)):
        if earlier(placed(timed, index), dated):
            assert all(timed < one for one in zoned)
        elif earlier(dated, placed(timed, index)):
            assert all(one < timed for one in zoned)


@given(days, st.sampled_from(["%Y-%m-%d", "%Y%m%d"]))
def test_a_date_is_no_midnight(day: date, form: str) -> None:
    assert moment(f" {day.strftime(form)}") == day and not isinstance(moment(day.strftime(form)), datetime)
    assert isinstance(moment(f"{day.isoformat()}T00:00"), datetime)
    assert between(day, datetime.combine(day, time(6))) == -6 * 3600


@given(st.integers(1800, 2199), st.integers(1, 12))
def test_a_month_is_its_days(year: int, month: int) -> None:
    of, whole = moment(f"{year}-{month:02}"), moment(str(year))
    assert isinstance(of, Days) and isinstance(whole, Days) and (whole.first.month, whole.last.month) == (1, 12)
    assert (of.first.day, (of.last + timedelta(1)).day) == (1, 1) and of.first.month == of.last.month == month
