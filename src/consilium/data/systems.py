"""Code systems by name, OID and URI; and what a hospital's own codes mean in them, by a ConceptMap."""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from consilium.core.errors import MappingInvalid

SYSTEMS = {
    "LOINC": "http://loinc.org", "SNOMED": "http://snomed.info/sct", "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "ICD10": "http://hl7.org/fhir/sid/icd-10", "ICD9CM": "http://hl7.org/fhir/sid/icd-9-cm",
    "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm", "ATC": "http://www.whocc.no/atc",
    "UCUM": "http://unitsofmeasure.org",
}  # fmt: skip
"""Names of vocabularies in OMOP, and the URIs that FHIR has for them."""
OIDS = {
    f"2.16.840.1.113883.6.{last}": SYSTEMS[name]
    for last, name in (
        (1, "LOINC"), (96, "SNOMED"), (90, "ICD10CM"), (3, "ICD10"), (103, "ICD9CM"), (88, "RxNorm"), (73, "ATC"),
        (8, "UCUM"),
    )
}  # fmt: skip
"""The same systems, as HL7 registered them."""
SAME = ("equivalent", "equal")
"""What a ConceptMap of R4 (`equivalence`) or R5 (`relationship`) says of codes that mean the same."""
Code = tuple[str, str]
Means = Mapping[Code, frozenset[Code]]
"""What codes of a hospital mean elsewhere."""


@lru_cache(maxsize=1024)
def uri(system: str) -> str:
    """The URI of a code system, of its name in OMOP or its OID; http and without a / at its end, as FHIR has them.

    >>> uri("LOINC"), uri("urn:oid:2.16.840.1.113883.6.96"), uri("https://loinc.org/"), uri("urn:ours")
    ('http://loinc.org', 'http://snomed.info/sct', 'http://loinc.org', 'urn:ours')
    """
    known = SYSTEMS.get(system, system)
    known = OIDS.get(known.removeprefix("urn:oid:"), known).rstrip("/")
    return f"http{known[5:]}" if known.startswith("https://") else known


def spellings(system: str) -> list[str]:
    """How sources write a code system: those of which `uri` makes the same, but for its name in OMOP.

    >>> spellings("http://loinc.org")[:3], spellings("urn:ours")
    (['http://loinc.org', 'http://loinc.org/', 'https://loinc.org'], ['urn:ours'])
    """
    known = uri(system)
    oids = [f"urn:oid:{oid}" for oid, one in OIDS.items() if one == known]
    if not known.startswith("http:"):
        return list(dict.fromkeys([system, known, *oids]))
    web = [f"{one}{end}" for one in (known, f"https{known[4:]}") for end in ("", "/")]
    return list(dict.fromkeys([*web, system, *oids]))


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
                        means = (uri(str(group["target"])), str(target["code"]))
                        systems.setdefault(uri(str(group.get("source", ""))), set()).add(means)
        return {
            (system, code): frozenset(means)
            for code, systems in found.items()
            for system, means in {"": set.intersection(*systems.values()), **systems}.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MappingInvalid(f"{where}: {path.name} is no FHIR ConceptMap", "give its JSON") from error
