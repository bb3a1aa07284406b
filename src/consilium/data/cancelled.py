"""Whether the answer hangs on rows that do not count by the word of a column that the query does not name.

A row whose ETAT is `annulé`, or whose status is `entered-in-error`, was taken back. The query is asked once more
without such rows. Whoever means them names the word: `status IN ('final', 'cancelled')`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from consilium.data.anew import Anew
from consilium.data.asking import Answer, named, quoted
from consilium.data.base import Seen
from consilium.data.catalogue import Catalogue, Column
from consilium.data.dropping import changed
from consilium.data.lineage import Lineage
from consilium.data.lookalikes import folded
from consilium.data.scopes import Relation, related
from consilium.data.tree import Node, parsed, parts, rebuilt
from consilium.data.unused import of_name

SURE = (
    r"cancell?ed|void(?:ed)?|entered in error|stornier\w*|storno|annul(?:l?at[aoie]|[ae]+d?|ees?|es)|anulad[oa]s?|"
    r"cancelad[oa]s?|geannuleerd|fehleingabe|not done|nicht durchgef\w+|non (?:fait|realise)e?s?"
)
OF_STATUS = (
    r"deleted|rejected|invalid|withdrawn|revoked|gelosch\w+|geloesch\w+|verworfen|ungultig|ungueltig|widerrufen|"
    r"supprime\w*|rejete\w*|invalide|eliminad[oa]|rechazad[oa]|invalid[oa]|eliminat[oa]|verwijderd|ongeldig"
)
"""Of a column that is called like one of a status alone."""
FEW = 60
"""Different texts at most, of a column that says such a thing."""
REMEDY = (
    "leave them out by a condition on that column; if they count, name the word there, as by `status IN ('final', "
    "'cancelled')`"
)


def says(text: str, column: str) -> bool:
    """Whether a text says that its row does not count.

    >>> [says(text, "ETAT") for text in ("annulé", "04 - Storniert", "entered-in-error", "supprimé", "clos", "stopped")]
    [True, True, True, True, False, False]
    >>> says("deleted", "gene_1p"), says("cancelled", "visit")
    (False, True)
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    words = " ".join(re.findall(r"[a-z]+", "".join(one for one in plain if not unicodedata.combining(one))))
    return bool(re.fullmatch(SURE, words) or (of_name(column) and re.fullmatch(OF_STATUS, words)))


def checked(parser: Any, query: str, ask: Callable[[str], Answer], known: Callable[[], Catalogue], anew: Anew
            ) -> tuple[Seen, ...]:  # fmt: skip
    """A note of each column of which that is so; none where it is not found out soon.

    Args:    parser: a connection of DuckDB.   ask: answers a query.   known: the tables.
    """
    return anew.found(lambda: tuple(cancelled(parser, query, ask, known())), ())


def cancelled(parser: Any, query: str, ask: Callable[[str], Answer], known: Catalogue) -> Iterator[Seen]:
    """The notes. Raises: Undecided; and what the database raises."""
    lineage = Lineage(parser, query, known)
    read = [one for scope in lineage.scopes() for one in related(scope.select["from_table"], scope.within) if one.table]
    meant = {folded(str(node["value"].get("value"))) for node in parts(lineage.answer.query)
             if node.get("class") == "CONSTANT"}  # fmt: skip
    plain: Answer | None = None
    for column in sorted(known.texts):
        uses = [one for one in read if one.table == column[0].casefold()]
        away = (
            [text for text in _texts(known, column) if says(text, column[1]) and folded(text) not in meant]
            if uses
            else []
        )
        if not away:
            continue
        plain = plain or ask(lineage.written(lineage.answer.query))
        names, rows = changed(plain, ask(lineage.written(_without(parser, lineage, uses, column, away))))
        if names:
            who = "the rows" in names
            what = "there would be other rows" if who else f"other values would stand in {', '.join(sorted(names))}"
            said = " or ".join(repr(text) for text in sorted(away))
            words = f"source.query takes rows of {column[0]} whose {column[1]} is {said}: without them {what}"
            yield Seen("unread", words, REMEDY, rows, 0 if who else len(plain[1]), tuple(sorted(names)))


def _texts(known: Catalogue, column: Column) -> list[str]:
    """What stands in a column of few different texts; nothing of another one."""
    asked = f"SELECT DISTINCT {named(column[1])} FROM {named(column[0])} LIMIT {FEW + 1}"  # noqa: S608
    found = [row[0] for row in known.ask(asked)]
    return [text for text in found if isinstance(text, str)] if len(found) <= FEW else []


def _without(parser: Any, lineage: Lineage, uses: list[Relation], column: Column, away: list[str]) -> Node:
    """The query without rows of a table in which one of these texts stands."""
    table, name = map(named, column)
    said = f"SELECT 1 FROM (SELECT * FROM {table} WHERE {name} IS NULL OR {name} NOT IN ({', '.join(map(quoted, away))})) AS s"  # noqa: S608, E501
    left = parsed(parser, said)["statements"][0]["node"]["from_table"]
    nodes = {id(one.node) for one in uses}

    def change(was: Node, made: Node) -> Node:
        return {**left, "alias": was["alias"] or was["table_name"]} if id(was) in nodes else made

    found: Node = rebuilt(lineage.answer.query, change)
    return found
