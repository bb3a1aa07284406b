"""What one curious hospital computes of two others: it takes its own part off a sum, and two terms are left.

Each is the attack on the integers that are opened, with what was sent before, which tells, and with what is sent now.
Sums of fractions: `test_fractions`.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from scipy.optimize import brentq

from consilium.algorithms import absence, combat, hazards, preparation, webdisco
from consilium.algorithms.afl import AFL
from consilium.algorithms.base import Here, Local, LocalObjective, Strategy
from consilium.algorithms.feddyn import FedDyn
from consilium.algorithms.fednova import FedNova
from consilium.algorithms.newton import Newton
from consilium.algorithms.scaffold import Scaffold
from consilium.algorithms.webdisco import WebDisco
from consilium.core import survival
from consilium.core.errors import Refused
from consilium.core.study import Study
from consilium.core.tensors import Array
from consilium.core.update import Sum
from consilium.privacy.quantize import Encoding
from consilium.testing.trainers import a_study
from consilium.training.cox import Cox
from consilium.training.linear import Poisson

SIZES = (320, 207, 154)
"""Patients of the curious one, and of the two others."""
Floats, Memory = np.ndarray, dict[str, Array]


def of_others(parts: list[Mapping[str, Array]], sums: Mapping[str, Sum]) -> dict[str, Floats]:
    """What the opened integers leave of the two others, for who knows its own part, by segment."""
    found = {}
    for name, of in sums.items():
        encoding = Encoding(64, of.limit or 1e5, len(parts))
        total = encoding.decode(np.sum([encoding.encode(part[name])[0] for part in parts], axis=0))
        found[name] = total - parts[0][name]
    return found


def test_a_hospital_whose_sums_are_beyond_leaves_nobody_alone_in_the_sum() -> None:
    """A step led too far at one hospital. Were it to send zeros, all others' sums would be those of the third one."""
    study, rng = a_study("count", {"kind": "poisson"}), np.random.default_rng(3)
    here = Here(Newton({}).init(np.zeros(3)) | {"model": np.array([1.0, 20.0, 0.0]), "taken": np.ones(1)})
    limits, sent, beyond = Newton({}).sums(study, 3), [], []
    for n, wide in zip(SIZES, (0.1, 3.0, 0.1), strict=True):
        x, y = rng.normal(size=(n, 2)) * wide, rng.poisson(2.0, n).astype(float)
        at = lambda w, first, x=x, y=y: Poisson().curvature(study, {"intercept": w[:1], "weights": w[1:]}, x, y, first)  # noqa: E731
        sent.append(Newton({}).contribution(here, Local((), float(n), 1, 1.0, at, limits))[0])
        beyond.append(float(sent[-1]["beyond"][0]))
    assert beyond == [0, 1, 0]
    zeros = {name: np.zeros_like(array) for name, array in sent[1].items()}
    numbers = {name: of for name, of in limits.items() if name != "beyond"}
    alone = of_others([sent[0], zeros, sent[2]], numbers)
    assert all(np.allclose(alone[name], sent[2][name], rtol=1e-6) for name in numbers), "the leak"
    left = of_others(sent, numbers)
    assert not any(np.any(np.isclose(left[name], sent[2][name], rtol=1e-3)) for name in numbers)
    assert all(np.all(sent[1][name] != 0) and np.all(np.abs(sent[1][name]) < of.limit) for name, of in numbers.items())


AGE = {"id": "age", "meaning": "age", "type": "number", "unit": "a", "range": [18, 100], "missing": "allowed"}


def prepared() -> Study:
    base = a_study("binary", {"kind": "logistic"}).model_dump(mode="json")
    label = {"id": "y", "meaning": "y", "type": "binary"}
    contract = {"id": "c", "features": [AGE], "label": label}
    return Study.model_validate(base | {"contract": contract, "prepare": {"missing": "impute", "hide_below": 5}})


def denominator(told: Floats) -> int:
    """Of sums of ages and of their squares, in halves of their range: of the simplest fractions so near to them."""
    return math.lcm(*(Fraction(41**power * told[power]).limit_denominator(1000).denominator for power in (1, 2)))


