"""Who opted out, among FHIR resources: what is theirs is no row of a view, and is not kept of what was fetched.

A resource is theirs by the id of its Patient (compartment of Patient, https://hl7.org/fhir/compartmentdefinition.html),
or by the column of a view that holds the patient's key, where that is another one than this id. Who was merged is one
person: who opted out by the key of one record is left out with all.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from consilium.core.errors import MappingInvalid
from consilium.core.ids import canonical, digest
from consilium.data.choosing import key
from consilium.data.fhir import reading
from consilium.data.fhir.definition import Definition, SelectPart
from consilium.data.fhir.links import REFERENCE, SUBJECTS, follow
from consilium.data.fhir.values import Mismatch, items
from consilium.data.fhir.views import View, compile_view
from consilium.data.merging import Merged
from consilium.durable import own

BY_REFERENCE = re.compile(rf"\s*(?:{'|'.join(SUBJECTS)})\.getReferenceKey\((?:Patient)?\)\s*")
BY_ID = re.compile(r"\s*(?:id|getResourceKey\(\))\s*")


class Leaving:
    """Those who opted out, by their keys in a column of views.

    found: those of whom there was something, one each.

    Raises: MappingInvalid: no view has the column, so that nobody could tell what is whose.
    """

    def __init__(
        self, column: str, out: frozenset[str], views: list[tuple[Definition, View]], merged: Merged | None = None
    ) -> None:
        # By other views others leave: what was kept by those of before is not kept on.
        told = sorted(str(digest(canonical(one.model_dump(mode="json")))) for one, _ in views)
        self.asked, self.found = [column, *sorted(out), *told], set[str]()
        self._out, self._by_id = out, False
        self._of_patient: defaultdict[str, set[str]] = defaultdict(set)
        self._person: dict[str, str] = {}
        self.merged = merged or Merged()
        theirs = {person for one, person in self.merged.person.items() if key(one) in out}
        self.asked += sorted(f"{one} {person}" for one, person in self.merged.person.items() if person in theirs)
        self._views: dict[str, list[View]] = {}
        for definition, view in views:
            there = any(one.name == column for one in view.columns)
            if there and all(_of_id(view.resource, path) for path in _paths(definition.select, column)):
                self._by_id = True
            elif there:
                self._views.setdefault(view.resource, []).append(compile_view(_alone(definition, column), marked=True))
        if not self._by_id and not self._views:
            raise MappingInvalid(
                f"source.views: no view has the column {column!r}, by which some patients opted out",
                "name the column of the view, and not only that of the query, as the patient's key is named",
            )

    @property
    def by_id(self) -> bool:
        """Whether each resource says by itself whose it is; else only the one that has the patient's key says it."""
        return not self._views

    @property
    def linked(self) -> bool:
        """Whether somebody of whom there was something stood in several records."""
        return any(one != person and person in self.found for one, person in self.merged.person.items())

    def learn(self, files: Sequence[Path], merged: Merged | None = None) -> None:
        """Look who was merged, and whose keys are whose ids, where keys are others.

        Raises: DataUnusable: a file cannot be read.
        """
        found = follow(files) if merged is None else merged
        self.merged = found if found.person else self.merged
        if self._by_id:
            for patient, person in self.merged.person.items():
                self._know(person, self._out & {key(patient)})
        for file in files:
            for kind, views in self._views.items():
                exact = any(view.exact for view in views)
                for _, resource in chain.from_iterable(reading.pages(file, exact, kind)[0]):
                    for patient in _patients(resource):
                        self._know(self.merged.of(patient), self._in_views(resource))

    def gone(self, resource: Any) -> bool:
        """Whether a resource is of somebody who opted out."""
        theirs, patients = self._in_views(resource), _patients(resource)
        if self._by_id:
            theirs |= self._out.intersection(map(key, patients))
        for patient in patients:
            theirs |= self._of_patient.get(self.merged.of(patient), set())
        self.found |= {self._person.get(one, one) for one in theirs}
        return bool(theirs)

    def _know(self, person: str, keys: set[str] | frozenset[str]) -> None:
        """That somebody has keys of who opted out."""
        self._of_patient[person] |= keys
        self._person |= dict.fromkeys(keys, person)

    def kept(self, resources: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """Numbered resources, but theirs."""
        return (one for one in resources if not self.gone(one[1]))

    def take_out(self, path: Path) -> None:
        """Write a file of NDJSON anew, without what is theirs."""
        other = path.with_name(f"{path.name}.left")
        with path.open("rb") as file, own(other) as made:
            made.writelines(line for line in file if line.isspace() or not self.gone(msgspec.json.decode(line)))
        other.replace(path)

    def _in_views(self, resource: Any) -> set[str]:
        """Keys in the columns of views. What does not fit a view is told where its rows are made."""
        kind = resource.get("resourceType") if type(resource) is dict else None
        found = set[str]()
        for view in self._views.get(kind, ()) if type(kind) is str else ():
            try:
                rows = view.rows(resource)
            except Mismatch:
                continue
            found.update(key(str(value)) for (one,) in rows for value in items(one))
        return found & self._out


def _alone(definition: Definition, column: str) -> Definition:
    """The view of one column, of every resource: what a view leaves out is somebody's all the same."""
    return definition.model_copy(update={"where": [], "select": _with(definition.select, column)})


def _with(parts: Iterable[SelectPart], column: str) -> list[SelectPart]:
    """Parts of a view that give a column, with this one alone."""
    found = []
    for part in parts:
        kept = {"column": [one for one in part.column if one.name == column],
                "select": _with(part.select, column), "union": _with(part.union, column)}  # fmt: skip
        found += [part.model_copy(update=kept)] if any(kept.values()) else []
    return found


def _of_id(resource: str, path: str | None) -> bool:
    """Whether a column of this path, None in an iteration, is the id of the patient."""
    return path is not None and bool((BY_ID if resource == "Patient" else BY_REFERENCE).fullmatch(path))


def _paths(parts: Iterable[SelectPart], column: str, iterated: bool = False) -> Iterator[str | None]:
    """Paths of a column, from the resource on; None of one within an iteration."""
    for part in parts:
        inside = iterated or bool(part.each or part.each_or_null or part.repeat)
        for one in part.column:
            if one.name == column:
                yield None if inside else one.path
        yield from _paths([*part.select, *part.union], column, inside)


def _patients(resource: Any) -> list[str]:
    """Ids of the Patients whose a resource is: of one that is a Patient its own."""
    if type(resource) is not dict:
        return []
    if resource.get("resourceType") == "Patient":
        return [resource["id"]] if type(resource.get("id")) is str else []
    found = []
    for name in SUBJECTS:
        named = [one for one in items(resource.get(name)) if type(one) is dict]  # of an Account there are several
        found += [patient for patient in map(REFERENCE, named) if type(patient) is str]
    return found
