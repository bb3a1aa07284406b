"""From the tree of a FHIRPath to a closure. `compile_path(text, scope)(resource)` gives its value.

Arguments are read from the context of the path, criteria (`where`, `exists`, `all`, `select`) from each item in turn.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from consilium.core.errors import ViewInvalid
from consilium.data.fhir import steps, values
from consilium.data.fhir.elements import CHOICES, DATES, SIMPLE, misspelt
from consilium.data.fhir.functions import PLAIN, edge, exists
from consilium.data.fhir.moments import Moment
from consilium.data.fhir.operators import is_text, operator
from consilium.data.fhir.syntax import At, Binary, Call, Constant, Context, Literal, Member, Sign, parse
from consilium.data.fhir.values import Mismatch, Run, items, only, packed, truth

SPECIAL = (
    "where", "exists", "all", "select", "iif", "ofType", "extension", "getResourceKey", "getReferenceKey",
    "lowBoundary", "highBoundary",
)  # fmt: skip
FUNCTIONS = tuple(sorted({*PLAIN, *SPECIAL}))
"""Every function of the subset."""
OPERATORS = ("=", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "div", "mod", "&", "|", "and", "or", "xor",
             "implies", "in", "contains")  # fmt: skip
INSTEAD = {"hasValue": "write exists(): an element that has extensions in place of a value is nothing here"}
"""What to write for functions that JSON alone cannot answer."""
URLS = {"sct": "http://snomed.info/sct", "loinc": "http://loinc.org", "ucum": "http://unitsofmeasure.org"}
"""What FHIR says of these constants."""


@dataclass
class Scope:
    """What paths of one view share: constants, the index of the present row, and whether numbers are to the digit."""

    constants: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False
    row: int = 0
    hint: str = ""


@dataclass(frozen=True)
class Path:
    """A compiled path, and the FHIR type of its value where the path tells it.

    keys: its steps, where it is a chain of some.   counts: whether its value hangs on the index of the present row.
    """

    run: Run
    type: str
    keys: steps.Keys | None = None
    counts: bool = False

    def then(self, kind: str, *keys: steps.Key | steps.Made) -> "Path":
        """The path that goes on by these steps."""
        if self.keys is not None:
            return Path(steps.along((*self.keys, *keys)), kind, (*self.keys, *keys))
        first, second = self.run, steps.along(keys)
        return Path(lambda node: second(first(node)), kind)


def wants_digits(text: str) -> bool:
    """Whether a path asks for the precision of a number. Raises: ViewInvalid."""
    return _has_edges(parse(text))


def _has_edges(*trees: Any) -> bool:
    return any(isinstance(one, Call) and one.name in ("lowBoundary", "highBoundary") for one in _within(*trees))


def _within(*trees: Any) -> Iterator[Any]:
    """All that is in trees, in their order: nodes, names, values, and how many arguments a call has."""
    waiting = [*reversed(trees)]
    while waiting:
        yield (one := waiting.pop())
        for part in reversed(vars(one).values()) if hasattr(one, "__dataclass_fields__") else ():
            waiting += [*reversed(part), len(part)] if type(part) is tuple else [part]


def compile_path(text: str, scope: Scope) -> Path:
    """A closure from a resource, or from an item of one, to the value of a path.

    Raises: ViewInvalid: it is no FHIRPath, or outside of the subset.   The closure raises Mismatch where data do not
    fit, and says no value.

    >>> compile_path("name.given.first()", Scope()).run({"name": [{"given": ["Ann", "B."]}]})
    'Ann'
    """
    try:
        tree = parse(text)
        path = _Compiler(scope).made(tree)
    except ViewInvalid as error:
        said = error.message if repr(text) in error.message else f"path {text!r}: {error.message}"
        raise ViewInvalid(said, error.remedy) from None
    # What hangs on the row is made context by context, and not step by step for many of them.
    return Path(path.run, path.type, None, counts=True) if Constant("rowIndex") in _within(tree) else path


class _Compiler:
    """By the kind of node."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._by: dict[type, Callable[[Any], Path]] = {
            Context: lambda _: Path(lambda node: node, "", ()), Literal: self._literal, Constant: self._constant,
            Member: self._member, At: self._at, Sign: self._sign, Binary: self._binary, Call: self._call,
        }  # fmt: skip

    def made(self, tree: Any) -> Path:
        return self._by[type(tree)](tree)

    def _literal(self, tree: Literal) -> Path:
        value = tree.value
        if type(value) is Decimal and not self._scope.exact:
            value = float(value)
        return Path(lambda _: value, _type_of(value))

    def _constant(self, tree: Constant) -> Path:
        if tree.name == "rowIndex":
            scope = self._scope
            return Path(lambda _: scope.row, "integer")
        known = {**URLS, **self._scope.constants}
        if tree.name not in known:
            near = difflib.get_close_matches(tree.name, known, n=1)
            hint = f"did you mean %{near[0]}?" if near else "name it under `constant`"
            raise ViewInvalid(f"there is no constant %{tree.name}", hint)
        return self._literal(Literal(known[tree.name]))

    def _member(self, tree: Member) -> Path:
        if isinstance(tree.of, Context) and tree.name[:1].isupper():
            return Path(_named(tree.name), tree.name)
        keys, base = _chain(tree)
        return self._along(base, keys, "date" if tree.name in DATES else "")

    def _along(self, base: Any, keys: steps.Keys, kind: str) -> Path:
        return self.made(base).then(kind, *keys)

    def _at(self, tree: At) -> Path:
        if isinstance(tree.index, Literal) and type(tree.index.value) is int:
            keys, base = _chain(tree)
            return self._along(base, keys, "")
        source, index = self.made(tree.of), self.made(tree.index).run

        def run(node: Any) -> Any:
            number = only(index(node))
            if number is not None and type(number) is not int:
                raise Mismatch("has an index that is no whole number")
            return None if number is None else steps.at(source.run(node), number)

        return Path(run, source.type)

    def _sign(self, tree: Sign) -> Path:
        of, factor = self.made(tree.of), -1 if tree.sign == "-" else 1
        return Path(lambda node: values.calculate("*", of.run(node), factor), of.type)

    def _binary(self, tree: Binary) -> Path:
        left, right, sign = self.made(tree.left), self.made(tree.right), tree.sign
        kind = "boolean"
        if sign in ("+", "-", "*", "/", "div", "mod"):
            kind = "string" if "string" in (left.type, right.type) else "integer" if sign == "div" else "decimal"
        elif sign in ("&", "|"):
            kind = "string" if sign == "&" else ""
        if sign == "=" and isinstance(tree.right, Literal) and type(tree.right.value) is str:
            return Path(is_text(left.run, tree.right.value), kind)
        return Path(operator(sign, left.run, right.run), kind)

    def _call(self, tree: Call) -> Path:
        name, given = tree.name, tree.given
        if name in PLAIN:
            function, least, most, kind = PLAIN[name]
            _check(name, given, least, most)
            if name == "first":
                keys, base = _chain(tree)
                return self._along(base, keys, self.made(tree.of).type)
            source = self.made(tree.of)
            values_of = [self.made(one).run for one in given]
            if all(isinstance(one, Literal) for one in given):
                known = [one(None) for one in values_of]
                return source.then(kind or source.type, _step(tree, lambda value: function(value, *known)))
            run = source.run
            return Path(lambda node: function(run(node), *[one(node) for one in values_of]), kind or source.type)
        if name not in SPECIAL:
            near = difflib.get_close_matches(name, FUNCTIONS, n=1)
            hint = f"did you mean {near[0]}()?" if near else f"known are {', '.join(FUNCTIONS)}"
            raise ViewInvalid(f"{name}() lies outside of the subset", INSTEAD.get(name, hint))
        return self._special(tree)

    def _special(self, tree: Call) -> Path:
        name, given = tree.name, tree.given
        match name:
            case "where" | "all" | "select" | "exists":
                _check(name, given, 0 if name == "exists" else 1, 1)
                source, text = self.made(tree.of), _member_is_text(given[0]) if given else None
                if name == "where" and text:
                    return source.then(source.type, _step(tree, steps.where_text(*text)))
                each = self.made(given[0]).run if given else None
                kind = {"where": source.type, "select": ""}.get(name, "boolean")
                edges = (self._scope.hint,) if _has_edges(*given) else ()  # of which type, its column may say
                return source.then(kind, _step(tree, _criteria(name, each), *edges))
            case "iif":
                _check(name, given, 2, 3)
                if isinstance(given[0], Literal) and type(given[0].value) is not bool:
                    raise ViewInvalid(
                        "iif() wants a condition, and has a value that is neither true nor false",
                        "write a condition such as active = true",
                    )
                return _iif(self.made(tree.of).run, [self.made(one) for one in given])
            case "lowBoundary" | "highBoundary":
                _check(name, given, 0, 0)
                source = self.made(tree.of)
                hint = source.type or self._scope.hint
                return source.then(source.type, _step(tree, lambda value: edge(value, hint, name), hint))
            case "getResourceKey":
                _check(name, given, 0, 0)
                keys, base = _chain(Member(tree.of, "id"))
                return self._along(base, keys, "string")
            case "getReferenceKey":
                _check(name, given, 0, 1)
                wanted = _type_name(given[0], name) if given else None
                return self.made(tree.of).then("string", _step(tree, steps.reference_key(wanted)))
        return self._beside(tree)

    def _beside(self, tree: Call) -> Path:
        """`ofType` and `extension`, which look at the member before them."""
        _check(tree.name, tree.given, 1, 1)
        if tree.name == "ofType":
            wanted = _type_name(tree.given[0], "ofType")
            _told(tree.of, wanted)
            keys, base = _chain(tree)
            if keys:
                return self._along(base, keys, wanted)
            return self.made(tree.of).then(wanted, _step(tree, steps.of_type(wanted)))
        base, member = tree.of, None
        if isinstance(base, Member) and not base.name[:1].isupper():
            base, member = base.of, base.name
        url = self.made(tree.given[0]).run(None) if isinstance(tree.given[0], Literal | Constant) else None
        if type(url) is not str:
            raise ViewInvalid("extension() wants the URL of the extension", "write it as a text in quotes")
        return self.made(base).then("", _step(tree, steps.extension(member, url), member))


