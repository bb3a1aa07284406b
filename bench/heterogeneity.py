"""Algorithms over degrees of skew: five hospitals that differ in prevalence and in how bright their images are.

Chest X-rays of one source (PneumoniaMNIST, 28 x 28, CC BY 4.0) are dealt out to five hospitals. At degree 0 they are
alike. At degree 1 pneumonia has a prevalence of 10, 30, 50, 70 and 90 percent, and each hospital's images are made
darker or brighter, and of less or more contrast, as another scanner would. A convolutional network with batch
normalisation is trained by each strategy with the same rounds, epochs and step size. The step size was chosen for
FedAvg at degree 0 on two other seeds (101 and 102), and for none of the others, whose options are their defaults but
for what the table names.

    make bench-heterogeneity          (or: .venv/bin/python bench/heterogeneity.py --data FILE [--json FILE])

Each seed deals the images anew, splits each hospital's in halves for training and testing, and begins at other weights.
"""

import argparse
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import pages
import place
from consilium import plugins
from consilium.core.study import Plan, Study
from consilium.core.tensors import to_safetensors
from consilium.simulation.executors import Inline
from consilium.simulation.rounds import Simulation
from consilium.training.torch import TorchTrainer
from consilium.training.work import Examples, Work

SITES = ("a", "b", "c", "d", "e")
PATIENTS = 500
PLACES = np.linspace(-1, 1, len(SITES))
DEGREES = (0.0, 0.5, 1.0)
SEEDS = (1, 2, 3)
POOLED = "pooled"
HEAD = ["last.*"]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    POOLED: ("fedavg", {}),
    "each alone": ("ditto", {"penalty": 0.0}),
    "fedavg": ("fedavg", {}),
    "fedprox": ("fedprox", {}),
    "scaffold": ("scaffold", {}),
    "fedbn": ("fedbn", {}),
    "fedper, last layer": ("fedper", {"layers": HEAD}),
    "fedrep, last layer": ("fedrep", {"layers": HEAD, "head_passes": 1}),
    "ditto": ("ditto", {}),
    "ifca": ("ifca", {}),
    "qfedavg": ("qfedavg", {}),
    "afl": ("afl", {}),
}
"""By the name in the table: a strategy and its options."""


def network(inputs: int, options: Any) -> Any:
    """Two convolutions with batch normalisation, and one linear layer."""
    return nn.Sequential(OrderedDict(
        image=nn.Unflatten(1, (1, 28, 28)),
        first=nn.Conv2d(1, 8, 3, stride=2, padding=1), norm1=nn.BatchNorm2d(8), relu1=nn.ReLU(),
        second=nn.Conv2d(8, 16, 3, stride=2, padding=1), norm2=nn.BatchNorm2d(16), relu2=nn.ReLU(),
        flat=nn.Flatten(), last=nn.Linear(784, 1),
    ))  # fmt: skip


def study(name: str, seed: int, ask: argparse.Namespace) -> Study:
    """A study of one strategy."""
    strategy, options = ASKED[name]
    return Study.model_validate({
        "consilium": 1, "name": "skew", "title": "skew",
        "purpose": {"code": "research", "text": "benchmark", "requester": "benchmark"},
        "contract": {
            "id": "x-rays",
            "features": [{"id": "pixels", "meaning": "of an image", "type": "number", "unit": "1", "range": [0, 1]}],
            "label": {"id": "pneumonia", "meaning": "pneumonia", "type": "binary"},
        },
        "model": {"kind": "torch", "architecture": "network"}, "strategy": {"name": strategy, "options": options},
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": ask.learning_rate, "seed": seed},
        "privacy": {"recipe": "plain"}, "rounds": ask.rounds, "quorum": 1,
    })  # fmt: skip


