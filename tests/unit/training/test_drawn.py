"""First weights that are drawn: the same bits everywhere, far from zero and from one another, and soon forgotten."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from consilium import plugins
from consilium.algorithms.base import LocalObjective
from consilium.core.beginning import LINEAR
from consilium.core.study import Study
from consilium.core.tensors import flatten, unflatten
from consilium.testing.trainers import a_study
from consilium.training import drawn
from consilium.training.linear import Logistic

LABELS = {"linear": "number", "logistic": "binary", "poisson": "count", "cox": "time-to-event"}
HALF = 99.0
"""Half the range of the number that `a_study` predicts."""


def asked(kind: str = "logistic", seed: int = 1, **training: Any) -> Study:
    return a_study(LABELS[kind], {"kind": kind, "start": "drawn"}, seed=seed, **training)


def first(study: Study, size: int = 25) -> np.ndarray:
    return drawn.first(study, [f"x{at}" for at in range(size)], size)


def test_the_bits_are_these() -> None:
    """Hospitals compare first models to the last bit, whatever machine and numpy they have."""
    assert [value.hex() for value in first(asked(seed=7), 3).tolist()] == BITS


BITS = ["0x1.211911de82495p+0", "0x1.332a9d14e8f5dp+0", "-0x1.b96df100198dcp+0"]


@pytest.mark.parametrize("kind", ["linear", "logistic"])
def test_none_is_near_zero_and_all_are_of_one_size(kind: str) -> None:
    unit = drawn.FAR * (HALF if kind == "linear" else 1.0) / np.sqrt(3)  # it has three inputs
    found = np.array([first(asked(kind, seed)) for seed in range(100)])
    sizes = np.abs(found) / unit
    assert sizes.min() >= 0.5 and sizes.max() <= 1.5
    assert sizes.mean() == pytest.approx(1.0, abs=0.02) and np.mean(found > 0) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1]) < 0.25


def test_all_are_others_where_a_seed_a_name_the_order_or_a_scale_is_another_one() -> None:
    """Else patients could have the scores of another study at weights that are not its own, and sums would be its own.

    By a `typical` range, for one; or with an input more, which no patient has.
    """
    names = ["a", "b", "c"]
    study = asked()
    features = list(study.contract.features)
    narrow = features[0].model_copy(update={"typical": (-1.5, 1.5)})
    scaled = study.contract.model_copy(update={"features": (narrow, *features[1:])})
    line, contract = asked("linear"), asked("linear").contract
    wide = contract.label.model_copy(update={"range": (-99.0, 99.0000001)})
    found = [
        drawn.first(study, names, 4),
        drawn.first(asked(seed=2), names, 4),
        drawn.first(study, ["a", "c", "b"], 4),
        drawn.first(study, ["a", "b", "d"], 4),
        drawn.first(study, [*names, "none"], 5),
        drawn.first(study.model_copy(update={"contract": scaled}), names, 4),
        drawn.first(line, names, 4) / HALF,
        drawn.first(
            line.model_copy(update={"contract": contract.model_copy(update={"label": wide})}), names, 4
        ) / HALF,
    ]  # fmt: skip
    shares = np.sort(np.concatenate([np.abs(one) for one in found]))
    assert np.diff(shares).min() > 1e-4, "no weight is that of any other, nor but for its scale"
    assert np.array_equal(found[0], drawn.first(study, names, 4))


def test_inputs_that_no_patient_has_bring_the_others_no_nearer_to_zero_than_a_hundred_do() -> None:
    study = asked()
    one, wide = study.contract.features[0], study.contract
    smallest = []
    for count in (3, 100, 1000):
        features = tuple(one.model_copy(update={"id": f"x{at}"}) for at in range(count))
        of = study.model_copy(update={"contract": wide.model_copy(update={"features": features})})
        smallest.append(np.abs(first(of, count + 1)).min())
    assert smallest[0] >= drawn.FAR / 2 / np.sqrt(3) and min(smallest) >= drawn.FAR / 20


def patients(seed: int, n: int = 100, columns: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(n, columns))
    return x, (rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0] + x[:, 1] - 0.3))).astype(np.float64)


def off(far: float, epochs: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """By how much of its size the fourth's part is missed by a sum at zero less one over the others at the start."""
    monkeypatch.setattr(drawn, "FAR", far)
    study, names = asked(epochs=epochs, learning_rate=0.5), ["a", "b", "c"]
    four, zero = [patients(seed) for seed in range(4)], np.zeros(4)
    missed = []

    def updates(start: np.ndarray) -> list[np.ndarray]:
        like = Logistic().initial(study, names)
        trained = (Logistic().train(study, unflatten(start, like), *one, LocalObjective(), 1) for one in four)
        return [flatten(model) - start for model in trained]

    there = updates(zero)
    for seed in range(10):
        start = flatten(Logistic().initial(asked(seed=seed), names))
        here = updates(start)
        missed += [
            np.linalg.norm(sum(there) - (sum(here) - here[at]) - there[at]) / np.linalg.norm(there[at])
            for at in range(4)
        ]
    return float(np.median(missed))


