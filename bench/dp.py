"""Training with per-patient clipping and noise beside training without, and beside Opacus's fastest mode.

    make bench-dp                            (or: .venv/bin/python bench/dp.py --json bench/results.json)

A step draws patients, clips, adds noise and moves the model. It is measured twice: with batches that are drawn at once;
and as each is really used (`+`): with its own Poisson sampling, which the guarantee needs, ours as a hospital trains,
with noise in integers that is bound to what it hides. Our noise and samples come from a cipher's stream, Opacus's from
torch's generator, which nobody should rely on. Each has one core, of numpy's products, too, and keeps freed memory. All
take turns within one run; times are of the processor. Speeds are of the least of the turns' medians, for others at work
on the machine only ever add to it; how many times as fast is of each turn, in which the machine is the same for both,
and the median counts. Gradients are compared first: where they differed, speed would say nothing. Exit code 1: an aim
of `aims.py` does not hold.
"""

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

import aims
import dp_models as models
import place
from consilium.algorithms.base import LocalObjective
from consilium.core.study import Study
from consilium.privacy import clip, noise
from consilium.testing.trainers import a_study
from consilium.training import private
from consilium.training.clipped import Clipper
from consilium.training.linear import Logistic
from consilium.training.slopes import slope
from consilium.training.torch import TorchTrainer

MODES = ("ew", "ghost", "hooks", "functorch")
TOO_SLOW = 5
"""A mode that takes so many times as long as another at its first turn is not asked again: it is not the fastest."""
TURNS = {"linear": 40, "mlp": 40, "wide-mlp": 7, "cnn": 7, "image-cnn": 7, "signal-cnn": 7}
"""More, where a turn is over in the twentieth of a second: what others do on the machine lasts longer than seven."""
RNG = np.random.default_rng(models.SEED)
STEPS = {"linear": 60, "mlp": 60, "wide-mlp": 10, "cnn": 4, "image-cnn": 4, "signal-cnn": 8}


PRIVACY = {
    "recipe": "plain", "noise": "at_each_hospital", "epsilon": 8.0, "delta": 1e-5, "noise_multiplier": models.NOISE,
    "clip_norm": models.BOUND, "sampling": models.EXPECTED / models.PATIENTS, "expected_patients": models.PATIENTS,
}  # fmt: skip


def drawn() -> np.ndarray:
    """Patients of one step, so many at once."""
    return RNG.integers(0, models.PATIENTS, models.EXPECTED)


class Torch:
    """A step of ours for a torch model."""

    def __init__(self, name: str) -> None:
        self.module, self.x, self.y = models.begin(name)
        parts = list(self.module.parameters())
        self.model = torch.cat([part.detach().ravel() for part in parts])
        for part, values in zip(parts, self.model.split([part.numel() for part in parts]), strict=True):
            part.data = values.view(part.shape)
        self.values = self.model.numpy()
        self.clipper = Clipper(self.module)

    def gradient(self, chosen: np.ndarray) -> dict:
        """The sum of clipped gradients."""
        labels = self.y.take(chosen)
        inputs = torch.from_numpy(self.x.take(chosen, axis=0))
        return self.clipper.sum(inputs, lambda out, here: slope("binary", out, labels[here]), models.BOUND)

    def step(self) -> None:
        """One step."""
        found = self.gradient(drawn())
        more = noise.normal(secrets.token_bytes(32), len(self.model), models.NOISE * models.BOUND)
        more += np.concatenate([value.ravel() for value in found.values()])
        more *= models.RATE / models.EXPECTED
        self.values -= more


