"""Patients who are there twice are counted, and chance is told from a leak."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consilium.data.copies import copies


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 2)), min_size=1, max_size=30))
def test_each_is_counted_as_a_loop_counts(rows: list[tuple[int, bool, bool, int]]) -> None:
    x = np.array([[float(value)] for value, *_ in rows])
    y, test = (np.array([row[at] for row in rows]) for at in (1, 2))
    found = copies(x, y.astype(np.float64), test, np.array([row[3] for row in rows]))
    trained = [row for row in rows if not row[2]]
    for at, told in found.items():
        mine = [row for row in rows if row[3] == at]
        here = [row[:2] for row in trained if row[3] == at]
        there = [row[:2] for row in trained if row[3] != at]
        assert told.copies == sum(row[2] and row[:2] in here for row in mine)
        assert told.elsewhere == sum(row[2] and row[:2] in there for row in mine)
        assert (told.training, told.others) == (len(here), len(there))
        assert told.held_out + told.training == len(mine)


def test_of_two_zeros_there_is_one() -> None:
    found = copies(np.array([[0.0], [-0.0]]), np.zeros(2), np.array([False, True]), np.zeros(2, dtype=int))
    assert found[0].copies == 1
