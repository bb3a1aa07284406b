"""The ViewDefinitions of a contract's records, for FHIR R4 and R5. Source: SQL on FHIR v2."""

from dataclasses import dataclass
from typing import Any

from consilium.core.contract import Contract
from consilium.data.bounds import NO_NUMBER
from consilium.data.recorded import CODED, COLUMNS, codes_of, values_of
from consilium.data.records import UNCODED
from consilium.data.systems import SYSTEMS, spellings

Json = dict[str, Any]
FINAL = ("final", "amended", "corrected")
"""Statuses of Observations that count."""


@dataclass(frozen=True)
class Kind:
    """Resources that say that something was there, without a value: which count, where their code and moment are."""

    resource: str
    where: str
    concept: str
    taken: tuple[str, ...]


def _status(*those: str, of: str = "status") -> str:
    return " or ".join(f"{of} = '{one}'" for one in those)


_DRUG = "(medication.ofType(CodeableConcept) | medication.concept)"
_WRONG = "verificationStatus.coding.where(code = 'entered-in-error' or code = 'refuted')"
_DONE = ("performed.ofType(dateTime)", "performed.ofType(Period).start", "occurrence.ofType(dateTime)",
         "occurrence.ofType(Period).start")  # fmt: skip
_GIVEN = ("effective.ofType(dateTime)", "effective.ofType(Period).start")
EVENTS = {
    "condition": (Kind(
        "Condition", f"{_WRONG}.exists().not()", "code",
        ("onset.ofType(dateTime)", "onset.ofType(Period).start", "recordedDate"),
    ),),
    "procedure": (Kind("Procedure", _status("completed", "in-progress", "stopped"), "code", _DONE),),
    "drug": (
        Kind("MedicationRequest", f"({_status('active', 'completed', 'stopped', 'on-hold', 'ended')}) and "
             "intent != 'proposal' and intent != 'plan' and (doNotPerform.exists().not() or doNotPerform = false)",
             _DRUG, ("authoredOn",)),
        Kind("MedicationAdministration", _status("completed", "in-progress", "stopped"), _DRUG,
             (*_GIVEN, "occurence.ofType(dateTime)", "occurence.ofType(Period).start")),
        Kind("MedicationStatement", _status("active", "completed", "stopped", "on-hold", "recorded"), _DRUG, _GIVEN),
    ),
}  # fmt: skip
"""By `recorded` of a feature, R4 and R5."""


def views(contract: Contract) -> Json | list[Json]:
    """The ViewDefinition of the records that the contract's features are made of, or several of the same columns.

    A code without a system, a value that is no number and a record without a moment are rows: who makes features of
    them tells so.

    Raises: StudyInvalid: it is made of none.
    """
    codes_of(contract)
    made = [view(contract)] if codes_of(contract, "observation") else []
    names = CODED if values_of(contract) else COLUMNS
    made += [one for kind, several in EVENTS.items() for one in _of_events(several, codes_of(contract, kind), names)]
    return made[0] if len(made) == 1 else made


def _of_events(kinds: tuple[Kind, ...], codes: list[tuple[str, str]], names: tuple[str, ...]) -> list[Json]:
    """Views of records that have no value: a row for each coding that is one of the contract's."""
    made = []
    for kind in kinds if codes else ():
        same, drug = _codings(kind.concept, codes, unnamed=True), "medication" in kind.concept
        paths = dict.fromkeys(names, "iif(false, '')")
        paths |= {"patient": "subject.getReferenceKey(Patient)", "taken": _first(kind.taken)}
        columns = [one for one in _columns(paths) if one["name"] not in ("system", "code")]
        coded = [{"forEach": same, "column": _columns({"system": "system", "code": "code"})}]
        if drug:  # of which only the resource that is referred to has the code, or a text, or nothing
            nowhere = f"where({kind.concept}.coding.exists().not())"
            told = _columns({"system": "iif(false, '')", "code": f"'{UNCODED}'"})
            coded.append({"forEach": nowhere, "column": told})
        made.append({
            "resourceType": "ViewDefinition", "name": f"records_{kind.resource}", "status": "active",
            "resource": kind.resource, "where": [{"path": kind.where}],
            "select": [{"unionAll": coded}, {"column": columns}],
        })  # fmt: skip
    return made


