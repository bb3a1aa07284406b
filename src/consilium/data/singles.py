"""Single patients, as the hospital's source has them and as they were mapped: for a person at the hospital alone.

Here are keys and values of patients. They are given to who asked, and kept, logged, counted and sent by nobody.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from consilium.core import survival
from consilium.core.contract import Label
from consilium.core.timed import TIMED
from consilium.data.choosing import key, spelt
from consilium.data.contract import Made
from consilium.data.mapping import FeatureMap, LabelMap, RecordsMap

COLUMNS = ("patient", "what", "column", "in the source", "mapped")
YES = "takes part"
Line = tuple[str, str, str, str, str]
"""As `COLUMNS`: the key, the feature or label, its column in the source, what stands there, and what was made of it."""


@dataclass
class Singles:
    """Who is looked at, and what was found of them.

    count: so many patients, evenly over the rows, so that a second look shows the same ones; of `keys`: these.
    unknown: how many of the keys are in no row.
    """

    count: int = 0
    keys: Collection[str] = ()
    lines: list[Line] = field(default_factory=list)
    unknown: int = 0

    def __call__(self, made: Made) -> None:
        """See what was made of each row."""
        wanted = set(map(key, self.keys))
        rows = [row for row, patient in enumerate(made.patients) if key(patient) in wanted]
        self.unknown = len(wanted) - len({key(made.patients[row]) for row in rows})
        even = np.linspace(0, len(made.patients) - 1, min(self.count, len(made.patients))).round()
        self.lines = [line for row in dict.fromkeys([*rows, *even.astype(int).tolist()]) for line in _of(made, row)]


def _of(made: Made, row: int) -> Iterator[Line]:
    patient = made.patients[row]
    why = next((words for words, whose in made.why.items() if whose[row]), YES)
    yield patient, "", "", "", YES if made.kept[row] else f"left out: {why}"
    for one in made.contract.features:
        given = made.mapping.features[one.id]
        if isinstance(given, str):
            continue
        value, names = float(made.columns[one.id][row]), tuple(one.categories or ())
        told = "" if np.isnan(value) else names[int(value)] if names else f"{value:g} {one.unit}"
        yield patient, one.id, *_source(made, given, row), told
    label = made.contract.label
    yield patient, label.id, *_source(made, made.mapping.label, row), _label(label, float(made.label[row]))


def _label(label: Label, value: float) -> str:
    if np.isnan(value):
        return ""
    if label.type != TIMED:
        return f"{value:g} {label.unit or ''}".strip()
    ended = "with" if survival.events(np.array([value]))[0] else "without"
    return f"{abs(value):g} {label.unit}, {ended} the event"


def _source(made: Made, given: FeatureMap | RecordsMap | LabelMap, row: int) -> tuple[str, str]:
    """Column and text of a row; of records, how many the patient has there."""
    if isinstance(given, RecordsMap):
        found = made.records[given.records]
        whose = found.rows.columns.get(found.part.patient, [])
        count = sum(spelt(one) == made.patients[row] for one in whose)
        return f"records.{given.records}", f"{count} records"
    names = [given.column]
    if isinstance(given, LabelMap) and given.time is not None:
        names.append(given.time.column)
    return ", ".join(names), ", ".join(made.rows.columns[name][row] or "" for name in names)
