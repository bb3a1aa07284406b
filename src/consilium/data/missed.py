"""How many patients of a query's table are in no row of its answer: a condition or a join leaves them out in silence.

`consent <> 'no'` leaves out who has an empty cell there, and JOIN who has no row in the other table. Whether that is
meant nobody but a person knows, so it is told. The table is the one from which the query takes the patient's key.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from consilium.data.anew import Anew
from consilium.data.base import Missed, Note, Rows, Seen
from consilium.data.catalogue import COLUMNS, Catalogue
from consilium.data.lineage import Lineage
from consilium.data.origins import Origin
from consilium.data.tree import Undecided

UNKNOWN = Seen(
    "of-nobody", "whether source.query leaves patients out could not be found out: their key is made in a way that was "
    "not followed to a table",
    "count the patients of the table from which you take them, and compare it with the rows that were read",
    unknown=True,
)  # fmt: skip
KEYED = "trim(CAST(v AS TEXT)) <> ''"
"""What is a key. In all of the databases."""


def missed(parser: Any, query: str, found: Rows, key: str, catalogue: Catalogue) -> Missed | None:
    """Who is in no row of an answer; None: nobody, or no key is named.

    Args:    parser: a connection of DuckDB.   key: the answer's column of the patients' keys.
    Raises:  Undecided; and what the database raises.
    """
    if key not in found.columns or catalogue.database not in COLUMNS:
        return None
    lineage = Lineage(parser, query, catalogue)
    origins = lineage.of_answer(key)
    queries = list(dict.fromkeys(lineage.asked(one, every=True) for one in origins))
    columns = [column for one in origins for column in one.columns]
    if not columns:
        return None
    if not all(one.followed for one in origins):
        raise Undecided
    if len(queries) == 1:
        there = _keys(catalogue, lineage, origins[0], queries[0])
    else:
        asked = (f"SELECT v FROM ({one}) AS o WHERE {KEYED}" for one in queries)  # noqa: S608  as lineage writes them
        there = len({str(row[0]) for one in asked for row in catalogue.ask(one)})
    here = len({text for text in found.columns[key] if text is not None and text.strip()}) + found.left_out
    return Missed(".".join(columns[0]), there - here, there) if there > here else None


def _keys(catalogue: Catalogue, lineage: Lineage, origin: Origin, query: str) -> int:
    """How many there are; where a cast fails, as for somebody whom a condition leaves out, those of its column."""
    counted = "SELECT count(*) FROM ({}) AS o WHERE " + KEYED  # noqa: S608  as lineage writes it
    if catalogue.database != "postgresql" or not (column := _cast(origin)):
        return int(catalogue.ask(counted.format(query))[0][0])
    from sqlalchemy.exc import DataError  # only where such a database is

    try:
        return int(catalogue.ask(counted.format(query))[0][0])
    except DataError:
        return int(catalogue.ask(counted.format(lineage.asked(column, every=True)))[0][0])


def _cast(origin: Origin) -> Origin | None:
    """The column of which it is nothing but casts."""
    value = origin.value
    while value.get("class") == "CAST":
        value = value["child"]
    plain = replace(origin, value=value)
    return plain if value is not origin.value and plain.column else None


def checked(find: Callable[[], Missed | None], anew: Anew) -> tuple[Note, ...]:
    """What `find` finds, if it does so soon: nothing hangs on it; or that nobody knows."""
    found = anew.found(find, UNKNOWN)
    return () if found is None else (found,)
