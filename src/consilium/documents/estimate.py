"""A figure as a report knows it: plain values, read from JSON with care."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; `n` patients stand behind it. `note` says why there is none, or what to know."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""

    @classmethod
    def of(cls, given: Json) -> "Estimate":
        """From JSON; what is no finite number is none."""
        low, value, high = (_number(given.get(key)) for key in ("low", "value", "high"))
        return cls(value, low, high, int(_number(given.get("n")) or 0), str(given.get("note") or ""))


Figures = Mapping[str, Estimate]
"""By metric."""


def figures_of(given: Any) -> Figures:
    """Figures from JSON; none from nothing."""
    return {str(name): Estimate.of(one) for name, one in (given or {}).items()}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)
