"""SCAFFOLD and FedDyn: by hand from their papers, and the joint optimum of unequal sites where FedAvg does not end."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.algorithms.base import Here, Local, Strategy
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.feddyn import FedDyn
from consilium.algorithms.scaffold import Scaffold
from consilium.core.tensors import Tensors
from unit.algorithms.quadratics import Site, distance, federate, optimum, unequal

EVERY: dict[str, Callable[[], Strategy]] = {"scaffold": lambda: Scaffold({}), "feddyn": lambda: FedDyn({"alpha": 0.5})}


def ended(model: float, patients: float) -> Local:
    return Local((np.array([model]),), patients, 2, 0.25)


def played(strategy: Strategy, state: Tensors, memories: list[Tensors], models: list[float]) -> Tensors:
    """A round of sites of 10 and 30 patients that ended at these models."""
    total: dict[str, Any] = {}
    for site, (model, patients) in enumerate(zip(models, (10.0, 30.0), strict=True)):
        found, memories[site] = strategy.contribution(Here(state, memories[site]), ended(model, patients))
        total = {name: total.get(name, 0.0) + array for name, array in found.items()}
    return strategy.apply_chunk(state, total, 40.0)


def test_scaffold_by_hand() -> None:
    """K eta = 0.5. Round 1 from 0: y = 1, 3: c_i = (0 - y) / 0.5 = -2, -6; c = (10 * -2 + 30 * -6) / 40 = -5; x = 2.5.

    Round 2: y = 2, 4: c_i+ = c_i - c + (2.5 - y) / 0.5 = -2 + 5 + 1 = 4, -6 + 5 - 3 = -4; c = -2; x = 3.5.
    """
    strategy = Scaffold({})
    memories: list[Tensors] = [{}, {}]
    state = played(strategy, strategy.init(np.zeros(1)), memories, [1.0, 3.0])
    assert state["model"] == 2.5 and state["control"] / state["patients"] == -5
    corrections = [strategy.passes(Here(state, memory))[0].objective.linear for memory in memories]
    assert corrections == [np.array([-3.0]), np.array([1.0])], "c - c_i"
    state = played(strategy, state, memories, [2.0, 4.0])
    assert state["model"] == 3.5 and state["control"] / state["patients"] == -2
    assert [memory["control"] / memory["patients"] for memory in memories] == [4.0, -4.0]
    half = Scaffold({"server_learning_rate": 0.5})
    assert played(half, half.init(np.zeros(1)), [{}, {}], [1.0, 3.0])["model"] == 1.25, "eta_g of the way to 2.5"


def test_feddyn_by_hand() -> None:
    """alpha = 0.5. Round 1 from 0: theta = 1, 3: g_i = -0.5, -1.5; h = -1.25; x = 2.5 + 1.25 / 0.5 = 5.

    Round 2: theta = 4, 6: g_i = -0.5 + 0.5, -1.5 - 0.5 = 0, -2; h = -1.5; x = 5.5 + 3 = 8.5.
    """
    strategy = FedDyn({"alpha": 0.5})
    memories: list[Tensors] = [{}, {}]
    state = played(strategy, strategy.init(np.zeros(1)), memories, [1.0, 3.0])
    assert state["model"] == 5.0
    (one,) = strategy.passes(Here(state, memories[1]))
    assert one.start == 5.0 and one.objective.gradient(np.array([7.0])) == 1.5 + 0.5 * 2.0
    assert played(strategy, state, memories, [4.0, 6.0])["model"] == 8.5


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=2))
def test_feddyn_less_its_correction_is_fedavg(models: list[float]) -> None:
    strategy, memories = FedDyn({"alpha": 0.3}), [dict[str, Any](), dict[str, Any]()]
    state = played(strategy, strategy.init(np.zeros(1)), memories, models)
    plain = state["model"] + state["control"] / state["patients"] / 0.3
    np.testing.assert_allclose(plain, (10 * models[0] + 30 * models[1]) / 40, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_unequal_sites_reach_their_joint_optimum_where_fedavg_does_not(name: str) -> None:
    """SCAFFOLD's theorem VII and FedDyn's theorem 2, at a fixed learning rate and with ten local steps."""
    sites = [Site(one.curve, one.at, one.patients, steps=10) for one in unequal()]
    assert distance(federate(EVERY[name](), sites, 200), sites) < 1e-6
    elsewhere = federate(FedAvg({}), sites, 200)
    assert distance(elsewhere, sites) > 0.05 * np.linalg.norm(optimum(sites))


def every_other(number: int) -> Collection[int]:
    """The first site comes every other round, the last one late and for good."""
    return {1, *((0,) if number % 2 else ()), *((2,) if number > 40 else ())}


@pytest.mark.parametrize("name", EVERY)
def test_it_does_so_with_sites_that_miss_rounds_and_come_late(name: str) -> None:
    sites = unequal()
    assert distance(federate(EVERY[name](), sites, 300, counted=every_other), sites) < 1e-9


@pytest.mark.parametrize("name", EVERY)
@given(st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=1, max_size=6))
def test_the_state_holds_the_sum_of_what_sites_keep_whoever_is_counted(name: str, counted: list[set[int]]) -> None:
    sites = unequal()
    state = federate(EVERY[name](), sites, len(counted), counted=lambda number: counted[number])
    for what in ("control", "patients"):
        total = np.sum([site.memory[what] for site in sites if site.memory], axis=0)
        np.testing.assert_allclose(state[what], total, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_what_layers_count_is_averaged_and_not_corrected(name: str) -> None:
    """Running means have no gradient: a correction of them would be applied to nothing and add up without end."""
    strategy, parts = EVERY[name](), {"norm.running_mean": slice(0, 1), "weight": slice(1, 2)}
    state, memory = strategy.init(np.zeros(2)), dict[str, Any]()
    for _ in range(3):
        here = Here(state, memory, parts)
        local = Local((here.model + 1.0,), 10.0, 2, 0.25)
        found, memory = strategy.contribution(here, local)
        assert found["control"][0] == 0
        state = strategy.apply_chunk(state, found, 10.0)
    assert state["model"][0] == 3.0 and memory["control"][1] != 0
