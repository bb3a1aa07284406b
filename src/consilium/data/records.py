"""Features made of records: of the contract's codes, within the window around the index moment, in its unit.

The same records give the same bits in whatever order and from whatever source they come. What cannot be converted is
never passed over: a patient with a record of unknown unit within the window has no value, and is counted. So is one
whose value would be that of a record which only bounds it, such as `<5`.
"""

import json
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from consilium.core.contract import Feature
from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.core.records import CHOSEN, COUNTED, SECONDS, seconds
from consilium.data.base import Floats, Rows
from consilium.data.bounds import bound, decides
from consilium.data.mapping import RecordsMap, RecordsPart, normal, number
from consilium.data.traps import LEAST, Looks
from consilium.data.units import conversion

SYSTEMS = {
    "LOINC": "http://loinc.org", "SNOMED": "http://snomed.info/sct", "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD10": "http://hl7.org/fhir/sid/icd-10", "ICD9CM": "http://hl7.org/fhir/sid/icd-9-cm",
    "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm", "ATC": "http://www.whocc.no/atc",
    "UCUM": "http://unitsofmeasure.org",
}  # fmt: skip
"""Names of vocabularies in OMOP, and the URIs that FHIR has for them."""
SAME = ("equivalent", "equal")
"""What a ConceptMap of R4 (`equivalence`) or R5 (`relationship`) says of codes that mean the same."""
DIGITS = 9
"""Significant digits that survive a conversion there and back."""
Code = tuple[str, str]
Means = Mapping[Code, frozenset[Code]]
"""What codes of a hospital mean elsewhere."""


@dataclass(frozen=True)
class Records:
    """A table of records that was read, and what the hospital's codes mean by its concept map."""

    part: RecordsPart
    rows: Rows
    where: str
    means: Means = field(default_factory=dict)


@dataclass(frozen=True)
class Bound:
    """A record of whose value a bound is known: its moment, the side on which the value lies, of what, and its text."""

    after: float
    side: str
    limit: float
    text: str


@dataclass
class Cell:
    """What the records of one patient came to, of one feature."""

    found: list[tuple[float, float]] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    outside: int = 0
    words: int = 0
    strange: str = ""


def rounded(value: float, resolution: float) -> float:
    """The nearest multiple, in decimal: what a conversion changes in the last bits changes nothing.

    >>> rounded(1.0399999999999998, 0.01), rounded(6.5, 1.0)
    (1.04, 6.0)
    """
    step = Decimal(repr(resolution))
    return float((Decimal(f"{value:.{DIGITS}g}") / step).to_integral_value() * step)


@lru_cache(maxsize=4096)
def moment(text: str) -> datetime:
    """A moment in ISO 8601; one without time zone is of no zone. Raises: ValueError."""
    return datetime.fromisoformat(text.strip())


def between(later: datetime, earlier: datetime) -> float:
    """Seconds from one to the other.

    Raises: TypeError: one has a time zone and the other none.   ValueError: one is none of this calendar's in UTC.
    """
    try:
        if later.tzinfo is not None and earlier.tzinfo is not None:
            later, earlier = later.astimezone(UTC), earlier.astimezone(UTC)
        return (later - earlier).total_seconds()
    except OverflowError as error:
        raise ValueError from error


def finite(value: float) -> float:
    """The value. Raises: ValueError: it is infinite, or no number."""
    if not math.isfinite(value):
        raise ValueError
    return value


