"""Features made of records: of the contract's codes, within the window around the index moment, in its unit.

The same records give the same bits in whatever order and from whatever source they come. What cannot be converted is
never passed over: a patient with a record of unknown unit within the window has no value, and is counted. So is one
whose value may be that of a record which only bounds it (`<5`), is no number, or does not say when, or of which code
system, it is.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

from consilium.core.contract import Feature
from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.core.records import CHOSEN, COUNTED, SECONDS, seconds
from consilium.data import headers
from consilium.data.base import Floats, Rows
from consilium.data.bounds import bound, decides
from consilium.data.choosing import spelt
from consilium.data.mapping import RecordsMap, RecordsPart, normal, number
from consilium.data.moments import (
    DAY,
    ZONE,
    Days,
    Place,
    When,
    earlier,
    finite,
    inside,
    moment,
    placed,
    unordered,
    unzoned,
)
from consilium.data.readings import Reading, Readings, seen
from consilium.data.systems import Code, Means, uri
from consilium.data.traps import placeholder
from consilium.data.units import conversion

MOMENT, SYSTEM, CODE, WORD, BOUND, BESIDE = "moment", "system", "code", "word", "bound", "beside"
"""What keeps a record from being read, beside DAY and ZONE: that it has no such thing; a value that is no number, or
only a bound of one; or that its code has more beside it, as 2160-0^LN."""
AMID = re.compile(r"[\s^|~:#/\\]+")
"""What stands between a code, its words and its system where they are written in one text, as HL7 v2 does."""
MONTH, DATE, INDEX = "month", "date", "index"
"""And a moment of which the month or the year alone is known, or that is none; of the index, either of both."""
UNCODED = "(no code)"
"""The code of a drug's record that only refers to its drug."""
DIGITS = 9
"""Significant digits that survive a conversion there and back."""


@dataclass(frozen=True)
class Records:
    """A table of records that was read, and what the hospital's codes mean by its concept map."""

    part: RecordsPart
    rows: Rows
    where: str
    means: Means = field(default_factory=dict)

    @cached_property
    def readable(self) -> bool:
        """Whether any of its moments can be read: of what none can, the column is another one than that of moments."""
        texts = column(self, self.part.time or self.part.offset)
        return any(_reads(text, self.part.offset is not None) for text in texts)


@dataclass(frozen=True)
class Doubt:
    """A record that may be the one that counts, and cannot be read.

    place: its moment; None: it is not known.   side, limit: of a bound, where the value lies, and of what.
    """

    place: Place | None
    why: str
    text: str = ""
    side: str = ""
    limit: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A record of a feature's codes within its window, or one that may be.

    row: of the patient.   place: its moment; None: not known.   at: which record it is.   why: what keeps it from being
    read: MOMENT, DAY, ZONE, MONTH, DATE, SYSTEM, CODE, BESIDE, or nothing.
    """

    row: int
    place: Place | None
    at: int
    why: str = ""


@dataclass
class Cell:
    """What the records of one patient came to, of one feature."""

    found: list[tuple[float, float]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)  # their moments
    doubts: list[Doubt] = field(default_factory=list)
    readings: Readings = field(default_factory=Readings)
    strange: str = ""


def rounded(value: float, resolution: float) -> float:
    """The nearest multiple, in decimal: what a conversion changes in the last bits changes nothing.

    >>> rounded(1.0399999999999998, 0.01), rounded(6.5, 1.0)
    (1.04, 6.0)
    """
    step = Decimal(repr(resolution))
    return float((Decimal(f"{value:.{DIGITS}g}") / step).to_integral_value() * step)


def values(
    feature: Feature, given: RecordsMap, records: Records, index: Mapping[str, tuple[int, When | None]],
    always: frozenset[str], told: Any,
) -> Floats:  # fmt: skip
    """The feature, one number per patient; NaN where there is none.

    Args:    index: per patient, its row and its index moment.   told: counts, by what became of each patient.
    Raises:  MappingInvalid: a column is not there.   DataUnusable: a moment cannot be read.
    """
    cells = [Cell() for _ in index]
    part = records.part
    value, unit = column(records, part.value), column(records, part.unit)
    for one in within(feature, given, records, index):
        _add(feature, given, records, cells[one.row], one, value[one.at], unit[one.at], always)
    found = np.full(len(cells), math.nan)
    unknown = {row for row, when in index.values() if when is None and part.offset is None}
    vague = undated(index, part)
    if feature.aggregate in COUNTED and not given.none_here and not _there(feature, given, records):
        unknown, told.nowhere = set(range(len(cells))), True
    for row, cell in enumerate(cells):
        if row in vague:
            told.not_a_number += 1
            told.unread[INDEX] += 1
        elif cell.strange:
            told.unmapped[cell.strange] += 1
        elif doubts := _deciding(feature, cell):
            _doubted(told, doubts)
        elif cell.found or (feature.aggregate in COUNTED and row not in unknown):
            found[row] = _aggregated(feature, cell)
            told.usable += 1
        elif cell.readings.outside:
            told.out_of_range += 1
        else:
            told.missing += 1
    told.unused = unused(given, records)
    noticed = seen(feature, part.value or "", [cell.readings for cell in cells], found)
    told.looks, told.doubts = noticed.looks, noticed.doubts
    told.beside, told.mostly = noticed.beside, noticed.mostly
    return found


def undated(index: Mapping[str, tuple[int, When | None]], part: RecordsPart) -> frozenset[int]:
    """Rows of patients of whom nobody knows on which day the window begins."""
    return frozenset(row for row, when in index.values() if isinstance(when, Days) and part.offset is None)


def _doubted(told: Any, doubts: list[Doubt]) -> None:
    """Count a patient once, by what is wrong with the records."""
    told.not_a_number += 1
    why = min(one.why for one in doubts)
    text = min(one.text for one in doubts if one.why == why)
    if why == BOUND:
        told.bounds[text] += 1
    elif why != WORD:
        told.unread[why] += 1
    elif placeholder(text):
        told.placeholders[text] += 1


def _there(feature: Feature, given: RecordsMap, records: Records) -> bool:
    """Whether some record of the table means the feature: else nobody knows whether the source has such records."""
    codes, local, part = {(uri(one.system), one.code) for one in feature.codes}, frozenset(given.local), records.part
    pairs = set(zip(column(records, part.code), column(records, part.system)))
    return any(_means(code, system, part, codes, local, records.means) == "" for code, system in pairs)


def unused(given: RecordsMap, records: Records) -> tuple[str, ...]:
    """Codes of the hospital's own that no record of the table has. Raises: MappingInvalid: there is no such column."""
    there = {(code or "").strip() for code in column(records, records.part.code)} if given.local else set()
    return tuple(sorted(set(given.local) - there))


