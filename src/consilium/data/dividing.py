"""Whether the answer of SQLite or PostgreSQL hangs on whole numbers that its query divides: of both, 1/88 is 0.

The query is asked with 1.0 beside each number that is divided. DuckDB keeps what is behind the point.
"""

from collections.abc import Callable
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue
from consilium.data.dropping import changed
from consilium.data.lineage import Lineage
from consilium.data.scopes import own
from consilium.data.tree import Node, instead, parsed


def checked(parser: Any, query: str, ask: Callable[[str], Answer], known: Callable[[], Catalogue], anew: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """Columns that would be others with what is behind the point; nothing where it is not found out soon.

    Args:    parser: a connection of DuckDB.   ask: answers a query.   known: the tables.
    """
    if "/" not in query:
        return ()
    names, rows, of = anew.found(lambda: _others(parser, query, ask, known()), (set[str](), 0, 0))
    if not names:
        return ()
    words = (
        "source.query divides whole numbers, and its database leaves out what is behind the point, so that 1/88 is 0: "
        f"other values would stand in {', '.join(sorted(names))}"
    )
    remedy = "write 1.0/88, or CAST(... AS REAL) of what is divided; if whole numbers are meant, all is well"
    return (Seen("text-order", words, remedy, rows, of, tuple(sorted(names))),)


def _others(parser: Any, query: str, ask: Callable[[str], Answer], known: Catalogue) -> tuple[set[str], int, int]:
    """Those columns, in how many rows, of how many."""
    lineage = Lineage(parser, query, known)
    (pattern,) = parsed(parser, "SELECT 1 * 1.0")["statements"][0]["node"]["select_list"]
    by = dict[int, Node]()
    for scope in lineage.scopes():
        for node in own(scope.select):
            if node.get("class") == "FUNCTION" and node["function_name"] == "/":
                (of, _) = node["children"]
                by[id(of)] = {**pattern, "children": [of, pattern["children"][1]]}
    if not by:
        return set(), 0, 0
    plain = ask(lineage.written(lineage.answer.query))
    return *changed(plain, ask(lineage.written(instead(lineage.answer.query, by)))), len(plain[1])
