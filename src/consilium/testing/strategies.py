"""Laws of a Strategy. `Make` is what the entry point names: it takes the study's options."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from consilium.algorithms.base import (
    Curvature,
    Here,
    Leaving,
    Local,
    LocalObjective,
    Single,
    Strategy,
    Validation,
    run,
    weighted,
)
from consilium.core import state as chain
from consilium.core.errors import Invalid, StudyInvalid
from consilium.core.tensors import Array, Tensors
from consilium.testing.trainers import a_study

Make = Callable[[Mapping[str, Any]], Strategy]
SIZE = 64
PARTS = {"first": slice(0, 32), "norm": slice(32, 48), "last": slice(48, SIZE)}
PATIENTS = (32.0, 8.0, 20.0)
"""Of each of three sites."""
STEPS = (4, 1, 3)
STUDY = a_study("binary", {"kind": "logistic"})


def _model(dtype: type = np.float64) -> Array:
    return np.random.default_rng(1).normal(size=SIZE).astype(dtype)


def moved(strategy: Strategy, here: Here, site: int, seed: int, by: Array | None = None) -> Local:
    """What a site's passes gave: each went somewhere, or `by` so much."""
    rng = np.random.default_rng([site, seed])

    def after(start: Array, objective: LocalObjective) -> Array:
        way: Array = 0.1 * rng.normal(size=start.size) if by is None else by
        moved: Array = start + objective.step(way).astype(start.dtype)
        return moved

    def curvature(of: Array, first: bool) -> Curvature:
        """Of a parabola for each patient, whose least lies where the site's pass would have gone."""
        way = after(of, LocalObjective()) - of
        hessian = PATIENTS[site] * np.eye(of.size)
        return Curvature(0.0, -PATIENTS[site] * way.astype(np.float64), hessian[np.tril_indices(of.size)])

    class Together:
        """Patients who all have the event at one time: minus the log partial likelihood is that parabola, but for a
        number, where hazards do not depend on the model."""

        def counted(self, edges: Array) -> tuple[Array, Array]:
            return np.where(np.arange(len(edges)) == 0, PATIENTS[site], 0.0), np.zeros(len(edges))

        def leaving(self, model: Array, edges: Array, centre: Array) -> Leaving:
            way = after(model, LocalObjective()) - model
            square = np.eye(SIZE)[np.tril_indices(SIZE)]
            ended = np.zeros((len(edges), 1 + SIZE + square.size))
            ended[0] = PATIENTS[site] * np.concatenate([[1.0], np.zeros(SIZE), square])
            moved = PATIENTS[site] * way.astype(np.float64)
            return Leaving(self.counted(edges)[0], ended, np.zeros_like(ended), moved, 0.0)

    def half(of: Array, first: bool) -> Curvature:
        whole = curvature(of, first)
        return Curvature(0.0, whole.gradient / 2, whole.hessian / 2)

    ends, rate = run(strategy.passes(here), after), STUDY.training.learning_rate
    divided = Validation(half, PATIENTS[site] / 2, lambda of: 0.1 * float(np.mean(np.square(of))))
    sums = strategy.sums(STUDY, SIZE)
    return Local(ends, PATIENTS[site], STEPS[site], rate, curvature, sums, Together(), divided)


def at(site: int, state: Mapping[str, Array], memory: Mapping[str, Array]) -> Here:
    """Where a round begins at a site. To the first all models are as good, to the others those near zero."""
    return Here(state, memory, PARTS, lambda of: 0.3 + 0.1 * site * (1 + float(np.mean(np.square(of)))))


def summed(
    strategy: Strategy, state: Tensors, memories: list[Tensors], seed: int,
    counted: Sequence[int] = (0, 1, 2), by: Array | None = None,
) -> tuple[Tensors, float]:  # fmt: skip
    """The sums of a round over the sites that are counted, and of their weights; their memories are replaced."""
    total: dict[str, Array] = {}
    for site in counted:
        here = at(site, state, memories[site])
        segments, memories[site] = strategy.contribution(here, moved(strategy, here, site, seed, by))
        for name, segment in segments.items():
            total[name] = total[name] + segment if name in total else segment
    return {name: array for name, array in total.items() if name != "weight"}, float(total["weight"][0])


def _later(strategy: Strategy, dtype: type = np.float64) -> tuple[Tensors, list[Tensors]]:
    """A state of which no array is at its beginning any more, and the sites' memories; one site missed a round."""
    state, memories = strategy.init(_model(dtype)), [dict[str, Array]() for _ in PATIENTS]
    for seed, counted in ((3, (0, 1, 2)), (4, (0, 2))):
        state = strategy.apply_chunk(state, *summed(strategy, state, memories, seed, counted))
    return state, memories


