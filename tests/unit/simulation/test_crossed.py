"""Cross-validation by patient: each fold's model is the one that its training patients alone would have given."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import brier_score_loss

from consilium.algorithms import metrics
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict
from consilium.core.study import Plan, Study
from consilium.core.tensors import unflatten
from consilium.data.cohort import fold
from consilium.simulation import baseline, local
from consilium.simulation.conditions import Conditions
from consilium.simulation.partition import Rule
from consilium.simulation.scenario import Wanted, simulate
from consilium.site.tables import Prepared

Make = Callable[..., dict[str, Path]]
FOLDS, LONG = 5, pytest.mark.long
SIZES = {"north": (120, None), "south": (110, None), "west": (150, None)}


def changed(study: Study, strategy: str = "fedavg", **more: Any) -> Study:
    told = {**study.model_dump(), "min_patients": 10, "strategy": {"name": strategy}, "rounds": 3, **more}
    return Study.model_validate(told)


def crossed(study: Study, strategy: str = "fedavg", **more: Any) -> Study:
    return changed(study, strategy, evaluation={**study.evaluation.model_dump(), "folds": FOLDS}, **more)


def run(plan: Plan, weights: bytes, tables: dict[str, Prepared], folder: Path) -> local.Outcome:
    folder.mkdir()
    return local.run(plan, weights, tables, folder, "sums-1")


@pytest.mark.parametrize("strategy", ["newton", *(pytest.param(name, marks=LONG) for name in ("fedavg", "fedadam"))])
def test_each_folds_model_is_that_of_a_study_that_holds_its_patients_out(
    study: Study, make: Make, tmp_path: Path, strategy: str
) -> None:
    plan, weights = freeze(crossed(study, strategy))
    tables = local.tables(plan.study, make(**SIZES), tmp_path)
    kept = {site: dict(np.load(one.path)) for site, one in tables.items()}
    found = run(plan, weights, tables, tmp_path / "run")
    state, (alone, same) = chain.read(found.state).arrays, freeze(changed(study, strategy))
    assert same == weights
    scores, labels = [], []
    for at in range(FOLDS + 1):
        for site, arrays in kept.items():
            np.savez(tables[site].path, **{**arrays, "test": arrays["fold"] == at - 1})
        one = run(alone, weights, tables, tmp_path / f"alone-{at}")
        named = "model" if at == 0 else f"fold-{at}/model"
        assert np.array_equal(chain.read(one.state).arrays["model"], state[named]), at
        for work in local.works(alone, weights, tables, tmp_path).values() if at else ():
            model = unflatten(np.array(state[named]), work.like)
            scores.append(work.trainer.predict(alone.study, model, work.examples.x[work.examples.test]))
            labels.append(work.examples.y[work.examples.test])
    score, label = np.concatenate(scores), np.concatenate(labels)
    told = found.figures["all"]
    assert told["auroc"]["n"] == len(label) == sum(size for size, _ in SIZES.values()), "everybody is judged, and once"
    assert told["brier"]["value"] == pytest.approx(brier_score_loss(label, score), abs=1e-9)
    pooled = metrics.figures("binary", metrics.sums("binary", score, label), 0.95)["auroc"]
    assert told["auroc"]["value"] == pytest.approx(pooled.value, abs=1e-12)
    assert found.figures["evaluation"]["all"]["n"] == len(label)


@LONG
def test_a_secure_sum_gives_the_models_and_figures_of_a_plain_one(study: Study, make: Make, tmp_path: Path) -> None:
    hospitals, found = make(**SIZES), []
    for recipe in ("plain", "secure_sum"):
        plan, weights = freeze(crossed(study, "newton", privacy={"recipe": recipe}, quorum=3))
        tables = local.tables(plan.study, hospitals, tmp_path / recipe)
        found.append(run(plan, weights, tables, tmp_path / recipe / "run"))
    states = [chain.read(one.state).arrays for one in found]
    for name in ("model", *(f"fold-{at}/model" for at in range(1, FOLDS + 1))):
        assert np.allclose(states[0][name], states[1][name], atol=1e-6), name
    assert found[0].figures["all"]["brier"]["value"] == pytest.approx(
        found[1].figures["all"]["brier"]["value"], abs=1e-6
    )


def test_a_simulation_tells_that_everybody_trains_and_is_judged(study: Study, make: Make) -> None:
    wanted = Wanted(None, Rule.parse("natural"), None, 1, "inline", 1, Conditions.of(1, 0.0, None), 1)
    hospitals = make(**SIZES)
    told = simulate(crossed(study), hospitals, wanted, lambda one: None)
    assert told.sizes == {site: (size, size) for site, (size, _) in SIZES.items()} and told.copies == {}
    for odd in (replace(wanted, executor="vectorised"), replace(wanted, set_aside=True)):
        with pytest.raises(Conflict, match=r"cross-validate|folds"):
            simulate(crossed(study), hospitals, odd, lambda one: None)
    with pytest.raises(Conflict, match="holds none out"):
        baseline.compare(crossed(study), hospitals)


def test_folds_are_about_as_large_and_follow_from_the_patient() -> None:
    parts = [fold(f"patient-{number}", 5) for number in range(5000)]
    assert set(parts) == set(range(5)) and np.bincount(parts).min() > 900
    assert parts == [fold(f"patient-{number}", 10) // 2 for number in range(5000)], "no smaller part follows from both"


def test_a_hospital_whose_smallest_fold_is_too_small_takes_no_part(study: Study, make: Make, tmp_path: Path) -> None:
    plan, weights = freeze(crossed(study))
    tables = local.tables(plan.study, make(**SIZES, tiny=(44, None)), tmp_path)
    assert {site: one.counted >= 10 for site, one in tables.items()} == {**dict.fromkeys(SIZES, True), "tiny": False}
    assert run(plan, weights, tables, tmp_path / "run").took_part == tuple(SIZES)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"strategy": {"name": "scaffold"}}, "`evaluation.folds` is possible with"),
        ({"prepare": {"numbers": "standardise"}}, "learned of those who are judged"),
    ],
)
def test_what_would_look_at_those_who_are_judged_is_refused(study: Study, more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Study.model_validate({**crossed(study).model_dump(), **more})
