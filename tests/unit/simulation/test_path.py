"""Several penalties from the same rounds: each fit is that of a study of its own, and test patients choose nothing."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.path import LARGEST, NewtonPath
from consilium.algorithms.regression import fitted
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors, unflatten
from consilium.data.cohort import held_out, validates
from consilium.governance import words
from consilium.simulation import local
from consilium.simulation.scenario import Wanted, simulate

Make = Callable[..., dict[str, Path]]
PENALTIES = [{"l1": 0.25}, {"l1": 0.02, "l2": 0.01}, {"l2": 0.05}, {}]
PATH = NewtonPath({"penalties": PENALTIES})
SIZES = {"north": (110, None), "south": (150, None), "west": (100, None)}


def asked(study: Study, recipe: str, **changes: Any) -> Study:
    told = {"strategy": {"name": "newton-path", "options": {"penalties": PENALTIES}}, "model": {"kind": "logistic"}}
    told |= {"rounds": 7, "quorum": 3, "privacy": {"recipe": recipe}}
    return Study.model_validate({**study.model_dump(), **told, **changes})


def alone(study: Study, recipe: str, l1: float = 0.0, l2: float = 0.0) -> Study:
    one = {"strategy": {"name": "newton", "options": {"l1": l1}}, "model": {"kind": "logistic", "l2": l2}}
    return asked(study, recipe, **one)


def ran(study: Study, hospitals: dict[str, Path], folder: Path) -> tuple[Study, Tensors, local.Outcome]:
    """The study as its plan has it, and the final state."""
    folder.mkdir()
    plan, weights = freeze(study)
    outcome = local.run(plan, weights, local.tables(plan.study, hospitals, folder), folder, "sums-1")
    return plan.study, {name: np.array(array) for name, array in chain.read(outcome.state).arrays.items()}, outcome


def rewritten(hospitals: dict[str, Path], change: Callable[[list[str]], list[str] | None]) -> None:
    """Change each patient's row, or leave it out."""
    for mapping in hospitals.values():
        path = mapping.parent / "table.csv"
        with path.open() as file:
            header, *rows = list(csv.reader(file))
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *filter(None, map(change, rows))])


def judges(patient: str, study: Study) -> bool:
    return held_out(patient, study.evaluation.split_seed, study.evaluation.test_fraction)


@pytest.mark.parametrize(
    ("recipe", "of"),
    [
        ("secure_sum", (1,)),
        pytest.param("plain", range(len(PENALTIES)), marks=pytest.mark.long),
        pytest.param("secure_sum", range(len(PENALTIES)), marks=pytest.mark.long),
    ],
)
def test_each_fit_is_that_of_a_study_with_its_penalty_alone(
    study: Study, make: Make, tmp_path: Path, recipe: str, of: Sequence[int]
) -> None:
    """To all training patients; and, where the validation patients are in no table, to the others."""
    hospitals, count = make(**SIZES), len(PENALTIES)
    _, state, _ = ran(asked(study, recipe), hospitals, tmp_path / "path")
    for number in of:
        _, wanted, _ = ran(alone(study, recipe, **PENALTIES[number]), hospitals, tmp_path / f"all-{number}")
        np.testing.assert_allclose(PATH.single(state, number)["model"], wanted["model"], rtol=1e-9, atol=1e-12)
    rewritten(hospitals, lambda row: None if validates(row[0]) and not judges(row[0], study) else row)
    for number in of:
        _, wanted, _ = ran(alone(study, recipe, **PENALTIES[number]), hospitals, tmp_path / f"fitted-{number}")
        found = PATH.single(state, count + number)["model"]
        np.testing.assert_allclose(found, wanted["model"], rtol=1e-9, atol=1e-12)
        assert np.abs(found - PATH.single(state, number)["model"]).max() > 1e-4, "other patients, another fit"
    assert np.count_nonzero(PATH.single(state, 0)["model"]) < 3, "the first penalty leaves something out"


