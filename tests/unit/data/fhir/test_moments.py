"""Dates and times: what is not known is not guessed."""

import pytest

from consilium.data.fhir.moments import compare, high, low, moment


def _order(one: str, other: str, kind: str = "") -> int | None:
    first, second = moment(one, kind), moment(other, kind)
    assert first and second
    return compare(first, second)


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("2018", "2019", -1),
        ("2018-03", "2018-03-01", None),
        ("2018-03-01T10:30:00", "2018-03-01T10:30:00.0", 0),
        ("2018-03-01T10:30", "2018-03-01T10:30:00", None),
        ("2017-11-05T01:30:00.0-04:00", "2017-11-05T00:30:00.0-05:00", 0),
        ("2017-12-31T23:30:00-05:00", "2018-01-01T04:29:59Z", 1),
        ("2018-03-01T10:30:00Z", "2018-03-01T11:30:00", None),
        ("2018-03-01T10:30:00Z", "2018-03-05T10:30:00", -1),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", 0),
    ],
)
def test_two_compare_as_far_as_both_are_known(one: str, other: str, order: int | None) -> None:
    assert _order(one, other) == order
    assert _order(other, one) == (None if order is None else -order)


def test_a_time_of_day_is_not_compared_with_a_date() -> None:
    time, day = moment("10:30", "time"), moment("2018-03-01")
    assert time and day
    with pytest.raises(TypeError):
        compare(time, day)


@pytest.mark.parametrize(
    "text",
    ["2018-13", "2018-02-30", "2018-00-01", "0000", "2018-3-1", "2018T10", "2018-03-01T25:00", "2018-03-01T10:61", "",
     "2018-03-01TZ", "2018-03-01 10:30", "２０１８", "2018\n"],
)  # fmt: skip
def test_what_is_no_date_is_none(text: str) -> None:
    assert moment(text) is None


def test_29_february_is_one_in_a_leap_year_alone() -> None:
    assert moment("2016-02-29") and not moment("2015-02-29") and not moment("1900-02-29") and moment("2000-02-29")


@pytest.mark.parametrize(
    ("text", "kind", "first", "last"),
    [
        ("1970-06", "date", "1970-06-01", "1970-06-30"),
        ("2012-02", "date", "2012-02-01", "2012-02-29"),
        ("2018", "date", "2018-01-01", "2018-12-31"),
        ("2010-10-10", "dateTime", "2010-10-10T00:00:00.000+14:00", "2010-10-10T23:59:59.999-12:00"),
        ("2014-01-01T08:05-05:00", "dateTime", "2014-01-01T08:05:00.000-05:00", "2014-01-01T08:05:59.999-05:00"),
        ("12:34", "time", "12:34:00.000", "12:34:59.999"),
        ("12:34:05.5", "time", "12:34:05.500", "12:34:05.599"),
    ],
)
def test_boundaries(text: str, kind: str, first: str, last: str) -> None:
    found = moment(text, kind)
    assert found and (low(found), high(found)) == (first, last)
