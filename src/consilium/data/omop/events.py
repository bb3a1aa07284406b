"""Which of a person's records count, and what is made of them: computed here, and not by the database."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from consilium.core.records import CHOSEN
from consilium.data.bounds import NO_NUMBER, NO_TIME, SIGNS, STRANGE, decides
from consilium.data.coded import SEVERAL

Texts = dict[int, str]
"""By person; a person that is not there has no value."""


@dataclass(frozen=True)
class Event:
    """A record: its moment, a date where there is no time of day; what it says, and with which sign: `<` of a bound.

    meant: the concept that is its value, or 0.   sign: NO_NUMBER of a record that says something, and no number.
    text: the value as it was entered, of a record that has neither number nor concept.
    """

    person: int
    when: date
    number: Any
    meant: int
    unit: int
    sign: str
    text: str


Kept = tuple[float, str]
"""Of a record: its value and its sign."""


def _edges(events: Iterable[Event], take: str) -> dict[int, list[Event]]:
    """Per person the records of the first, or the last, day that has one."""
    kept: dict[int, list[Event]] = {}
    for event in events:
        of = kept.get(event.person)
        if of is None or _day(event) == _day(of[0]):
            kept.setdefault(event.person, []).append(event)
        elif (_day(event) < _day(of[0])) == (take == "first"):
            kept[event.person] = [event]
    return kept


def _day(event: Event) -> date:
    return event.when.date() if isinstance(event.when, datetime) else event.when


def _of_one_moment(of: list[Event], take: str) -> list[Event]:
    """Of the records of a day the first, or the last; nothing where nobody knows, for some have no time and others do.

    Without a time they are of one moment.
    """
    timed = [event for event in of if isinstance(event.when, datetime)]
    if len(timed) not in (0, len(of)):
        return []
    edge = (min if take == "first" else max)(event.when for event in of)
    return [event for event in of if event.when == edge]


def coded(events: Iterable[Event], take: str) -> Texts:
    """The concept of the first or the last record that has one; of a value that has only a text, this text."""
    found = {}
    for person, of in _edges((event for event in events if event.meant or event.text), take).items():
        said = {str(event.meant) if event.meant else event.text for event in _of_one_moment(of, take)}
        found[person] = next(iter(said)) if len(said) == 1 else SEVERAL if said else NO_TIME
    return found


def taken(events: Iterable[Event], take: str, value: Callable[[Event], float]) -> Texts:
    """What is made of values; where a mere bound of one decides, that bound, such as `<5.0`, which is no number."""
    if take in CHOSEN:
        return {person: _chosen(of, take, value) for person, of in _edges(events, take).items()}
    kept: dict[int, list[Kept]] = {}
    bounds: dict[int, list[Kept]] = {}
    for event in events:
        one = _kept(event, value)
        of = (bounds if event.sign else kept).setdefault(event.person, [])
        if take == "mean" or event.sign or not of:
            of.append(one)
        elif not math.isnan(of[0][0]):  # no number stays none, whatever comes before or after it
            of[0] = one if math.isnan(one[0]) else (min if take == "min" else max)(of[0], one)
    return {person: _text(take, kept.get(person, []), bounds.get(person, [])) for person in kept.keys() | bounds.keys()}


def _kept(event: Event, value: Callable[[Event], float]) -> Kept:
    return math.nan if event.number is None else value(event), event.sign


def _chosen(of: list[Event], take: str, value: Callable[[Event], float]) -> str:
    """Of the records of one day the first, or the last: of several at one moment the smallest, or the largest."""
    edge = _of_one_moment(of, take)
    if signed := sorted(_shown(*_kept(event, value)) for event in edge or of if event.sign):
        return signed[0]
    numbers = [value(event) for event in edge]
    if any(map(math.isnan, numbers)):
        return NO_NUMBER
    return repr((min if take == "first" else max)(numbers)) if numbers else NO_TIME


def _shown(limit: float, sign: str) -> str:
    return NO_NUMBER if sign == NO_NUMBER else f"{sign}{limit!r}"


def _text(take: str, of: list[Kept], bounds: list[Kept]) -> str:
    best = None if not of else math.fsum(value for value, _ in of) / len(of) if take == "mean" else of[0][0]
    if any(sign == NO_NUMBER for _, sign in bounds):
        return NO_NUMBER
    for limit, sign in sorted(bounds):
        if take == "mean" or sign == STRANGE or decides(take, SIGNS[sign[0]], limit, best):
            return _shown(limit, sign)
    return repr(best)
