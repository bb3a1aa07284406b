"""Against any coordinator and as many colluding sites as the threshold tolerates: one sum of a round opens, or none.

And of one model, sums over one set of sites: at every round of these schedules the model is the same.
"""

import random
from collections.abc import Iterable
from itertools import combinations

import pytest

from consilium.privacy.secagg import threshold
from property.adversary import Adversary


def tolerated(count: int) -> int:
    """Sites that may collude: 2t > n + n_C, and an opened sum keeps two honest sites at least."""
    return max(min(2 * threshold(count) - count - 1, threshold(count) - 2), 0)


def differ(rosters: Iterable[frozenset[str]], floor: int = 3) -> bool:
    """Whether some differ, by fewer than the floor."""
    return any(0 < len(one ^ other) < floor for one, other in combinations(set(rosters), 2))


def judge(count: int, colluding: int, seed: int, steps: int) -> int:
    """Run one schedule; how many sums could be opened."""
    made = Adversary(count, colluding, seed)
    made.go(steps)
    t, openable = threshold(count), 0
    if count < 8:  # every set of sites is looked at
        for number, sums in made.sums().items():
            assert len(sums) == 1, f"two sums of round {number} can be computed: seed {seed}"
            assert all(len(some) >= t - colluding for _, some in sums), f"and one of too few: seed {seed}"
    rounds: dict[int, int] = {}
    models: dict[str, list[frozenset[str]]] = {}
    for (number, state, _, survivors), honest in made.openings().items():
        assert len(survivors) >= max(t, 3), "an opened sum has enough sites"
        assert len(survivors - made.bad.keys()) >= t - colluding, "and enough honest ones"
        if len(honest) + colluding >= t:
            openable += 1
            rounds[number] = rounds.get(number, 0) + 1
            models.setdefault(state, []).append(survivors)
    assert all(number == 1 for number in rounds.values()), f"two sums of one round open: seed {seed}"
    for rosters in models.values():
        assert not differ(rosters), f"two sums of one model open, that differ by a few sites: seed {seed}"
        assert len(set(rosters)) == 1, f"and over other sites at all: seed {seed}"
    for site in made.honest.values():
        numbers = [asked.round for asked, *_ in site.sent]
        assert len(set(numbers)) == len(numbers), f"{site.name} opened a round twice: seed {seed}"
        assert not differ(s for _, _, s, _ in site.sent), f"{site.name} opened two sums of one model: seed {seed}"
        for _, _, survivors, answer in site.sent:
            lost = {one for parts in answer.pairs.values() for one in parts}
            assert not lost & survivors, "never both masks of one site"
            assert answer.own.keys() <= survivors
    return openable


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("schedules", "first"), [(300, 0), pytest.param(5000, 10_000, marks=pytest.mark.long)])
def test_no_schedule_opens_two_sums_of_a_round(schedules: int, first: int) -> None:
    opened = again = 0
    for seed in range(first, first + schedules):
        count = random.Random(seed).randint(3, 7)
        sums = judge(count, random.Random(seed).randint(0, tolerated(count)), seed, steps=24)
        opened, again = opened + (sums > 0), again + (sums > 1)
    assert opened > schedules // 20, "the adversary also gets somewhere, or this shows nothing"
    assert again > schedules // 100, "and at one model a second time, over the same sites"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("schedules", "most"), [(12, 14), pytest.param(100, 60, marks=pytest.mark.long)])
def test_nor_with_many_sites(schedules: int, most: int) -> None:
    opened = 0
    for seed in range(schedules):
        count = random.Random(seed).randint(10, most)
        opened += judge(count, random.Random(seed).randint(0, tolerated(count)), seed, steps=32) > 0
    assert opened, "the adversary also gets somewhere, or this shows nothing"
