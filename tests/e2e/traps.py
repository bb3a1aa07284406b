"""Models that were made to keep patients apart, for a logistic regression of two numbers, and what their sums show.

Such a model is a wall: whoever lies beyond it has a score of one, and everybody else of zero. Of two sums at walls that
stand a little apart nothing is left, in their difference, but who lies between: one patient, to the last digits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from consilium.algorithms import encode
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.site import tables
from e2e.federation import Hospital

STEEP = 1e5
WAY = np.array([0.6, 0.8])
"""In which direction the walls stand."""


@dataclass(frozen=True)
class Between:
    """A training patient of one hospital (encoded) who alone is between two walls; a coordinator would try many."""

    patient: Any
    walls: tuple[float, float]

    @classmethod
    def of(cls, study: Study, hospitals: Iterable[Hospital]) -> "Between":
        """The one whom most room surrounds."""
        found = np.concatenate([training(study, one)[0] for one in hospitals])
        at = found @ WAY
        order = np.argsort(at)
        room = np.diff(at[order])
        place = int(np.argmax(np.minimum(room[:-1], room[1:]))) + 1
        edges = at[order[place - 1 : place + 2]]
        return cls(found[order[place]], (float(edges[:2].mean()), float(edges[1:].mean())))

    def model(self, wall: int) -> Tensors:
        """The model whose wall is the lower (0) or the upper (1)."""
        return {"weights": STEEP * WAY, "intercept": np.array([-STEEP * self.walls[wall]])}

    def shown(self, sums: list[Any]) -> Any:
        """Who is between, from the sums of updates at both walls."""
        apart = sums[1] - sums[0]
        return apart[1:] / apart[0]


def training(study: Study, hospital: Hospital) -> tuple[Any, Any]:
    """The training patients of a hospital, encoded (n, p), and their labels (n,): what a test alone knows."""
    table = tables.mapped(study, hospital.mapping).table
    columns = {name.removeprefix("feature/"): value for name, value in table.arrays().items() if "feature/" in name}
    return encode.encode(study.contract, columns)[~table.test], table.label[~table.test]
