"""Images of a hospital without names: accession numbers and the like are keyed hashes, by a key of the extract's own.

Whoever holds the folder and guesses numbers can find them, for the key stands there: it is the hospital's folder. What
the hashes prevent is that a number is found in a backup, a log or by a glance.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.data.dicom.images import Found
from consilium.data.extracts import KEY
from consilium.durable import own, replace_file

TEXTS = ("study", "accession", "patient", "flaw")


def key_of(folder: Path) -> bytes:
    """The key of an extract; made, where there is none."""
    path = folder / KEY
    if not path.exists():
        replace_file(path, os.urandom(32), 0o600)
    return path.read_bytes()


def veiled(key: bytes, what: str, name: str) -> str:
    """What stands for a name."""
    return hmac.new(key, f"{what}\0{name}".encode(), hashlib.sha256).hexdigest()[:32]


@dataclass
class Images:
    """Images by study; (n,) each, and pixels (rows * columns,), float32. A study without any has one row, `passed`.

    study: hash of what a search says of the study, by which it is known again while what is here is fresh.
    """

    study: list[str] = field(default_factory=list)
    accession: list[str] = field(default_factory=list)
    patient: list[str] = field(default_factory=list)
    flaw: list[str] = field(default_factory=list)  # "" for an image, "passed" for one of another kind
    pixels: list[npt.NDArray[np.float32] | None] = field(default_factory=list)

    def add(self, key: bytes, study: str, found: Found) -> None:
        """Take one image, of which the names stay behind."""
        self.study.append(study)
        self.accession.append(veiled(key, "accession", found.accession))
        self.patient.append(veiled(key, "patient", found.patient))
        self.flaw.append("passed" if found.passed else found.flaw or "")
        self.pixels.append(None if found.pixels is None else found.pixels.reshape(-1).astype(np.float32))

    def by_study(self) -> dict[str, list[int]]:
        """Places of the images of each study."""
        found: dict[str, list[int]] = {}
        for at, study in enumerate(self.study):
            found.setdefault(study, []).append(at)
        return found

    def take(self, more: "Images", places: list[int]) -> None:
        """Take some of others."""
        self.study += [more.study[at] for at in places]
        self.accession += [more.accession[at] for at in places]
        self.patient += [more.patient[at] for at in places]
        self.flaw += [more.flaw[at] for at in places]
        self.pixels += [more.pixels[at] for at in places]

    def save(self, path: Path, size: int) -> None:
        """Write them."""
        there = [one for one in self.pixels if one is not None]
        pixels = np.stack(there) if there else np.zeros((0, size), np.float32)
        arrays: dict[str, Any] = {name: np.array(getattr(self, name), dtype=np.str_) for name in TEXTS}
        with own(path) as file:
            np.savez(file, **arrays, pixels=pixels)

    @classmethod
    def load(cls, path: Path) -> "Images":
        """Read them."""
        with np.load(path, allow_pickle=False) as found:
            texts = {name: [str(one) for one in found[name]] for name in TEXTS}
            pixels = iter(found["pixels"])
            return cls(**texts, pixels=[None if flaw else next(pixels) for flaw in texts["flaw"]])
