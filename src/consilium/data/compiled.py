"""One contract, compiled: an ODCS document, Croissant metadata, a FHIR view and an OMOP query of its records.

Sources: Open Data Contract Standard 3.1.0 (Bitol); Croissant 1.1 (MLCommons).
"""

from typing import Any

from consilium.core.contract import Contract, Feature, Image, Label
from consilium.core.study import Study
from consilium.core.timed import TIMED
from consilium.data.fhir.compiled import view, views
from consilium.data.omop.compiled import omop

__all__ = ["FORMATS", "croissant", "odcs", "omop", "view", "views"]
Json = dict[str, Any]
FORMATS = ("odcs", "croissant", "fhir", "omop", "signature")
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
