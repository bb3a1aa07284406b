"""A contract's features as inputs of a graph, and a plan's preparation as its nodes: `encode.encode`, node by node.

Numbers come as float64, so that a value at the end of a range, or at the edge of a bin, is where it is in training.
A missing number is NaN, and so counts one beyond its range; a missing category is an empty text. Where a value is
missing that must not be, or a code is unknown, `encode` raises, which a graph cannot: it tells of the patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consilium.algorithms import encode, signature
from consilium.algorithms.signature import Input
from consilium.core.contract import Feature
from consilium.core.preparing import Prepare
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.onnxfile.nodes import DOUBLE, ML, WHOLE, Nodes

MISSING, UNKNOWN = -1.0, -2.0
"""What stands for a missing category, and for a code that the contract has not."""


@dataclass(frozen=True)
class Learned:
    """What the study asks for, and what was learned of it; edges and kept categories by place of the feature."""

    asked: Prepare
    arrays: Mapping[str, Array]
    edges: Mapping[int, Array]
    kept: Mapping[int, Array]

    @classmethod
    def of(cls, study: Study, arrays: Mapping[str, Array]) -> "Learned":
        """What was learned for a study, edges and kept categories divided by feature."""
        asked = study.prepare or encode.PLAIN
        return cls(asked, arrays, *encode.by_feature(study.contract, asked, arrays))

    def fill(self, places: Sequence[int]) -> Array:
        """What stands for a missing value, (1, k)."""
        return np.array([[float(self.arrays["prepare/fill"][place]) for place in places]])


def encoded(nodes: Nodes, study: Study, arrays: Mapping[str, Array]) -> tuple[str, str | None]:
    """Nodes from the contract's inputs to the model's columns.

    Args:    arrays: what was learned to prepare inputs.
    Returns: names of the columns (N, p), float64, and of whom nothing may be said (N, 1), or None: of nobody.
    """
    learned = Learned.of(study, arrays)
    parts: list[str] = []
    refused: list[str] = []
    for one in signature.inputs(study.contract):
        columns, bad = (_category if one.text else _numbers)(nodes, one, learned)
        parts += columns
        refused += bad
    told = refused[0] if refused else None
    for other in refused[1:]:
        told = nodes.add("Or", str(told), other)
    return nodes.add("Concat", *parts, axis=1), told


def _numbers(nodes: Nodes, one: Input, learned: Learned) -> tuple[list[str], list[str]]:
    """Columns, and who is refused: of a feature, or of all values of an image, which are alike but for their scale."""
    asked, first, count = learned.asked, one.first, len(one.features)
    value = one.name if len(one.shape) == 1 else nodes.add("Reshape", one.name, np.array([-1, count]))
    low, high = (np.array([[end]]) for end in _range(first))
    within = nodes.add("And", nodes.add("GreaterOrEqual", value, low), nodes.add("LessOrEqual", value, high))
    gone = nodes.add("Not", within)  # NaN is within nothing
    filled = asked.missing == "impute" and first.missing == "allowed"
    if filled:
        value = nodes.add("Where", gone, learned.fill(one.features), value)
    if first.id in asked.bins:
        column = _bins(nodes, value, learned.edges[one.features[0]])
        column = column if filled else nodes.add("Where", gone, np.zeros((1, 1)), column)
    else:
        scales = [encode.scale(first, asked, learned.arrays, at) for at in one.features]
        centre, spread = (np.array([[scale[part] for scale in scales]]) for part in (0, 1))
        column = nodes.add("Div", nodes.add("Sub", value, centre), spread)
        column = column if filled else nodes.add("Where", gone, np.zeros((1, count)), column)
    if first.missing == "allowed":
        return [column, *([nodes.cast(gone, DOUBLE)] if asked.missing == "flag" else [])], []
    if count == 1:
        return [column], [gone]
    any_ = nodes.add("ReduceMax", nodes.cast(gone, DOUBLE), axes=[1], keepdims=1)
    return [column], [nodes.add("Greater", any_, 0.5)]


def _range(feature: Feature) -> tuple[float, float]:
    assert feature.range is not None
    return feature.range


def _bins(nodes: Nodes, value: str, edges: Array) -> str:
    """One column for each bin but the first."""
    above = nodes.cast(nodes.add("GreaterOrEqual", value, edges[None, :].astype(np.float64)), WHOLE)
    number = nodes.add("ReduceSum", above, np.array([1]), keepdims=1)
    return nodes.cast(nodes.add("Equal", number, np.arange(1, edges.size + 1)[None, :]), DOUBLE)


def _category(nodes: Nodes, one: Input, learned: Learned) -> tuple[list[str], list[str]]:
    codes, asked, place = list(one.first.categories or {}), learned.asked, one.features[0]
    numbers = [float(number) for number in range(len(codes))]
    if place in learned.kept:
        numbers = [number if learned.kept[place][at] else 0.0 for at, number in enumerate(numbers)]
    index = nodes.cast(
        nodes.add(
            "LabelEncoder", one.name, domain=ML, keys_strings=[*codes, ""], values_floats=[*numbers, MISSING],
            default_float=UNKNOWN,
        ),
        DOUBLE,
    )  # fmt: skip
    gone, refused = nodes.add("Equal", index, MISSING), [nodes.add("Equal", index, UNKNOWN)]
    if one.first.missing == "forbidden":
        refused.append(gone)
    elif asked.missing == "impute":
        index = nodes.add("Where", gone, np.array([[numbers[int(learned.fill([place])[0, 0])]]]), index)
    columns = [nodes.cast(nodes.add("Equal", index, np.arange(1.0, len(codes))[None, :]), DOUBLE)]
    if one.first.missing == "allowed" and asked.missing == "flag":
        columns.append(nodes.cast(gone, DOUBLE))
    return columns, refused
