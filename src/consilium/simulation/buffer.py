"""Updates of simulated sites that were not counted in the round in which they were begun, and when they arrive.

A slow site comes as many rounds late as `slow_s` has deadlines of a round in it, rounded up; whoever else was not among
the first comes at the beginning of the next round. A site that is at work begins nothing else.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path


@dataclass(frozen=True)
class Waiting:
    """An update on file, and the round in which it arrives."""

    made: Path
    arrives: int


@dataclass
class Buffer:
    """What waits, by site."""

    waits: dict[str, Waiting] = field(default_factory=dict)

    def first(self, asked: Collection[str], slow: Collection[str], order: Sequence[str], number: int) -> list[str]:
        """Who answers round `number` before its deadline, as they come: what waits before what is made anew.

        Args:    asked: who is, and is not silent.   slow: those who have not done in time.   order: of all sites, in
                 which those that are free come.
        """
        place = {site: at for at, site in enumerate(order)}
        due = [site for site in asked if site in self.waits and self.waits[site].arrives <= number]
        due.sort(key=lambda site: (self.waits[site].arrives, place[site]))
        return [*due, *(site for site in order if site in asked and site not in self.waits and site not in slow)]

    def beginning(self, asked: Collection[str], counted: Collection[str]) -> list[str]:
        """Who begins an update in a round in which it is not counted, sorted."""
        return sorted(site for site in asked if site not in self.waits and site not in counted)

    def late(self, site: str) -> Path | None:
        """The update of this site that waits."""
        return self.waits[site].made if site in self.waits else None

    def counted(self, sites: Collection[str]) -> None:
        """What these sites had made was counted."""
        for site in sites if self.waits else ():
            if (waited := self.waits.pop(site, None)) is not None:
                waited.made.unlink()


def rounds_late(slow_s: float, round_s: float) -> int:
    """How many rounds later than others a site comes that takes so many seconds longer.

    >>> [rounds_late(seconds, 3600) for seconds in (0, 1, 3600, 3601)]
    [0, 1, 1, 2]
    """
    return ceil(slow_s / round_s)
