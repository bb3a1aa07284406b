"""Operators of FHIRPath, of closures to a closure. Source: FHIRPath 2.0, 6."""

from typing import Any

from consilium.data.fhir import values
from consilium.data.fhir.values import Mismatch, Run, items, only, packed, truth


def is_text(left: Run, wanted: str) -> Run:
    """`left = 'wanted'`."""

    def run(node: Any) -> Any:
        value = left(node)
        if type(value) is str:
            return value == wanted
        return values.equal(value, wanted)

    return run


def operator(sign: str, left: Run, right: Run) -> Run:
    """`left sign right`."""
    match sign:
        case "=":
            return lambda node: values.equal(left(node), right(node))
        case "!=":
            return lambda node: None if (found := values.equal(left(node), right(node))) is None else not found
        case "<":
            return lambda node: None if (found := values.order(left(node), right(node))) is None else found < 0
        case ">":
            return lambda node: None if (found := values.order(left(node), right(node))) is None else found > 0
        case "<=":
            return lambda node: None if (found := values.order(left(node), right(node))) is None else found <= 0
        case ">=":
            return lambda node: None if (found := values.order(left(node), right(node))) is None else found >= 0
        case "and" | "or" | "xor" | "implies":
            return _logic(sign, left, right)
        case "in":
            return lambda node: values.within(left(node), right(node))
        case "contains":
            return lambda node: values.within(right(node), left(node))
        case "|":
            return lambda node: packed(values.distinct([*items(left(node)), *items(right(node))]))
        case "&":
            return lambda node: (_said(left(node)) or "") + (_said(right(node)) or "")
        case _:
            return lambda node: values.calculate(sign, left(node), right(node))


def _said(value: Any) -> str | None:
    found = only(value)
    if found is not None and type(found) is not str:
        raise Mismatch("has a value that is no text where & wants text")
    return found


def _logic(sign: str, left: Run, right: Run) -> Run:
    """Three-valued: what is not known decides nothing that it need not."""
    if sign == "and":
        return lambda node: _and(truth(left(node)), truth(right(node)))
    if sign == "or":
        return lambda node: _or(truth(left(node)), truth(right(node)))
    if sign == "implies":
        return lambda node: _or(None if (one := truth(left(node))) is None else not one, truth(right(node)))

    def xor(node: Any) -> bool | None:
        one, other = truth(left(node)), truth(right(node))
        return None if one is None or other is None else one is not other

    return xor


def _and(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _or(one: bool | None, other: bool | None) -> bool | None:
    if one or other:
        return True
    return None if one is None or other is None else False
