"""From a hospital's mapping to the table that the child process gets: no identifier of a patient is in it."""

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from consilium import plugins, yamlfile
from consilium.core.errors import DataUnusable, MappingInvalid, Refused
from consilium.core.ids import canonical
from consilium.core.study import Study
from consilium.data import choosing, contract, quality
from consilium.data.base import Asked, source
from consilium.data.belonging import of_patients
from consilium.data.contract import Made, Mapped
from consilium.data.mapping import Mapping, RecordsMap, load
from consilium.data.records import Records
from consilium.data.systems import concepts
from consilium.durable import rest

Look = Callable[[Made], None]
"""Sees what was made of each row."""


def mapped(study: Study, mapping: Path, extracts: Path | None = None, look: Look | None = None) -> Mapped:
    """Read the hospital's rows and map them to the study's contract.

    Args:    extracts: where what a server gave is kept for the study; None: it is not.   look: for a person here.
    Raises: MappingInvalid, DataUnusable: say what, where, and what to do.
    """
    given = load(mapping, study.contract)
    kinds, folder = plugins.names("consilium.sources"), mapping.parent
    opted = given.opt_out
    lines = dict[str, int]() if opted is None else choosing.opted_out(folder / opted.path)
    out, key = frozenset(lines), given.patient.column or ""
    meant = {column: said for column, said in _meant(given, study) if column}
    asked = Asked(given.columns, extracts, study.contract.image, (key, out), meant={**meant, "": study.purpose.text})
    rows = choosing.without(source(given.source, folder, kinds, asked).rows(), key, out)
    patients = {choosing.spelt(one) for one in rows.columns.get(key, [])}
    choosing.matched(lines, rows, key, opted is None or opted.nobody_here, opted is None or opted.others_alike)
    records = {}
    for name in sorted({one.records for one in given.features.values() if isinstance(one, RecordsMap)}):
        part, where = given.records[name], f"records.{name}"
        below = extracts / f"records-{name}" if extracts is not None else None
        wanted = Asked(part.columns, below, None, (part.patient, out), rows.merged)
        found = choosing.without(source(part.source, folder, kinds, wanted).rows(), part.patient, out)
        choosing.spelt_alike(found, part.patient, opted is None or opted.nobody_here)
        means = concepts(folder / part.concept_map, f"{where}.concept_map") if part.concept_map else {}
        records[name] = of_patients(Records(part, found, where, means), patients, out)
    return contract.apply(
        given, study.contract, study.evaluation, rows, records, rows.left_out, None if opted is None else len(out), look
    )


def _meant(given: Mapping, study: Study) -> abc.Iterator[tuple[str | None, str]]:
    """What the contract says of the columns that a mapping names."""
    for feature in study.contract.features:
        yield getattr(given.features.get(feature.id), "column", None), feature.meaning
    yield given.label.column, study.contract.label.meaning


def stamp(mapping: Path) -> tuple[int, ...]:
    """What changes when the mapping does, or the list of those who opted out. Raises: MappingInvalid, DataUnusable."""
    changed = rest(mapping)
    out = _opt_out(mapping, changed)
    try:
        return (changed,) if out is None else (changed, rest(out))
    except OSError as error:
        raise DataUnusable(f"the opt-out list {out} cannot be read", "correct opt_out.path") from error


@lru_cache(maxsize=16)
def _opt_out(mapping: Path, _: int) -> Path | None:
    out = yamlfile.load(mapping, Mapping, MappingInvalid).opt_out
    return None if out is None else mapping.parent / out.path


def kind(study: Study, mapping: Path) -> str:
    """Which kind of source a mapping reads. Raises: MappingInvalid."""
    return load(mapping, study.contract).source.type


def check(study: Study, mapping: Path, extracts: Path | None = None, look: Look | None = None) -> quality.Report:
    """How well the hospital's data fit."""
    return quality.check(study, mapped(study, mapping, extracts, look))


def checked(study: Study, mapping: Path, least: int, extracts: Path | None = None) -> tuple[quality.Report, bool]:
    """The same, and whether there are at least `least` training patients, also where their number is hidden."""
    found = mapped(study, mapping, extracts)
    return quality.check(study, found), quality.counted(study, found.table) >= least


@dataclass(frozen=True)
class Prepared:
    """A table on file, and how many patients it has for training and for testing; and how many were left out.

    Args:    test: with folds all, for each is judged by a model that was trained without it.   read: rows.
             without_label, incomplete: of them, without a label, or without an input that is demanded.
             immature, excluded: by the contract, whose label is not known yet, and who is not meant.
             counted: patients of whom a study and a policy want so many; see `quality.counted`.
             digest: of what is in the table, under an epsilon; else empty.
    """

    path: Path
    training: int
    test: int
    read: int
    without_label: int
    incomplete: int
    immature: int
    excluded: int
    counted: int
    digest: str


def prepare(study: Study, mapping: Path, folder: Path, extracts: Path | None = None) -> Prepared:
    """Write the table of a study into `folder`, readable by its owner alone.

    Whether there are enough patients is not judged here: who asks counts them, by the policy, too.

    Raises: Refused: the data do not pass the check for which the study asks (`check-failed`); and as `mapped`.
    """
    found = mapped(study, mapping, extracts)
    if study.gate is not None:
        blocks = {one.kind for one in quality.check(study, found).findings if one.blocks} - {"few-patients"}
        if blocks:
            raise Refused(
                f"the data do not pass the study's check any more ({', '.join(sorted(blocks))})",
                f"`consilium site check {study.name}` says what to do",
                reason="check-failed",
            )
    table = found.table
    path, arrays = folder / "table.npz", table.arrays()
    path.touch(mode=0o600)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return Prepared(
        path, int(np.sum(~table.test)), table.judged, found.read, found.without_label, found.incomplete,
        found.left.immature, found.left.excluded,
        quality.counted(study, table), "" if study.privacy.epsilon is None else _digest(arrays),
    )  # fmt: skip


def _digest(arrays: abc.Mapping[str, Any]) -> str:
    """Of names, types, shapes and values: files of the same values may differ."""
    found = sha256()
    for name, array in sorted(arrays.items()):
        found.update(canonical([name, array.dtype.str, list(array.shape)]) + array.tobytes())
    return found.hexdigest()
