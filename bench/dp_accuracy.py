"""What an epsilon costs in accuracy: noise once for the whole consortium (D1), and whole noise at each hospital (D2).

    make bench-dp-accuracy

Wisconsin breast cancer, 569 patients with 30 features, logistic regression, 30 rounds with all patients, learning rate
2, gradients clipped to 1, delta 1e-4; five hospitals, 20 stratified splits that are fixed beforehand. Calibration,
clipping, encoding, noise and the step of the model are the product's own code, by the plans of two studies; masks,
which fall away in the sum, are left out. In D1 (`noise: shared`) hospitals add the shares that the plan asks of five,
of which one may collude; in D2 (`noise: at_each_hospital`) each adds the whole noise to each of its steps, one per
round.
"""

import json
import secrets
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedShuffleSplit

import place
from consilium.algorithms import encode
from consilium.algorithms.base import Here
from consilium.algorithms.fedavg import FedAvg
from consilium.core.study import Study
from consilium.core.tensors import flatten, unflatten
from consilium.privacy import noise
from consilium.privacy.layout import Layout
from consilium.privacy.mechanism import Mechanism, pinned
from consilium.privacy.quantize import Encoding, Noised
from consilium.training import private
from consilium.training.linear import Logistic

SITES, SPLITS, ROUNDS, RATE, CLIP, DELTA = 5, 20, 30, 2.0, 1.0, 1e-4
REPEATS = 5
"""Runs per split, each with noise of its own, whose mean is a split's result: one draw of noise says little."""
EPSILONS = (None, 8.0, 4.0, 2.0, 1.0, 0.5)
TABLE = {None: 0.9755, 8.0: 0.9745, 4.0: 0.9720, 2.0: 0.9706, 1.0: 0.9612, 0.5: 0.9409}
"""Accuracy of a prototype that scaled features by the mean and deviation of the training patients, uncharged."""


WHERE = {"d1": "shared", "d2": "at_each_hospital"}


def study(epsilon: float | None, where: str, values: np.ndarray, names: list[str], expected: int) -> Study:
    """The study. Its ranges are those of the published table, and what is typical is two digits of it: known to all."""
    low, high = values.mean(axis=0) - values.std(axis=0), values.mean(axis=0) + values.std(axis=0)
    features = [
        {
            "id": f"f{at}", "meaning": name, "type": "number", "unit": "1", "missing": "forbidden",
            "range": [float(values[:, at].min()), float(values[:, at].max())],
            "typical": [float(f"{low[at]:.1e}"), float(f"{high[at]:.1e}")],
        }
        for at, name in enumerate(names)
    ]  # fmt: skip
    privacy = {"recipe": "secure_sum", "clip_norm": CLIP, "delta": DELTA, "most_patients": 600}
    privacy |= {"epsilon": 1.0 if epsilon is None else epsilon, "expected_patients": expected, "noise": where}
    asked = Study.model_validate({
        "consilium": 1, "name": "accuracy", "title": "accuracy",
        "purpose": {"code": "research", "text": "a benchmark", "requester": "the benchmarks"},
        "contract": {
            "id": "wisconsin", "features": features, "label": {"id": "malignant", "meaning": "it is", "type": "binary"},
        },
        "model": {"kind": "logistic"}, "training": {"epochs": 1, "learning_rate": RATE},
        "rounds": ROUNDS, "quorum": SITES, "privacy": privacy,
    })  # fmt: skip
    return pinned(asked)


@contextmanager
def noiseless() -> Iterator[None]:
    """The same without noise."""
    with mock.patch.object(noise, "integers", lambda key, size, deviation: np.zeros(size, dtype=np.int64)):
        yield


def integers(encoding: Encoding, update: np.ndarray) -> np.ndarray:
    """What one hospital adds to a round."""
    whole, _ = encoding.encode(update)
    if isinstance(encoding, Noised):
        drawn = noise.integers(secrets.token_bytes(32), update.size, encoding.deviation)
        whole += drawn.astype(whole.dtype.str.replace("u", "i")).view(whole.dtype)
    return whole


