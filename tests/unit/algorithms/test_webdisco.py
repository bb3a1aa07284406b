"""A common baseline between sites: no cell is small, whoever has what; derivatives are those of the likelihood."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.algorithms.base import Here, Local
from consilium.algorithms.logarithm import logarithm
from consilium.algorithms.webdisco import WebDisco, spans
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors
from consilium.testing.trainers import a_study
from consilium.training.cox import Cox, Risk

STUDY = a_study("time-to-event", {"kind": "cox", "l2": 0.01})


def a_site(seed: int, n: int, until: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 3))
    time = np.minimum(np.floor(rng.exponential(20 * np.exp(-x[:, 0]))), until)
    return x, np.copysign(time, np.where(rng.random(n) < 0.7, 1.0, -1.0))


def sums(made: WebDisco, state: Tensors, sites: list[tuple[Any, Any]], study: Study = STUDY) -> tuple[Tensors, float]:
    total: dict[str, Any] = {}
    for x, y in sites:
        local = Local((state["model"],), len(y), 1, 0.1, None, made.sums(study, 3), Cox().timed(study, x, y))
        for name, segment in made.contribution(Here(state), local)[0].items():
            total[name] = total.get(name, 0) + segment
    return total, float(total.pop("weight")[0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 120), min_size=1, max_size=5), st.integers(1, 40), st.integers(2, 12), st.integers(0, 99)
)
def test_no_cell_is_opened_with_some_but_too_few_patients(sizes: list[int], until: int, least: int, seed: int) -> None:
    sites = [a_site(seed + number, n) for number, n in enumerate(sizes) if n]
    made = WebDisco({"every": 1, "until": until, "least": least})
    state = made.init(np.zeros(3))
    if not sites:
        return
    told, weight = sums(made, state, sites)
    assert not any(told[name].any() for name in ("leaving", "tied", "events", "update")), "counts come first"
    try:
        state = made.apply_chunk(state, told, weight)
    except Invalid:
        events, ended = ([int((np.signbit(y) == censored).sum()) for _, y in sites] for censored in (False, True))
        enough = [sum(count >= least for count in of) > 1 for of in (events, ended)]
        assert not (enough[0] and (enough[1] or not sum(ended))), "hospitals have enough for one group"
        return
    told, _ = sums(made, state, sites)
    count = len(made.groups(state))
    events = told["events"][:count]
    ended = told["leaving"].reshape(made.times, -1)[:count, 0] - events
    for one in sites:  # who takes its own part off sees no small cell of the others
        own, _ = sums(made, state, [one])
        died = events - own["events"][:count]
        gone = ended + own["events"][:count] - own["leaving"].reshape(made.times, -1)[:count, 0]
        assert np.all(died >= least) and np.all((np.abs(gone) < 1e-9) | (gone > least - 1e-9))
    assert events.sum() == sum((~np.signbit(y)).sum() for _, y in sites), "nobody is lost"
    assert not told["leaving"].reshape(made.times, -1)[count:].any()


def test_what_sites_say_of_spans_is_whether_they_have_enough() -> None:
    """Four times: two events at 0, three at 1, none at 2, one at 3; three censored at 1."""
    y = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 3.0, -1.0, -1.0, -1.0])
    made = WebDisco({"every": 1, "until": 3, "least": 3})
    told, _ = sums(made, made.init(np.zeros(3)), [(np.zeros((9, 3)), y)])
    events, censored, some = told["spans"].reshape(3, spans(4)).astype(int).tolist()
    assert events[1:] == [1, 1, 0, 0, 1, 0, 0] and censored[1:] == some[1:] == [1, 1, 0, 0, 1, 0, 0]


def test_the_step_is_that_of_the_pooled_likelihood() -> None:
    """By the stratified model of one hospital that has all patients, whose times are whole."""
    sites = [a_site(1, 40), a_site(2, 70), a_site(3, 25)]
    x, y = (np.concatenate(parts) for parts in zip(*sites))
    for ties in ("efron", "breslow"):
        study = a_study("time-to-event", {"kind": "cox", "l2": 0.01, "options": {"ties": ties}})
        made = WebDisco({"every": 1, "until": 60, "least": 1})
        state = made.init(np.array([0.3, -0.2, 0.1]))
        for _ in range(2):
            before = Cox().curvature(study, {"weights": state["model"]}, x, y, False)
            state = made.apply_chunk(state, *sums(made, state, sites, study))
            np.testing.assert_allclose(state["hessian"], before.hessian, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(state["loss"], before.loss + Risk.of(y, ties).alike, rtol=1e-10)
            square = np.zeros((3, 3))
            square[np.tril_indices(3)] = before.hessian
            square = square + np.tril(square, -1).T
            np.testing.assert_allclose(state["step"], -np.linalg.solve(square, before.gradient), rtol=1e-9)


def test_times_are_rounded_and_the_last_has_all_after_it() -> None:
    made = WebDisco({"every": 10, "until": 30, "least": 1})
    y = np.array([0.0, 4.9, 5.1, 14.9, 25.1, 34.0, 400.0])
    told, _ = sums(made, made.init(np.zeros(3)), [(np.zeros((7, 3)), y)])
    assert told["events"].tolist() == [2, 2, 0, 3] and made.groups(made.init(np.zeros(3))) == (0, 10, 20, 30)


def test_sums_beyond_their_limits_are_told_and_the_step_is_halved() -> None:
    made, site = WebDisco({"every": 1, "until": 60, "least": 1}), a_site(1, 80)
    state = made.init(np.zeros(3))
    for _ in range(2):
        state = made.apply_chunk(state, *sums(made, state, [site]))
    far = state | {"model": np.array([400.0, 0, 0])}
    told, weight = sums(made, far, [site])
    assert told["beyond"] == 1 and told["leaving"].any(), "zeros would leave a sum over the others alone"
    halved = made.apply_chunk(far, told, weight)
    assert np.array_equal(halved["step"], state["step"] / 2) and halved["taken"] == state["taken"]
    nothing = {name: np.zeros_like(array) for name, array in told.items()} | {"events": told["events"] + 1}
    assert np.array_equal(made.apply_chunk(far, nothing, weight)["step"], state["step"] / 2), (
        "no sum of hazards is left"
    )
    with pytest.raises(Invalid, match="beyond what privacy"):
        made.apply_chunk(made.init(np.zeros(3)), told, weight)


def test_what_is_too_large_or_has_no_times_is_refused() -> None:
    with pytest.raises(StudyInvalid, match=r"10001 times with 30 parameters are 9930993 numbers"):
        WebDisco({"every": 1, "until": 10_000}).init(np.zeros(30))
    made = WebDisco({"every": 1, "until": 10})
    with pytest.raises(StudyInvalid, match="webdisco needs a model of times"):
        made.contribution(Here(made.init(np.zeros(3))), Local((np.zeros(3),), 1.0, 1, 0.1))


@given(st.floats(1e-300, 1e300))
def test_our_logarithm_is_the_logarithm(value: float) -> None:
    assert float(logarithm(np.array([value]))[0]) == pytest.approx(float(np.log(value)), rel=4e-16, abs=3e-16)
