"""Every strategy that is installed keeps every law; and each law finds a strategy that breaks it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from consilium import plugins
from consilium.algorithms.base import LocalObjective
from consilium.algorithms.fedavg import FedAvg
from consilium.core.tensors import Tensors
from consilium.testing import strategies
from consilium.testing.strategies import LAWS


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", plugins.names("consilium.strategies"))
def test_every_strategy_keeps_every_law(name: str, law: Any) -> None:
    law(plugins.load("consilium.strategies", name))


class Shifted(FedAvg):
    def init(self, model: Any) -> Tensors:
        return {"model": model + 1}


class Growing(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        return {**super().apply_chunk(state, update, weight), "new": update}


class Widening(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        return {"model": super().apply_chunk(state, update, weight)["model"].astype(np.float64)}


class Normalising(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        return {"model": state["model"] + update / np.linalg.norm(update)}


class Remembering(FedAvg):
    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self.steps = 0

    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        self.steps += 1
        return {"model": state["model"] + update / (weight * self.steps)}


class InPlace(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        state["model"] += update / weight
        return state


class Unweighted(FedAvg):
    def contribution(self, before: Any, after: Any, weight: float) -> Tensors:
        return {"update": after - before, "weight": np.array([weight])}


class Summing(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        return {"model": state["model"] + update}


class Backwards(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        return {"model": state["model"] - update / weight}


class Still(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        return state


class Relative(FedAvg):
    def apply_chunk(self, state: Tensors, update: Any, weight: float) -> Tensors:
        with np.errstate(invalid="ignore"):
            return {"model": state["model"] + update / np.abs(update)}


class Careless(FedAvg):
    def __init__(self, options: Mapping[str, Any]) -> None:
        pass


class Writing(FedAvg):
    def objective(self, model: Any) -> LocalObjective:
        model += 0.0
        return LocalObjective()


WRONG: list[tuple[Any, type]] = [
    (strategies.begins_at_the_model, Shifted),
    (strategies.keeps_its_layout, Growing),
    (strategies.keeps_its_layout, Widening),
    (strategies.is_element_wise, Normalising),
    (strategies.is_deterministic, Remembering),
    (strategies.leaves_its_input_alone, InPlace),
    (strategies.leaves_its_input_alone, Writing),
    (strategies.contributes_what_can_be_summed, Unweighted),
    (strategies.depends_on_the_mean_alone, Summing),
    (strategies.follows_the_sites, Backwards),
    (strategies.follows_the_sites, Still),
    (strategies.stays_finite_where_nothing_moves, Relative),
    (strategies.refuses_unknown_options, Careless),
]


@pytest.mark.parametrize(("law", "wrong"), WRONG, ids=lambda one: one.__name__)
def test_each_law_finds_a_strategy_that_breaks_it(law: Any, wrong: type) -> None:
    with pytest.raises((AssertionError, ValueError)):  # numpy's own refusal to write is a ValueError
        law(wrong)


def test_no_law_goes_without_a_strategy_that_breaks_it() -> None:
    assert {law for law, _ in WRONG} == set(LAWS)
