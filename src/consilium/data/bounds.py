"""Values that are no numbers, and only bound one: `<5`, as laboratories write what they cannot measure."""

import math
import re

from consilium.data.mapping import number

SIGNS = {"<": "<", "≤": "<", ">": ">", "≥": ">"}
OPERATORS = {4171756: "<", 4171754: "<=", 4172704: ">", 4171755: ">="}
"""Concepts of OMOP that say on which side of a value the number lies."""
EXACT = (0, 4172703)
"""Concepts of OMOP by which a value is the number: none, and `=`."""
NO_NUMBER = "no number"
"""What stands for a value of another kind, lest its record look as if it had none."""
NO_TIME = "no time of day"
"""What stands for a first or a last value of which nobody knows which it is: its day has others, and not all a time."""
NO_MOMENT = "no date"
"""What stands where some record has no date, and may be one that counts."""
UNREAD = {NO_TIME: "day", NO_MOMENT: "moment"}
"""Why such a record cannot be read, as findings have it."""
STRANGE = "?"
"""Before a value whose operator is none of these: it is no number either."""
BOUND = re.compile(rf"\s*([{''.join(SIGNS)}])\s*=?\s*(\S.*)", re.DOTALL)


def bound(text: str) -> tuple[str, float] | None:
    """The side on which the number lies, `<` or `>`, and of what; None: the text is no bound.

    >>> [bound(text) for text in ("<5", " ≥ 7.5 ", ">=1e3", "5", "<", "<7,5", "< nan")]
    [('<', 5.0), ('>', 7.5), ('>', 1000.0), None, None, None, None]
    """
    match = BOUND.fullmatch(text)
    if match is None:
        return None
    try:
        limit = number(match[2])
    except ValueError:
        return None
    return (SIGNS[match[1]], limit) if math.isfinite(limit) else None


def decides(take: str, side: str, limit: float, best: float | None) -> bool:
    """Whether the number that is bounded may be beyond the largest (`max`) or smallest (`min`) of those that are known.

    >>> [decides("max", *one) for one in (("<", 5.0, 20.0), ("<", 5.0, 4.0), (">", 5.0, 20.0), ("<", 5.0, None))]
    [False, True, True, True]
    """
    if best is None or (take == "max") == (side == ">"):
        return True
    return limit > best if take == "max" else limit < best
