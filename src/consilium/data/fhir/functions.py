"""Functions of FHIRPath on values: what goes in are collections, what comes out is one. Source: FHIRPath 2.0, 5."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from consilium.data.fhir.moments import SHAPE, Moment, high, low, moment
from consilium.data.fhir.steps import at
from consilium.data.fhir.values import Mismatch, decimal, distinct, items, number, only, packed, text, truth


def exists(value: Any) -> bool:
    """`exists()`."""
    return value is not None and (type(value) is not list or bool(items(value)))


def not_(value: Any) -> bool | None:
    """`not()`."""
    found = truth(value)
    return None if found is None else not found


def join(value: Any, separator: Any = None) -> str:
    """`join(separator)`; of nothing it is the empty text, as SQL on FHIR has it."""
    every = items(value)
    if any(type(item) is not str for item in every):
        raise Mismatch("has values that are no text where join() wants text")
    return (only(separator) or "").join(every)


def _text(value: Any, name: str) -> str | None:
    found = only(value)
    if found is not None and type(found) is not str:
        raise Mismatch(f"has a value that is no text where {name}() wants text")
    return found


def _count(value: Any, name: str) -> int | None:
    found = only(value)
    if found is not None and type(found) is not int:
        raise Mismatch(f"has a value that is no whole number where {name}() wants one")
    return found


def substring(value: Any, start: Any, length: Any = None) -> str | None:
    """`substring(start, length)`, from 0."""
    whole, begin, most = _text(value, "substring"), _count(start, "substring"), _count(length, "substring")
    if whole is None or begin is None or not 0 <= begin < len(whole):
        return None
    return whole[begin:] if most is None else whole[begin : begin + max(most, 0)]


def _of_texts(name: str, found: Callable[[str, str], Any]) -> Callable[..., Any]:
    def run(value: Any, other: Any) -> Any:
        whole, part = _text(value, name), _text(other, name)
        return None if whole is None or part is None else found(whole, part)

    return run


def _of_text(name: str, found: Callable[[str], Any]) -> Callable[..., Any]:
    def run(value: Any) -> Any:
        whole = _text(value, name)
        return None if whole is None else found(whole)

    return run


def replace(value: Any, pattern: Any, other: Any) -> str | None:
    """`replace(pattern, substitution)`."""
    whole, part, new = _text(value, "replace"), _text(pattern, "replace"), _text(other, "replace")
    return None if whole is None or part is None or new is None else whole.replace(part, new)


def to_integer(value: Any) -> int | None:
    """`toInteger()`."""
    found = only(value)
    if isinstance(found, int):
        return int(found)
    if type(found) is str and found.lstrip("+-").isdecimal() and len(found) - len(found.lstrip("+-")) < 2:
        return int(found)
    return None


def to_decimal(value: Any) -> Any:
    """`toDecimal()`."""
    found = only(value)
    if type(found) is bool:
        return 1.0 if found else 0.0
    if number(found):
        return found
    plain = found.lstrip("+-").replace(".", "", 1) if type(found) is str else ""
    return float(str(found)) if plain.isdecimal() and not str(found).endswith(".") else None


def skip(value: Any, count: Any) -> Any:
    """`skip(count)`."""
    return packed(list(items(value)[max(_count(count, "skip") or 0, 0) :]))


def take(value: Any, count: Any) -> Any:
    """`take(count)`."""
    return packed(list(items(value)[: max(_count(count, "take") or 0, 0)]))


def single(value: Any) -> Any:
    """`single()`. Raises: Mismatch: there are several."""
    return only(value)


def edge(value: Any, kind: str, name: str) -> Any:
    """`lowBoundary()` or `highBoundary()`.

    Args: kind: the FHIR type where the path tells it; a text that is a day counts as a dateTime where it does not.
    """
    found, reach = only(value), low if name == "lowBoundary" else high
    if found is None:
        return None
    if number(found):
        exact = decimal(found)
        half = Decimal(5).scaleb(int(exact.as_tuple().exponent) - 1)
        return exact - half if name == "lowBoundary" else exact + half
    if type(found) is str:
        known = kind if kind in ("date", "dateTime", "instant", "time") else ""
        found = moment(found, known or ("dateTime" if SHAPE.fullmatch(found) else "time"))
    if type(found) is not Moment:
        raise Mismatch(f"has a value that is no number, date or time where {name}() wants one")
    return reach(found)


PLAIN: dict[str, tuple[Callable[..., Any], int, int, str]] = {
    "empty": (lambda value: not items(value), 0, 0, "boolean"),
    "not": (not_, 0, 0, "boolean"),
    "count": (lambda value: len(items(value)), 0, 0, "integer"),
    "first": (lambda value: at(value, 0), 0, 0, ""),
    "last": (lambda value: at(value, len(items(value)) - 1), 0, 0, ""),
    "tail": (lambda value: packed(list(items(value)[1:])), 0, 0, ""),
    "skip": (skip, 1, 1, ""),
    "take": (take, 1, 1, ""),
    "single": (single, 0, 0, ""),
    "distinct": (lambda value: packed(distinct(value)), 0, 0, ""),
    "union": (lambda value, other: packed(distinct([*items(value), *items(other)])), 1, 1, ""),
    "combine": (lambda value, other: packed([*items(value), *items(other)]), 1, 1, ""),
    "join": (join, 0, 1, "string"),
    "startsWith": (_of_texts("startsWith", str.startswith), 1, 1, "boolean"),
    "endsWith": (_of_texts("endsWith", str.endswith), 1, 1, "boolean"),
    "contains": (_of_texts("contains", lambda whole, part: part in whole), 1, 1, "boolean"),
    "indexOf": (_of_texts("indexOf", str.find), 1, 1, "integer"),
    "substring": (substring, 1, 2, "string"),
    "replace": (replace, 2, 2, "string"),
    "length": (_of_text("length", len), 0, 0, "integer"),
    "lower": (_of_text("lower", str.lower), 0, 0, "string"),
    "upper": (_of_text("upper", str.upper), 0, 0, "string"),
    "trim": (_of_text("trim", str.strip), 0, 0, "string"),
    "toInteger": (to_integer, 0, 0, "integer"),
    "toDecimal": (to_decimal, 0, 0, "decimal"),
    "toString": (lambda value: text(only(value)), 0, 0, "string"),
}
"""By name: the function, the least and most of its arguments, and the type of what it gives where it is always one."""
