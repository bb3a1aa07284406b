"""Preparation in whole runs: the same bytes whoever trains, pooled coefficients, and a model that takes raw rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms import preparation
from consilium.algorithms.combat import Harmony
from consilium.algorithms.regression import RARE, scaling
from consilium.api import freeze
from consilium.console.cli.app import run
from consilium.core import state as chain
from consilium.core.errors import Conflict, DigestMismatch, Invalid
from consilium.core.study import Study
from consilium.core.tensors import flatten, from_safetensors, to_safetensors
from consilium.exported import Exported
from consilium.simulation import baseline, local
from consilium.simulation.patients import Patients
from consilium.simulation.scenario import Found, Wanted, simulate
from unit.algorithms.pooled import neuro_combat
from unit.simulation.test_exact import DRAWS, FAMILIES, RTOL, exact, labelled, sm, tables

ALL = {"numbers": "standardise", "missing": "impute", "hide_below": 1}


def ran(study: Study, hospitals: dict[str, Path], **wanted: Any) -> Found:
    return simulate(study, hospitals, Wanted(**wanted), lambda told: None)


@pytest.fixture
def hospitals(tmp_path: Path) -> dict[str, Path]:
    return labelled(tables(tmp_path / "h", DRAWS["logistic"]), "logistic")


def pooled(study: Study, hospitals: dict[str, Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw numbers (n, 3), wards and labels of all training patients."""
    patients = Patients.read(Study.model_validate(freeze(study)[0].study.model_dump()), hospitals)
    rows = ~patients.test
    numbers = np.column_stack([patients.columns[name][rows] for name in ("age", "crp", "bmi")])
    return numbers, patients.columns["ward"][rows], patients.label[rows]


@pytest.mark.parametrize("recipe", ["plain", "secure_sum"])
def test_the_exact_model_after_preparation_is_theirs_after_theirs(recipe: str, hospitals: dict[str, Path]) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    study = exact("logistic", recipe, prepare=ALL)
    found = ran(study, hospitals)
    numbers, ward, label = pooled(study, hospitals)
    steps = make_pipeline(SimpleImputer(), StandardScaler())
    x = np.column_stack([np.ones(len(label)), steps.fit_transform(numbers), ward == 1, ward == 2])
    theirs = sm.GLM(label, x, family=FAMILIES["logistic"]()).fit(tol=1e-14)
    np.testing.assert_allclose(flatten(from_safetensors(found.model)), theirs.params, rtol=RTOL)
    scaler = steps.named_steps["standardscaler"]
    turned = np.eye(6)
    turned[[1, 2, 3], [1, 2, 3]], turned[0, 1:4] = 1 / scaler.scale_, -scaler.mean_ / scaler.scale_
    assert found.fit is not None and found.fit.converged
    np.testing.assert_allclose([term.estimate for term in found.fit.terms], turned @ theirs.params, rtol=RTOL)
    errors = np.sqrt(np.diag(turned @ theirs.cov_params() @ turned.T))
    np.testing.assert_allclose([term.error for term in found.fit.terms], errors, rtol=RTOL)
    assert [told.kind for told in found.rounds] == ["PREPARE", *["TRAIN"] * 10, "EVALUATE"]
    assert found.rounds[0].figures == {} and found.rounds[0].weight == len(label)


def test_a_rare_code_is_told_apart_from_one_that_nobody_has(hospitals: dict[str, Path]) -> None:
    study = exact("logistic", "plain", prepare={"rare_below": 10_000, "hide_below": 1}, rounds=2)
    found = ran(study, hospitals)
    assert found.fit is not None
    assert {term.term: term.note for term in found.fit.terms if term.note} == dict.fromkeys(("ward=b", "ward=c"), RARE)


@pytest.mark.parametrize("recipe", ["plain", "secure_sum"])
def test_whoever_trains_the_bytes_are_the_same_and_many_at_once_agree(
    recipe: str, hospitals: dict[str, Path], tmp_path: Path
) -> None:
    """Standardised, imputed and cut, by averaging."""
    told = exact("logistic", recipe).model_dump()
    asked = Study.model_validate({
        **told, "strategy": {"name": "fedadam"}, "rounds": 3,
        "prepare": {**ALL, "bins": {"age": 4}, "rare_below": 60, "hide_below": 5},
    })  # fmt: skip
    plan, weights = freeze(asked)
    alone = local.run(plan, weights, local.tables(plan.study, hospitals, tmp_path), tmp_path, "exact-1")
    one, many = (ran(asked, hospitals, executor=name) for name in ("inline", "vectorised"))
    assert one.outcome.digest == alone.digest
    if recipe == "secure_sum":  # processes take seconds to begin
        assert ran(asked, hospitals, executor="processes", workers=1).outcome.digest == alone.digest
    np.testing.assert_allclose(flatten(from_safetensors(many.model)), flatten(from_safetensors(one.model)), rtol=1e-9)
    for figure, other in zip(one.rounds[-1].figures.values(), many.rounds[-1].figures.values(), strict=True):
        assert figure["value"] == pytest.approx(other["value"], rel=1e-6)


