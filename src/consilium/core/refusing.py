"""Refusals of a round: which of them stand until people at the hospital decide anew, and how those hear of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

OF_SET = frozenset({"difference", "rosters", "quorum"})
"""Reasons that are about over whom a sum would be: with other sites, those who refused it may take part."""
_LEFT = frozenset({"removed"})
_LATE = frozenset({"missed-rounds"})
_ALTERED = frozenset({"forged", "replayed", "state-mismatch", "tampered", "roster", "segments"})
"""Reasons that somebody in between may have brought about: to approve anew is no answer to them by itself."""
_DECIDED = frozenset({"not-approved", "declined", "revoked", "approval-expired"})


def goes_on(study: str, reasons: Iterable[str]) -> str:
    """How a run goes on after a hospital refused a round of it; empty where nobody at the hospital can change that.

    A refusal stands for the round until people there decide anew, whether its cause (a full disk, a policy) is gone or
    not: nobody else may say that it is.

    >>> goes_on("heart", ["disk"])
    'once the cause is gone, `consilium site approve heart` at that hospital lets the run go on'
    >>> goes_on("heart", ["difference"])
    ''
    >>> goes_on("heart", ["missed-rounds"]).split(",")[0]
    'who came too late into this run'
    >>> goes_on("heart", ["forged"]).split(":")[0]
    'messages may have been altered'
    """
    why = set(reasons) - OF_SET - _LEFT
    if not why:
        return ""
    if why & _ALTERED:
        return (
            "messages may have been altered: compare both audit logs (`consilium audit verify`) before "
            f"`consilium site approve {study}` at that hospital lets the run go on"
        )
    if not (why := why - _LATE):
        return (
            "who came too late into this run, or was away for long, cannot compute its model: it goes on with a quorum "
            "of the others, and a new run takes all"
        )
    when = "" if why <= _DECIDED else "once the cause is gone, "
    return f"{when}`consilium site approve {study}` at that hospital lets the run go on"


@dataclass(frozen=True)
class Repeated:
    """One sentence that hospitals refused with in a run: whose it is, how often it was said, in which rounds."""

    run: str
    reason: str
    sites: tuple[str, ...]
    times: int
    rounds: str
    text: str


def once(told: Iterable[Mapping[str, Any]]) -> list[Repeated]:
    """Refusals, each reason and sentence of a run told once, however many rounds and hospitals it was said in."""

    def sentence(one: Mapping[str, Any]) -> tuple[str, str, str]:
        return str(one.get("run") or ""), str(one.get("reason") or ""), str(one.get("text") or "")

    found = []
    for (run, reason, text), same in groupby(sorted(told, key=sentence), key=sentence):
        several = list(same)
        numbers = sorted({int(one["round"]) for one in several if one.get("round") is not None})
        spans = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else ", ".join(map(str, numbers))
        gaps = f", {len(numbers)} of them" if numbers and len(numbers) <= numbers[-1] - numbers[0] else ""
        sites = tuple(sorted({str(one["site"]) for one in several}))
        found.append(Repeated(run, reason, sites, len(several), spans + gaps, text))
    return found
