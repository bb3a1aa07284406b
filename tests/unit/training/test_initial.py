"""A plan's first model is the one that follows from its seed, to the last bit, unless the study gives one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.algorithms import encode
from consilium.api import freeze
from consilium.core.errors import Refused, StudyInvalid
from consilium.core.ids import digest
from consilium.core.study import Study
from consilium.core.tensors import Tensors, from_safetensors, to_safetensors
from consilium.testing.trainers import a_study
from consilium.training.initial import check

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("binary", {"kind": "logistic"}),
    "linear": ("number", {"kind": "linear"}),
    "poisson": ("count", {"kind": "poisson"}),
    "torch": ("binary", {"kind": "torch", "architecture": "mlp", "options": {"hidden": [3]}}),
    "logistic, drawn": ("binary", {"kind": "logistic", "start": "drawn"}),
    "cox, drawn": ("time-to-event", {"kind": "cox", "start": "drawn"}),
}


def given(study: Study, untied: bool = False) -> Study:
    model = study.model.model_copy(update={"start": "given", "untied": untied})
    return study.model_copy(update={"model": model})


def last_bit(model: Tensors) -> Tensors:
    """One value, in its last bit."""
    name = sorted(model)[-1]
    array = model[name].copy()
    array.reshape(-1).view(np.uint8)[0] ^= 1
    return {**model, name: array}


ALTERED: dict[str, Callable[[Tensors], Tensors]] = {
    "the last bit of one value": last_bit,
    "the sign of a zero, or of a value": lambda model: {name: -array for name, array in model.items()},
    "an array less": lambda model: dict(list(model.items())[1:]),
    "an array more": lambda model: {**model, "more": np.zeros(1)},
    "another shape": lambda model: {name: array.reshape(-1, 1) for name, array in model.items()},
    "other types": lambda model: {name: array.astype(np.float16) for name, array in model.items()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_follows_from_the_seed_passes(kind: str) -> None:
    study = a_study(*KINDS[kind])
    trainer = plugins.load("consilium.trainers", study.model.kind)()
    model = from_safetensors(freeze(study)[1])
    check(study, trainer, model)
    for what, altered in ALTERED.items():
        with pytest.raises(Refused) as caught:
            check(study, trainer, altered(model))
        assert caught.value.reason == "initial-model", what
        check(given(study), trainer, altered(model))


@pytest.mark.parametrize("kind", ["torch", "logistic, drawn", "cox, drawn"])
def test_another_seed_gives_another_model(kind: str) -> None:
    one, other = (a_study(*KINDS[kind], seed=seed) for seed in (1, 2))
    with pytest.raises(Refused, match="seed"):
        check(other, plugins.load("consilium.trainers", one.model.kind)(), from_safetensors(freeze(one)[1]))


@pytest.mark.parametrize("kind", ["logistic", "linear", "poisson"])
def test_a_linear_model_begins_at_zero_whatever_the_seed_unless_it_is_drawn(kind: str) -> None:
    label, model = KINDS[kind]
    for seed in (1, 2):
        assert not any(map(np.any, from_safetensors(freeze(a_study(label, model, seed=seed))[1]).values()))
    first = from_safetensors(freeze(a_study(label, {**model, "start": "drawn"}))[1])
    assert all(map(np.all, first.values()))


def test_a_study_may_start_from_a_model_that_was_trained_before(tmp_path: Path) -> None:
    study, path = given(a_study(*KINDS["logistic"]), untied=True), tmp_path / "trained.safetensors"
    names = encode.names(study.contract)
    trained = {"weights": np.arange(len(names), dtype=float), "intercept": np.ones(1)}
    path.write_bytes(to_safetensors(trained, {"study": "an older one"}))
    plan, weights = freeze(study, model=path)
    assert plan.study.model.initial == digest(weights) and weights == to_safetensors(trained)


@pytest.mark.parametrize(
    ("start", "model", "told"),
    [
        ("given", None, "none is given"),
        ("seed", {"weights": np.zeros(3), "intercept": np.zeros(1)}, "names none"),
        ("given", {"weights": np.zeros(4), "intercept": np.zeros(1)}, "other parameters"),
        ("given", {"weights": np.zeros(3, np.float32), "intercept": np.zeros(1, np.float32)}, "other parameters"),
    ],
)
def test_what_is_given_and_what_the_study_says_must_fit(
    tmp_path: Path, start: str, model: Tensors | None, told: str
) -> None:
    study, path = a_study(*KINDS["logistic"]), tmp_path / "model"
    if model is not None:
        path.write_bytes(to_safetensors(model))
    with pytest.raises(StudyInvalid, match=told) as caught:
        freeze(given(study, model is not None) if start == "given" else study, model=None if model is None else path)
    assert caught.value.remedy