class Linear:
    """The same for logistic regression in numpy."""

    def __init__(self) -> None:
        module, x, y = models.begin("linear")
        self.x, self.y = x.astype(np.float64), y.astype(np.float64)
        self.w, self.b = (part.detach().numpy().astype(np.float64).ravel() for part in module.parameters())

    def gradient(self, chosen: np.ndarray) -> dict:
        """The sum of clipped gradients, closed."""
        x = self.x.take(chosen, axis=0)
        delta = 0.5 * (1 + np.tanh(0.5 * (x @ self.w + self.b))) - self.y.take(chosen)
        (weight, bias), *_ = clip.dense_sum([x], [delta[:, None]], models.BOUND)
        return {"0.weight": weight.T, "0.bias": bias}

    def step(self) -> None:
        """One step."""
        found = self.gradient(drawn())
        more = noise.normal(secrets.token_bytes(32), self.w.size + 1, models.NOISE * models.BOUND)
        self.w -= models.RATE / models.EXPECTED * (found["0.weight"].ravel() + more[:-1])
        self.b -= models.RATE / models.EXPECTED * (found["0.bias"] + more[-1:])


class Shipped:
    """Steps as a hospital makes them, in one round."""

    def __init__(self, name: str) -> None:
        _, x, y = models.begin(name)
        self.x, self.y = x.reshape(len(x), -1).astype(np.float64), y.astype(np.float64)
        shape = models.SHAPES[name]
        self.trainer = Logistic() if name == "linear" else TorchTrainer(lambda *_: unflattened(shape, name))
        kind = {"kind": "logistic"} if name == "linear" else {"kind": "torch", "architecture": "mlp"}
        asked = a_study("binary", kind, epochs=1, learning_rate=models.RATE).model_dump()
        self.study = Study.model_validate({**asked, "privacy": PRIVACY})
        like = {"intercept": np.zeros(1), "weights": np.zeros(shape[0])}
        self.model = like if name == "linear" else self.trainer.initial(self.study, [str(at) for at in range(shape[0])])

    def round(self) -> float:
        """Patients per second."""
        began, chance = time.process_time(), secrets.token_bytes(32)
        private.train(self.study, self.trainer, self.model, self.x, self.y, LocalObjective(), chance)
        return self.study.noised_steps * models.EXPECTED / (time.process_time() - began)


def unflattened(shape: tuple[int, ...], name: str) -> torch.nn.Module:
    """A model for rows of values."""
    made = models.MODELS[name]()
    return torch.nn.Sequential(torch.nn.Unflatten(1, shape), *made) if len(shape) > 1 else made


