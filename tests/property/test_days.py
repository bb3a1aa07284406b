"""A first or a last value hangs on no time of day that nobody knows; of OMOP it is the same one as of records."""

from collections import defaultdict
from datetime import date, datetime, time
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.data.base import Rows
from consilium.data.bounds import NO_NUMBER, NO_TIME
from consilium.data.coded import SEVERAL
from consilium.data.omop.events import Event, coded, taken
from unit.data import test_coded
from unit.data.test_records import apply, made, stays

DAYS = {"window": ["-3d", "0d"], "resolution": None, "range": [0, 100]}
ORDERS = st.sampled_from(["first", "last"])
hours = st.one_of(st.none(), st.integers(7, 9))
Told = tuple[int, int | None, str]
"""A record: its day in April, its hour or none, and its value."""


def several(*values: str) -> Any:
    one = st.tuples(st.integers(28, 30), hours, st.sampled_from(values))
    return st.lists(st.lists(one, max_size=4), min_size=10, max_size=10)


def moment(day: int, hour: int | None) -> date:
    return date(2030, 4, day) if hour is None else datetime.combine(date(2030, 4, day), time(hour))


def table(patients: list[list[Told]], code: str) -> Rows:
    flat = [(str(patient), *one) for patient, of in enumerate(patients) for one in of]
    return Rows({
        "pid": [one[0] for one in flat], "when": [moment(day, hour).isoformat() for _, day, hour, _ in flat],
        "code": [code] * len(flat), "value": [one[3] for one in flat], "unit": ["mg/dL"] * len(flat),
        "of": [test_coded.system_of(one[3]) for one in flat],
    })  # fmt: skip


def edges(of: list[Told], take: str) -> set[frozenset[str]]:
    """Values of the first or the last moment, for each time of the day that those without one may be of."""
    found = set()
    for unknown in (0, 8, 23):
        at: dict[tuple[int, int], set[str]] = defaultdict(set)
        for day, hour, value in of:
            at[day, unknown if hour is None else hour].add(value)
        found.add(frozenset(at[(min if take == "first" else max)(at)]) if at else frozenset())
    return found


def event(patient: int, one: Told, meant: int = 0) -> Event:
    """The same record as OMOP has it."""
    day, hour, text = one
    sign, number = (text[0], text[1:]) if text[0] == "<" else ("", text)
    known = number.replace(".", "").isdecimal()
    return Event(patient, moment(day, hour), float(number) if known else None, meant, 0,
                 sign if known else NO_NUMBER, "")  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(several("1.0", "2.0", "<5.0", "x"), ORDERS)
def test_a_number_is_said_where_it_is_the_same_at_every_time_of_the_day(patients: list[list[Told]], take: str) -> None:
    main = stays(*((str(patient), "2030-04-30", "1") for patient in range(len(patients))))
    mapped = apply(made({"aggregate": take, **DAYS}), main, table(patients, "2160-0"))
    texts = taken((event(n, one) for n, of in enumerate(patients) for one in of), take, lambda one: float(one.number))
    for patient, (of, found) in enumerate(zip(patients, mapped.table.columns["crea"].tolist(), strict=True)):
        text = texts.get(patient, "")
        assert (text == "") == (not of) and (text if text in ("1.0", "2.0") else "nan") == str(found), of
        for edge in edges(of, take):
            assert np.isnan(found) or found == float((min if take == "first" else max)(edge, key=float)), of
    told = mapped.features["crea"]
    assert told.missing == sum(not of for of in patients) and told.usable == np.sum(
        ~np.isnan(mapped.table.columns["crea"])
    )


CATEGORIES = {"77176002": 1, "8517006": 2}


@settings(max_examples=10, deadline=None)
@given(several(*CATEGORIES), ORDERS)
def test_a_code_is_said_where_it_is_the_same_at_every_time_of_the_day(patients: list[list[Told]], take: str) -> None:
    main = stays(*((str(patient), "2030-04-30", "1") for patient in range(len(patients))))
    wanted = test_coded.wanted(aggregate=take, window=["-3d", "0d"])
    mapped = apply(wanted, main, table(patients, "72166-2"), records=test_coded.part(value_system="of"),
                   features={"crea": {"records": "labs"}})  # fmt: skip
    texts = coded((event(n, one, CATEGORIES[one[2]]) for n, of in enumerate(patients) for one in of), take)
    for patient, (of, found) in enumerate(zip(patients, mapped.table.columns["crea"].tolist(), strict=True)):
        text = texts.get(patient, "")
        assert (text in ("1", "2")) == (not np.isnan(found)), of
        assert bool(text in (SEVERAL, NO_TIME)) == bool(of and np.isnan(found)), of
        if text in ("1", "2"):
            assert edges(of, take) == {frozenset(code for code, n in CATEGORIES.items() if str(n) == text)}
