"""Single patients, as the hospital's source has them and as they were mapped: for a person at the hospital alone.

Here are keys and values of patients. They are given to who asked, and kept, logged, counted and sent by nobody.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from consilium.core import survival
from consilium.core.contract import Label
from consilium.core.timed import TIMED
from consilium.data.choosing import key
from consilium.data.contract import Made
from consilium.data.mapping import RecordsMap
from consilium.data.records import within

COLUMNS = ("patient", "what", "column", "as read", "mapped")
YES = "takes part"
MOST = 10
"""Records of a patient that are shown of a feature."""
Recorded = defaultdict[tuple[str, int], list[str]]
"""By feature and row: records, as the source has them."""
Line = tuple[str, str, str, str, str]
"""As `COLUMNS`: the key, the feature or label, its column in the source, what that gave, and what was made of it.

Of a source with a query it is the query's answer, and not what stands in its tables.
"""


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
        looked = list(dict.fromkeys([*rows, *even.astype(int).tolist()]))
        recorded = _recorded(made, looked)
        self.lines = [line for row in looked for line in _of(made, row, recorded)]


def _recorded(made: Made, rows: list[int]) -> Recorded:
    """Of each feature that is made of records, and of each of these rows, the records in its window."""
    index = {made.patients[row]: made.index[made.patients[row]] for row in rows}
    found = Recorded(list)
    for one in made.contract.features:
        given = made.mapping.features[one.id]
        if isinstance(given, RecordsMap):
            records = made.records[given.records]
            columns, part = records.rows.columns, records.part
            names = [name for name in (part.time or part.offset, part.code, part.value, part.unit) if name in columns]
            for seen in within(one, given, records, index):
                found[one.id, seen.row].append(" ".join(filter(None, (columns[name][seen.at] for name in names))))
    return found


def _of(made: Made, row: int, recorded: Recorded) -> Iterator[Line]:
    patient = made.patients[row]
    why = next((words for words, whose in made.why.items() if whose[row]), YES)
    yield patient, "", "", "", YES if made.kept[row] else f"left out: {why}"
    for one in made.contract.features:
        given = made.mapping.features[one.id]
        if isinstance(given, str):
            continue
        value, names = float(made.columns[one.id][row]), tuple(one.categories or ())
        told = "" if np.isnan(value) else names[int(value)] if names else f"{value:g} {one.unit}"
        if isinstance(given, RecordsMap):
            several = recorded[one.id, row]
            more = f"; and {len(several) - MOST} more" if len(several) > MOST else ""
            yield patient, one.id, f"records.{given.records}", "; ".join(several[:MOST]) + more, told
        else:
            yield patient, one.id, given.column, made.rows.columns[given.column][row] or "", told
    label, of = made.contract.label, made.mapping.label
    columns = [of.column, *([of.time.column] if of.time is not None else [])]
    there = ", ".join(made.rows.columns[name][row] or "" for name in columns)
    yield patient, label.id, ", ".join(columns), there, _label(label, float(made.label[row]))


def _label(label: Label, value: float) -> str:
    if np.isnan(value):
        return ""
    if label.type != TIMED:
        return f"{value:g} {label.unit or ''}".strip()
    ended = "with" if survival.events(np.array([value]))[0] else "without"
    return f"{abs(value):g} {label.unit}, {ended} the event"
