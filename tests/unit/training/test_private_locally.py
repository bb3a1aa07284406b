"""Several steps under an epsilon at one hospital: each clips, draws anew and adds all its noise before it moves."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from consilium.algorithms.base import Here, Local, LocalObjective, Pass
from consilium.algorithms.ditto import Ditto
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.feddyn import FedDyn
from consilium.algorithms.fednova import FedNova
from consilium.algorithms.fedper import FedPer
from consilium.algorithms.fedprox import FedProx
from consilium.algorithms.fedrep import FedRep
from consilium.algorithms.qfedavg import QFedAvg
from consilium.algorithms.scaffold import Scaffold
from consilium.core.errors import Invalid, StudyInvalid, TrainingFailed
from consilium.core.study import Study
from consilium.core.tensors import Tensors, flatten
from consilium.privacy import noise
from consilium.testing.trainers import a_study
from consilium.training import private
from consilium.training.base import Trainer
from consilium.training.linear import Linear, Logistic, Poisson
from consilium.training.torch import TorchTrainer

KINDS = {"linear": (Linear, "number"), "logistic": (Logistic, "binary"), "poisson": (Poisson, "count")}
Z, BATCH = 2.0, 50
PRIVACY = {
    "recipe": "plain", "noise": "at_each_hospital", "epsilon": 3.0, "delta": 1e-6, "expected_patients": BATCH,
    "noise_multiplier": Z,
}  # fmt: skip
KEY = bytes(range(32))
Draw = Callable[[bytes, int, float], np.ndarray]


def asked(label: str, model: dict[str, Any], training: dict[str, Any] | None = None, **privacy: Any) -> Study:
    wanted = a_study(label, model, **{"epochs": 1, **(training or {})}).model_dump()
    return Study.model_validate({**wanted, "privacy": {**PRIVACY, **privacy}})


def made(kind: str, **more: Any) -> tuple[Trainer, Study]:
    make, label = KINDS[kind]
    return make(), asked(label, {"kind": kind, "l2": more.pop("l2", 0.0)}, **more)


def model(w: list[float]) -> Tensors:
    return {"intercept": np.array(w[:1]), "weights": np.array(w[1:])}


def trained(
    trainer: Trainer, study: Study, start: Tensors, x: np.ndarray, y: np.ndarray, key: bytes = KEY,
    objective: LocalObjective | None = None,
) -> np.ndarray:  # fmt: skip
    return flatten(private.train(study, trainer, start, x, y, objective or LocalObjective(), key))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, np.ndarray]]:
    """No noise; and who was drawn in each step, by which key."""
    seen: list[tuple[bytes, np.ndarray]] = []
    kept: Draw = noise.drawn

    def drawn(key: bytes, size: int, rate: float) -> np.ndarray:
        seen.append((key, kept(key, size, rate)))
        return seen[-1][1]

    monkeypatch.setattr(noise, "integers", lambda key, size, deviation: np.zeros(size, dtype=np.int64))
    monkeypatch.setattr(noise, "drawn", drawn)
    return seen


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_without_its_noise_it_is_the_naive_descent_on_single_clipped_gradients(
    kind: str, silent: list[tuple[bytes, np.ndarray]]
) -> None:
    """Patient after patient, step after step, with a penalty and FedProx's pull beside them."""
    bound, rate, l2, mu = 0.7, 0.3, 0.05, 0.4
    trainer, study = made(kind, l2=l2, training={"epochs": 2, "learning_rate": rate}, sampling=0.34, clip_norm=bound)
    rng = np.random.default_rng(4)
    x, start = rng.uniform(-1, 1, (9, 3)), rng.normal(size=4)
    y = {"linear": rng.normal(size=9), "logistic": rng.integers(0, 2, 9), "poisson": rng.poisson(1, 9)}[kind] * 1.0
    anchor = rng.normal(size=4)
    found = trained(trainer, study, model(start.tolist()), x, y, objective=LocalObjective(anchor=anchor, mu=mu))
    mean = {"linear": lambda z: z, "logistic": lambda z: 1 / (1 + np.exp(-z)), "poisson": np.exp}[kind]
    w = start.copy()
    assert len(silent) == study.noised_steps == 6
    for _, drawn in silent:
        total = np.zeros(4)
        for one in np.flatnonzero(drawn):
            row = np.array([1.0, *x[one]])
            gradient = (mean(row @ w) - y[one]) * row
            total += gradient * min(1.0, bound / np.linalg.norm(gradient))
        w = w - rate * (total / (0.34 * BATCH) + l2 * np.array([0.0, *w[1:]]) + mu * (w - anchor))
    grid = 2.0 ** np.ceil(np.log2(256 * 2 / bound))  # sums are rounded to integers before they get their noise
    np.testing.assert_allclose(found, w, atol=6 * rate / (0.34 * BATCH) * 0.5 / grid)


