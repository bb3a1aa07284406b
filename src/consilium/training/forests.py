"""Tree ensembles of ONNX graphs: that every way down a tree ends. A runtime follows one that goes in a circle for ever.

https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html. The operator TreeEnsemble, of version 5, is
not known here: its lists have other bounds, at which the runtime does not look, and skl2onnx does not write it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
LEAF = -1
MOST = 2_000_000
"""Nodes of all trees of a graph."""
DEEPEST = 1000
"""A tree that is deeper is refused: no one's is, and to look through it takes time, too."""


def nodes(node: Any) -> int:
    """How many nodes the trees of a node have."""
    return max((len(one.ints) for one in node.attribute if one.name.startswith("nodes_")), default=0)


def ends(node: Any) -> bool:
    """Whether every way down the trees of a node ends; False, too, where its lists do not fit together."""
    told = {attribute.name: attribute for attribute in node.attribute}
    try:
        sides = _named(told)
    except (KeyError, ValueError, IndexError):
        return False
    done = np.all([side == LEAF for side in sides], axis=0)
    for _ in range(DEEPEST):
        if done.all():
            return True
        after = np.all([(side == LEAF) | done[side] for side in sides], axis=0)
        if np.array_equal(after, done):
            return False
        done = after
    return False


def _named(told: dict[str, Any]) -> tuple[Places, Places]:
    """The place of each node's children, of nodes that are named by tree and number."""
    trees, numbers = (list(told[f"nodes_{name}"].ints) for name in ("treeids", "nodeids"))
    place = {key: at for at, key in enumerate(zip(trees, numbers, strict=True))}
    if len(place) != len(trees):
        raise ValueError("a node stands twice")
    modes = [mode.decode(errors="replace") for mode in told["nodes_modes"].strings]
    sides = []
    for name in ("nodes_truenodeids", "nodes_falsenodeids"):
        children = zip(modes, trees, told[name].ints, strict=True)
        sides.append(np.array([LEAF if mode == "LEAF" else place[tree, child] for mode, tree, child in children]))
    return sides[0], sides[1]
