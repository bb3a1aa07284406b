"""What is wrong at one hospital's table is on the first screen of the report of the whole study."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from consilium.core.study import Study
from consilium.documents.report import Report
from consilium.simulation import baseline
from consilium.simulation.scenario import Wanted, simulate
from consilium.simulation.simulate import document

Make = Callable[..., dict[str, Path]]
HERE = {"north": (300, None), "south": (300, None), "west": (300, None)}


def seen(study: Study, hospitals: dict[str, Path]) -> dict[str, str]:
    wanted = Wanted()
    told = document(simulate(study, hospitals, wanted, lambda told: None), wanted)
    report = Report.of(told, datetime(2030, 1, 1, tzinfo=UTC), study)
    page = report.html()
    first = page[: page.index('id="headline"')]
    assert all(f'id="{one.id}"' in first for one in report.findings.found)
    return {one.id: one.text for one in report.findings.warnings}


def test_nothing_is_wrong_with_tables_as_they_are(study: Study, make: Make) -> None:
    fitted = {
        **study.model_dump(mode="json"),
        "model": {"kind": "logistic"},
        "strategy": {"name": "newton"},
        "rounds": 8,
    }
    assert seen(Study.model_validate(fitted), make(**HERE)) == {}


def test_a_model_that_was_not_trained_to_the_end_is_seen(study: Study, make: Make) -> None:
    told = seen(study, make(**HERE))
    assert told.keys() == {"warning-miscalibrated"} and "all hospitals together: slope" in told["warning-miscalibrated"]


def test_patients_who_are_there_under_two_keys_are_seen(study: Study, make: Make) -> None:
    hospitals = make(**HERE)
    table = hospitals["south"].parent / "table.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *rows, *(row.replace("p", "q", 1) for row in rows[:150])]) + "\n")
    told = seen(study, hospitals)["warning-leak"]
    assert "south" in told and "north" not in told
    found = baseline.compare(study, hospitals)["hospitals"]
    assert found["south"]["copies"] > 20 and found["north"]["copies"] == 0


def test_a_label_the_wrong_way_round_is_seen(study: Study, make: Make) -> None:
    hospitals = make(**HERE)
    mapping = hospitals["west"]
    mapping.write_text(mapping.read_text().replace("{'0': 0, '1': 1}", "{'0': 1, '1': 0}"))
    told = seen(study, hospitals)
    assert "west" in told["warning-swapped-classes"] and "north" not in told["warning-swapped-classes"]
    assert "west" in told["warning-worst-hospital"]
