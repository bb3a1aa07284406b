"""A6: one of ten hospitals flips its labels and sends thirty times the change. What a limit per parameter does of it.

The limit is `privacy.clip` times `most_patients`, cut at the hospital by code that it could alter; nobody else sees an
update, so that no rule over single updates (a median, Krum) can run under `secure_sum`. Under `plain` they can.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacks.scene import Round, Update, Vector, study
from consilium.algorithms.base import LocalObjective, Single, weighted
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.geometric import GeometricMedian
from consilium.algorithms.krum import Krum
from consilium.algorithms.robust import Median, TrimmedMean
from consilium.core import state as chain
from consilium.core.tensors import flatten, unflatten
from consilium.training.linear import Logistic

COLUMNS, PATIENTS, HOSPITALS, ROUNDS, BOOST = 8, 60, 10, 6, 30.0


def patients(seed: int, many: int = PATIENTS) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (many, COLUMNS))
    truth = np.linspace(-2, 2, COLUMNS)
    return x, (x @ truth + rng.normal(scale=0.3, size=many) > 0).astype(float)


def accuracy(folder: Path, poisoned: bool, plain: Any = None, **privacy: float) -> float:
    """Of the model after some rounds of secure sums, or of plain ones that the strategy `plain` adds up."""
    asked = study(COLUMNS, **privacy)
    asked = asked.model_copy(update={"training": asked.training.model_copy(update={"epochs": 4})})
    like = Logistic().initial(asked, [f"x{at}" for at in range(COLUMNS)])
    model = flatten(like)
    for number in range(ROUNDS):
        updates = {}
        for at in range(HOSPITALS):
            x, y = patients(at)
            bad = poisoned and at == 0
            start = unflatten(model, like)
            change = flatten(Logistic().train(asked, start, x, 1 - y if bad else y, LocalObjective(), number)) - model
            updates[f"h{at}"] = Update(change * (BOOST if bad else 1.0), float(PATIENTS))
        summed = Round(folder / str(number), asked, updates).secure().summed if plain is None else added(updates, plain)
        model = model + np.array(summed["update"]) / float(summed["weight"][0])
    x, y = patients(99, 2000)
    return float(np.mean((Logistic().predict(asked, unflatten(model, like), x) > 0.5) == (y > 0.5)))


def added(updates: dict[str, Update], strategy: Any) -> dict[str, Any]:
    """The sums at the coordinator, by a strategy that may look at single updates."""
    files, sums = [], io.BytesIO()
    for _, update in sorted(updates.items()):
        out = io.BytesIO()
        chain.write(weighted(np.zeros_like(update.change), update.change, update.patients), {}, out)
        files.append(out.getvalue())
    chain.fold(files, {}, sums, strategy if isinstance(strategy, Single) else None)
    return dict(chain.read(sums.getvalue()).arrays)


@pytest.mark.parametrize(
    "strategy", [Median({}), TrimmedMean({"liars": 1}), Krum({"liars": 1, "keep": 5}), GeometricMedian({})]
)
def test_a6_under_plain_a_rule_over_single_updates_keeps_it(tmp_path: Path, strategy: Any) -> None:
    assert accuracy(tmp_path / "mean", True, FedAvg({})) < 0.5
    assert accuracy(tmp_path / "robust", True, strategy) > 0.85


def test_a6_one_hospital_ruins_the_model_and_a_close_limit_keeps_it(tmp_path: Path) -> None:
    honest = accuracy(tmp_path / "honest", False)
    loose = accuracy(tmp_path / "loose", True)
    close = accuracy(tmp_path / "close", True, clip=0.2, most_patients=PATIENTS)
    assert honest > 0.9
    assert loose < 0.5, "the limits that a study gets by default are no defence"
    assert close > 0.85, "it steers no more than any other hospital could"


def test_a6_a_limit_far_above_true_changes_is_none(tmp_path: Path) -> None:
    """`most_patients` far above the patients there are makes room for a boost: this is the author's to choose."""
    assert accuracy(tmp_path, True, clip=0.2, most_patients=PATIENTS * 100) < 0.5
