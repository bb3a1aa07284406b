"""Which codes stand in a column beside those that a query names there: for a person to see whether one is forgotten.

`test IN ('HB')` passes over HEMOGLOBINE as it does over CRP, and which of them means the same no table says. So nothing
is found here: what stands there is shown to who checks, and neither kept nor sent.
"""

from collections.abc import Callable, Iterator
from typing import Any

from consilium.data.anew import Anew
from consilium.data.base import Unnamed
from consilium.data.catalogue import Catalogue
from consilium.data.counts import MIN_CELL
from consilium.data.lineage import Lineage
from consilium.data.lookalikes import compared, folded
from consilium.data.tree import Undecided

FEW = 60
"""Different texts at most, of a column of codes."""
LONGEST = 24


def checked(parser: Any, query: str, known: Callable[[], Catalogue], anew: Anew) -> tuple[Unnamed, ...]:
    """Those of each column; none where it is not found out soon.

    Args:    parser: a connection of DuckDB.   known: the tables.
    """
    if "'" not in query:
        return ()
    return anew.found(lambda: tuple(unnamed(parser, query, known())), ())


def unnamed(parser: Any, query: str, known: Catalogue) -> Iterator[Unnamed]:
    """The same. Raises: Undecided; and what the database raises."""
    lineage = Lineage(parser, query, known)
    found = dict[str, tuple[str, set[str]]]()
    for one in (each for scope in lineage.scopes() for each in compared(scope)):
        try:
            origins = lineage.origins(one.value, one.scope)
            if len(origins) == 1 and origins[0].columns:
                asked = lineage.asked(origins[0]).replace("SELECT DISTINCT", "SELECT", 1)
                found.setdefault(asked, (".".join(origins[0].columns[0]), set()))[1].update(one.texts)
        except Undecided:
            continue
    for asked, (column, texts) in found.items():
        rows = known.ask(
            f"SELECT v, count(*) FROM ({asked}) AS o WHERE v IS NOT NULL GROUP BY v ORDER BY 2 DESC, 1 LIMIT {FEW + 1}"  # noqa: S608
        )
        meant = set(map(folded, texts))
        told = [(str(text), int(count)) for text, count in rows if count >= MIN_CELL and folded(str(text)) not in meant]
        others = [(text, count) for text, count in told if 0 < len(text.strip()) <= LONGEST]
        if others and len(rows) <= FEW:
            yield Unnamed(column, tuple(sorted(texts)), tuple(others))
