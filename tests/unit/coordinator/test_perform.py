"""Sums that no patients can have: under a secure sum nobody sees who made them up, and the run goes on."""

from functools import partial

import numpy as np
import pytest

from consilium.coordinator.perform import figures_of, judged, possible
from unit.algorithms.judging import Patients, study

STUDY = study()


def test_figures_of_what_one_hospital_makes_up_are_none() -> None:
    sums = Patients.drawn(180, 3).sums(STUDY)
    arrays = {f"metrics/{name}": np.array(array, dtype=np.float64) for name, array in sums.items()}
    figures, worth = partial(figures_of, STUDY, arrays, 3), partial(judged, STUDY, arrays, {}, 3)
    assert possible(figures)["auroc"]["n"] == possible(worth)["all"]["n"] == 180
    arrays["metrics/n"] -= 170  # more than the patients with the outcome
    for told in (figures, worth):
        with pytest.raises((ArithmeticError, ValueError, TypeError, LookupError)):
            told()
        assert possible(told) is None
