"""One contract, compiled: an ODCS document, Croissant metadata, a FHIR view and an OMOP query of its records.

Sources: Open Data Contract Standard 3.1.0 (Bitol); Croissant 1.1 (MLCommons); SQL on FHIR v2; OMOP CDM 5.4.
"""

from dataclasses import dataclass
from typing import Any

from consilium.core.contract import Contract, Feature, Image, Label
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.core.timed import TIMED
from consilium.data.bounds import EXACT, NO_NUMBER, OPERATORS, STRANGE
from consilium.data.records import UNCODED
from consilium.data.systems import SYSTEMS, spellings, uri

Json = dict[str, Any]
FORMATS = ("odcs", "croissant", "fhir", "omop", "signature")
COLUMNS = ("patient", "system", "code", "taken", "value", "unit")
"""What view and query give, one row per record: as `records` of a mapping wants them."""
CODED = (*COLUMNS, "value_system", "value_code")
"""The same, of a contract with categories made of records."""
FINAL = ("final", "amended", "corrected")
"""Statuses of Observations that count."""


@dataclass(frozen=True)
class Kind:
    """Resources that say that something was there, without a value: which count, where their code and moment are."""

    resource: str
    where: str
    concept: str
    taken: tuple[str, ...]


def _status(*those: str, of: str = "status") -> str:
    return " or ".join(f"{of} = '{one}'" for one in those)


_DRUG = "(medication.ofType(CodeableConcept) | medication.concept)"
_WRONG = "verificationStatus.coding.where(code = 'entered-in-error' or code = 'refuted')"
_DONE = ("performed.ofType(dateTime)", "performed.ofType(Period).start", "occurrence.ofType(dateTime)",
         "occurrence.ofType(Period).start")  # fmt: skip
_GIVEN = ("effective.ofType(dateTime)", "effective.ofType(Period).start")
EVENTS = {
    "condition": (Kind(
        "Condition", f"{_WRONG}.exists().not()", "code",
        ("onset.ofType(dateTime)", "onset.ofType(Period).start", "recordedDate"),
    ),),
    "procedure": (Kind("Procedure", _status("completed", "in-progress", "stopped"), "code", _DONE),),
    "drug": (
        Kind("MedicationRequest", f"({_status('active', 'completed', 'stopped', 'on-hold', 'ended')}) and "
             "intent != 'proposal' and intent != 'plan' and (doNotPerform.exists().not() or doNotPerform = false)",
             _DRUG, ("authoredOn",)),
        Kind("MedicationAdministration", _status("completed", "in-progress", "stopped"), _DRUG,
             (*_GIVEN, "occurence.ofType(dateTime)", "occurence.ofType(Period).start")),
        Kind("MedicationStatement", _status("active", "completed", "stopped", "on-hold", "recorded"), _DRUG, _GIVEN),
    ),
}  # fmt: skip
"""By `recorded` of a feature, R4 and R5."""
OCCURRENCES = {
    "condition": ("condition_occurrence", "condition", "condition_start"),
    "procedure": ("procedure_occurrence", "procedure", "procedure"),
    "drug": ("drug_exposure", "drug", "drug_exposure_start"),
}
"""The same, of OMOP: the table, and how its columns of concepts and of moments begin."""
_CR = (
    "citeAs", "column", "extract", "equivalentProperty", "field", "fileObject", "fileProperty", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: Json = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"}, **{name: f"cr:{name}" for name in _CR},
}  # fmt: skip