@pytest.mark.parametrize("epochs", [1, 10])
def test_a_sum_at_zero_less_one_at_the_start_is_no_hospitals_part(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is a material other model; at one near zero the rule on one model would hold in words only."""
    assert off(drawn.FAR, epochs, monkeypatch) > 1
    assert off(0.05, epochs, monkeypatch) < 0.2


@pytest.mark.parametrize("kind", ["logistic", "linear"])
def test_training_ends_where_it_ends_from_zero(kind: str) -> None:
    """Of a convex loss, to the same optimum, whatever the seed."""
    x, y = patients(1)
    make = plugins.load("consilium.trainers", kind)
    training, ends = {"epochs": 400, "learning_rate": 0.8}, []
    for start, seed in (("seed", 1), ("drawn", 1), ("drawn", 2)):
        study = a_study(LABELS[kind], {"kind": kind, "start": start, "l2": 0.1}, seed=seed, **training)
        model = make().initial(study, ["a", "b", "c"])
        ends.append(flatten(make().train(study, model, x, y, LocalObjective(), 1)))
    np.testing.assert_allclose(ends[1:], [ends[0]] * 2, rtol=0, atol=1e-6)


TIMES = {"strategy": {"name": "webdisco", "options": {"every": 7, "until": 365, "least": 1}}}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("torch", {}, "is for `model.kind` linear, logistic, poisson, cox"),
    ("logistic", {"strategy": {"name": "newton"}}, "nearly a multiple of those at zero"),
    ("cox", {"strategy": {"name": "newton"}}, "write `given`"),
    ("logistic", {"strategy": {"name": "newton-path", "options": {"penalties": [{"l1": 0.1}]}}}, "write `given`"),
    ("linear", {"strategy": {"name": "newton"}}, "the same at every first model"),
    ("poisson", {"strategy": {"name": "newton"}}, "the same at every first model"),
    ("cox", TIMES, "the same at every first model"),
    ("logistic", {"prepare": {"numbers": "standardise"}}, "beside `prepare`"),
]


@pytest.mark.parametrize(("kind", "changes", "said"), REFUSED)
def test_where_it_would_not_help_it_is_refused_with_what_does(kind: str, changes: dict[str, Any], said: str) -> None:
    architecture = {"architecture": "logistic"} if kind == "torch" else {}
    told = a_study(LABELS.get(kind, "binary"), {"kind": kind, **architecture}).model_dump(
        mode="json", exclude_none=True
    )
    told |= {"gate": "none", **changes}
    Study.model_validate(told)
    with pytest.raises(ValidationError, match=r"`model\.start` drawn") as caught:
        Study.model_validate({**told, "model": {**told["model"], "start": "drawn"}})
    assert said in str(caught.value)


def test_what_begins_at_zero_can_be_drawn() -> None:
    """Of every kind that is trained: another seed gives another first model, or `drawn` does."""
    for kind in plugins.names("consilium.trainers").keys() - {"xgboost", "onnx", "torch"}:
        first = plugins.load("consilium.trainers", kind)().initial(a_study(LABELS[kind], {"kind": kind}), ["a", "b"])
        assert (
            (kind in LINEAR)
            == (not np.any(flatten(first)))
            == np.all(flatten(plugins.load("consilium.trainers", kind)().initial(asked(kind), ["a", "b"])))
        )
