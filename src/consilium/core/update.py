"""An update and its fate: Update (raw, stays), Contribution (protected, may leave), Aggregate (the opened sums)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from consilium.core.errors import Invalid
from consilium.core.ids import Digest, SiteId
from consilium.core.tensors import Array, Vector

Segments = Mapping[str, Array]
"""Named 1-D arrays that are summed over sites: `update` (weight times difference), `weight`, `metrics/...`."""


@dataclass(frozen=True)
class Update:
    """What training gave. It stays at the site: nothing that sends accepts it."""

    segments: Segments


@dataclass(frozen=True)
class Contribution:
    """What a privacy recipe made of an update: bytes on file that may leave, once, under their digest."""

    path: Path
    digest: Digest
    size: int
    recipe: str


@dataclass(frozen=True)
class Aggregate:
    """The sums over the sites that answered: all that a coordinator needs to see."""

    sums: Segments
    sites: tuple[SiteId, ...]

    @property
    def weight(self) -> float:
        """Sum of the sites' weights (patients).

        Raises: Invalid: the segment is missing or not positive.
        """
        weight = self.sums.get("weight")
        if weight is None or weight.shape != (1,) or not weight[0] > 0:
            raise Invalid("the aggregate has no positive weight", "check that every site has training patients")
        return float(weight[0])

    @property
    def update(self) -> Vector:
        """The summed update segment, (d,)."""
        return self.sums["update"]
