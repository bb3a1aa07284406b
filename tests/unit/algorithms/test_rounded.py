"""What may leave of one hospital: rounded, no small cell in it; and what is told beside a sum, attacked."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consilium.algorithms import discrimination, metrics, rounded
from consilium.algorithms.decisions import Counts
from consilium.core.ids import digest
from consilium.privacy.pairing import Keys, Roster
from consilium.wire.messages import Figures


def scores(seed: int, positives: int, negatives: int, apart: float = 1.2) -> dict[str, Any]:
    drawn = np.random.default_rng(seed)
    values = np.concatenate([drawn.normal(apart, 1, positives), drawn.normal(0, 1, negatives)])
    label = np.repeat([1.0, 0.0], [positives, negatives])
    return dict(metrics.sums("binary", 1 / (1 + np.exp(apart / 2 - values)), label))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 99), st.floats(0.1, 0.9))
def test_no_small_class_and_no_small_cell_is_in_what_is_told(m: int, n: int, seed: int, apart: float) -> None:
    sums = scores(seed, m, n, apart)
    classes = rounded.classes(sums)
    assert (classes is None) == (min(m, n) < 10)
    if classes is None:
        return
    assert all(told % 10 == 0 and 0 <= real - told < 10 and told >= 10 for told, real in zip(classes, (m, n)))
    exact = discrimination.auroc(sums["positives"], sums["negatives"], 0.95).value
    assert exact is not None and abs(rounded.auroc(sums) - 100 * exact) <= 0.5 + 1e-9
    (one,) = rounded.estimates(rounded.auroc(sums), *classes, 0.95).values()
    assert one.n == sum(classes) and 0 <= one.low <= one.value <= one.high <= 1  # type: ignore[operator]


def test_intervals_hold_what_is_true_as_often_as_they_say() -> None:
    """Of a hundred and twenty patients a hospital; binormal scores, whose AUROC is known."""
    from statistics import NormalDist

    true, held = NormalDist().cdf(1.2 / 2**0.5), 0
    for seed in range(400):
        sums = scores(seed, 55, 65)
        classes = rounded.classes(sums)
        assert classes is not None
        one = rounded.estimates(rounded.auroc(sums), *classes, 0.95)["auroc"]
        held += one.low <= true <= one.high  # type: ignore[operator]
    assert held >= 0.94 * 400


SAID: dict[str, Any] = {
    "site": "east", "study": "sums", "run": "sums-1", "plan": digest(b"plan"), "state": digest(b"state"),
    "word": "told", "positives": 40, "negatives": 60, "common": {"auroc": 81},
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"positives": 41}, {"negatives": 9}, {"positives": 0}, {"common": {"auroc": 81.25}},
        {"common": {"auroc": 101}}, {"own": {"auroc": 80, "accuracy": 70}}, {"common": {"auroc": 81, "accuracy": None}},
        {"common": None}, {"negatives": None},
        {"word": "too few"}, {"word": "withheld"}, {"word": "held"}, {"more": 1},
    ],
)  # fmt: skip
def test_a_message_with_a_number_that_is_not_rounded_or_beside_a_word_is_none(change: dict[str, Any]) -> None:
    assert Figures.model_validate(SAID).word == "told"
    with pytest.raises(ValidationError):
        Figures.model_validate({**SAID, **change})


def test_the_sum_less_what_others_tell_is_what_a_silent_hospital_is_worth() -> None:
    """The attack, with the defence off: of four hospitals three tell their accuracy. The sum over all is known exactly.

    What is left of it is the fourth: one that tells nothing, or one that leaves it out for its small cells, which are
    then known, too. So nobody tells where one is silent, and an accuracy is told by nobody.
    """
    all_but, small = {"a": (400, 600, 2.0), "b": (400, 600, 2.0), "c": (400, 600, 2.0)}, (30, 170, 5.0)
    for left_out in ((400, 600, 0.2), small):
        parts = {name: scores(seed, *one) for seed, (name, one) in enumerate({**all_but, "d": left_out}.items())}
        at = {name: Counts.at(sums, 0.5) for name, sums in parts.items()}
        right = {name: one.hits + one.rejections for name, one in at.items()}
        told = {name: round(right[name] / 1000, 2) for name in "abc"}
        left = sum(right.values()) - sum(1000 * one for one in told.values())
        patients = sum(left_out[:2])
        assert abs(left - right["d"]) < 15 and abs(left / patients - right["d"] / patients) < 0.08, "the leak"
    cells = at["d"]
    assert 0 < cells.alarms < 10, "the second one leaves its accuracy out"
    with pytest.raises(ValidationError, match="accuracy"):
        Figures.model_validate({**SAID, "common": {"auroc": 81, "accuracy": 74}})
    assert [_roster(silent).all_declare(tuple("abcd")) for silent in range(5)] == [True, False, False, False, False]


def _roster(silent: int) -> Roster:
    names = "abcd"
    return Roster(tuple(
        Keys(study="s-1", epoch=1, site=name, identity=name, x25519=bytes(32), mlkem768=bytes(1184),
             nonce_hash=bytes(32), declares=at >= silent)
        for at, name in enumerate(names)
    ))  # type: ignore[arg-type]  # fmt: skip


def test_no_interval_is_of_no_width() -> None:
    for auroc in (0, 50, 100):
        one = rounded.estimates(auroc, 10, 10, 0.95)["auroc"]
        assert one.low is not None and one.high is not None and one.high - one.low > 0.15