def taken_home(found: Found, folder: Path) -> Exported:
    path = folder / "model.safetensors"
    path.write_bytes(found.model)
    return Exported.read(path)


def in_onnx(model: Path, raw: dict[str, Any], wanted: np.ndarray) -> None:
    """The same model as an ONNX file takes the same raw rows, and says the same."""
    runtime: Any = pytest.importorskip("onnxruntime", reason="ONNX is an extra")
    home = model.with_suffix(".onnx")
    assert run(["study", "export", "--from", str(model), "-o", str(home)]) == 0
    columns = {name: np.array(values, dtype=np.float64)[:, None] for name, values in raw.items() if name != "ward"}
    wards = np.array(raw["ward"], dtype=object)[:, None]
    (found,) = runtime.InferenceSession(home).run(["prediction"], {**columns, "ward": wards})
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6)
    other = str(model.with_suffix(".copy"))
    assert run(["study", "export", "--from", str(model), "-o", other]) != 0, "it is safetensors already"
    assert run(["study", "export", "-o", str(home)]) != 0, "of which run?"


def test_who_takes_the_model_home_applies_it_to_raw_rows(hospitals: dict[str, Path], tmp_path: Path) -> None:
    study = exact("logistic", "secure_sum", prepare={**ALL, "bins": {"crp": 3}})
    found = ran(study, hospitals)
    taken = taken_home(found, tmp_path)
    assert taken.names == ["age", "crp#2", "crp#3", "bmi", "ward=b", "ward=c"]
    patients = Patients.read(taken.study, hospitals)
    raw: dict[str, Any] = {name: values.tolist() for name, values in patients.columns.items()}
    raw["ward"] = [list("abc")[int(code)] for code in raw["ward"]]
    raw["bmi"] = [None if value != value else repr(value) for value in raw["bmi"]]
    score = taken.predict(raw)[patients.test]
    hits = np.mean((score > 0.5) == patients.label[patients.test])
    assert hits == pytest.approx(found.outcome.figures["all"]["accuracy"]["value"])
    assert np.mean((score - patients.label[patients.test]) ** 2) == pytest.approx(
        found.outcome.figures["all"]["brier"]["value"]
    )
    in_onnx(tmp_path / "model.safetensors", raw, taken.predict(raw))
    with pytest.raises(Invalid, match="no code of it"):
        taken.inputs({**raw, "ward": ["z"] * len(score)})
    with pytest.raises(Invalid, match="age is missing"):
        taken.inputs({**raw, "age": [None] * len(patients)})
    with pytest.raises(Invalid, match="crp is lacking"):
        taken.inputs({name: values for name, values in raw.items() if name != "crp"})
    with pytest.raises(Invalid, match="unequal length"):
        taken.inputs({**raw, "crp": [1.0]})
    other = tmp_path / "other.safetensors"
    other.write_bytes(to_safetensors(taken.model, {"payload": freeze(study)[0].payload.decode(), "plan": "sha256:0"}))
    with pytest.raises(DigestMismatch, match="not the one that it names"):
        Exported.read(other)


def test_a_baseline_prepares_by_the_same_rules(hospitals: dict[str, Path], tmp_path: Path) -> None:
    """Pooled, it is the federation's model, small counts hidden or not; a model on file brings its own preparation."""
    study = exact("logistic", "secure_sum", prepare={**ALL, "hide_below": 20})
    found, path = ran(study, hospitals), tmp_path / "model.safetensors"
    path.write_bytes(found.model)
    told = baseline.compare(study, hospitals, path)["all"]
    for name, figure in told["pooled"].items():
        assert figure["value"] == pytest.approx(told["given"][name]["value"], rel=RTOL), name
    with pytest.raises(Invalid, match="does not hold its plan"):
        path.write_bytes(to_safetensors(from_safetensors(found.model)))
        baseline.compare(study, hospitals, path)


