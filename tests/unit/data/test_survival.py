"""A label of a time and an event: how it is mapped, counted, refused and checked."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from consilium.core import survival
from consilium.core.errors import MappingInvalid
from consilium.core.study import Study
from consilium.data import contract, quality
from consilium.data.base import Rows
from consilium.data.mapping import Mapping, _problems

NUMBER = {"type": "number", "unit": "1", "range": [0, 9], "missing": "forbidden"}
LABEL = {"id": "death", "meaning": "death", "type": "time-to-event", "unit": "d", "range": [0, 4000]}
TIME = {"column": "weeks", "unit": "wk", "missing": ["-1"]}
MAPPED = {"column": "died", "codes": {"yes": 1, "no": 0}, "missing": ["?"], "time": TIME}
TOLD: dict[str, Any] = {
    "consilium": 1, "name": "survival", "title": "Survival", "rounds": 5, "quorum": 3, "model": {"kind": "cox"},
    "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
    "contract": {"id": "survival", "features": [{"id": "x", "meaning": "x", **NUMBER}], "label": LABEL},
}  # fmt: skip

BINARY = TOLD["contract"] | {"label": {"id": "death", "meaning": "death", "type": "binary"}}
COMMON = {"strategy": {"name": "webdisco", "options": {"every": 30, "until": 3650}}, "sites": ("a", "b", "c")}


def study(**changes: Any) -> Study:
    return Study.model_validate({**TOLD, **changes})


def mapping(**label: Any) -> Mapping:
    return Mapping.model_validate({
        "mapping": 1, "contract": "survival", "source": {"type": "csv", "path": "t.csv"}, "patient": {"row": True},
        "features": {"x": {"column": "x", "unit": "1"}}, "label": {**MAPPED, **label},
    })  # fmt: skip


def applied(weeks: list[str | None], died: list[str | None], **label: Any) -> contract.Mapped:
    rows = Rows({"x": ["1"] * len(weeks), "weeks": weeks, "died": died})
    return contract.apply(mapping(**label), study().contract, study().evaluation, rows)


def test_time_and_event_become_one_number_in_the_contracts_unit() -> None:
    found = applied(["10", "10", "0", "0"], ["yes", "no", "yes", "no"]).table.label
    np.testing.assert_allclose(found, [70, -70, 0, 0])
    assert survival.times(found).tolist() == pytest.approx([70, 70, 0, 0])
    assert survival.events(found).tolist() == [True, False, True, False], "a time of 0 keeps whether it was an event"


def test_every_row_without_one_of_both_is_counted_once() -> None:
    weeks = ["10", None, "-1", "600", "x", "10", "10", "-1", "-4"]
    died = ["yes", "yes", "no", "no", "no", "?", "perhaps", "perhaps", "yes"]
    found = applied(weeks, died)
    told = found.label
    assert (told.usable, told.missing, told.out_of_range, told.not_a_number) == (1, 4, 2, 1)
    assert told.unmapped == {"perhaps": 1} and found.without_label == 8 and len(found.table.label) == 1
    assert told.converted == "wk to d"


@pytest.mark.parametrize(
    ("label", "words"),
    [({"time": None}, r"label\.time: say in which column the time is"), ({"codes": None}, "which code means 0")],
)
def test_a_mapping_without_time_or_codes_is_refused(label: dict[str, Any], words: str) -> None:
    (told,) = _problems(mapping(**label), study().contract)
    assert words.replace("\\", "") in told


def test_a_time_where_there_is_none_a_code_that_is_no_event_and_another_unit_are_refused() -> None:
    plain = study(model={"kind": "logistic"}, contract=BINARY)
    assert "label.time: the contract's label has no time" in _problems(mapping(), plain.contract)[0]
    with pytest.raises(MappingInvalid, match="an event is 0 or 1"):
        applied(["1"], ["yes"], codes={"yes": 2})
    with pytest.raises(MappingInvalid, match=r"label\.time\.unit"):
        applied(["1"], ["yes"], time={**TIME, "unit": "kg"})
    with pytest.raises(MappingInvalid, match=r"label\.time\.column: the table has no column 'week'"):
        applied(["1"], ["yes"], time={**TIME, "column": "week"})


def test_its_time_is_looked_at_as_a_column_of_numbers_is() -> None:
    """Times of rows without an event count for nothing; what to write is written beside the time."""
    weeks, died = [str(300 + n % 40) for n in range(60)], ["yes", "no"] * 30
    found = applied([*weeks, *["0"] * 22], [*died, *["?"] * 12, *["no"] * 10])
    (finding,) = quality.check(study(), found).label.findings
    assert (finding.kind, finding.count, finding.blocks) == ("code-for-missing", 10, True)
    assert (finding.place, finding.write) == ("label.time.missing", '["-1", "0"]') and "`time`" in finding.remedy
    assert not quality.check(study(), applied(weeks, died)).label.findings
    months = mapping(time={"column": "time_months", "unit": "d"})
    rows = Rows({"x": ["1"] * 60, "time_months": [str(n) for n in range(1, 61)], "died": died})
    (finding,) = quality.check(
        study(), contract.apply(months, study().contract, study().evaluation, rows)
    ).label.findings
    assert (finding.kind, finding.place, finding.write) == ("named-unit", "label.time", '{unit: "mo"}')


def test_the_check_tells_the_share_with_the_event() -> None:
    found = applied(["10"] * 40, ["yes"] * 15 + ["no"] * 25)
    assert quality.check(study(), found).prevalence == "37.5%"
    few = applied(["10"] * 40, ["yes"] * 3 + ["no"] * 37)
    assert quality.check(study(), few).prevalence.startswith("hidden")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contract": TOLD["contract"] | {"label": LABEL | {"unit": None}}}, "needs `unit` and `range` of the time"),
        ({"contract": TOLD["contract"] | {"label": LABEL | {"range": [-1, 5]}}}, "which begins at 0 or later"),
        ({"model": {"kind": "logistic"}}, "`model.kind` logistic predicts a binary label"),
        ({"model": {"kind": "torch", "architecture": "mlp"}}, "torch has no loss for a time-to-event label"),
        ({"model": {"kind": "cox", "options": {"ties": "exact"}}}, "one of efron, breslow"),
        ({"model": {"kind": "cox", "options": {"tie": "efron"}}}, "`options` of kind cox are"),
        ({"training": {"batch_size": 16}}, r"`training.batch_size` must be 0"),
        ({"privacy": {"epsilon": 3, "expected_patients": 90}}, "`model.kind` cox is not possible under `epsilon`"),
        (COMMON | {"sites": (), "quorum": 3}, "`quorum` must be all of the invited `sites`"),
        (COMMON | {"quorum": 3, "sites": ("a", "b", "c", "d")}, "`quorum` must be all of the invited `sites`"),
        (COMMON | {"rounds": 1}, "`rounds` must be 2 or more with webdisco"),
        (COMMON | {"privacy": {"recipe": "plain"}}, "`privacy.recipe` plain shows cells of single hospitals"),
        (
            COMMON | {"model": {"kind": "logistic"}, "contract": BINARY},
            "`strategy.name` webdisco fits a Cox regression",
        ),
    ],
)
def test_a_study_that_cannot_be_is_refused_with_its_key(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        study(**changes)