def test_validation_patients_choose_and_test_patients_change_nothing(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals = make(**SIZES)
    wanted, state, outcome = ran(asked(study, "secure_sum"), hospitals, tmp_path / "path")
    folder = tmp_path / "again"
    folder.mkdir()
    plan, weights = freeze(wanted)
    works = local.works(plan, weights, local.tables(wanted, hospitals, folder), folder).values()
    losses = []
    for number in range(len(PENALTIES)):
        model, total, patients = PATH.single(state, len(PENALTIES) + number)["model"], 0.0, 0
        for work in works:
            examples = work.examples
            assert examples.validation is not None and not np.any(examples.validation & examples.test)
            x, y = (part[examples.validation] for part in (examples.x, examples.y))
            total += len(y) * work.trainer.loss(wanted, unflatten(model, work.like), x, y)
            patients += len(y)
        losses.append(total / patients)
    np.testing.assert_allclose(state["validation"], losses, rtol=1e-9)
    best = int(np.argmin(losses))
    assert PATH.chosen(state) == best != 0 and np.array_equal(state["model"], PATH.single(state, best)["model"])
    fit = fitted(wanted, state)
    assert fit is not None and fit.converged and fit.judged == patients
    assert [tried.chosen for tried in fit.path] == [number == best for number in range(len(PENALTIES))]
    assert [tried.loss for tried in fit.path] == state["validation"].tolist()
    assert fit.path[0].coefficients < 2 and all(tried.converged for tried in fit.path)
    assert fit.path[best].estimates == tuple(term.estimate for term in fit.terms)
    assert all(term.error is None for term in fit.terms), "what was chosen by the data has no honest standard error"

    rewritten(hospitals, lambda row: [*row[:3], str(1 - int(row[3]))] if judges(row[0], study) else row)
    _, _, other = ran(asked(study, "secure_sum"), hospitals, tmp_path / "other")
    assert other.digest == outcome.digest and other.figures["all"] != outcome.figures["all"]
    rewritten(hospitals, lambda row: [*row[:3], str(1 - int(row[3]))] if validates(row[0]) else row)
    _, third, _ = ran(asked(study, "secure_sum"), hospitals, tmp_path / "third")
    assert not np.array_equal(third["validation"], state["validation"])
    assert np.array_equal(third["models"].reshape(8, -1)[4:], state["models"].reshape(8, -1)[4:]), (
        "who chooses fits not"
    )


def test_a_hospital_with_few_validation_patients_takes_no_part(study: Study, make: Make, tmp_path: Path) -> None:
    """Their sums follow by subtraction, so that they are counted, and not all who train."""
    hospitals = make(**SIZES)
    chosen = sum(validates(f"p{n}") and not judges(f"p{n}", study) for n in range(100))
    enough, more = (asked(study, "secure_sum", min_patients=least, rounds=1) for least in (chosen, chosen + 1))
    with pytest.raises(Conflict, match="2 hospitals have enough patients, and the study's `quorum` is 3"):
        ran(more, hospitals, tmp_path / "more")
    with pytest.raises(Conflict, match=rf"2 of 3 sites have the {chosen + 1} validation patients"):
        simulate(more, hospitals, Wanted(), lambda told: None)
    found = simulate(enough, hospitals, Wanted(), lambda told: None)
    assert found.fit is not None and len(found.fit.path) == len(PENALTIES)


def test_what_cannot_be_a_path_is_refused(study: Study) -> None:
    with pytest.raises(ValueError, match=r"`model\.l2` must be 0 with `strategy\.name` newton-path"):
        asked(study, "plain", model={"kind": "logistic", "l2": 0.1})
    for options, said in (({}, "penalties"), ({"penalties": []}, "penalties"), ({"penalties": [{"l3": 1}]}, "l3")):
        with pytest.raises(StudyInvalid, match=said):
            NewtonPath(options)
    with pytest.raises(StudyInvalid, match=f"a site sends at most {LARGEST}"):
        NewtonPath({"penalties": [{}] * 50}).init(np.zeros(300))
    with pytest.raises(ValueError, match=r"`strategy\.name` newton-path needs a model whose Hessian"):
        asked(study, "plain", model={"kind": "torch", "architecture": "mlp"})


def test_a_hospital_reads_what_a_path_shows(study: Study) -> None:
    told = words.explain(freeze(asked(study, "secure_sum"))[0])
    assert "at 8 models at once" in told and "their difference tells it of the last fifth alone" in told
    assert f"With fewer than {study.min_patients} of these this hospital takes no part" in told
