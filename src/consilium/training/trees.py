"""Gradient-boosted trees that XGBoost trained elsewhere: read from its JSON, and judged. Needs no XGBoost.

A model is named arrays like any other, the nodes of all trees in a row, so that it is stored, named by its digest and
sent as models are. Inputs are found by name: `age` is the number that the contract calls so, in its unit, and
`ward=icu` is 1 for patients of that category. Chen and Guestrin 2016, KDD, https://arxiv.org/abs/1603.02754; the format
is that of `Booster.save_model`, https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from consilium.core.contract import Contract
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.training.base import Floats
from consilium.training.judged import Judged, by_name, named

LABEL = {"binary:logistic": "binary", "reg:squarederror": "number", "count:poisson": "count"}
"""Objectives that are known, and the label that each predicts."""
NODES = ("left", "right", "input", "threshold", "missing_left", "value")
LEAF = -1.0
MOST_NODES = 10_000_000


class Boosted(Judged):
    """Trees that are given."""

    def read(self, study: Study, data: bytes) -> Tensors:
        """The arrays of a model in XGBoost's JSON.

        Raises: StudyInvalid: the study trains; or it is none, or of a kind that is not known here, or its inputs are
                not the contract's.
        """
        self.wanted(study)
        try:
            learner = json.loads(data)["learner"]
            label, found = _label(learner), _trees(learner, _places(study.contract))
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise StudyInvalid(
                "the model is not in XGBoost's JSON", "write it with `save_model('model.json')`"
            ) from error
        if label != study.contract.label.type:
            raise StudyInvalid(
                f"the model predicts a {label} label, but the study's is {study.contract.label.type}",
                "give a model of the study's outcome",
            )
        checked(found)
        return found

    def predict(self, study: Study, model: Tensors, x: Floats) -> Floats:
        """Probabilities, values or rates (n,). Raises: Invalid: the arrays are no trees over these inputs."""
        checked(model)
        raw = _raw(study.contract, x)
        left, right, column = (model[name].astype(np.int64) for name in ("left", "right", "input"))
        if column.size and column.max() >= raw.shape[1]:
            raise Invalid("the trees ask for inputs that the contract has not", "give the model of this study")
        margin = np.full(len(x), float(model["base"][0]))
        for root in model["roots"].astype(np.int64):
            at = np.full(len(x), root)
            while np.any(inside := left[at] >= 0):
                value = raw[np.arange(len(x)), np.where(inside, column[at], 0)]
                down = np.where(np.isnan(value), model["missing_left"][at] > 0, value < model["threshold"][at])
                at = np.where(inside, np.where(down, left[at], right[at]), at)
            margin += model["value"][at]
        kind = study.contract.label.type
        if kind == "binary":
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margin)))
        return np.exp(np.minimum(margin, 50.0)) if kind == "count" else margin


def checked(model: Mapping[str, Any]) -> None:
    """Whether arrays are trees: every way down ends. Raises: Invalid."""
    sizes = {model[name].shape for name in NODES if name in model}
    if set(model) != {*NODES, "roots", "base"} or len(sizes) != 1 or model["base"].shape != (1,):
        raise Invalid("the model's arrays are no boosted trees", "give the model that the study names")
    size = model["left"].size
    if any(array.ndim != 1 or not np.all(np.isfinite(array)) for array in model.values()) or size > MOST_NODES:
        raise Invalid("the model's arrays are no boosted trees", "give the model that the study names")
    left, right, own = model["left"], model["right"], np.arange(size)
    inner = left != LEAF
    whole = all(np.all(model[name] == np.floor(model[name])) for name in ("left", "right", "input", "roots"))
    later = np.all((left > own) & (right > own) & (left < size) & (right < size) | ~inner)
    roots = np.all((model["roots"] >= 0) & (model["roots"] < size))
    if not (whole and later and roots and np.all(model["input"] >= 0) and np.all((right == LEAF) == ~inner)):
        raise Invalid("the model's trees do not end", "give the model that the study names")


def _label(learner: Mapping[str, Any]) -> str:
    booster, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    if booster != "gbtree" or objective not in LABEL:
        raise StudyInvalid(
            f"a model of kind {str(booster)[:40]} with the objective {str(objective)[:40]} is not known here",
            f"give one of kind gbtree with {', '.join(LABEL)}",
        )
    return LABEL[objective]


def _places(contract: Contract) -> dict[str, int]:
    return {name: place for place, name in enumerate(named(contract))}


def _trees(learner: Mapping[str, Any], places: Mapping[str, int]) -> Tensors:
    names = [str(name) for name in learner["feature_names"]]
    if not names:
        raise StudyInvalid("the model does not name its inputs", "train it on a data frame, or give `feature_names`")
    if strange := [name for name in names if name not in places]:
        raise StudyInvalid(
            f"the model asks for {', '.join(strange[:5])}, which the contract has not",
            "name numbers as the contract does, and categories as id=code",
        )
    column = np.array([places[name] for name in names], dtype=np.float64)
    parts: dict[str, list[Any]] = {name: [] for name in (*NODES, "roots")}
    start = 0
    for tree in learner["gradient_booster"]["model"]["trees"]:
        left, right = (np.array(tree[f"{side}_children"], dtype=np.float64) for side in ("left", "right"))
        if any(tree.get("split_type") or ()) or tree.get("categories"):
            raise StudyInvalid("the model splits by categories of its own", "train it on columns that are 0 or 1")
        inner, split = left != LEAF, np.array(tree["split_conditions"], dtype=np.float32).astype(np.float64)
        parts["roots"].append(np.array([float(start)]))
        parts["left"].append(np.where(inner, left + start, LEAF))
        parts["right"].append(np.where(inner, right + start, LEAF))
        parts["input"].append(np.where(inner, column[np.array(tree["split_indices"], dtype=np.int64)], 0.0))
        parts["threshold"].append(np.where(inner, split, 0.0))
        parts["missing_left"].append(np.array(tree["default_left"], dtype=np.float64))
        parts["value"].append(np.where(inner, 0.0, split))
        start += left.size
    return {**{name: np.concatenate(arrays) for name, arrays in parts.items()}, "base": np.array([_base(learner)])}


def _base(learner: Mapping[str, Any]) -> float:
    """The margin before any tree: XGBoost writes it on the scale of the outcome."""
    told = json.loads(learner["learner_model_param"]["base_score"])
    values = told if isinstance(told, list) else [told]
    if len(values) != 1:
        raise StudyInvalid("the model has several outputs", "give one that predicts one outcome")
    score, objective = float(values[0]), learner["objective"]["name"]
    if objective == "binary:logistic":
        return math.log(score) - math.log1p(-score)
    return math.log(score) if objective == "count:poisson" else score


def _raw(contract: Contract, x: Floats) -> Floats:
    """Inputs as XGBoost has them, (n, k), of single precision: numbers in the contract's units, categories 0 or 1."""
    return np.column_stack(list(by_name(contract, x).values())).astype(np.float32).astype(np.float64)