def concepts(path: Path, where: str) -> Means:
    """What codes mean by a FHIR ConceptMap of R4 or R5; without their system, what they mean in each that has them.

    Raises: MappingInvalid.
    """
    try:
        told = json.loads(path.read_bytes())
        if told.get("resourceType") != "ConceptMap":
            raise ValueError
        found: dict[str, dict[str, set[Code]]] = {}
        for group in told["group"]:
            for element in group["element"]:
                for target in element.get("target", []):
                    if target.get("relationship", target.get("equivalence")) in SAME:
                        systems = found.setdefault(element["code"], {})
                        means = (str(group["target"]), str(target["code"]))
                        systems.setdefault(str(group.get("source", "")), set()).add(means)
        return {
            (system, code): frozenset(means)
            for code, systems in found.items()
            for system, means in {"": set.intersection(*systems.values()), **systems}.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MappingInvalid(f"{where}: {path.name} is no FHIR ConceptMap", "give its JSON") from error


def values(
    feature: Feature, given: RecordsMap, records: Records, index: Mapping[str, tuple[int, datetime | None]],
    always: frozenset[str], told: Any,
) -> Floats:  # fmt: skip
    """The feature, one number per patient; NaN where there is none.

    Args:    index: per patient, its row and its index moment.   told: counts, by what became of each patient.
    Raises:  MappingInvalid: a column is not there.   DataUnusable: a moment cannot be read.
    """
    cells = [Cell() for _ in index]
    part = records.part
    value, unit = column(records, part.value), column(records, part.unit)
    for row, after, at in within(feature, given, records, index):
        _add(feature, given, records, cells[row], after, value[at], unit[at], always)
    found = np.full(len(cells), math.nan)
    for row, cell in enumerate(cells):
        if cell.strange:
            told.unmapped[cell.strange] += 1
        elif bounds := _deciding(feature, cell):
            told.not_a_number += 1
            told.bounds[min(one.text for one in bounds)] += 1
        elif cell.found or feature.aggregate in COUNTED:
            found[row] = _aggregated(feature, cell)
            told.usable += 1
        elif cell.outside:
            told.out_of_range += 1
        elif cell.words:
            told.not_a_number += 1
        else:
            told.missing += 1
    known = found[~np.isnan(found)]
    told.looks = Looks(same=len(known) >= LEAST and bool(np.all(known == known[0])))
    return found


def of_others(records: Records, patients: Container[str]) -> None:
    """Raises: DataUnusable: no record is of one of these patients, so that every count of records would be 0."""
    if not len(records.rows):
        raise DataUnusable(
            f"{records.where}: there is no record in it", "fetch it anew, or write `absent` for what is made of it"
        )
    if not any((patient or "").strip() in patients for patient in column(records, records.part.patient)):
        raise DataUnusable(
            f"{records.where}: none of its records is of a patient of the table",
            f"check its column {records.part.patient!r}: keys are spelt as in the table of the patients",
        )


def within(
    feature: Feature, given: RecordsMap, records: Records, index: Mapping[str, tuple[int, datetime | None]]
) -> Iterator[tuple[int, float, int]]:
    """Records of the feature's codes within its window: the patient's row, seconds after the index, and their place.

    Raises: MappingInvalid: a column is not there.   DataUnusable: a moment cannot be read.
    """
    part = records.part
    codes = {(one.system, one.code) for one in feature.codes}
    local = frozenset(given.local)
    patients, coded, systems = (column(records, name) for name in (part.patient, part.code, part.system))
    when = column(records, part.time or part.offset)
    assert feature.window is not None
    first, last = (None if end is None else seconds(end) for end in feature.window)
    for row, patient in enumerate(patients):
        known = index.get((patient or "").strip())
        if known is None or not _means(coded[row], systems[row], part, codes, local, records.means):
            continue
        after = _after(records, when[row], known[1])
        if after is not None and (first is None or first <= after) and (last is None or after <= last):
            yield known[0], after, row


def _means(code: str | None, system: str | None, part: RecordsPart, codes: set[Code], local: frozenset[str],
           means: Means) -> bool:  # fmt: skip
    if code is None:
        return False
    code, system = code.strip(), (system or "").strip()
    if code in local:
        return True
    full = (SYSTEMS.get(system, system), code)
    # A table without a column of systems may hold the contract's own codes, or those of its concept map.
    return (
        full in codes
        or not codes.isdisjoint(means.get(full, ()))
        or (part.system is None and any(code == one for _, one in codes))
    )


def _after(records: Records, text: str | None, index: datetime | None) -> float | None:
    """Seconds after the index; None where either is not known. Raises: DataUnusable."""
    part = records.part
    if text is None or not text.strip():
        return None
    try:
        if part.offset is not None:
            return finite(number(text) * SECONDS[part.offset_unit])
        return None if index is None else between(moment(text), index)
    except TypeError:
        raise DataUnusable(
            f"{records.where}.time: some moments have a time zone, and the index moments have none, or the reverse",
            "write all with their zone, or all without",
        ) from None
    except ValueError:
        name = "offset" if part.offset is not None else "time"
        raise DataUnusable(
            f"{records.where}.{name}: some are no {'numbers' if name == 'offset' else 'moments in ISO 8601'}",
            "correct the column, or convert it in the source's query",
        ) from None


def _add(feature: Feature, given: RecordsMap, records: Records, cell: Cell, after: float, text: str | None,
         unit: str | None, always: frozenset[str]) -> None:  # fmt: skip
    if feature.aggregate in COUNTED:
        cell.found.append((after, 1.0))
        return
    part = records.part
    if text is None or normal(text) in always.union(part.missing, given.missing):
        return
    spelt = (unit or "").strip()
    named = part.units.get(spelt, spelt) or given.unit or ""
    try:
        factor, offset = conversion(named, str(feature.unit), feature.analyte)
    except MappingInvalid:
        cell.strange = f"unit {spelt}" if spelt else "no unit"
        return
    bounded = bound(text)
    try:
        value = (bounded[1] if bounded else number(text)) * factor + offset
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        cell.words += 1
        return
    value = value if feature.resolution is None else rounded(value, feature.resolution)
    if bounded:
        cell.bounds.append(Bound(after, bounded[0], value, text.strip()))
        return
    if feature.range is not None and not feature.range[0] <= value <= feature.range[1]:
        cell.outside += 1
        return
    cell.found.append((after, value))


def _deciding(feature: Feature, cell: Cell) -> list[Bound]:
    """The bounds without whose numbers the feature is not known."""
    take, best = str(feature.aggregate), _aggregated(feature, cell) if cell.found else None
    if take in CHOSEN and cell.found:
        first = take == "first"
        moment = (min if first else max)(cell.found)[0]
        return [one for one in cell.bounds if (one.after <= moment if first else one.after >= moment)]
    if take in ("min", "max"):
        return [one for one in cell.bounds if decides(take, one.side, one.limit, best)]
    return cell.bounds


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
    raise MappingInvalid(
        f"{records.where}: the table has no column {name!r}", f"it has {', '.join(list(records.rows.columns)[:30])}"
    )