def odcs(study: Study) -> Json:
    """The contract as an ODCS 3.1 document: what a data catalogue shows, and what a data team signs."""
    contract = study.contract
    whole = [
        {"metric": "rowCount", "mustBeGreaterOrEqualTo": study.min_patients, "description": "training patients"},
        {"type": "text", "description": "one row per patient"},
    ]
    said: Json = {"purpose": study.purpose.text, "usage": f"{study.title}; asked by {study.purpose.requester}"}
    limits = [_said(one.model_dump(exclude_defaults=True)) for one in contract.exclude]
    said |= {"limitations": f"excluded: {'; '.join(limits)}"} if limits else {}
    custom = {"contractHash": contract.digest, "studyName": study.name}
    custom |= {"indexMoment": f"{contract.index.meaning}; the {contract.index.entry} one"} if contract.index else {}
    return {
        "apiVersion": "v3.1.0", "kind": "DataContract", "id": contract.id, "name": contract.id,
        "version": f"{contract.version}", "status": "active", "description": said,
        "schema": [{
            "name": "patients", "logicalType": "object", "physicalType": "table", "quality": whole,
            "dataGranularityDescription": "one patient at one hospital",
            "properties": [_odcs(one, contract.image) for one in _all(contract)],
        }],
        "customProperties": _custom(custom),
    }  # fmt: skip


def _all(contract: Contract) -> list[Feature | Label]:
    return [*contract.inputs, contract.label]


def _odcs(of: Feature | Label, image: Image | None) -> Json:
    number = of.type in ("number", "count", TIMED)
    made: Json = {"name": of.id, "description": of.meaning, "logicalType": "number" if number else "string"}
    made["classification"] = "confidential"
    checks: list[Json] = []
    custom: Json = {"unitUcum": of.unit} if of.unit else {}
    if image is not None and of == image.feature:
        made["logicalType"] = "array"
        custom |= {"rows": image.rows, "columns": image.columns, "range": image.range}
    elif of.range is not None:
        made["logicalTypeOptions"] = {"minimum": of.range[0], "maximum": of.range[1]}
    if isinstance(of, Label):
        made["required"] = True
        custom |= {"role": "label", "maturityDays": of.maturity_days} if of.maturity_days else {"role": "label"}
        if of.type == "binary":
            checks.append(_among(["0", "1"]))
    else:
        made["required"] = of.missing == "forbidden"
        checks += [_among(list(of.categories))] if of.categories else []
        custom |= {
            name: value
            for name, value in (
                ("typical", of.typical), ("resolution", of.resolution), ("analyte", of.analyte),
                ("window", of.window), ("aggregate", of.aggregate), ("recorded", of.recorded),
                ("codes", [f"{one.system}|{one.code}" for one in of.codes]),
                ("values", [
                    f"{name}={one.system}|{one.code}" for name, several in of.values.items() for one in several
                ]),
            )
            if value
        }  # fmt: skip
    made |= {"quality": checks} if checks else {}
    return {**made, "customProperties": _custom(custom)}


def _among(codes: list[str]) -> Json:
    return {"metric": "invalidValues", "arguments": {"validValues": codes}, "mustBe": 0}


def _custom(values: Json) -> list[Json]:
    return [
        {"property": name, "value": list(value) if isinstance(value, tuple) else value}
        for name, value in values.items()
    ]


def _said(values: Json) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def croissant(study: Study) -> Json:
    """The contract as Croissant metadata: its fields. The table stays at each hospital, and is no file to be had."""
    contract = study.contract
    table = {
        "@type": "cr:FileObject", "@id": "table", "name": "table", "contentUrl": "table.csv",
        "encodingFormat": "text/csv", "description": "The table of one hospital. It stays there, and is not published.",
    }  # fmt: skip
    fields = [
        {
            "@type": "cr:Field", "@id": f"patients/{one.id}", "name": f"patients/{one.id}",
            "description": f"{one.meaning}{f' ({one.unit})' if one.unit else ''}",
            "dataType": "sc:Text" if one.type == "category" else "sc:Float",
            "source": {"fileObject": {"@id": "table"}, "extract": {"column": one.id}},
        }
        for one in _all(contract)
    ]  # fmt: skip
    return {
        "@context": CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": contract.id, "version": f"{contract.version}.0.0", "isLiveDataset": True,
        "description": f"{study.title}. {study.purpose.text} Contract {contract.digest}",
        "distribution": [table],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "patients", "name": "patients", "field": fields}],
    }  # fmt: skip


