"""What leaves hospitals in one round, by the code that ships and as the coordinator stores it: what an attacker has."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from consilium.algorithms.base import weighted
from consilium.core import state as chain
from consilium.core.ids import SiteId, digest
from consilium.core.study import Study
from consilium.privacy import opening, recipe, secagg
from consilium.privacy.inline import expected
from consilium.privacy.layout import Layout
from consilium.privacy.secagg import Masked, Open, Ready, Seat

Vector = np.ndarray[Any, np.dtype[np.float64]]


def study(columns: int, **privacy: Any) -> Study:
    """A logistic regression on so many numbers between -1 and 1."""
    one = {"meaning": "a number", "type": "number", "unit": "1", "range": [-1, 1], "missing": "forbidden"}
    return Study.model_validate({
        "consilium": 1, "name": "attacked", "title": "Attacked",
        "purpose": {"code": "research", "text": "a test", "requester": "the tests"},
        "contract": {
            "id": "numbers", "features": [{"id": f"x{at}", **one} for at in range(columns)],
            "label": {"id": "ill", "meaning": "is ill", "type": "binary"},
        },
        "model": {"kind": "logistic"}, "training": {"learning_rate": 0.5}, "rounds": 1, "quorum": 3,
        "min_patients": 1, "privacy": privacy,
    })  # fmt: skip


@dataclass(frozen=True)
class Update:
    """The change of a model at one hospital, and its number of patients."""

    change: Vector
    patients: float

    @property
    def segments(self) -> dict[str, Vector]:
        """As strategies send it: weighted."""
        zeros = np.zeros(len(self.change))
        return {name: np.asarray(one) for name, one in weighted(zeros, self.change, self.patients).items()}


@dataclass
class Round:
    """One round over updates by name of the hospital. `stored`: what came of each; `summed`: what was opened."""

    folder: Path
    asked: Study
    updates: Mapping[str, Update]
    stored: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    summed: Mapping[str, Any] = field(default_factory=dict)

    def _files(self) -> dict[str, Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {}
        for name, update in self.updates.items():
            found[name] = self.folder / f"update-{name}.safetensors"
            with found[name].open("wb") as out:
                chain.write(update.segments, {}, out)
        return found

    def plain(self) -> "Round":
        """Under `plain`."""
        for name, path in self._files().items():
            sent = recipe.protect("plain", path, digest(path.read_bytes()), path.stat().st_size)
            self.stored[name] = chain.read(sent.path).arrays
        self.summed = {what: sum(one[what] for one in self.stored.values()) for what in ("update", "weight")}
        return self

    def secure(self) -> "Round":
        """Under `secure_sum`: phase by phase, everybody honest."""
        files, names = self._files(), tuple(sorted(map(SiteId, self.updates)))
        size = len(next(iter(self.updates.values())).change)
        layout = Layout.of(self.asked, "TRAIN", ("F64", size), {}, len(names))
        known = digest(b"state")
        asked = Open(
            study="attacked", run="attacked-1", plan=known, roster=bytes(32), opening=0, round=1, attempt=1,
            kind="TRAIN", cohort=names, state=known, segments=layout.segments,
        )  # fmt: skip
        keys: dict[SiteId, dict[SiteId, bytes]] = {name: {} for name in names}
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                keys[one][other] = keys[other][one] = os.urandom(32)
        seats: dict[SiteId, Seat] = {}
        ready: dict[SiteId, Ready] = {}
        masked: dict[SiteId, Masked] = {}
        covered = {name: self.folder / f"masked-{name}.safetensors" for name in names}
        for name in names:
            seats[name], ready[name] = secagg.ready(name, keys[name], os.urandom(32), asked, expected(asked))
        for name in names:
            seats[name], boxes = secagg.mask(seats[name], ready.values())
            sent = recipe.mask(seats[name], layout, files[name], covered[name])
            masked[name] = secagg.masked(seats[name], sent.digest, boxes)
            self.stored[name] = chain.read(sent.path).arrays
        confirms = []
        for name in names:
            seats[name], told = secagg.confirm(seats[name], masked, masked[name])
            confirms.append(told)
        answers = [secagg.unmask(seats[name], masked, confirms)[1] for name in names]
        opened = opening.recover(asked, ready.values(), masked, answers)
        path = self.folder / "sums.safetensors"
        with path.open("wb") as out:
            recipe.recover(layout, [covered[name] for name in names], opened, {}, out)
        self.summed = chain.read(path).arrays
        return self


def uniform(words: Any) -> bool:
    """Whether bytes look drawn at random: chi-square within six deviations of what chance gives."""
    data = np.frombuffer(np.ascontiguousarray(words).tobytes(), dtype=np.uint8)
    wanted = data.size / 256
    chi = float(np.sum((np.bincount(data, minlength=256) - wanted) ** 2 / wanted))
    return abs(chi - 255) < 6 * np.sqrt(2 * 255)


def auc(inside: Vector, outside: Vector) -> float:
    """The chance that a score from inside is above one from outside."""
    ranks = np.argsort(np.argsort(np.concatenate([inside, outside])))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) - 1) / 2) / (len(inside) * len(outside)))
