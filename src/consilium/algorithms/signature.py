"""What a model asks for where it is used, input by input: a contract, as the signature of a model's file."""

from dataclasses import dataclass
from typing import Any

from consilium.core.contract import Contract, Feature
from consilium.core.timed import TIMED

Json = dict[str, Any]
MEANS = {
    "binary": "probability that the label is 1", "number": "value of the label", "count": "rate of the label",
    TIMED: "hazard, against that of a patient all of whose columns are zero",
}  # fmt: skip
"""What a prediction is, by the type of the label."""


@dataclass(frozen=True)
class Input:
    """One input: a feature of the contract, or all values of its image.

    Args:    features: places among the contract's values.   shape: of one patient's values.   first: what each is.
    """

    name: str
    features: tuple[int, ...]
    shape: tuple[int, ...]
    first: Feature
    meaning: str

    @property
    def text(self) -> bool:
        """Whether values are codes of categories."""
        return self.first.type == "category"

    def to_json(self) -> Json:
        """As metadata of a file."""
        one = self.first
        told: Json = {"name": self.name, "meaning": self.meaning, "type": one.type, "shape": list(self.shape)}
        told |= {"unit": one.unit, "range": list(one.range)} if one.range is not None else {}
        told |= {"categories": dict(one.categories)} if one.categories else {}
        return {**told, "missing": one.missing}


def inputs(contract: Contract) -> list[Input]:
    """The inputs of a model of this contract, in its order: one per feature, and one for all values of an image."""
    image, count = contract.image, len(contract.features)
    found = [
        Input(feature.id, (place,), (1,), feature, feature.meaning) for place, feature in enumerate(contract.features)
    ]
    if image is not None:
        all_ = tuple(range(count, contract.size))
        found.append(Input(image.id, all_, (image.rows, image.columns), image.feature, image.meaning))
    return found


def signature(contract: Contract) -> Json:
    """Inputs and output of a model of this contract, as data: names, types, units, ranges, categories, shapes."""
    label = contract.label
    told = {"name": label.id, "meaning": label.meaning, "type": label.type, "prediction": MEANS[label.type]}
    told |= {"unit": label.unit} if label.unit else {}
    return {"contract": contract.digest, "inputs": [one.to_json() for one in inputs(contract)], "label": told}