def _step(tree: Call, run: Run, *beside: str | None) -> steps.Made:
    """A call as a step; beside: what it hangs on but for its name and what it is given."""
    told = [type(one).__name__ if hasattr(one, "__dataclass_fields__") else one for one in _within(*tree.given)]
    return steps.Made(repr((tree.name, beside, told)), run)


def _chain(tree: Any) -> tuple[steps.Keys, Any]:
    """The longest chain of members, their types, indexes and `first()` that ends here, and what it begins with."""
    keys: list[steps.Key] = []
    while True:
        if _is_member(tree):
            keys.append(tree.name)
        elif isinstance(tree, At) and isinstance(tree.index, Literal) and type(tree.index.value) is int:
            keys.append(tree.index.value)
        elif isinstance(tree, Call) and tree.name == "first" and not tree.given:
            keys.append(0)
        elif isinstance(tree, Call) and tree.name == "ofType" and len(tree.given) == 1 and _is_member(tree.of):
            keys.append(steps.Typed(tree.of.name, _type_name(tree.given[0], "ofType")))
            tree = tree.of
        else:
            return tuple(reversed(keys)), tree
        tree = tree.of


def _is_member(tree: Any) -> bool:
    return isinstance(tree, Member) and not (isinstance(tree.of, Context) and tree.name[:1].isupper())


