"""Sums at one model: however they are added and subtracted, they show no fewer sites than one sum does."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.ids import digest
from consilium.core.threshold import threshold
from consilium.privacy.disclosure import WHOLE, Opening, Summed, alone, check, solved

SITES = "abcdefgh"
ROSTER = st.frozensets(st.sampled_from(SITES), min_size=3)


def opening(sites: frozenset[str], **changes: str) -> Opening:
    return Opening(**{"source": "ehr", "state": digest(b"w"), "objective": "TRAIN", **changes}, sites=sites)  # type: ignore[arg-type]


PART = frozenset({"held-out"})


def held(rosters: list[frozenset[str]], sites: frozenset[str]) -> int:
    """How many combinations of the rosters, that do not follow from one another, are over no site but these."""
    matrix = np.array([[site in one for site in SITES] for one in rosters], dtype=float).reshape(-1, len(SITES))
    others = matrix[:, [site not in sites for site in SITES]]
    return int(np.linalg.matrix_rank(matrix)) - (int(np.linalg.matrix_rank(others)) if others.size else 0)


def shown(rosters: list[frozenset[str]], fewer: int) -> set[frozenset[str]]:
    """Sets of fewer sites over which sums follow from those over the rosters."""
    sets = [frozenset(one) for size in range(1, fewer) for one in combinations(SITES, size)]
    return {one for one in sets if held(rosters, one)}


def passes(site: str, memory: dict[str, list[Opening]], now: frozenset[str]) -> bool:
    try:
        check(opening(now), memory[site])
    except Refused as error:
        assert error.reason == "difference"
        return False
    return True


@given(st.lists(st.tuples(ROSTER, st.permutations(SITES)), max_size=8))
def test_however_the_coordinator_asks_sums_show_no_fewer_sites_than_open_one(
    asked: list[tuple[frozenset[str], list[str]]],
) -> None:
    """Each site knows what it helped to open, and no more; as few as can open a sum do, whom the coordinator likes."""
    memory: dict[str, list[Opening]] = {site: [] for site in SITES}
    opened: list[frozenset[str]] = []
    for now, liked in asked:
        willing = [site for site in liked if site in now and passes(site, memory, now)][: threshold(len(now))]
        if len(willing) == threshold(len(now)):
            opened.append(now)
            for site in willing:
                memory[site].append(opening(now))
    assert not shown(list(set(opened)), 3)


FIRST, SECOND, BOTH = frozenset("abc"), frozenset("cde"), frozenset("abde")


def test_three_sums_show_one_hospital_where_each_two_differ_by_enough() -> None:
    """What the rule is for: no hospital is in all three, so that none could weigh them together."""
    assert all(len(one ^ other) >= 3 for one, other in combinations((FIRST, SECOND, BOTH), 2))
    assert not any(shown(list(two), 3) for two in combinations((FIRST, SECOND, BOTH), 2))
    assert frozenset("c") in shown([FIRST, SECOND, BOTH], 2) and not FIRST & SECOND & BOTH
    with pytest.raises(Refused):
        check(opening(SECOND), [opening(FIRST)])


def test_the_same_again_tells_nothing_new_and_the_refusal_tells_no_more_than_that_there_is_something() -> None:
    whole, less = frozenset("abcdefgh"), frozenset("abc")
    check(opening(whole), [opening(whole)])
    check(opening(frozenset("a")), [opening(frozenset("a"))])
    with pytest.raises(Refused) as caught:
        check(opening(less), [opening(whole)])
    assert not any(word.isdigit() for word in caught.value.message.split())


def test_what_was_hidden_in_a_sum_is_not_shown_alone() -> None:
    whole, mine = frozenset("abc"), frozenset("a")
    with pytest.raises(Refused):
        check(opening(mine), [opening(whole)])
    check(opening(whole), [opening(mine)])  # the others are asked, too: see `secagg.mask`
    check(opening(mine), [opening(mine), opening(whole)])
    with pytest.raises(Refused):
        check(opening(frozenset("abd")), [opening(mine), opening(whole)])


def test_another_label_is_the_same_matter() -> None:
    """Of two labels that agree in most patients, sums over almost the same hospitals differ by little but one's."""
    with pytest.raises(Refused):
        check(opening(frozenset("abc")), [opening(frozenset("abcd"), objective="another label")])


@pytest.mark.parametrize("changes", [{"source": "other"}, {"state": digest(b"v")}])
def test_another_source_or_model_is_another_matter(changes: dict[str, str]) -> None:
    whole, less = frozenset("abcd"), frozenset("abc")
    check(opening(less), [opening(whole, **changes)])
    with pytest.raises(Refused):
        check(opening(less), [opening(whole)])


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


@given(
    st.lists(st.frozensets(st.sampled_from(SITES), min_size=1), max_size=8),
    st.frozensets(st.sampled_from(SITES), max_size=4), st.frozensets(st.sampled_from(SITES)),
)  # fmt: skip
@example([frozenset("abc"), frozenset("abcde")], frozenset("de"), frozenset("e"))  # of those that lack it two are left
def test_who_is_alone_where_others_add_zeros_is_said_whichever_of_those_who_lack_a_part_do(
    rosters: list[frozenset[str]], lack: frozenset[str], zeros: frozenset[str]
) -> None:
    """Who holds out nobody with the outcome adds to the sum of those without it: `held-out` does not say which."""
    sums = [Summed(one, PART, frozenset(("held-out", site) for site in one & lack)) for one in rosters]  # type: ignore[arg-type, misc]
    said = solved(sums)
    assert {site for part, site in said if part == WHOLE} == alone(rosters)  # type: ignore[arg-type]
    assert alone([one - (zeros & lack) for one in rosters]) <= {site for _, site in said}  # type: ignore[arg-type]
    hidden = [replace(one, withheld=PART) for one in sums]
    assert solved(hidden) == {(WHOLE, site) for site in alone(rosters)}, "nobody adds to it"  # type: ignore[arg-type]


ANY = st.frozensets(st.sampled_from(SITES), min_size=1)


@settings(max_examples=50)
@given(st.lists(st.tuples(ANY, st.frozensets(st.sampled_from(SITES))), max_size=8), st.lists(ANY, max_size=4))
def test_a_part_is_looked_for_among_sums_that_have_it_whoever_lacks_it_in_which_of_them(
    told: list[tuple[frozenset[str], frozenset[str]]], others: list[frozenset[str]]
) -> None:
    """Sums without a part, as those in which hospitals agree on times, say nothing of it: a study whose roster never
    changed was refused, for a sum that has it, after one that has not, counted as one to which all add.
    """
    sums = [Summed(one, PART, frozenset(("held-out", site) for site in one & lack)) for one, lack in told]  # type: ignore[arg-type, misc]
    parts = {one for one in solved(sums) if one[0] != WHOLE}
    of_all = alone(one for one, _ in told)  # type: ignore[misc]
    having = alone(one - lack for one, lack in told)  # type: ignore[misc]
    if any(one.lacking for one in sums):
        assert having <= {site for _, site in parts}, "where all who lack it add zeros"
    assert {site for part, site in solved(sums) if part == WHOLE} == of_all
    more = solved([*sums, *(Summed(one) for one in others)])  # type: ignore[arg-type]
    assert {one for one in more if one[0] != WHOLE} == parts