def views(contract: Contract) -> Json | list[Json]:
    """The ViewDefinition of the records that the contract's features are made of, or several of the same columns.

    A code without a system, a value that is no number and a record without a moment are rows: who makes features of
    them tells so.

    Raises: StudyInvalid: it is made of none.
    """
    _codes(contract)
    made = [view(contract)] if _codes(contract, "observation") else []
    names = CODED if _values(contract) else COLUMNS
    made += [one for kind, several in EVENTS.items() for one in _of_events(several, _codes(contract, kind), names)]
    return made[0] if len(made) == 1 else made


def _of_events(kinds: tuple[Kind, ...], codes: list[tuple[str, str]], names: tuple[str, ...]) -> list[Json]:
    """Views of records that have no value: a row for each coding that is one of the contract's."""
    made = []
    for kind in kinds if codes else ():
        same, drug = _codings(kind.concept, codes, unnamed=True), "medication" in kind.concept
        paths = dict.fromkeys(names, "iif(false, '')")
        paths |= {"patient": "subject.getReferenceKey(Patient)", "taken": _first(kind.taken)}
        columns = [one for one in _columns(paths) if one["name"] not in ("system", "code")]
        coded = [{"forEach": same, "column": _columns({"system": "system", "code": "code"})}]
        if drug:  # of which only the resource that is referred to has the code, or a text, or nothing
            nowhere = f"where({kind.concept}.coding.exists().not())"
            told = _columns({"system": "iif(false, '')", "code": f"'{UNCODED}'"})
            coded.append({"forEach": nowhere, "column": told})
        made.append({
            "resourceType": "ViewDefinition", "name": f"records_{kind.resource}", "status": "active",
            "resource": kind.resource, "where": [{"path": kind.where}],
            "select": [{"unionAll": coded}, {"column": columns}],
        })  # fmt: skip
    return made


def view(contract: Contract) -> Json:
    """A ViewDefinition of the Observations that the contract's features are made of. Raises: StudyInvalid: of none.

    Components of Observations are records, too.
    """
    codes = _codes(contract, "observation")
    known, any_ = _codings("code", codes), _codings("code", codes, unnamed=True)
    paths = {
        "system": f"{known}.first().system",
        "code": f"iif({known}.exists(), {known}.first().code, {any_}.first().code)",
        "value": _NUMBER, "unit": _UNIT,
    }  # fmt: skip
    if meant := _values(contract):
        paths |= _coded(_codings(_CONCEPT, meant))
    columns = _columns(paths)
    final = " or ".join(f"status = {_quoted(status)}" for status in FINAL)
    return {
        "resourceType": "ViewDefinition", "name": "records", "status": "active", "resource": "Observation",
        "where": [{"path": final}],
        "select": [
            {"column": _columns({"patient": "subject.getReferenceKey(Patient)", "taken": _TAKEN})},
            {"unionAll": [
                {"forEach": f"where({any_}.exists())", "column": columns},
                {"forEach": f"component.where({any_}.exists())", "column": columns},
            ]},
        ],
    }  # fmt: skip


def _columns(paths: dict[str, str]) -> list[Json]:
    return [{"name": name, "path": path, "type": "string"} for name, path in paths.items()]


def _first(paths: tuple[str, ...]) -> str:
    """The first of these that is there."""
    first, *rest = paths
    return f"iif({first}.exists(), {first}, {_first(tuple(rest))})" if rest else first


_TAKEN = _first(("effective.ofType(dateTime)", "effective.ofType(instant)", "effective.ofType(Period).start"))
_CONCEPT = "value.ofType(CodeableConcept)"
_QUANTITY = "value.ofType(Quantity)"
NO_CODE = "no code"
"""The same as `NO_NUMBER`, of a coded value."""
_NUMBER = (
    f"iif({_QUANTITY}.value.exists(), {_QUANTITY}.comparator & {_QUANTITY}.value.toString(), "
    "iif(value.ofType(integer).exists(), value.ofType(integer).toString(), "
    "iif(value.ofType(string).exists(), value.ofType(string), "
    f"iif(value.exists() and {_QUANTITY}.exists().not(), '{NO_NUMBER}'))))"
)
"""A number as text, with the comparator of one that is only a bound: `<5`."""