class Peer:
    """The process that runs Opacus."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [place.peer("opacus"), place.HERE / "dp_peer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **what) -> dict:
        """One command; its answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def gradient(self, name: str, mode: str) -> dict | None:
        """Its clipped sum for the first patients, or None where the mode cannot do the model."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gradient.npz"
            if "error" in self.ask(model=name, mode=mode, gradient=str(path)):
                return None
            return dict(np.load(path))


def apart(one: dict, other: dict) -> float:
    """The largest difference of two gradients, by the largest value."""
    values = [np.abs(np.asarray(one[name]) - other[name]).max() for name in other]
    return float(max(values) / max(np.abs(value).max() for value in other.values()))


def products(name: str) -> float | None:
    """Patients per second of the matrix products alone that each step of dense layers makes; None: there are others."""
    layers = list(models.MODELS[name]())
    dense = [layer.weight.detach().numpy() for layer in layers if isinstance(layer, torch.nn.Linear)]
    if any(not isinstance(layer, torch.nn.Linear | torch.nn.ReLU) for layer in layers):
        return None
    given = [np.ones((models.EXPECTED, weight.shape[1]), dtype=np.float32) for weight in dense]
    deltas = [np.ones((models.EXPECTED, len(weight)), dtype=np.float32) for weight in dense]
    found = []
    for _ in range(70):
        began = time.process_time()
        for at, weight in enumerate(dense):
            given[at] @ weight.T
            deltas[at].T @ given[at]
            if at:
                deltas[at] @ weight
        found.append(time.process_time() - began)
    return models.EXPECTED / min(found)


def one(made) -> float:
    """Patients per second of one step."""
    began = time.process_time()
    made.step()
    return models.EXPECTED / (time.process_time() - began)


def measured(peer: Peer, name: str) -> dict[str, object]:
    """One model."""
    made = Linear() if name == "linear" else Torch(name)
    shipped, mine = Shipped(name), made.gradient(np.arange(models.EXPECTED))
    theirs = {mode: peer.gradient(name, mode) for mode in MODES}
    differ = {mode: apart(mine, found) for mode, found in theirs.items() if found is not None}
    speeds: dict[str, list[float]] = {which: [] for which in ("ours", "none", *differ)}
    asked = partial(speed, peer, made, shipped, name)
    first = {which: asked(which) for which in speeds}  # not counted: kernels are chosen, memory comes
    fastest = max(first[mode] for mode in differ)
    speeds = {which: known for which, known in speeds.items() if first[which] * TOO_SLOW > fastest}
    for _ in range(TURNS[name]):
        for which, known in speeds.items():
            known.append(asked(which))
    chosen = max((mode for mode in differ if mode in speeds), key=lambda mode: statistics.median(speeds[mode]))
    for which in (f"{chosen}+", "ours+") * TURNS[name]:
        speeds.setdefault(which, []).append(asked(which))
    return {
        "model": name, "parameters": sum(np.asarray(value).size for value in mine.values()), "fastest": chosen,
        "per_s": {which: max(known) for which, known in speeds.items()}, "all": speeds, "apart": differ, "first": first,
        "products": products(name), "times": times(speeds, "ours", chosen),
        "times+": times(speeds, "ours+", f"{chosen}+"),
    }  # fmt: skip


def times(speeds: dict[str, list[float]], own: str, other: str) -> dict[str, object]:
    """How many times as fast one was as the other, turn by turn."""
    return place.spread([mine / theirs for mine, theirs in zip(speeds[own], speeds[other], strict=True)])


def speed(peer: Peer, made, shipped: Shipped, name: str, which: str) -> float:
    """Patients per second in one turn."""
    if which == "ours+":
        return shipped.round()
    if which == "ours":
        return statistics.median(one(made) for _ in range(STEPS[name]))
    steps = STEPS[name] if which == "none" else max(STEPS[name] // 3, 2)
    return models.EXPECTED / statistics.median(peer.ask(model=name, mode=which, steps=steps)["seconds"])


def tell(found: dict) -> None:
    """One line."""
    best, fastest = found["per_s"], found["fastest"]
    drawn_at_once, with_own = (
        f"{one['median']:.2f}x [{one['least']:.2f}-{one['most']:.2f}]" for one in (found["times"], found["times+"])
    )
    print(
        f"{found['model']:>9}: {best['ours']:,.0f} patients/s; without privacy {best['none']:,.0f}; Opacus {fastest} "
        f"{best[fastest]:,.0f} ({drawn_at_once}; as each is used {with_own}); "
        f"apart {max(found['apart'].values()):.1e}",
        flush=True,
    )


def main() -> int:
    """Measure, print, keep; the exit code."""
    place.as_training()
    ask, peer = place.arguments(__doc__), Peer()
    known = json.loads(ask.json.read_text()).get("dp", {}) if ask.json and ask.json.exists() else {}
    found = {one["model"]: one for one in known.get("models", [])}
    asked = ask.models or list(models.MODELS)
    for name in asked:
        found[name] = {**measured(peer, name), "load": os.getloadavg()[0]}
        tell(found[name])
    peer.close()
    told = {"expected": models.EXPECTED, "bound": models.BOUND, "noise": models.NOISE, "torch": torch.__version__}
    told["models"] = [found[name] for name in models.MODELS if name in found]
    place.keep(ask.json, "dp", {"machine": place.machine(), **told})
    return aims.verdict([aim for aim in (aims.of_dp(found[name]) for name in asked) if aim is not None])


if __name__ == "__main__":
    sys.exit(main())
