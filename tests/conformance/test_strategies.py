"""Every strategy that is installed keeps every law; and each law finds a strategy that breaks it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from consilium import plugins
from consilium.algorithms.base import Single, fits
from consilium.algorithms.fedavg import FedAvg
from consilium.core.bounded import FEDSGD, WHOLE
from consilium.core.errors import StudyInvalid
from consilium.core.study import BUFFERED, SINGLE, Study
from consilium.core.tensors import Tensors
from consilium.core.timed import COMMON
from consilium.testing import strategies
from consilium.testing.strategies import LAWS
from consilium.testing.trainers import a_study
from consilium.training import private

NEEDS: dict[str, dict[str, Any]] = {
    "fedper": {"layers": ["last"]}, "fedrep": {"layers": ["last"]}, "webdisco": {"every": 1, "until": 2, "least": 1},
    "fedbuff": {"enough": 9}, "newton-path": {"penalties": [{}]},
}  # fmt: skip
"""Options without which a strategy is none; webdisco's say that its first round is no other than those after it,
fedbuff's that nobody is late."""
TIMED = a_study("time-to-event", {"kind": "cox"}, epochs=1).model_dump(mode="json")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", plugins.names("consilium.strategies"))
def test_every_strategy_keeps_every_law(name: str, law: Any) -> None:
    law(lambda options: plugins.strategy(name, {**NEEDS.get(name, {}), **options}))


def test_every_strategy_that_is_built_in_is_told_apart_by_what_it_may_go_with() -> None:
    """What looks at single updates, or counts late ones, is refused by name under a secure sum, and what is no single
    step under noise that is shared: as the study file is read, with the key to correct. All others are possible."""
    built_in = {name for name, point in plugins.names("consilium.strategies").items() if "consilium." in point.value}
    plain = a_study("binary", {"kind": "logistic"}, epochs=1).model_dump(mode="json") | {"quorum": 9}
    for name in sorted(built_in):
        single = isinstance(plugins.strategy(name, NEEDS.get(name, {})), Single)
        assert single is (name in SINGLE)
        look = single or name in BUFFERED
        for privacy, refused in (
            ({"recipe": "plain"}, False),
            ({"recipe": "secure_sum"}, look),
            ({"recipe": "secure_sum", "epsilon": 4.0, "expected_patients": 50}, look or name not in FEDSGD),
            ({"recipe": "secure_sum", "epsilon": 4.0, "unit": "hospital", "delta": 0.1}, look or name not in WHOLE),
        ):
            base = TIMED | {"quorum": 9} if name == COMMON and not refused else plain
            asked = {**base, "strategy": {"name": name, "options": NEEDS.get(name, {})}, "privacy": privacy}
            if not refused:
                Study.model_validate(asked)
                continue
            with pytest.raises(ValidationError, match=rf"`strategy\.name` {name} "):
                Study.model_validate(asked)


def test_noise_at_each_hospital_is_refused_by_name_to_what_would_leave_without_it() -> None:
    """A second training of a round, and a loss."""
    model, refused = {"last": np.zeros(2), "norm": np.zeros(2)}, set()
    privacy = {"recipe": "plain", "epsilon": 4.0, "noise": "at_each_hospital", "expected_patients": 50}
    plain = a_study("binary", {"kind": "logistic"}).model_dump(mode="json") | {"quorum": 9, "privacy": privacy}
    for name, point in plugins.names("consilium.strategies").items():
        if "consilium." in point.value and name not in (COMMON, *BUFFERED):  # these have no epsilon at all
            asked = Study.model_validate({**plain, "strategy": {"name": name, "options": NEEDS.get(name, {})}})
            try:
                private.check(asked, plugins.strategy(name, NEEDS.get(name, {})), model)
            except StudyInvalid as error:
                assert name in str(error)
                refused.add(name)
    assert refused == {"afl", "ditto", "fedrep", "ifca", "newton", "newton-path", "qfedavg"}


class Looking(FedAvg):
    """A plug-in of others that looks at single updates."""

    least = 7

    def shares(self, squares: Any, sites: int) -> Any:
        return np.ones(sites)

    def combine(self, changes: Any, shares: Any) -> Any:
        return changes[0]


