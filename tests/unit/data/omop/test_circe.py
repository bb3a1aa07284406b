"""Cohort definitions of ATLAS: what is supported is read, and everything else is refused by its name."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from consilium.core.errors import MappingInvalid
from consilium.data.omop import circe, entering

DEFINITION: dict[str, Any] = {
    "cdmVersionRange": ">=5.0.0",
    "ConceptSets": [
        {"id": 0, "name": "drug", "expression": {"items": [
            {"concept": {"CONCEPT_ID": 20, "CONCEPT_NAME": "drug"}, "includeDescendants": True, "includeMapped": False},
        ]}},
    ],
    "PrimaryCriteria": {
        "CriteriaList": [{"DrugEra": {"CodesetId": 0, "First": True, "AgeAtStart": {"Value": 16, "Op": "gte"}}}],
        "ObservationWindow": {"PriorDays": 365, "PostDays": 0},
        "PrimaryCriteriaLimit": {"Type": "First"},
    },
    "AdditionalCriteria": {"Type": "ALL", "CriteriaList": [{
        "Criteria": {"ConditionOccurrence": {}},
        "StartWindow": {"Start": {"Days": 30, "Coeff": -1}, "End": {"Days": None, "Coeff": 1}},
        "Occurrence": {"Type": 2, "Count": 1, "IsDistinct": False},
    }], "DemographicCriteriaList": [], "Groups": []},
    "QualifiedLimit": {"Type": "First"}, "ExpressionLimit": {"Type": "First"}, "InclusionRules": [],
    "EndStrategy": {}, "CensoringCriteria": [], "CensorWindow": {},
}  # fmt: skip
DRUG = ("PrimaryCriteria", "CriteriaList", 0, "DrugEra")
RELATED = ("AdditionalCriteria", "CriteriaList", 0)


def changed(place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    made: Any = copy.deepcopy(DEFINITION)
    inner = made
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return made


def read(given: Any, folder: Path) -> circe.Expression:
    (folder / "c.json").write_text(json.dumps(given))
    return circe.load(folder / "c.json", "c.json", "circe")


def test_what_is_supported_is_read(tmp_path: Path) -> None:
    found = read(DEFINITION, tmp_path)
    assert found.domains() == {"drug_era", "condition"}
    assert found == read({"name": "as WebAPI gives it", "expression": DEFINITION}, tmp_path)
    assert found == read(changed((*DRUG, "Gender"), None), tmp_path)


UNSUPPORTED: list[tuple[tuple[str | int, ...], Any, str]] = [
    ((*DRUG, "OccurrenceCount"), {"Value": 2, "Op": "gt"}, "DrugEra.OccurrenceCount: is not supported"),
    ((*DRUG, "CorrelatedCriteria"), {"Type": "ALL"}, "DrugEra.CorrelatedCriteria: is not supported"),
    ((*DRUG, "CodesetId"), 7, "CodesetId 7 is the id of 0 ConceptSets"),
    (("PrimaryCriteria", "CriteriaList", 0), {"Specimen": {}}, "Specimen: is not supported"),
    (("PrimaryCriteria", "CriteriaList", 0), {}, "a criterion is one of"),
    (("PrimaryCriteria", "PrimaryCriteriaLimit"), {"Type": "Some"}, "PrimaryCriteriaLimit.Type"),
    ((*RELATED, "RestrictVisit"), True, "RestrictVisit: is not supported"),
    ((*RELATED, "Occurrence", "IsDistinct"), True, "IsDistinct: is not supported"),
    ((*RELATED, "Criteria"), {"VisitDetail": {}}, "VisitDetail: is not supported"),
    ((*RELATED, "Criteria"), {"DrugExposure": {"DrugTypeExclude": True}}, "DrugTypeExclude: is not supported"),
    (("CensoringCriteria",), [{"Death": {}}], "CensoringCriteria"),
    (("CensorWindow",), {"StartDate": "2020-01-01"}, "CensorWindow.StartDate: is not supported"),
    (("EndStrategy",), {"CustomEra": {"DrugCodesetId": 0}}, "EndStrategy.CustomEra: is not supported"),
    (("ConceptSets", 0, "expression", "items", 0, "includeMapped"), True, "includeMapped: is not supported"),
    (("Unheard",), 1, "Unheard: is not supported"),
    (("AdditionalCriteria", "Type"), "AT_LEAST", "Count is missing"),
    (("ExpressionLimit",), {"Type": "All"}, "CollapseSettings is missing"),
]


@pytest.mark.parametrize(("place", "value", "said"), UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, place: tuple[str | int, ...], value: Any, said: str
) -> None:
    with pytest.raises(MappingInvalid) as raised:
        read(changed(place, value), tmp_path)
    assert said in str(raised.value)


def test_no_key_of_a_definition_is_passed_over(tmp_path: Path) -> None:
    """A key that nobody knows, at any place that holds keys, is refused; concepts alone have more for people."""

    def places(value: Any, at: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
        found = [at] if isinstance(value, dict) and at[-1:] != ("concept",) else []
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return found + [one for key, inner in parts for one in places(inner, (*at, key))]

    every = places(DEFINITION, ())
    assert len(every) > 15
    for place in every:
        with pytest.raises(MappingInvalid, match=r"Strange: is not supported|a criterion is one of"):
            read(changed((*place, "Strange"), {"Value": 1}), tmp_path)


def test_what_is_no_definition_is_said(tmp_path: Path) -> None:
    deep: Any = {"Type": "ALL"}
    for _ in range(200):
        deep = {"Type": "ALL", "Groups": [deep]}
    for given, said in ((deep, "nest too deeply"), ([], "c.json"), (1, "c.json")):
        with pytest.raises(MappingInvalid, match=said):
            read(changed(("AdditionalCriteria",), given) if given is deep else given, tmp_path)
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(MappingInvalid, match="is no JSON"):
        circe.load(tmp_path / "c.json", "c.json", "circe")


def test_nothing_of_a_definition_becomes_sql_but_numbers_and_dates(tmp_path: Path) -> None:
    given = changed((*DRUG, "EraStartDate"), {"Value": "2020-01-01'; DROP", "Op": "gt"})
    with pytest.raises(MappingInvalid, match="EraStartDate"):
        read(given, tmp_path)
    given = changed((*DRUG, "EraStartDate"), {"Value": "2020-01-31", "Extent": "2021-01-01", "Op": "!bt"})
    made = entering.sql(read(given, tmp_path), {0: frozenset({20, 21})})
    assert "NOT (CAST(e.drug_era_start_date AS DATE) BETWEEN DATE '2020-01-31' AND DATE '2021-01-01')" in made
    assert "IN (20, 21)" in made
