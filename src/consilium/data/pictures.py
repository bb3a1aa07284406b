"""What is seen of a hospital's images: which of them say nothing, and which use but a small part of the range."""

from dataclasses import dataclass

import numpy as np

from consilium.core.contract import Image
from consilium.data.base import Floats

NARROW = 0.25
"""Part of the contract's range. 12 bits of which Bits Stored says that they are 14 fill a quarter of it."""


@dataclass(frozen=True)
class Pictures:
    """How many images are inside and outside of the range, or lacking, and how many of those inside look odd.

    blank: of one value everywhere.   faint: others, whose values span at most `NARROW` of the range.
    """

    inside: int = 0
    outside: int = 0
    missing: int = 0
    blank: int = 0
    faint: int = 0


def looked(wanted: Image, images: Floats) -> tuple[Floats, Pictures]:
    """Images (n, size), in place with NaN for one that is outside of the range, and what is seen of them.

    Args:    images: (n, size), NaN where there is none.
    """
    low, high = images.min(axis=1), images.max(axis=1)
    there = ~np.isnan(images[:, 0])
    inside = there & (low >= wanted.range[0]) & (high <= wanted.range[1])
    span = (high - low)[inside]
    blank = span == 0
    faint = ~blank & (span <= NARROW * (wanted.range[1] - wanted.range[0]))
    images[~inside] = np.nan
    counts = [int(one.sum()) for one in (inside, there & ~inside, ~there, blank, faint)]
    return images, Pictures(*counts)