def within(
    feature: Feature, given: RecordsMap, records: Records, index: Mapping[str, tuple[int, When | None]]
) -> Iterator[Seen]:
    """Records of the feature's codes within its window, and those that may be.

    A patient without an index moment, or without the day of it, has no window, and no records in it.

    Raises: MappingInvalid: a column is not there.   DataUnusable: no moment of the table can be read.
    """
    part = records.part
    codes = {(uri(one.system), one.code) for one in feature.codes}
    local = frozenset(given.local)
    patients, coded, systems = (column(records, name) for name in (part.patient, part.code, part.system))
    when = column(records, part.time or part.offset)
    assert feature.window is not None
    lacking = dict[tuple[str | None, str | None], str | None]()
    for row, patient in enumerate(patients):
        known = index.get(spelt(patient))
        if known is None or (part.offset is None and (known[1] is None or isinstance(known[1], Days))):
            continue
        uncoded = feature.recorded == "drug" and coded[row] == UNCODED
        pair = coded[row], systems[row]
        if pair not in lacking:
            lacking[pair] = _means(*pair, part, codes, local, records.means)
        lacks = CODE if uncoded else lacking[pair]
        if lacks is None:
            continue
        place, within_it, why = _placed(records, when[row], known[1], feature)
        if within_it is None:
            yield Seen(known[0], place, row, why)
        elif within_it:
            yield Seen(known[0], place, row, lacks if uncoded else why or lacks)


def _means(code: str | None, system: str | None, part: RecordsPart, codes: set[Code], local: frozenset[str],
           means: Means) -> str | None:  # fmt: skip
    """Whether a code means the feature: "", or what it lacks to be known to; None: it means something else."""
    if code is None:
        return None
    code, system = code.strip(), (system or "").strip()
    if code in local:
        return ""
    full = (uri(system), code)
    if full in codes or not codes.isdisjoint(means.get(full, ())):
        return ""
    if not system and any(code == one for _, one in codes):
        # A table without a column of systems may hold the contract's own codes, or those of its concept map.
        return "" if part.system is None else SYSTEM
    parts = AMID.split(code)
    same = (uri(system),) if system else (of for of, _ in codes)
    return BESIDE if len(parts) > 1 and not codes.isdisjoint((of, one) for of in same for one in parts) else None


