"""What is not told of a run's rounds: figures from which, beside those of the last one, a hospital's own follow."""

from typing import Any

Json = dict[str, Any]
OTHERS = "withheld: over other hospitals than the last round; the difference of both would be a single hospital's"
TOLD = ("all", "sites")
"""Figures of patients, beside what a round says of its sum."""


def over_others(participation: list[Json]) -> list[Json]:
    """The rounds, without the figures of those that were over other hospitals than the last round with figures.

    Each round counts the held-out patients of the hospitals in it, and how many have the outcome: where one is missing
    in one round, its own follow by subtraction. Under `plain` each hospital's figures are told.
    """
    done = [entry for entry in participation if (entry.get("figures") or {}).get("all")]
    if not done:
        return participation
    last = set(done[-1]["took_part"])
    return [
        {**entry, "figures": {**entry["figures"], **{name: {} for name in TOLD}, "withheld": OTHERS}}
        if (entry.get("figures") or {}).get("all") and set(entry["took_part"]) != last
        else entry
        for entry in participation
    ]
