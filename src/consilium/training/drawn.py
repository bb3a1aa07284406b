"""First weights of a linear model: zeros, or drawn from the plan's seed and far from zero.

At zero every study of the same patients is at one model, where a hospital is in sums over one set of hospitals, for
good (`privacy.disclosure`). Sums at two models that lie near each other are nearly the same, and so are those at two by
which patients have the same scores: a start that is to be another one has to be far from zero, and from all that who
asks could bring near it by scales, names, order or inputs of which he has the choice.
"""

import hashlib
import math

import numpy as np

from consilium.algorithms import encode
from consilium.core.beginning import DRAWN
from consilium.core.ids import canonical
from consilium.core.study import Study
from consilium.training.base import Floats

FAR = 2.5
"""By this, over the root of the number of inputs, weights differ from zero (root mean square), inputs being scaled.

So far that a sum at zero, less one at the start over all hospitals but one, misses that one's part by more than its
size; and near enough that some rounds more lead to the same model (figures: decision 0031). Linear predictors of
patients have then a standard deviation of about 1.
"""
MOST = 100
"""Inputs for which weights become smaller: else, with enough inputs that no patient has, all were near zero."""


def first(study: Study, names: list[str], size: int) -> Floats:
    """(size,) weights for the encoded columns `names`: zeros; or, if the study says `drawn`, values of either sign, of
    a half to three halves of what `FAR` says; of a number to predict, in halves of its range.

    All are others with another seed, and where a name, the order or a scale is another one: else a `typical` range, or
    an input that no patient has, could be chosen so that patients have the scores of another study. By whole numbers
    of SHAKE-256 (FIPS 202): the same bits everywhere.
    """
    if study.model.start != DRAWN:
        return np.zeros(size)
    contract = study.contract
    unit = contract.label.scale[1] if contract.label.type == "number" else 1.0
    numbers = [feature for feature in contract.features if feature.range is not None]
    numbers += [] if contract.image is None else [contract.image.feature]
    scales = [encode.scale(feature, encode.PLAIN, None, 0) for feature in numbers]
    told = canonical([study.training.seed, size, unit, names, scales])
    chance = np.frombuffer(hashlib.shake_256(told).digest(8 * size), "<u8")
    sizes = (chance >> np.uint64(11)) * 2.0**-53 + 0.5
    inputs = len(contract.features) + (0 if contract.image is None else contract.image.size)
    return np.where(chance & np.uint64(1), -sizes, sizes) * (FAR * unit / math.sqrt(min(inputs, MOST)))