def test_few_missing_values_leave_no_fraction_by_those_that_are_there() -> None:
    """Four of 207 patients have no age, which is hidden. They were taken to be as all others are on average."""
    study, rng = prepared(), np.random.default_rng(5)
    ages = [rng.integers(18, 101, n).astype(float) for n in SIZES]
    ages[1][:4] = np.nan
    sent = [{"prepare": preparation.statistics(study, {"age": one})} for one in ages]
    there = (ages[1][4:] - 59) / 41
    before = np.array([SIZES[1], *(SIZES[1] / there.size * np.sum(there**power) for power in (1, 2))])
    limits = preparation.sums(study)
    leak = of_others([sent[0], {"prepare": before}, sent[2]], limits)["prepare"]
    assert denominator(leak) == there.size, "the leak: how many have an age, and so that four have none"
    left = of_others(sent, limits)["prepare"]
    assert left[0] == SIZES[1] + SIZES[2] and denominator(left) == 1
    assert sent[1]["prepare"] / SIZES[1] == pytest.approx(before / SIZES[1], abs=0.02)


def divided(told: float, of: Callable[[int], float], unsure: float) -> list[tuple[int, int]]:
    """Numbers of patients of the two, of which a number that hangs on nothing else adds up to this."""
    patients = SIZES[1] + SIZES[2]
    ways = [(one, patients - one) for one in range(1, patients // 2 + 1)]
    return [way for way in ways if abs(sum(map(of, way)) - told) < unsure]


def a_table(n: int, seed: int) -> tuple[Floats, Floats]:
    """Columns, and times of patients who all have the event, as of a stay that ends."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, survival.joined(np.ceil(rng.exponential(300 * np.exp(-0.5 * x[:, 0]))), np.ones(n, dtype=bool))


def test_the_likelihood_of_each_hospital_s_own_baseline_does_not_tell_how_many_patients_it_has() -> None:
    """At the first model, of zeros, and where all have the event, it is the logarithm of n!."""
    study, tables = a_study("time-to-event", {"kind": "cox"}), [a_table(n, n) for n in SIZES]
    here, limits = Here(Newton({}).init(np.zeros(2))), Newton({}).sums(study, 2)
    sent, before = [], []
    for x, y in tables:
        at = lambda w, first, x=x, y=y: Cox().curvature(study, {"weights": w}, x, y, first)  # noqa: E731
        sent.append(Newton({}).contribution(here, Local((), float(len(y)), 1, 1.0, at, limits))[0])
        before.append(sent[-1] | {"loss": sent[-1]["loss"] + np.array([math.lgamma(len(y) + 1)])})
    unsure = 1e-6
    whole = float(of_others(before, limits)["loss"][0])
    assert divided(whole, lambda n: math.lgamma(n + 1), unsure) == [SIZES[:0:-1]], "the leak"
    assert abs(float(of_others(sent, limits)["loss"][0])) < unsure
    judged = [hazards.likelihood(np.exp(0.1 * x[:, 0]), y) for x, y in tables]
    alike = [float(chebyshev.chebval(-0.5, hazards._coefficients(one))) for one in judged]  # at a slope of 0
    assert np.max(np.abs(alike)) < unsure


def test_steps_of_hospitals_do_not_tell_how_many_patients_each_has() -> None:
    """Steps by patients grow as their squares do. Steps alone leave half of all ways: they tell of last batches."""
    study = a_study("binary", {"kind": "logistic"}, batch_size=16, epochs=2)
    limits = FedNova({}).sums(study, 1)

    def steps(n: int) -> int:
        return 2 * -(-n // 16)

    here = Here(FedNova({}).init(np.zeros(1)))
    sent = [FedNova({}).contribution(here, Local((np.zeros(1),), float(n), steps(n), 0.1))[0] for n in SIZES]
    before = [one | {"steps": n * one["steps"]} for n, one in zip(SIZES, sent, strict=True)]
    wide = {**limits, "steps": Sum(study.privacy.most_patients * (limits["steps"].limit or 0), each=False)}
    squares = float(of_others(before, wide)["steps"][0])
    assert divided(squares, lambda n: n * steps(n), 0.5) == [SIZES[:0:-1]], "the leak"
    left = of_others(sent, limits)
    assert len(divided(float(left["steps"][0]), steps, 0.5)) > 80 and left["sites"] == 2


def test_a_mixture_of_two_others_tells_the_loss_of_each_to_who_knows_their_sizes() -> None:
    """What hospitals accept as `hospital-numbers`: two sums of exponentials of two losses."""
    strategy, study, losses = AFL({}), a_study("binary", {"kind": "logistic"}), (1.1, 0.62, 0.97)
    limits, state, kept = strategy.sums(study, 1), strategy.init(np.zeros(1)), [Memory() for _ in SIZES]
    for _ in range(2):
        sent = []
        for at, (n, loss) in enumerate(zip(SIZES, losses, strict=True)):
            here = Here(state, kept[at], loss=lambda of, loss=loss: loss)
            made, kept[at] = strategy.contribution(here, Local((np.zeros(1),), float(n), 1, 0.1))
            sent.append(made)
        before, total = state, {name: np.sum([one[name] for one in sent], axis=0) for name in limits}
        state = strategy.apply_chunk(state, total, float(sum(SIZES)))
    counts, loss = (float(of_others(sent, limits)[name][0]) for name in ("counts", "loss"))

    def other(one: float) -> float:
        """The loss of the second of both, as a part of the largest, if that of the first is `one`."""
        weight = (counts - SIZES[1] * math.exp(one - float(before["loss"][0]))) / SIZES[2]
        return math.log(weight) + float(before["loss"][0])

    def off(one: float) -> float:
        weights = (math.exp(part - float(before["loss"][0])) for part in (one, other(one)))
        return sum(n * w * part for n, w, part in zip(SIZES[1:], weights, (one, other(one)), strict=True)) - loss

    ends = np.linspace(0.01, 0.5, 500)
    signs = np.sign([off(end) for end in ends])
    found = [4 * brentq(off, ends[at], ends[at + 1]) for at in np.flatnonzero(signs[:-1] != signs[1:])]
    assert len(found) <= 2 and min(abs(one - losses[1]) for one in found) < 1e-5, "one of two, which exchange hospitals"


def test_squares_about_its_own_means_tell_how_many_patients_and_women_each_of_two_others_has() -> None:
    """What hospitals accept as `hospital-numbers`. Of k women of n patients they are k (n - k) / n."""
    women, least = (150, 88, 91), combat.ROOM / Encoding(64, 1e5, 3).scale
    parts = [{"within": np.array([k * (n - k) / n / combat.ROOM])} for n, k in zip(SIZES, women, strict=True)]
    told = float(of_others(parts, {"within": Sum(1e5, each=False)})["within"][0]) * combat.ROOM
    patients, all_women = sum(SIZES[1:]), sum(women[1:])  # counts, which are told beside
    n, k = np.meshgrid(np.arange(1, patients), np.arange(all_women + 1), indexing="ij")
    ways = k * (n - k) / n + (all_women - k) * (patients - n - all_women + k) / (patients - n)
    fits = (np.abs(ways - told) < 2 * least) & (k <= n) & (all_women - k <= patients - n)
    assert {(int(one), int(other)) for one, other in zip(n[fits], k[fits], strict=True)} == {
        (SIZES[1], women[1]), (SIZES[2], women[2])
    }  # fmt: skip


LARGE = (900, 40, 41)


def in_groups(tables: list[tuple[Floats, Floats]]) -> tuple[WebDisco, Array, list[Mapping[str, Array]]]:
    """A common baseline in groups of times: the groups' starts, and what each hospital adds."""
    made, study = WebDisco({"every": 30, "until": 1500, "least": 5}), a_study("time-to-event", {"kind": "cox"})
    state, weight = made.init(np.zeros(2)), float(sum(len(y) for _, y in tables))
    for _ in range(2):
        sent = []
        for x, y in tables:
            local = Local((), float(len(y)), 1, 0.1, sums=made.sums(study, 2), timed=Cox().timed(study, x, y))
            sent.append(made.contribution(Here(state), local)[0])
        before, total = state, {name: np.sum([one[name] for one in sent], axis=0) for name in made.sums(study, 2)}
        state = made.apply_chunk(state, total, weight)
    return made, before["starts"], sent


def test_a_group_of_times_in_which_one_hospital_has_enough_shows_it_no_single_patient_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes its own patients off: where it alone made a group large enough, the columns of a single one are left."""
    study = a_study("time-to-event", {"kind": "cox"})
    columns = np.concatenate([a_table(n, n)[0] for n in LARGE[1:]])
    for fewest, shown in ((1, True), (2, False)):
        monkeypatch.setattr(webdisco, "HOSPITALS", fewest)
        made, _, sent = in_groups([a_table(n, n) for n in LARGE])
        left = of_others(sent, made.sums(study, 2))
        events, rows = np.round(left["events"]), left["leaving"].reshape(len(left["events"]), -1)
        single = [row[1:3] / row[0] for row in rows[events == 1]]
        assert bool(single) is shown and all(np.min(np.abs(columns - one).sum(axis=1)) < 1e-6 for one in single)
        assert shown or np.all((events == 0) | (events >= 5))


def test_of_a_common_baseline_events_are_of_two_hospitals_where_the_third_has_none() -> None:
    """The curious one reads, by group of times, how many of the other's patients had the event, and their columns in
    sum; five or more of each group, for both of them make it. So nobody trains there; in the first round all do.
    """
    rng, tables = np.random.default_rng(4), list[tuple[Floats, Floats]]()
    for n, chance in zip(SIZES, (0.7, 0.0, 0.7), strict=True):
        x, y = a_table(n, n)
        tables.append((x, survival.joined(survival.times(y), rng.random(n) < chance)))
    made, _, sent = in_groups(tables)
    left = of_others(sent, made.sums(a_study("time-to-event", {"kind": "cox"}), 2))
    for name in ("update", "events", "tied"):
        np.testing.assert_allclose(left[name], sent[2][name], atol=1e-4)
    groups = np.round(left["events"][left["events"] > 0.5])
    assert groups.sum() == survival.events(tables[2][1]).sum() and len(groups) > 1 and np.all(groups >= 5)
    assert not np.allclose(left["leaving"], sent[2]["leaving"], rtol=1e-2), "who was observed is of both"
    study = a_study("time-to-event", {"kind": "cox"})
    study = study.model_copy(update={"strategy": study.strategy.model_copy(update={"name": "webdisco"})})
    said = [absence.of(study, one) for one in sent]
    assert said == [(), (absence.EVENTS,), ()]
    with pytest.raises(Refused) as caught:
        absence.trains(study, "TRAIN", absence.withheld(said, 3, 3))
    assert caught.value.reason == "nothing"
    absence.trains(study, "TRAIN", absence.withheld([*said, ()], 4, 3))
    absence.trains(study, "EVALUATE", absence.withheld(said, 3, 3))
    absence.trains(a_study("time-to-event", {"kind": "cox"}), "TRAIN", absence.withheld(said, 3, 3))
    first = Local((), 90.0, 1, 0.1, sums=made.sums(study, 2), timed=Cox().timed(study, *tables[1]))
    times = made.contribution(Here(made.init(np.zeros(2))), first)[0]
    assert absence.of(study, times) == ()
    every = absence.names(study, "TRAIN")
    assert [absence.parts(study, "TRAIN", one) for one in (*sent, times)] == [*[every] * 3, every - {absence.EVENTS}]


def test_controls_beside_differences_do_not_tell_the_update_of_each_of_two_others() -> None:
    """A control is a difference by its steps. Of sums of both, and of how many steps each made, each update follows."""
    study, rng, steps = a_study("binary", {"kind": "logistic"}, batch_size=16), np.random.default_rng(2), (20, 13, 10)
    strategy, limits, state = Scaffold({}), Scaffold({}).sums(study, 5), Scaffold({}).init(np.zeros(5))
    ends, kept = rng.normal(size=(2, 3, 5)), [Memory() for _ in SIZES]
    for round_ in range(2):
        sent, common = [], state["control"] / max(float(state["patients"][0]), 1)
        for at, n in enumerate(SIZES):
            here = Here(state, kept[at])
            made, kept[at] = strategy.contribution(here, Local((state["model"] + ends[round_, at],), n, steps[at], 0.5))
            sent.append(made)
        whole = [one | {"update": one["update"] * k} for one, k in zip(sent, steps, strict=True)]
        wide = {**limits, "update": Sum(1e6, lasting=True)}
        for told, leaks in ((whole, True), (sent, False)):
            left = of_others(told, wide)
            mean_steps = -0.5 * (left["control"] + (sum(SIZES[1:]) * common if round_ else 0))
            found = (mean_steps - left["update"] / steps[2]) / (1 / steps[1] - 1 / steps[2])
            assert np.allclose(found, SIZES[1] * ends[round_, 1], rtol=1e-3) is leaks
        np.testing.assert_allclose(mean_steps, left["update"], rtol=1e-5, err_msg="both say the same")
        total = {name: np.sum([one[name] for one in sent], axis=0) for name in limits}
        state = strategy.apply_chunk(state, total, float(sum(SIZES)))


@pytest.mark.parametrize("strategy", [Scaffold({}), FedDyn({})])
def test_a_table_that_grows_does_not_tell_its_hospital_s_gradient(strategy: Strategy) -> None:
    """Controls are sums of all but by patients that changed: what changed would be one control, times how many came."""
    state, kept = strategy.init(np.zeros(2)), [Memory() for _ in SIZES]
    for round_, more in enumerate((0, 10)):
        sent = []
        for at, n in enumerate(SIZES):
            patients = float(n + more * (at == 1))
            made, kept[at] = strategy.contribution(
                Here(state, kept[at]), Local((state["model"] + at + round_ + 1.0,), patients, 2, 0.5)
            )
            sent.append(made)
        total = {name: np.sum([one[name] for one in sent], axis=0) for name in sent[0]}
        before, state = state, strategy.apply_chunk(state, total, float(total["weight"][0]))
    assert total["weight"][0] == sum(SIZES) + 10 and total["patients"][0] == 0
    common = before["control"] / before["patients"] if isinstance(strategy, Scaffold) else 0.0
    again = -total["update"] / 0.5 if isinstance(strategy, Scaffold) else -0.1 * total["update"]
    np.testing.assert_allclose(total["control"], again - sum(SIZES) * common, rtol=1e-9, err_msg="what is told twice")


def with_a_single_one() -> list[tuple[Floats, Floats]]:
    """Columns and times of three hospitals, all of whose patients have the event: the third has no patient with a code,
    the curious one five, and the second a single one, the 27th to have it. The other column is a number.
    """
    found = []
    for n, coded in zip(SIZES, (5, 1, 0), strict=True):
        rng, x = np.random.default_rng(n), np.zeros((n, 2))
        x[:coded, 0], x[:, 1] = 1, rng.normal(size=n)
        found.append((x, np.insert(rng.permutation(n - 1) + 1.0, 0, 26.5)))
    return found


def ways_to(left: float, each: Floats, last: float) -> list[tuple[int, int]]:
    """How many patients there are, and as which of them one had the event, by terms of how many are observed (m,)."""
    upto, all_ = np.concatenate([[0.0], np.cumsum(each)]), range(20, sum(SIZES[1:]))
    return [(n, at) for n in all_ for at in range(1, n + 1) if abs(upto[n] - upto[n - at] + last - left) < 1e-6]


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize(
    ("begins", "found"), [((0.0, 0.0), [(SIZES[1], 27)]), ((0.3, 0.2), []), ((0.3, 0.0), [(SIZES[1], 27)])]
)
def test_a_cox_regression_at_a_known_model_tells_of_a_single_patient_where_all_have_the_event(
    begins: tuple[float, float], found: list[tuple[int, int]], steps: bool
) -> None:
    """What is not defended. At zeros hazards are alike, and the gradient of a code that one patient has is a sum of 1
    by how many are observed. These follow, and as which of them that one had the event. At another model it is the same
    where hazards take few values; a number that they hang on ends it. A step of all patients, as `fedavg`
    counts it, is that gradient.
    """
    training = {"batch_size": 0, "epochs": 1, "learning_rate": 0.5}
    study, w = a_study("time-to-event", {"kind": "cox"}, **training), np.array(begins)
    limits, parts = Newton({}).sums(study, w.size), []
    for x, time in with_a_single_one():
        gradient = Cox().curvature(study, {"weights": w}, x, time, False).gradient
        if steps:
            after = Cox().train(study, {"weights": w}, x, time, LocalObjective(), 1)["weights"]
            gradient = len(x) * (after - w) / -0.5
        parts.append({"update": gradient})
    left = float(of_others(parts, {"update": limits["update"]})["update"][0])
    hazard, observed = math.exp(begins[0]), np.arange(1, sum(SIZES[1:]))
    assert ways_to(left, hazard / (observed - 1 + hazard), -1.0) == found


def test_the_likelihood_of_a_model_of_codes_tells_of_a_single_patient_where_all_have_the_event() -> None:
    """The same of held-out patients, and not defended: logarithms are of real numbers where hazards are. By a code
    alone they take two values; a hospital where nobody has it adds nothing, and of one where a single patient has it
    follow how many there are and as which that one had the event.
    """
    parts = [{"likelihood": hazards.likelihood(np.exp(0.7 * x[:, 0]), time)} for x, time in with_a_single_one()]
    of = Sum(1e3 * 100_000, each=False)
    left, at = float(of_others(parts, {"likelihood": of})["likelihood"][-1]), hazards._nodes()[-1]
    observed, effect = np.arange(1, sum(SIZES[1:])), 0.7 * at
    each = np.log(observed) - np.log(observed - 1 + math.exp(effect))
    assert ways_to(left, each, effect) == [(SIZES[1], 27)]
