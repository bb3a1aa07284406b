"""The hospital's mapping: from its own columns, units and codes to a study's contract. Owned by the hospital."""

import math
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from consilium import yamlfile
from consilium.core.contract import Contract, Feature
from consilium.core.errors import MappingInvalid
from consilium.core.parts import Identifier, Slug
from consilium.core.records import COUNTED
from consilium.core.timed import TIMED
from consilium.data.omop.definition import PERSON, OmopPart
from consilium.data.part import Part
from consilium.data.source import TableSource
from consilium.data.units import ALIASES

PLACES = 40
"""So many digits before the point has a code that is a number, at most."""


def number(text: str) -> float:
    """As `float` reads it, but no `1_5`: what Python passes over is a slip of somebody's. Raises: ValueError."""
    if "_" in text:
        raise ValueError
    return float(text)


def normal(text: str) -> str:
    """Codes as they are compared: no blanks around, and `1.0`, `01` and `1` are one code.

    Whole numbers keep every digit: codes of SNOMED CT have up to 18.

    >>> [normal(code) for code in (" 1.0 ", "01", "M", ".7", "-0", "999000041000000103")]
    ['1', '1', 'M', '0.7', '0', '999000041000000103']
    """
    text = text.strip()
    try:
        value = number(text)
    except ValueError:
        return text
    if not math.isfinite(value) or abs(value) >= 10.0**PLACES:
        return text
    if not value:
        return "0"
    exact = Decimal(text)
    return str(int(exact)) if exact == exact.to_integral_value() else f"{value:.15g}"


Code = Annotated[str, BeforeValidator(str), AfterValidator(normal)]


class Patient(Part):
    """Which column names the patient; or `row: true` where each row is one patient and there is no key."""

    column: str | None = Field(None, description="column with the patient's key; one row per patient")
    row: bool = Field(False, description="each row is one patient, and there is no key")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Patient":
        if (self.column is None) == (not self.row):
            raise ValueError("give `column: NAME`, or `row: true` where each row is one patient")
        return self


class FeatureMap(Part):
    """Where a feature comes from: column, unit of a number or codes of a category, and codes for missing."""

    column: str = Field(description="column of the hospital's table")
    unit: str | None = Field(None, description="UCUM unit in this hospital's table")
    analyte: str | None = Field(None, description="substance, to convert between mass and amount")
    codes: dict[Code, Identifier] | None = Field(None, description="the hospital's code: category of the contract")
    missing: tuple[Code, ...] = Field((), description="codes for missing in this column, beside those of all columns")


