"""Whether the answer hangs on texts that stand in a table nearly as the query has them: Krea and `KREA ` beside KREA.

They differ by case, by blanks, or by letters that look alike, as of µ there are two. The query is asked once more with
each of them taken for the text that it names; what it names anywhere of the same column is none such.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue
from consilium.data.dropping import changed
from consilium.data.lineage import Lineage
from consilium.data.scopes import Scope, own, references
from consilium.data.tree import Node, Undecided, instead, parsed

EQUAL = frozenset(("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"))
LIKE = frozenset(("~~", "!~~"))
MOST = 20_000
"""Values of a column that are looked at."""
TOLD = 3
REMEDY = (
    "compare upper(trim(...)), or name each way in which it is written; if in truth the others mean something else, "
    "name them in the query, too, as by `NOT IN (...)`"
)

UNKNOWN = Seen(
    "text-order",
    "whether texts that source.query names stand in its tables in other spellings, too, could not be found out",
    f"list what stands in each column that it compares with a text, and how often; where one has several {REMEDY}",
    unknown=True,
)  # fmt: skip
PATTERN = "look in upper(...) of the column; if in truth the others mean something else, leave them out by a condition"


@dataclass(frozen=True)
class Compared:
    """What a query compares with which texts."""

    value: Node
    scope: Scope
    texts: tuple[str, ...]


def folded(text: str) -> str:
    """What texts that look alike have in common.

    >>> folded(" Krea"), folded("\\u00b5mol/L") == folded("\\u03bcmol/l ")
    ('krea', True)
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def checked(parser: Any, query: str, ask: Callable[[str], Answer], known: Callable[[], Catalogue], anew: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """What of the answer hangs on such texts; or that nobody knows.

    Args:    parser: a connection of DuckDB.   ask: answers a query.   known: the tables.
    """
    if "'" not in query:
        return ()
    return anew.found(lambda: tuple(lookalikes(parser, query, ask, known())), (UNKNOWN,))


def lookalikes(parser: Any, query: str, ask: Callable[[str], Answer], known: Catalogue
               ) -> Iterator[Seen]:  # fmt: skip
    """Findings of what the query names of a column, and stands there otherwise, too. Raises: Undecided."""
    lineage = Lineage(parser, query, known)
    plain = cache(lambda: ask(lineage.written(lineage.answer.query)))  # of equal moments it may take another one
    if known.database == "duckdb":
        yield from _patterns(parser, lineage, plain, ask)
    found: dict[str, tuple[str, str, list[Compared]]] = {}
    for one in (each for scope in lineage.scopes() for each in compared(scope)):
        try:
            origins = lineage.origins(one.value, one.scope)
            if len(origins) == 1 and origins[0].columns:
                (origin,) = origins
                found.setdefault(origin.sign, (lineage.asked(origin), ".".join(origin.columns[0]), []))[2].append(one)
        except Undecided:
            continue
    for asked, column, several in found.values():
        texts = {text for one in several for text in one.texts}
        meant = {folded(text): text for text in sorted(texts) if folded(text)}
        longest = max(map(len, texts)) + 4
        there = known.ask(f"SELECT v FROM ({asked}) AS o WHERE length(CAST(v AS TEXT)) <= {longest} LIMIT {MOST}")  # noqa: S608
        near = sorted(
            row[0] for row in there if isinstance(row[0], str) and row[0] not in texts and folded(row[0]) in meant
        )
        if near:
            by = {id(one.value): _as(parser, lineage, one, near) for one in several}
            other = ask(lineage.written(instead(lineage.answer.query, by)))
            names, rows = changed(plain(), other)
            if names:
                yield _told(column, sorted({meant[folded(text)] for text in near}), names, rows, len(plain()[1]))


def _patterns(parser: Any, lineage: Lineage, plain: Callable[[], Answer], ask: Callable[[str], Answer]
              ) -> Iterator[Seen]:  # fmt: skip
    """The same of LIKE and regexp_matches: asked once more as if capital and small letters were one."""
    (letters,) = parsed(parser, "SELECT 'i'")["statements"][0]["node"]["select_list"]
    by, texts = dict[int, Node](), set[str]()
    for node in (one for scope in lineage.scopes() for one in own(scope.select)):
        name, given = node.get("function_name"), node.get("children") or []
        pattern = _text(given[1]) if node.get("class") == "FUNCTION" and len(given) == 2 else ""
        if pattern.casefold() == pattern.upper():  # of no letter
            continue
        if name in LIKE:
            by[id(node)] = {**node, "function_name": f"{name}*"}
        elif name in ("regexp_matches", "regexp_full_match"):
            by[id(node)] = {**node, "children": [*given, letters]}
        texts |= {pattern} if id(node) in by else set()
    if not by:
        return
    names, rows = changed(plain(), ask(lineage.written(instead(lineage.answer.query, by))))
    if names:
        what = (
            "there would be other patients"
            if "the rows" in names
            else f"other values would stand in {', '.join(sorted(names))}"
        )
        quoted = " or ".join(f"'{text}'" for text in sorted(texts)[:TOLD])
        words = f"source.query looks for {quoted}, which stands there in other capital or small letters, too: {what}"
        yield Seen("unmapped-codes", words, PATTERN, rows, 0 if "the rows" in names else len(plain()[1]),
                   tuple(sorted(names)))  # fmt: skip


def _told(column: str, texts: list[str], names: set[str], rows: int, of: int) -> Seen:
    quoted = ", ".join(f"'{text}'" for text in texts[:TOLD]) + (" and others" if len(texts) > TOLD else "")
    who = "the rows" in names
    what = "there would be other patients" if who else f"other values would stand in {', '.join(sorted(names))}"
    words = (
        f"source.query compares {column} with {quoted}, which stands there otherwise, too: in capital or small "
        f"letters, with blanks, or with a letter that looks alike. Were it the same, {what}"
    )
    return Seen("unmapped-codes", words, REMEDY, rows, 0 if who else of, tuple(sorted(names)))


def _as(parser: Any, lineage: Lineage, one: Compared, near: list[str]) -> Node:
    """The expression, with the text that is named in place of what nearly is it."""
    meant = {folded(text): text for text in one.texts}
    pairs = [(text, meant[folded(text)]) for text in near if folded(text) in meant]
    (pattern,) = parsed(parser, "SELECT CASE WHEN 1 = 'a' THEN 'b' ELSE 2 END")["statements"][0]["node"]["select_list"]
    (check,) = pattern["case_checks"]
    comparison, constant = check["when_expr"], check["then_expr"]

    def text(value: str) -> Node:
        return {**constant, "value": {**constant["value"], "value": value}}

    checks = [{"when_expr": {**comparison, "left": one.value, "right": text(written)}, "then_expr": text(named)}
              for written, named in pairs]  # fmt: skip
    return {**pattern, "case_checks": checks, "else_expr": one.value} if checks else one.value


def compared(scope: Scope) -> Iterator[Compared]:
    """Columns and such of a SELECT that are compared with texts."""
    for node in own(scope.select):
        sides = list[Node]()
        if node.get("class") == "COMPARISON" and node.get("type") in EQUAL:
            sides = [node["left"], node["right"]]
        elif node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN") or node.get("function_name") in LIKE:
            sides = node["children"]
        texts = [text for one in sides if (text := _text(one))]
        if node.get("class") == "FUNCTION" and any("%" in text or "_" in text for text in texts):
            continue
        values = [one for one in sides if next(references(one), None) is not None]
        if texts and len(values) == 1 and values[0].get("class") != "SUBQUERY":
            yield Compared(values[0], scope, tuple(texts))


def _text(node: Node) -> str:
    value = node.get("value") if node.get("class") == "CONSTANT" else None
    return str(value["value"]) if value and not value["is_null"] and value["type"]["id"] == "VARCHAR" else ""
