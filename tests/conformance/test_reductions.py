"""Every algorithm is FedAvg in its trivial setting: to the bit, or to 1e-9 where it computes in another order.

Sites train on quadratics of four parameters, the last of which is called `head`. The strategies that fit a regression
exactly (`core.study.EXACT`) are none of FedAvg's kind: they are that of the pooled patients, in unit/simulation.

FedPer, FedRep and FedBN refuse a model without any of the layers that stay (unit/algorithms/test_personal.py), so that
a name that is mistyped is no FedAvg. Their trivial settings are layers that no patient moves, and hospitals alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium import plugins
from consilium.algorithms.base import Here, Strategy, used
from consilium.algorithms.fedavg import FedAvg
from consilium.core.study import EXACT
from consilium.core.tensors import Tensors
from unit.algorithms.quadratics import Floats, Site, federate, unequal

PARTS = {"body": slice(0, 3), "head": slice(3, 4)}
HEAD = {"layers": ["head"]}
Read = Callable[[Tensors], Floats]


def still() -> list[Site]:
    """Unequal sites to all of whom the head is indifferent."""
    return [Site(np.append(one.curve[:3], 0.0), one.at, one.patients) for one in unequal()]


def alike() -> list[Site]:
    """Sites that are the same but for how many patients they have."""
    first, *_ = unequal()
    return [Site(first.curve, first.at, patients) for patients in (10.0, 30.0, 20.0, 5.0, 40.0)]


def alone() -> list[Site]:
    """One site, as if there were no others."""
    return unequal()[:1]


def uneven() -> list[Site]:
    """Unequal sites that make other numbers of steps."""
    return [Site(one.curve, one.at, one.patients, steps) for one, steps in zip(unequal(), (2, 9, 5), strict=True)]


@dataclass(frozen=True)
class Trivial:
    """A setting in which a strategy is FedAvg.

    Args:    rtol: 0: to the bit.   most: rounds.   drops: whether it is so with sites that miss rounds, too.
             model: of a state, what is compared; None: the model that each site uses.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sites: Callable[[], list[Site]] = unequal
    rtol: float = 0.0
    most: int = 5
    drops: bool = True
    model: Read | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.sites.__name__}"


def common(state: Tensors) -> Floats:
    return state["model"]


def uncorrected(state: Tensors) -> Floats:
    """FedDyn's model with the mean of the local gradients, by alpha, put back."""
    found: Floats = state["model"] + state["control"] / state["patients"] / ALMOST_FREE["alpha"]
    return found


ALMOST_FREE = {"alpha": 1e-11}
"""Of FedDyn: local models are held by next to nothing; its first step then is FedAvg's and the correction."""
NOT_ADAPTIVE = {"beta1": 0.0, "beta2": 1 - 1e-13, "tau": 1e8, "server_learning_rate": 2e8}
"""Of the adaptive family: no step is large beside `tau`, which is in the second moment and beside it."""
TRIVIAL = (
    Trivial("fedavg"),
    Trivial("fedprox", {"mu": 0.0}),
    Trivial("fedavgm", {"momentum": 0.0, "server_learning_rate": 1.0}),
    *(Trivial(name, NOT_ADAPTIVE, rtol=1e-9) for name in ("fedadagrad", "fedadam", "fedyogi")),
    Trivial("fednova", rtol=1e-9),
    Trivial("qfedavg", {"q": 0.0}),
    Trivial("afl", {"mixture_rate": 0.0}),
    *(Trivial("scaffold", sites=sites, rtol=1e-9, drops=False) for sites in (alone, alike)),
    Trivial("feddyn", ALMOST_FREE, rtol=1e-9, most=1, model=uncorrected),
    *(Trivial(name, HEAD, still) for name in ("fedper", "fedrep", "fedbn")),
    *(Trivial(name, HEAD, alike, rtol=1e-9, drops=False) for name in ("fedper", "fedbn")),
    Trivial("fedrep", {**HEAD, "head_passes": 1}, alike, rtol=1e-9, drops=False),
    Trivial("ditto", {"penalty": 0.7}, model=common),
    Trivial("ditto", {"penalty": 0.0}, alike, rtol=1e-9, drops=False),
    Trivial("ifca", {"clusters": 1}),
    Trivial("fedbuff", {"enough": 3}),
    *(Trivial(name, {}, alike, rtol=1e-9, drops=False) for name in ("median", "trimmed-mean", "geometric-median")),
    *(Trivial("krum", {"liars": 1, "keep": keep}, alike, rtol=1e-9, drops=False) for keep in (1, 2)),
)


def test_every_strategy_that_is_built_in_has_a_trivial_setting() -> None:
    built_in = {name for name, point in plugins.names("consilium.strategies").items() if "consilium." in point.value}
    assert {one.name for one in TRIVIAL} == built_in - {*EXACT}


ELSEWHERE: dict[str, dict[str, Any]] = {
    "fedper": HEAD, "fedrep": HEAD, "fedbn": HEAD, "ifca": {"spread": 1.0},
    "fedbuff": {"enough": 3, "server_learning_rate": 0.5}, "krum": {"liars": 0}, "trimmed-mean": {"liars": 1},
}  # fmt: skip


def models(strategy: Strategy, one: Trivial, rounds: int, counted: list[set[int]]) -> list[Floats]:
    """What is compared, after so many rounds."""
    sites = one.sites()
    come = (lambda number: counted[number]) if one.drops else None
    state = federate(strategy, sites, rounds, counted=come, parts=PARTS)
    if one.model is not None:
        return [one.model(state)]
    return [used(strategy.passes(Here(state, site.memory, PARTS, site.loss))) for site in sites]


@pytest.mark.parametrize("one", TRIVIAL, ids=str)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=1, max_size=5))
def test_in_its_trivial_setting_it_is_fedavg(one: Trivial, counted: list[set[int]]) -> None:
    """Whichever sites' answers arrive in a round."""
    rounds = min(len(counted), one.most)
    found = models(plugins.strategy(one.name, one.options), one, rounds, counted)
    plain = models(FedAvg({}), Trivial("fedavg", {}, one.sites, drops=one.drops, model=common), rounds, counted)
    for mine in found:
        if one.rtol:
            np.testing.assert_allclose(mine, plain[0], rtol=one.rtol)
        else:
            assert mine.tobytes() == plain[0].tobytes()


@pytest.mark.parametrize("name", sorted({one.name for one in TRIVIAL} - {"fedavg"}))
def test_elsewhere_it_is_not(name: str) -> None:
    """On the same curves: so that what is said above is said by the strategy, and not by the sites."""
    found = models(plugins.strategy(name, ELSEWHERE.get(name, {})), Trivial(name, {}, uneven, drops=False), 3, [])
    (plain, *_) = models(FedAvg({}), Trivial("fedavg", {}, uneven, drops=False), 3, [])
    assert all(np.max(np.abs(mine - plain)) > 1e-3 for mine in found)