@pytest.mark.parametrize("label", ["binary", "number", "count"])
def test_torch_models_are_trained_alike(label: str, silent: list[tuple[bytes, np.ndarray]]) -> None:
    import torch

    study = asked(
        label, {"kind": "torch", "architecture": "residual-mlp", "options": {"width": 5, "blocks": 1}},
        {"epochs": 1, "learning_rate": 0.2}, sampling=0.5, clip_norm=0.4,
    )  # fmt: skip
    trainer, rng = TorchTrainer(), np.random.default_rng(2)
    start = trainer.initial(study, ["a", "b", "c"])
    x, y = rng.uniform(-1, 1, (8, 3)), rng.integers(0, 2, 8) * 1.0
    found = trained(trainer, study, start, x, y)
    module = trainer._module(study, 3)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in start.items()})
    parts = [dict(module.named_parameters())[name] for name in sorted(start)]
    assert len(silent) == 2
    for _, drawn in silent:
        total = np.zeros(flatten(start).size)
        for one in np.flatnonzero(drawn):
            score = module(torch.from_numpy(x[one : one + 1].astype(np.float32))).reshape(())
            target = torch.tensor(y[one], dtype=torch.float32)
            losses = {
                "binary": lambda s, t: torch.nn.functional.binary_cross_entropy_with_logits(s, t),
                "number": lambda s, t: (s - t) ** 2, "count": lambda s, t: torch.exp(s) - t * s,
            }  # fmt: skip
            grads = torch.autograd.grad(losses[label](score, target), parts)
            gradient = np.concatenate([grad.numpy().ravel() for grad in grads]).astype(np.float64)
            total += gradient * min(1.0, 0.4 / np.linalg.norm(gradient))
        with torch.no_grad():
            at = 0
            for part in parts:
                move = total[at : at + part.numel()].reshape(part.shape) / (0.5 * BATCH)
                part -= 0.2 * torch.from_numpy(move.astype(np.float32))
                at += part.numel()
    wanted = np.concatenate([part.detach().numpy().ravel() for part in parts])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_noise_is_normal_and_of_the_promised_size_in_every_step() -> None:
    """With nobody there, all that moves the model is noise: one step's, and the sum of four independent ones."""
    size, rate, bound = 1000, 0.5, 0.25
    for epochs in (1, 4):
        _, study = made("linear", training={"epochs": epochs, "learning_rate": rate}, clip_norm=bound)
        start = {"intercept": np.zeros(1), "weights": np.zeros(size - 1)}
        moved = trained(Linear(), study, start, np.zeros((0, size - 1)), np.zeros(0))
        deviation = rate * Z * bound / BATCH * np.sqrt(epochs)
        assert stats.kstest(moved / deviation, "norm").pvalue > 1e-3
        assert abs(np.std(moved) / deviation - 1) < 0.07, "three deviations of what so many values tell"


values = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(values, min_size=3, max_size=3), values, st.floats(1e-2, 1e2))
def test_one_patient_more_moves_a_step_by_no_more_than_the_noise_is_for(
    kind: str, patient: list[float], label: float, bound: float
) -> None:
    """By the same chance, without noise, which would be other noise: in the integers that patient alone differs."""
    trainer, study = made(kind, clip_norm=bound)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-1, 1, (5, 3)), rng.integers(0, 2, 5) * 1.0
    start = model([0.1, -0.2, 0.3, 0.0])
    none = mock.patch.object(noise, "integers", lambda key, size, deviation: np.zeros(size, dtype=np.int64))
    with np.errstate(over="ignore"), none:
        more = trained(trainer, study, start, np.vstack([x, patient]), np.append(y, label))
        fewer = trained(trainer, study, start, x, y)
    assert np.linalg.norm(more - fewer) * BATCH / study.training.learning_rate <= bound * (1 + 2.0**-6)


def test_sums_that_differ_have_other_noise_by_the_same_chance_and_the_same_sums_the_same() -> None:
    trainer, study = made("linear")
    start, y = model([0.0, 0.0]), np.zeros(1)
    still = [trained(trainer, study, start, np.array([[one]]), y) for one in (0.0, 1.0)]  # gradients are zero
    moved = trained(trainer, study, start, np.array([[1.0]]), y + 1e-3)
    assert np.array_equal(still[0], still[1])
    assert np.all(np.abs(moved - still[0]) > 1e-3 * study.training.learning_rate / BATCH)


