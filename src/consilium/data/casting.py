"""Whether the answer of a database of SQLite hangs on texts that its query takes for numbers though they are none.

SQLite makes 7 of the text 7,5, and 0 of a word or of nothing, wherever a number is wanted: in CAST, sum, avg, printf
and such, and beside + and *. The query is asked with a function around all of these that notes such texts, and, where
there are some, with one that gives NULL for them. What a view of the database casts is not looked at.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from consilium.data.base import Rows
from consilium.data.mapping import normal
from consilium.data.ordering import Slip
from consilium.data.tree import Undecided

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>->>|->|\|\||<<|>>|<=|>=|==|<>|!=|.)""",
    re.VERBOSE | re.DOTALL,
)
NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*", re.ASCII)
WORDS = frozenset((
    "all", "and", "as", "asc", "between", "by", "case", "collate", "desc", "distinct", "else", "end", "escape",
    "except", "exists", "filter", "from", "glob", "group", "having", "in", "intersect", "is", "isnull", "like", "limit",
    "match", "not", "notnull", "null", "offset", "on", "or", "order", "over", "regexp", "select", "then", "union",
    "using", "values", "when", "where", "with",
))  # fmt: skip
"""Words that name no column."""
TAKES = frozenset(("sum", "avg", "total", "abs", "round"))
"""Functions whose first value is a number."""
SIGNS = frozenset(("+", "-", "*", "/", "%", "&", "|", "~", "<<", ">>"))
TIGHTER = frozenset(("||", "->", "->>"))
"""What binds more than any of these: a text with all that it is made of stands beside such a sign."""
PRINTS = frozenset(("printf", "format"))
PLACE = re.compile(r"%[-+ 0#!,]*(?:[0-9]+|(?P<given>[*]))?(?:\.(?:[0-9]+|(?P<also>[*])))?(?P<as>[a-zA-Z%])")
"""A place for a value in what is printed."""
NOTED = "consilium_noted"
LENIENT = Slip(
    "takes texts for numbers that are none, of which SQLite makes 7 of 7,5, and 0 of a word or of nothing",
    "let a CASE give NULL for them, as CASE WHEN v GLOB '*[0-9]*' AND v NOT GLOB '*[^0-9.]*' THEN CAST(v AS REAL) END;"
    " of 7,5 take replace(v, ',', '.'), and of a day its part, as substr(day, 1, 4); or give the text as it stands: "
    "the check counts what is no number",
    "whether source.query takes texts for numbers that are none, of which SQLite makes 0, could not be found out",
)
Token = tuple[str, str]


class Noted:
    """What is taken for a number. strange: whether there were texts that are none.   strict: they are nothing then."""

    def __init__(self) -> None:
        self.strange = self.strict = False

    def __call__(self, value: Any) -> Any:
        """The value itself, or nothing."""
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if not isinstance(text, str) or NUMBER.fullmatch(text):
            return value
        self.strange = True
        return None if self.strict else value


def others(connection: Any, query: str, ask: Callable[[str], Rows]) -> list[str]:
    """Columns of the answer that would be others if such texts were nothing; `the rows`: there would be another number.

    Args:    connection: of SQLAlchemy, of nobody else's, and closed afterwards.   ask: answers a query by it.
    Raises:  Undecided; and what the database raises.
    """
    written = anew(query)
    if written == query:
        return []
    noted = Noted()
    connection.connection.driver_connection.create_function(NOTED, 1, noted)
    lenient = ask(written)
    if not noted.strange:
        return []
    noted.strict = True
    strict = ask(written)
    if len(strict) != len(lenient):
        return ["the rows"]
    return [
        name for name, values in lenient.columns.items() if _sorted(values) != _sorted(strict.columns.get(name, []))
    ]


def _sorted(values: list[str | None]) -> list[str]:
    return sorted("" if value is None else normal(value) for value in values)


def anew(query: str) -> str:
    """The query with a function around each value that is taken for a number. Raises: Undecided.

    >>> anew("SELECT nr, CAST(v AS REAL) FROM lab AS l")
    'SELECT nr, CAST(consilium_noted(v) AS REAL) FROM lab AS l'
    >>> anew("SELECT count(*), avg(l.v), l.v * 2 FROM lab")
    'SELECT count(*), avg(consilium_noted(l.v)), consilium_noted(l.v) * 2 FROM lab'
    """
    tokens = [(str(one.lastgroup), one[0]) for one in TOKEN.finditer(query)]
    solid = [at for at, (kind, _) in enumerate(tokens) if kind != "space"]
    told = [tokens[at] for at in solid]
    before, after = dict[int, int](), dict[int, int]()
    for first, last in {*_cast(told), *_taken(told), *_printed(told), *_beside(told)}:
        before[solid[first]] = before.get(solid[first], 0) + 1
        after[solid[last]] = after.get(solid[last], 0) + 1
    return "".join(
        f"{f'{NOTED}(' * before.get(at, 0)}{text}{')' * after.get(at, 0)}" for at, (_, text) in enumerate(tokens)
    )


def _closing(told: list[Token], opens: int) -> int:
    depth = 0
    for at in range(opens, len(told)):
        depth += {"(": 1, ")": -1}.get(told[at][1], 0)
        if not depth:
            return at
    raise Undecided


def _outer(told: list[Token], opens: int, closes: int) -> Iterator[int]:
    """What stands between brackets, and in no others of these."""
    depth = 0
    for at in range(opens + 1, closes):
        depth -= told[at][1] == ")"
        if not depth:
            yield at
        depth += told[at][1] == "("


