"""A date is a day: a record is within a window if it is so at every time of that day, and out of it if at none."""

import itertools
from datetime import date, datetime, time, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.records import seconds
from consilium.data.moments import between, inside, moment, unordered

HOURS = [timedelta(hours=hour) for hour in range(24)]
TIMES = [*HOURS, timedelta(days=1, microseconds=-1)]
days = st.integers(0, 3).map(lambda n: date(2030, 5, 1) + timedelta(n))
hours = st.integers(0, 23).map(lambda hour: time(hour))
moments = st.one_of(days, st.builds(datetime.combine, days, hours))
ends = st.one_of(st.none(), st.integers(-50, 50).map(lambda n: f"{n}h"), st.integers(-3, 3).map(lambda n: f"{n}d"))


def times(when: date) -> list[datetime]:
    """Moments that this one may be."""
    if isinstance(when, datetime):
        return [when]
    return [datetime.combine(when, time()) + one for one in TIMES]


def wanted(end: str | None, sign: int, when: date, index: date) -> set[bool]:
    """Whether it is on the side of the end on which the window lies, at all times that are possible."""
    if end is None:
        return {True}
    exact = isinstance(when, datetime) and isinstance(index, datetime)
    if end.endswith("d") and not exact:
        one, other = (each.date() if isinstance(each, datetime) else each for each in (when, index))
        return {sign * (one - other).days * 86400 >= sign * seconds(end)}
    return {sign * (a - b).total_seconds() >= sign * seconds(end) for a in times(when) for b in times(index)}


@settings(max_examples=60, deadline=None)
@given(ends, ends, moments, moments)
def test_what_is_certain_is_said_and_nothing_else(first: Any, last: Any, when: date, index: date) -> None:
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
    exact, whole = (
        [between(one, index) for one in several if isinstance(one, datetime) is timed] for timed in (True, False)
    )
    every, found = list(several), set[date]()
    for chosen in itertools.product(*([times(one)[0], times(one)[-1]] for one in every)):
        edge = take(chosen)
        found |= {one for one, when in zip(every, chosen, strict=True) if when == edge}
    assert unordered(take(exact + whole), exact, whole) == (len(found) > 1)


@given(days, st.sampled_from(["%Y-%m-%d", "%Y%m%d"]))
def test_a_date_is_no_midnight(day: date, form: str) -> None:
    assert moment(f" {day.strftime(form)}") == day and not isinstance(moment(day.strftime(form)), datetime)
    assert isinstance(moment(f"{day.isoformat()}T00:00"), datetime)
    assert between(day, datetime.combine(day, time(6))) == -6 * 3600
