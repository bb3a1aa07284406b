"""Columns at which a query never looks, in words; and which of them are called like what says whether a row counts.

Here nothing is asked of a table: the agent has this before it forks, and DuckDB only behind that.
"""

import re
import unicodedata
from collections.abc import Sequence

from consilium.data.base import Beside

NAMED = re.compile(
    r"status|statut|storn|cancel|annul|anulad|loesch|losch|delet|supprim|elimin|geannul|version|revision|produ[cktz]|"
    r"prodott|comment|kommentar|coment|bemerk|opmerk|remark|osserv|observ|gultig|gueltig|valid|ersetz|replac|remplac|"
    r"\b(?:etat|estado|stato|state|stat|zustand|typ|type|tipo|soort|art|kind|nature|note|nota|void|flag|active|aktiv|"
    r"actif|activo|attivo|final|vorlaeufig|vorlaufig|kennzeichen)\b"
)
"""In names of columns, without accents and in words: what may say whether a row counts, in the usual languages."""
REMEDY = (
    "if one of them says that a row was cancelled, replaced by a later one, is not valid yet or of another kind "
    "than is asked for, add a condition on it to the query; else all is well"
)


def of_name(name: str) -> bool:
    """Whether a column is called so.

    >>> [of_name(name) for name in ("ÉTAT", "LabStatus", "Befundbemerkung", "visit_type", "Artery", "typical")]
    [True, True, True, True, False, False]
    """
    plain = unicodedata.normalize("NFKD", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).casefold()
    words = re.sub(r"[^a-z]+", " ", "".join(one for one in plain if not unicodedata.combining(one)))
    return NAMED.search(words) is not None


def told(beside: Sequence[Beside]) -> tuple[str, str]:
    """In words, and what to do."""
    by = dict[str, dict[str, int]]()
    for one in beside:
        by.setdefault(one.table, {}).update(one.columns)
    listed = "; ".join(f"{table}: {', '.join(_shown(one) for one in columns.items())}"
                       for table, columns in sorted(by.items()))  # fmt: skip
    return f"source.query never reads these columns, which may say whether a row counts: {listed}", REMEDY


def _shown(column: tuple[str, int]) -> str:
    name, values = column
    return f"{name} ({values} values)" if values else name
