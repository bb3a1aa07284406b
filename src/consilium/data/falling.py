"""Whether the answer of DuckDB hangs on texts for which a CASE of the query has no WHEN and no ELSE, so it is NULL.

`CASE unit WHEN 'mg/dL' THEN 1 WHEN 'mmol/L' THEN 18 END` makes NULL of `mg/dl`, and arg_min takes a later value then.
Looked at is a CASE that gives several things by the texts of one column: it is asked with a small and with a large
value in place of this NULL. What is a word for nothing, or a sign, may fall through. So is a CASE by patterns of digits
and signs, as `WHEN regexp_matches(v, '^[0-9]+[+][0-9]$')`, through which `39 SA + 4` falls: of it, texts with a digit.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import duckdb

from consilium.data.anew import Anew
from consilium.data.asking import Answer, quoted
from consilium.data.base import UNIT, Seen
from consilium.data.dropping import changed
from consilium.data.scopes import references
from consilium.data.traps import WORDS
from consilium.data.tree import Node, Undecided, instead, parsed, parts, rebuilt, written

ENDS = {"VARCHAR": ("'!'", "'~'"), "DATE": ("'1000-01-01'", "'9000-01-01'"), "BOOLEAN": ("'false'", "'true'"),
        "TIMESTAMP": ("'1000-01-01'", "'9000-01-01'")}  # fmt: skip
"""By type, what stands in place of NULL; of numbers `NUMBERS`."""
NUMBERS = ("'-1e12'", "'1e12'")
KINDS = ("DOUBLE", "DATE", "BOOLEAN", "VARCHAR")
"""What a CASE may give of which only the tables tell: numbers, moments, or the text as it stands there."""
FELL = (
    "fell_through(x)",
    "typeof(x) = 'VARCHAR' AND regexp_matches(CAST(x AS VARCHAR), '[\\pL\\pN%]') "
    f"AND lower(trim(CAST(x AS VARCHAR))) NOT IN ({', '.join(quoted(word) for word in sorted(WORDS))})",
)
OF_DIGITS = ("fell_number(x)", "typeof(x) = 'VARCHAR' AND regexp_matches(CAST(x AS VARCHAR), '[0-9]')")
MATCHES = frozenset(("regexp_matches", "regexp_full_match"))
SHAPE = re.compile(r"(?:\[(?:[^\]a-zA-Z]|\\[dsDS])*\]|\\[dsDS.+*?()-]|\{[0-9,]*\}|[^\w\\\[{])+")
"""A pattern without a letter or a digit of its own, as of numbers; `^E1[0-4]` is one of codes."""
REMEDY = (
    "name each text that stands there, of lower(trim(...)) where it is written in several ways; what is to be passed "
    "over leave out by WHERE or FILTER, or say it by WHEN 'x' THEN NULL, or of all others by ELSE CAST(NULL AS DOUBLE)"
)

UNKNOWN = Seen(
    "text-order",
    "whether source.query drops texts for which a CASE of it has no WHEN and no ELSE could not be found out", REMEDY,
    unknown=True,
)  # fmt: skip


def checked(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer], once_more: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """What of the answer is lost so; or that nobody knows.

    Args:    tables: a connection of DuckDB, on which a macro is made.   ask: answers a query.
    """
    if not re.search(r"(?i)\bcase\b", query):
        return ()
    found = once_more.found(lambda: lost(tables, query, len(answer[1]), ask), UNKNOWN)
    return (found,) if found is not None else ()


def lost(tables: Any, query: str, of: int, ask: Callable[[str], Answer]) -> Seen | None:
    """The columns that would be others, in how many rows. Raises: Undecided; and what DuckDB raises."""
    for signature, body in (FELL, OF_DIGITS):
        tables.execute(f"CREATE OR REPLACE TEMP MACRO {signature} AS {body}")
    tree = parsed(tables, query)
    cases = [one for one in parts(tree) if _operand(one) is not None]
    if not cases:
        return None
    columns = {str(next(references(_operand(one)))["column_names"][-1]) for one in cases}
    kinds = {id(one): _kind(tables, one) or _bound(tables, tree, one) for one in cases}
    asked = [written(tables, _anew(tables, tree, end, kinds)) for end in (None, 0, 1)]
    plain, names, rows = ask(asked[0]), set[str](), 0
    for one in asked[1:]:
        others, count = changed(plain, ask(one))
        names, rows = names | others, max(rows, count)
    if not names:
        return None
    words = (
        f"a CASE in source.query has no WHEN for texts of {' and '.join(sorted(columns))}, and no ELSE, so that they "
        f"are passed over: other values would stand in {', '.join(sorted(names))}"
    )
    return Seen("not-a-number", words, REMEDY, rows, of, tuple(sorted(names)))


def _anew(tables: Any, tree: Node, end: int | None, kinds: dict[int, str]) -> Node:
    """The query with a value, small or large, where a text falls through; None: with a NULL of the same type."""

    def change(case: Node, made: Node) -> Node:
        """A CASE without ELSE gets one, where what falls through is counted."""
        operand = _operand(case)
        if operand is None:
            return made
        kind = kinds[id(case)]
        text = "NULL" if end is None else ENDS.get(kind, NUMBERS)[end]
        kind = kind if kind in ENDS else "DOUBLE"
        fell = "fell_number" if _shaped(case) is not None else "fell_through"
        pattern = f"SELECT CASE WHEN {fell}(1) THEN CAST({text} AS {kind}) ELSE CAST(NULL AS {kind}) END"
        (pick,) = parsed(tables, pattern)["statements"][0]["node"]["select_list"]
        (check,) = pick["case_checks"]
        of = {**check["when_expr"], "children": [{**rebuilt(operand, change), "alias": ""}]}
        return {**made, "else_expr": {**pick, "case_checks": [{**check, "when_expr": of}]}}

    found: Node = rebuilt(tree, change)
    return found


def _kind(tables: Any, case: Node) -> str:
    """Of which type a CASE is; empty where only the tables tell."""
    given = [one["then_expr"] for one in case["case_checks"]]
    if any(next(references(one), None) is not None for one in given):
        return ""
    pattern = parsed(tables, "SELECT typeof(coalesce(1, 2))")
    (call,) = pattern["statements"][0]["node"]["select_list"]
    call["children"][0]["children"] = given
    return str(tables.execute(written(tables, pattern)).fetchone()[0])


def _bound(tables: Any, tree: Node, case: Node) -> str:
    """The same where its texts are columns: of which type its ELSE may be. Raises: Undecided: of none of `KINDS`."""
    for kind in KINDS:
        (none,) = parsed(tables, f"SELECT CAST(NULL AS {kind})")["statements"][0]["node"]["select_list"]
        try:
            tables.execute(f"DESCRIBE {written(tables, instead(tree, {id(case): {**case, 'else_expr': none}}))}")
        except duckdb.BinderException:
            continue
        return kind
    raise Undecided


def _operand(node: Node) -> Node | None:
    """Of whose texts a CASE without ELSE gives several things; None: of none."""
    if node.get("class") != "CASE" or not _null(node["else_expr"]):
        return None
    if (shaped := _shaped(node)) is not None:
        return shaped
    found = [one for check in node["case_checks"] for one in _sides(check["when_expr"])]
    given = [check["then_expr"] for check in node["case_checks"]]
    if not found or None in found or len({_plain(one) for one in found}) > 1:
        return None
    operand = found[0]
    constant = all(next(references(one), None) is None for one in given)
    name = next(references(operand))["column_names"][-1] if operand is not None else ""
    several = len({_plain(one) for one in given if not _null(one)}) > 1
    return operand if (several and constant) or UNIT.search(name) else None


def _shaped(case: Node) -> Node | None:
    """Of whose texts a CASE gives something by patterns of numbers alone; None: of none."""
    found = list[Node]()
    for when in (check["when_expr"] for check in case["case_checks"]):
        given = when.get("children") or []
        if when.get("function_name") not in MATCHES or len(given) != 2 or given[1].get("class") != "CONSTANT":
            return None
        if not SHAPE.fullmatch(str(given[1]["value"].get("value"))) or next(references(given[0]), None) is None:
            return None
        found.append(given[0])
    return found[0] if len({_plain(one) for one in found}) == 1 else None


def _sides(when: Node) -> Iterator[Node | None]:
    """What a WHEN compares with texts; None: it does something else."""
    if when.get("type") == "CONJUNCTION_OR":
        for one in when["children"]:
            yield from _sides(one)
        return
    sides = [when["left"], when["right"]] if when.get("type") == "COMPARE_EQUAL" else []
    sides = when["children"] if when.get("type") == "COMPARE_IN" else sides
    values = [one for one in sides if next(references(one), None) is not None]
    texts = [one for one in sides if one.get("class") == "CONSTANT" and one["value"]["type"]["id"] == "VARCHAR"]
    yield values[0] if len(values) == 1 and len(values) + len(texts) == len(sides) else None


def _null(node: Node) -> bool:
    return node.get("class") == "CONSTANT" and bool(node["value"]["is_null"])


def _plain(node: Any) -> str:
    if isinstance(node, dict):
        return str({key: _plain(value) for key, value in node.items() if key not in ("query_location", "alias")})
    return str([_plain(one) for one in node]) if isinstance(node, list) else str(node)