_UCUM = " or ".join(f"{_QUANTITY}.system = '{name}'" for name in spellings(SYSTEMS["UCUM"]))
_UNIT = (
    f"iif({_QUANTITY}.code.exists(), iif({_QUANTITY}.system.exists().not() or {_UCUM}, {_QUANTITY}.code, "
    f"{_QUANTITY}.system & '|' & {_QUANTITY}.code), {_QUANTITY}.unit)"
)
"""A unit of UCUM; of another system with its name, for its code may be one of UCUM that means something else; without a
code the words for people, so that what has a unit is never taken for what names none."""


def _codings(of: str, codes: list[tuple[str, str]], unnamed: bool = False) -> str:
    """Those of its codings that are such a code. unnamed: or that do not say of which system theirs is."""
    same = " or ".join(f"({_of(system, unnamed)} and code = {_quoted(code)})" for system, code in codes)
    return f"{of}.coding.where({same})"


def _of(system: str, unnamed: bool) -> str:
    told = " or ".join(f"system = {_quoted(name)}" for name in spellings(system))
    return f"({told}{' or system.empty()' if unnamed else ''})"


def _coded(known: str) -> dict[str, str]:
    """Paths of a coded value: of several codings one that the contract has, else the first; else its text."""
    any_ = f"{_CONCEPT}.coding.where(code.exists())"
    text = f"iif({_CONCEPT}.text.exists(), {_CONCEPT}.text, iif(value.exists(), '{NO_CODE}'))"
    text = f"iif(value.ofType(string).exists(), value.ofType(string), {text})"
    text = f"iif(value.ofType(boolean).exists(), value.ofType(boolean).toString(), {text})"
    return {
        "value_system": f"iif({known}.exists(), {known}.first().system, {any_}.first().system)",
        "value_code": f"iif({known}.exists(), {known}.first().code, iif({any_}.exists(), {any_}.first().code, {text}))",
    }


def omop(contract: Contract) -> str:
    """One SELECT of the measurements that the contract's features are made of, for DuckDB and PostgreSQL.

    And of the observations, with coded values where categories are among them: a value of no concept is its text. Of
    conditions, procedures and drugs the standard concept counts, and that of the source.

    Raises: StudyInvalid: it is made of none, or a code system is not known to have a vocabulary.
    """
    _codes(contract)
    parts = []
    if wanted := _pairs(_codes(contract, "observation")):
        parts += _measured(wanted, bool(_values(contract)))
    for kind, place in OCCURRENCES.items():
        if wanted := _pairs(_codes(contract, kind)):
            parts.append(_occurrences(*place, wanted, CODED if _values(contract) else COLUMNS))
    return "\nUNION ALL\n".join(parts)


def _pairs(codes: list[tuple[str, str]]) -> str:
    """SQL: vocabularies and codes. Raises: StudyInvalid: a code system is not known to have a vocabulary."""
    vocabularies = {one: name for name, one in SYSTEMS.items()}
    pairs = []
    for system, code in codes:
        if uri(system) not in vocabularies:
            raise StudyInvalid(f"{system} is not known as a vocabulary of OMOP", f"known are {', '.join(vocabularies)}")
        pairs.append(f"({_doubled(vocabularies[uri(system)])}, {_doubled(code)})")
    return ",\n  ".join(pairs)


def _occurrences(table: str, prefix: str, start: str, wanted: str, names: tuple[str, ...]) -> str:
    told = "".join(f", CAST(NULL AS VARCHAR) AS {name}" for name in names[4:])
    return (
        "SELECT e.person_id AS patient, c.vocabulary_id AS system, c.concept_code AS code,\n"  # noqa: S608  quoted above
        f"  {_moment(start, f'e.{prefix}_concept_id')} AS taken{told}\n"
        f"FROM {table} e\n"
        f"JOIN (SELECT * FROM concept WHERE (vocabulary_id, concept_code) IN (\n  {wanted})) c\n"
        f"  ON c.concept_id = e.{prefix}_concept_id OR c.concept_id = e.{prefix}_source_concept_id"
    )


