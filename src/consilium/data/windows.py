"""Whether the answer hangs on what lies beyond a moment from which a query reaches to the other side alone.

`lab.drawn >= birth.day - INTERVAL 42 DAY` takes what was drawn from 42 days before a birth on, and all that came after,
where nothing says an end. The query is asked once more with that moment as the end: `lab.drawn <= birth.day`. A window
that begins or ends at the moment itself is none such, nor is one that has both ends.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue
from consilium.data.dropping import changed
from consilium.data.lineage import Lineage
from consilium.data.ordering import LESS
from consilium.data.scopes import Scope, own, references
from consilium.data.tree import Node, instead, parsed, parts, signed

SPOKEN = re.compile(r"(?i)\binterval\b|\bdate_?(?:diff|sub)\b|\bto_\w+s\s*\(|julianday")
SPANS = frozenset(("to_seconds", "to_minutes", "to_hours", "to_days", "to_weeks", "to_months", "to_years"))
BETWEEN = frozenset(("date_diff", "datediff", "date_sub", "datesub"))
MOST = 8
"""Places of which it is asked by which of them the answer hangs."""
REMEDY = (
    "if the contract means what came before, or after, that moment alone, add the other end, as by `AND ... <= ...` or "
    "BETWEEN; else all is well"
)


@dataclass(frozen=True)
class Bound:
    """A comparison of two moments of different parts of FROM: how long after `earlier` `later` may be at most.

    sign: of that time; 0: not after it.
    """

    node: Node
    later: Node
    earlier: Node
    sign: int


def checked(parser: Any, query: str, ask: Callable[[str], Answer], known: Callable[[], Catalogue], anew: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """What of the answer hangs on it; nothing where it is not found out soon.

    Args:    parser: a connection of DuckDB.   ask: answers a query.   known: the tables.
    """
    if not SPOKEN.search(query):
        return ()
    found = anew.found(lambda: opened(parser, query, ask, known()), None)
    return (found,) if found is not None else ()


def opened(parser: Any, query: str, ask: Callable[[str], Answer], known: Catalogue) -> Seen | None:
    """The columns that would be others, in how many rows. Raises: Undecided; and what the database raises."""
    lineage = Lineage(parser, query, known)
    places = [one for scope in lineage.scopes() for one in _alone(list(_bounds(lineage, scope)))]
    if not places:
        return None
    plain = ask(lineage.written(lineage.answer.query))

    def differ(some: list[Bound]) -> tuple[set[str], int]:
        by = {id(one.node): _closed(parser, one) for one in some}
        return changed(plain, ask(lineage.written(instead(lineage.answer.query, by))))

    names, rows = differ(places)
    if not names:
        return None
    if 1 < len(places) <= MOST:
        places = [one for one in places if differ([one])[0]] or places
    what = (
        "there would be other rows"
        if "the rows" in names
        else f"other values would stand in {', '.join(sorted(names))}"
    )
    pairs = dict.fromkeys((_called(one.later), _called(one.earlier)) for one in places)
    said = ", and ".join(
        f"how long {one} may be after {other}, and lets it be before {other} without an end" for one, other in pairs
    )
    words = f"source.query says {said}: without what lies there {what}"
    return Seen("window", words, REMEDY, rows, 0 if "the rows" in names else len(plain[1]), tuple(sorted(names)))


def _alone(bounds: list[Bound]) -> Iterator[Bound]:
    """Those that reach over the other moment, and have no other end there."""
    ends = {signed([one.earlier, one.later]) for one in bounds}
    yield from (one for one in bounds if one.sign > 0 and signed([one.later, one.earlier]) not in ends)


def _bounds(lineage: Lineage, scope: Scope) -> Iterator[Bound]:
    """Those of a SELECT; of each one that says how little lies between, as how much lies between the other way."""
    for node in own(scope.select):
        sides = list[tuple[Node, Node]]()
        if node.get("class") == "COMPARISON" and node["type"] in LESS:
            low, high = (node["right"], node["left"]) if LESS[node["type"]][1] else (node["left"], node["right"])
            sides = [(low, high)]
        elif node.get("class") == "COMPARISON" and node["type"] == "COMPARE_EQUAL":
            sides = [(node["left"], node["right"]), (node["right"], node["left"])]
        elif node.get("class") == "BETWEEN":
            sides = [(node["lower"], node["input"]), (node["input"], node["upper"])]
        for low, high in sides:  # low <= high
            for later, earlier, sign in _apart(low, high):
                if _elsewhere(lineage, later, scope).isdisjoint(_elsewhere(lineage, earlier, scope)):
                    yield Bound(node, later, earlier, sign)


def _apart(low: Node, high: Node) -> Iterator[tuple[Node, Node, int]]:
    """Of low <= high what lies how far behind what at most: one moment, another one, and whether that is more than 0.

    `drawn <= born + x`: drawn lies x behind born; `drawn >= born - x`: born lies x behind drawn.
    """
    for difference, limit, way in ((low, high, 1), (high, low, -1)):
        pair = _difference(difference)
        number = _number(limit)
        if pair is not None and number is not None:
            later, earlier = pair if way > 0 else pair[::-1]
            yield later, earlier, (number > 0) - (number < 0) if way > 0 else (number < 0) - (number > 0)
            return
    (later, less), (earlier, more) = _base(low), _base(high)
    if any(True for _ in references(later)) and any(True for _ in references(earlier)):
        yield later, earlier, more - less


def _base(value: Node) -> tuple[Node, int]:
    """A moment without the span that is added to it, or taken from it: and 1, or -1."""
    given, name = value.get("children") or [], value.get("function_name")
    if name in ("+", "-") and len(given) == 2 and _span(given[1]):
        return given[0], 1 if name == "+" else -1
    return value, 0


def _span(value: Node) -> bool:
    """Whether it is an INTERVAL."""
    cast = value.get("class") == "CAST" and value["cast_type"]["id"] == "INTERVAL"
    return value.get("function_name") in SPANS or bool(cast)


def _difference(value: Node) -> tuple[Node, Node] | None:
    """What is taken from what: the later and the earlier moment of `date_diff('day', earlier, later)`, or `a - b`."""
    given, name = value.get("children") or [], value.get("function_name")
    if name in BETWEEN and len(given) == 3:
        return given[2], given[1]
    dated = name == "-" and len(given) == 2 and all(next(references(one), None) is not None for one in given)
    return (given[0], given[1]) if dated and not _span(given[1]) else None


def _number(value: Node) -> float | None:
    """A plain number, or a span of time, of which it is more than 0."""
    if _span(value):
        texts = [_text(one) for one in parts(value)]
        return -1.0 if any(text.startswith("-") for text in texts) else 1.0
    if value.get("function_name") == "-" and len(value["children"]) == 1:
        inner = _number(value["children"][0])
        return None if inner is None else -inner
    kind = value["value"]["type"]["id"] if value.get("class") == "CONSTANT" and not value["value"]["is_null"] else ""
    if kind in ("INTEGER", "BIGINT", "DOUBLE"):
        return float(value["value"]["value"])
    return 1.0 if kind == "DECIMAL" else None


def _text(node: Node) -> str:
    value = node.get("value") if node.get("class") == "CONSTANT" else None
    return str(value["value"]).strip() if value and not value["is_null"] and value["type"]["id"] == "VARCHAR" else ""


def _elsewhere(lineage: Lineage, value: Node, scope: Scope) -> set[tuple[int, str]]:
    """Of which parts of which FROM a value is. Raises: Undecided."""
    return {lineage.place(ref, scope) for ref in references(value)}


def _closed(parser: Any, one: Bound) -> Node:
    """The comparison, with the other moment as its other end."""
    tree = parsed(parser, "SELECT 1 AND 2 <= 3")["statements"][0]["node"]["select_list"][0]
    end = {**tree["children"][1], "left": {**one.earlier, "alias": ""}, "right": {**one.later, "alias": ""}}
    return {**tree, "children": [{**one.node, "alias": ""}, end]}


def _called(value: Node) -> str:
    return next((".".join(ref["column_names"]) for ref in references(value)), "a moment")
