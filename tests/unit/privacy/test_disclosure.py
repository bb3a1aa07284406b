"""Two sums at one model: their difference never shows fewer sites than the floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.privacy.disclosure import Opening, alone, check

SITES = "abcdefgh"
ROSTER = st.frozensets(st.sampled_from(SITES), min_size=3)


def opening(sites: frozenset[str], **changes: str) -> Opening:
    return Opening(**{"source": "ehr", "state": digest(b"w"), "objective": "TRAIN", **changes}, sites=sites)  # type: ignore[arg-type]


@given(st.lists(ROSTER, max_size=6), ROSTER, st.integers(3, 5))
def test_what_passes_differs_by_nothing_or_by_enough(
    before: list[frozenset[str]], now: frozenset[str], floor: int
) -> None:
    smallest = min((len(one ^ now) for one in before if one != now), default=len(SITES))
    try:
        check(opening(now), map(opening, before), floor)
    except Refused as error:
        assert error.reason == "difference" and smallest < floor
    else:
        assert smallest >= floor


@pytest.mark.parametrize("changes", [{"source": "other"}, {"state": digest(b"v")}, {"objective": "EVALUATE"}])
def test_another_source_model_or_objective_is_another_matter(changes: dict[str, str]) -> None:
    whole, less = frozenset("abcd"), frozenset("abc")
    check(opening(less), [opening(whole, **changes)], 3)
    with pytest.raises(Refused):
        check(opening(less), [opening(whole)], 3)


@given(st.lists(st.frozensets(st.sampled_from(SITES), min_size=1), max_size=10))
def test_who_is_alone_is_who_can_be_solved_for(rosters: list[frozenset[str]]) -> None:
    """Against least squares over the real numbers."""
    matrix = np.array([[site in one for site in SITES] for one in rosters], dtype=float).reshape(-1, len(SITES))
    solved = matrix.T @ np.linalg.pinv(matrix.T) if len(rosters) else np.zeros((len(SITES), len(SITES)))
    wanted = {site for at, site in enumerate(SITES) if np.allclose(solved[at], np.eye(len(SITES))[at], atol=1e-6)}
    assert alone(rosters) == wanted  # type: ignore[arg-type]


def test_nobody_is_alone_while_the_roster_stays_and_all_are_once_each_was_missing() -> None:
    whole = frozenset(SITES)
    assert alone([whole] * 500) == frozenset() == alone([])
    assert alone([whole, whole - {"c"}]) == {"c"}
    assert alone([whole - {site} for site in SITES]) == whole  # type: ignore[arg-type]
    assert alone([frozenset("abcd"), frozenset("efgh")]) == frozenset()
