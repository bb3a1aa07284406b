"""One contract, compiled: an ODCS document, Croissant metadata, a FHIR view and an OMOP query of its records.

Sources: Open Data Contract Standard 3.1.0 (Bitol); Croissant 1.1 (MLCommons); SQL on FHIR v2; OMOP CDM 5.4.
"""

from typing import Any

from consilium.core.contract import Contract, Feature, Image, Label
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.core.timed import TIMED
from consilium.data.bounds import EXACT, OPERATORS, STRANGE
from consilium.data.records import OIDS, SYSTEMS

Json = dict[str, Any]
FORMATS = ("odcs", "croissant", "fhir", "omop", "signature")
COLUMNS = ("patient", "system", "code", "taken", "value", "unit")
"""What view and query give, one row per record: as `records` of a mapping wants them."""
CODED = (*COLUMNS, "value_system", "value_code")
"""The same, of a contract with categories made of records."""
FINAL = ("final", "amended", "corrected")
"""Statuses of Observations that count."""
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
                ("window", of.window), ("aggregate", of.aggregate),
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


def view(contract: Contract) -> Json:
    """A ViewDefinition of the Observations that the contract's features are made of. Raises: StudyInvalid: of none.

    Components of Observations are records, too. A code without a system, a value that is no number and a record without
    a moment are rows: who makes features of them tells so.
    """
    codes = _codes(contract)
    known, any_ = _codings("code", codes), _codings("code", codes, unnamed=True)
    paths = {
        "system": f"{known}.first().system",
        "code": f"iif({known}.exists(), {known}.first().code, {any_}.first().code)",
        "value": _NUMBER, "unit": "value.ofType(Quantity).code",
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


_TAKEN = (
    "iif(effective.ofType(dateTime).exists(), effective.ofType(dateTime), "
    "iif(effective.ofType(instant).exists(), effective.ofType(instant), effective.ofType(Period).start))"
)
_CONCEPT = "value.ofType(CodeableConcept)"
_QUANTITY = "value.ofType(Quantity)"
NO_NUMBER, NO_CODE = "no number", "no code"
"""What stands for a value of another kind, lest its record look as if it had none."""
_NUMBER = (
    f"iif({_QUANTITY}.value.exists(), {_QUANTITY}.comparator & {_QUANTITY}.value.toString(), "
    "iif(value.ofType(integer).exists(), value.ofType(integer).toString(), "
    "iif(value.ofType(string).exists(), value.ofType(string), "
    f"iif(value.exists() and {_QUANTITY}.exists().not(), '{NO_NUMBER}'))))"
)
"""A number as text, with the comparator of one that is only a bound: `<5`."""


def _codings(of: str, codes: list[tuple[str, str]], unnamed: bool = False) -> str:
    """Those of its codings that are such a code. unnamed: or that do not say of which system theirs is."""
    same = " or ".join(f"({_of(system, unnamed)} and code = {_quoted(code)})" for system, code in codes)
    return f"{of}.coding.where({same})"


def _of(system: str, unnamed: bool) -> str:
    names = [system, *(f"urn:oid:{oid}" for oid, one in OIDS.items() if one == system)]
    told = " or ".join(f"system = {_quoted(name)}" for name in names)
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

    With categories among them, of the observations, too, and with coded values. A value of no concept is its text.

    Raises: StudyInvalid: it is made of none, or a code system is not known to have a vocabulary.
    """
    vocabularies = {uri: name for name, uri in SYSTEMS.items()}
    pairs = []
    for system, code in _codes(contract):
        if system not in vocabularies:
            raise StudyInvalid(f"{system} is not known as a vocabulary of OMOP", f"known are {', '.join(vocabularies)}")
        pairs.append(f"({_doubled(vocabularies[system])}, {_doubled(code)})")
    wanted = ",\n  ".join(pairs)
    said = "e.value_source_value"
    signs = " ".join(f"WHEN {concept} THEN '{sign}'" for concept, sign in OPERATORS.items())
    exact = " ".join(f"WHEN {concept} THEN ''" for concept in EXACT)
    sign = f"CASE COALESCE(e.operator_concept_id, 0) {exact} {signs} ELSE '{STRANGE}' END || "
    if not _values(contract):
        return _events("measurement", wanted, sign, said)
    measured = _events("measurement", wanted, sign, said, f"CASE WHEN e.value_as_number IS NULL THEN {said} END")
    said = "e.value_as_string"
    return f"{measured}\nUNION ALL\n{_events('observation', wanted, '', said, said)}"


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
        f"  COALESCE(e.{table}_datetime, CAST(e.{table}_date AS TIMESTAMP)) AS taken,\n"
        f"  CASE WHEN e.value_as_number IS NOT NULL THEN {sign}CAST(e.value_as_number AS VARCHAR)\n"
        f"    WHEN e.value_as_concept_id > 0 OR TRIM({said}) <> '' THEN '{NO_NUMBER}' END AS value,\n"
        f"  u.concept_code AS unit{meant if text else ''}\n"
        f"FROM {table} e\n"
        f"JOIN concept c ON c.concept_id = e.{table}_concept_id\n"
        + ("LEFT JOIN concept v ON v.concept_id = e.value_as_concept_id\n" if text else "")
        + "LEFT JOIN concept u ON u.concept_id = e.unit_concept_id\n"
        f"WHERE (c.vocabulary_id, c.concept_code) IN (\n  {wanted})"
    )


def _codes(contract: Contract) -> list[tuple[str, str]]:
    found = sorted({(one.system, one.code) for feature in contract.features for one in feature.codes})
    if not found:
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
