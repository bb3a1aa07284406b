"""Whom a study invites and who is not there is said by name, with what it may have been meant for; nobody else is."""

import time
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from consilium.coordinator.invited import LIKED, NEVER, NEXT, WORDS, liked, told

STATES = st.dictionaries(
    st.text("abc", min_size=1, max_size=6), st.sampled_from(["admitted", "pending", "removed"]), max_size=8
)


@given(st.sets(st.text("abc", min_size=1, max_size=6), max_size=8), STATES)
def test_exactly_who_is_invited_and_not_admitted_is_missing(invited: set[str], states: dict[str, str]) -> None:
    found = liked(invited, states)
    assert [{**one, "near": ()} for one in found] == [{**one, "near": ()} for one in told(invited, states)]
    assert [one["site"] for one in found] == sorted(site for site in invited if states.get(site) != "admitted")
    for one in found:
        assert one["why"] == WORDS.get(states.get(one["site"], ""), NEVER) and one["why"] in NEXT
        assert not set(one["near"]) & invited, "what is invited anyway was not meant"
        assert all(states[name] != "removed" for name in one["near"])


def test_a_name_that_is_misspelt_is_told_with_the_one_that_there_is() -> None:
    (one,) = liked(["clevland", "va"], {"cleveland": "admitted", "hungary": "admitted", "va": "admitted"})
    assert (one["site"], one["why"], one["near"]) == ("clevland", NEVER, ["cleveland"])
    assert "`consilium sites token clevland`" in one["next"]


def test_a_plan_that_invites_a_thousand_names_holds_nobody_up() -> None:
    """Every name was compared with every other, in the one transaction that there is at a time: for a minute."""
    random = Random(1)
    many = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=60)) for _ in range(1300)]
    states = dict.fromkeys(many[:300], "admitted") | {"bologna": "admitted"}
    began = time.process_time()
    found = liked(["a-bolonga", *many[300:]], states)
    assert time.process_time() - began < 5 and len(found) == 1001
    assert found[0]["near"] == ["bologna"], "as it is said of the first"
    assert not any(one["near"] for one in found[LIKED:])
    assert all("near" not in one for one in told(many[300:], states)), "whoever only watches has nothing looked up"