def _same(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    def form(arrays: Mapping[str, Array]) -> dict[str, Any]:
        return {name: (array.shape, array.dtype, array.tobytes()) for name, array in arrays.items()}

    return form(first) == form(second)


def begins_at_the_model(make: Make) -> None:
    """The state at round 0 holds the model as it was given, under the name `model`."""
    assert np.array_equal(make({}).init(_model())["model"], _model())


def keeps_its_layout(make: Make) -> None:
    """Every array of the state is 1-D, of the model's length and type or a single float64; that never changes.

    Of a strategy whose step is computed as a whole (`core.state.Whole`), an array may have another length, in float64.
    """
    for dtype in (np.float64, np.float32):
        first, later = make({}).init(_model(dtype)), _later(make({}), dtype)[0]
        for state in (first, later):
            forms = {(array.shape, array.dtype) for array in state.values()}
            assert ((SIZE,), np.dtype(dtype)) in forms
            if isinstance(make({}), chain.Whole):
                assert {(len(shape), kind) for shape, kind in forms} <= {
                    (1, np.dtype(dtype)),
                    (1, np.dtype(np.float64)),
                }
            else:
                assert forms <= {((SIZE,), np.dtype(dtype)), ((1,), np.dtype(np.float64))}
        assert {name: array.shape for name, array in first.items()} == {n: array.shape for n, array in later.items()}


def is_element_wise(make: Make) -> None:
    """The next state of a chunk is that chunk of the next state, to the bit: the coordinator and each site choose
    their own chunks. Where the step is computed as a whole, there is but one."""
    if isinstance(make({}), chain.Whole):
        return
    state, memories = _later(make({}))
    sums, weight = summed(make({}), state, memories, 5)
    whole = make({}).apply_chunk(state, sums, weight)

    def of(arrays: Tensors, part: slice) -> Tensors:
        return {name: array[part] if array.size == SIZE else array for name, array in arrays.items()}

    for size in (1, 7, SIZE // 2):
        for start in range(0, SIZE, size):
            part = slice(start, start + size)
            assert _same(make({}).apply_chunk(of(state, part), of(sums, part), weight), of(whole, part))


def is_deterministic(make: Make) -> None:
    """The same state, memory and sums give the same bits, whichever object computes them and whatever it did before."""
    used = make({})
    state, memories = _later(used)
    sums, weight = summed(used, state, list(memories), 5)
    again, _ = summed(make({}), state, list(memories), 5)
    assert _same(sums, again)
    assert _same(used.apply_chunk(state, sums, weight), make({}).apply_chunk(state, sums, weight))


def leaves_its_input_alone(make: Make) -> None:
    """Neither the state nor a memory, the sums or a model is written to: they are files, mapped and shared."""
    strategy, model = make({}), _model()
    state, memories = _later(strategy)
    sums, weight = summed(strategy, state, list(memories), 5)
    for array in (*state.values(), *sums.values(), *(one for of in memories for one in of.values()), model):
        array.flags.writeable = False
    strategy.init(model)
    strategy.apply_chunk(state, sums, weight)
    here = at(0, state, memories[0])
    local = moved(strategy, here, 0, 6)
    for one, end in zip(strategy.passes(here), local.after, strict=True):
        one.objective.gradient(end)
        end.flags.writeable = False
    strategy.contribution(here, local)


def contributes_what_it_says(make: Make) -> None:
    """A site adds the segments of `sums` and its weight, each of its length and type, and none beyond its limit while
    no parameter moves further than `privacy.clip`."""
    for dtype in (np.float64, np.float32):
        strategy = make({})
        state, memories = _later(strategy, dtype)
        wanted = strategy.sums(STUDY, SIZE)
        assert "update" in wanted and wanted["update"].each
        for site, memory in enumerate(memories):
            here = at(site, state, memory)
            found, _ = strategy.contribution(here, moved(strategy, here, site, 5))
            assert found["weight"].shape == (1,) and float(found["weight"][0]) == PATIENTS[site]
            assert found.keys() == {*wanted, "weight"}
            for name, of in wanted.items():
                form = ((SIZE,), np.dtype(dtype)) if of.each else ((of.length,), np.dtype(np.float64))
                assert (found[name].shape, found[name].dtype) == form
                limit = STUDY.privacy.clip * PATIENTS[site] if of.limit is None else of.limit
                assert np.all(np.abs(found[name]) <= limit)


def keeps_what_a_file_can_hold(make: Make) -> None:
    """What is kept at a site comes back from a file of 1-D arrays to the bit, and so does the state."""
    strategy = make({})
    state, memories = _later(strategy)
    for arrays in (state, *memories):
        file = io.BytesIO()
        chain.write(arrays, {}, file)
        assert _same(chain.read(file.getvalue()).arrays, arrays)


def forgets_what_was_not_counted(make: Make) -> None:
    """A site whose answer came too late trains next with the memory from before, and a state without it: nothing in
    the object itself remembers the round that was lost."""
    state, memories = _later(make({}))
    used, here = make({}), at(1, state, memories[1])
    used.contribution(here, moved(used, here, 1, 9))  # it is lost
    late, kept = used.contribution(here, moved(used, here, 1, 5))
    fresh, anew = make({}).contribution(here, moved(make({}), here, 1, 5))
    assert _same(late, fresh) and _same(kept, anew)
    alone = make({}).apply_chunk(state, *summed(make({}), state, list(memories), 5, counted=[2]))
    assert all(np.all(np.isfinite(array)) for array in alone.values())


def depends_on_the_mean_alone(make: Make) -> None:
    """Twice the sums at twice the weight is the same model: a federation of twice as many equal sites learns alike."""
    once, twice = (_history(make({}), factor) for factor in (1.0, 2.0))
    assert np.allclose(once, twice, rtol=1e-12, atol=1e-14)


def _history(strategy: Strategy, factor: float) -> Array:
    state, memories = strategy.init(_model()), [dict[str, Array]() for _ in PATIENTS]
    for seed in (3, 4, 5):
        sums, weight = summed(strategy, state, memories, seed)
        more = {name: factor * array for name, array in sums.items()}
        state = strategy.apply_chunk(state, more, factor * weight)
    return state["model"]


def looks_at_single_updates_alike(make: Make) -> None:
    """Where it looks at single updates: the same ones give the same bits, whichever object combines them; one on which
    all agree is the step; fewer than `least`, as where sites drop out, are refused and not combined in a weaker way."""
    used = make({})
    if not isinstance(used, Single):
        return
    rng, least = np.random.default_rng(6), used.least
    updates = list(rng.normal(size=(least + 1, SIZE)))
    first = _folded(used, updates)
    assert first.tobytes() == _folded(used, updates).tobytes() == _folded(make({}), updates).tobytes()
    assert np.allclose(_folded(used, updates[:1] * least), updates[0], rtol=1e-12, atol=1e-14)
    try:
        _folded(used, updates[: least - 1])
    except Invalid:
        return
    raise AssertionError(f"{least - 1} updates were combined, and the strategy says that it needs {least}")


def _folded(strategy: Strategy, updates: Sequence[Array]) -> Array:
    """What stands in the place of the mean of sites' updates, by way of files, as at the coordinator."""
    files, sums = [], io.BytesIO()
    for number, update in enumerate(updates):
        chain.write(weighted(np.zeros(SIZE), update, 5.0 + number), {}, out := io.BytesIO())
        files.append(out.getvalue())
    chain.fold(files, {}, sums, strategy if isinstance(strategy, Single) else None)
    found = chain.read(sums.getvalue()).arrays
    mean: Array = found["update"] / float(found["weight"][0])
    return mean


def follows_the_sites(make: Make) -> None:
    """From the first state on, every parameter moves the way in which all sites moved it, or stays."""
    model, way = _model(), 0.1 * np.random.default_rng(2).normal(size=SIZE)
    strategy = make({})
    state = strategy.init(model)
    memories = [dict[str, Array]() for _ in PATIENTS]
    step = strategy.apply_chunk(state, *summed(strategy, state, memories, 3, by=way))["model"] - model
    assert np.all(step * way >= 0) and np.any(step != 0)


def stays_finite_where_nothing_moves(make: Make) -> None:
    """Sites that do not move give numbers, not a division by zero."""
    strategy = make({})
    state, memories = strategy.init(_model()), [dict[str, Array]() for _ in PATIENTS]
    for seed in range(3):
        state = strategy.apply_chunk(state, *summed(strategy, state, memories, seed, by=np.zeros(SIZE)))
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
    contributes_what_it_says, keeps_what_a_file_can_hold, forgets_what_was_not_counted, depends_on_the_mean_alone,
    looks_at_single_updates_alike, follows_the_sites, stays_finite_where_nothing_moves, refuses_unknown_options,
)  # fmt: skip