def view(contract: Contract) -> Json:
    """A ViewDefinition of the Observations that the contract's features are made of. Raises: StudyInvalid: of none.

    Components of Observations are records, too.
    """
    codes = codes_of(contract, "observation")
    known, any_ = _codings("code", codes), _codings("code", codes, unnamed=True)
    paths = {
        "system": f"{known}.first().system",
        "code": f"iif({known}.exists(), {known}.first().code, {any_}.first().code)",
        "value": _NUMBER, "unit": _UNIT,
    }  # fmt: skip
    if meant := values_of(contract):
        paths |= _coded(_codings(_CONCEPT, meant))
    columns = _columns(paths)
    final = " or ".join(f"status = {_quoted(status)}" for status in FINAL)
    return {
        "resourceType": "ViewDefinition", "name": "records", "status": "active", "resource": "Observation",
        "where": [{"path": final}],
        "select": [
            {"column": _columns({"patient": "subject.getReferenceKey(Patient)", "taken": _TAKEN})},
            {"unionAll": [
                {"forEach": f"where({any_}.exists())", "column": columns},
                {"forEach": f"component.where({any_}.exists())", "column": columns},
            ]},
        ],
    }  # fmt: skip


def _columns(paths: dict[str, str]) -> list[Json]:
    return [{"name": name, "path": path, "type": "string"} for name, path in paths.items()]


def _first(paths: tuple[str, ...]) -> str:
    """The first of these that is there."""
    first, *rest = paths
    return f"iif({first}.exists(), {first}, {_first(tuple(rest))})" if rest else first


_TAKEN = _first(("effective.ofType(dateTime)", "effective.ofType(instant)", "effective.ofType(Period).start"))
_CONCEPT = "value.ofType(CodeableConcept)"
_QUANTITY = "value.ofType(Quantity)"
NO_CODE = "no code"
"""The same as `NO_NUMBER`, of a coded value."""
_NUMBER = (
    f"iif({_QUANTITY}.value.exists(), {_QUANTITY}.comparator & {_QUANTITY}.value.toString(), "
    "iif(value.ofType(integer).exists(), value.ofType(integer).toString(), "
    "iif(value.ofType(string).exists(), value.ofType(string), "
    f"iif(value.exists() and {_QUANTITY}.exists().not(), '{NO_NUMBER}'))))"
)
"""A number as text, with the comparator of one that is only a bound: `<5`."""


_UCUM = " or ".join(f"{_QUANTITY}.system = '{name}'" for name in spellings(SYSTEMS["UCUM"]))
_UNIT = (
    f"iif({_QUANTITY}.code.exists(), iif({_QUANTITY}.system.exists().not() or {_UCUM}, {_QUANTITY}.code, "
    f"{_QUANTITY}.system & '|' & {_QUANTITY}.code), {_QUANTITY}.unit)"
)
"""A unit of UCUM; of another system with its name, for its code may be one of UCUM that means something else; without a
code the words for people, so that what has a unit is never taken for what names none."""


def _codings(of: str, codes: list[tuple[str, str]], unnamed: bool = False) -> str:
    """Those of its codings that are such a code. unnamed: or that do not say of which system theirs is, or have more
    beside it, as 2160-0^LN: whoever makes features of them tells so.
    """
    by = {system: [code for one, code in codes if one == system] for system, _ in codes}
    same = _either([
        f"({_of(one, unnamed)} and {_either([f'code = {_quoted(code)}' for code in several])})"
        for one, several in by.items()
    ])  # fmt: skip
    more = _either([
        f"({_of(one, unnamed)} and {_either([f'code.startsWith({_begins(code)})' for code in several])})"
        for one, several in by.items()
    ])  # fmt: skip
    test = f"iif(code.contains('^'), {more}, {same})" if unnamed else same
    return f"{of}.coding.where({test})"


def _begins(code: str) -> str:
    return _quoted(f"{code}^")


def _either(conditions: list[str]) -> str:
    """One of these, in halves: what nests by their number ends at Python's limit."""
    if len(conditions) < 3:
        return f"({' or '.join(conditions)})"
    middle = len(conditions) // 2
    return f"({_either(conditions[:middle])} or {_either(conditions[middle:])})"


def _of(system: str, unnamed: bool) -> str:
    told = " or ".join(f"system = {_quoted(name)}" for name in spellings(system))
    return f"({told}{' or system.empty()' if unnamed else ''})"


def _coded(known: str) -> dict[str, str]:
    """Paths of a coded value: of several codings one that the contract has, else the first; else its text."""
    any_ = f"{_CONCEPT}.coding.where(code.exists())"
    text = f"iif({_CONCEPT}.text.exists(), {_CONCEPT}.text, iif(value.exists(), '{NO_CODE}'))"
    text = f"iif(value.ofType(string).exists(), value.ofType(string), {text})"
    text = f"iif(value.ofType(boolean).exists(), value.ofType(boolean).toString(), {text})"
    return {
        "value_system": f"iif({known}.exists(), {known}.first().system, {any_}.first().system)",
        "value_code": f"iif({known}.exists(), {known}.first().code, iif({any_}.exists(), {any_}.first().code, {text}))",
    }


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
