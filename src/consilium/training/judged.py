"""Models that were trained elsewhere and are judged here: what such trainers refuse, and inputs by name."""

import numpy as np

from consilium.algorithms import encode
from consilium.algorithms.base import LocalObjective
from consilium.core.contract import Contract
from consilium.core.errors import StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.training.base import Floats


def _refusal(study: Study) -> StudyInvalid:
    return StudyInvalid(
        f"a model of kind {study.model.kind} is judged here, and not trained",
        f"write `rounds: 0` and `model: {{kind: {study.model.kind}, start: given}}`",
    )


class Judged:
    """A trainer that trains nothing: `initial` and whatever trains raise StudyInvalid."""

    def wanted(self, study: Study) -> None:
        """Whether a study asks for no more. Raises: StudyInvalid: it trains."""
        if not study.judged_only:
            raise _refusal(study)

    def initial(self, study: Study, names: list[str]) -> Tensors:
        """There is none from a seed."""
        raise _refusal(study)

    def train(
        self, study: Study, model: Tensors, x: Floats, y: Floats, objective: LocalObjective, number: int
    ) -> Tensors:
        """Refused."""
        raise _refusal(study)

    def clipped(self, study: Study, model: Tensors, x: Floats, y: Floats, bound: float) -> tuple[Floats, Floats]:
        """Refused."""
        raise _refusal(study)

    def loss(self, study: Study, model: Tensors, x: Floats, y: Floats) -> float:
        """Refused."""
        raise _refusal(study)


def named(contract: Contract) -> list[str]:
    """Inputs that a model may name: numbers by their id, categories as `id=code`, values of an image as `id_0`."""
    names: list[str] = []
    for feature in contract.features:
        names += [feature.id] if feature.categories is None else [f"{feature.id}={code}" for code in feature.categories]
    return names if contract.image is None else names + contract.image.names


def by_name(contract: Contract, x: Floats) -> dict[str, Floats]:
    """Their values, (n,), of encoded patients (n, p): numbers in the contract's unit, 0 or 1; NaN where missing."""
    found: dict[str, Floats] = {}
    decoded = encode.decode(contract, x)
    for feature in contract.features:
        values = decoded[feature.id]
        if feature.categories is None:
            found[feature.id] = values
            continue
        for number, code in enumerate(feature.categories):
            found[f"{feature.id}={code}"] = np.where(np.isnan(values), np.nan, values == number)
    if contract.image is not None:
        found |= dict(zip(contract.image.names, decoded[contract.image.id].T, strict=True))
    return found
