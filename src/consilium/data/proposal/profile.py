"""What a column looks like: numbers, codes and signs for nothing known. It stays in memory."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from consilium.data.base import Floats
from consilium.data.mapping import normal
from consilium.data.proposal.words import KEYS, folded
from consilium.data.traps import apart, comma, placeholder

LOOKED = 100_000
"""Rows of a table that are looked at."""
SAMPLE = 1000
"""Numbers by which units are compared."""
MANY = 60
"""A column of more different values has no codes."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?")


@dataclass(frozen=True)
class Profile:
    """One column.

    filled: rows with a value.   numbers: those that are numbers.   codes: how many have which; empty of too many.
    distinct: how many different values.   nothing: what stands where nothing is known.   moments: share of ISO dates.
    commas: share of numbers with a comma, such as 7,5.
    """

    name: str
    rows: int
    filled: int
    numbers: Floats
    codes: Counter[str]
    distinct: int
    nothing: frozenset[str]
    moments: float
    commas: float = 0.0

    @property
    def numeric(self) -> float:
        """Share of the values that are numbers."""
        return len(self.numbers) / self.filled if self.filled else 0.0

    @cached_property
    def aside(self) -> frozenset[float]:
        """Numbers that stand apart from all others, as codes for nothing measured do."""
        return frozenset(apart(self.numbers))

    @cached_property
    def sample(self) -> Floats:
        """Numbers from the smallest to the largest, evenly drawn where they are many."""
        return self.numbers[:: max(1, len(self.numbers) // SAMPLE)]

    @property
    def unique(self) -> bool:
        """Whether each row has another value."""
        return 0 < self.rows == self.filled == self.distinct

    @cached_property
    def keyed(self) -> int:
        """How much its name is one of a patient's key."""
        return keyed(self.name)


def keyed(name: str) -> int:
    """How much a name is one of a patient's key: 0 is not at all.

    >>> keyed("patient_id") > keyed("PatNr") > keyed("glucose")
    True
    """
    words = [folded(word) for word in re.findall(r"[A-ZÄÖÜ]?[^\W\d_A-ZÄÖÜ]+|[A-ZÄÖÜ]+", name)]
    whole = "".join(words)
    ends = whole.endswith(("id", "nr", "nummer", "mrn", "key"))
    return sum(word in KEYS for word in words) + ends + (ends and "pat" in whole)


def profile(name: str, texts: list[str | None]) -> Profile:
    """Look at one column."""
    texts = texts[:LOOKED]
    counted = Counter(normal(text) for text in texts if text is not None and text.strip())
    nothing = frozenset(code for code in counted if placeholder(code))
    known = Counter({code: count for code, count in counted.items() if code not in nothing})
    numbers = [(value, count) for code, count in known.items() if (value := _number(code)) is not None]
    values = np.repeat([value for value, _ in numbers], [count for _, count in numbers]) if numbers else np.zeros(0)
    filled = known.total()
    dates = sum(count for code, count in known.items() if MOMENT.fullmatch(code))
    commas = sum(count for code, count in known.items() if comma(code))
    return Profile(
        name, len(texts), filled, np.sort(values.astype(float)), known if len(known) <= MANY else Counter(), len(known),
        nothing, dates / filled if filled else 0.0, commas / filled if filled else 0.0,
    )  # fmt: skip


def _number(code: str) -> float | None:
    try:
        value = float(code)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
