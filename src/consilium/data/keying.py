"""Whether the answer of PostgreSQL hangs on numbers, or days as 31.03.2024, that its query compares as text.

Where it compares by order (max, min, ORDER BY, <, BETWEEN), the query is written anew with keys: once those by which
numbers and days are in order, and once the same for all texts. Whether these answers differ tells it. Nothing is made
in the database, and the types of what is compared are asked as the query runs.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from consilium.data.asking import answer_of, plain, quoted
from consilium.data.base import Rows
from consilium.data.ordering import CENTURY, DAY, MONTH_FIRST, NUMBER, differing
from consilium.data.tree import Undecided

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>[eEbBxX]?'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<name>"(?:[^"]|"")*")
      | (?P<number>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign>::|[-+*/<>=~!@\#%^&|`?]+|.)""",
    re.VERBOSE | re.DOTALL,
)
COMPARES = ("<", ">", "<=", ">=")
BEFORE = frozenset(("", "(", ",", "where", "and", "or", "not", "on", "when", "having", "select", "then", "else", "by"))
AFTER = frozenset((
    "", ")", ",", "and", "or", "then", "end", "else", "when", "group", "order", "having", "limit", "union", "join",
    "left", "right", "inner", "full", "cross", "as", "window", "fetch", "offset", "from", "where", "except",
    "intersect",
))  # fmt: skip
"""What may stand before, and behind, a comparison as a whole."""
ENDS = frozenset(("limit", "offset", "fetch", "for", "rows", "groups", "union", "except", "intersect"))
"""With what a list of ORDER BY ends."""
OTHERS = frozenset(("greatest", "least", "percentile_disc", "mode", "any", "all", "some", "range"))
"""What is not written anew, and may compare."""
ARITHMETIC = frozenset("+-*/%")
TEXTS = "('text', 'character varying', 'character', 'unknown')"
Token = tuple[str, str]


def others(connection: Any, query: str, names: list[str], ask: Callable[[str], Rows]) -> list[str]:
    """Columns of the answer that would be others if numbers and days were compared as such; `the rows`: there would
    be another number of them.

    Args:    connection: of SQLAlchemy, of nobody else's, and closed afterwards.   names: of the columns of the answer.
             ask: answers a query by it.
    Raises:  Undecided; and what the database raises.
    """
    tokens = [(one.lastgroup if one.lastgroup != "tag" else "text", one[0]) for one in TOKEN.finditer(query)]
    solid = [(str(kind), text) for kind, text in tokens if kind != "space"]
    if (alike := anew(solid, _equal)) == _joined(solid):
        return []
    for setting in ("max_parallel_workers_per_gather = 0", "synchronize_seqscans = off"):
        connection.exec_driver_sql(f"SET LOCAL {setting}")  # the same query takes the same of several values
    as_text = ask(alike)
    if list(as_text.columns) != names:
        raise Undecided
    month_first = _month_first(connection, solid)
    found = differing(answer_of(as_text), answer_of(ask(anew(solid, lambda text: rank(text, month_first)))))
    if found and differing(answer_of(as_text), answer_of(ask(alike))):
        raise Undecided  # it leaves open which of several it takes
    return found


def _equal(text: str) -> str:
    return "CAST('Infinity' AS float8)"


def rank(text: str, month_first: bool) -> str:
    """SQL: by which numbers and days are in order, as `ordering.rank` has it."""
    first, second, year = (f"CAST((regexp_match({text}, {quoted(f'^(?:{DAY})$')}))[{at}] AS int)" for at in (1, 2, 3))
    day, month = (second, first) if month_first else (first, second)
    century = f"CASE WHEN {year} >= 100 THEN 0 WHEN {year} < {CENTURY} THEN 2000 ELSE 1900 END"
    return (
        f"CASE WHEN {text} ~ {quoted(f'^(?:{NUMBER})$')} "
        f"THEN CAST(replace((regexp_match({text}, {quoted(f'^(?:{NUMBER})$')}))[1], ',', '.') AS float8) "
        f"WHEN {text} ~ {quoted(f'^(?:{DAY})$')} "
        f"THEN CAST(({year} + {century}) * 10000 + {month} * 100 + {day} AS float8) "
        f"WHEN {text} < '0' COLLATE \"C\" THEN CAST('-Infinity' AS float8) ELSE CAST('Infinity' AS float8) END"
    )


