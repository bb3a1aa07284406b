"""FedRep. Collins et al., ICML 2021, https://arxiv.org/abs/2102.07078, algorithm 1.

As in FedPer the layers that the study names stay at each site. Here they are trained first, with the common ones held
still, until they fit what all have learned; and then the common ones, with those held still: so that the common layers
learn what serves every site, and not what suits a head that was made for other ones.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from consilium.algorithms import fedper
from consilium.algorithms.base import Here, LocalObjective, Pass, parsed


class Heads(fedper.Layers):
    """`head_passes`: how often `training.epochs` is gone through for what stays, before once for the others."""

    head_passes: int = Field(5, ge=1, le=100)


class FedRep(fedper.FedPer):
    """FedPer in which what stays and what is common are trained in turn."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        chosen: Heads = parsed(Heads, options, "fedrep")
        super().__init__({"layers": chosen.layers})
        self._heads = chosen.head_passes

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The own layers, from the common model with this site's own in it; then, from there, the others."""
        (first,) = super().passes(here)
        stays = self._stays(here).astype(here.model.dtype)
        own, others = LocalObjective(trains=stays), LocalObjective(trains=1 - stays)
        return Pass(first.start, own), *[Pass(None, own)] * (self._heads - 1), Pass(None, others)