def _moment(start: str, concept: str) -> str:
    """SQL: when a record was taken; its date alone where no record of its concept has a time but midnight.

    Source: by convention midnight stands where a source has none (https://github.com/OHDSI/Themis/issues/147).
    """
    exact = f"e.{start}_datetime"
    timed = f"bool_or(CAST(CAST({exact} AS TIMESTAMP) AS TIME) <> TIME '00:00:00') OVER (PARTITION BY {concept})"
    return f"COALESCE(CASE WHEN {timed}\n    THEN CAST({exact} AS VARCHAR) END, CAST(e.{start}_date AS VARCHAR))"


def _measured(wanted: str, coded: bool) -> list[str]:
    said = "e.value_source_value"
    signs = " ".join(f"WHEN {concept} THEN '{sign}'" for concept, sign in OPERATORS.items())
    exact = " ".join(f"WHEN {concept} THEN ''" for concept in EXACT)
    sign = f"CASE COALESCE(e.operator_concept_id, 0) {exact} {signs} ELSE '{STRANGE}' END || "
    text = f"CASE WHEN e.value_as_number IS NULL THEN {said} END"
    measured = _events("measurement", wanted, sign, said, text if coded else "")
    said = "e.value_as_string"
    return [measured, _events("observation", wanted, "", said, said if coded else "")]


_CONCEPT_UNIT = """CASE WHEN COALESCE(e.unit_concept_id, 0) = 0 THEN NULLIF(TRIM(e.unit_source_value), '')
    WHEN u.vocabulary_id = 'UCUM' THEN u.concept_code
    ELSE COALESCE(u.vocabulary_id, 'concept') || '|' ||
      COALESCE(u.concept_code, CAST(e.unit_concept_id AS VARCHAR)) END"""
"""SQL: the same of OMOP."""


def _events(table: str, wanted: str, sign: str, said: str, text: str = "") -> str:
    """One SELECT of a table of events.

    Args:    sign: SQL that is put before a number: the sign of one that is only a bound.
             said: SQL: the value as it was entered, of which it is seen whether there was one that is no number.
             text: SQL: what stands for a coded value that has no concept; empty: there are no coded values.
    """
    meant = (
        ",\n  CASE WHEN e.value_as_concept_id > 0 THEN v.vocabulary_id END AS value_system,\n"
        "  CASE WHEN e.value_as_concept_id > 0\n"
        "    THEN COALESCE(v.concept_code, CAST(e.value_as_concept_id AS VARCHAR))\n"
        f"    ELSE {text} END AS value_code"
    )
    return (
        "SELECT e.person_id AS patient, c.vocabulary_id AS system, c.concept_code AS code,\n"
        f"  {_moment(table, f'e.{table}_concept_id')} AS taken,\n"
        f"  CASE WHEN e.value_as_number IS NOT NULL THEN {sign}CAST(e.value_as_number AS VARCHAR)\n"
        f"    WHEN e.value_as_concept_id > 0 OR TRIM({said}) <> '' THEN '{NO_NUMBER}' END AS value,\n"
        f"  {_CONCEPT_UNIT} AS unit{meant if text else ''}\n"
        f"FROM {table} e\n"
        f"JOIN concept c ON c.concept_id = e.{table}_concept_id\n"
        + ("LEFT JOIN concept v ON v.concept_id = e.value_as_concept_id\n" if text else "")
        + "LEFT JOIN concept u ON u.concept_id = e.unit_concept_id\n"
        f"WHERE (c.vocabulary_id, c.concept_code) IN (\n  {wanted})"
    )


def _codes(contract: Contract, kind: str = "") -> list[tuple[str, str]]:
    """Codes of records of a kind; of all. Raises: StudyInvalid: there are none at all."""
    of = [one for one in contract.features if kind in ("", one.recorded or "observation")]
    found = sorted({(one.system, one.code) for feature in of for one in feature.codes})
    if not found and not kind:
        raise StudyInvalid("no feature of this contract is made of records", "give features `codes` and a `window`")
    return found


def _values(contract: Contract) -> list[tuple[str, str]]:
    """Codes of values, of which the contract's categories are made."""
    made = (several for feature in contract.features for several in feature.values.values())
    return sorted({(one.system, one.code) for several in made for one in several})


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _doubled(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
