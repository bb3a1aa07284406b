"""Gradients of single patients of torch models of any layers: each patient goes through the model alone.

All of a piece are made in one vectorised pass (`torch.func.vmap` of `grad`, which Opacus calls `functorch`). It takes
more time and memory than what `clipped.py` does for the layers that it knows. No layer can mix patients here, for none
sees two of them. What would then be another layer, as batch normalisation, and what keeps something from patient to
patient, is refused by name.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from consilium.core.errors import StudyInvalid
from consilium.training.catalogue import Block

MOST = 1 << 24
"""Values of gradients at once, 64 MB: a bound on memory."""


def unfit(layer: Any) -> str | None:
    """Why a layer, apart from those within it, cannot be passed by one patient alone; None: it can."""
    if isinstance(layer, _BatchNorm):
        return "mixes patients"
    if (isinstance(layer, _DropoutNd) and layer.p > 0) or isinstance(layer, nn.RReLU):
        return "goes by chance, of which a patient's part hangs on how many stand before"
    if next(layer.buffers(recurse=False), None) is not None:
        return "keeps values from patient to patient"
    if not type(layer).__module__.startswith("torch.nn.modules.") and type(layer) is not Block:
        return "is no layer of torch's own, and may keep what it sees"
    return None


def gradients(module: Any, trained: Mapping[str, Any], inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Outputs (n, ...), and by name each patient's gradient of the output's sum, (n, ...).

    Args:    trained: parameters by name.   inputs: (n, ...).
    Raises:  StudyInvalid: torch cannot vectorise a layer, such as one that decides by values.
    """

    def alone(parts: Mapping[str, Any], one: Any) -> Any:
        out = functional_call(module, parts, (one.unsqueeze(0),)).squeeze(0)
        return out.sum(), out

    try:
        each, out = vmap(grad(alone, has_aux=True), in_dims=(None, 0), randomness="error")(dict(trained), inputs)
    except RuntimeError as error:
        raise StudyInvalid(
            "torch cannot pass patients through this model one by one: their gradients cannot be clipped",
            "use other layers, or train without an epsilon",
        ) from error
    return out, each