def _placed(
    records: Records, text: str | None, index: When | None, feature: Feature
) -> tuple[Place | None, bool | None, str]:
    """The place of a moment; whether it is within the window, None where that is not known; and what it lacks.

    Raises: DataUnusable: it cannot be read, and no other of the table.
    """
    part, window = records.part, feature.window
    assert window is not None
    if text is None or not text.strip():
        return None, None, MOMENT
    try:
        if part.offset is not None:
            after = finite(number(text) * SECONDS[part.offset_unit])
            first, last = (None if end is None else seconds(end) for end in window)
            return Place(after, after), (first is None or first <= after) and (last is None or after <= last), ""
        if index is None or isinstance(index, Days):
            return None, None, MOMENT
        when = moment(text)
        within_it = inside(window, when, index)
        vague = MONTH if isinstance(when, Days) else ZONE if unzoned(when, index) else ""
        if vague:
            return placed(when, index), within_it, vague if within_it is None or feature.aggregate in CHOSEN else ""
        return (None, None, DAY) if within_it is None else (placed(when, index), within_it, "")
    except ValueError:
        if records.readable:
            return None, None, DATE
        name = "offset" if part.offset is not None else "time"
        raise DataUnusable(
            f"{records.where}.{name}: some are no {'numbers' if name == 'offset' else 'moments in ISO 8601'}",
            "correct the column, or convert it in the source's query",
        ) from None


def _reads(text: str | None, offset: bool) -> bool:
    with suppress(ValueError):
        return (
            text is not None and bool(text.strip()) and (finite(number(text)) if offset else moment(text)) is not None
        )
    return False


def _add(feature: Feature, given: RecordsMap, records: Records, cell: Cell, seen: Seen, text: str | None,
         unit: str | None, always: frozenset[str]) -> None:  # fmt: skip
    part, place = records.part, seen.place
    counted = feature.aggregate in COUNTED
    if not counted and (text is None or normal(text) in always.union(part.missing, given.missing)):
        return
    if place is None or seen.why:
        cell.doubts.append(Doubt(place, seen.why))
        return
    if counted or text is None:
        cell.found.append((place.after, 1.0))
        return
    bounded = bound(text)
    try:
        given_number = bounded[1] if bounded else number(text)
    except ValueError:
        given_number = math.nan
    if not math.isfinite(given_number):
        cell.doubts.append(Doubt(place, WORD, text.strip()))
        return
    told = (unit or "").strip()
    named = part.units.get(told, told) or given.unit or ""
    try:
        factor, offset = conversion(named, str(feature.unit), feature.analyte)
    except MappingInvalid:
        cell.strange = f"unit {told}" if told else "no unit"
        return
    value = given_number * factor + offset
    if not math.isfinite(value):
        cell.doubts.append(Doubt(place, WORD, text.strip()))
        return
    value = value if feature.resolution is None else rounded(value, feature.resolution)
    if bounded:
        cell.doubts.append(Doubt(place, BOUND, text.strip(), bounded[0], value))
        return
    within_it = feature.range is None or feature.range[0] <= value <= feature.range[1]
    cell.readings.add(named, Reading(value, given_number), within_it)
    if not within_it:
        return
    cell.found.append((place.after, value))
    cell.places.append(place)


def may_be(take: str, place: Place | None, found: Collection[Place]) -> bool:
    """Whether a record of this moment may be the first, or the last, where these were found."""
    if place is None:
        return True
    return not any(earlier(one, place) if take == "first" else earlier(place, one) for one in found)


def _deciding(feature: Feature, cell: Cell) -> list[Doubt]:
    """The records without which the feature is not known."""
    take, best = str(feature.aggregate), _aggregated(feature, cell) if cell.found else None
    if take in CHOSEN:
        edge = (min if take == "first" else max)(cell.found)[0] if cell.found else None
        if edge is not None and (why := unordered(edge, cell.places)):
            return [*cell.doubts, Doubt(None, why)]
        return [one for one in cell.doubts if may_be(take, one.place, cell.places)]
    if take in ("min", "max"):
        return [one for one in cell.doubts if one.why != BOUND or decides(take, one.side, one.limit, best)]
    return [] if take == "any" and cell.found else cell.doubts


def _aggregated(feature: Feature, cell: Cell) -> float:
    """One number of the records; of several at one moment, the first is the smallest and the last the largest."""
    numbers = [value for _, value in cell.found]
    match feature.aggregate:
        case "count":
            return float(len(numbers))
        case "any":
            return float(bool(numbers))
        case "first" | "last":
            return (min if feature.aggregate == "first" else max)(cell.found)[1]
        case "min" | "max":
            return (min if feature.aggregate == "min" else max)(numbers)
        case _:
            try:
                mean = math.fsum(numbers) / len(numbers)
            except OverflowError:  # the sum of finite numbers may be none
                mean = math.fsum(value / len(numbers) for value in numbers)
            return mean if feature.resolution is None else rounded(mean, feature.resolution)


def column(records: Records, name: str | None) -> list[str | None]:
    """A column of the records; of nothing, where the mapping names none. Raises: MappingInvalid: it is not there."""
    if name is None:
        return [None] * len(records.rows)
    if name in records.rows.columns:
        return records.rows.columns[name]
    raise headers.lacking(records.where, name, list(records.rows.columns), records.part.columns)
