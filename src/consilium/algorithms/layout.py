"""What a contribution may hold: the segments that can be summed and judged, and nothing beside them.

Both ends ask this: the site before anything of it is protected and sent, for code of a study's own may have written it
and could put more into it than an update; the coordinator before it is summed.
"""

from collections.abc import Mapping

from consilium.algorithms import metrics
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.tensors import Array

METRICS = "metrics/"
MOST_PATIENTS = 1e12
Shape = tuple[str, int]
"""Type and length of a 1-D array."""


def model_of(state: chain.Source) -> Shape:
    """Type and length of the model in a state file, which a contribution's update must have.

    Raises: Invalid: it holds none.
    """
    shape = chain.read(state).shape
    if "model" not in shape:
        raise Invalid("the state has no model", "fetch the state again")
    return shape["model"]


def check(contribution: chain.Source, model: Shape, kind: str, label: str, *, judged: bool = False) -> None:
    """Refuse a file that is not exactly a contribution to a round of `kind` for this `model` and type of `label`.

    What is said holds nothing of the file, not even a name of a segment: the words may leave the hospital, too.

    Args:    judged: whether metrics must be there; without, a contribution to TRAIN may lack them all.
    Raises:  Invalid: (1) it is no file of named 1-D arrays (2) it has other bytes than those and their plain header,
             where more could be hidden; and what `fits` refuses.
    """
    vectors = chain.read(contribution)
    plain = chain.header(vectors.shape)
    if _first(contribution, len(plain)) != plain:
        raise Invalid("the contribution's file holds more than its segments", "update the agent")
    fits(vectors, model, kind, label, judged=judged)


def _first(source: chain.Source, size: int) -> bytes:
    if isinstance(source, bytes):
        return source[:size]
    with source.open("rb") as file:
        return file.read(size)


def fits(vectors: chain.Vectors, model: Shape, kind: str, label: str, *, judged: bool = False) -> None:
    """Refuse arrays that are not those of a contribution; arguments as for `check`.

    Raises: Invalid: (1) a segment is lacking, or one is there that is not of such a round, or text stands beside them
            (2) a type or a length is another one (3) metrics are not those of the label (4) the weight is no number of
            patients.
    """
    shape = vectors.shape
    if vectors.metadata:
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