def _month_first(connection: Any, tokens: list[Token]) -> bool:
    """Whether days of the query's tables have the month first, as some show whose second number is no month."""
    for at, (kind, text) in enumerate(tokens[:-1]):
        if kind != "word" or text.casefold() not in ("from", "join") or not _names(tokens[at + 1]):
            continue
        last = at + 1
        while last + 2 < len(tokens) and tokens[last + 1][1] == "." and _names(tokens[last + 2]):
            last += 2
        table = "".join(text for _, text in tokens[at + 1 : last + 1])
        asked = (
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND atttypid IN "  # noqa: S608
            f"(25, 1042, 1043) AND attrelid = to_regclass({quoted(table)})"
        )
        columns = [row[0] for row in connection.execute(plain(asked)).all()]
        shows = " OR ".join(f"bool_or({column} ~ {quoted(f'^(?:{MONTH_FIRST})$')})" for column in columns)
        told = f"SELECT {shows} FROM {table}"  # noqa: S608  as the query names it
        if columns and connection.execute(plain(told)).scalar_one():
            return True
    return False


Rank = Callable[[str], str]
"""SQL of the rank of an SQL expression that is a text."""


def anew(tokens: list[Token], ranked: Rank, outer: bool = True) -> str:
    """The query with keys, as SQL; what compares nothing as it is. Raises: Undecided."""
    made, at = [], 0
    distinct = _distinct(tokens)
    while at < len(tokens):
        word = tokens[at][1].casefold() if tokens[at][0] == "word" else ""
        called = at + 1 < len(tokens) and tokens[at + 1][1] == "("
        if word in OTHERS and (called or word == "range"):
            raise Undecided
        if word in ("max", "min") and called:
            text, at = _end(tokens, at, word == "max", ranked)
        elif word == "order" and at + 1 < len(tokens) and tokens[at + 1][1].casefold() == "by":
            text, at = _order(tokens, at + 2, ranked, distinct, outer)
        elif span := _compared(tokens, at):
            text, at = _comparison(tokens, at, span, ranked)
        elif tokens[at][1] == "(":
            closes = _closing(tokens, at)
            text, at = f"({anew(tokens[at + 1 : closes], ranked, outer=False)})", closes + 1
        else:
            if (word == "between" or tokens[at][1] in COMPARES) and not _numeric(tokens, at):
                raise Undecided
            text, at = tokens[at][1], at + 1
        made.append(text)
    return " ".join(made)


def _numeric(tokens: list[Token], at: int) -> bool:
    """Whether a comparison whose sign stands there is of numbers: of one that is written, or that is computed."""
    last = _primary(tokens, at + 1)
    beside = [tokens[one] for one in (at - 1, at + 1) if 0 <= one < len(tokens)]
    around = [tokens[one][1] for one in (at - 2, at + 1, last) if 0 <= one < len(tokens)]
    return any(kind == "number" for kind, _ in beside) or not ARITHMETIC.isdisjoint(around)


def _joined(tokens: list[Token]) -> str:
    """The same, of a query that is as it was."""
    made = []
    for at, (_, text) in enumerate(tokens):
        made.append(text if not at or (tokens[at - 1][1] != "(" and text != ")") else f"\0{text}")
    return " ".join(made).replace(" \0", "")


def _names(token: Token) -> bool:
    return token[0] in ("name", "word")


def _closing(tokens: list[Token], opens: int) -> int:
    depth = 0
    for at in range(opens, len(tokens)):
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(tokens[at][1], 0)
        if not depth:
            return at
    raise Undecided


def _parts(tokens: list[Token]) -> Iterator[list[Token]]:
    """What stands between commas."""
    part, depth = list[Token](), 0
    for token in tokens:
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(token[1], 0)
        if token[1] == "," and not depth:
            yield part
            part = []
        else:
            part.append(token)
    yield part


def _keys(given: str, ranked: Rank) -> tuple[str, str]:
    """Keys of an expression of any type: those of a text, and the same for all others."""
    textual = f"CAST(pg_typeof({given}) AS text) IN {TEXTS}"
    text = f"CAST({given} AS text)"
    first = f"CASE WHEN ({given}) IS NULL THEN NULL WHEN {textual} THEN {ranked(text)} ELSE 0 END"
    return first, f'CASE WHEN {textual} THEN {text} END COLLATE "C"'


def _end(tokens: list[Token], at: int, largest: bool, ranked: Rank) -> tuple[str, int]:
    """The largest or the smallest, as the first of all in order."""
    closes = _closing(tokens, at + 1)
    given = anew(tokens[at + 2 : closes], ranked, outer=False)
    after, where = closes + 1, ""
    if after < len(tokens) and tokens[after][1].casefold() == "filter":
        last = _closing(tokens, after + 1)
        where = f" AND ({anew(tokens[after + 3 : last], ranked, outer=False)})"
        after = last + 1
    if after < len(tokens) and tokens[after][1].casefold() == "over":
        raise Undecided
    ways = ", ".join(f"{key} {'DESC' if largest else 'ASC'}" for key in (*_keys(given, ranked), given))
    return f"(array_agg({given} ORDER BY {ways}) FILTER (WHERE ({given}) IS NOT NULL{where}))[1]", after


