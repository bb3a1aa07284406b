"""At which models the sums of a round are: by these a question is known again, by a hospital and by the coordinator.

What is computed at a model hangs on more: which inputs and which label a contract has, how they are called, in which
order they stand, and how is trained. Who asks chooses all that, and sums of which only that differs have much in
common: at a model that is zero, each input is summed as if there were no other, and of two labels that agree in most
patients the sums are the same but for a few. So none of it is in what stands for a model here: a place more where it is
zero, and another order, make no other one.
"""

from collections.abc import Mapping

import numpy as np

from consilium.core import state as chain
from consilium.core.ids import Digest, digest
from consilium.core.round import Kind
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.timed import COMMON, COX

PREPARATION = digest(b"preparation")
"""What stood for a model, of what is summed to prepare inputs, in releases of before."""
NOTHING = digest(b"")
"""In place of a model, where sums hang on none: counts, means and squares of inputs and labels. A model that is zero is
none either."""
MOST = 1 << 20
"""Values of a model whose order is looked through: of a larger one every value in its place stands for it."""


def models(study: Study, kind: str, state: chain.Source) -> list[list[Digest]]:
    """What stands for each model at which something is told in a round of this kind: itself, and the question.

    The first of each says by itself what is told: where sums hang on no model, that, for who repeats such a study meets
    other models, whose last bits are of other rounding. At a model of an intercept alone a Hessian is a multiple of the
    one at zero, by a factor that everybody knows, and two steps there tell the one at zero. Where the intercept stands
    in a model of somebody's own nobody knows: any one value will do.

    `model`, those that lie one after the other in `models`, by a strategy that sums at several, and those of folds and
    of groups of hospitals (`fold-1/model`, `model-2`): another study could begin at any of them. By their values: a
    state file's own digest names the run, too.
    """
    if kind == Kind.PREPARE:
        return [[PREPARATION, NOTHING]]
    arrays = chain.read(state).arrays
    several = arrays["models"].reshape(-1, arrays["model"].size) if "models" in arrays else ()
    apart = (array for name, array in arrays.items() if name.startswith("model-") or name.endswith("/model"))
    found = {_asked(study, kind, arrays, model) for model in (arrays["model"], *several, *apart)}
    return sorted(map(list, found))


def _asked(study: Study, kind: str, arrays: Mapping[str, Array], model: Array) -> tuple[Digest, ...]:
    of = _of(model)
    if study.model.kind != COX and np.count_nonzero(model) == 1 < model.size <= MOST:
        of = (*of, NOTHING)
    level = study.model.kind in ("logistic", "poisson") and not np.any(model[1:])  # its first value is the intercept
    if kind == Kind.TRAIN and (constant(study, arrays) or (study.exact and level)):
        return NOTHING, *(one for one in of if one != NOTHING)
    return of


def constant(study: Study, arrays: Mapping[str, Array]) -> bool:
    """Whether training, from a state of these arrays, sums something that is the same at every model.

    Least squares: the Hessian is that of the inputs alone, and with it each gradient is that at zero. The first round
    of a Poisson regression: its Hessian is weighted by the label. Of a Cox regression with a common baseline: events by
    times, and inputs of those who had one.
    """
    taken = [array for name, array in arrays.items() if name == "taken" or name.endswith("/taken")]
    first = study.model.kind == "poisson" and not (taken and all(map(np.all, taken)))
    return study.strategy.name == COMMON or (study.exact and (study.model.kind == "linear" or first))


def _of(model: Array) -> tuple[Digest, ...]:
    """By its bytes, as in releases of before; and without its zeros, and in order."""
    raw = digest(chain.raw(model))
    if model.size > MOST:
        return (raw,)
    values = np.sort(model[model != 0].astype("<f8"))
    return raw, digest(chain.raw(values))