def test_a_plug_in_that_looks_at_single_updates_is_refused_by_name_as_it_is_submitted() -> None:
    plain = a_study("binary", {"kind": "logistic"})
    values = plain.model_dump(mode="json") | {"strategy": {"name": "looking"}, "quorum": 7}
    fits(Study.model_validate(values), Looking({}))
    with pytest.raises(StudyInvalid, match=r"strategy\.name: looking looks at single updates"):
        fits(Study.model_validate(values | {"privacy": {"recipe": "secure_sum"}}), Looking({}))
    with pytest.raises(StudyInvalid, match="quorum: looking with these options needs 7"):
        fits(Study.model_validate(values | {"quorum": 6}), Looking({}))


class Turning(Looking):
    """Takes another site's update each time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self.turn = 0

    def combine(self, changes: Any, shares: Any) -> Any:
        self.turn += 1
        return changes[self.turn % len(changes)]


class Shrinking(Looking):
    def combine(self, changes: Any, shares: Any) -> Any:
        return np.mean(changes, axis=0) / 2


class Shifted(FedAvg):
    def init(self, model: Any) -> Tensors:
        return {"model": model + 1}


class Growing(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return {**super().apply_chunk(state, sums, weight), "new": sums["update"]}


class Widening(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return {"model": super().apply_chunk(state, sums, weight)["model"].astype(np.float64)}


class Normalising(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return {"model": state["model"] + sums["update"] / np.linalg.norm(sums["update"])}


class Remembering(FedAvg):
    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self.steps = 0

    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        self.steps += 1
        return {"model": state["model"] + sums["update"] / (weight * self.steps)}


class InPlace(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        state["model"] += sums["update"] / weight
        return state


class Unnamed(FedAvg):
    def contribution(self, here: Any, local: Any) -> Any:
        segments, kept = super().contribution(here, local)
        return {**segments, "more": segments["update"]}, kept


class Boundless(FedAvg):
    def contribution(self, here: Any, local: Any) -> Any:
        segments, kept = super().contribution(here, local)
        return {**segments, "update": 1e3 * segments["update"]}, kept


class Square(FedAvg):
    def contribution(self, here: Any, local: Any) -> Any:
        return super().contribution(here, local)[0], {"square": np.ones((2, 2))}


class Private(FedAvg):
    """Remembers in the object what belongs into the site's memory."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self.last = 0.0

    def contribution(self, here: Any, local: Any) -> Any:
        segments, kept = super().contribution(here, local)
        before, self.last = self.last, float(segments["update"][0])
        return {**segments, "update": segments["update"] - before}, kept


class Summing(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return {"model": state["model"] + sums["update"]}


class Backwards(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return {"model": state["model"] - sums["update"] / weight}


class Still(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        return state


class Relative(FedAvg):
    def apply_chunk(self, state: Tensors, sums: Tensors, weight: float) -> Tensors:
        with np.errstate(invalid="ignore"):
            return {"model": state["model"] + sums["update"] / np.abs(sums["update"])}


class Careless(FedAvg):
    def __init__(self, options: Mapping[str, Any]) -> None:
        pass


class Writing(FedAvg):
    def passes(self, here: Any) -> Any:
        here.model[:] += 0.0
        return super().passes(here)


WRONG: list[tuple[Any, type]] = [
    (strategies.begins_at_the_model, Shifted),
    (strategies.keeps_its_layout, Growing),
    (strategies.keeps_its_layout, Widening),
    (strategies.is_element_wise, Normalising),
    (strategies.is_deterministic, Remembering),
    (strategies.leaves_its_input_alone, InPlace),
    (strategies.leaves_its_input_alone, Writing),
    (strategies.contributes_what_it_says, Unnamed),
    (strategies.contributes_what_it_says, Boundless),
    (strategies.keeps_what_a_file_can_hold, Square),
    (strategies.forgets_what_was_not_counted, Private),
    (strategies.depends_on_the_mean_alone, Summing),
    (strategies.looks_at_single_updates_alike, Turning),
    (strategies.looks_at_single_updates_alike, Shrinking),
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
