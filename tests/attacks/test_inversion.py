"""From an update back to patients: with no defence it is division; what ends it, and what does not.

A1: a patient alone in a batch. A2: a model that was made to keep patients apart ("imprint", after Fowl et al., ICLR
2022, arXiv 2110.13057). Clipped sums and noise are those of `privacy/clip.py` and `privacy/noise.py`.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from attacks.scene import Round, Update, Vector, study, uniform
from consilium.algorithms.base import LocalObjective
from consilium.core.errors import Refused
from consilium.core.ids import SiteId, digest
from consilium.core.tensors import flatten
from consilium.privacy import secagg
from consilium.privacy.clip import dense_sum
from consilium.privacy.inline import expected
from consilium.privacy.noise import normal
from consilium.privacy.secagg import Open
from consilium.training.linear import Logistic

COLUMNS, SITES = 300, ("east", "north", "south", "west")


def trained(seed: int) -> tuple[Vector, Update]:
    """One patient of one hospital, and the update that training on them gives."""
    rng, asked = np.random.default_rng(seed), study(COLUMNS)
    x, y = rng.uniform(-1, 1, (1, COLUMNS)), np.ones(1)
    model = Logistic().initial(asked, [f"x{at}" for at in range(COLUMNS)])
    after = Logistic().train(asked, model, x, y, LocalObjective(), 1)
    return x[0], Update(flatten(after) - flatten(model), 1.0)


def inverted(change: Vector) -> Vector:
    """A1: the gradient by a weight is residual times input, and the one by the intercept is the residual."""
    with np.errstate(all="ignore"):
        return np.asarray(change[1:] / change[0])


def test_a1_one_patient_is_read_off_a_plain_update_and_off_no_masked_one(tmp_path: Path) -> None:
    patients = {name: trained(seed) for seed, name in enumerate(SITES)}
    updates = {name: update for name, (_, update) in patients.items()}
    plain = Round(tmp_path / "plain", study(COLUMNS), updates).plain()
    secure = Round(tmp_path / "secure", study(COLUMNS), updates).secure()
    for name, (patient, _) in patients.items():
        assert np.abs(inverted(plain.stored[name]["update"]) - patient).max() < 1e-14, "to the last bit"
        words = np.array(secure.stored[name]["update"])
        assert uniform(words) and np.abs(inverted(words.view(np.int64).astype(float)) - patient).max() > 1
        assert abs(np.corrcoef(words.view(np.int64).astype(float)[1:], patient)[0, 1]) < 0.3
    assert np.allclose(secure.summed["update"], plain.summed["update"], atol=1e-6), "and the sum is right"


def test_a1_noise_ends_it_also_where_the_gradient_is_seen() -> None:
    x, y = np.random.default_rng(1).uniform(-1, 1, (1, COLUMNS)), np.ones((1, 1))
    ((weight, bias),) = dense_sum([x], [0.5 - y], bound=1.0)
    seen = np.concatenate([bias, weight[:, 0]])
    assert np.abs(inverted(seen) - x[0]).max() < 1e-12, "clipping alone hides nothing: it shortens, and does not turn"
    noised = seen + normal(os.urandom(32), seen.size, 1.0)
    assert np.median(np.abs(inverted(noised) - x[0])) > 0.3 and np.abs(inverted(noised) - x[0]).max() > 1


class Imprint:
    """A2: a layer whose units all look in one direction, each from another threshold on."""

    def __init__(self, units: int, columns: int) -> None:
        rng = np.random.default_rng(99)
        self.direction = rng.normal(size=columns) / np.sqrt(columns / 3)
        spread = np.sort(rng.uniform(-1, 1, (200_000 // columns * 20, columns)) @ self.direction)
        self.thresholds = np.quantile(spread, (np.arange(units) + 0.5) / units)

    def gradient(self, x: Vector, y: Vector, bound: float) -> Vector:
        """Sums over patients of the layer's gradient, weights (inputs, units) above biases."""
        active = (x @ self.direction)[:, None] > self.thresholds
        delta = active * (1 / (1 + np.exp(-0.1 * active.sum(1) / len(self.thresholds))) - y)[:, None]
        ((weight, bias),) = dense_sum([x], [delta], bound)
        return np.vstack([weight, bias])

    def found(self, seen: Vector, patients: Vector) -> float:
        """The share of patients that the difference of neighbouring units shows, to a thousandth in every value."""
        apart = np.diff(seen, axis=1)
        with np.errstate(all="ignore"):
            guesses = (apart[:-1] / apart[-1]).T
        guesses = guesses[np.all(np.isfinite(guesses), axis=1)]
        near = [np.abs(guesses - one).max(axis=1).min(initial=9.0) < 1e-3 for one in patients]
        return float(np.mean(near))


