"""A query without brackets around the SELECTs of which a UNION is made: DuckDB writes them, and SQLite has none."""

BETWEEN = frozenset(("union", "intersect", "except"))


def unbracketed(query: str) -> str:
    """The same query; a UNION that stands within the second part of another one keeps its brackets.

    >>> unbracketed("((SELECT 'a)') UNION ALL (SELECT (1))) EXCEPT (SELECT 2)")
    "SELECT 'a)' UNION ALL SELECT (1) EXCEPT SELECT 2"
    >>> unbracketed("SELECT * FROM t WHERE a IN ((SELECT 1) UNION ((SELECT 2) EXCEPT (SELECT 3)))")
    'SELECT * FROM t WHERE a IN (SELECT 1 UNION (SELECT 2 EXCEPT SELECT 3))'
    """
    from consilium.data.casting import TOKEN  # it stands on DuckDB, which an agent does not load

    found = list(TOKEN.finditer(query))
    words = {at: one[0].casefold() for at, one in enumerate(found) if one.lastgroup != "space"}
    places = list(words)
    opened, left = list[int](), set[int]()
    for place, at in enumerate(places):
        if words[at] == "(":
            opened.append(place)
        elif words[at] == ")" and opened:
            begins = opened.pop()
            first = words[places[begins + 1]]
            before = words[places[begins - 1]] if begins else ""
            after = words[places[place + 1]] if place + 1 < len(places) else ""
            if (after in BETWEEN and first in ("select", "(")) or (
                first == "select" and (before in BETWEEN or before == "all")
            ):
                left |= {places[begins], at}
    return "".join(one[0] for at, one in enumerate(found) if at not in left)
