"""From the text of a FHIRPath to its tree. FHIRPath 2.0, the subset that SQL on FHIR v2 asks for, and a little more.

Source: http://hl7.org/fhirpath/N1/grammar.html. Outside of the subset, and refused: quantities, `~`, `is`, `as`,
`$index` and `$total`.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from consilium.core.errors import ViewInvalid
from consilium.data.fhir.moments import Moment, moment

LONGEST = 1 << 18
DEEPEST = 60
"""Characters of a path, and how deep it may nest: a person's path has some dozens, and some; one that is compiled of a
contract names each of its codes."""


@dataclass(frozen=True)
class Context:
    """What the path is read from: a resource, or an item of a collection; `$this`."""


@dataclass(frozen=True)
class Literal:
    """A value that stands in the path; None is `{}`, the empty collection."""

    value: Any


@dataclass(frozen=True)
class Constant:
    """`%name`."""

    name: str


@dataclass(frozen=True)
class Member:
    """`of.name`."""

    of: Any
    name: str


@dataclass(frozen=True)
class Call:
    """`of.name(given...)`."""

    of: Any
    name: str
    given: tuple[Any, ...]


@dataclass(frozen=True)
class At:
    """`of[index]`."""

    of: Any
    index: Any


@dataclass(frozen=True)
class Sign:
    """`-of` or `+of`."""

    sign: str
    of: Any


@dataclass(frozen=True)
class Binary:
    """`left sign right`."""

    sign: str
    left: Any
    right: Any


TOKEN = re.compile(
    r"""(?P<blank>(?:\s|//[^\n]*|/\*[\s\S]*?\*/)+)
    |(?P<moment>@(?:T[\d:.]+|\d{4}(?:-\d\d){0,2}(?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)?))
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<string>'(?:[^'\\]|\\.)*')
    |(?P<quoted>`(?:[^`\\]|\\.)*`)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<constant>%(?:[A-Za-z_][\w-]*|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`))
    |(?P<this>\$this\b)
    |(?P<sign>!=|<=|>=|[-+*/&|<>=().,\[\]{}])""",
    re.VERBOSE | re.ASCII,
)
STRENGTH = {
    "implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "!=": 5, "<": 6, ">": 6, "<=": 6,
    ">=": 6, "|": 7, "+": 8, "-": 8, "&": 8, "*": 9, "/": 9, "div": 9, "mod": 9,
}  # fmt: skip
UNARY = 10
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
Token = tuple[str, str, int]
"""Kind, text, and where it begins."""


def parse(text: str) -> Any:
    """The tree of a path.

    Raises: ViewInvalid: it is no FHIRPath, or lies outside of the subset; says where.
    """
    if len(text) > LONGEST:
        raise ViewInvalid(f"a path has {len(text)} characters", f"write at most {LONGEST}")
    reader = _Reader(text)
    tree = reader.expression(0)
    if reader.kind != "end":
        raise reader.fault()
    return tree


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ViewInvalid(f"path {text!r}: {text[at : at + 10]!r} at {at + 1} is not understood", _SUBSET)
        kind = str(match.lastgroup)
        if kind != "blank":
            found.append((kind, match.group(), at))
        at = match.end()
    return [*found, ("end", "", len(text))]


_SUBSET = "see the reference of view definitions for what paths may hold"


def _plain(quoted: str) -> str:
    def one(match: re.Match[str]) -> str:
        said = match.group(1)
        return chr(int(said[1:], 16)) if len(said) == 5 else ESCAPES.get(said, said)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", one, quoted[1:-1], flags=re.DOTALL)


class _Reader:
    """One pass over the tokens, by the strength of operators (Pratt 1973)."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._at, self._depth = text, _tokens(text), 0, 0

    @property
    def kind(self) -> str:
        return self._tokens[self._at][0]

    def fault(self) -> ViewInvalid:
        _, text, at = self._tokens[self._at]
        what = repr(text) if text else "the end"
        return ViewInvalid(f"path {self._text!r}: {what} at {at + 1} is not expected", _SUBSET)

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _sign(self, *wanted: str) -> bool:
        kind, text, _ = self._tokens[self._at]
        if kind == "sign" and text in wanted:
            self._at += 1
            return True
        return False

    def _demand(self, sign: str) -> None:
        if not self._sign(sign):
            raise self.fault()

    def expression(self, least: int) -> Any:
        """An expression of operators that bind more strongly than `least`."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise ViewInvalid(f"path {self._text!r} nests too deeply", "write it in fewer brackets")
        left = self._unary()
        while True:
            kind, text, _ = self._tokens[self._at]
            strength = STRENGTH.get(text, 0) if kind in ("sign", "name") else 0
            if strength <= least:
                self._depth -= 1
                return left
            self._at += 1
            left = Binary(text, left, self.expression(strength))

    def _unary(self) -> Any:
        kind, text, _ = self._tokens[self._at]
        if kind == "sign" and text in "+-":
            self._at += 1
            return Sign(text, self.expression(UNARY))
        return self._steps(self._term())

    def _steps(self, tree: Any) -> Any:
        while True:
            if self._sign("."):
                tree = self._step(tree)
            elif self._sign("["):
                tree = At(tree, self.expression(0))
                self._demand("]")
            else:
                return tree

    def _step(self, of: Any) -> Any:
        kind, text, _ = self._tokens[self._at]
        if kind == "quoted":
            self._at += 1
            return Member(of, _plain(text))
        if kind != "name":
            raise self.fault()
        self._at += 1
        if not self._sign("("):
            return Member(of, text)
        given: list[Any] = []
        if not self._sign(")"):
            given.append(self.expression(0))
            while self._sign(","):
                given.append(self.expression(0))
            self._demand(")")
        return Call(of, text, tuple(given))

    def _term(self) -> Any:
        kind, text, _ = self._tokens[self._at]
        if kind == "name" and text in ("true", "false"):
            self._at += 1
            return Literal(text == "true")
        if kind in ("name", "quoted"):
            return self._step(Context())
        self._at += 1
        match kind:
            case "this":
                return Context()
            case "string":
                return Literal(_plain(text))
            case "number":
                return Literal(Decimal(text) if "." in text else int(text))
            case "moment":
                return Literal(self._moment(text))
            case "constant":
                return Constant(text[1:] if text[1] not in "'`" else _plain(text[1:]))
        if text == "(":
            inner = self.expression(0)
            self._demand(")")
            return inner
        if text == "{":
            self._demand("}")
            return Literal(None)
        self._at -= 1
        raise self.fault()

    def _moment(self, text: str) -> Moment:
        kind = "time" if text.startswith("@T") else "dateTime" if "T" in text else "date"
        found = moment(text[2:] if kind == "time" else text[1:], kind)
        if found is None:
            raise ViewInvalid(f"path {self._text!r}: {text!r} is no date or time", "write it as @2018-03-01T10:30:00Z")
        return found
