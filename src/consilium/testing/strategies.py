"""Laws of a Strategy. `Make` is what the entry point names: it takes the study's options."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from consilium.algorithms.base import Strategy
from consilium.core.errors import StudyInvalid
from consilium.core.tensors import Array, Tensors

Make = Callable[[Mapping[str, Any]], Strategy]
SIZE, WEIGHT = 64, 32.0


def _model(dtype: type = np.float64) -> Array:
    return np.random.default_rng(1).normal(size=SIZE).astype(dtype)


def _update(dtype: type = np.float64, seed: int = 2) -> Array:
    return (WEIGHT * np.random.default_rng(seed).normal(size=SIZE)).astype(dtype)


def _later(strategy: Strategy, dtype: type = np.float64) -> Tensors:
    """A state of which no array is at its beginning any more."""
    state = strategy.init(_model(dtype))
    for seed in (3, 4):
        state = strategy.apply_chunk(state, _update(dtype, seed), WEIGHT)
    return state


def _same(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(first[name].tobytes() == second[name].tobytes() for name in first)


def begins_at_the_model(make: Make) -> None:
    """The state at round 0 holds the model as it was given, under the name `model`."""
    assert np.array_equal(make({}).init(_model())["model"], _model())


def keeps_its_layout(make: Make) -> None:
    """Every array of the state is 1-D, of the model's length and of its type; names, lengths and types never change."""
    for dtype in (np.float64, np.float32):
        first, later = make({}).init(_model(dtype)), _later(make({}), dtype)
        for state in (first, later):
            assert {(array.shape, array.dtype) for array in state.values()} == {((SIZE,), np.dtype(dtype))}
        assert first.keys() == later.keys()


def is_element_wise(make: Make) -> None:
    """The next state of a chunk is that chunk of the next state, to the bit: the coordinator and each site choose
    their own chunks."""
    state, update = _later(make({})), _update()
    whole = make({}).apply_chunk(state, update, WEIGHT)
    for size in (1, 7, SIZE // 2):
        for start in range(0, SIZE, size):
            part = slice(start, start + size)
            chunk = make({}).apply_chunk({name: array[part] for name, array in state.items()}, update[part], WEIGHT)
            assert _same(chunk, {name: array[part] for name, array in whole.items()})


def is_deterministic(make: Make) -> None:
    """The same state and sums give the same bits, whichever object computes them and whatever it did before."""
    used = make({})
    state = _later(used)
    assert _same(used.apply_chunk(state, _update(), WEIGHT), make({}).apply_chunk(state, _update(), WEIGHT))


def leaves_its_input_alone(make: Make) -> None:
    """Neither the state nor the update nor the model is written to: they are files, mapped and shared."""
    strategy, state, update, model = make({}), _later(make({})), _update(), _model()
    for array in (*state.values(), update, model):
        array.flags.writeable = False
    strategy.init(model)
    strategy.apply_chunk(state, update, WEIGHT)
    strategy.contribution(model, model, WEIGHT)
    strategy.objective(model).gradient(model)


def contributes_what_can_be_summed(make: Make) -> None:
    """`update` is weight times the difference and `weight` stands alone, so that sums over sites are weighted means."""
    before, after = _model(), _model() + _update() / WEIGHT
    found = make({}).contribution(before, after, WEIGHT)
    assert found["weight"].shape == (1,) and float(found["weight"][0]) == WEIGHT
    assert np.allclose(found["update"], WEIGHT * (after - before)) and found["update"].shape == before.shape


def depends_on_the_mean_alone(make: Make) -> None:
    """Twice the update at twice the weight is the same step: a federation of twice as many equal sites learns alike."""
    state, update = _later(make({})), _update()
    once, twice = make({}).apply_chunk(state, update, WEIGHT), make({}).apply_chunk(state, 2 * update, 2 * WEIGHT)
    assert all(np.allclose(once[name], twice[name], rtol=1e-12) for name in once)


def follows_the_sites(make: Make) -> None:
    """From the first state on, every parameter moves the way the sites' mean difference points, or stays."""
    model, update = _model(), _update()
    strategy = make({})
    step = strategy.apply_chunk(strategy.init(model), update, WEIGHT)["model"] - model
    assert np.all(step * update >= 0) and np.any(step != 0)


def stays_finite_where_nothing_moves(make: Make) -> None:
    """An update of zeros gives numbers, not a division by zero."""
    strategy = make({})
    state = strategy.init(_model())
    for _ in range(3):
        state = strategy.apply_chunk(state, np.zeros(SIZE), WEIGHT)
    assert all(np.all(np.isfinite(array)) for array in state.values())


def refuses_unknown_options(make: Make) -> None:
    """An option that it does not know is refused as StudyInvalid, by name."""
    try:
        make({"no_such_option": 1})
    except StudyInvalid as error:
        assert "no_such_option" in str(error), "the message does not name the option"
    else:
        raise AssertionError("an unknown option was accepted")


LAWS: tuple[Callable[[Make], None], ...] = (
    begins_at_the_model, keeps_its_layout, is_element_wise, is_deterministic, leaves_its_input_alone,
    contributes_what_can_be_summed, depends_on_the_mean_alone, follows_the_sites, stays_finite_where_nothing_moves,
    refuses_unknown_options,
)  # fmt: skip
