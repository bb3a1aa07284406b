"""A query that is one SELECT and writes nothing: it is read before any database is asked."""

import re

from consilium.core.errors import MappingInvalid
from consilium.data.casting import TOKEN

WRITES = frozenset(("insert", "update", "delete", "merge"))
"""With which a statement begins that writes."""


def _writes(query: str) -> bool:
    """Whether what begins as a SELECT writes: WITH may begin a DELETE, and SELECT ... INTO makes a table, or a file.

    The databases that are read by SQLAlchemy do not all know a transaction for reading alone.
    """
    depth, before, begun = 0, "", False
    for found in TOKEN.finditer(query):
        if found.lastgroup == "space":
            continue
        text = found[0].casefold()
        depth += {"(": 1, ")": -1}.get(text, 0)
        if found.lastgroup == "word" and ((text in WRITES and (before == "(" or not (depth or begun)))
                                          or (text == "into" and not depth)):  # fmt: skip
            return True
        begun, before = begun or (text == "select" and not depth), text
    return False


def one_select(query: str, where: str = "source.query") -> str:
    """A query that is one SELECT. Raises: MappingInvalid."""
    bare = query.strip().rstrip(";").strip()
    if not re.match(r"(?is)^(select|with)\b", bare) or ";" in bare or _writes(bare):
        raise MappingInvalid(
            f"{where}: only one SELECT statement is allowed", "write a view in your database if it needs more"
        )
    return bare
