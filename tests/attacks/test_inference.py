"""What updates and models say of a hospital and of who was in it, and how much of it noise leaves.

A3: how many patients are ill. A4: who was a patient. A5: an audit of epsilon through clipping, shares of noise and a
secure sum, from one run (Steinke, Nasr and Jagielski, NeurIPS 2023).
"""

import os
from pathlib import Path

import numpy as np
import pytest

from attacks.scene import Round, Update, Vector, auc, study
from consilium.algorithms.base import LocalObjective
from consilium.core.ids import SiteId, digest
from consilium.core.tensors import flatten
from consilium.privacy.accountant import Sampled, Shares, curve, epsilon, tight
from consilium.privacy.audit_dp import lower_bound
from consilium.privacy.clip import dense_sum
from consilium.privacy.inline import Party, run_secagg
from consilium.privacy.noise import integers, normal
from consilium.privacy.secagg import Open, Segment
from consilium.training.linear import Logistic

PREVALENCE = {"east": 0.1, "north": 0.3, "south": 0.45, "west": 0.8}
PATIENTS, COLUMNS = 200, 6


def test_a3_the_share_of_ill_patients_is_read_off_one_value_and_pooled_off_a_sum(tmp_path: Path) -> None:
    asked, updates = study(COLUMNS), {}
    model = Logistic().initial(asked, [f"x{at}" for at in range(COLUMNS)])
    for seed, (name, share) in enumerate(PREVALENCE.items()):
        x = np.random.default_rng(seed).uniform(-1, 1, (PATIENTS, COLUMNS))
        y = (np.arange(PATIENTS) < share * PATIENTS).astype(float)
        after = Logistic().train(asked, model, x, y, LocalObjective(), 1)
        updates[name] = Update(flatten(after) - flatten(model), float(PATIENTS))
    rate = asked.training.learning_rate
    told = lambda seen: seen["update"][0] / seen["weight"][0] / rate + 0.5  # noqa: E731  the first step is from zero
    plain = Round(tmp_path / "plain", asked, updates).plain()
    secure = Round(tmp_path / "secure", asked, updates).secure()
    for name, share in PREVALENCE.items():
        assert told(plain.stored[name]) == pytest.approx(share, abs=1e-12)
        words = {what: one.view(np.int64).astype(float) for what, one in secure.stored[name].items()}
        assert abs(float(told(words)) - share) > 1e-3
    assert told(secure.summed) == pytest.approx(np.mean(list(PREVALENCE.values())), abs=1e-9), "pooled, it is known"


def test_a3_noise_leaves_an_error_of_its_size_over_the_patients() -> None:
    y = (np.arange(PATIENTS) < 0.3 * PATIENTS).astype(float)
    residual = np.where(y == 1, -0.5, 0.5)[:, None]
    ((_, bias),) = dense_sum([np.zeros((PATIENTS, 1))], [residual], bound=1.0)
    errors = [0.5 - (bias[0] + normal(os.urandom(32), 1, 10.0)[0]) / PATIENTS - 0.3 for _ in range(400)]
    assert np.std(errors) == pytest.approx(10.0 / PATIENTS, rel=0.2)


STEPS, DELTA = 100, 1e-5


def member(noise: float, bound: float) -> float:
    """A4: how well the margin of a model with more parameters than patients tells who trained it (AUC)."""
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x, other = rng.normal(size=(2, 100, 200))
        y, truth = rng.choice([-1.0, 1.0], (2, 100))
        w = np.zeros(200)
        for _ in range(STEPS):
            residual = -y / (1 + np.exp(y * (x @ w)))
            ((weight, _),) = dense_sum([x], [residual[:, None]], bound)
            w -= 0.3 * (weight[:, 0] + normal(os.urandom(32), 200, noise * bound)) / 100
        found.append(auc(y * (x @ w), truth * (other @ w)))
    return float(np.mean(found))


def multiplier(wanted: float) -> float:
    """The noise of so many steps over everybody that says this epsilon."""
    low, high = 0.5, 500.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon(curve(Sampled(middle, 1.0, STEPS)), DELTA) > wanted else (low, middle)
    return high


