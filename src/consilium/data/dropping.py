"""Whether the answer of DuckDB hangs on texts of which TRY_CAST in a query makes nothing, such as <5 or 7,5.

So of try_strptime. The query is asked twice more, with a small and with a large value in place of this nothing; where
it may be a moment, once more for each with all that it is compared with true, for a window of days holds neither. What
is a word for nothing anyhow, or a sign, is none such; nor is what a CASE takes out before, and so says that somebody
has looked, nor what another part of the same coalesce makes something of.
"""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer, quoted
from consilium.data.base import Lost, Seen
from consilium.data.ordering import differing
from consilium.data.traps import WORDS
from consilium.data.tree import Node, parsed, parts, rebuilt, written

INSTEAD = {
    "DOUBLE": ("-1e12", "1e12"), "FLOAT": ("-1e12", "1e12"), "DATE": ("1234-05-06", "8765-04-03"),
    "TIMESTAMP": ("1234-05-06", "8765-04-03"), "TIME": ("00:00:01", "23:59:59"), "BOOLEAN": ("false", "true"),
}  # fmt: skip
"""By type, what stands in place of nothing; of other numbers `SMALL`."""
SMALL = ("0", "99")
UNKNOWN = Seen(
    "text-order",
    "whether source.query drops texts of which TRY_CAST or try_strptime makes nothing could not be found out",
    "count in each table the texts of which it makes nothing: WHERE v IS NOT NULL AND TRY_CAST(v AS DOUBLE) IS NULL",
    unknown=True,
)  # fmt: skip
BY = ("TRY_CAST", "try_strptime")
MOMENTS = frozenset(("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"))
COMPARES = frozenset((
    "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN", "COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_BETWEEN",
))  # fmt: skip
NEAR = (
    "drop_near(x)",
    f"typeof(x) IN ({', '.join(quoted(one) for one in sorted(MOMENTS))}) "
    "AND regexp_matches(CAST(x AS VARCHAR), '^(12[234]|87[567])[0-9]-')",
)
"""Whether a moment is one of `INSTEAD`, or some years from it."""
PICK = (
    "drop_pick(made, x, instead)",
    "CASE WHEN made IS NULL AND typeof(x) = 'VARCHAR' AND regexp_matches(CAST(x AS VARCHAR), '[\\pL\\pN]') "
    f"AND lower(trim(CAST(x AS VARCHAR))) NOT IN ({', '.join(quoted(word) for word in sorted(WORDS))}) "
    "THEN instead ELSE made END",
)


def checked(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer], once_more: Anew
            ) -> tuple[Seen | Lost, ...]:  # fmt: skip
    """What of the answer is lost so; or that nobody knows.

    Args:    tables: a connection of DuckDB, on which a macro is made.   ask: answers a query.
    """
    if not any(_by(query)):
        return ()
    found = once_more.found(lambda: lost(tables, query, answer, ask), UNKNOWN)
    return (found,) if found is not None else ()


def _by(query: str) -> tuple[str, ...]:
    return tuple(name for name in BY if name.casefold() in query.casefold())


def lost(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer]) -> Lost | None:
    """The columns that would be others, in how many rows. Raises: Undecided; and what DuckDB raises."""
    for signature, body in (PICK, NEAR):
        tables.execute(f"CREATE OR REPLACE TEMP MACRO {signature} AS {body}")
    names, rows, plain = set[str](), 0, ask(query)  # of equal moments another one may have been taken before
    dated = any(map(_of_moment, parts(parsed(tables, query))))
    for end, near in ((end, near) for near in (False, True)[: 1 + dated] for end in (0, 1)):
        others, count = changed(plain, ask(anew(tables, query, end, near)))
        names, rows = names | others, max(rows, count)
    return Lost(tuple(sorted(names)), rows, len(answer[1]), _by(query)) if names else None


def _of_moment(node: Node) -> bool:
    """Whether it makes a moment of a text, or nothing."""
    cast = node.get("class") == "CAST" and node.get("try_cast") and node["cast_type"]["id"] in MOMENTS
    return bool(cast or node.get("function_name") == "try_strptime")


def changed(one: Answer, other: Answer) -> tuple[set[str], int]:
    """Columns in which two answers differ, and how many of their rows do; `the rows`: their number is another."""
    mine, others = (Counter(map(str, each[1])) for each in (one, other))
    return set(differing(one, other)), max((mine - others).total(), (others - mine).total())


def anew(tables: Any, query: str, end: int, near: bool = False) -> str:
    """The query with a value, small or large, where TRY_CAST makes nothing of a text. Raises: Undecided.

    Args:    near: whether what a moment of these is compared with is true, whatever it is.
    """
    said = (
        f"SELECT drop_pick(1, 2, 3), 'a', CAST({quoted(INSTEAD['TIMESTAMP'][end])} AS TIMESTAMP), drop_near(1), 1 OR 2"
    )
    tree, pattern = parsed(tables, query), parsed(tables, said)
    pick, constant, moment, beside, either = pattern["statements"][0]["node"]["select_list"]

    def picked(made: Node, of: Node, instead: Node) -> Node:
        plain = {**made, "alias": ""}
        return {**copy.deepcopy(pick), "children": [plain, copy.deepcopy(of), instead], "alias": made.get("alias", "")}

    def change(was: Node, made: Node) -> Node:
        """What drops a text in silence takes its end instead; what such a value may be compared with lets it pass."""
        if made.get("class") == "CAST" and made.get("try_cast"):
            text = INSTEAD.get(made["cast_type"]["id"], SMALL)[end]
            plain = copy.deepcopy({**made, "alias": ""})
            return picked(
                made, made["child"], {**plain, "child": {**constant, "value": {**constant["value"], "value": text}}}
            )
        if made.get("function_name") == "try_strptime":
            return picked(made, made["children"][0], copy.deepcopy(moment))
        if made.get("type") == "OPERATOR_COALESCE":
            return _together(was, made)
        if near and made.get("class") in ("COMPARISON", "BETWEEN") and made["type"] in COMPARES:
            sides = [made[side] for side in ("left", "right", "input", "lower", "upper") if side in made]
            held = [{**copy.deepcopy(beside), "children": [copy.deepcopy(one)]} for one in sides]
            return {**either, "children": [*held, {**made, "alias": ""}], "alias": made.get("alias", "")}
        return made

    return written(tables, rebuilt(tree, change))


def _together(was: Node, made: Node) -> Node:
    """A coalesce of which something is lost only where no part of it makes anything of what it reads."""
    other = [at for at, (one, new) in enumerate(zip(was["children"], made["children"])) if one != new]
    after = max(other, default=-1) + 1
    children = [*was["children"][:after], *(made["children"][at] for at in other), *made["children"][after:]]
    return {**made, "children": children}
