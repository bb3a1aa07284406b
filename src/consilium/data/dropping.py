"""Whether the answer of DuckDB hangs on texts of which TRY_CAST in a query makes nothing, such as <5 or 7,5.

The query is asked twice more, with a small and with a large value in place of this nothing. What is a word for nothing
anyhow, or a sign, is none such; nor is what a CASE takes out before, and so says that somebody has looked.
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
from consilium.data.tree import Node, parsed, rebuilt, written

INSTEAD = {
    "DOUBLE": ("-1e12", "1e12"), "FLOAT": ("-1e12", "1e12"), "DATE": ("1000-01-01", "9000-01-01"),
    "TIMESTAMP": ("1000-01-01", "9000-01-01"), "TIME": ("00:00:01", "23:59:59"), "BOOLEAN": ("false", "true"),
}  # fmt: skip
"""By type, what stands in place of nothing; of other numbers `SMALL`."""
SMALL = ("0", "99")
UNKNOWN = Seen(
    "text-order",
    "whether source.query drops texts of which TRY_CAST makes nothing, such as <5 or 7,5, could not be found out",
    "count in each table the texts of which it makes nothing: WHERE v IS NOT NULL AND TRY_CAST(v AS DOUBLE) IS NULL",
    unknown=True,
)  # fmt: skip
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
    if "try_cast" not in query.casefold():
        return ()
    found = once_more.found(lambda: lost(tables, query, answer, ask), UNKNOWN)
    return (found,) if found is not None else ()


def lost(tables: Any, query: str, answer: Answer, ask: Callable[[str], Answer]) -> Lost | None:
    """The columns that would be others, in how many rows. Raises: Undecided; and what DuckDB raises."""
    tables.execute(f"CREATE OR REPLACE TEMP MACRO {PICK[0]} AS {PICK[1]}")
    names, rows, plain = set[str](), 0, ask(query)  # of equal moments another one may have been taken before
    for end in (0, 1):
        others, count = changed(plain, ask(anew(tables, query, end)))
        names, rows = names | others, max(rows, count)
    return Lost(tuple(sorted(names)), rows, len(answer[1])) if names else None


def changed(one: Answer, other: Answer) -> tuple[set[str], int]:
    """Columns in which two answers differ, and how many of their rows do; `the rows`: their number is another."""
    mine, others = (Counter(map(str, each[1])) for each in (one, other))
    return set(differing(one, other)), max((mine - others).total(), (others - mine).total())


def anew(tables: Any, query: str, end: int) -> str:
    """The query with a value, small or large, where TRY_CAST makes nothing of a text. Raises: Undecided."""
    tree, pattern = (parsed(tables, one) for one in (query, "SELECT drop_pick(1, 2, 3), 'a'"))
    pick, constant = pattern["statements"][0]["node"]["select_list"]

    def change(_: Node, made: Node) -> Node:
        if made.get("class") != "CAST" or not made.get("try_cast"):
            return made
        text = INSTEAD.get(made["cast_type"]["id"], SMALL)[end]
        alias, plain = made.get("alias", ""), {**made, "alias": ""}
        instead = {**copy.deepcopy(plain), "child": {**constant, "value": {**constant["value"], "value": text}}}
        return {**copy.deepcopy(pick), "children": [plain, copy.deepcopy(plain["child"]), instead], "alias": alias}

    return written(tables, rebuilt(tree, change))
