"""Every trainer that is installed keeps every law; and each law finds a trainer that breaks it."""

import itertools
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.algorithms.base import LocalObjective
from consilium.core.errors import Refused
from consilium.core.timed import TIES
from consilium.testing import trainers
from consilium.testing.trainers import LAWS, a_study
from consilium.training.linear import Logistic

STUDIES = {
    "linear": [a_study("number", {"kind": "linear", "l2": 0.001})],
    "logistic": [a_study("binary", {"kind": "logistic"}), a_study("binary", {"kind": "logistic"}, batch_size=16)],
    "poisson": [a_study("count", {"kind": "poisson"}), a_study("count", {"kind": "poisson", "start": "drawn"})],
    "cox": [a_study("time-to-event", {"kind": "cox", "options": {"ties": ties}, "l2": 0.001}) for ties in TIES],
    "torch": [
        a_study(label, {"kind": "torch", "architecture": architecture, "options": options}, batch_size=size)
        for label, architecture, options, size in (
            ("binary", "mlp", {"hidden": [8]}, 16),
            ("number", "residual-mlp", {"width": 8, "blocks": 1}, 0),
            ("count", "logistic", {}, 0),
            ("binary", "cnn", {"shape": [1, 3], "channels": [4], "groups": 1, "pool": 1, "hidden": [8]}, 0),
        )
    ],
}
JUDGED = {"xgboost", "onnx"}
"""Kinds that train nothing: laws of training do not hold for them; see tests/vectors."""
CASES = [
    (name, study) for name in sorted(plugins.names("consilium.trainers").keys() - JUDGED) for study in STUDIES[name]
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("name", "study"), CASES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(CASES)])
def test_every_trainer_keeps_every_law(name: str, study: Any, law: Any) -> None:
    try:
        make = plugins.load("consilium.trainers", name)
    except Refused as error:
        assert error.reason == "extra"
        pytest.skip("torch is not installed")
    law(make, study)


class Wrapped:
    """Logistic regression that is right, until a method is changed."""

    def __init__(self) -> None:
        self.inner = Logistic()

    def initial(self, *given: Any) -> Any:
        return self.inner.initial(*given)

    def train(self, *given: Any) -> Any:
        return self.inner.train(*given)

    def predict(self, *given: Any) -> Any:
        return self.inner.predict(*given)

    def clipped(self, *given: Any) -> Any:
        return self.inner.clipped(*given)

    def loss(self, *given: Any) -> float:
        return self.inner.loss(*given)


turn = itertools.count()


class Random(Wrapped):
    def initial(self, *given: Any) -> Any:
        return {name: array + next(turn) for name, array in super().initial(*given).items()}


class Whole(Wrapped):
    def initial(self, *given: Any) -> Any:
        return {name: array.astype(np.int64) for name, array in super().initial(*given).items()}


class Drifting(Wrapped):
    def train(self, *given: Any) -> Any:
        return {name: array + 1e-9 * next(turn) for name, array in super().train(*given).items()}


class Narrowing(Wrapped):
    def train(self, *given: Any) -> Any:
        return {name: array.astype(np.float32) for name, array in super().train(*given).items()}


class Standardising(Wrapped):
    def train(self, study: Any, model: Any, x: Any, *rest: Any) -> Any:
        x -= x.mean(axis=0)
        return super().train(study, model, x, *rest)


class Idle(Wrapped):
    def train(self, study: Any, model: Any, *rest: Any) -> Any:
        return model


class Scoring(Wrapped):
    def predict(self, study: Any, model: Any, x: Any) -> Any:
        return x @ model["weights"]


class Ranking(Wrapped):
    def predict(self, *given: Any) -> Any:
        found = super().predict(*given)
        return np.argsort(np.argsort(found)) / max(len(found), 1)


class Deaf(Wrapped):
    def train(self, study: Any, model: Any, x: Any, y: Any, objective: Any, number: int) -> Any:
        return super().train(study, model, x, y, LocalObjective(), number)


class Restarting(Wrapped):
    def train(self, study: Any, model: Any, *rest: Any) -> Any:
        return super().train(study, {name: np.zeros_like(array) for name, array in model.items()}, *rest)


class Halving(Wrapped):
    def loss(self, *given: Any) -> float:
        return super().loss(*given) / 2


class Falling(Wrapped):
    def loss(self, *given: Any) -> float:
        return super().loss(*given) - 1e3


class Together(Wrapped):
    """Clips the sum, and not the patients."""

    def clipped(self, study: Any, model: Any, x: Any, y: Any, bound: float) -> Any:
        whole, rest = super().clipped(study, model, x, y, 1e9)
        return whole * min(1.0, bound / np.linalg.norm(whole)), rest


class Generous(Wrapped):
    def clipped(self, study: Any, model: Any, x: Any, y: Any, bound: float) -> Any:
        return super().clipped(study, model, x, y, 2 * bound)


class Averaging(Wrapped):
    def clipped(self, study: Any, model: Any, x: Any, *rest: Any) -> Any:
        whole, penalty = super().clipped(study, model, x, *rest)
        return whole / len(x), penalty


WRONG: list[tuple[Any, Any]] = [
    (trainers.begins_alike_everywhere, Random),
    (trainers.begins_alike_everywhere, Whole),
    (trainers.is_deterministic, Drifting),
    (trainers.keeps_its_layout, Narrowing),
    (trainers.leaves_its_input_alone, Standardising),
    (trainers.learns, Idle),
    (trainers.predicts_one_number_per_patient, Scoring),
    (trainers.predicts_one_number_per_patient, Ranking),
    (trainers.is_held_by_its_anchor, Deaf),
    (trainers.is_moved_by_a_linear_term, Deaf),
    (trainers.leaves_what_does_not_train, Deaf),
    (trainers.leaves_what_does_not_train, Idle),
    (trainers.goes_on_from_the_model_it_is_given, Restarting),
    (trainers.clips_each_patient, Together),
    (trainers.clips_each_patient, Generous),
    (trainers.clips_each_patient, Averaging),
    (trainers.descends_its_loss, Halving),
    (trainers.descends_its_loss, Falling),
]


@pytest.mark.parametrize(("law", "wrong"), WRONG, ids=lambda one: one.__name__)
def test_each_law_finds_a_trainer_that_breaks_it(law: Any, wrong: Any) -> None:
    law(Wrapped, STUDIES["logistic"][0])
    with pytest.raises(AssertionError):
        law(wrong, STUDIES["logistic"][0])


def test_no_law_goes_without_a_trainer_that_breaks_it() -> None:
    assert {law for law, _ in WRONG} == set(LAWS)