ONCE = 1e9
"""A bound that cuts nothing."""


def batch(seed: int) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (64, 20)), (rng.random(64) < 0.5).astype(float)


def test_a2_an_imprinted_model_shows_most_patients_of_one_hospital() -> None:
    made, (x, y) = Imprint(256, 20), batch(1)
    assert made.found(made.gradient(x, y, ONCE), x) > 0.5
    assert made.found(made.gradient(x, y, 1.0), x) > 0.5, "clipping alone changes lengths, not directions"
    clipped = made.gradient(x, y, 1.0)
    for multiplier in (0.01, 1.0):
        noise = normal(os.urandom(32), clipped.size, multiplier).reshape(clipped.shape)
        assert made.found(clipped + noise, x) == 0.0


def test_a2_a_secure_sum_alone_does_not_end_it(tmp_path: Path) -> None:
    """With as many units as the patients of all hospitals ask for, the sum shows them: noise is what ends this."""
    batches = {f"s{at}": batch(at) for at in range(5)}
    everybody, shown = np.vstack([x for x, _ in batches.values()]), {}
    for units in (256, 2048):
        made = Imprint(units, 20)
        updates = {name: Update(made.gradient(x, y, ONCE).ravel() / 64, 64.0) for name, (x, y) in batches.items()}
        done = Round(tmp_path / str(units), study(2), updates).secure()
        shown[units] = made.found(np.array(done.summed["update"]).reshape(21, units), everybody)
    assert shown[256] < 0.45 and shown[2048] > 0.6


def test_a2_a_state_that_does_not_follow_is_no_round() -> None:
    """A model that was imprinted in mid-run is another state than the one that the hospital computed."""
    own = Open(
        study="s", run="s-1", plan=digest(b"plan"), roster=bytes(32), opening=1, round=2, attempt=1, kind="TRAIN",
        cohort=tuple(map(SiteId, SITES)), state=digest(b"model"), segments=(),
    )  # fmt: skip
    keys = {SiteId(name): bytes(32) for name in SITES[1:]}
    with pytest.raises(Refused) as caught:
        asked = own.model_copy(update={"state": digest(b"imprinted")})
        secagg.ready(SiteId("east"), keys, bytes(32), asked, expected(own))
    assert caught.value.reason == "state-mismatch"
    assert secagg.ready(SiteId("east"), keys, bytes(32), own, expected(own))[1].site == "east"


def test_rows_that_no_patient_touched_look_like_all_others(tmp_path: Path) -> None:
    """Which diagnoses a hospital has seen: under `plain` the zeros tell, under a secure sum the zeros of all alone."""
    rng = np.random.default_rng(8)
    touched = {name: rng.random(400) < 0.3 for name in SITES}
    updates = {name: Update(np.where(seen, rng.normal(size=400), 0.0), 10.0) for name, seen in touched.items()}
    plain = Round(tmp_path / "plain", study(2), updates).plain()
    secure = Round(tmp_path / "secure", study(2), updates).secure()
    for name, seen in touched.items():
        assert np.array_equal(np.array(plain.stored[name]["update"]) != 0, seen)
        words = np.array(secure.stored[name]["update"])
        assert np.all(words != 0) and len(set(words.tolist())) == 400 and uniform(words)
    everybody = np.any(list(touched.values()), axis=0)
    assert np.array_equal(np.abs(secure.summed["update"]) > 1e-7, everybody), "what the sum says, it says"


def test_a_value_beyond_the_ring_goes_around_unless_it_is_cut(tmp_path: Path) -> None:
    """Overflow: one hospital's value turns the sum around; with the plan's limits it moves it by so much at most."""
    asked = study(2, clip=1.0, most_patients=10, bits=32)
    values = {"east": 1.0, "north": 1.0, "south": 1e4}
    updates = {name: Update(np.array([value, 0.0]), 10.0) for name, value in values.items()}
    scale = 2.0**31 / (4 * 10.0)  # room for four hospitals at the limit
    around = sum(np.array([10 * value * scale]).astype(np.int64).astype(np.uint32) for value in values.values())
    assert around.view(np.int32)[0] / scale != pytest.approx(10.0 * sum(values.values()))
    found = Round(tmp_path, asked, updates).secure().summed
    assert found["update"][0] == pytest.approx(3 * 10.0, rel=1e-6) and found["clamped"][0] == 1
