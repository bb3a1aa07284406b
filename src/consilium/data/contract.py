"""Apply a mapping: from the hospital's rows to the contract's table, counting everything that did not fit."""

import math
from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping as Known
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from consilium.core import survival
from consilium.core.contract import Contract, Feature, Label
from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.core.judging import Evaluation
from consilium.core.timed import TIMED
from consilium.data import choosing, coded, headers, pictures
from consilium.data.base import Floats, Note, Rows, Table
from consilium.data.bounds import UNREAD, bound
from consilium.data.choosing import Chosen, Left
from consilium.data.cohort import fold, held_out, validates
from consilium.data.counts import hidden
from consilium.data.doubts import Doubt, of_codes, of_number, of_points
from consilium.data.mapping import FeatureMap, LabelMap, Mapping, RecordsMap, normal, number
from consilium.data.moments import When
from consilium.data.pictures import Pictures
from consilium.data.records import Records, rounded, values
from consilium.data.strays import Strays, strays
from consilium.data.traps import Looks, comma, dated, look, placeholder
from consilium.data.units import conversion

NAN = float("nan")
Places = npt.NDArray[np.int64]


@dataclass
class Column:
    """What became of one column: every row is usable, missing, out of range, unmapped or not a number."""

    usable: int = 0
    missing: int = 0
    out_of_range: int = 0
    not_a_number: int = 0
    unmapped: Counter[str] = field(default_factory=Counter)
    converted: str = ""
    placeholders: Counter[str] = field(default_factory=Counter)  # of what is not a number: `?` and the like
    dates: int = 0  # of what is not a number
    commas: int = 0  # of what is not a number: `7,5` and the like
    bounds: Counter[str] = field(default_factory=Counter)  # of what is not a number: `<5` and the like
    unread: Counter[str] = field(default_factory=Counter)  # of what is not a number: records, by what they lack
    unused: tuple[str, ...] = ()  # codes of `local` that no record has
    nowhere: bool = False  # whether no record of the table has a code of it, of whatever patient and moment
    looks: Looks = field(default_factory=Looks)
    mapped: dict[str, float] = field(default_factory=dict)  # codes of the label that have a meaning
    recorded: bool = False  # whether it was made of records
    categories: dict[str, int] = field(default_factory=dict)  # of the contract, and how many rows have each
    gone: tuple[str, ...] = ()  # codes for missing that the mapping has for this column alone
    absent: bool = False  # whether the mapping says that there is no such column
    doubts: tuple[Doubt, ...] = ()  # what speaks against the mapping though its values fit
    beside: int = 0  # patients with a value who have records out of range, too
    mostly: int = 0  # those of whose records half are, or more
    column: str = ""  # of the source
    pictures: Pictures | None = None  # of images: what is seen of them
    time: tuple[str, ...] | None = None  # of a time-to-event, of whose time the looks are: its own codes for missing


@dataclass(frozen=True)
class Mapped:
    """A table, and what happened on the way: kept + without_label + incomplete + immature + excluded == read.

    Who opted out, and other entries of a patient, are not among those that were read.
    """

    table: Table
    read: int
    without_label: int
    incomplete: int
    features: dict[str, Column]
    label: Column
    left: Left = field(default_factory=Left)
    listed: int | None = None  # keys of the opt-out list; None: there is no list
    doubts: tuple[Note, ...] = ()  # of the rows
    strays: tuple[Strays, ...] = ()  # records that are nobody's, or of nothing


@dataclass(frozen=True)
class Made:
    """What was made of each row, next to the row: with the keys of patients, so it stays with who looks.

    columns, label: in the contract's terms; NaN is missing.   kept: who takes part.   why: of others, each reason in
    words, and whose it is; the first that holds counts.   index: of each patient the row, and the index moment.
    """

    mapping: Mapping
    contract: Contract
    patients: list[str]
    rows: Rows
    records: Known[str, Records]
    index: Known[str, tuple[int, When | None]]
    columns: dict[str, Floats]
    label: Floats
    kept: Chosen
    why: dict[str, Chosen]


