"""However a model scales its hazards, the concordance over hospitals is that of the pooled patients."""

from typing import Any

import numpy as np
import pytest

from consilium.algorithms import between, concordance, encode
from consilium.algorithms.between import ALL, USUAL, Spans
from consilium.core import survival
from consilium.training.cox import Cox
from consilium.training.spans import spans
from unit.algorithms.judging import study

STUDY = study("time-to-event", groups=[])
STANDARD = STUDY.model_validate({**STUDY.model_dump(), "prepare": {"numbers": "standardise"}})
NOTHING: dict[str, Any] = {}
LEARNED = {"prepare/centre": np.array([60.0, 0.0]), "prepare/spread": np.array([12.0, 1.0])}


def off(weights: np.ndarray, of: Any, learned: Any, used: Spans | None = None, n: int = 2000) -> tuple[float, float]:
    """How far the concordance is from that of the pooled patients, and by how much it says that it may be."""
    rng = np.random.default_rng(7)
    columns = {"age": np.clip(rng.normal(60, 12, n), 18, 100), "sex": rng.integers(0, 2, n).astype(float)}
    x = encode.encode(of.contract, columns, of.prepare, learned)
    model = {"weights": np.array([weights[0], 0.0, weights[1], 0.0])}
    score = Cox().predict(of, model, x)
    true = 0.05 * (columns["age"] - 60) + 0.5 * columns["sex"]
    time, end = rng.exponential(900 * np.exp(-true)), rng.uniform(100, 4000, n)
    where = np.argsort(np.argsort(true + rng.normal(0, 0.7, n))) * 6 // n  # some hospitals have the more ill
    label = survival.joined(np.minimum(time, end), time <= end)
    used = spans(of, Cox(), model, learned) if used is None else used
    parts = [(score[where == at], label[where == at]) for at in range(6)]
    each = [{**concordance.sums(*one), **between.sums(*one, (0.0, 4000.0), ALL, used)} for one in parts]
    total = {name: np.sum([one[name] for one in each], axis=0) for name in each[0]}
    pooled = concordance.stratified(concordance.sums(score, label), n, 0.95).value
    found, within = between.Told.of(total).value, between.within(total)
    assert found is not None and pooled is not None and within is not None
    return abs(found - pooled), within


@pytest.mark.parametrize("times", [0.01, 1.0, 20.0, 100.0])
@pytest.mark.parametrize(("of", "learned"), [(STUDY, NOTHING), (STANDARD, LEARNED)], ids=["ranges", "learned"])
def test_a_model_whose_hazards_are_near_one_another_or_far_apart_has_the_concordance_of_the_pooled_patients(
    times: float, of: Any, learned: Any
) -> None:
    error, bound = off(times * np.array([2.0, 0.5]), of, learned)
    assert error < 1e-3 and bound < 0.1


def test_by_spans_that_know_nothing_of_the_model_it_would_be_far_off() -> None:
    near, far = (off(times * np.array([2.0, 0.5]), STUDY, NOTHING, USUAL) for times in (0.01, 100.0))
    assert near[0] > 1e-3 and near[1] > 0.1 and far[1] > 0.1


def test_spans_are_the_same_at_all_hospitals_and_the_usual_ones_where_a_model_says_the_same_of_everybody() -> None:
    weights = np.array([9.0, 0.0, -3.0, 0.0])
    assert spans(STUDY, Cox(), {"weights": weights}, {}) == spans(STUDY, Cox(), {"weights": weights}, {})
    assert spans(STUDY, Cox(), {"weights": np.zeros(4)}, {}) == USUAL
    assert spans(STANDARD, Cox(), {"weights": np.array([1.0, 0.0, 0.0, 0.0])}, LEARNED) == USUAL, "they fit"
    middle, apart = spans(STANDARD, Cox(), {"weights": np.array([10.0, 0.0, 0.0, 0.0])}, LEARNED)
    assert abs(middle) < 1 and apart == pytest.approx(10.0, rel=0.25)