class RecordsPart(Part):
    """A table with one row per record, such as a laboratory value: whose, when, of what code, which value and unit."""

    source: TableSource = Field(description="where the table is")
    patient: str = Field(description="column with the patient's key, as in the main table")
    code: str = Field(description="column with the record's code")
    system: str | None = Field(
        None, description="column with the code's system: its URI, or the name that OMOP has for it, such as LOINC"
    )
    time: str | None = Field(None, description="column with the moment (ISO 8601)")
    offset: str | None = Field(None, description="column with the time after the index moment, in place of `time`")
    offset_unit: Literal["min", "h", "d"] = Field("min", description="unit of `offset`")
    value: str | None = Field(None, description="column with the value; none where records are counted only")
    value_code: str | None = Field(
        None, description="column with the code of a coded value, of which categories are made; none given: `value`"
    )
    value_system: str | None = Field(
        None, description="column with that code's system: its URI, or the name that OMOP has for it, such as SNOMED"
    )
    unit: str | None = Field(None, description="column with the value's unit")
    units: dict[Annotated[str, BeforeValidator(str)], str] = Field(
        {}, description="the hospital's spelling of a unit: its UCUM unit"
    )
    concept_map: str | None = Field(
        None,
        description="file of a FHIR ConceptMap (JSON) from the hospital's codes, and its coded values, relative to the "
        "mapping",
    )
    missing: tuple[Code, ...] = Field((), description="codes for missing in the column of values, beside those of all")
    keys: Literal["alike", "exact"] | None = Field(
        None,
        description="of keys that are a patient's but for how they are written, as k012 and K-12: `alike`, they are "
        "that patient's, by letters and digits alone; `exact`, they are another's. None given: reading ends, and says "
        "so",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "RecordsPart":
        if (self.time is None) == (self.offset is None):
            raise ValueError("give `time`, or `offset` from the index moment")
        return self

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the table that are used."""
        used = (self.patient, self.code, self.system, self.time, self.offset, self.value, self.unit)
        return frozenset(filter(None, (*used, self.value_code, self.value_system)))


class RecordsMap(Part):
    """A feature that is made of records; their codes are those of the contract, and `local` ones that mean the same."""

    records: Identifier = Field(description="which of `records`")
    local: tuple[Annotated[str, BeforeValidator(str)], ...] = Field((), description="codes of the hospital's own")
    unit: str | None = Field(None, description="UCUM unit of records that name none")
    codes: dict[Code, Identifier] | None = Field(
        None, description="values of the hospital's own: category of the contract; beside the contract's own codes"
    )
    missing: tuple[Code, ...] = Field((), description="values that mean nothing is known, beside those of the records")
    none_here: bool = Field(
        False,
        description="a person has looked: the source would have such records, and there are none; what is counted is 0 "
        "then, and missing otherwise",
    )


def _kind(given: object) -> str:
    """Which of the three is meant, so that a fault is told of that one alone."""
    if isinstance(given, RecordsMap) or (isinstance(given, dict) and "records" in given):
        return "RecordsMap"
    return "absent" if isinstance(given, str) else "FeatureMap"


Given = Annotated[
    Annotated[FeatureMap, Tag("FeatureMap")]
    | Annotated[RecordsMap, Tag("RecordsMap")]
    | Annotated[Literal["absent"], Tag("absent")],
    Discriminator(_kind),
]
"""A feature of the contract: a column, records, or `absent`."""


class IndexMap(Part):
    """Where the index moment is."""

    column: str = Field(description="column of the main table with the moment (ISO 8601)")


class OptOut(Part):
    """Patients who do not want their data used: they are left out before anything else is read of them."""

    path: str = Field(description="file with one key of a patient on each line, relative to the mapping")
    nobody_here: bool = Field(
        False,
        description="a person has looked, and nobody of the list is in this table; otherwise it is refused where so",
    )
    others_alike: bool = Field(
        False,
        description="a person has looked, and patients whose keys are almost those of the list, such as k-2 and K-002, "
        "are others; otherwise they are refused",
    )


class TimeMap(Part):
    """Where the time of a time-to-event comes from."""

    column: str = Field(description="column of the hospital's table: how long the patient was observed")
    unit: str = Field(description="UCUM unit in this hospital's table")
    missing: tuple[Code, ...] = Field((), description="codes for missing in this column, beside those of all columns")


class LabelMap(Part):
    """Where the label comes from; `codes` maps the hospital's codes to numbers.

    Of a time-to-event, `column` and `codes` say whether the event happened, and `time` when, or until when it had not.
    """

    column: str = Field(description="column of the hospital's table")
    unit: str | None = Field(None, description="UCUM unit in this hospital's table")
    analyte: str | None = Field(None, description="substance, to convert between mass and amount")
    codes: dict[Code, float] | None = Field(
        None, description="the hospital's code: number; binary: 0 or 1; time-to-event: 1 for the event, 0 for none"
    )
    missing: tuple[Code, ...] = Field((), description="codes for missing in this column, beside those of all columns")
    time: TimeMap | None = Field(None, description="of a time-to-event: where its time is")


class Mapping(Part):
    """One hospital's mapping to one contract."""

    mapping: Literal[1] = Field(description="version of this format")
    contract: Slug = Field(description="`id` of the contract")
    source: TableSource = Field(description="where the table is")
    patient: Patient = Field(description="what a patient is in it")
    patients: Slug | None = Field(
        None, description="name of these patients in every extract and version: what was spent of their privacy counts"
    )
    missing: tuple[Code, ...] = Field(("",), description="codes for missing, in every column")
    index: IndexMap | None = Field(None, description="where the index moment is; a patient may then have several rows")
    as_of: date | None = Field(None, description="day on which the extract was made, for labels that mature")
    opt_out: OptOut | None = Field(None, description="who is left out, whatever the study")
    records: dict[Identifier, RecordsPart] = Field({}, description="tables with one row per record, by name")
    unconfirmed: tuple[str, ...] = Field(
        (),
        description="what `consilium site map` proposed and no person has confirmed, such as features.age: remove each "
        "once it is right; nothing is checked or trained before none is left",
    )
    features: dict[Identifier, Given] = Field(
        description="each feature of the contract: a column, or records; `absent` where the hospital has none"
    )
    label: LabelMap = Field(description="what the model learns to predict")

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the hospital's table that are used."""
        return frozenset(_columns(self.model_dump(exclude={"source", "records"})))


def _columns(part: Any) -> Iterator[str]:
    """What stands under `column`, wherever that is."""
    for key, value in part.items() if isinstance(part, dict) else ():
        if key == "column" and isinstance(value, str):
            yield value
        yield from _columns(value)


def load(path: Path, contract: Contract) -> Mapping:
    """Read a mapping and check that it fits the contract.

    Raises: MappingInvalid: names line, value and remedy.
    """
    mapping = yamlfile.load(path, Mapping, MappingInvalid)
    if mapping.unconfirmed:
        raise MappingInvalid(
            f"{path.name}: unconfirmed: what was proposed waits for a person: {', '.join(mapping.unconfirmed)}",
            "look at each, correct what is not right, and remove its name from `unconfirmed`",
        )
    if contract.image is not None and mapping.source.type != "dicom":
        raise MappingInvalid("source.type: the contract wants an image", "dicom reads images, and checks what they are")
    problems = list(_problems(mapping, contract))
    if problems:
        raise MappingInvalid("\n".join(f"{path.name}: {problem}" for problem in problems))
    return mapping


def _problems(mapping: Mapping, contract: Contract) -> "list[str]":
    found = []
    if mapping.contract != contract.id:
        found.append(f"contract: this mapping is for {mapping.contract!r}, the study needs {contract.id!r}")
    known = {feature.id: feature for feature in contract.features}
    found += [
        f"features.{name}: the contract has no such feature; remove it"
        for name in mapping.features
        if name not in known
    ]
    for name, feature in known.items():
        given = mapping.features.get(name)
        if given is None:
            found.append(f"features.{name}: is missing; map it, or write `{name}: absent`")
        elif given == "absent":
            if feature.missing == "forbidden":
                found.append(f"features.{name}: the contract does not allow this feature to be absent")
        elif isinstance(given, RecordsMap):
            found += _records_problems(name, feature, given, mapping)
        elif feature.type == "number" and given.unit is None:
            found.append(f"features.{name}.unit: give the unit of this column; the contract wants {feature.unit}")
        elif feature.type == "category":
            wanted = feature.categories or {}
            if given.codes is None:
                found.append(f"features.{name}.codes: say which code means which of {', '.join(wanted)}")
            else:
                found += _strange(name, feature, given.codes)
    if contract.label.type == "number" and mapping.label.unit is None:
        found.append(f"label.unit: give the unit of this column; the contract wants {contract.label.unit}")
    if contract.label.type in ("binary", TIMED) and mapping.label.codes is None:
        found.append("label.codes: say which code means 0 and which means 1")
    if contract.label.type == TIMED and mapping.label.time is None:
        found.append(
            f"label.time: say in which column the time is, and its unit; the contract wants {contract.label.unit}"
        )
    if contract.label.type != TIMED and mapping.label.time is not None:
        found.append(f"label.time: the contract's label has no time, it is a {contract.label.type}; remove it")
    found += _version_problems(mapping, contract)
    return found + (_omop_problems(mapping, contract, mapping.source.omop) if mapping.source.omop else [])


def _records_problems(name: str, feature: Feature, given: RecordsMap, mapping: Mapping) -> list[str]:
    """What a feature of records lacks."""
    part, place = mapping.records.get(given.records), f"features.{name}.records"
    if part is None:
        return [f"{place}: {given.records!r} is none of `records`: {', '.join(mapping.records) or 'there are none'}"]
    if feature.aggregate is None:
        return [f"{place}: the contract does not say what is made of records; map it to a column"]
    category = feature.type == "category"
    if part.value is None and feature.aggregate not in COUNTED and not (category and part.value_code):
        return [f"records.{given.records}.value: name the column with the value, which {name} needs"]
    if given.none_here and feature.aggregate not in COUNTED:
        return [f"features.{name}.none_here: the contract wants a value, and no count; remove it"]
    if category and given.unit is not None:
        return [f"features.{name}.unit: a category has none; remove it"]
    if not category and given.codes is not None:
        return [f"features.{name}.codes: belong to a category, and the contract wants a number; remove them"]
    return _strange(name, feature, given.codes or {})


def _strange(name: str, feature: Feature, codes: dict[str, str]) -> list[str]:
    """Categories of a mapping that are none of the contract's."""
    wanted = feature.categories or {}
    strange = sorted({meaning for meaning in codes.values() if meaning not in wanted})
    return [f"features.{name}.codes: {one!r} is none of {', '.join(wanted)}" for one in strange]


def _version_problems(mapping: Mapping, contract: Contract) -> list[str]:
    """What version 2 of a contract needs, and what version 1 does not know."""
    found = []
    if contract.index is not None and mapping.index is None:
        found.append(f"index: say in which column the moment is: {contract.index.meaning}")
    if contract.index is None and mapping.index is not None:
        found.append("index: the contract has no index moment; remove it")
    if contract.label.maturity_days and mapping.as_of is None:
        found.append("as_of: say on which day the extract was made: labels mature, and younger patients are left out")
    if mapping.patient.row and (mapping.opt_out or mapping.records or mapping.index):
        found.append("patient.column: opt_out, records and index need the patients' keys; name their column")
    return found


def _omop_problems(mapping: Mapping, contract: Contract, omop: OmopPart) -> list[str]:
    """Columns that the source does not make, and units other than those in which it makes them."""
    numbers = {feature.id for feature in contract.features if feature.type == "number"}
    used: list[tuple[str, FeatureMap | LabelMap | TimeMap, bool]] = [
        (f"features.{name}", given, name in numbers)
        for name, given in mapping.features.items()
        if isinstance(given, FeatureMap)
    ]
    used.append(("label", mapping.label, contract.label.type in ("number", "count")))
    if mapping.label.time is not None:
        used.append(("label.time", mapping.label.time, True))
    found = []
    for place, given, number in used:
        made = omop.columns.get(given.column)
        if made is None and given.column != PERSON:
            found.append(
                f"{place}.column: source.omop.columns has no {given.column!r}; it has {', '.join(omop.columns)}"
            )
        elif made is not None and number and given.unit is not None:
            if made.gives is None:
                found.append(f"{place}: source.omop.columns.{given.column} gives codes and no number")
            elif ALIASES.get(given.unit, given.unit) != ALIASES.get(made.gives, made.gives):
                found.append(f"{place}.unit: source.omop.columns.{given.column} gives {made.gives}; write it here, too")
    return found