def apply(
    mapping: Mapping, contract: Contract, evaluation: Evaluation, rows: Rows,
    records: Known[str, Records] | None = None, opted_out: int = 0, listed: int | None = None,
    look: Callable[[Made], None] | None = None,
) -> Mapped:  # fmt: skip
    """Map rows, and the records beside them.

    Args:    opted_out: how many patients are not among them.   listed: how many keys the list of these has.
             look: sees what was made of each row, for a person at the hospital.
    Raises:  MappingInvalid: a column is not there.   DataUnusable: a patient stands twice, or a patient has no key.
    """
    _check_header(mapping, rows)
    doubts = tuple(dict.fromkeys(doubt for one in (rows, *(each.rows for each in (records or {}).values()))
                                 for doubt in one.doubts))  # fmt: skip
    patients, moments, unsolved = _patients(mapping, rows), _moments(mapping, rows), rows.merged.unsolved
    lost = strays(records or {}, set(patients))
    if contract.index is not None:
        chosen = choosing.entries(patients, moments, contract.index.entry)
        rows, patients, when = choosing.at(rows, chosen.rows), [patients[row] for row in chosen.rows], chosen.when
    else:
        chosen, when = choosing.Entries([], [], 0, 0), [None] * len(rows)
        if len(set(patients)) < len(patients):
            several = sum(count > 1 for count in Counter(patients).values())
            raise DataUnusable(
                f"{hidden(several)} patients have more than one row",
                "give one row per patient, such as by GROUP BY in a query, which a file has as `type: tables`",
            )
    index = {patient: (row, when[row]) for row, patient in enumerate(patients)}
    always = frozenset(mapping.missing)
    counts = {feature.id: Column() for feature in contract.features}
    columns = {}
    for one in contract.features:
        given, told = mapping.features[one.id], counts[one.id]
        if isinstance(given, RecordsMap):
            assert records is not None
            made, told.recorded = coded.values if one.type == "category" else values, True
            columns[one.id] = made(one, given, records[given.records], index, always, told)
            told.doubts += tuple(of_codes(one, one.id, given.codes or {}))
        else:
            columns[one.id] = _feature(one, given, rows, always, told)
        told.categories = {name: int((columns[one.id] == at).sum()) for at, name in enumerate(one.categories or ())}
    if contract.image is not None:
        assert rows.image is not None
        columns[contract.image.id], seen = pictures.looked(contract.image, rows.image.astype(np.float64))
        counts[contract.image.id] = Column(seen.inside, seen.missing, seen.outside, pictures=seen)
    told = Column()
    label = _label(contract.label, mapping.label, rows, always, told)
    young = choosing.immature(contract, when, mapping.as_of)
    away = choosing.excluded(contract, columns, len(rows)) & ~young
    considered, labelled = ~young & ~away, ~np.isnan(label)
    complete = np.ones(len(rows), dtype=bool)
    for feature in contract.features:
        if feature.missing == "forbidden":
            complete &= ~np.isnan(columns[feature.id])
    if contract.image is not None:
        complete &= ~np.isnan(columns[contract.image.id][:, 0])
    kept = considered & labelled & complete
    if look is not None:
        why = {"its label is too young": young, "the contract excludes it": away, "without the label": ~labelled,
               "without what must not be missing": ~complete}  # fmt: skip
        look(Made(mapping, contract, patients, rows, records or {}, index, columns, label, kept, why))
    table = Table(
        {name: column[kept] for name, column in columns.items()}, label[kept], *_split(patients, kept, evaluation)
    )
    left = Left(opted_out, chosen.others, int(young.sum()), int(away.sum()), chosen.unordered, unsolved)
    lacking, incomplete = considered & ~labelled, considered & labelled & ~complete
    return Mapped(table, len(rows), int(lacking.sum()), int(incomplete.sum()), counts, told, left, listed, doubts, lost)


def _split(patients: list[str], kept: Chosen, asked: Evaluation) -> tuple[Chosen, Chosen, Places | None]:
    """Who of those that are kept is held out, who of the others chooses among models, and in which fold each is."""
    chosen = [patient for patient, one in zip(patients, kept, strict=True) if one]
    validation = np.array([validates(p) for p in chosen], dtype=bool)
    if asked.folds is None:
        test = np.array([held_out(p, asked.split_seed, asked.test_fraction) for p in chosen], dtype=bool)
        return test, validation & ~test, None
    parts = np.array([fold(p, asked.folds) for p in chosen], dtype=np.int64)
    return np.zeros(len(chosen), dtype=bool), validation, parts


