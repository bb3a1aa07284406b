"""What was opened before decides what may be opened now: two sums at one model, over almost the same sites, show one.

A hospital remembers every opening in which it took part, across runs and studies (secure sums hide single sites within
one sum only; their difference is a sum, too).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from consilium.core.errors import Refused
from consilium.core.ids import Digest, SiteId


@dataclass(frozen=True)
class Opening:
    """One sum that was opened: over the patients of `source`, at `state`, of `objective`, over `sites`.

    `objective` names what was computed at the state (the kind of round, and what of the plan changes the values), so
    that a run that is repeated is the same objective again.
    """

    source: str
    state: Digest
    objective: str
    sites: frozenset[SiteId]


def check(wanted: Opening, before: Iterable[Opening], min_sites: int) -> None:
    """Whether a sum may be opened after those that were.

    Raises: Refused: `difference`: the difference to an earlier sum is one of fewer than `min_sites` sites.
    """
    for one in before:
        if (one.source, one.state, one.objective) != (wanted.source, wanted.state, wanted.objective):
            continue
        apart = len(one.sites ^ wanted.sites)
        if 0 < apart < min_sites:
            raise Refused(
                f"a sum at this model was opened before, over hospitals of which {apart} differ: the difference of "
                f"both would show fewer than {min_sites} hospitals",
                f"ask the same hospitals again, or others that differ by {min_sites}; or begin at another model",
                reason="difference",
            )