def test_a4_who_was_a_patient_shows_in_margins_and_not_under_a_small_epsilon() -> None:
    assert member(0.0, 1e9) > 0.8, "a bound that cuts nothing"
    assert member(0.0, 1.0) > 0.8, "clipping alone hides nobody"
    some, little = member(multiplier(10.0), 1.0), member(multiplier(0.7), 1.0)
    assert little < 0.6 and little < some < 0.83


CANARIES, SITES = 1000, tuple(SiteId(name) for name in ("east", "north", "south", "west"))


def audited(noise: float) -> float:
    """A5: what guesses prove of epsilon, where each canary is a patient with a column of their own.

    Four hospitals clip, add their shares of noise as integers, and a secure sum is opened over all.
    """
    inside, scale = np.random.default_rng(5).random(CANARIES) < 0.5, 2.0**16
    share = Shares(len(SITES), 3).of_one(noise)
    values = {}
    for at, site in enumerate(SITES):
        mine = np.flatnonzero(inside & (np.arange(CANARIES) % len(SITES) == at))
        x = np.zeros((len(mine), CANARIES))
        x[np.arange(len(mine)), mine] = 1000.0
        ((weight, _),) = dense_sum([x], [np.full((len(mine), 1), 1.0)], bound=1.0)
        total = np.rint(weight[:, 0] * scale).astype(np.int64)
        if noise:
            total += integers(os.urandom(32), CANARIES, share * scale)
        values[site] = total.astype(np.uint32)
    asked = Open(
        study="a", run="a-1", plan=digest(b"p"), roster=bytes(32), opening=0, round=1, attempt=1, kind="TRAIN",
        cohort=SITES, state=digest(b"s"), segments=(Segment(name="update", length=CANARIES, bits=32),),
    )  # fmt: skip
    keys: dict[SiteId, dict[SiteId, bytes]] = {site: {} for site in SITES}
    for at, one in enumerate(SITES):
        for other in SITES[at + 1 :]:
            keys[one][other] = keys[other][one] = os.urandom(32)
    parties = {site: Party(keys[site], os.urandom(32), {"update": values[site]}) for site in SITES}
    total, _ = run_secagg(asked, parties)
    seen: Vector = total["update"].view(np.int32) / scale
    order = np.argsort(np.abs(seen - 0.5))[::-1][: CANARIES // 4]
    return lower_bound(CANARIES, len(order), int(np.sum((seen[order] > 0.5) == inside[order])), DELTA)


def test_a5_the_audit_of_a_secure_sum_stays_below_its_claim_and_fails_without_noise() -> None:
    claim = tight(Sampled(1.0, 1.0, 1), DELTA)
    assert 0.2 < audited(1.0) <= claim, "it measures something, and not more than was claimed"
    assert audited(0.0) > claim


def test_sums_over_rosters_that_change_show_single_hospitals_and_those_over_one_roster_do_not() -> None:
    """After So et al., AAAI 2023: updates change slowly, so that sums of several rounds can be solved for each of them.

    Nothing but noise ends this where hospitals drop out and come back: each sum alone is over enough of them.
    """
    rng = np.random.default_rng(3)
    true = rng.normal(size=(6, 50))  # a hospital's update, which each round changes a little
    for fixed in (False, True):
        there = np.ones((30, 6)) if fixed else (rng.random((30, 6)) < 0.8).astype(float)
        sums = np.stack([row @ (true + rng.normal(scale=0.05, size=true.shape)) for row in there])
        found = np.linalg.lstsq(there, sums, rcond=None)[0]
        likeness = min(np.corrcoef(one, other)[0, 1] for one, other in zip(found, true, strict=True))
        assert likeness < 0.75 if fixed else likeness > 0.98
        noised = np.linalg.lstsq(there, sums + rng.normal(scale=20.0, size=sums.shape), rcond=None)[0]
        assert min(abs(np.corrcoef(one, other)[0, 1]) for one, other in zip(noised, true, strict=True)) < 0.75
