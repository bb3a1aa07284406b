"""Spans of time and days that a contract names, and the query of a mapping does not.

`drawn at most 42 days before it` wants a 42 somewhere in a query that chooses among the rows of a laboratory; whoever
forgets it takes what is older, and nothing looks wrong. So does who has one of the days of a study, and not the other.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from consilium.data.anew import Anew
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue, Column
from consilium.data.lineage import Lineage
from consilium.data.scopes import OF_FIRST, OF_MANY, Scope, references
from consilium.data.tree import Node, Undecided, parts

SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0, "month": 2_629_746.0,
           "year": 31_556_952.0}  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_SPAN = rf"(?P<n>\d+|{'|'.join(NUMBERS)})[ -]*(?P<unit>h|{'|'.join(SECONDS)})s?\b"
NAMED = re.compile(
    rf"(?i)(?:\b(?:within|at most|no more than|up to|during|last|first|past|previous|preceding|following|next|of the|"
    rf"in the|the)\s+(?:the\s+)?{_SPAN})|(?:\b{_SPAN.replace('<n>', '<n2>').replace('<unit>', '<unit2>')}"
    r"\s+(?:before|after|prior|preceding|following|until|since))"
)
"""A span of time in words of a contract that say of which moments something is."""
SAID = re.compile(rf"(?i)([0-9]+(?:\.[0-9]+)?)\s*({'|'.join(SECONDS)})s?\b")
DAY = re.compile(r"\b(?:19|20)\d\d-\d\d-\d\d\b")
PERIOD = re.compile(rf"{DAY.pattern}[^.;]{{1,20}}?{DAY.pattern}")
"""Two days of a study that are the ends of a time; another one may be that of a vote."""
NEAR = 0.02
"""By such a share a month of 30 days is another one than a twelfth of a year."""
CHOOSES = (OF_FIRST - {"any_value", "arbitrary", "mode"}) | OF_MANY | {
    "sum", "avg", "count", "count_star", "median", "total", "bool_or", "mean", "row_number", "rank",
}  # fmt: skip
"""Functions that make one value of several rows, or choose one."""
DEEP = 40
REMEDY = "add it as a condition on the moment of these rows; if the table has no others, all is well"


@dataclass(frozen=True)
class Span:
    """So many of a unit of time; without one, a plain number of a query."""

    number: float
    unit: str = ""

    def is_(self, other: "Span") -> bool:
        """Whether a span, or a number of a query, may mean another one: it may be the first that is too long."""
        units = [other.unit] if other.unit else [unit for unit in SECONDS if SECONDS[unit] <= SECONDS[self.unit]]
        mine = self.number * SECONDS[self.unit]
        for unit in units:
            near = NEAR * mine if {unit, self.unit} & {"month", "year"} and unit != self.unit else 0.0
            if any(abs((other.number + one) * SECONDS[unit] - mine) <= near for one in (-1, 0, 1)):
                return True
        return False


def named(text: str) -> Iterator[tuple[str, Span]]:
    """Spans of time in words of a contract.

    >>> [said for said, _ in named("lowest of the 280 days before; cigarettes a day; within 72 hours; 24 h urine")]
    ['280 days', '72 hours']
    """
    for match in NAMED.finditer(text):
        word, unit = (match["n"] or match["n2"]).casefold(), (match["unit"] or match["unit2"]).casefold()
        number = float(NUMBERS.index(word) + 1) if word in NUMBERS else float(word)
        begins, ends = match.start("n" if match["n"] else "n2"), match.end("unit" if match["unit"] else "unit2")
        said = text[begins : ends + (text[ends : ends + 1].casefold() == "s")]
        yield said, Span(number, "hour" if unit == "h" else unit)


def checked(parser: Any, query: str, known: Callable[[], Catalogue], meant: Mapping[str, str], anew: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """A note of each; nothing where it is not found out soon.

    Args:    parser: a connection of DuckDB.   known: the tables.   meant: what the contract says of each column of the
             answer, and under "" of all.
    """
    if not any(NAMED.search(text) or PERIOD.search(text) for text in meant.values()):
        return ()
    return anew.found(lambda: tuple(unsaid(parser, query, known(), meant)), ())


def unsaid(parser: Any, query: str, known: Catalogue, meant: Mapping[str, str]) -> Iterator[Seen]:
    """The same. Raises: Undecided; and what the database raises."""
    lineage = Lineage(parser, query, known)
    said = list(_said(lineage.answer.query))
    for column, text in sorted(meant.items()):
        lacks = [words for words, span in named(text) if column and not any(span.is_(one) for one in said)]
        if lacks and _chosen(lineage, column):
            words = (
                f"{column}: the contract says {' and '.join(repr(one) for one in dict.fromkeys(lacks))}, and "
                "source.query, which takes this of several rows, has no such span of time"
            )
            yield Seen("window", words, REMEDY, columns=(column,))
    yield from _days(query, meant)


def _days(query: str, meant: Mapping[str, str]) -> Iterator[Seen]:
    """Days of the study that a query does not have, which has others of them; either is the last, or the one after."""
    ends = (day for text in meant.values() for said in PERIOD.findall(text) for day in DAY.findall(said))
    wanted = sorted({day for day in map(_day, ends) if day is not None})
    there = {day for day in map(_day, DAY.findall(query)) if day is not None}
    lacks = [day for day in wanted if there.isdisjoint(day + timedelta(days=one) for one in (-1, 0, 1))]
    if lacks and len(lacks) < len(wanted):
        words = (
            f"the study says {' and '.join(map(str, lacks))}, and source.query has no such day, but "
            f"{' and '.join(str(day) for day in wanted if day not in lacks)}"
        )
        yield Seen("window", words, "see whether the other end is forgotten; if it is not of these rows, all is well")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _said(query: Node) -> Iterator[Span]:
    """What a query has of these: INTERVAL, texts such as '-42 days', and plain numbers."""
    for node in parts(query):
        unit = str(node.get("function_name", "")).removeprefix("to_").removesuffix("s")
        if unit in SECONDS and str(node["function_name"]).startswith("to_"):
            yield from (Span(abs(float(one["value"]["value"])), unit) for one in parts(node) if _whole(one))
        if node.get("class") == "CONSTANT" and not node["value"]["is_null"]:
            if node["value"]["type"]["id"] == "VARCHAR":
                found = SAID.findall(str(node["value"]["value"]))
                yield from (Span(float(number), unit.casefold()) for number, unit in found)
            elif _whole(node):
                yield Span(abs(float(node["value"]["value"])))


def _whole(node: Node) -> bool:
    if node.get("class") != "CONSTANT" or node["value"]["is_null"]:
        return False
    return node["value"]["type"]["id"] in ("INTEGER", "BIGINT")


def _chosen(lineage: Lineage, column: str) -> bool:
    """Whether a column of the answer is made of several rows, or of one that is chosen."""

    def of(value: Node, at: Scope | Column, deep: int) -> bool:
        if not isinstance(at, Scope) or deep > DEEP:
            return False
        for one in parts(value):
            if one.get("class") == "SUBQUERY" or one.get("function_name") in CHOOSES:
                return True
        select = at.select
        if select.get("qualify") or any(one["type"] != "ORDER_MODIFIER" for one in select["modifiers"]):
            return True
        return any(of(inner, below, deep + 1) for ref in references(value) for inner, below in _behind(lineage, ref, at)
                   if below is not at or inner is not ref)  # fmt: skip

    try:
        return any(of(value, scope, 0) for value, scope in lineage.defined(lineage.answer, column.casefold()))
    except Undecided:
        return False


def _behind(lineage: Lineage, ref: Node, scope: Scope) -> list[tuple[Node, Scope | Column]]:
    try:
        return lineage.behind(ref, scope)
    except (Undecided, KeyError):
        return []
