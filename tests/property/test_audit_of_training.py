"""A one-run audit of the shipped path, from patients to an opened sum, or to the update of a hospital that adds all the
noise itself: canaries find less than the claimed epsilon, and more as soon as the noise is left out.

Each canary is a patient with a feature of its own, in gradient space a direction of its own (Dirac), in by a fair coin.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from consilium.algorithms.base import LocalObjective
from consilium.core.study import Study
from consilium.core.tensors import flatten
from consilium.privacy import noise
from consilium.privacy.accountant import Sampled, tight
from consilium.privacy.audit_dp import lower_bound
from consilium.privacy.layout import Layout
from consilium.privacy.mechanism import Mechanism
from consilium.privacy.opening import Opened
from consilium.testing.trainers import a_study
from consilium.training import private
from consilium.training.linear import Logistic
from property.test_layout import file, folder, uncovered

CANARIES, SITES, Z, DELTA = 1600, 3, 1.0, 1e-5
GUESSED = CANARIES // 4


def study(**more: Any) -> Study:
    """One round; a bound far below what a canary would add, so that clipping decides."""
    privacy = {
        "recipe": "secure_sum", "epsilon": 20.0, "delta": DELTA, "expected_patients": 400, "noise_multiplier": Z,
        "all_honest": 20.0, "clip_norm": 0.25, "most_patients": 2000,
    }  # fmt: skip
    values = a_study("binary", {"kind": "logistic"}, epochs=1).model_dump()
    return Study.model_validate({**values, "quorum": SITES, "privacy": privacy | more})


def opened(plan: Study, inside: np.ndarray) -> np.ndarray:
    """The sum over hospitals of one step; canaries are spread over them. One weight for each canary, and intercept."""
    trainer, size = Logistic(), CANARIES + 1
    model = {"intercept": np.zeros(1), "weights": np.zeros(CANARIES)}
    found = Layout.of(plan, "TRAIN", ("F64", size), {}, SITES)
    with folder() as here:
        vectors = []
        for site in range(SITES):
            mine = np.flatnonzero(inside & (np.arange(CANARIES) % SITES == site))
            x = 40.0 * np.eye(CANARIES)[mine]
            given: Any = private.step(plan, trainer, model, x, np.ones(len(mine)), bytes([site]) * 32)
            vectors.append(here / f"{site}.vector")
            with vectors[-1].open("wb") as out:
                found.cover(file(here, f"{site}", given), (), out, bytes([site + 1]) * 32)
        return np.array(uncovered(found, vectors, Opened({}, {}))["update"])


def alone(plan: Study, inside: np.ndarray) -> np.ndarray:
    """What a hospital by itself makes of its canaries in one step, as a sum."""
    x = 40.0 * np.eye(CANARIES)[inside]
    model = {"intercept": np.zeros(1), "weights": np.zeros(CANARIES)}
    found = private.train(plan, Logistic(), model, x, np.ones(len(x)), LocalObjective(), bytes(31) + b"1")
    return np.array(flatten(found)) * plan.privacy.expected_batch


def audited(plan: Study, path: Callable[[Study, np.ndarray], np.ndarray] = opened) -> float:
    """The epsilon that the best guesses refute."""
    inside = np.random.default_rng(3).random(CANARIES) < 0.5
    seen = path(plan, inside)[1:] / (plan.privacy.clip_norm * plan.training.learning_rate)
    sure = np.argsort(np.abs(seen - 0.5))[::-1][:GUESSED]
    right = int(np.sum((seen[sure] > 0.5) == inside[sure]))
    return lower_bound(CANARIES, GUESSED, right, DELTA)


def test_canaries_find_less_than_is_claimed_and_more_without_noise() -> None:
    mechanism = Mechanism.of(study())
    assert mechanism is not None
    share = mechanism.together()
    assert share == Sampled(mechanism.shares().of_all(Z), 1.0, 1)
    claimed = tight(share, DELTA)
    assert 0.3 < audited(study()) <= claimed
    with mock.patch.object(Layout, "_add_noise", lambda *_: None):
        assert audited(study()) > claimed


def test_the_same_of_a_hospital_that_adds_all_the_noise_itself() -> None:
    plan = study(noise="at_each_hospital", recipe="plain", all_honest=None)
    mechanism = Mechanism.of(plan)
    assert mechanism is not None and mechanism.event() == Sampled(Z, 1.0, 1)
    claimed = tight(mechanism.event(), DELTA)
    assert 0.3 < audited(plan, alone) <= claimed
    with mock.patch.object(noise, "integers", lambda key, size, deviation: np.zeros(size, dtype=np.int64)):
        assert audited(plan, alone) > claimed
