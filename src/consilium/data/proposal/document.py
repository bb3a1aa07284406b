"""A proposal as a mapping file: YAML, with the reasons as comments. It is of no use before a person confirmed it."""

import json
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from consilium import yamlfile
from consilium.core.contract import Contract
from consilium.core.errors import MappingInvalid
from consilium.core.timed import TIMED
from consilium.data import databases
from consilium.data.counts import hidden
from consilium.data.mapping import Mapping
from consilium.data.proposal.codes import Coding
from consilium.data.proposal.numbers import Number
from consilium.data.proposal.propose import Proposal, Proposals
from consilium.data.source import TableSource

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
TODO = "TODO"
"""In place of a column that a person has to name."""


JOINED = "One table serves. What stands in another: join it to one row per patient, by a view or in the `query`."
"""Of several tables."""


def document(of: Proposals, contract: Contract, source: TableSource, title: str, confirmed: Set[str] = frozenset(),
             others: Sequence[str] = (), elsewhere: Sequence[str] = (),
             opt_out: str | None = None) -> str:  # fmt: skip
    """The mapping file.

    Args:    title: the table.   confirmed: places that a person confirmed.   others: titles of the other tables.
             elsewhere: what they have.
             opt_out: the list of those who were left out.
    """
    lines = [
        f"# Proposed by `consilium site map` from {_word(title)}, by what {hidden(of.rows)} rows of it look like.",
        "# Each line is a question to a person who knows the table. Once it is right, remove its name from",
        "# `unconfirmed`: until none is left there, nothing is checked or trained by this file.",
        "mapping: 1",
        f"contract: {contract.id}",
        *_told_source(_source(source)),
        *_patient(of),
        f"missing: {_flow(['', *of.missing])}",
        *([f"opt_out: {_flow({'path': opt_out})}"] if opt_out else []),
    ]
    by = {one.want.place: one for one in of.of}
    if (index := by.get("index")) is not None:
        lines += _comments(index, "")
        lines.append(f"index: {_flow({'column': index.chosen.column if index.chosen else TODO})}")
    if contract.label.maturity_days:
        lines.append("# TODO: as_of, the day on which the extract was made, such as `as_of: 2031-01-31`")
    if others:
        lines += [f"# {JOINED}", f"# others: {_line(', '.join(others))}"]
    lines += [f"# elsewhere: {_line(one)}" for one in elsewhere]
    waiting = [place for place in places(of) if place not in confirmed]
    lines.append(f"unconfirmed: {_flow(waiting)}")
    lines.append("features:" if any(place.startswith("features.") for place in by) else "features: {}")
    for place, one in by.items():
        if place.startswith("features."):
            lines += _comments(one, "  ")
            lines.append(f"  {_word(one.want.id)}: {_flow(feature(one))}")
    lines += [*_comments(by["label"], ""), *(_comments(by["label.time"], "") if "label.time" in by else [])]
    lines.append(f"label: {_flow(_label(contract, by))}")
    text = "\n".join(lines) + "\n"
    yamlfile.parse(text, Mapping, MappingInvalid, "proposal")
    return text


def places(of: Proposals) -> list[str]:
    """What a person is asked about, in the order of the file."""
    first = [one.want.place for one in of.of if one.want.place == "index"]
    return ["patient", *first, *(one.want.place for one in of.of if one.want.place != "index")]


def feature(one: Proposal) -> Any:
    """What stands at a feature: its part of the mapping, or `absent`."""
    read = one.chosen.read if one.chosen else None
    if one.chosen is None or (read is not None and read.empty):
        return "absent"
    made: dict[str, Any] = {"column": one.chosen.column}
    if isinstance(read, Number):
        made["unit"] = read.unit
        made |= {"analyte": read.analyte} if read.analyte else {}
    elif isinstance(read, Coding):
        made["codes"] = dict(read.codes)
    return made | ({"missing": list(read.missing)} if read and read.missing else {})


def told(one: Proposal) -> str:
    """What is proposed, in one line."""
    if one.want.place.startswith("features."):
        made = feature(one)
        return str(made) if isinstance(made, str) else _line(_flow(made))
    return _line(_word(one.chosen.column)) if one.chosen else TODO


