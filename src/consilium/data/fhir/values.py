"""Values as JSON has them: None is an empty collection, a list one of several items, all else is a single item.

Numbers are int and float, or Decimal where a view asks for their precision; arithmetic is decimal, so that 1.8 - 1.2 is
0.6. A date from JSON is text: it is compared as a date with what is one, and with another text that has its shape.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from consilium.data.fhir.moments import SHAPE, Moment, compare, moment

Run = Callable[[Any], Any]
"""A compiled path: from the context to a value."""
NUMBERS = (int, float, Decimal)


class Mismatch(ValueError):
    """The data are not what a path demands. Says no value."""


def items(value: Any) -> Sequence[Any]:
    """The items of a collection."""
    if value is None:
        return ()
    if type(value) is list:
        return [item for item in value if item is not None]
    return (value,)


def packed(found: list[Any]) -> Any:
    """A collection of these items."""
    return found[0] if len(found) == 1 else found or None


def only(value: Any) -> Any:
    """The single item, or None. Raises: Mismatch: there are several."""
    if type(value) is not list:
        return value
    found = items(value)
    if len(found) > 1:
        raise Mismatch("has several values where one is wanted")
    return found[0] if found else None


def truth(value: Any) -> bool | None:
    """As a condition: None is neither; a single item that is no boolean counts as true."""
    if type(value) is bool or value is None:
        return value
    found = only(value)
    return found if found is None or type(found) is bool else True


def number(value: Any) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, NUMBERS) and type(value) is not bool


def decimal(value: Any) -> Decimal:
    """As it is written in JSON, to the digit."""
    return value if type(value) is Decimal else Decimal(repr(value) if type(value) is float else value)


def same(one: Any, other: Any) -> bool | None:
    """Whether two items are equal; None where that is not known."""
    if type(one) is bool or type(other) is bool:
        return one is other
    if number(one) and number(other):
        return bool(one == other) if type(one) is type(other) else decimal(one) == decimal(other)
    if type(one) is str and type(other) is str and one == other:
        return True
    pair = _moments(one, other)
    if pair is None:
        return bool(one == other)
    if (pair[0].kind == "time") != (pair[1].kind == "time"):
        return False
    order = compare(*pair)
    return None if order is None else order == 0


def _moments(one: Any, other: Any) -> tuple[Moment, Moment] | None:
    """Both as moments, where one is known to be one and the other may be, or where both texts have the shape."""
    if type(one) is Moment and type(other) is Moment:
        return one, other
    if type(one) is Moment or type(other) is Moment:
        known, text = (one, other) if type(one) is Moment else (other, one)
        read = moment(text, "time" if known.kind == "time" else "") if type(text) is str else None
        if read is None:
            return None
        return (known, read) if known is one else (read, known)
    if type(one) is not str or type(other) is not str or not (SHAPE.fullmatch(one) and SHAPE.fullmatch(other)):
        return None
    first, second = moment(one), moment(other)
    return None if first is None or second is None else (first, second)


def equal(one: Any, other: Any) -> bool | None:
    """`=`: item by item, in order; None where a collection is empty, or where it is not known."""
    if one is None or other is None:
        return None
    if type(one) is not list and type(other) is not list:
        return same(one, other)
    left, right = items(one), items(other)
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    answers = [same(here, there) for here, there in zip(left, right)]
    return False if False in answers else None if None in answers else True


def order(one: Any, other: Any) -> int | None:
    """-1, 0, 1, or None where that is not known. Raises: Mismatch: they are not of one kind."""
    left, right = only(one), only(other)
    if left is None or right is None:
        return None
    if number(left) and number(right):
        left, right = (left, right) if type(left) is type(right) else (decimal(left), decimal(right))
        return (left > right) - (left < right)
    pair = _moments(left, right)
    try:
        if pair is not None:
            return compare(*pair)
        if type(left) is str and type(right) is str:
            return (left > right) - (left < right)
    except TypeError as error:
        raise Mismatch(str(error)) from None
    raise Mismatch("has values that cannot be compared")


def distinct(value: Any) -> list[Any]:
    """Each item once, in order."""
    found: list[Any] = []
    for item in items(value):
        if not any(same(item, known) for known in found):
            found.append(item)
    return found


def within(one: Any, many: Any) -> bool | None:
    """`in`: whether the item is among them; None where there is no item."""
    item = only(one)
    return None if item is None else any(same(item, known) for known in items(many))


def calculate(sign: str, one: Any, other: Any) -> Any:
    """`+ - * / div mod` of numbers, `+` of texts. None where one is empty or nothing divides by 0.

    Raises: Mismatch: they are not numbers.
    """
    left, right = only(one), only(other)
    if left is None or right is None:
        return None
    if sign == "+" and type(left) is str and type(right) is str:
        return left + right
    if not (number(left) and number(right)):
        raise Mismatch("has values that are no numbers where it calculates")
    whole = type(left) is int and type(right) is int
    if whole and sign in "+-*":
        return left + right if sign == "+" else left - right if sign == "-" else left * right
    try:
        found = _decimal(sign, decimal(left), decimal(right))
    except InvalidOperation as error:
        raise Mismatch("has numbers that are too large to calculate with") from error
    if found is None:
        return None
    if sign == "div" or (whole and sign == "mod"):
        return int(found)
    if type(left) is Decimal or type(right) is Decimal:
        return found
    if math.isinf(plain := float(found)):
        raise Mismatch("has numbers that are too large to calculate with")
    return plain


def _decimal(sign: str, left: Decimal, right: Decimal) -> Decimal | None:
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _ if right == 0:
            return None
        case "/":
            return left / right
        case "div":
            return left // right
        case _:
            return left % right


def text(value: Any) -> str | None:
    """As FHIRPath writes it; None for what is no simple value."""
    if value is None or type(value) is dict:
        return None
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is Moment:
        return value.text
    return value if type(value) is str else format(decimal(value), "f")
