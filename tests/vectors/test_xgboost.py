"""Models that plain XGBoost 3.2 trained and wrote: they predict here what they predict there.

Made by `xgboost.train` on 600 made-up patients with missing values, six trees of depth three each, objective by
objective, and written by `save_model`; `known.json` has 40 of the patients and what `predict` gave for them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.algorithms.encode import encode
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import from_safetensors, to_safetensors
from consilium.training.trees import Boosted, checked

HERE = Path(__file__).parent / "xgboost"
KNOWN = json.loads((HERE / "known.json").read_text())
LABELS = {"binary:logistic": "binary", "reg:squarederror": "number", "count:poisson": "count"}
WARDS = {"icu": "ICU", "medical": "medical", "surgical": "surgical"}


def study(label: str, **change: Any) -> Study:
    number: dict[str, Any] = {"type": "number", "unit": "1", "range": [0, 500]}
    return Study.model_validate(
        {
            "consilium": 1, "name": "trees", "title": "Trees",
            "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
            "contract": {
                "id": "trees",
                "features": [
                    {"id": "age", "meaning": "age", **number, "typical": [30, 70]},
                    {"id": "ward", "meaning": "ward", "type": "category", "categories": WARDS},
                    {"id": "crp", "meaning": "CRP", **number},
                ],
                "label": {"id": "ill", "meaning": "ill", "type": label}
                | ({"unit": "1", "range": [0, 1000]} if label == "number" else {}),
            },
            "model": {"kind": "xgboost", "start": "given"}, "rounds": 0, "quorum": 3,
            "evaluation": {"test_fraction": 1}, **change,
        }
    )  # fmt: skip


def patients(of: Study) -> np.ndarray:
    rows = KNOWN["rows"]
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in ("age", "crp")}
    columns["ward"] = np.array([list(WARDS).index(row["ward"]) for row in rows], dtype=np.float64)
    return encode(of.contract, columns)


def test_a_study_that_would_train_it_is_told_before_it_is_sent() -> None:
    with pytest.raises(StudyInvalid, match="kind xgboost is judged here, and not trained"):
        Boosted().read(
            study("binary", rounds=3, evaluation={"test_fraction": 0.3}), (HERE / "logistic.json").read_bytes()
        )


@pytest.mark.parametrize("objective", LABELS)
def test_predictions_are_those_of_xgboost(objective: str) -> None:
    asked, known = study(LABELS[objective]), KNOWN["of"][objective]
    model = Boosted().read(asked, (HERE / known["model"]).read_bytes())
    sent = from_safetensors(to_safetensors(model))
    np.testing.assert_allclose(Boosted().predict(asked, sent, patients(asked)), known["expected"], rtol=2e-6)


def changed(path: list[Any], value: Any) -> bytes:
    told = json.loads((HERE / "logistic.json").read_text())
    at = told["learner"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(told).encode()


TREE = ["gradient_booster", "model", "trees", 0]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"{}", "not in XGBoost's JSON"), (b"\x00", "not in XGBoost's JSON"), (b"[" * 9999, "not in XGBoost's JSON"),
        (changed(["objective", "name"], "multi:softprob"), "multi:softprob"),
        (changed(["gradient_booster", "name"], "dart"), "dart"),
        (changed(["feature_names"], []), "does not name its inputs"),
        (changed(["feature_names", 0], "weight"), "asks for weight"),
        (changed([*TREE, "split_type", 0], 1), "splits by categories"),
        (changed(["learner_model_param", "base_score"], "[0.5,0.2]"), "several outputs"),
        ((HERE / "poisson.json").read_bytes(), "predicts a count label"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(StudyInvalid, match=words):
        Boosted().read(study("binary"), data)


@pytest.mark.parametrize(
    "name, at, value",
    [("left", 0, 0.0), ("left", 0, 1e6), ("right", 0, -1.0), ("roots", 0, -1.0), ("input", 0, -3.0), ("left", 0, 0.5),
     ("threshold", 0, np.nan), ("base", 0, np.inf)],
)  # fmt: skip
def test_arrays_that_are_no_trees_end_nothing_and_are_refused(name: str, at: int, value: float) -> None:
    """A model comes from elsewhere, and a hospital judges by it: one that goes round in a circle would never end."""
    model = Boosted().read(study("binary"), (HERE / "logistic.json").read_bytes())
    checked(model)
    model[name][at] = value
    with pytest.raises(Invalid):
        Boosted().predict(study("binary"), model, patients(study("binary")))


def test_inputs_that_the_contract_has_not_are_refused() -> None:
    model = Boosted().read(study("binary"), (HERE / "logistic.json").read_bytes())
    model["input"][0] = 99
    with pytest.raises(Invalid, match="contract has not"):
        Boosted().predict(study("binary"), model, patients(study("binary")))


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"kind": "logistic"}}, {"strategy": {"name": "scaffold"}}, {"evaluation": {"test_fraction": 0.3}},
        {"rounds": 3}, {"privacy": {"epsilon": 3, "expected_patients": 100}},
    ],
)  # fmt: skip
def test_a_study_that_trains_nothing_judges_a_given_model_on_all_patients(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rounds|below 0\.9"):
        study("binary", **change)
