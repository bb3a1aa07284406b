"""Where a model's hazards lie, as every hospital finds it alike: by patients who never were.

Of two patients of two hospitals it is counted who has the higher hazard by spans of hazards
(`algorithms/between.py`), which must be the same everywhere. Nobody may look at patients for them; but all have the
same model, contract and, where the study prepares inputs, what was learned of all patients: by these a few hundred are
made up. Their middle, and how far they lie apart, say where spans are needed, however a model scales its hazards.
"""

from collections.abc import Mapping
from random import Random

import numpy as np

from consilium.algorithms import encode
from consilium.algorithms.between import USUAL, Spans
from consilium.core.contract import Feature
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors
from consilium.training.base import Floats, Trainer

MADE_UP = 400
VALUES = 1_000_000
"""So many values of images are made up at most."""
SMALLEST = 1e-300
NARROWEST, WIDEST = 1.0, 4.0
"""Spans fit that are spread so many times as far as hazards of patients who never were: real ones are often nearer."""
APART = 1e-6
"""Log hazards that lie no farther apart are of a model that says the same of everybody."""


def spans(study: Study, trainer: Trainer, model: Tensors, learned: Mapping[str, Array]) -> Spans:
    """Middle and spread of spans that fit a model's log hazards; the usual ones, where it says one of everybody."""
    x = encode.encode(study.contract, _columns(study, learned), study.prepare, learned)
    hazard = trainer.predict(study, model, x).astype(np.float64)
    low, middle, high = np.quantile(np.log(np.maximum(hazard, SMALLEST)), [0.1587, 0.5, 0.8413])
    apart = (high - low) / 2
    if not (np.isfinite(hazard).all() and apart > APART):
        return USUAL
    # The nearest to the usual ones that fit. No step is in it: what hospitals' processors round otherwise stays little.
    near = np.clip(USUAL[0], middle - apart / 2, middle + apart / 2)
    return float(near), float(np.clip(USUAL[1], NARROWEST * apart, WIDEST * apart))


def _columns(study: Study, learned: Mapping[str, Array]) -> dict[str, Floats]:
    """Made-up patients, by feature (n,): the same everywhere, for Python's generator keeps its numbers."""
    contract, chance = study.contract, Random(1)  # noqa: S311  no secret follows from it
    image = contract.image
    n = MADE_UP if image is None else max(min(MADE_UP, VALUES // image.size), 2)
    found = {}
    for index, feature in enumerate(contract.features):
        drawn = np.array([chance.random() for _ in range(n)])
        if feature.categories:
            found[feature.id] = np.floor(drawn * len(feature.categories))
        else:
            low, high = _ends(study, feature, learned, index)
            found[feature.id] = low + (high - low) * drawn
        if feature.missing == "allowed":
            found[feature.id][np.array([chance.random() for _ in range(n)]) < 0.2] = np.nan
    if image is not None:
        low, high = image.feature.range or (0.0, 1.0)
        values = np.array([chance.random() for _ in range(n * image.size)])
        found[image.id] = (low + (high - low) * values).reshape(n, image.size)
    return found


def _ends(study: Study, feature: Feature, learned: Mapping[str, Array], index: int) -> tuple[float, float]:
    """Between which numbers values are made up: as far apart as those of all patients, where this was learned."""
    asked = study.prepare or encode.PLAIN
    ends = feature.typical or feature.range
    assert ends is not None
    if feature.id in asked.bins:
        return ends
    centre, spread = encode.scale(feature, asked, learned, index)
    apart = spread if centre == sum(ends) / 2 else 3**0.5 * spread  # of equal chances, so that it is their deviation
    return centre - apart, centre + apart