def _member_is_text(tree: Any) -> tuple[str, str] | None:
    """The member and the text of `member = 'text'`, if that is what it is."""
    if not isinstance(tree, Binary) or tree.sign != "=" or not isinstance(tree.right, Literal):
        return None
    if not _is_member(tree.left) or not isinstance(tree.left.of, Context) or tree.left.name in CHOICES:
        return None
    return (tree.left.name, tree.right.value) if type(tree.right.value) is str else None


def _named(name: str) -> Run:
    """A type at the head of a path: the resource itself, if it is one of that type."""
    return lambda node: node if type(node) is dict and node.get("resourceType") == name else None


def _type_of(value: Any) -> str:
    if type(value) is Moment:
        return value.kind
    kinds = {bool: "boolean", int: "integer", float: "decimal", Decimal: "decimal", str: "string"}
    return kinds.get(type(value), "")


def _told(of: Any, kind: str) -> None:
    """Raises: ViewInvalid: JSON does not tell whether an item is of this type, as it tells of a choice by its name."""
    of = of.of if isinstance(of, Call) and of.name == "ofType" else of
    if kind in SIMPLE and kind != "boolean" and not (_is_member(of) and of.name in CHOICES):
        raise ViewInvalid(
            f"ofType({kind}) is of what is no choice of types: in JSON a code, an id and a string are all text, and "
            "whole numbers of every type are alike", "leave it out: such an element has one type",
        )  # fmt: skip


def _type_name(tree: Any, function: str) -> str:
    of = tree.of if isinstance(tree, Member) else None
    if isinstance(of, Context) or (isinstance(of, Member) and of.name == "FHIR"):
        if (hint := misspelt(tree.name)) is not None:
            raise ViewInvalid(f"{function}() names {tree.name}, which is no FHIR type", hint)
        return str(tree.name)
    raise ViewInvalid(f"{function}() wants the name of a FHIR type", "such as Quantity or dateTime")


def _check(name: str, given: tuple[Any, ...], least: int, most: int) -> None:
    if not least <= len(given) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ViewInvalid(f"{name}() takes {wanted} arguments and not {len(given)}", "correct the path")


def _criteria(name: str, each: Run | None) -> Run:
    if each is None:
        return exists
    if name == "select":
        return lambda value: packed([found for item in items(value) for found in items(each(item))])
    if name == "where":
        return lambda value: packed([item for item in items(value) if truth(each(item))])
    if name == "exists":
        return lambda value: any(truth(each(item)) for item in items(value))
    return lambda value: all(truth(each(item)) for item in items(value))


def _iif(source: Run, given: list[Path]) -> Path:
    condition, yes = given[0].run, given[1]
    no = given[2] if len(given) > 2 else Path(lambda _: None, yes.type)

    def run(node: Any) -> Any:
        here = only(source(node))
        return (yes if truth(condition(here)) else no).run(here)

    return Path(run, yes.type if yes.type == no.type else "")
