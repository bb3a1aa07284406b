"""Frozen data classes with some fields changed, in one step."""

from typing import Any, TypeVar

T = TypeVar("T")


def changed(of: T, **fields: Any) -> T:
    """`dataclasses.replace`, for classes that check and derive nothing as they are made: it takes no step per field.

    The round and the run have a dozen fields, and each event makes both anew.

    >>> from consilium.core.round import Cancelled
    >>> changed(Cancelled("before"), reason="after")
    Cancelled(reason='after')
    """
    found = object.__new__(type(of))
    vars(found).update(vars(of))
    vars(found).update(fields)
    return found
