"""Leave one hospital out: the models are those of the study among the others, and the report has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consilium.console.cli import app
from consilium.core.errors import Conflict
from consilium.core.study import Study
from consilium.simulation.baseline import compare
from consilium.simulation.leaving import check
from consilium.simulation.scenario import Found, Wanted, simulate

Make = Callable[..., dict[str, Path]]
SIZES = {"north": (90, None), "south": (70, None), "west": (130, None), "east": (60, None)}


def ran(study: Study, hospitals: dict[str, Path], **wanted: Any) -> Found:
    return simulate(study, hospitals, Wanted(**wanted), lambda told: None)


def changed(study: Study, **changes: Any) -> Study:
    training = {**study.training.model_dump(), "epochs": 1}
    return Study.model_validate({**study.model_dump(), "rounds": 1, "training": training, **changes})


@pytest.mark.parametrize(
    ("recipe", "executor"), [("plain", "inline"), pytest.param("secure_sum", "vectorised", marks=pytest.mark.long)]
)
def test_each_hospital_is_judged_by_the_model_of_the_study_among_the_others(
    study: Study, make: Make, tmp_path: Path, recipe: str, executor: str
) -> None:
    asked, hospitals = changed(study, quorum=3, privacy={"recipe": recipe}), make(**SIZES)
    found = ran(asked, hospitals, leave_one_out=True, executor=executor)
    once = ran(asked, hospitals)
    assert found.model == once.model or executor == "vectorised", "the common model is the same"
    assert found.without.keys() == {*SIZES, "all"} and len(found.rounds) == 2 and not once.without
    for site in ("north",):
        others = {name: path for name, path in hospitals.items() if name != site}
        given = tmp_path / f"without-{site}.safetensors"
        given.write_bytes(ran(asked, others).model)
        known = compare(asked, hospitals, given)["hospitals"][site]["given"]
        for name, figure in found.without[site].items():
            assert figure["n"] == known[name]["n"]
            assert figure["value"] == pytest.approx(known[name]["value"], rel=1e-6), name
    over = {site: found.without[site]["brier"] for site in SIZES}
    mean = sum(one["value"] * one["n"] for one in over.values()) / sum(one["n"] for one in over.values())
    assert found.without["all"]["brier"]["value"] == pytest.approx(mean)
    assert "auroc" not in found.without["all"], "scores of several models are not on one scale"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"quorum": 4}, "fewer than the 4 that the study needs"),
        ({"evaluation": {"folds": 5}, "min_patients": 5}, "holds none out"),
        ({"strategy": {"name": "fedper", "options": {"layers": ["weight"]}}}, "stay at hospitals"),
        ({"strategy": {"name": "ditto"}}, "stay at hospitals"),
    ],
)
def test_what_cannot_be_left_out_is_refused(study: Study, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Conflict, match=why):
        check(changed(study, **changes), 4)


def test_that_is_before_anything_is_trained(study: Study, make: Make) -> None:
    with pytest.raises(Conflict, match="fewer than the 2 that the study needs"):
        ran(study, make(north=(40, None), south=(40, None)), leave_one_out=True)


@pytest.mark.long
def test_the_command_and_its_report_tell_of_it(
    study: Study, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(**SIZES)
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(changed(study, rounds=1).model_dump(mode="json", exclude_defaults=True)))
    words = ["simulate", str(file), "--hospitals", str(tmp_path), "--leave-one-out"]
    assert app.run(words) == 0
    assert "AUROC at hospitals, of a model trained without each:" in capsys.readouterr().out
    assert app.run([*words, "--json"]) == 0
    (tmp_path / "result.json").write_text(capsys.readouterr().out)
    assert (
        app.run(["study", "report", "--from", str(tmp_path / "result.json"), "-o", str(tmp_path / "report.html")]) == 0
    )
    page = (tmp_path / "report.html").read_text()
    assert "trained without it" in page and "where nobody trained it" in page and "leave-one-hospital-out" not in page
