"""What a contribution may hold: the segments that can be summed and judged, and nothing beside them.

Both ends ask this: the site before anything of it is protected and sent, for code of a study's own may have written it
and could put more into it than an update; the coordinator before it is summed.
"""

from collections.abc import Mapping
from pathlib import Path

from consilium.algorithms import metrics
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.tensors import Array

METRICS = "metrics/"
MOST_PATIENTS = 1e12
Shape = tuple[str, int]
"""Type and length of a 1-D array."""


def model_of(state: Path) -> Shape:
    """Type and length of the model in a state file, which a contribution's update must have.

    Raises: Invalid: it holds none.
    """
    shape = chain.read(state).shape
    if "model" not in shape:
        raise Invalid("the state has no model", "fetch the state again")
    return shape["model"]


def check(contribution: Path, model: Shape, kind: str, label: str, *, judged: bool = False) -> None:
    """Refuse a file that is not exactly a contribution to a round of `kind` for this `model` and type of `label`.

    What is said holds nothing of the file, not even a name of a segment: the words may leave the hospital, too.

    Args:    judged: whether metrics must be there; without, a contribution to TRAIN may lack them all.
    Raises:  Invalid: (1) it is no file of named 1-D arrays (2) it has other bytes than those and their plain header,
             where more could be hidden (3) a segment is lacking, or one is there that is not of such a round (4) a type
             or a length is another one (5) metrics are not those of the label (6) the weight is no number of patients.
    """
    vectors = chain.read(contribution)
    shape = vectors.shape
    plain = chain.header(shape)
    with contribution.open("rb") as file:
        if file.read(len(plain)) != plain:
            raise Invalid("the contribution's file holds more than its segments", "update the agent")
    wanted = {"weight": ("F64", 1), **({"update": model} if kind == "TRAIN" else {})}
    if {name for name in shape if not name.startswith(METRICS)} != wanted.keys():
        raise Invalid(f"the contribution's segments do not fit a round of kind {kind}", "update the agent")
    if any(shape[name] != of for name, of in wanted.items()):
        raise Invalid("the contribution's update does not fit the model", "update the agent")
    told: Mapping[str, Array] = {
        name.removeprefix(METRICS): array for name, array in vectors.arrays.items() if name.startswith(METRICS)
    }
    if told or judged:
        metrics.check(label, told)
    if not 1 <= float(vectors.arrays["weight"][0]) < MOST_PATIENTS:
        raise Invalid("the contribution's weight is not a number of patients", "update the agent")
