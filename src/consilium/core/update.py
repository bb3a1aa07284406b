"""An update and its fate: Update (raw, stays), Contribution (protected, may leave), Aggregate (the opened sums)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from consilium.core.errors import Invalid
from consilium.core.ids import Digest, SiteId
from consilium.core.tensors import Array, Vector

Segments = Mapping[str, Array]
"""Named 1-D arrays that are summed over sites: `update` (weight times difference), `weight`, `metrics/...`."""


@dataclass(frozen=True)
class Sum:
    """A segment that sites add up in a round of training, beside `weight` and the metrics.

    Args:    limit: largest absolute value that one site may add to a number of it; what is beyond is cut in a secure
             sum, and counted. None: a change by `privacy.clip` for each of `privacy.most_patients`.
             each: one number for each parameter, of the model's type; else it is `length` numbers, float64.
             lasting: rounding would add up over rounds, or stay in the result: 64 bits in a secure sum.
    """

    limit: float | None = None
    each: bool = True
    lasting: bool = False
    length: int = 1

    def shape(self, model: tuple[str, int]) -> tuple[str, int]:
        """Type and length of the segment, for a model of this type and length."""
        return model if self.each else ("F64", self.length)


UPDATE: Mapping[str, Sum] = MappingProxyType({"update": Sum()})
"""What is summed where local models are averaged, and nothing else is."""


@dataclass(frozen=True)
class Update:
    """What training gave. It stays at the site: nothing that sends accepts it.

    `memory` is what the strategy keeps at this site for the rounds to come: it is in no contribution at all.
    """

    segments: Segments
    memory: Segments = field(default_factory=dict)


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