def test_patients_are_drawn_independently_in_every_step_with_no_fixed_number(
    silent: list[tuple[bytes, np.ndarray]],
) -> None:
    """Poisson sampling: each step's count is binomial, and steps know nothing of each other. No batch is of one size,
    and no pass takes each patient once.
    """
    trainer, study = made("logistic", training={"epochs": 25}, sampling=0.05)
    n = 40
    trained(trainer, study, model([0.0] * 4), np.zeros((n, 3)), np.zeros(n))
    keys, drawn = zip(*silent, strict=True)
    assert len(set(keys)) == len(keys) == 500
    table = np.array(drawn)
    counts = np.bincount(table.sum(axis=1), minlength=8)[:8]
    expected = stats.binom.pmf(np.arange(8), n, 0.05) * 500
    seen, wanted = np.append(counts[:5], 500 - counts[:5].sum()), np.append(expected[:5], 500 - expected[:5].sum())
    assert stats.chisquare(seen, wanted).pvalue > 1e-3
    per_pass = table.reshape(25, 20, n).sum(axis=1)
    assert per_pass.min() == 0 and per_pass.max() > 2
    apart = np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]
    assert abs(apart) < 0.03


def test_another_key_is_other_chance_and_the_same_the_same_bytes() -> None:
    trainer, study = made("logistic", training={"epochs": 3}, sampling=0.5)
    x, y = np.random.default_rng(0).uniform(-1, 1, (20, 3)), np.ones(20)
    first, again, other = (trained(trainer, study, model([0.0] * 4), x, y, key) for key in (KEY, KEY, bytes(32)))
    assert first.tobytes() == again.tobytes() and np.abs(first - other).min() > 1e-6
    with pytest.raises(Invalid, match="no key"):
        trained(trainer, study, model([0.0] * 4), x, y, b"")


def test_nothing_is_of_numpys_chance_and_the_weight_is_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a generator that is not for secrets was asked")

    trainer, study = made("logistic", training={"epochs": 2}, sampling=0.5)
    monkeypatch.setattr(np.random, "default_rng", never)
    trained(trainer, study, model([0.0] * 4), np.zeros((9, 3)), np.zeros(9))
    assert private.weight(study).tolist() == [BATCH]


def test_a_layer_whose_gradients_cannot_be_told_apart_is_refused_by_name() -> None:
    import torch

    study = asked("binary", {"kind": "torch", "architecture": "their-own"})
    trainer = TorchTrainer(lambda inputs, options: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))
    start = trainer.initial(study, ["a", "b", "c"])
    with pytest.raises(StudyInvalid, match="BatchNorm1d"):
        trained(trainer, study, start, np.zeros((5, 3)), np.zeros(5))


def test_what_runs_away_is_told_and_does_not_leave() -> None:
    trainer, study = made("linear", l2=1e200, training={"epochs": 9, "learning_rate": 1e200})
    with np.errstate(all="ignore"), pytest.raises(TrainingFailed):
        trained(trainer, study, model([1.0] * 4), np.zeros((0, 3)), np.zeros(0))


class Greedy(FedAvg):
    """Asks for what has no noise."""

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        told, kept = super().contribution(here, local)
        return {**told, "update": told["update"] * here.loss(here.model)}, kept


class Double(FedAvg):
    """Trains two models, of which a plan counts one."""

    def passes(self, here: Here) -> tuple[Pass, ...]:
        return super().passes(here) * 2


def test_a_strategy_sees_nothing_but_the_noised_model_and_the_plan() -> None:
    trainer, study = made("logistic", training={"epochs": 3}, sampling=0.5)
    start, (x, y) = model([0.0] * 4), (np.ones((7, 3)), np.ones(7))
    after = trained(trainer, study, start, x, y)
    for strategy in (FedAvg({}), FedNova({}), FedProx({"mu": 0.0})):
        private.check(study, strategy, start)
        here = Here(strategy.init(flatten(start)))
        found, kept = private.several(study, trainer, strategy, here, start, x, y, KEY)
        assert found["weight"].tolist() == [BATCH] and not kept
        sums = {name: value for name, value in found.items() if name != "weight"}
        assert np.allclose(strategy.apply_chunk(strategy.init(flatten(start)), sums, BATCH)["model"], after)
        limits = strategy.sums(study, 4)
        assert all(np.abs(sums[name]).max() <= of.limit for name, of in limits.items() if of.limit is not None)
    for strategy in (Scaffold({}), FedDyn({}), FedPer({"layers": ["intercept"]})):
        private.check(study, strategy, start)
    unfit = ((Greedy({}), "asks for the loss"), (QFedAvg({}), "asks for the loss"), (Double({}), "trains 2 times"))
    unfit += ((Ditto({}), "trains 2 times"), (FedRep({"layers": ["intercept"]}), "trains 6 times"))
    for strategy, why in unfit:
        with pytest.raises(StudyInvalid, match=why):
            private.check(study, strategy, start)
        with pytest.raises(StudyInvalid, match=why):
            private.several(study, trainer, strategy, Here(strategy.init(flatten(start))), start, x, y, KEY)
        private.check(a_study("binary", {"kind": "logistic"}), strategy, start)
