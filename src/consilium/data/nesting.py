"""How deep the JSON of others nests: asked before anything walks it by recursion."""

from typing import Any

DEEPEST = 20
"""So many groups or selects may stand in one another."""
LAYERS = 6
"""Layers of JSON that one of them may take."""


def too_deep(given: Any) -> bool:
    """Whether it nests deeper than `DEEPEST` groups could; without recursion."""
    layer, depth = [given], 0
    while layer and depth <= LAYERS * DEEPEST:
        inner = [list(one.values()) if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list)]
        layer = [part for parts in inner for part in parts]
        depth += 1
    return depth > LAYERS * DEEPEST