def _label(contract: Contract, by: dict[str, Proposal]) -> dict[str, Any]:
    one = by["label"]
    made: dict[str, Any] = {"column": one.chosen.column if one.chosen else TODO}
    read = one.chosen.read if one.chosen else None
    if isinstance(read, Coding):
        made["codes"] = {code: int(meant) for code, meant in read.codes.items()}
    elif isinstance(read, Number):
        made |= {"unit": read.unit} if contract.label.unit else {}
        made |= {"analyte": read.analyte} if read.analyte else {}
    made |= {"missing": list(read.missing)} if read and read.missing else {}
    if contract.label.type == TIMED:
        when = by["label.time"]
        told = when.chosen.read if when.chosen else None
        unit = told.unit if isinstance(told, Number) else str(contract.label.unit)
        made["time"] = {"column": when.chosen.column if when.chosen else TODO, "unit": unit}
        made["time"] |= {"missing": list(told.missing)} if told and told.missing else {}
    return made


def _patient(of: Proposals) -> list[str]:
    if of.key:
        how = "a name of a key, and each row has another value" if of.unique else "a name of a key"
        return [f"# {how}", f"patient: {_flow({'column': of.key})}"]
    return [
        "# low: no column looks like the key of a patient; right only where each row is one patient",
        "patient: {row: true}",
    ]


def _comments(one: Proposal, indent: str) -> Iterator[str]:
    for words in comments(one):
        yield f"{indent}# {_line(words)}"


def comments(one: Proposal) -> list[str]:
    """How sure a proposal is, and why; what is open; which other columns are near."""
    sure = "" if one.confidence == "none" else f"{one.confidence}: "
    read = one.chosen.read if one.chosen else None
    of = f" ({one.chosen.column})" if one.chosen and read is not None and read.empty else ""
    found = [f"{sure}{'; '.join(one.reasons)}{of}"]
    if one.open:
        found.append(f"{TODO}: {one.open}{_grades(one)}")
    if one.others:
        found.append(f"or: {', '.join(_word(other.column) for other in one.others)}")
    return found


def _grades(one: Proposal) -> str:
    """Codes of a label that go on above 1 are often grades; all of them are told, whichever stand in the table."""
    read = one.chosen.read if one.chosen else None
    if not one.want.label or not isinstance(read, Coding) or set(read.codes) != {"0", "1"}:
        return ""
    if not read.unknown or not all(len(code) == 1 and code.isdecimal() for code in read.unknown):
        return ""
    whole = {str(digit): min(digit, 1) for digit in range(10)}
    return f"; if they are grades above 1: codes: {_flow(whole)}"


def _source(source: TableSource) -> dict[str, Any]:
    told = source.model_dump(mode="json", exclude_defaults=True)
    return {"type": told.pop("type"), **told}


def _told_source(source: dict[str, Any]) -> list[str]:
    """In one line; with a query of several lines, as they are."""
    query = str(source.get("query", "")).strip()
    if "\n" not in query or not all(letter.isprintable() or letter == "\n" for letter in query):
        return [f"source: {_flow(source)}"]
    others = [f"  {_word(key)}: {_flow(value)}" for key, value in source.items() if key != "query"]
    return ["source:", *others, "  query: |-", *(f"    {line}" if line else "" for line in query.split("\n"))]


def beside(path: str, folder: Path) -> str:
    """A path, or a URL of a file, relative to the mapping's folder where it lies in it.

    >>> beside("/srv/map/t.csv", Path("/srv/map")), beside("sqlite:////srv/map/t.db", Path("/srv/map"))
    ('t.csv', 'sqlite:///t.db')
    """
    kind, mark, rest = path.partition(":///")
    at, begins = (Path(rest), f"{kind}{mark}") if mark else (Path(path), "")
    if (mark and kind not in databases.FILES) or not at.is_relative_to(folder):
        return path
    return f"{begins}{at.relative_to(folder)}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_word(str(key))}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    return _word(value) if isinstance(value, str) else json.dumps(value)


def _word(text: str) -> str:
    """A text as YAML, quoted where it could be taken for something else."""
    if PLAIN.fullmatch(text) and text.casefold() not in WORDS:
        return text
    return '"' + "".join(_letter(one) for one in text) + '"'


def _letter(one: str) -> str:
    """Within double quotes."""
    if one in '"\\':
        return f"\\{one}"
    return one if one.isprintable() else f"\\U{ord(one):08x}"


def _line(text: str) -> str:
    """In one line, whatever a column is called."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
