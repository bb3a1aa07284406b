"""Figures of what so many hospitals added up; and of sums that no patients can have: under a secure sum nobody sees who
made them up, and the run goes on.
"""

import io
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from consilium.algorithms import between
from consilium.coordinator.perform import Needs, Performer, Sum, figures_of, judged, possible
from consilium.core import round as machine
from consilium.core import state as chain
from consilium.store.blobs import Stored
from unit.algorithms.judging import Patients, added, study
from unit.algorithms.test_worth_of_numbers import TIME, times

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


@pytest.mark.parametrize("count", [3, 5])
def test_concordance_has_in_it_what_so_many_hospitals_as_added_up_know_of_their_own_pairs(count: int) -> None:
    """In the figures of the round, in those of the model, and in a simulation's: pairs are told by patient."""
    sums = [times(40, seed).sums(TIME) for seed in range(count)]
    arrays = {f"metrics/{name}": np.sum([one[name] for one in sums], axis=0) for name in sums[0]}
    wanted, file = between.Told.of(added(sums)), io.BytesIO()
    digest, size = chain.write(arrays, {}, file)
    needs = SimpleNamespace(
        number=2, kind=machine.Kind.EVALUATE, state=digest, state_size=size, sealed=None, contributions=range(count)
    )
    summed = Sum(Stored(digest, size, file.getvalue()))
    of = Performer(cast(Any, None), cast(Any, None), "here")
    found = of.apply(cast(Any, SimpleNamespace(study=TIME)), cast(Any, "r"), cast(Needs, needs), summed, b"").figures
    told = (found["all"], found["evaluation"]["all"]["figures"], figures_of(TIME, arrays, count))
    assert [one["concordance"]["value"] for one in told] == [wanted.value] * 3
    assert abs(wanted.more) > 0.1, "pairs, so that another number of hospitals is another figure"
