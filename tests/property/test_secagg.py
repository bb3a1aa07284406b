"""Laws of secure aggregation: the sum is exact whoever drops out; below the threshold nothing opens."""

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Invalid
from consilium.core.ids import digest
from consilium.privacy.inline import Party, run_secagg
from consilium.privacy.secagg import Open, Segment, threshold

PHASES = ("READY", "MASK", "CONFIRM", "UNMASK")
SEGMENTS = (Segment(name="update", length=11, bits=32), Segment(name="weight", length=1, bits=64),
            Segment(name="small", length=3, bits=16))  # fmt: skip


def names(count: int) -> tuple[str, ...]:
    return tuple(f"s{number:03d}" for number in range(count))


def opening(sites: tuple[str, ...], **changes: object) -> Open:
    known = digest(b"x")
    values = {
        "study": "a", "run": "a-1", "plan": known, "roster": bytes(32), "opening": 0, "round": 1, "attempt": 1,
        "kind": "TRAIN", "cohort": sites, "state": known, "segments": SEGMENTS,
    }  # fmt: skip
    return Open.model_validate({**values, **changes})


def pairs(sites: tuple[str, ...]) -> dict[str, dict[str, bytes]]:
    """A key for every two sites, as `pairing` would give."""
    found: dict[str, dict[str, bytes]] = {site: {} for site in sites}
    for at, one in enumerate(sites):
        for other in sites[at + 1 :]:
            found[one][other] = found[other][one] = secrets.token_bytes(32)
    return found


def parties(sites: tuple[str, ...], leaves: dict[str, str], seed: int = 1) -> dict[str, Party]:
    rng, keys = np.random.default_rng(seed), pairs(sites)
    return {
        site: Party(
            keys[site], secrets.token_bytes(32),
            {one.name: rng.integers(0, 2**one.bits, one.length, dtype=f"u{one.bits // 8}") for one in SEGMENTS},
            leaves.get(site, ""),
        )
        for site in sites
    }  # fmt: skip


@st.composite
def dropouts(draw: st.DrawFn) -> tuple[int, dict[int, str]]:
    """A number of sites, and who leaves in which phase; few or many."""
    count = draw(st.integers(3, 14))
    gone = draw(st.lists(st.integers(0, count - 1), unique=True, max_size=count))
    return count, {one: draw(st.sampled_from(PHASES)) for one in gone}


@settings(max_examples=300, deadline=None)
@given(dropouts())
def test_the_sum_is_exact_or_nothing_opens(given_: tuple[int, dict[int, str]]) -> None:
    count, gone = given_
    sites = names(count)
    made = parties(sites, {sites[one]: phase for one, phase in gone.items()})
    stay = count - len(gone)
    if stay < threshold(count):
        with pytest.raises(Invalid):
            run_secagg(opening(sites), made)
        return
    total, survivors = run_secagg(opening(sites), made)
    assert set(survivors) == {site for site in sites if made[site].leaves not in ("READY", "MASK")}
    for one in SEGMENTS:
        wanted = np.zeros(one.length, dtype=f"u{one.bits // 8}")
        for site in survivors:
            wanted += made[site].values[one.name]
        assert np.array_equal(total[one.name], wanted)


@pytest.mark.parametrize("count", [3, 4, 25, 60])
def test_as_many_may_drop_out_as_the_threshold_allows(count: int) -> None:
    sites = names(count)
    gone = {site: PHASES[at % 4] for at, site in enumerate(sites[: count - threshold(count)])}
    made = parties(sites, gone)
    total, survivors = run_secagg(opening(sites), made)
    assert int(total["weight"][0]) == sum(int(made[site].values["weight"][0]) for site in survivors) % 2**64
