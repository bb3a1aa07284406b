"""The median over groups: FedAvg of one group, the median of several, and what a spoiled site can do."""

import numpy as np
import pytest

from consilium.algorithms.base import Here, Local
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.grouped import GroupMedian
from consilium.core.apart import divided, named, short
from consilium.core.ids import SiteId
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.testing.trainers import a_study
from unit.algorithms.quadratics import federate, unequal

NINE = [SiteId(f"site-{number}") for number in range(9)]


def summed(updates: dict[SiteId, np.ndarray], patients: float, groups: int) -> Tensors:
    """The opened sums of the groups, and of all."""
    strategy, found = GroupMedian({"groups": groups}), Tensors()
    for at, group in enumerate(divided(updates.keys(), groups), 1):
        for site in sorted(group):
            here = Here(strategy.init(np.zeros(updates[site].size)))
            sent, _ = strategy.contribution(here, Local((updates[site],), patients, 1, 0.1))
            for name in ("update", "patients"):
                found[named(name, at)] = found.get(named(name, at), 0.0) + sent[name]
    return found


def test_one_group_is_fedavg() -> None:
    found, wanted = federate(GroupMedian({"groups": 1}), unequal(), 20), federate(FedAvg({}), unequal(), 20)
    assert np.array_equal(found["model"], wanted["model"])


def test_a_poisoned_site_moves_the_mean_as_far_as_it_likes_and_the_median_over_groups_hardly() -> None:
    """The paper's point. Eight sites agree up to 0.1; the ninth sends anything, and more, and more."""
    rng = np.random.default_rng(1)
    honest = {site: 1 + 0.1 * rng.uniform(-1, 1, 20) for site in NINE}
    state = {"model": np.zeros(20)}
    for far in (10.0, 1e3, 1e6):
        updates = {**honest, NINE[4]: np.full(20, -far)}
        mean = sum(updates.values()) / 9
        after = GroupMedian({"groups": 3}).apply_chunk(state, summed(updates, 10.0, 3), 90.0)["model"]
        assert np.all(np.abs(after - 1) <= 0.1) and np.all(mean < 0), far


def test_each_chunk_of_the_next_state_is_that_chunk() -> None:
    rng = np.random.default_rng(2)
    sums, strategy = summed({site: rng.normal(size=40) for site in NINE}, 7.0, 3), GroupMedian({"groups": 3})
    for dtype in (np.float64, np.float32):
        state = {"model": rng.normal(size=40).astype(dtype)}
        given = {name: array.astype(dtype) if array.size == 40 else array for name, array in sums.items()}
        whole = strategy.apply_chunk(state, given, 63.0)["model"]
        assert whole.dtype == dtype
        for start in range(0, 40, 8):
            part = slice(start, start + 8)
            cut = {name: array[part] if array.size == 40 else array for name, array in given.items()}
            assert np.array_equal(
                strategy.apply_chunk({"model": state["model"][part]}, cut, 63.0)["model"], whole[part]
            )


def test_sites_are_divided_alike_whoever_counts_them_and_in_groups_of_equal_size() -> None:
    groups = divided(NINE, 4)
    assert divided(NINE[::-1], 4) == groups
    assert sorted(map(len, groups)) == [2, 2, 2, 3] and frozenset().union(*groups) == set(NINE)
    assert not short(groups, NINE, 2) and short(groups, NINE, 3) and short(groups, groups[0] | groups[1], 1)
    assert not short((), (), 3)


def test_groups_that_are_too_small_and_other_recipes_are_refused_by_name() -> None:
    base = a_study("binary", {"kind": "logistic"}, epochs=1).model_dump(mode="json")

    def asked(groups: int, quorum: int, privacy: dict[str, object]) -> Study:
        strategy = {"name": "group-median", "options": {"groups": groups}}
        return Study.model_validate({**base, "strategy": strategy, "privacy": privacy, "quorum": quorum})

    asked(3, 9, {"recipe": "secure_sum"})
    for groups, quorum, privacy, why in (
        (3, 8, {"recipe": "secure_sum"}, "`quorum` 8 is less than the 9 hospitals of 3 groups"),
        (3, 9, {"recipe": "secure_sum", "min_sites": 4}, "less than the 12 hospitals"),
        (3, 9, {"recipe": "plain"}, "`strategy.name` group-median takes sums over groups"),
    ):
        with pytest.raises(ValueError, match=why.replace(".", r"\.")):
            asked(groups, quorum, privacy)
    local = {"recipe": "secure_sum", "epsilon": 4.0, "noise": "at_each_hospital", "expected_patients": 50}
    with pytest.raises(ValueError, match=r"`strategy\.name` group-median is not possible under `epsilon`"):
        asked(3, 9, local)