def test_the_state_holds_what_was_learned_from_the_first_round_on(hospitals: dict[str, Path], tmp_path: Path) -> None:
    study = exact("logistic", "secure_sum", prepare=ALL, rounds=2)
    plan, weights = freeze(study)
    outcome = local.run(plan, weights, local.tables(plan.study, hospitals, tmp_path), tmp_path, "exact-1")
    arrays = chain.read(outcome.state).arrays
    numbers, _, _ = pooled(study, hospitals)
    assert sorted(chain.carried(arrays)) == ["prepare/centre", "prepare/fill", "prepare/spread"]
    np.testing.assert_allclose(arrays["prepare/centre"][:3], np.nanmean(numbers, axis=0), rtol=RTOL)
    assert preparation.described(plan.study, arrays)["fill"][2] == pytest.approx(np.nanmean(numbers[:, 2]))
    turned = scaling(plan.study.contract, plan.study.prepare, arrays)
    assert turned[1, 1] == pytest.approx(1 / np.std(numbers[:, 0]))


HARMONISED = {"harmonise": {"numbers": ["age", "crp"], "keep": ["ward"]}, "hide_below": 1}


def by_hospital(study: Study, hospitals: dict[str, Path]) -> list[dict[str, np.ndarray]]:
    """Training patients of each hospital: age and crp, wards as columns, bmi, and the label."""
    patients = Patients.read(freeze(study)[0].study, hospitals)
    found = []
    for place in range(len(hospitals)):
        rows = ~patients.test & (patients.hospital == place)
        ward = patients.columns["ward"][rows]
        found.append({
            "values": np.column_stack([patients.columns[name][rows] for name in ("age", "crp")]),
            "kept": np.column_stack([ward == 1, ward == 2]).astype(float), "bmi": patients.columns["bmi"][rows],
            "label": patients.label[rows],
        })  # fmt: skip
    return found


@pytest.mark.parametrize("recipe", [pytest.param("plain", marks=pytest.mark.long), "secure_sum"])
def test_the_exact_model_of_harmonised_numbers_is_theirs_after_neuro_combat(
    recipe: str, hospitals: dict[str, Path], tmp_path: Path
) -> None:
    """And the model that is taken home takes a new patient of a hospital by what that hospital kept, or by its own
    patients; and says so where nobody says which hospital it is."""
    study = exact("logistic", recipe, prepare=HARMONISED, rounds=8)
    found, of = ran(study, hospitals), by_hospital(study, hospitals)
    values = neuro_combat([one["values"] for one in of], [one["kept"] for one in of], True)
    label, bmi = (np.concatenate([one[name] for one in of]) for name in ("label", "bmi"))
    lacks = np.isnan(bmi)
    x = np.column_stack([np.ones(len(label)), values, np.where(lacks, 45.0, bmi), lacks,
                         np.concatenate([one["kept"] for one in of])])  # fmt: skip
    theirs = sm.GLM(label, x, family=FAMILIES["logistic"]()).fit(tol=1e-14)
    assert found.fit is not None and found.fit.converged
    np.testing.assert_allclose([term.estimate for term in found.fit.terms], theirs.params, rtol=RTOL)

    model, start = taken_home(found, tmp_path), 0
    for one in of:
        rows = {
            "age": one["values"][:, 0].tolist(), "crp": one["values"][:, 1].tolist(),
            "bmi": [None if np.isnan(value) else value for value in one["bmi"].tolist()],
            "ward": ["abc"[int(first + 2 * second)] for first, second in one["kept"]],
        }  # fmt: skip
        harmony, end = model.harmony(rows), start + len(one["label"])
        again = Harmony.load(json.dumps(harmony.to_json()).encode())
        np.testing.assert_allclose(model.predict(rows, again), theirs.fittedvalues[start:end], rtol=1e-6)
        start = end
    with pytest.raises(Invalid, match="it is not said of which hospital these patients are"):
        model.predict(rows)
    pytest.importorskip("onnx", reason="ONNX is an extra")
    from consilium.onnxfile import to_onnx

    with pytest.raises(Invalid, match="harmonised by what each hospital keeps"):
        to_onnx(model)
    with pytest.raises(Invalid, match="19 patients do not show how a hospital measures"):
        model.harmony({name: column[:19] for name, column in rows.items()})
    with pytest.raises(Invalid, match="this is not what a hospital keeps"):
        Harmony.load(b'{"shift": [0.0], "scale": [0.0]}')


def test_sites_that_are_harmonised_do_not_train_at_once(hospitals: dict[str, Path]) -> None:
    asked = exact("logistic", "plain", prepare=HARMONISED, strategy={"name": "fedavg"}, rounds=1)
    with pytest.raises(Conflict, match="vectorised does not know what each site harmonises"):
        ran(asked, hospitals, executor="vectorised")
