"""Columns of an OMOP mapping: keys that say nothing are refused, and units are those of what the column gives."""

from typing import Any

import pytest
from pydantic import ValidationError

from consilium.core.study import Study
from consilium.data.mapping import Mapping, _problems
from consilium.data.omop.definition import ColumnPart
from unit.data.conftest import MAPPING

LAB: dict[str, Any] = {
    "family": "measurement", "concepts": [1], "window": [-1, 0], "take": "last", "unit": "mg/dL", "units": {0: "mg/dL"},
}  # fmt: skip
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"family": "age", "window": [0, 1]}, "`window` says nothing for family age"),
    ({"family": "age", "concepts": [1]}, "`concepts` says nothing"),
    ({"family": "condition", "window": [0, 1]}, "`concepts` are needed"),
    ({"family": "condition", "concepts": [1]}, "`window` is needed"),
    ({"family": "condition", "concepts": [1], "window": [2, 1]}, "ends before it begins"),
    ({"family": "condition", "concepts": [1], "window": [0, 1], "take": "mean"}, "`take` says nothing"),
    ({"family": "condition", "concepts": [1], "window": [0, None], "followed": True}, "a window that ends"),
    ({"family": "charlson", "window": [0, 1], "take": "count"}, "`take` says nothing"),
    ({"family": "cohort", "window": [0, 1]}, "`cohort` goes with"),
    ({"family": "cohort", "window": [0, 1], "cohort": {}}, "give `query`"),
    ({**LAB, "unit": None, "units": {}}, "`unit` is needed"),
    ({**LAB, "take": "count"}, "`unit` says nothing"),
    ({**LAB, "followed": True}, "`followed` says nothing"),
    ({**LAB, "concept_set": "s.json"}, "and not both"),
    ({**LAB, "unit": None, "units": {}, "value": "concept", "take": "max"}, "have no order"),
    ({**LAB, "familly": 1}, "familly"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_a_column_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ColumnPart.model_validate(given)


def test_a_unit_stands_in_both_places_and_is_the_same(study: Study) -> None:
    columns = {"AGE": {"family": "age"}, "GLUC": LAB, "TEMP": {**LAB, "unit": "Cel"}, "SEX": {"family": "gender"}}
    omop = {"version": "5.4", "cohort": {"query": "SELECT 1"}, "columns": columns}
    given = Mapping.model_validate({**MAPPING, "source": {"type": "omop", "path": "x", "omop": omop}})
    assert _problems(given, study.contract) == [
        "features.glucose.unit: source.omop.columns.GLUC gives mg/dL; write it here, too",
        "features.temp.unit: source.omop.columns.TEMP gives Cel; write it here, too",
        "label.column: source.omop.columns has no 'SICK'; it has AGE, GLUC, TEMP, SEX",
    ]
