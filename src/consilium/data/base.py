"""What a data source gives: rows of text by column; and the table that a contract makes of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from consilium.core.contract import Image
from consilium.core.errors import MappingInvalid
from consilium.core.gate import Kind
from consilium.data.merging import Merged
from consilium.data.source import TableSource

Floats = npt.NDArray[np.float64]
UNIT = re.compile(
    r"(?i:(?<![a-z])(?:units?|uom|unit[eéà]|unidad)(?![a-z])|einheit(?!lich))|[a-z](?:Units?|Uom|UOM|UoM)(?![a-z])"
)
"""Names of columns of units."""
IN_A_QUERY = "in the source's query (a single file gets one by `type: tables`)"
"""Where a person computes what no column holds."""


@dataclass(frozen=True)
class Lost:
    """Of texts of which a query makes nothing: columns of its answer that hang on them, in how many of its rows.

    by: functions of the query that do so.
    """

    columns: tuple[str, ...]
    rows: int
    of: int
    by: tuple[str, ...] = ("TRY_CAST",)


@dataclass(frozen=True)
class Missed:
    """Patients of a query's table who are in no row of its answer: how many of how many. column: of their keys."""

    column: str
    patients: int
    of: int


@dataclass(frozen=True)
class Seen:
    """Something else that is told of a query, and what to do.

    count: how many rows it is of; 0: nobody counted.   of: of so many, where a share of them blocks; 0: any ten do.
    columns: those of the answer that hang on it.   unknown: it is said that nobody knows, which blocks where its kind
    does, whatever was counted.
    """

    kind: Kind
    words: str
    remedy: str
    count: int = 0
    of: int = 0
    columns: tuple[str, ...] = ()
    unknown: bool = False


@dataclass(frozen=True)
class Unused:
    """Columns of a table that a query never looks at and that may say whether a row counts, with their numbers of
    different values; 0: nobody counted.
    """

    table: str
    columns: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unnamed:
    """Codes that stand in a column of a table, beside those that a query names, with the number of their rows."""

    column: str
    named: tuple[str, ...]
    others: tuple[tuple[str, int], ...]


Note = str | Lost | Missed | Seen | Unused | Unnamed
"""Of the rows of a source: what is not known of them, in words; what their query lost; whom it left out; and more."""


@dataclass(frozen=True)
class Rows:
    """Raw columns as a source holds them: text, or None where there is nothing. All of one length.

    others: names of columns that are there and were not read, for nobody uses them.   image: values of the image of
    each row, (n, size), NaN where there is none; None: no image was asked for.   left_out: how many of those who opted
    out are in the source, and in no row.   doubts: see `Note`; no word holds a value.
    merged: patients who stand there in several records, by the keys of the source; of the records of one person one is
    a row.   unmatched: tables in which nobody of who opted out was found, though others have some: their keys are spelt
    otherwise.   instants: columns that hold instants, told by the clock of Greenwich, for no zone is known.
    unused: of `others`, as `Unused` has them, where they were looked for.
    """

    columns: dict[str, list[str | None]]
    others: tuple[str, ...] = ()
    image: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    left_out: int = 0
    doubts: tuple[Note, ...] = ()
    merged: Merged = field(default=Merged(), repr=False)
    unmatched: tuple[str, ...] = ()
    instants: tuple[str, ...] = ()
    unused: tuple[tuple[str, int], ...] = ()

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), []))

    def passed(self, table: str, query: str) -> tuple[Unused, ...]:
        """The columns at which a query does not look, as a note of a table that is called so there."""
        read = re.search(rf"(?i)\b{re.escape(table)}\b", query) is not None
        return (Unused(table, self.unused),) if self.unused and read else ()


class Source(Protocol):
    """One hospital table."""

    def count(self) -> int:
        """Number of rows; equals len(rows())."""
        ...

    def rows(self) -> Rows:
        """All rows, as text."""
        ...


@dataclass(frozen=True)
class Asked:
    """What is asked of a source beyond the mapping.

    columns: those that the mapping uses; none named: all. Of others the names alone need be read.   named: the same in
    small letters, where a query uses them.   extracts: a folder
    of the hospital's own for what is fetched from a server; None: nothing is kept beyond the reading.   image: what the
    contract says of images.   without: column of the patient's key, and who opted out, as `choosing.key` gives them:
    they are in no row, nothing but their key is read of them, and nothing of them is kept.   merged: what another
    source of the hospital says of patients in several records.   units: whether columns that are called so are read,
    too, to see whether there are several; and of the others the different values are counted.   meant: what the
    contract says of each column, and under "" of the study.
    """

    columns: frozenset[str] = frozenset()
    extracts: Path | None = None
    image: Image | None = None
    without: tuple[str, frozenset[str]] = ("", frozenset())
    merged: Merged = field(default=Merged(), repr=False)
    named: frozenset[str] = frozenset()
    units: bool = False
    meant: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def every(self) -> bool:
        """Whether no column is named, so that nobody knows which are used."""
        return not self.columns and not self.named

    def uses(self, name: str) -> bool:
        """Whether a column is one of those."""
        return name in self.columns or name.casefold() in self.named or (self.units and UNIT.search(name) is not None)


@runtime_checkable
class Told(Protocol):
    """A source that wants to know it."""

    def told(self, asked: Asked) -> None:
        """Once, before anything is read."""
        ...


def source(given: TableSource, folder: Path, kinds: Mapping[str, EntryPoint], asked: Asked | None = None) -> Source:
    """The source that a mapping names; of all kinds, this one is loaded. Raises: MappingInvalid: no such kind."""
    if given.type not in kinds:
        raise MappingInvalid(f"source.type: {given.type!r} is none of {', '.join(sorted(kinds))}")
    made: Source = kinds[given.type].load()(given, folder)
    if asked is not None and isinstance(made, Told):
        made.told(asked)
    return made


@dataclass(frozen=True)
class Table:
    """Patients as the contract means them, one row each.

    columns: per feature (n,): numbers in the contract's unit, or the category's index; NaN is missing; of an image
    (n, size).
    label: (n,).   test: (n,) held out for testing.   validation: (n,) who of the others chooses among models, where a
    study asks for that; None: nobody.   fold: (n,) the part of each, where a study has folds: then nobody is held out
    from the common model.
    """

    columns: dict[str, Floats]
    label: Floats
    test: npt.NDArray[np.bool_]
    validation: npt.NDArray[np.bool_] | None = None
    fold: npt.NDArray[np.int64] | None = None

    @property
    def judged(self) -> int:
        """How many patients models are judged on."""
        return int(self.test.sum()) if self.fold is None else len(self.label)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the child process gets: no identifier of a patient is among it."""
        features = {f"feature/{name}": values for name, values in self.columns.items()}
        parts = {"validation": self.validation, "fold": self.fold}
        known = {name: part for name, part in parts.items() if part is not None}
        return {**features, "label": self.label, "test": self.test, **known}


def smallest(fold: npt.NDArray[np.int64], folds: int) -> int:
    """Patients of the smallest of so many folds."""
    return int(np.bincount(fold, minlength=folds).min())


def least(test: npt.NDArray[np.bool_], validation: npt.NDArray[np.bool_] | None) -> int:
    """Patients of the smaller part of those for training: of those who choose, or of those who are fitted."""
    chosen = 0 if validation is None else int(np.sum(validation & ~test))
    return min(chosen, int(np.sum(~test)) - chosen)
