"""Categories made of records: what the value of the first or the last record within the window means.

A value means what the hospital says (`codes`), else what the contract says of its code, else what the hospital's
concept map says. As with numbers, what has no meaning is never passed over: a patient with a record of such a value
within the window has no category, and is counted; so is one of whom two values of that moment mean different things, or
of whom the record that counts may be one without a moment or a code system.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from consilium.core.contract import Feature
from consilium.data.base import Floats
from consilium.data.mapping import RecordsMap, normal
from consilium.data.moments import Place, When, unordered
from consilium.data.records import INDEX, Records, column, may_be, undated, unused, within
from consilium.data.systems import Code, Means, uri

SEVERAL = "(several at one moment)"
"""What a patient is counted under of whom two values of one moment mean different categories."""


@dataclass
class Cell:
    """What the records of one patient came to: the category at each moment, and values that mean none.

    places: their moments.   doubts: those of records that may count and cannot be read, where they are known, and why.
    """

    found: dict[float, set[str]] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    strange: set[str] = field(default_factory=set)
    doubts: list[tuple[Place | None, str]] = field(default_factory=list)


def values(
    feature: Feature, given: RecordsMap, records: Records, index: Mapping[str, tuple[int, When | None]],
    always: frozenset[str], told: Any,
) -> Floats:  # fmt: skip
    """The feature, the place of its category per patient; NaN where there is none.

    Args:    index: per patient, its row and its index moment.   told: counts, by what became of each patient.
    Raises:  MappingInvalid: a column is not there.   DataUnusable: a moment cannot be read.
    """
    part, cells = records.part, [Cell() for _ in index]
    texts, systems = column(records, part.value_code or part.value), column(records, part.value_system)
    gone, own = always.union(part.missing, given.missing), given.codes or {}
    meaning = _Meaning(feature, records.means, part.value_system is None)
    told.unused = unused(given, records)
    for one in within(feature, given, records, index):
        cell, place, at, text = cells[one.row], one.place, one.at, texts[one.at]
        code = None if text is None else normal(text)
        if text is None or code is None or (code in gone and code not in own):
            continue
        meant = own.get(code) or meaning.of(text.strip(), (systems[at] or "").strip())
        if place is None or one.why:  # a value that means none counts wherever it stands
            cell.doubts.append((None if meant is None else place, one.why))
            continue
        cell.places.append(place)
        if meant is None:
            cell.strange.add(code)
        else:
            cell.found.setdefault(place.after, set()).add(meant)
    return _chosen(feature, cells, undated(index, part), told)


def _chosen(feature: Feature, cells: list[Cell], vague: frozenset[int], told: Any) -> Floats:
    places = {name: float(place) for place, name in enumerate(feature.categories or {})}
    found = np.full(len(cells), math.nan)
    for row, cell in enumerate(cells):
        edge = (min if feature.aggregate == "first" else max)(cell.found) if cell.found else None
        chosen = cell.found[edge] if edge is not None else set()
        doubts = [why for place, why in cell.doubts if may_be(str(feature.aggregate), place, cell.places)]
        doubts += filter(None, [unordered(edge, cell.places) if edge is not None else ""])
        if row in vague:
            told.not_a_number += 1
            told.unread[INDEX] += 1
        elif cell.strange:
            told.unmapped[min(cell.strange)] += 1
        elif doubts:
            told.not_a_number += 1
            told.unread[min(doubts)] += 1
        elif len(chosen) > 1:
            told.unmapped[SEVERAL] += 1
        elif chosen:
            found[row] = places[next(iter(chosen))]
            told.usable += 1
        else:
            told.missing += 1
    return found


class _Meaning:
    """Which category a coded value means by the contract, or by the hospital's concept map."""

    def __init__(self, feature: Feature, means: Means, unnamed: bool) -> None:
        self._known: dict[Code, str] = {
            (uri(one.system), one.code): name for name, several in feature.values.items() for one in several
        }
        self._means, self._plain = means, dict[str, set[str]]()
        for (_, code), name in self._known.items() if unnamed else ():
            self._plain.setdefault(code, set()).add(name)

    def of(self, code: str, system: str) -> str | None:
        """The category; None: it means none, or several."""
        full = (uri(system), code)
        if full in self._known:
            return self._known[full]
        meant = {self._known[one] for one in self._means.get(full, ()) if one in self._known}
        meant = meant or self._plain.get(code, set())  # a table without a column of systems may hold the contract's own
        return next(iter(meant)) if len(meant) == 1 else None