def _moments(mapping: Mapping, rows: Rows) -> list[str | None]:
    return [] if mapping.index is None else rows.columns[mapping.index.column]


def _patients(mapping: Mapping, rows: Rows) -> list[str]:
    if mapping.patient.column is None:
        return [str(number) for number in range(len(rows))]
    keys = rows.columns[mapping.patient.column]
    if any(key is None or not key.strip() for key in keys):
        raise DataUnusable("some rows have no patient key", "complete the column, or write `patient: {row: true}`")
    return [choosing.spelt(key) for key in keys]


def _check_header(mapping: Mapping, rows: Rows) -> None:
    """Raises: MappingInvalid: a column is not there."""
    label, index, patient = mapping.label, mapping.index, mapping.patient.column
    wanted = {"label.column": label.column, **({"index.column": index.column} if index is not None else {})}
    wanted |= {"patient.column": patient} if patient is not None else {}
    wanted |= {"label.time.column": label.time.column} if label.time is not None else {}
    for one, given in mapping.features.items():
        wanted |= {f"features.{one}.column": given.column} if isinstance(given, FeatureMap) else {}
    there, query = [*rows.columns, *rows.others], bool(mapping.source.query)
    if not {name.casefold() for name in wanted.values()} & {name.casefold() for name in there}:
        raise MappingInvalid(
            "the table has none of the columns of this mapping",
            "correct their names, or let the source's query give them"
            if query
            else "correct their names, or write `header: false` and `columns` if its first line is a patient",
        )
    for where, name in wanted.items():
        if name not in rows.columns:
            raise headers.lacking(where, name, there, wanted.values(), query)


def _feature(feature: Feature, given: FeatureMap | str, rows: Rows, always: frozenset[str], told: Column) -> Floats:
    if isinstance(given, str):
        told.missing, told.absent = len(rows), True
        return np.full(len(rows), NAN)
    texts, told.column = rows.columns[given.column], given.column
    gone, told.gone = always | frozenset(given.missing), given.missing
    if feature.type == "number":
        assert feature.unit is not None and given.unit is not None
        units = (given.unit, feature.unit, given.analyte or feature.analyte)
        about = f"{feature.id} {feature.meaning} {given.column}"
        place = f"features.{feature.id}.unit"
        found = _numbers(texts, gone, units, feature.range, told, place, about, feature.resolution)
        told.doubts = (*of_number(feature, given, found), *of_points(texts, found, feature.range))
        return found
    assert feature.categories is not None and given.codes is not None
    told.doubts = tuple(of_codes(feature, given.column, given.codes))
    index = {code: float(number) for number, code in enumerate(feature.categories)}
    return _codes(texts, gone, {code: index[meaning] for code, meaning in given.codes.items()}, told)


def _label(label: Label, given: LabelMap, rows: Rows, always: frozenset[str], told: Column) -> Floats:
    texts, gone = rows.columns[given.column], always | frozenset(given.missing)
    told.gone, told.column = given.missing, given.column
    if given.codes is not None and label.type in ("binary", TIMED):
        told.doubts = tuple(of_codes(label, given.column, {code: f"{value:g}" for code, value in given.codes.items()}))
    if label.type == TIMED:
        return _timed(label, given, texts, rows, always, told)
    if given.codes is not None:
        values, told.mapped = _codes(texts, gone, given.codes, told), given.codes
    else:
        units = (given.unit or "1", label.unit or given.unit or "1", given.analyte)
        values = _numbers(texts, gone, units, label.range, told, "label.unit", _about(label, given.column))
        told.doubts += _doubted(label, given.column, units[0], given.analyte, values)
        if label.type == "count" and told.looks.same:  # nothing of what is counted may have happened
            told.looks = Looks(same=True)
    known = values[~np.isnan(values)]
    if label.type == "binary" and not np.all(np.isin(known, (0.0, 1.0))):
        raise MappingInvalid("label: a binary label is 0 or 1", "map each code to 0 or 1 in label.codes")
    if label.type == "count" and not np.all((known >= 0) & (known == np.floor(known))):
        raise MappingInvalid("label: a count is a whole number, 0 or more", "correct the column or the mapping")
    return values


def _about(label: Label, column: str) -> str:
    return f"{label.id} {label.meaning} {column}"


