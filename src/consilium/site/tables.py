"""From a hospital's mapping to the table that the child process gets: no identifier of a patient is in it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from consilium import plugins
from consilium.core.study import Study
from consilium.data import contract, quality
from consilium.data.base import source
from consilium.data.contract import Mapped
from consilium.data.mapping import load


def mapped(study: Study, mapping: Path) -> Mapped:
    """Read the hospital's rows and map them to the study's contract.

    Raises: MappingInvalid, DataUnusable: say what, where, and what to do.
    """
    given = load(mapping, study.contract)
    rows = source(given.source, mapping.parent, plugins.names("consilium.sources")).rows()
    return contract.apply(given, study.contract, study.evaluation, rows)


def check(study: Study, mapping: Path) -> quality.Report:
    """How well the hospital's data fit."""
    return quality.check(study, mapped(study, mapping))


def checked(study: Study, mapping: Path, least: int) -> tuple[quality.Report, bool]:
    """The same, and whether there are at least `least` training patients, also where their number is hidden."""
    found = mapped(study, mapping)
    return quality.check(study, found), _training(found) >= least


def enough(study: Study, mapping: Path, least: int) -> bool:
    """Whether there are at least `least` training patients."""
    return _training(mapped(study, mapping)) >= least


def _training(found: Mapped) -> int:
    return int((~found.table.test).sum())


@dataclass(frozen=True)
class Prepared:
    """A table on file, and how many patients it has for training and for testing."""

    path: Path
    training: int
    test: int


def prepare(study: Study, mapping: Path, folder: Path) -> Prepared:
    """Write the table of a study into `folder`, readable by its owner alone."""
    table = mapped(study, mapping).table
    path = folder / "table.npz"
    path.touch(mode=0o600)
    with path.open("wb") as file:
        np.savez(file, **table.arrays())  # type: ignore[arg-type]
    test = int(table.test.sum())
    return Prepared(path, len(table.label) - test, test)
