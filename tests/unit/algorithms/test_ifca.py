"""IFCA: kinds of hospitals find their own models, and nobody sees who is of which."""

from dataclasses import replace

import numpy as np
import pytest

from consilium.algorithms.base import Here, Local, used
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.ifca import IFCA, drawn
from consilium.core.tensors import Tensors
from unit.algorithms.quadratics import Site, federate, optimum


def kinds() -> tuple[list[Site], list[Site]]:
    """Two kinds of hospitals, whose optima lie about opposite points."""
    rng = np.random.default_rng(6)
    way = rng.normal(size=4)

    def some(centre: np.ndarray) -> list[Site]:
        return [Site(rng.uniform(0.5, 1.5, 4), centre + 0.1 * rng.normal(size=4), of) for of in (10.0, 30.0, 20.0)]

    return some(2 * way), some(-2 * way)


def test_each_kind_of_hospital_finds_its_own_model_where_one_for_all_serves_neither() -> None:
    """The paper's point; nobody says who is of which kind. From many starts, for some would do by luck."""
    one, other = kinds()
    wanted = [federate(FedAvg({}), kind, 200)["model"] for kind in (one, other)]
    for spread in (0.01, 0.1, 1.0):
        strategy = IFCA({"spread": spread})
        state = federate(strategy, [*one, *other], 200)
        for kind, model in zip((one, other), wanted, strict=True):
            for site in kind:
                own = used(strategy.passes(Here(state, loss=site.loss)))
                np.testing.assert_allclose(own, model, atol=1e-9)
    common = federate(FedAvg({}), [*one, *other], 200)["model"]
    assert all(site.loss(common) > 20 * site.loss(optimum(kind)) for kind in (one, other) for site in kind)


def sent(strategy: IFCA, here: Here) -> Tensors:
    return strategy.contribution(here, Local((used(strategy.passes(here)) + 1.0,), 7.0, 1, 0.1))[0]


def test_whoever_took_which_model_sends_the_same_segments_and_zeros_for_the_others() -> None:
    strategy = IFCA({"clusters": 3})
    state = strategy.init(np.zeros(5))
    for taken, name in enumerate(("", "-2", "-3")):
        near = state[f"model{name}"]
        found = sent(strategy, Here(state, loss=lambda of, near=near: float(np.sum(np.abs(of - near)))))
        assert list(found) == ["weight", "update", "update-2", "update-3", "patients", "patients-2", "patients-3"]
        assert float(found["weight"][0]) == 7.0
        for at, other in enumerate(("", "-2", "-3")):
            assert np.allclose(found[f"update{other}"], 7.0 if at == taken else 0.0, atol=1e-12)
            assert float(found[f"patients{other}"][0]) == (7.0 if at == taken else 0.0)


def test_a_model_that_nobody_took_stays_to_the_bit_and_is_taken_again_when_it_serves() -> None:
    strategy, state = IFCA({}), IFCA({}).init(np.zeros(3))
    here = Here(state, loss=lambda of: float(np.sum(np.square(of))))
    total = {name: array for name, array in sent(strategy, here).items() if name != "weight"}
    after = strategy.apply_chunk(state, total, 7.0)
    assert np.array_equal(after["model-2"], state["model-2"]) and np.array_equal(after["model"], np.ones(3))
    again = strategy.passes(replace(here, state=after))
    assert np.array_equal(used(again), state["model-2"])


@pytest.mark.parametrize("length", [1, 100_000])
def test_what_is_drawn_is_spread_evenly_and_other_in_each_stream(length: int) -> None:
    first, second = drawn(length, 0), drawn(length, 1)
    assert np.all(np.abs(first) <= 1) and not np.any(first == second)
    if length > 1:
        assert abs(first.mean()) < 0.01 and abs(first.std() - 3**-0.5) < 0.01
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.02 > abs(np.corrcoef(first[1:], first[:-1])[0, 1])


def test_what_is_drawn_is_known() -> None:
    """The first output of SplitMix64 from seed 0 is E220A8397B1DCDAF."""
    assert drawn(1, 0)[0] == (0xE220A8397B1DCDAF >> 11) * 2.0**-52 - 1


def test_each_model_moves_by_the_mean_of_those_who_took_it() -> None:
    strategy = IFCA({})
    state = strategy.init(np.zeros(3))
    total: Tensors = {}
    for taken, patients, way in (("model", 1.0, 4.0), ("model-2", 10.0, 1.0), ("model-2", 30.0, 5.0)):
        here = Here(state, loss=lambda of, near=state[taken]: float(np.sum(np.abs(of - near))))
        found, _ = strategy.contribution(here, Local((state[taken] + way,), patients, 1, 0.1))
        total = {name: total.get(name, 0.0) + array for name, array in found.items()}
    after = strategy.apply_chunk(state, total, 41.0)
    np.testing.assert_allclose(after["model"], 4.0)
    np.testing.assert_allclose(after["model-2"] - state["model-2"], 4.0)