def _calls(told: list[Token], names: frozenset[str]) -> Iterator[int]:
    """Where the bracket of such a function opens."""
    for at, (one, other) in enumerate(pairwise(told)):
        if one[0] == "word" and one[1].casefold() in names and other[1] == "(":
            yield at + 1


def _cast(told: list[Token]) -> Iterator[tuple[int, int]]:
    for opens in _calls(told, frozenset(("cast",))):
        closes = _closing(told, opens)
        places = [at for at in _outer(told, opens, closes) if told[at][1].casefold() == "as"]
        if not places:
            raise Undecided
        kind = " ".join(text for _, text in told[places[-1] + 1 : closes]).upper()
        textual = "INT" not in kind and any(one in kind for one in ("CHAR", "CLOB", "TEXT", "BLOB"))
        if not textual:
            yield opens + 1, places[-1] - 1


def _taken(told: list[Token]) -> Iterator[tuple[int, int]]:
    """The first values of functions that take numbers."""
    for opens in _calls(told, TAKES):
        closes = _closing(told, opens)
        ends = next((at for at in _outer(told, opens, closes) if told[at][1] == ","), closes)
        begins = opens + 1 + (told[opens + 1][1].casefold() in ("distinct", "all"))
        if begins < ends:
            yield begins, ends - 1


def _printed(told: list[Token]) -> Iterator[tuple[int, int]]:
    """Values that are printed as numbers."""
    for opens in _calls(told, PRINTS):
        closes = _closing(told, opens)
        commas = [at for at in _outer(told, opens, closes) if told[at][1] == ","]
        if not commas:
            continue
        places = list(PLACE.finditer(told[opens + 1][1]))
        if commas[0] != opens + 2 or told[opens + 1][0] != "text" or any(one["given"] or one["also"] for one in places):
            raise Undecided
        ways = [one["as"] for one in places if one["as"] != "%"]
        for way, begins, ends in zip(ways, commas, [*commas[1:], closes]):
            if way in "diuxXofeEgG":
                yield begins + 1, ends - 1


def _beside(told: list[Token]) -> Iterator[tuple[int, int]]:
    """What stands beside a sign of arithmetic; a `+` before a value alone makes no number of it."""
    for at, (kind, text) in enumerate(told):
        two = at > 0 and _ends(told[at - 1])
        if kind != "sign" or text not in SIGNS or not (two or text in "-~"):
            continue
        spans = [_until(told, at - 1)] if two else []
        for first, last in filter(None, (*spans, _since(told, at + 1, two))):
            if first < last or told[first][0] != "number":
                yield first, last


def _until(told: list[Token], last: int) -> tuple[int, int] | None:
    """The value that ends here; None: it is a number."""
    first = _begin(told, last)
    while first is not None and first > 1 and told[first - 1][1] in TIGHTER:
        first = _begin(told, first - 2)
        while first is not None and first > 1 and told[first - 1][1] in "+-~" and not _ends(told[first - 2]):
            first -= 1
    return None if first is None else (first, last)


def _begin(told: list[Token], last: int) -> int | None:
    """Where a value without signs begins that ends here."""
    first, text = last, told[last][1].casefold()
    if text == ")":
        first = _opening(told, last)
    elif text == "end":
        first = _case(told, last, -1)
    before = told[first - 1][1].casefold() if first else ""
    if before in ("filter", "over", "collate"):
        return _begin(told, first - 2)
    if before == "exists":
        return None
    if text == ")" and first and _names(told[first - 1]):
        first -= 1
    while first > 1 and _names(told[first]) and told[first - 1][1] == "." and _names(told[first - 2]):
        first -= 2
    return first


def _since(told: list[Token], first: int, two: bool) -> tuple[int, int] | None:
    """The value that begins here; None: it is a number, or has a sign of its own. two: with what binds more."""
    while first < len(told) and told[first][1] == "+":
        first += 1
    last = _end(told, first)
    while two and last is not None and last + 1 < len(told) and told[last + 1][1] in TIGHTER:
        after = last + 2
        while after < len(told) and told[after][1] in ("+", "-", "~"):
            after += 1
        last = _end(told, after)
    return None if last is None else (first, last)


def _end(told: list[Token], first: int) -> int | None:
    """Where a value without signs ends that begins here."""
    if first >= len(told):
        raise Undecided
    last, text = first, told[first][1].casefold()
    if text == "case":
        return _case(told, first, 1)
    if text == "(":
        return _closing(told, first)
    if not _names(told[first]):
        return first if told[first][0] in ("number", "text") else None
    while last + 2 < len(told) and told[last + 1][1] == "." and _names(told[last + 2]):
        last += 2
    last = _closing(told, last + 1) if last + 1 < len(told) and told[last + 1][1] == "(" else last
    while last + 2 < len(told) and told[last + 1][1].casefold() in ("filter", "over"):
        last = _closing(told, last + 2) if told[last + 2][1] == "(" else last + 2
    return last


def _case(told: list[Token], at: int, way: int) -> int:
    """The other end of a CASE."""
    depth = 0
    while 0 <= at < len(told):
        depth += {"case": 1, "end": -1}.get(told[at][1].casefold() if told[at][0] == "word" else "", 0)
        if not depth:
            return at
        at += way
    raise Undecided


def _opening(told: list[Token], closes: int) -> int:
    depth = 0
    for at in range(closes, -1, -1):
        depth += {")": 1, "(": -1}.get(told[at][1], 0)
        if not depth:
            return at
    raise Undecided


def _names(token: Token) -> bool:
    kind, text = token
    return kind == "name" or (kind == "word" and text.casefold() not in WORDS)


def _ends(token: Token) -> bool:
    """Whether an expression may end so."""
    return _names(token) or token[0] in ("number", "text") or token[1] == ")" or token[1].casefold() == "end"
