"""What a contribution may hold: the segments that can be summed and judged, and nothing beside them.

Both ends ask this: the site before anything of it is protected and sent, for code of a study's own may have written it
and could put more into it than an update; the coordinator before it is summed.
"""

from collections.abc import Mapping

from consilium.algorithms import evaluation, preparation
from consilium.core import state as chain
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.update import UPDATE, Sum

METRICS = "metrics/"
MOST_PATIENTS = 1e12
Shape = tuple[str, int]
"""Type and length of a 1-D array."""


def model_of(state: chain.Vectors) -> Shape:
    """Type and length of the model in a state, which a contribution's update must have.

    Raises: Invalid: it holds none.
    """
    shape = state.shape
    if "model" not in shape:
        raise Invalid("the state has no model", "fetch the state again")
    return shape["model"]


def check(
    contribution: chain.Vectors,
    model: Shape,
    kind: str,
    study: Study,
    sums: Mapping[str, Sum] = UPDATE,
    *,
    judged: bool = False,
    weight: float | None = None,
) -> None:
    """Refuse a file that is not exactly a contribution to a round of `kind` of a study, for this `model`.

    What is said holds nothing of the file, not even a name of a segment: the words may leave the hospital, too.

    Args:    model: type and length of the update.   sums: what the strategy adds up.   judged: whether metrics must be
             there; without, a contribution to TRAIN may lack them all.   weight: what the plan says that it is, under
             an epsilon: TRAIN then has no metrics, for they would have no noise. PREPARE never has any.
    Raises:  Invalid: (1) its header is not the plain one of its segments, so that more could be hidden in it (2) a
             segment is lacking, or one is there that is not of such a round (3) a type or a length is another one
             (4) metrics are not those of the study (5) the weight is no number of patients, or not the plan's
             (6) sums of PREPARE are more than so many patients add up to. That nothing lies between or after the
             segments, who reads the file has seen.
    """
    shape = contribution.shape
    if contribution.head != chain.plain_header(tuple(shape.items())):
        raise Invalid("the contribution's file holds more than its segments", "update the agent")
    added = {name: of.shape(model) for name, of in sums.items()}
    wanted = {"weight": ("F64", 1), **(added if kind != "EVALUATE" else {})}
    if {name for name in shape if not name.startswith(METRICS)} != wanted.keys():
        raise Invalid(f"the contribution's segments do not fit a round of kind {kind}", "update the agent")
    if any(shape[name] != of for name, of in wanted.items()):
        raise Invalid("the contribution's update does not fit the model", "update the agent")
    told: Mapping[str, Array] = {
        name.removeprefix(METRICS): array for name, array in contribution.arrays.items() if name.startswith(METRICS)
    }
    if weight is not None and kind == "TRAIN":
        if told:
            raise Invalid("the contribution holds figures, to which no noise is added", "update the agent")
    elif kind == "PREPARE":
        if told:
            raise Invalid("the contribution holds figures, and there is no model yet", "update the agent")
    elif told or judged:
        evaluation.check(study, kind, told)
    found = float(contribution.arrays["weight"][0])
    if weight is not None:
        if found != weight:
            raise Invalid("the contribution's weight is not the one that the plan says", "update the agent")
    elif not 1 <= found < MOST_PATIENTS:
        raise Invalid("the contribution's weight is not a number of patients", "update the agent")
    if kind == "PREPARE":
        preparation.check(contribution.arrays[preparation.SUMS], found)
