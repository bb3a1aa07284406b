"""Whether the answer of DuckDB hangs on years that its query counts by the calendar, as where an age is computed.

`date_diff('year', ...)` counts how often the year changed: whoever was born on the last of December is one on the next
day. Asked once more with `date_sub`, which counts whole years, it gives another answer then.
"""

import re
from collections.abc import Callable

from consilium.data.asking import Answer
from consilium.data.ordering import Slip, differing

YEARS = re.compile(r"\bdate_?diff(?=\s*\(\s*'years?'\s*,)", re.IGNORECASE)
CALENDAR = Slip(
    "counts how often the calendar's year changed (date_diff), which makes one year of a day at New Year",
    "for an age write date_sub('year', ...), which counts whole years; where years of the calendar are meant, "
    "year(...) - year(...)",
    "whether source.query counts years by the calendar (date_diff), and not whole ones, could not be found out",
)


def others(query: str, answer: Answer, ask: Callable[[str], Answer]) -> list[str]:
    """Columns that would be others if whole years were counted. Raises: what DuckDB does."""
    return differing(answer, ask(YEARS.sub("date_sub", query)))
