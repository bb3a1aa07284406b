"""A report from files has the words of the study by which its result was made, and of no other."""

import json
from pathlib import Path
from typing import Any

import pytest

from consilium.api import freeze
from consilium.console.cli.app import run
from consilium.core.study import Plan, Study
from unit.documents.runs import STUDY, result, simulated, usual

NOISED = {
    "recipe": "secure_sum", "epsilon": 3.0, "delta": 1e-5, "clip": 1.0, "expected_patients": 1000,
}  # fmt: skip


def study(**changes: Any) -> Study:
    return Study.model_validate({**STUDY.model_dump(mode="json"), **changes})


def report(folder: Path, document: dict[str, Any], of: Study) -> int:
    source, file, page = (folder / name for name in ("result.json", "study.yaml", "report.html"))
    source.write_text(json.dumps(document))
    told = of.model_dump(mode="json", exclude_defaults=True)
    file.write_text(json.dumps({**told, "consilium": 1}))  # JSON is YAML
    page.unlink(missing_ok=True)
    code = run(["study", "report", "--from", str(source), "--study", str(file), "-o", str(page)])
    assert page.exists() == (code == 0)
    return code


def of_a_federation(of: Study) -> dict[str, Any]:
    plan, _ = freeze(of)
    return {**result(usual(3)), "plan": plan.digest, "initial": {"digest": plan.study.model.initial, "size": 10}}


def of_a_simulation(of: Study) -> dict[str, Any]:
    return {**simulated(usual(3)), "study_file": Plan.of(of).digest}


@pytest.mark.parametrize(
    ("origin", "given"),
    [
        (of_a_federation, STUDY),
        (of_a_simulation, STUDY),
        pytest.param(of_a_federation, study(privacy=NOISED, rounds=1), marks=pytest.mark.long, id="noised"),
    ],
)
def test_a_report_is_of_the_study_of_its_result(
    origin: Any, given: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan has noise, and the digest of the initial model, which the study file does not say."""
    document = origin(given)
    assert report(tmp_path, document, given) == 0
    assert given.title in (tmp_path / "report.html").read_text()
    purpose = {**given.purpose.model_dump(mode="json"), "text": "Something else."}
    told = given.model_dump(mode="json", exclude_defaults=True)
    for changes, words in (
        ({"name": "other"}, "it is other, and the result is of sepsis"),
        ({"purpose": purpose}, "says something else now"),
    ):
        capsys.readouterr()
        assert report(tmp_path, document, Study.model_validate({**told, "consilium": 1, **changes})) != 0
        said = " ".join(capsys.readouterr().err.split())
        assert "study.yaml is not the study of this result" in said and words in said


def test_a_result_that_does_not_say_by_which_study_it_was_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, simulated(usual(3)), STUDY) != 0
    assert "does not say by which study" in capsys.readouterr().err