def _doubted(label: Label, column: str, unit: str, analyte: str | None, values: Floats) -> tuple[Doubt, ...]:
    """Doubts about the unit of a label, as if it were a feature."""
    if label.range is None or label.unit is None:
        return ()
    of = Feature(id=label.id, meaning=label.meaning, type="number", unit=label.unit, range=label.range)
    return tuple(of_number(of, FeatureMap(column=column, unit=unit, analyte=analyte), values))


def _timed(
    label: Label, given: LabelMap, texts: list[str | None], rows: Rows, always: frozenset[str], told: Column
) -> Floats:
    """Times and whether each ended with the event, joined; a row is counted by its time, and if it has one by its code.

    Raises: MappingInvalid: there is no such column, a unit does not fit, or a code means neither 0 nor 1.
    """
    assert given.time is not None and given.codes is not None and label.unit is not None
    if not set(given.codes.values()) <= {0.0, 1.0}:
        raise MappingInvalid("label: an event is 0 or 1", "map each code to 0 or 1 in label.codes")
    when = rows.columns[given.time.column]
    units, without = (given.time.unit, label.unit, None), always | frozenset(given.time.missing)
    time = _numbers(when, without, units, label.range, told, "label.time.unit")
    known, second = np.flatnonzero(~np.isnan(time)), Column()
    gone = always | frozenset(given.missing)
    event = _codes([texts[row] for row in known], gone, given.codes, second)
    told.usable, told.unmapped, told.missing = second.usable, second.unmapped, told.missing + second.missing
    told.not_a_number, told.unread = told.not_a_number + second.not_a_number, told.unread + second.unread
    told.placeholders = Counter()  # of the time, where findings speak of the event
    lost = frozenset(known[np.isnan(event)].tolist())  # their time counts for nothing, and is not looked at
    about, seen = _about(label, given.time.column), Column()
    counting = [None if row in lost else text for row, text in enumerate(when)]
    _numbers(counting, without, units, label.range, seen, "label.time.unit", about)
    told.looks, told.time = seen.looks, given.time.missing
    told.doubts += _doubted(label, given.time.column, given.time.unit, None, time)
    found = np.full(len(time), NAN)
    found[known] = np.where(np.isnan(event), NAN, survival.joined(time[known], event == 1))
    return found


def _numbers(
    texts: list[str | None], gone: frozenset[str], units: tuple[str, str, str | None],
    allowed: tuple[float, float] | None, told: Column, where: str, about: str = "", resolution: float | None = None,
) -> Floats:  # fmt: skip
    try:
        factor, offset = conversion(*units)
    except MappingInvalid as error:
        raise MappingInvalid(f"{where}: {error.message}", error.remedy) from error
    if units[0] != units[1]:
        told.converted = f"{units[0]} to {units[1]}"
    found, seen = np.full(len(texts), NAN), []
    for row, text in enumerate(texts):
        if text is None or normal(text) in gone:
            told.missing += 1
            continue
        try:
            value = number(text) * factor + offset
        except ValueError:
            value = NAN
        if not math.isfinite(value):
            told.not_a_number += 1
            told.placeholders.update([text.strip()] if placeholder(text) else [])
            told.dates += dated(text)
            told.commas += comma(text)
            told.bounds.update([text.strip()] if bound(text) else [])
            told.unread.update([UNREAD[text.strip()]] if text.strip() in UNREAD else [])
            continue
        value = value if resolution is None else rounded(value, resolution)
        seen.append((number(text), value))
        if allowed is not None and not allowed[0] <= value <= allowed[1]:
            told.out_of_range += 1
        else:
            found[row] = value
            told.usable += 1
    pairs = np.array(seen).reshape(-1, 2)
    told.looks = look(pairs[:, 0], pairs[:, 1], allowed, units, about)
    return found


def _codes(texts: list[str | None], gone: frozenset[str], codes: dict[str, float], told: Column) -> Floats:
    found = np.full(len(texts), NAN)
    for row, text in enumerate(texts):
        code = None if text is None else normal(text)
        if code is None or (code in gone and code not in codes):
            told.missing += 1
        elif code in codes:
            found[row] = codes[code]
            told.usable += 1
        elif code in UNREAD:
            told.not_a_number += 1
            told.unread[UNREAD[code]] += 1
        else:
            told.unmapped[code] += 1
    return found
