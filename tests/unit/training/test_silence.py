"""Who would add nothing to a secure sum: by what it adds, and, where patients are compared, by who they are."""

import io
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from consilium import plugins
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core import survival
from consilium.core.errors import Refused
from consilium.core.study import Study
from consilium.core.tensors import flatten, from_safetensors
from consilium.testing.trainers import a_study
from consilium.training import silence
from consilium.training.cox import Cox
from consilium.training.linear import Logistic
from consilium.training.work import Examples, Work
from unit.algorithms.test_segments import SUMMED, of

TIES = [a_study("time-to-event", {"kind": "cox", "options": {"ties": ties}}) for ties in ("efron", "breslow")]


@settings(max_examples=50)
@given(
    x=arrays.arrays(float, (7, 2), elements=st.sampled_from([0.0, 1.0])),
    time=arrays.arrays(float, 7, elements=st.sampled_from([1.0, 2.0, 3.0])),
    had=arrays.arrays(bool, 7),
)
def test_patients_are_compared_exactly_where_the_likelihood_is_curved_or_inclined(
    x: np.ndarray, time: np.ndarray, had: np.ndarray
) -> None:
    """At any model, and by either way to count ties: of zeros and ones sums of shares do not cancel there."""
    y = survival.joined(time, had)
    for study in TIES:
        found = Cox().curvature(study, {"weights": np.array([0.7, -0.4])}, x, y, False)
        flat = bool(np.allclose(found.gradient, 0, atol=1e-9) and np.allclose(found.hessian, 0, atol=1e-9))
        assert Cox().compares(x, y) is not flat


def refused(study: Study, told: dict[str, Any]) -> bool:
    try:
        silence.heard(study, told)
    except Refused as refusal:
        assert refusal.reason == "nothing"
        return True
    return False


@pytest.mark.parametrize("name", SUMMED)
def test_zeros_are_refused_whatever_is_told_of_a_hospital_beside_them(name: str) -> None:
    """Numbers of patients, steps and words are no part of what patients are like; any other number is."""
    found = of("binary", name) or of("time-to-event", name)
    assert found is not None
    sums = plugins.sums_of(found, "TRAIN", 3)
    told = {key: np.zeros(1) for key in sums} | {"weight": np.ones(1), "metrics/n": np.ones(1)}
    beside = {"steps", "sites", "patients", "fitted", "beyond", "events", "spans"}
    told |= {key: np.ones(1) for key in told if key.rpartition("-")[0] in beside or key in beside}
    common = name == "webdisco"  # its first round is words alone
    assert refused(found, told) is not common
    for key in told.keys() - beside - {"weight", "metrics/n"}:
        if key.rpartition("-")[0] not in beside:
            assert not refused(found, told | {key: np.array([1e-300])}), key


@pytest.mark.parametrize("privacy", [{"recipe": "plain"}, {"epsilon": 4.0}])
def test_nobody_refuses_where_each_is_seen_or_where_there_is_noise(privacy: dict[str, Any]) -> None:
    found = of("binary", "fedavg")
    assert found is not None and refused(found, {"weight": np.ones(1), "update": np.zeros(3)})
    other = found.model_copy(update={"privacy": found.privacy.model_copy(update=privacy)})
    assert not refused(other, {"weight": np.ones(1), "update": np.zeros(3)})


def test_only_models_that_compare_patients_are_asked_whether_they_do() -> None:
    study, one = a_study("time-to-event", {"kind": "cox"}), np.zeros((1, 2))
    secret = study.model_copy(update={"privacy": study.privacy.model_copy(update={"recipe": "secure_sum"})})
    silence.compared(secret, Logistic(), one, np.ones(1))
    with pytest.raises(Refused, match="add nothing to the sum"):
        silence.compared(secret, Cox(), one, np.ones(1))


@pytest.mark.parametrize(("name", "more"), [("newton", {"evaluation": {"folds": 5}}), ("newton-path", {})])
def test_each_of_several_models_in_a_sum_has_patients_to_compare(name: str, more: dict[str, Any]) -> None:
    """A fold, or the patients who choose among penalties, may hold the only events of a hospital: of models that are
    fitted without them the sums would be those of the others alone.
    """
    told = of("time-to-event", name, **more)
    assert told is not None
    plan, weights = freeze(told)
    like, n = from_safetensors(weights), 30
    x, time = np.random.default_rng(1).normal(size=(n, flatten(like).size)), np.arange(n) + 1.0
    state = io.BytesIO()
    chain.begin(plugins.strategy_of(plan.study), weights, "sums-1", state)
    part = np.arange(n) % 5
    for had, refuses in ((part == 0, True), (np.ones(n, dtype=bool), False)):
        examples = Examples(x, survival.joined(time, had), np.zeros(n, dtype=bool))
        of_part = {"fold": part} if "evaluation" in more else {"validation": part == 0}
        work = Work(plan, Cox(), plugins.strategy_of(plan.study), like, replace(examples, **of_part))
        with pytest.raises(Refused, match="add nothing to the sum") if refuses else nullcontext():
            work.train(state.getvalue(), 1)
