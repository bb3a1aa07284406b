"""The patients of a simulation: what each hospital's agent would prepare, side by side in memory; and sites of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium import plugins
from consilium.algorithms.encode import encode
from consilium.core.study import Plan, Study
from consilium.core.tensors import Array, from_safetensors
from consilium.data.base import Floats, least, smallest
from consilium.data.copies import Copies, copies
from consilium.data.findings import Finding
from consilium.simulation import fitness
from consilium.simulation.partition import Chance, Pool
from consilium.simulation.partition import Rows as Places
from consilium.site.tables import mapped
from consilium.training.initial import check
from consilium.training.work import Examples, Rows, Work, examined

Json = dict[str, Any]


@dataclass(frozen=True)
class Patients:
    """Patients as the contract means them, one row each; `hospital` (n,) is an index into `names`.

    columns: per feature (n,): numbers in the contract's unit, or the category's index; NaN is missing.
    label: (n,).   test: (n,) held out, by the key that the patient has in its hospital's table.
    validation: (n,) by that key, who of the others chooses among models, where a study asks for that.
    fold: (n,) the part of each, by that key, where a study has folds.
    left: by hospital, how many rows were read, and how many were left out and why.
    blocked, absent: by hospital, where there are any, what a federation's gate would keep it out for, and features that
    it does not have.
    """

    columns: Mapping[str, Floats]
    label: Floats
    test: npt.NDArray[np.bool_]
    hospital: Places
    names: tuple[str, ...]
    left: Mapping[str, Json] = field(default_factory=dict)
    validation: npt.NDArray[np.bool_] | None = None
    fold: Places | None = None
    blocked: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study, mappings: Mapping[str, Path], whole: bool = False) -> "Patients":
        """The patients of every hospital, by its mapping; `study` as a plan has it, by which categories are numbered.

        Args:    whole: whether each hospital has to have a patient.
        Raises:  MappingInvalid, DataUnusable: a hospital's data do not serve, or there is no patient at all.
        """
        found = {}
        for name, path in sorted(mappings.items()):
            with fitness.of(name, mappings):
                found[name] = mapped(study, path)
        tables = {name: one.table for name, one in found.items()}
        sizes = [len(table.label) for table in tables.values()]
        empty = [name for name, table in tables.items() if not len(table.label)]
        if empty and (whole or not sum(sizes)):
            raise fitness.nobody(empty[0], study, found[empty[0]])
        columns = {
            feature.id: np.concatenate([table.columns[feature.id] for table in tables.values()])
            for feature in study.contract.inputs
        }
        label, test, validation = (
            np.concatenate([getattr(table, name) for table in tables.values()])
            for name in ("label", "test", "validation")
        )
        left = {
            name: {
                "read": one.read,
                "without_label": one.without_label,
                "incomplete": one.incomplete,
                "immature": one.left.immature,
                "excluded": one.left.excluded,
            }
            for name, one in found.items()
        }
        hospital = np.repeat(np.arange(len(sizes)), sizes)
        parts = [table.fold for table in tables.values() if table.fold is not None]
        fold = np.concatenate(parts) if parts else None
        blocked = {name: told for name, one in found.items() if (told := fitness.blocking(study, one))}
        absent = {name: lacks for name, one in found.items() if (lacks := fitness.absent(one))}
        return cls(columns, label, test, hospital, tuple(tables), left, validation, fold, blocked, absent)

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.label)

    @property
    def sizes(self) -> dict[str, int]:
        """Patients of each hospital."""
        return {name: int((self.hospital == at).sum()) for at, name in enumerate(self.names)}

    def pool(self, study: Study) -> Pool:
        """What a partition looks at."""
        return Pool(self.hospital, self.names, self.label, encode(study.contract, self.columns))

    def copies(self, study: Study, rows: Mapping[str, Places]) -> dict[str, Copies]:
        """Of each site with these rows, who stands among the training patients of any site as well."""
        chosen = self.at(np.concatenate(list(rows.values())))
        where = np.repeat(np.arange(len(rows)), [len(part) for part in rows.values()])
        found = copies(encode(study.contract, chosen.columns), chosen.label, chosen.test, where)
        return {site: found[at] for at, site in enumerate(rows) if at in found}

    def at(self, rows: Places) -> "Patients":
        """Those of these rows, in this order."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        validation = None if self.validation is None else self.validation[rows]
        fold = None if self.fold is None else self.fold[rows]
        return replace(
            self, columns=columns, label=self.label[rows], test=self.test[rows], hospital=self.hospital[rows],
            validation=validation, fold=fold,
        )  # fmt: skip

    def set_aside(self, fraction: float, chance: Chance) -> "Patients":
        """Those who are not held out, of whom about `fraction` are held out now, by chance."""
        rest = self.at(np.flatnonzero(~self.test))
        return replace(rest, test=chance.random(len(rest)) < fraction)

    def drawn(self, total: int, chance: Chance) -> "Patients":
        """So many, drawn with replacement: where a simulation has more patients than there are.

        One who is drawn twice is held out at both sites or at none, so that nobody is tested on who was trained with.
        """
        return self.at(np.sort(chance.integers(len(self), size=total)))


@dataclass(frozen=True)
class Sites:
    """A plan at simulated sites, each with rows of the patients: what `Work.load` makes of a site's table."""

    plan: Plan
    initial: bytes
    patients: Patients
    rows: Mapping[str, Places]

    def training(self, site: str) -> int:
        """Number of its training patients."""
        return int((~self.patients.test[self.rows[site]]).sum())

    def counted(self, site: str) -> int:
        """Patients of whom a study wants so many, as `data.quality.counted` has it."""
        study, mine = self.plan.study, self.rows[site]
        if study.validates:
            chosen = self.patients.validation
            return least(self.patients.test[mine], None if chosen is None else chosen[mine])
        if self.patients.fold is not None and study.evaluation.folds:
            return smallest(self.patients.fold[mine], study.evaluation.folds)
        return len(mine) if study.judged_only else self.training(site)

    def __call__(self, site: str) -> Work:
        """The plan at one site. Raises: Refused: as `Work.load`."""
        examples, rows = examined(self.plan.study, self._of(site))
        return replace(self.anywhere, examples=examples, rows=rows)

    def table(self, site: str) -> dict[str, Array]:
        """What a site's agent would give its child: by name, no identifier of a patient."""
        mine = self._of(site)
        parts = {"validation": mine.validation, "fold": mine.fold}
        known = {name: part for name, part in parts.items() if part is not None}
        features = {f"feature/{name}": values for name, values in mine.columns.items()}
        return {**features, "label": mine.y, "test": mine.test, **known}

    def lacks(self, site: str, kind: str) -> tuple[str, ...]:
        """Of what a site adds nothing to a sum of a round of `kind`: see `absence.of`."""
        return self._of(site).lacks(self.plan.study, kind)

    def _of(self, site: str) -> Rows:
        mine = self.patients.at(self.rows[site])
        validation = mine.validation if self.plan.study.validates else None
        return Rows(mine.columns, mine.label, mine.test, validation, mine.fold)

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: all but what it makes of it."""
        return {name: value for name, value in vars(self).items() if name != "anywhere"}

    @cached_property
    def anywhere(self) -> Work:
        """The plan at a site without patients: its trainer and its strategy. Raises: Refused: as `Work.load`."""
        study = self.plan.study
        trainer, like = plugins.load("consilium.trainers", study.model.kind)(), from_safetensors(self.initial)
        check(study, trainer, like)
        nobody = Examples(np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=bool))
        return Work(self.plan, trainer, plugins.strategy_of(study), like, nobody)
