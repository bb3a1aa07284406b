"""FedPer. Arivazhagan et al. 2019, https://arxiv.org/abs/1912.00818, algorithms 1 and 2.

The parts of the model that the study names stay at each site: they are trained there and never sent. The others are
averaged. The common model keeps the first values of what stays, with which a site begins.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from pydantic import Field

from consilium.algorithms import base, fedavg
from consilium.algorithms.base import Here, Local, Pass, parsed, weighted
from consilium.core.errors import StudyInvalid
from consilium.core.tensors import Array, Tensors


class Layers(base.Options):
    """`layers`: names of parts that stay at each site; `*` stands for any letters."""

    layers: tuple[str, ...] = Field(min_length=1, max_length=1000)


class FedPer(fedavg.FedAvg):
    """FedAvg of all but the layers that stay."""

    each = True
    """Whether each of the names must be that of a part."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._layers: tuple[str, ...] = parsed(Layers, options, "fedper").layers

    def passes(self, here: Here) -> tuple[Pass, ...]:
        """The site's own loss, from the common model with this site's own layers in it."""
        stays = self._stays(here)
        if "personal" not in here.memory:
            return (Pass(here.model),)
        start = here.model.copy()
        start[stays] = here.memory["personal"]
        return (Pass(start),)

    def contribution(self, here: Here, local: Local) -> tuple[Tensors, Tensors]:
        """Weight times difference, zero for the layers that stay: they are what is kept."""
        stays = self._stays(here)
        made = weighted(here.model, local.after[-1], local.patients)
        made["update"][stays] = 0
        return made, {"personal": local.after[-1][stays]}

    def _stays(self, here: Here) -> Array:
        """(d,) where the model stays at the site; everywhere, while no names are known.

        Raises: StudyInvalid: no part has such a name, or one of the names, or all have.
        """
        found = np.full(here.model.size, not here.parts)
        for name, part in here.parts.items():
            found[part] = any(fnmatchcase(name, pattern) for pattern in self._layers)
        unknown = [one for one in self._layers if not any(fnmatchcase(name, one) for name in here.parts)]
        nowhere = unknown if self.each or not found.any() else []
        if here.parts and (nowhere or found.all()):
            raise StudyInvalid(
                f"strategy.options.layers: {'none' if nowhere else 'all'} of the model's parts are called "
                f"{' or '.join(nowhere or self._layers)}",
                f"its parts are: {', '.join(sorted(here.parts))}",
            )
        return found
