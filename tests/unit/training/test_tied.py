"""A model on file is judged, or begun at, only by a study whose inputs mean what those of its own plan do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.api import freeze
from consilium.core.errors import DigestMismatch, StudyInvalid
from consilium.core.ids import digest
from consilium.core.meaning import MOST_TOLD, differences, meaning_digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import Tensors, metadata, to_safetensors
from consilium.exported import Exported, origin
from consilium.notebook.studies import changed
from consilium.testing.trainers import a_study

X: dict[str, Any] = {"id": "x", "meaning": "x", "type": "number", "unit": "1", "range": [-5, 5]}
AGE: dict[str, Any] = {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [18, 110]}
SEX: dict[str, Any] = {
    "id": "sex", "meaning": "sex", "type": "category", "categories": {"a": "female", "b": "male"},
}  # fmt: skip
DIED = {"id": "died", "meaning": "died", "type": "binary"}


def study(features: list[dict[str, Any]], label: dict[str, Any] = DIED, **changes: Any) -> Study:
    features = [{"missing": "forbidden", **one} for one in features]
    told = a_study("binary", {"kind": "logistic"}).model_dump(mode="json", exclude_defaults=True)
    told |= {"contract": {"id": "some", "features": features, "label": label}, **changes}
    return Study.model_validate({**told, "consilium": 1})


def judging(of: Study, **model: Any) -> Study:
    told = of.model_dump(mode="json", exclude={"prepare"})
    model = {**told["model"], "start": "given", **model}
    return Study.model_validate({**told, "model": model, "rounds": 0, "evaluation": {"test_fraction": 1}})


TRAINED = study([X, AGE, SEX])
OTHERS: dict[str, tuple[Study, str]] = {
    "inputs in another order": (study([AGE, X, SEX]), "input 1 is x in the model and age in the study"),
    "another range": (
        study([{**X, "range": [-50, 50]}, AGE, SEX]),
        r"x: range is \[-5, 5\] in the model and \[-50, 50\] in the study",
    ),
    "a typical range": (study([{**X, "typical": [-1, 1]}, AGE, SEX]), "x: typical is none in the model"),
    "another unit": (study([X, {**AGE, "unit": "mo"}, SEX]), "age: unit is a in the model and mo in the study"),
    "codes the other way round": (
        study([X, AGE, {**SEX, "categories": {"a": "male", "b": "female"}}]), "sex=a is female in the model and male",
    ),
    "another label": (study([X, AGE, SEX], {**DIED, "id": "readmitted"}), "label is died in the model and readmitted"),
    "prepared inputs": (
        study([X, AGE, SEX], prepare={"numbers": "standardise"}), "prepare.numbers is none in the model and standardise"
    ),
}  # fmt: skip


def on_file(folder: Path, of: Study, learned: dict[str, Any] | None = None) -> Path:
    """What `study export` writes of a model that was trained by a study of three inputs."""
    model = {"weights": np.array([2.0, -1.0, 0.5]), "intercept": np.zeros(1)}
    (path := folder / "model.safetensors").write_bytes(
        to_safetensors(model, origin(Plan.of(of), "some-1", "sha256:0", model, learned or {}))
    )
    return path


def test_a_study_that_means_the_same_takes_the_model(tmp_path: Path) -> None:
    """Others may name it otherwise, look for it by other codes, leave out others, and train it otherwise."""
    path = on_file(tmp_path, TRAINED)
    same = study([{**X, "meaning": "in other words"}, AGE, SEX], {**DIED, "meaning": "within a year"}, name="other")
    plan, weights = freeze(judging(same, l2=0.5), model=path)
    assert plan.study.model.initial == digest(weights) and metadata(weights) == {}
    assert differences(TRAINED, same) == "" and meaning_digest(TRAINED) == meaning_digest(same)


@pytest.mark.parametrize("what", OTHERS)
def test_a_model_of_other_inputs_is_refused_with_what_differs(tmp_path: Path, what: str) -> None:
    other, words = OTHERS[what]
    begins = changed(other, {"model": {"start": "given"}})
    for asked in (begins,) if other.prepare else (begins, judging(other)):
        with pytest.raises(StudyInvalid, match=words) as caught:
            freeze(asked, model=on_file(tmp_path, TRAINED))
        assert "as the model has them" in caught.value.remedy and "digest" not in caught.value.message


def test_a_network_of_another_form_is_another_model() -> None:
    one, other = (
        study([X], model={"kind": "torch", "architecture": "mlp", "options": {"hidden": [size]}}) for size in (3, 4)
    )
    assert "model.options is {'hidden': [3]} in the model" in differences(one, other)


def test_many_differences_are_counted() -> None:
    many = [study([{**X, "id": f"x{at}", "range": [0, size]} for at in range(MOST_TOLD + 4)]) for size in (1, 2)]
    assert differences(*many).count(" in the model and ") == MOST_TOLD and differences(*many).endswith("and 4 more")


def test_a_model_whose_inputs_were_prepared_is_judged_as_onnx(tmp_path: Path) -> None:
    prepared = study([X, AGE, SEX], prepare={"numbers": "standardise"})
    path = on_file(tmp_path, prepared, {"prepare/centre": np.zeros(3), "prepare/spread": np.ones(3)})
    with pytest.raises(StudyInvalid, match=r"prepare\.numbers is standardise in the model and none") as caught:
        freeze(judging(TRAINED), model=path)
    assert "--format onnx" in caught.value.remedy and "kind: onnx" in caught.value.remedy
    with pytest.raises(StudyInvalid, match="--format onnx"):
        changed(judging(TRAINED), {"prepare": {"numbers": "standardise"}})
    assert freeze(changed(prepared, {"model": {"start": "given"}}), model=path), "training goes on, and prepares anew"


def test_a_file_of_onnx_takes_values_in_the_units_and_by_the_codes_of_its_own_contract(tmp_path: Path) -> None:
    """Its inputs are found by name and it scales them itself, so that order, ranges and preparation may be others."""
    pytest.importorskip("onnxruntime", reason="ONNX is an extra")
    from consilium.onnxfile import to_onnx

    learned = {"prepare/centre": np.zeros(3), "prepare/spread": np.ones(3)}
    trained = study([X, AGE, SEX], prepare={"numbers": "standardise"})
    (path := tmp_path / "model.onnx").write_bytes(to_onnx(Exported.read(on_file(tmp_path, trained, learned))))
    more = {**X, "id": "more", "unit": "kg"}
    taken = study([more, {**AGE, "typical": [40, 80]}, {**X, "range": [-4, 4]}, SEX])
    assert freeze(judging(taken, kind="onnx"), model=path)
    for what in ("another unit", "codes the other way round", "another label"):
        other, words = OTHERS[what]
        with pytest.raises(StudyInvalid, match=words) as caught:
            freeze(judging(other, kind="onnx"), model=path)
        assert "as the model has them" in caught.value.remedy


def test_a_model_that_does_not_say_what_it_takes_needs_a_word(tmp_path: Path) -> None:
    (path := tmp_path / "plain").write_bytes(to_safetensors({"weights": np.ones(3), "intercept": np.zeros(1)}))
    with pytest.raises(StudyInvalid, match="does not say by which plan") as caught:
        freeze(judging(TRAINED), model=path)
    assert "untied: true" in caught.value.remedy
    plan, _ = freeze(judging(TRAINED, untied=True), model=path)
    assert Plan.load(plan.payload).study.model.untied
    with pytest.raises(StudyInvalid, match="says by which plan it was trained"):
        freeze(judging(TRAINED, untied=True), model=on_file(tmp_path, TRAINED))
    with pytest.raises(StudyInvalid, match="`start: given`"):
        changed(TRAINED, {"model": {"untied": True}})
    assert b"untied" not in Plan.of(judging(TRAINED)).payload, "a plan of before keeps its hash"


def test_a_file_that_names_other_inputs_than_its_plan_is_refused(tmp_path: Path) -> None:
    model = {"weights": np.ones(3), "intercept": np.zeros(1)}
    told = origin(Plan.of(TRAINED), "some-1", "sha256:0", model, {})
    told |= {"inputs": meaning_digest(OTHERS["another range"][0])}
    (path := tmp_path / "model").write_bytes(to_safetensors(model, told))
    with pytest.raises(DigestMismatch, match="other inputs than its plan"):
        freeze(judging(OTHERS["another range"][0]), model=path)


def test_a_file_whose_values_were_altered_is_refused(tmp_path: Path) -> None:
    """Weights negated and in reverse order, under another name, or of another mean, beside what was written of them."""
    prepared = study([X, AGE, SEX], prepare={"numbers": "standardise"})
    data = on_file(tmp_path, prepared, {"prepare/centre": np.arange(3.0), "prepare/spread": np.ones(3)}).read_bytes()
    given = Exported.load(data)
    weights, told = given.model["weights"], given.metadata
    altered: dict[str, tuple[Tensors, dict[str, str]]] = {
        "negated and reversed": ({**given.model, "weights": -weights[::-1]}, told),
        "one bit": ({**given.model, "weights": np.nextafter(weights, 9.0)}, told),
        "another name": ({"weight": weights, "intercept": given.model["intercept"]}, told),
        "another shape": ({**given.model, "weights": weights.reshape(1, 3)}, told),
        "another mean": (given.model, {**told, "prepared": told["prepared"].replace("1.0", "1.5", 1)}),
        "nothing is said of them": (given.model, {key: one for key, one in told.items() if key != "arrays"}),
    }
    for what, (model, beside) in altered.items():
        with pytest.raises(DigestMismatch, match="are not those that were written"):
            pytest.fail(f"{what}: {Exported.load(to_safetensors(model, beside))}")
    assert Exported.load(to_safetensors(given.model, told)).learned["prepare/centre"].tolist() == [0.0, 1.0, 2.0]
