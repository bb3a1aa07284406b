"""What nobody finds out of a query on a database that is not asked again, such as MySQL: it is told, and never passed.

PostgreSQL, SQLite and DuckDB are asked again, with another order of texts (keying, collating, ordering). Elsewhere the
query is read: one that compares and computes nothing has no such mistake, of any other it is told that nobody knows.
What a view of the database does is not looked at.
"""

from collections.abc import Iterator

from consilium.data.casting import TOKEN, Token

LENIENT = ("mysql", "mariadb")
"""Databases that make a number of any text, and end no query for it."""
COMPARES = frozenset(("<", ">", "<=", ">="))
COMPUTES = frozenset("+-*/%")
HARMLESS = frozenset((
    "all", "any_value", "as", "cast", "char_length", "coalesce", "concat", "concat_ws", "convert", "count", "curdate",
    "current_date", "date", "date_add", "date_format", "date_sub", "datediff", "day", "distinct", "extract", "from",
    "exists", "ifnull", "in", "isnull", "join", "left", "length", "lower", "ltrim", "month", "not", "now", "nullif",
    "nvl", "on", "and", "or", "replace", "right", "rtrim", "select", "str_to_date", "substr", "substring", "sum", "avg",
    "timestampdiff", "to_date", "to_number", "trim", "union", "upper", "using", "when", "then", "else", "where", "year",
    "abs", "round", "decimal", "numeric", "char", "varchar", "signed", "unsigned", "float",
))  # fmt: skip
"""What may stand before a bracket, and puts nothing in the order of texts."""
NUMBERS = frozenset(("cast", "convert", "sum", "avg", "abs", "round", "div", "mod", "truncate", "floor", "ceiling"))
"""What makes a number of a text."""
ORDERS = frozenset(("between", "over", "top", "rownum"))
LIMITS = frozenset(("limit", "fetch", "offset", "top", "rownum"))


def doubts(query: str, database: str) -> tuple[str, ...]:
    """What is not known of a query.

    Args:    database: what its URL begins with, such as mysql.

    >>> doubts("SELECT nr, sex FROM persons JOIN stays USING (nr) ORDER BY nr", "mysql")
    ()
    >>> len(doubts("SELECT nr, max(v) AS v FROM lab GROUP BY nr", "mssql"))
    1
    """
    told = [(str(one.lastgroup), one[0].casefold()) for one in TOKEN.finditer(query) if one.lastgroup != "space"]
    found = []
    if any(_ordered(told)):
        found.append(
            "whether source.query compares numbers or days as text, by which 9 is more than 10, is not found out on "
            f"{database}"
        )
    if database in LENIENT and any(_counted(told)):
        found.append(
            f"whether source.query takes texts for numbers that are none, of which {database} makes 7 of 7,5 and 0 of "
            "a word, is not found out"
        )
    return tuple(found)


def _ordered(told: list[Token]) -> Iterator[bool]:
    """Whether a part may hang on the order of texts, as that in which all rows of a query are given does not."""
    depth, limited = 0, any(text in LIMITS for _, text in told)
    for at, (kind, text) in enumerate(told):
        depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
        called = kind == "word" and at + 1 < len(told) and told[at + 1][1] == "("
        yield text in COMPARES or (kind == "word" and text in ORDERS)
        yield kind == "word" and text == "order" and (depth > 0 or limited)
        yield called and text not in HARMLESS
        yield text == "#" or (kind == "text" and "\\" in text)  # of MySQL: remarks, and texts that end elsewhere


def _counted(told: list[Token]) -> Iterator[bool]:
    """Whether a part makes a number of a text, or compares one with a number."""
    for at, (kind, text) in enumerate(told):
        before, after = told[at - 1] if at else ("", ""), told[at + 1] if at + 1 < len(told) else ("", "")
        yield kind == "word" and text in NUMBERS
        every = text == "*" and (before[1] in ("select", "distinct", "all", ".", ",", "(") or before[0] == "")
        yield kind == "sign" and text in COMPUTES and not every
        equal = kind == "sign" and (text in COMPARES or text in ("=", "<>", "!="))
        yield equal and "number" in (before[0], after[0])
