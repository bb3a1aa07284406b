"""Refusals of a round: which of them stand until people at the hospital decide anew, and how those hear of it."""

from collections.abc import Iterable

OF_SET = frozenset({"difference", "rosters", "quorum"})
"""Reasons that are about over whom a sum would be: with other sites, those who refused it may take part."""
_LEFT = frozenset({"removed"})
_DECIDED = frozenset({"not-approved", "declined", "revoked", "approval-expired"})


def goes_on(study: str, reasons: Iterable[str]) -> str:
    """How a run goes on after a hospital refused a round of it; empty where nobody at the hospital can change that.

    A refusal stands for the round until people there decide anew, whether its cause (a full disk, a policy) is gone or
    not: nobody else may say that it is.

    >>> goes_on("heart", ["disk"])
    'once the cause is gone, `consilium site approve heart` at that hospital lets the run go on'
    >>> goes_on("heart", ["difference"])
    ''
    """
    why = set(reasons) - OF_SET - _LEFT
    if not why:
        return ""
    when = "" if why <= _DECIDED else "once the cause is gone, "
    return f"{when}`consilium site approve {study}` at that hospital lets the run go on"
