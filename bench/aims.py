"""What rounds are to reach, and whether they do: for whoever measures, and for the page."""

import os
from dataclasses import dataclass

SMALL_MB, LARGE_MB = 0.1, 100.0
OVERHEAD_MS, TIMES = 50.0, 2.0
MASKING, SECURE_MS, SECURE_TIMES = 3.0, 150.0, 2.0
"""GB/s of one core that lays masks; a secure round of a small model; one of a large model, to our plain one."""
DENSE_TIMES, PLACES_TIMES = 5.0, 1.3
"""How many times as fast as Opacus's fastest mode private steps are to be: of dense layers, and of convolutions."""
VIEWS_PER_S, VIEWS_TIMES = 50_000.0, 20.0
"""Resources per second that a view of 17 columns turns into Arrow on one core; and how many times those of the peer."""
FASTER, FASTER_AT = 50.0, 1000
"""How many times as fast as the faster peer simulated rounds are to be, at so many sites."""


@dataclass(frozen=True)
class Aim:
    """A figure that was measured, the most or the least that it may be, and its unit; what it is of."""

    of: str
    found: float
    bound: float
    unit: str
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.found >= self.bound if self.least else self.found <= self.bound

    @property
    def wanted(self) -> str:
        """What it is to be."""
        return f"at {'least' if self.least else 'most'} {_number(self.bound)} {self.unit}"

    @property
    def cell(self) -> str:
        """For a table: the aim, and whether it holds."""
        return f"{self.wanted}: {'holds' if self.holds else '**missed**'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def of_round(one: dict) -> Aim | None:
    """Of one size of `round.py`; None for a size in between.

    The time of a small model is what a round costs beyond the bytes; that of a large one goes with the bytes.
    """
    name = f"{one['model_mb']:g} MB"
    own = one["round_s"]["median"]
    if one["model_mb"] <= SMALL_MB:
        return Aim(f"{name}, beyond the floor", 1000 * (own - one["floor_s"]["median"]), OVERHEAD_MS, "ms")
    if one["model_mb"] >= LARGE_MB:
        return Aim(f"{name}, to the durable floor", own / one["durable_floor_s"]["median"], TIMES, "times")
    return None


def of_masking(found: dict) -> list[Aim]:
    """Of `secure.py`: one mask that is laid on integers of each width, while nobody shared the core."""
    return [Aim(f"a mask on {b} bits", found[f"mask_{b}"]["most"], MASKING, "GB/s", least=True) for b in (16, 32, 64)]


def of_secure(one: dict) -> Aim | None:
    """Of one size of `secure.py` with four sites; None for a size in between."""
    name, own = f"{one['model_mb']:g} MB, secure", one["secure_s"]["median"]
    if one["model_mb"] <= SMALL_MB:
        return Aim(name, 1000 * own, SECURE_MS, "ms")
    if one["model_mb"] == LARGE_MB:
        return Aim(f"{name}, to plain", own / one["plain_s"]["median"], SECURE_TIMES, "times")
    return None


def of_dp(one: dict) -> Aim | None:
    """Of one model of `dp.py`; None where dense layers' products alone take more time than that would leave."""
    products, peer = one["products"], one["per_s"][one["fastest"]]
    if products is not None and products < DENSE_TIMES * peer:
        return None
    bound = PLACES_TIMES if products is None else DENSE_TIMES
    return Aim(f"{one['model']}, to Opacus", one["times"]["median"], bound, "times", least=True)


def of_scale(one: dict) -> Aim:
    """Of one number of sites of `scale.py`: the coordinator's memory is that of about one model."""
    name = f"{one['sites']} sites, {one['model_mb']:g} MB, coordinator's memory"
    return Aim(name, one["coordinator_mb"], 1.2 * one["model_mb"] + 200, "MB")


def of_views(found: dict) -> list[Aim]:
    """Of `fhir.py`: by itself, and beside the peer."""
    own, times = found["per_s"], found["per_s"] / found["peer_per_s"]
    return [
        Aim("a view of 17 columns", own, VIEWS_PER_S, "resources per second", least=True),
        Aim("a view of 17 columns, to sqlonfhir", times, VIEWS_TIMES, "times", least=True),
    ]


def verdict(some: list[Aim]) -> int:
    """Say of each whether it holds; the exit code: 1, if one does not."""
    for aim in some:
        word = "holds" if aim.holds else "DOES NOT HOLD"
        print(f"{aim.of}: {_number(aim.found)} {aim.unit}, {aim.wanted} wanted; it {word}", flush=True)
    return int(not all(aim.holds for aim in some))


def load() -> float:
    """The machine's load in the last minute: ask before there is work of one's own, then it is that of others."""
    return os.getloadavg()[0]
