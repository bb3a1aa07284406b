"""Categories made of records: one is said only where it is the same, whatever may be true of what cannot be read.

Worlds are what may be true: a record without a moment is outside of the window, or anywhere within it; one without a
code system is the feature's, or is not; one with a date alone is at any time of that day. In each all can be read.
"""

import itertools
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.data.base import Rows
from unit.data.test_coded import CODES, FEATURE, SMOKING, part, system_of, wanted
from unit.data.test_records import INDEX, apply, stays

NAMES = list(FEATURE["categories"])
OURS = "urn:ours"


@dataclass(frozen=True)
class One:
    """A record: its moment, its value and the system of its code. day: it has a date alone; time: of it."""

    when: datetime | None
    value: str
    system: str = SMOKING
    day: bool = False
    time: timedelta = timedelta(0)

    @property
    def text(self) -> str:
        if self.when is None:
            return ""
        return self.when.date().isoformat() if self.day else self.when.isoformat()


def worlds(one: One) -> list[One | None]:
    """What it may be, where all is known."""
    if one.system not in ("", SMOKING) or one.value == "":
        return [None]
    meant: list[One | None] = [one]
    if one.when is None:
        ends = (timedelta(days=-31), timedelta(days=-30), timedelta(days=-1), timedelta(hours=-1), timedelta(0))
        meant = [replace(one, when=INDEX + end) for end in ends]
    elif one.day:
        meant = [replace(one, time=time) for time in (timedelta(0), timedelta(hours=23.9))]
    if one.system == "":
        meant = [*(replace(found, system=SMOKING) for found in meant if found), None]
    return meant


def lies_within(one: One) -> bool:
    """Whether a record lies from thirty days before, of a date by the calendar, up to the moment itself."""
    assert one.when is not None
    begins = INDEX.replace(hour=0) if one.day else INDEX
    return one.when - begins >= timedelta(days=-30) and one.when + one.time <= INDEX


def direct(records: tuple[One | None, ...], takes: str) -> str | None:
    """The category where all is known; None: several, or there is a value that means none."""
    within = [(one.when + one.time, one.value) for one in records if one and one.when and lies_within(one)]
    if any(value not in CODES for _, value in within):
        return None
    if not within:
        return ""
    edge = (min if takes == "first" else max)(when for when, _ in within)
    found = {CODES[value] for when, value in within if when == edge}
    return found.pop() if len(found) == 1 else None


moments = st.sampled_from([-800, -719, -48, -30, -24, -12, -1, 0, 5]).map(lambda hours: INDEX + timedelta(hours=hours))
midnights = st.sampled_from([-31, -30, -2, -1, 0]).map(lambda days: INDEX.replace(hour=0) + timedelta(days=days))
values = st.sampled_from(["266919005", "LA18978-9", "8517006", "77176002", "77176002", "160573003", ""])
readable = st.builds(One, moments, values, st.sampled_from([SMOKING, SMOKING, OURS]))
doubtful = st.one_of(st.builds(One, st.none(), values), st.builds(One, moments, values, st.just("")),
                     st.builds(One, midnights, values, st.sampled_from([SMOKING, ""]), st.just(True)))  # fmt: skip


def made(every: list[list[One]], takes: str) -> tuple[list[str], Any]:
    """The category of each patient, or ""; and the counts."""
    flat = [(str(patient), one) for patient, of in enumerate(every) for one in of]
    rows = Rows({
        "pid": [patient for patient, _ in flat], "when": [one.text for _, one in flat],
        "code": ["72166-2"] * len(flat), "system": [one.system for _, one in flat],
        "value": [one.value for _, one in flat], "of": [system_of(one.value) for _, one in flat],
        "unit": [""] * len(flat),
    })  # fmt: skip
    main = stays(*((str(patient), INDEX.isoformat(), "1") for patient in range(len(every))))
    mapped = apply(wanted(aggregate=takes), main, rows, records=part(system="system", value_system="of"),
                   features={"crea": {"records": "labs"}})  # fmt: skip
    places = mapped.table.columns["crea"].tolist()
    return ["" if np.isnan(place) else NAMES[int(place)] for place in places], mapped.features["crea"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(readable, max_size=4), min_size=8, max_size=8), st.sampled_from(["first", "last"]))
def test_where_all_can_be_read_it_is_the_first_or_the_last_in_any_order(every: list[list[One]], takes: str) -> None:
    found, told = made(every, takes)
    assert found == [direct(tuple(map(_only, of)), takes) or "" for of in every]
    assert made([of[::-1] for of in every], takes)[0] == found
    assert told.usable + told.missing + told.not_a_number + told.unmapped.total() == len(every)
    assert told.not_a_number == 0


def _only(one: One) -> One | None:
    (found,) = worlds(one)
    return found


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.lists(readable, max_size=2), st.lists(doubtful, max_size=2)), min_size=8, max_size=8),
    st.sampled_from(["first", "last"]),
)  # fmt: skip
def test_a_category_that_is_said_is_the_same_in_every_world(
    patients: list[tuple[list[One], list[One]]], takes: str
) -> None:
    every = [[*known, *doubts] for known, doubts in patients]
    found, told = made(every, takes)
    for category, of in zip(found, every, strict=True):
        possible = {direct(world, takes) for world in itertools.product(*map(worlds, of))}
        assert not category or possible == {category}, (category, possible, of)
    assert told.usable + told.missing + told.not_a_number + told.unmapped.total() == len(every)
