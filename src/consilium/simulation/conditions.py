"""What goes wrong in a simulated federation: sites that fall silent, and sites that are slow. From a seed alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from consilium.core.errors import Invalid
from consilium.core.round import Phase


@dataclass(frozen=True)
class Conditions:
    """How sites answer.

    Args:    drop: chance with which a site falls silent in a round, in one of its phases, each as likely as another;
             in the next round it is back.   slow: share of sites that are slow in all rounds, drawn once.
             slow_s: seconds that a slow site trains longer than the others, whose time is taken for none.
    """

    seed: int = 1
    drop: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.0

    @classmethod
    def of(cls, seed: int, drop: float, slow: str | None) -> "Conditions":
        """From `--drop P` and `--slow SHARE:SECONDS`. Raises: Invalid: one of them is not that."""
        if not 0 <= drop < 1:  # nan, too, with which nobody would fall silent
            raise Invalid(f"--drop: {drop:g} is no chance", "write a number from 0 to below 1, such as 0.1")
        if slow is None:
            return cls(seed, drop)
        share, colon, seconds = slow.partition(":")
        try:
            given = cls(seed, drop, float(share), float(seconds))
        except ValueError:
            given = cls(seed, drop, -1.0)
        if not colon or not 0 <= given.slow <= 1 or not 0 <= given.slow_s < float("inf"):
            raise Invalid(f"--slow: {slow!r} is no share and time", "write SHARE:SECONDS, such as 0.2:7200")
        return given

    def slow_ones(self, sites: Sequence[str]) -> frozenset[str]:
        """Who is slow among these, sorted."""
        rng = np.random.default_rng([self.seed, 1])
        return frozenset(site for site, drawn in zip(sites, rng.random(len(sites)), strict=True) if drawn < self.slow)

    def order(self, sites: Sequence[str], number: int) -> list[str]:
        """In which order these, sorted, have done in round `number`."""
        rng = np.random.default_rng([self.seed, 3, number])
        return [sites[at] for at in rng.permutation(len(sites))]

    def silent(self, sites: Collection[str], number: int, phases: Sequence[Phase]) -> dict[str, Phase]:
        """In which phase who falls silent in round `number`."""
        if not self.drop:
            return {}
        rng = np.random.default_rng([self.seed, 2, number])
        falls, where = rng.random(len(sites)) < self.drop, rng.integers(len(phases), size=len(sites))
        return {site: phases[where[index]] for index, site in enumerate(sorted(sites)) if falls[index]}
