"""FedNova: by hand from its paper, FedAvg where steps are equal, and the right problem where they are not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consilium.algorithms.base import Here, Local
from consilium.algorithms.fedavg import FedAvg
from consilium.algorithms.fednova import FedNova
from unit.algorithms.quadratics import Site, distance, federate, unequal


def test_one_round_by_hand() -> None:
    """Equation 9: w + tau_eff * sum of p_i d_i, with p = 1/4, 3/4; d = [2]/1, [3]/6; here tau_eff = (1 + 6) / 2."""
    here, nova = Here({"model": np.zeros(1)}), FedNova({})
    one, _ = nova.contribution(here, Local((np.array([2.0]),), 10.0, 1, 0.1))
    two, _ = nova.contribution(here, Local((np.array([3.0]),), 30.0, 6, 0.1))
    after = nova.apply_chunk(here.state, {name: one[name] + two[name] for name in ("update", "steps", "sites")}, 40.0)
    assert np.isclose(after["model"][0], 3.5 * (0.25 * 2.0 + 0.75 * 0.5))


@given(st.integers(1, 50), st.integers(1, 5))
def test_with_as_many_steps_everywhere_it_is_fedavg(steps: int, rounds: int) -> None:
    def sites() -> list[Site]:
        return [Site(one.curve, one.at, one.patients, steps) for one in unequal()]

    found, wanted = federate(FedNova({}), sites(), rounds, 0.01), federate(FedAvg({}), sites(), rounds, 0.01)
    np.testing.assert_allclose(found["model"], wanted["model"], rtol=1e-12)


def test_unequal_steps_solve_the_problem_that_was_asked() -> None:
    """The paper's theorem 1 and figure 2: FedAvg ends at the optimum of another weighting, FedNova at the joint one."""
    sites = [Site(np.ones(4), one.at, one.patients, steps) for one, steps in zip(unequal(), (1, 5, 20), strict=True)]
    lost = distance(federate(FedAvg({}), sites, 1000, 0.002), sites)
    assert distance(federate(FedNova({}), sites, 1000, 0.002), sites) < lost / 30 < 1
