"""THE law of what hospitals add up under `secure_sum`: every segment says of what it is a sum, and is that.

Who adds a segment to a strategy, to preparation or to what is judged declares it in `algorithms/segments.py`, or the
first of these tests names it. What is declared a sum over patients must be one: patients of one hospital, in two, add
up to the same. No fraction by a number of patients does, no square of one, and no word of a hospital.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from consilium import plugins
from consilium.algorithms import concordance, evaluation, groups, preparation, segments
from consilium.algorithms.base import Here, Local
from consilium.algorithms.segments import Of
from consilium.core import state as chain
from consilium.core import survival
from consilium.core.errors import Invalid
from consilium.core.study import BUFFERED, GROUPED, SINGLE, Study
from consilium.core.tensors import Array, unflatten
from consilium.core.timed import COMMON, COX
from consilium.privacy.layout import Layout
from consilium.training.cox import Cox
from consilium.training.linear import Linear, Logistic, Poisson
from consilium.training.work import divided
from unit.algorithms.judging import LABELS, Patients, study

OPTIONS: dict[str, dict[str, Any]] = {
    "fedper": {"layers": ["weights"]}, "fedrep": {"layers": ["weights"]}, "fedbn": {"layers": ["weights"]},
    "newton": {"l1": 0.1}, "newton-path": {"penalties": [{"l1": 0.1}, {"l2": 0.1}]}, "ifca": {"clusters": 3},
    "webdisco": {"every": 40, "until": 4000, "least": 5},
}  # fmt: skip
FAIR = ("afl", "qfedavg")
SUMMED = sorted(
    name for name, point in plugins.names("consilium.strategies").items()
    if "consilium." in point.value and name not in (*SINGLE, *BUFFERED)
)  # fmt: skip
PREPARES: tuple[Mapping[str, Any], ...] = (
    {}, {"prepare": {"numbers": "standardise", "bins": {}, "hide_below": 1}},
    {"prepare": {"harmonise": {"numbers": ["age"], "keep": ["sex"]}, "hide_below": 1}},
)  # fmt: skip
TRAINERS: dict[str, Any] = {"binary": Logistic, "number": Linear, "count": Poisson, "time-to-event": Cox}


def of(label: str, name: str, **more: Any) -> Study | None:
    """A study of a label by a strategy; None where it cannot be."""
    options = OPTIONS.get(name, {}) | ({"largest_loss": 1e5} if label == "number" and name in FAIR else {})
    values = study(label).model_dump(mode="json", exclude_unset=True)
    values |= {
        "strategy": {"name": name, "options": options},
        "privacy": {"recipe": "secure_sum"},
        **more,
    }
    values |= {"rounds": 3, **({"sites": ["a", "b", "c"]} if name == COMMON else {})}
    try:
        return Study.model_validate(values)
    except ValidationError:
        return None


def every() -> Iterator[Study]:
    """Studies of every strategy, type of label, preparation, and with folds."""
    for name in SUMMED:
        for label in LABELS:
            for more in (*PREPARES, {"evaluation": {"folds": 5}}):
                found = of(label, name, **more)
                if found is not None:
                    yield found


def laid_out(found: Study, kind: str, length: int = 3) -> list[str]:
    """Names of the segments of a round."""
    shapes = {name: (chain.kind(array), array.size) for name, array in evaluation.nothing(found, kind).items()}
    return Layout.of(found, kind, ("F64", length), shapes, 3, plugins.sums_of(found, kind, length)).names


def test_every_segment_of_a_secure_sum_says_of_what_it_is_a_sum() -> None:
    seen, told = set[tuple[str, str]](), set[str]()
    for found in every():
        for kind in ("PREPARE", "TRAIN", "EVALUATE"):
            if kind == "PREPARE" and found.prepare is None:
                continue
            seen.add((found.strategy.name, kind))
            for name in laid_out(found, kind):
                said = segments.kind(found, name)
                assert said is not Of.HOSPITAL or found.of_hospitals, f"{name}: nobody accepts it by name"
                assert said is not Of.GROUP or found.strategy.name in GROUPED, name
                told |= {own := name.rpartition("/")[2], own.rpartition("-")[0]}
    unprepared = {name for name, _ in seen} - {name for name, kind in seen if kind == "PREPARE"}
    assert {name for name, kind in seen if kind != "PREPARE"} == set(SUMMED) and not unprepared
    declared = {name for kinds in (*segments.STRATEGIES.values(), *segments.JUDGED.values()) for name in kinds}
    assert declared <= told, "what is declared leaves somewhere"


def test_a_segment_that_nobody_has_declared_is_named() -> None:
    found = study()
    with pytest.raises(Invalid, match="segment largest-age of fedavg"):
        segments.kind(found, "largest-age")
    with pytest.raises(Invalid, match="segment metrics/groups/median"):
        segments.kind(found, "metrics/groups/median")


class Drawn(Patients):
    """Patients with columns, for training as for judging."""

    @classmethod
    def some(cls, label: str, n: int, seed: int = 1) -> "Drawn":
        rng = np.random.default_rng(seed)
        columns = {"age": rng.integers(18, 101, n).astype(float), "sex": rng.integers(0, 2, n).astype(float)}
        time, there = np.ceil(rng.exponential(900, n)), rng.random(n) < 0.7
        y = {
            "binary": there.astype(float), "number": np.round(rng.normal(140, 20, n)),
            "count": rng.poisson(3.0, n).astype(float),
            "time-to-event": survival.joined(time, there),
        }[label]  # fmt: skip
        score = {"binary": rng.random(n), "number": y + rng.normal(size=n)}.get(label, rng.gamma(2, 1.5, n) + 0.05)
        return cls(score, y, columns)

    @property
    def x(self) -> np.ndarray:
        return np.stack([(self.columns["age"] - 59) / 41, self.columns["sex"]], axis=1)


def trained(found: Study, here: Drawn) -> Mapping[str, Array]:
    """What a hospital adds in a round of training that does not move the model, at one where no sum is zero."""
    trainer, like = TRAINERS[found.contract.label.type](), {"weights": np.array([0.2, -0.1])}
    like |= {} if found.model.kind == COX else {"intercept": np.array([0.1])}
    strategy = plugins.strategy_of(found)
    model = np.concatenate([like[name] for name in sorted(like)])
    state = strategy.init(model) | ({"loss": np.array([0.2])} if found.strategy.name == "qfedavg" else {})
    if found.strategy.name == COMMON:
        state |= {"grouped": np.ones(1), "starts": (np.arange(strategy.times) % 30 == 0).astype(float)}
    x, y, chooses = here.x, here.label, here.columns["age"] % 5 == 0
    local = Local(
        (model,), float(len(y)), 2, 0.1, lambda at, first: trainer.curvature(found, unflatten(at, like), x, y, first),
        strategy.sums(found, model.size), trainer.timed(found, x, y) if found.model.kind == COX else None,
        divided(found, trainer, like, x, y, chooses),
    )  # fmt: skip
    loss = lambda at: trainer.loss(found, unflatten(at, like), x, y)  # noqa: E731
    memory = {"counts": np.array([1.2])} if found.strategy.name == "afl" else {}
    made, _ = strategy.contribution(Here(state, memory, loss=loss), local)
    return made


def judged(found: Study, here: Drawn) -> Mapping[str, Array]:
    members = groups.members(found, here.columns, len(here.label))
    sums = evaluation.sums(found, "EVALUATE", here.score, here.label, members)
    return {f"metrics/{name}": array for name, array in sums.items()}


def prepared(found: Study, here: Drawn) -> Mapping[str, Array]:
    return {} if found.prepare is None else {"prepare": preparation.statistics(found, here.columns)}


ADDS_UP = (Of.PATIENTS, Of.COUNT)


@pytest.mark.parametrize("label", LABELS)
def test_what_is_said_to_be_a_sum_over_patients_adds_up_over_hospitals_and_nothing_else_passes_for_one(
    label: str,
) -> None:
    whole, part = Drawn.some(label, 150), np.arange(150) < 61
    one, other = (Drawn(**vars(whole.of(of))) for of in (part, ~part))
    kinds = set[Of]()
    for name in ("newton", "newton-path", "webdisco", "qfedavg", "scaffold", "fednova", "afl"):
        for number, more in enumerate(PREPARES):
            found = of(label, name, **more)
            if found is None:
                continue
            made = [prepared(found, each) for each in (one, other, whole)]
            if number == 0:
                made = [sums | trained(found, each) for sums, each in zip(made, (one, other, whole), strict=True)]
                if name == "scaffold":  # what is judged depends on no strategy
                    made = [sums | judged(found, each) for sums, each in zip(made, (one, other, whole), strict=True)]
            for segment in made[0]:
                a, b, both = (each[segment] for each in made)
                said = segments.kind(found, segment)
                kinds.add(said)
                adds = bool(np.allclose(a + b, both, rtol=1e-9, atol=1e-8))
                if said in ADDS_UP:
                    assert adds, f"{segment} of {name} is no {said}"
                elif said in (Of.PAIRS, Of.HOSPITAL):
                    assert not adds, f"{segment} of {name} is a sum over patients: say so"
                if said is Of.COUNT:
                    assert np.array_equal(both, np.round(both)), segment
                if said is Of.PAIRS:
                    assert np.array_equal(both * concordance.PARTS, np.round(both * concordance.PARTS)), segment
    assert kinds >= {Of.PATIENTS, Of.COUNT, Of.UPDATE, Of.STEPS, Of.WORD, Of.HOSPITAL}
