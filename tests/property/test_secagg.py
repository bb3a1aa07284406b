"""Laws of secure aggregation: the sum is exact whoever drops out; below the threshold nothing opens."""

import secrets

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from consilium.core.errors import Invalid
from consilium.core.ids import digest
from consilium.privacy import pairing
from consilium.privacy.inline import Party, Vectors, run_secagg
from consilium.privacy.secagg import Open, Segment, threshold
from property.rosters import paired

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


def values(rng: np.random.Generator) -> Vectors:
    return {one.name: rng.integers(0, 2**one.bits, one.length, dtype=f"u{one.bits // 8}") for one in SEGMENTS}


def parties(sites: tuple[str, ...], leaves: dict[str, str], seed: int = 1) -> dict[str, Party]:
    rng, keys = np.random.default_rng(seed), pairs(sites)
    return {site: Party(keys[site], secrets.token_bytes(32), values(rng), leaves.get(site, "")) for site in sites}


@st.composite
def dropouts(draw: st.DrawFn, least: int, most: int) -> tuple[int, dict[int, str]]:
    """A number of sites, and who leaves in which phase: nobody, as many as may, one too many, or everybody."""
    count = draw(st.integers(least, most))
    may = count - threshold(count)
    lost = draw(st.one_of(st.integers(0, may), st.just(may), st.just(may + 1), st.integers(0, count)))
    gone = draw(st.lists(st.integers(0, count - 1), unique=True, min_size=lost, max_size=lost))
    return count, {one: draw(st.sampled_from(PHASES)) for one in gone}


def judge(count: int, gone: dict[int, str]) -> None:
    """The sum of every segment is that of the survivors' integers, to the last bit; or nothing opens."""
    sites = names(count)
    made = parties(sites, {sites[one]: phase for one, phase in gone.items()})
    if count - len(gone) < threshold(count):
        with pytest.raises(Invalid):
            run_secagg(opening(sites), made)
        return
    total, survivors = run_secagg(opening(sites), made)
    expect_sum(total, made, survivors)


def expect_sum(total: Vectors, made: dict[str, Party], survivors: tuple[str, ...]) -> None:
    assert set(survivors) == {site for site, one in made.items() if one.leaves not in ("READY", "MASK")}
    assert total.keys() == {one.name for one in SEGMENTS}
    for one in SEGMENTS:
        wanted = [sum(int(made[site].values[one.name][at]) for site in survivors) for at in range(one.length)]
        assert total[one.name].tolist() == [value % 2**one.bits for value in wanted]


@settings(max_examples=100, deadline=None)
@given(dropouts(3, 14))
def test_the_sum_is_exact_or_nothing_opens(given_: tuple[int, dict[int, str]]) -> None:
    judge(*given_)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=60, deadline=None, phases=(Phase.generate,))
@given(dropouts(15, 60))
def test_nor_otherwise_with_up_to_sixty_sites(given_: tuple[int, dict[int, str]]) -> None:
    """Not shrunk: a case of sixty sites is seconds, and a smaller one would have been found above."""
    judge(*given_)


@pytest.mark.parametrize("count", [3, 4, 25, pytest.param(60, marks=pytest.mark.long)])
def test_as_many_may_drop_out_as_the_threshold_allows(count: int) -> None:
    judge(count, {at: PHASES[at % 4] for at in range(count - threshold(count))})


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_sites_agree_on_keys_and_twenty_drop_out() -> None:
    """By every message of both protocols, in one process; 20 leave, five in each phase. Minutes, and 2 GB."""
    (roster, chains), rng = paired(200), np.random.default_rng(200)
    gone = {site: PHASES[at % 4] for at, site in enumerate(roster.sites[5:185:9])}
    made = {
        site: Party(
            {other: pairing.ratchet(chain, 0)[1] for other, chain in chains[site].items()},
            secrets.token_bytes(32),
            values(rng),
            gone.get(site, ""),
        )
        for site in roster.sites
    }
    total, survivors = run_secagg(opening(roster.sites, roster=roster.digest), made)
    assert len(gone) == 20 and len(survivors) == 190
    expect_sum(total, made, survivors)
