"""Opacus's half of `dp.py`, run by it in an environment of its own: commands come as lines of JSON, and answers go so.

A step takes a batch of the expected size that is drawn at once; or, with the mode's name and `+`, what Opacus's own
Poisson loader brings.
"""

import itertools
import json
import sys
import time
import warnings

import numpy as np
import torch
from opacus import PrivacyEngine
from torch.utils.data import DataLoader, TensorDataset

import dp_models as models


class Peer:
    """One model in one mode of Opacus, or without privacy (mode `none`)."""

    def __init__(self, name: str, mode: str, noise: float) -> None:
        self.module, x, y = models.begin(name)
        self.own, mode = mode.endswith("+"), mode.removesuffix("+")
        self.x, self.y, self.mode = torch.from_numpy(x), torch.from_numpy(y), mode
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=models.RATE)
        self.criterion = torch.nn.BCEWithLogitsLoss()
        if mode != "none":
            loader = DataLoader(TensorDataset(self.x, self.y), batch_size=models.EXPECTED)
            made = PrivacyEngine().make_private(
                module=self.module, optimizer=self.optimizer, data_loader=loader, criterion=self.criterion,
                noise_multiplier=noise, max_grad_norm=models.BOUND, poisson_sampling=self.own, grad_sample_mode=mode,
            )  # fmt: skip
            self.module, self.optimizer = made[:2]
            self.criterion = made[2] if mode == "ghost" else self.criterion
            self.batches = itertools.chain.from_iterable(itertools.repeat(made[-1]))
        self.rng = np.random.default_rng(models.SEED)

    def backward(self, x, y) -> None:
        """Gradients of a batch."""
        self.optimizer.zero_grad()
        self.criterion(self.module(x).reshape(-1), y).backward()

    def steps(self, count: int) -> list[float]:
        """Seconds of the processor for each step."""
        found = []
        for _ in range(count):
            began = time.process_time()
            if self.own:
                self.backward(*next(self.batches))
            else:
                chosen = torch.from_numpy(self.rng.integers(0, models.PATIENTS, models.EXPECTED))
                self.backward(self.x.index_select(0, chosen), self.y.index_select(0, chosen))
            self.optimizer.step()
            found.append(time.process_time() - began)
        return found

    def gradient(self, path: str) -> None:
        """The sum of clipped gradients of the first patients, without noise."""
        self.backward(self.x[: models.EXPECTED], self.y[: models.EXPECTED])
        self.optimizer.pre_step()
        told = {name.removeprefix("_module."): part.grad for name, part in self.module.named_parameters()}
        np.savez(path, **{name: (part * models.EXPECTED).detach().numpy() for name, part in told.items()})


def main() -> None:
    """Answer commands until there are none."""
    warnings.simplefilter("ignore")
    known: dict[tuple[str, str], Peer] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        known = {key: one for key, one in known.items() if key[0] == asked["model"]}
        try:
            if "gradient" in asked:
                Peer(asked["model"], asked["mode"], 0.0).gradient(asked["gradient"])
                answer = {}
            else:
                key = asked["model"], asked["mode"]
                known.setdefault(key, Peer(*key, models.NOISE))
                answer = {"seconds": known[key].steps(asked["steps"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