def images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All images (n, 784) in [0, 1], and whether each is of pneumonia."""
    with np.load(path, allow_pickle=False) as found:
        x, y = (np.concatenate([found[f"{part}_{what}"] for part in ("train", "val", "test")])
                for what in ("images", "labels"))  # fmt: skip
    return x.reshape(len(x), -1) / 255.0, y.ravel().astype(np.float64)


def hospitals(x: np.ndarray, y: np.ndarray, degree: float, seed: int) -> dict[str, Examples]:
    """Patients of each hospital; nobody is at two."""
    rng = np.random.default_rng([seed, 1])
    ill, well = (list(rng.permutation(np.flatnonzero(y == label))) for label in (1, 0))
    scanners = rng.permutation(PLACES)  # brightness and prevalence do not go together
    found = {}
    for site, place_, scanner in zip(SITES, PLACES, scanners, strict=True):
        positive = round(PATIENTS * (0.5 + 0.4 * degree * place_))
        rows = [ill.pop() for _ in range(positive)] + [well.pop() for _ in range(PATIENTS - positive)]
        rows = np.array(rows)[rng.permutation(PATIENTS)]
        seen = np.clip((x[rows] - 0.5) * np.exp(0.7 * degree * scanner) + 0.5 - 0.25 * degree * scanner, 0, 1)
        found[site] = Examples(seen, y[rows], np.arange(PATIENTS) % 2 == 0)
    return found


def measured(name: str, dealt: dict[str, Examples], seed: int, ask: argparse.Namespace) -> dict[str, float]:
    """Figures on the patients held out, of the model that each hospital uses."""
    if name == POOLED:
        parts = dealt.values()
        dealt = {"all": Examples(*(np.concatenate([getattr(one, of) for one in parts]) for of in ("x", "y", "test")))}
    plan = Plan.of(study(name, seed, ask))
    trainer = TorchTrainer(network)
    like = trainer.initial(plan.study, [""] * 784)
    works = {site: Work(plan, trainer, plugins.strategy_of(plan.study), like, one) for site, one in dealt.items()}
    with tempfile.TemporaryDirectory() as folder:
        each, weights = Inline(works.__getitem__), to_safetensors(like)
        run = Simulation(
            plan, weights, tuple(works), each, Path(folder), "skew-1", os.urandom,
            lambda site, kind: works[site].lacks(kind),
        )  # fmt: skip
        figures = run.run().figures
    return {
        "auroc": figures["all"]["auroc"]["value"],
        "brier": figures["all"]["brier"]["value"],
        "worst": max(one["brier"]["value"] for one in figures["sites"].values()),
    }


def once(degree: float, name: str, seed: int, ask: argparse.Namespace) -> dict[str, float]:
    """One run."""
    return measured(name, hospitals(*images(ask.data), degree, seed), seed, ask)


def rows(ask: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every strategy at every degree; each figure of all seeds, in order."""
    asked = [(degree, name) for degree in ask.degrees for name in ask.strategies or ASKED]
    each = [(degree, name, seed, ask) for degree, name in asked for seed in ask.seeds]
    with ProcessPoolExecutor(ask.workers) as pool:
        figures = pool.map(once, *zip(*each, strict=True))
        for degree, name in asked:
            found = [next(figures) for _ in ask.seeds]
            row = {"degree": degree, "strategy": name}
            yield row | {what: [one[what] for one in found] for what in ("auroc", "brier", "worst")}


def main() -> None:
    """Measure, print, keep."""
    words = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    data = Path(__file__).parents[2] / "shared/data/medmnist/pneumoniamnist_28_reconstructed.npz"
    words.add_argument("--data", type=Path, default=data)
    words.add_argument("--rounds", type=int, default=20)
    words.add_argument("--learning-rate", type=float, default=0.1)
    words.add_argument("--degrees", type=float, nargs="+", default=DEGREES)
    words.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    words.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    words.add_argument("--strategies", nargs="+", choices=ASKED, help="all unless given")
    words.add_argument("--json", type=Path, help="file that keeps the results; `pages.py` makes a page of it")
    ask, load, kept = words.parse_args(), os.getloadavg()[0], []
    print("degree  strategy              AUROC            Brier            Brier, worst hospital")
    for row in rows(ask):
        kept.append(row)
        cells = "  ".join(pages.mean(row[what]).ljust(15) for what in ("auroc", "brier", "worst"))
        print(f"{row['degree']:<6}  {row['strategy']:<20}  {cells}", flush=True)
    about = {
        "load": load, "rounds": ask.rounds, "learning_rate": ask.learning_rate, "seeds": len(ask.seeds),
        "patients": PATIENTS,
    }  # fmt: skip
    place.keep(ask.json, "heterogeneity", {**about, "rows": kept, "machine": place.machine()})


if __name__ == "__main__":
    main()
