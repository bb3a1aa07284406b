"""Two sums at one model: their difference never shows fewer sites than the floor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.privacy.disclosure import Opening, check

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
