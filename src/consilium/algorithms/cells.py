"""Groups of times of which none has a cell with some, but too few patients, from what single sites say of spans.

Spans are halves of halves of all times, as in a binary tree. A site says of a span whether it has enough patients in it
itself. Where two have, the sum over all sites but one has, too, whichever it is; and a group of times that holds such a
span is large enough. So small counts are added up nowhere.
"""

from dataclasses import dataclass

import numpy as np

from consilium.core.tensors import Array


def spans(times: int) -> int:
    """Length of a tree of spans over so many times: 1 is all, 2 k and 2 k + 1 are halves of k; there is no 0."""
    return 2 << max(times - 1, 0).bit_length()


def spanned(counts: Array) -> Array:
    """Sums of counts by time (k,) over each span."""
    size = spans(len(counts))
    found = np.zeros(size)
    found[size // 2 : size // 2 + len(counts)] = counts
    for at in range(size // 2 - 1, 0, -1):
        found[at] = found[2 * at] + found[2 * at + 1]
    return found


@dataclass(frozen=True)
class Spans:
    """Of each span, whether several sites each have enough events, or enough patients without; or any site any."""

    events: Array
    censored: Array
    some: Array


@dataclass(frozen=True)
class Group:
    """Times from `start` on to the next group's, and what is known of them."""

    start: int
    events: bool
    censored: bool
    some: bool

    @property
    def fine(self) -> bool:
        """Whether no cell of it has some, but too few patients."""
        return self.events and (self.censored or not self.some)

    def with_(self, other: "Group") -> "Group":
        """Both together."""
        return Group(self.start, self.events or other.events, self.censored or other.censored, self.some or other.some)


def split(told: Spans, span: int, start: int, size: int) -> list[Group]:
    """The finest groups of a span, in order; one that is not fine, if none is.

    Args:    span: number in the tree.   start, size: of the times that it holds.
    """
    own = Group(start, bool(told.events[span]), bool(told.censored[span]), bool(told.some[span]))
    if size == 1:
        return [own]
    half = size // 2
    parts = [*split(told, 2 * span, start, half), *split(told, 2 * span + 1, start + half, half)]
    found: list[Group] = []
    for part in parts:
        if found and not found[-1].fine:
            found[-1] = found[-1].with_(part)
        else:
            found.append(part)
    while len(found) > 1 and not found[-1].fine:
        last = found.pop()
        found[-1] = found[-1].with_(last)
    return found if len(found) > 1 else [found[0].with_(own)]
