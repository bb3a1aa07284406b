"""Asking a source once more, to find out what its answer hangs on: for not much longer than the answer took.

No reading fails by it: what is not found out soon, or is beyond what is understood of a query, is not known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from consilium.core.errors import DataUnusable
from consilium.data.clock import Clock
from consilium.data.tree import Undecided

Result = TypeVar("Result")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Anew:
    """A source that has answered in `took_s`.

    Args:    clock: of the reading.   cut: ends what the source is asked.   here: it is asked within this process.
    """

    clock: Clock
    took_s: float
    cut: Callable[[], None]
    here: bool = True

    def found(self, find: Callable[[], Result], otherwise: Other) -> Result | Other:
        """What `find` finds; `otherwise` where nobody knows. Raises: DataUnusable: the reading's own time is over."""
        import duckdb  # not with the module, which the agent has before it forks

        again = self.clock.again(self.took_s, self.here)
        try:
            return again.within(find, self.cut)
        except (Undecided, duckdb.Error, DataUnusable, KeyError, TypeError, ValueError, RecursionError):
            return otherwise
