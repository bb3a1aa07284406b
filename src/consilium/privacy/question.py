"""At which models the sums of a round are: by these a question is known again, by a hospital and by the coordinator."""

from consilium.core import state as chain
from consilium.core.ids import Digest, digest
from consilium.core.round import Kind

PREPARATION = digest(b"preparation")
"""In place of a model, of what is summed to prepare inputs: it is one question, whatever the model is."""


def models(kind: str, state: chain.Source) -> list[Digest]:
    """What stands for each model at which something is told in a round of this kind, sorted.

    `model`, those that lie one after the other in `models`, by a strategy that sums at several, and those of folds and
    of groups of hospitals (`fold-1/model`, `model-2`): another study could begin at any of them. By their values: a
    state file's own digest names the run, too.
    """
    if kind == Kind.PREPARE:
        return [PREPARATION]
    arrays = chain.read(state).arrays
    several = arrays["models"].reshape(-1, arrays["model"].size) if "models" in arrays else ()
    apart = (array for name, array in arrays.items() if name.startswith("model-") or name.endswith("/model"))
    return sorted({digest(chain.raw(model)) for model in (arrays["model"], *several, *apart)})