def _distinct(tokens: list[Token]) -> list[str]:
    """Expressions of DISTINCT ON, by which an order begins as it stands."""
    for at in range(len(tokens) - 2):
        if [text.casefold() for _, text in tokens[at : at + 2]] == ["distinct", "on"]:
            closes = _closing(tokens, at + 2)
            return [_joined(part) for part in _parts(tokens[at + 3 : closes])]
    return []


def _order(tokens: list[Token], at: int, ranked: Rank, distinct: list[str], outer: bool) -> tuple[str, int]:
    """A list of ORDER BY, each by its keys first; that of a whole query, of which all rows are taken, as it stands."""
    last, depth = at, 0
    while last < len(tokens) and (depth or tokens[last][1].casefold() not in ENDS):
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(tokens[last][1], 0)
        last += 1
    if outer and last == len(tokens) and not distinct:
        return f"ORDER BY {_joined(tokens[at:])}", last
    made = []
    for part in _parts(tokens[at:last]):
        ends = len(part)
        while ends and part[ends - 1][1].casefold() in ("asc", "desc", "nulls", "first", "last"):
            ends -= 1
        if not ends or any(text.casefold() == "using" for _, text in part) or part[0][0] == "number":
            raise Undecided
        way, given = " ".join(text for _, text in part[ends:]), anew(part[:ends], ranked, outer=False)
        keys = () if _joined(part[:ends]) in distinct else _keys(given, ranked)
        made += [f"{key} {way}".strip() for key in (*keys, given)]
    return f"ORDER BY {', '.join(made)}", last


def _primary(tokens: list[Token], at: int) -> int:
    """Where an expression without operators ends that begins here; not after its beginning: there is none."""
    begins = at
    if at >= len(tokens):
        return begins
    if tokens[at][1] == "(":
        at = _closing(tokens, at) + 1
    elif _names(tokens[at]) and tokens[at][1].casefold() != "case":
        at += 1
        while at + 1 < len(tokens) and tokens[at][1] == "." and _names(tokens[at + 1]):
            at += 2
        if at < len(tokens) and tokens[at][1] == "(":
            at = _closing(tokens, at) + 1
        elif at < len(tokens) and tokens[at][0] == "text":  # DATE '2024-01-31'
            at += 1
    elif tokens[at][0] in ("number", "text"):
        at += 1
    else:
        return begins
    while at + 1 < len(tokens) and tokens[at][1] == "::":
        at += 2
        while at < len(tokens) and tokens[at][1].casefold() in (
            "precision",
            "varying",
            "with",
            "without",
            "time",
            "zone",
        ):
            at += 1
        if at < len(tokens) and tokens[at][1] == "(":
            at = _closing(tokens, at) + 1
    return at


def _compared(tokens: list[Token], at: int) -> tuple[int, int, int] | None:
    """Where the sign, the second side and the end are of a comparison that begins here; BETWEEN has no second side."""
    before = tokens[at - 1][1].casefold() if at else ""
    if before not in BEFORE or tokens[at][1].casefold() in ("select", "with", "not", "exists"):
        return None
    sign = _primary(tokens, at)
    if sign == at or sign >= len(tokens):
        return None
    if tokens[sign][1].casefold() == "between":
        last = _primary(tokens, _primary(tokens, sign + 1) + 1)
    elif tokens[sign][1] in COMPARES:
        last = _primary(tokens, sign + 1)
    else:
        return None
    after = tokens[last][1].casefold() if last < len(tokens) else ""
    return (sign, sign + 1, last) if after in AFTER and not _numeric(tokens, sign) else None


def _comparison(tokens: list[Token], at: int, span: tuple[int, int, int], ranked: Rank) -> tuple[str, int]:
    sign, second, last = span
    one = anew(tokens[at:sign], ranked, outer=False)
    if tokens[sign][1] in COMPARES:
        return _sides(one, tokens[sign][1], anew(tokens[second:last], ranked, outer=False), ranked), last
    middle = _primary(tokens, second)
    low, high = anew(tokens[second:middle], ranked, outer=False), anew(tokens[middle + 1 : last], ranked, outer=False)
    return f"({_sides(one, '>=', low, ranked)} AND {_sides(one, '<=', high, ranked)})", last


def _sides(one: str, sign: str, other: str, ranked: Rank) -> str:
    both = " AND ".join(f"CAST(pg_typeof({side}) AS text) IN {TEXTS}" for side in (one, other))
    first, second = (f"ROW({', '.join(_keys(side, ranked))})" for side in (one, other))
    return f"(CASE WHEN {both} THEN {first} {sign} {second} ELSE {one} {sign} {other} END)"
