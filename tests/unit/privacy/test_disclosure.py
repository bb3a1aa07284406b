"""Two sums at one model: their difference never shows fewer sites than the floor."""

from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.privacy.disclosure import Opening, alone, check

SITES = "abcdefgh"
ROSTER = st.frozensets(st.sampled_from(SITES), min_size=3)


def opening(sites: frozenset[str], **changes: str) -> Opening:
    return Opening(**{"source": "ehr", "state": digest(b"w"), "objective": "TRAIN", **changes}, sites=sites)  # type: ignore[arg-type]


def held(rosters: list[frozenset[str]], sites: frozenset[str]) -> int:
    """How many combinations of the rosters, that do not follow from one another, are over no site but these."""
    matrix = np.array([[site in one for site in SITES] for one in rosters], dtype=float).reshape(-1, len(SITES))
    others = matrix[:, [site not in sites for site in SITES]]
    return int(np.linalg.matrix_rank(matrix)) - (int(np.linalg.matrix_rank(others)) if others.size else 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROSTER, max_size=5), ROSTER, st.integers(3, 5))
def test_what_passes_shows_no_set_of_hospitals_that_is_too_small(
    before: list[frozenset[str]], now: frozenset[str], floor: int
) -> None:
    """Against all sets of fewer hospitals, over the real numbers; and no two rosters differ by fewer."""
    sets = [frozenset(one) for size in range(1, floor) for one in combinations(SITES, size)]
    shown = bool(before) and now not in before and any(held([*before, now], one) > held(before, one) for one in sets)
    apart = min((len(one ^ now) for one in before if one != now), default=len(SITES))
    try:
        check(opening(now), map(opening, before), floor)
    except Refused as error:
        assert error.reason == "difference" and (shown or apart < floor)
    else:
        assert not shown and apart >= floor


def test_sums_that_are_added_up_show_one_hospital_that_no_pair_of_them_shows() -> None:
    """Two small studies and one over both and a hospital more; each pair of these differs by three at least."""
    first, second, both = frozenset("abc"), frozenset("def"), frozenset("abcdefg")
    check(opening(second), [opening(first)], 3)
    assert min(len(both ^ first), len(both ^ second)) >= 3
    with pytest.raises(Refused, match="fewer than 3 hospitals"):
        check(opening(both), [opening(first), opening(second)], 3)
    check(opening(both | {"h", "i"}), [opening(first), opening(second)], 3)


def test_where_there_are_too_many_sets_to_look_at_nothing_is_opened() -> None:
    sites = [f"s{n}" for n in range(40)]
    chance = Random(1)
    rosters = [frozenset(chance.sample(sites, 20)) for _ in range(6)]
    with pytest.raises(Refused, match="with one over these hospitals"):
        check(opening(frozenset(sites)), map(opening, rosters), 6)


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