def trained(asked: Study, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The model after all rounds: intercept first."""
    trainer, strategy = Logistic(), FedAvg({})
    like = trainer.initial(asked, encode.names(asked.contract))
    state = strategy.init(flatten(like))
    shape = ("F64", state["model"].size)
    encoding = Layout.of(asked, "TRAIN", shape, {}, SITES).encodings["update"]
    assert asked.privacy.weight is not None
    for _ in range(ROUNDS):
        total: np.ndarray | int = 0
        for x, y in parts:
            model, key = unflatten(state["model"], like), secrets.token_bytes(32)
            if asked.privacy.shared:
                update = private.step(asked, trainer, model, x, y, key)["update"]
            else:
                update = private.several(asked, trainer, strategy, Here(state), like, x, y, key)[0]["update"]
            total = total + integers(encoding, update)
        state = strategy.apply_chunk(state, {"update": encoding.decode(total)}, SITES * asked.privacy.weight)
    return state["model"]


def judged(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Accuracy and AUROC."""
    score = x @ w[1:] + w[0]
    return float(np.mean((score > 0) == y)), float(roc_auc_score(y, score))


def row(epsilon: float | None, x: np.ndarray, y: np.ndarray, asked: Mapping[str, Study]) -> dict[str, object]:
    """All splits at one epsilon, D1 and D2 on the same splits and hospitals."""
    known = Mechanism.of(asked["d1"])
    assert known is not None
    found: dict[str, list[tuple[float, float]]] = {"d1": [], "d2": []}
    splits = StratifiedShuffleSplit(SPLITS, test_size=0.3, random_state=0).split(x, y)
    for number, (training, test) in enumerate(splits):
        order = np.random.default_rng(number).permutation(training)
        parts = [(x[own], y[own]) for own in np.array_split(order, SITES)]
        for name, plan in asked.items():
            with noiseless() if epsilon is None else nullcontext():
                runs = [trained(plan, parts) for _ in range(REPEATS)]
            several = [judged(w, x[test], y[test]) for w in runs]
            found[name].append((statistics.mean(a for a, _ in several), statistics.mean(b for _, b in several)))
    return {
        "epsilon": epsilon, "noise": None if epsilon is None else known.noise,
        "all_honest": None if epsilon is None else known.all_honest, "wanted": TABLE[epsilon],
        **{name: figures(of) for name, of in found.items()},
        "d1_minus_d2": paired([one[0] - two[0] for one, two in zip(found["d1"], found["d2"], strict=True)]),
    }  # fmt: skip


def figures(of: list[tuple[float, float]]) -> Mapping[str, float]:
    """Means over splits, and the accuracy's standard error."""
    accuracy, auroc = zip(*of, strict=True)
    error = statistics.stdev(accuracy) / len(accuracy) ** 0.5
    return {"accuracy": statistics.mean(accuracy), "error": error, "auroc": statistics.mean(auroc)}


def paired(differences: list[float]) -> Mapping[str, float]:
    """Mean of differences split by split, and its standard error."""
    return {"mean": statistics.mean(differences), "error": statistics.stdev(differences) / len(differences) ** 0.5}


def main() -> None:
    """Print the table, and keep it."""
    where = place.arguments(__doc__).json
    data = load_breast_cancer()
    values, y = data.data, 1.0 - data.target
    expected = round(0.7 * len(y) / SITES)
    rows, fine = [], True
    for epsilon in EPSILONS:
        names = [str(name) for name in data.feature_names]
        asked = {name: study(epsilon, who, values, names, expected) for name, who in WHERE.items()}
        x = encode.encode(asked["d1"].contract, {f"f{at}": values[:, at] for at in range(values.shape[1])})
        found = row(epsilon, x, y, asked)
        rows.append(found)
        good = found["d1"]["accuracy"] >= found["wanted"] - 0.01
        good &= epsilon is None or epsilon > 2 or found["d1_minus_d2"]["mean"] > 2 * found["d1_minus_d2"]["error"]
        fine &= good
        print(json.dumps({**found, "as_it_should_be": bool(good)}), flush=True)
    told = {"sites": SITES, "splits": SPLITS, "repeats": REPEATS, "rounds": ROUNDS, "delta": DELTA, "patients": len(y)}
    place.keep(where, "dp_accuracy", {"machine": place.machine(), "rows": rows, **told})
    if not fine:
        raise SystemExit("accuracy is below what is wanted")


if __name__ == "__main__":
    main()
